"""Pooling over the cosets of a subgroup: from signals on G to signals on G/H."""

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups.finite import Elements, FiniteGroup
from geomeq.groups.homogeneous import coset_space

REDUCTIONS = ("max", "mean", "sum")


class CosetPool(nn.Module):
    r"""Reduces a signal over each left coset, :math:`y(g H) = \max_{h \in H} x(g h)`.

    Left cosets, because the group acts from the left: it permutes them, so the result is a signal on the homogeneous
    space :math:`G/H` (``pool.space``, to be given to the next ``GroupConv`` as ``space_in``), and pooling commutes with
    the group. ``H = G`` gives invariants. (Right cosets :math:`H g` would not do.)

    Args:
        group: A ``FiniteGroup``.
        subgroup: All elements of H, ``group.subgroup(generators)``.
        reduce: ``"max"``, ``"mean"`` or ``"sum"``.

    Raises:
        TypeError: If ``group`` is none.
        ValueError: If the elements are no subgroup or ``reduce`` is unknown.

    Example:
        >>> from geomeq.groups import dihedral
        >>> pool = CosetPool(dihedral(4), [0, 4])
        >>> pool(torch.randn(2, 8, 3)).shape
        torch.Size([2, 4, 3])
    """

    members: Tensor

    def __init__(self, group: FiniteGroup, subgroup: Elements, reduce: str = "max") -> None:
        super().__init__()
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce must be one of {', '.join(REDUCTIONS)}, got {reduce!r}")
        if not isinstance(group, FiniteGroup):
            raise TypeError(f"group must be a FiniteGroup, got {type(group).__name__}; take groups.dihedral(4)")
        self.group, self.reduce = group, reduce
        with torch.device("cpu"):  # where groups live, whatever the default device
            self.space = coset_space(group, subgroup)
        order = torch.argsort(self.space.coset, stable=True)  # type: ignore[attr-defined]
        members = order.view(self.space.size, -1).to(torch.get_default_device())
        self.register_buffer("members", members, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pools ``x`` ``[..., |G|, C]`` to ``[..., |G/H|, C]``."""
        check_shape("x", x, "...", self.group.order, "C", hint="one place for each element of the group")
        by_coset = x.index_select(-2, self.members.view(-1)).unflatten(-2, self.members.shape)
        if self.reduce == "max":
            return by_coset.amax(dim=-2)
        return by_coset.mean(dim=-2) if self.reduce == "mean" else by_coset.sum(dim=-2)

    def extra_repr(self) -> str:
        """Sizes and reduction."""
        return f"{self.group.order} -> {self.space.size}, reduce={self.reduce!r}"

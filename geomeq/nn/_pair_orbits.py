"""Orbits of pairs (place out, place in): the typed edges of a group convolution between two homogeneous spaces."""

from typing import Any

import torch
from torch import Tensor

from geomeq.groups.finite import FiniteGroup
from geomeq.groups.homogeneous import HomogeneousSpace, orbits_of_pairs


class PairOrbits:
    r"""The type of every pair :math:`(b, a) \in Y \times X` under :math:`g (b, a) = (g b, g a)`.

    Where one space is the group itself, types are numbered by an element: :math:`u^{-1} v` for :math:`X = Y = G`,
    :math:`u^{-1} a \in X` for :math:`Y = G`, and :math:`v^{-1} b \in Y` for :math:`X = G`.

    Args:
        group: A ``FiniteGroup``.
        space_in: :math:`X`, a ``HomogeneousSpace``, or ``None`` for the group.
        space_out: :math:`Y`, likewise.

    Raises:
        TypeError: If an argument is no group or space.
        ValueError: If a space belongs to another group.
    """

    def __init__(
        self,
        group: FiniteGroup,
        space_in: HomogeneousSpace | None = None,
        space_out: HomogeneousSpace | None = None,
    ) -> None:
        if not isinstance(group, FiniteGroup):
            raise TypeError(
                f"group must be a FiniteGroup, got {type(group).__name__}; take groups.icosahedral(), for example, or "
                "nn.ChebConv on transforms.GroupGraph for a continuous group"
            )
        self.group, self.space_in, self.space_out = group, space_in, space_out
        self.size = (_size(group, space_in, "space_in"), _size(group, space_out, "space_out"))
        self.regular = space_in is None and space_out is None
        self._types: Tensor | None = None
        if self.regular:
            self.count = group.order
        elif space_in is None or space_out is None:
            self.count = self.size[1] if space_in is None else self.size[0]
        else:
            self.count = int(self.types.max()) + 1

    @property
    def types(self) -> Tensor:
        """``[|Y|, |X|]`` int64, in ``0 .. count - 1``."""
        if self._types is None:
            self._types = self._find_types()
        return self._types

    def _find_types(self) -> Tensor:
        group = self.group
        if self.space_in is None and self.space_out is None:
            return group.cayley[group.inv]
        if self.space_out is None:
            assert self.space_in is not None
            return self.space_in.action[group.inv]
        if self.space_in is None:
            return self.space_out.action[group.inv].T.contiguous()
        return orbits_of_pairs(self.space_out, self.space_in)[0]

    def burnside(self) -> int:
        r"""Dimension of all equivariant maps by Burnside's lemma, :math:`|G|^{-1} \sum_g fix_X(g) fix_Y(g)`."""
        fixed = [self._fixed(space) for space in (self.space_in, self.space_out)]
        return int((fixed[0] * fixed[1]).sum()) // self.group.order

    def _fixed(self, space: HomogeneousSpace | None) -> Tensor:
        """How many places each element leaves where they are, ``[n]``; on the group only e leaves any."""
        if space is not None:
            return space.fixed_points
        fixed = torch.zeros(self.group.order, dtype=torch.long)
        fixed[0] = self.group.order
        return fixed

    def choose(self, support: Any) -> Tensor:
        """The orbits that carry weights, ``[R]`` int64, increasing.

        Raises:
            ValueError: If ``support`` is neither a mask nor a set of orbits.
        """
        if support is None:
            return torch.arange(self.count)
        chosen = torch.as_tensor(support).detach().cpu()
        if chosen.dtype == torch.bool:
            if tuple(chosen.shape) != (self.count,):
                raise ValueError(f"a mask as support must have shape [{self.count}], got {list(chosen.shape)}")
            if not bool(chosen.any()):
                raise ValueError("support must name at least one orbit, got a mask without any")
            return chosen.nonzero().flatten()
        if chosen.dtype.is_floating_point or chosen.dim() != 1 or chosen.numel() == 0:
            raise ValueError(f"support must be a mask [{self.count}] or a list of orbits, got {support!r}")
        chosen = chosen.long().unique()
        if int(chosen[0]) < 0 or int(chosen[-1]) >= self.count:
            raise ValueError(f"support must name orbits 0..{self.count - 1}, got {int(chosen[0])}..{int(chosen[-1])}")
        return chosen

    def row_of_orbit(self, chosen: Tensor) -> Tensor:
        """The row of the weight that each orbit reads, ``[count]``; ``len(chosen)`` where it has none."""
        return torch.full((self.count,), chosen.numel()).index_copy(0, chosen, torch.arange(chosen.numel()))

    def rows(self, chosen: Tensor) -> Tensor:
        """The row of the weight that each pair reads, ``[|Y|, |X|]``; ``len(chosen)`` where it has none."""
        return self.row_of_orbit(chosen)[self.types]

    def edges(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs with a weight as typed edges: ``edge_index [2, E]`` and the row of each, ``[E]``."""
        if self.regular:  # u reaches v = u s over the element s: no table of all pairs is needed
            target = torch.arange(self.count).repeat_interleave(chosen.numel())
            row = torch.arange(chosen.numel()).repeat(self.count)
            return torch.stack([self.group.compose(target, chosen[row]), target]), row
        rows = self.rows(chosen)
        target, source = (rows < chosen.numel()).nonzero(as_tuple=True)
        return torch.stack([source, target]), rows[target, source]

    def num_edges(self, chosen: Tensor) -> int:
        """How many pairs have a weight."""
        if self.regular:
            return self.count * chosen.numel()
        return int((self.rows(chosen) < chosen.numel()).sum())


def _size(group: FiniteGroup, space: HomogeneousSpace | None, name: str) -> int:
    if space is None:
        return group.order
    if not isinstance(space, HomogeneousSpace):
        raise TypeError(f"{name} must be a HomogeneousSpace, got {type(space).__name__}; or None for the group itself")
    if space.group is not group and space.group.fingerprint != group.fingerprint:
        raise ValueError(f"{name} must be a space of the layer's group {group!r}, got one of {space.group!r}")
    return space.size

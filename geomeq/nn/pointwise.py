"""Pointwise non-linearities: which representations they respect, and a clear error for the others."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from e3nn import o3
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups.finite import FiniteGroup
from geomeq.groups.homogeneous import HomogeneousSpace

Representation: TypeAlias = FiniteGroup | HomogeneousSpace | o3.Irreps | str | Tensor


def check_pointwise(representation: Representation, odd: bool = False, strict: bool = True) -> bool:
    """Asks whether a function applied to each component commutes with a representation.

    It does if every matrix is a permutation (signals on a group or a homogeneous space), or, for odd functions, a
    permutation with signs. On any other features, above all on coefficients of irreps, the result looks alive and is
    not equivariant.

    Args:
        representation: What acts on the features: a ``FiniteGroup`` (by its regular representation), a
            ``HomogeneousSpace``, matrices of generators or of all elements ``[k, d, d]``, or e3nn irreps of O(3).
        odd: Whether the function is odd, as tanh is.
        strict: Raise; otherwise warn.

    Returns:
        Whether it does.

    Raises:
        ValueError: If it does not and ``strict``.

    Example:
        >>> from geomeq.groups import dihedral
        >>> check_pointwise(dihedral(4))
        True
        >>> check_pointwise(dihedral(4).real_irreps[-1], strict=False)  # doctest: +SKIP
        False
    """
    fault = _fault(representation, odd)
    if fault is None:
        return True
    message = (
        f"a pointwise non-linearity on irreps: {fault}, so a function of each component does not commute with the "
        "group; apply it to a signal on the group (FourierFeatures.signal(), then back), or use a gate or a norm "
        "non-linearity"
    )
    if strict:
        raise ValueError(message)
    warnings.warn(message, UserWarning, stacklevel=2)
    return False


def _fault(representation: Representation, odd: bool) -> str | None:
    """What is wrong with a representation, or ``None``."""
    if isinstance(representation, FiniteGroup | HomogeneousSpace):
        return None
    if isinstance(representation, o3.Irreps | str):
        bad = [str(ir) for _, ir in o3.Irreps(representation) if ir.l > 0 or (ir.p < 0 and not odd)]
        return f"{bad[0]} is no permutation representation" if bad else None
    if not isinstance(representation, Tensor):
        raise TypeError(
            "representation must be a FiniteGroup, a HomogeneousSpace, matrices [k, d, d] or e3nn Irreps, got "
            f"{type(representation).__name__}"
        )
    check_shape("representation", representation, "k", "d", "d")
    entries = representation.detach().abs() if odd else representation.detach()
    is_one = (entries - 1).abs() < 1e-6
    single = (is_one.sum(-1) == 1) & ((is_one | (entries.abs() < 1e-6)).all(-1))
    if bool(single.all()):
        return None
    number = int((~single.all(dim=-1)).nonzero()[0])
    return f"matrix {number} of the representation is no permutation{' with signs' if odd else ''}"


class Pointwise(nn.Module):
    """A function of each component, checked against what acts on the features.

    Args:
        function: Such as ``torch.relu``.
        representation: As for :func:`check_pointwise`; that of the component axis.
        odd: Whether the function is odd.

    Raises:
        ValueError: If the function does not commute with the representation.

    Example:
        >>> from geomeq.groups import icosahedral
        >>> Pointwise(torch.relu, icosahedral())(torch.randn(2, 60, 4)).shape
        torch.Size([2, 60, 4])
    """

    def __init__(self, function: Callable[[Tensor], Tensor], representation: Representation, odd: bool = False) -> None:
        super().__init__()
        check_pointwise(representation, odd)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function."""
        return self.function(x)


class FourierFeatures:
    r"""Signals on a group by their Fourier coefficients, one matrix per irrep; linear operations only.

    The group multiplies the coefficients of :math:`\rho` by :math:`\rho(g)`. No function of their entries commutes with
    that, and so any torch function given these features raises the error of :func:`check_pointwise`.

    Args:
        group: The group.
        blocks: Coefficients, ``[..., C, d, d]`` for each irrep (``group.fourier`` of ``[..., C, n]``).

    Example:
        >>> from geomeq.groups import dihedral
        >>> features = FourierFeatures.of(dihedral(3), torch.randn(5, 6, 2))
        >>> torch.relu(features)
        Traceback (most recent call last):
        ...
        ValueError: a pointwise non-linearity on irreps: ...
    """

    def __init__(self, group: FiniteGroup, blocks: Sequence[Tensor]) -> None:
        if len(blocks) != len(group.irreps):
            raise ValueError(f"blocks must be one for each of the {len(group.irreps)} irreps, got {len(blocks)}")
        for irrep, block in zip(group.irreps, blocks, strict=True):
            check_shape("each block", block, "...", *irrep.shape[1:], hint="the coefficients of one irrep")
        self.group, self.blocks = group, list(blocks)

    @classmethod
    def of(cls, group: FiniteGroup, x: Tensor) -> "FourierFeatures":
        """The coefficients of signals ``x [..., n, C]``."""
        check_shape("x", x, "...", group.order, "C")
        return cls(group, group.fourier(x.transpose(-1, -2)))

    def signal(self) -> Tensor:
        """The real signals, ``[..., n, C]``: where non-linearities belong."""
        return self.group.inverse_fourier(self.blocks).real.transpose(-1, -2)

    def __add__(self, other: "FourierFeatures") -> "FourierFeatures":
        if not isinstance(other, FourierFeatures) or other.group.fingerprint != self.group.fingerprint:
            raise ValueError(f"only features of the same group add, got {self!r} and {other!r}")
        return FourierFeatures(self.group, [a + b for a, b in zip(self.blocks, other.blocks, strict=True)])

    def __mul__(self, factor: float) -> "FourierFeatures":
        return FourierFeatures(self.group, [block * factor for block in self.blocks])

    __rmul__ = __mul__

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuses: what torch does to tensors, it does to each entry."""
        features = next(a for a in args if isinstance(a, FourierFeatures))
        largest = max(features.group.irreps, key=lambda irrep: irrep.size(1))
        check_pointwise(largest.real if largest.size(1) > 1 else -torch.ones(1, 1, 1))
        raise AssertionError("an irrep of the regular representation passed for a permutation")

    def __repr__(self) -> str:
        sizes = ", ".join(str(list(block.shape)) for block in self.blocks)
        return f"FourierFeatures({self.group!r}, {sizes})"

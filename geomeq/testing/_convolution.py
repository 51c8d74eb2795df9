"""Is a linear map a group convolution? Equivariance is necessary and sufficient, so the matrix itself answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from geomeq._checks import check_finite
from geomeq.groups import FiniteGroup, HomogeneousSpace, burnside_count, orbits_of_pairs, regular_space

#: Default tolerance on relative errors, by the dtype of the map.
TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}
_ROWS = 4096  # basis functions sent through a map at a time

Space = FiniteGroup | HomogeneousSpace


@dataclass(frozen=True)
class ConvolutionCheck:
    """What :func:`is_convolution` found; true in a condition where the map is a convolution.

    Attributes:
        error: Largest relative change of the map under a generator, ``|A P_in(g) - P_out(g) A| / |A|``.
        distance: Relative distance to the nearest convolution, ``|A - conv(kernel)| / |A|``.
        kernel: The nearest convolution: its value on each orbit of pairs, ``[n_orb]`` for a matrix, ``[n_orb, Ci, Co]``
            where there are channels (the layout of ``GroupConv.weight``), ``[..., n_orb]`` for a stack of matrices.
        bias: What the map makes of zero, ``[|Y|, Co]``, for a callable; ``None`` for a matrix.
        types: The orbit of each pair, ``[|Y|, |X|]``.
        dimension: Of the space of all convolutions, per pair of channels: the number of orbits of pairs.
        burnside: The same by counting fixed points.
        tolerance: What errors were compared with.
    """

    error: float
    distance: float
    kernel: Tensor = field(repr=False)
    bias: Tensor | None = field(repr=False)
    types: Tensor = field(repr=False)
    dimension: int
    burnside: int
    tolerance: float

    def __bool__(self) -> bool:
        return self.error <= self.tolerance and self.distance <= self.tolerance

    def __str__(self) -> str:
        verdict = "a convolution" if self else "no convolution"
        return (
            f"{verdict}: moves by {self.error:.1e} under a generator, lies {self.distance:.1e} from the nearest of the "
            f"{self.dimension}-dimensional space of convolutions (tolerance {self.tolerance:.0e})"
        )


def is_convolution(
    linear_map: Tensor | nn.Module | Callable[[Tensor], Tensor],
    space_in: Space,
    space_out: Space | None = None,
    *,
    channels: int | None = None,
    dtype: torch.dtype | None = None,
    tol: float | None = None,
) -> ConvolutionCheck:
    r"""Tells whether a linear map between functions on homogeneous spaces is a group convolution.

    A map commutes with the group exactly if its matrix is constant on the orbits of pairs (Kondor and Trivedi, 2018),

    .. math:: A_{gb,\,ga} = A_{b,a} \iff A_{b,a} = w(\tau(b, a)),

    so the mean over each orbit (the Reynolds projection) is the nearest convolution, and the rest the distance to it.

    Args:
        linear_map: A matrix ``[|Y|, |X|]``, a stack ``[..., |Y|, |X|]``, a matrix with channels ``[|Y|, Co, |X|, Ci]``
            (which goes first where the shape could be both), or a layer or function from ``[B, |X|, Ci]`` to
            ``[B, |Y|, Co]``. A layer may have a bias: that is checked to be constant on orbits.
        space_in: :math:`X`: a ``HomogeneousSpace``, or a ``FiniteGroup`` for the group itself.
        space_out: :math:`Y`; by default :math:`X`.
        channels: Input channels of a callable; by default its ``in_channels``, or 1.
        dtype: Of the input of a callable; by default that of its parameters, or float64 where it has none.
        tol: Largest relative error of a convolution. Defaults to 1e-11 in float64, 1e-5 in float32.

    Returns:
        A :class:`ConvolutionCheck`: errors, the kernel, and the dimension of the space of convolutions.

    Raises:
        ValueError: If shapes do not fit, the spaces belong to different groups, a number is not finite, or the
            callable is not linear.

    Example:
        >>> from geomeq.groups import cyclic
        >>> shift = torch.eye(5, dtype=torch.float64).roll(1, dims=0)
        >>> bool(is_convolution(shift, cyclic(5)))
        True
        >>> print(is_convolution(shift.tril(), cyclic(5)))
        no convolution: moves by 7.1e-01 under a generator, lies 4.5e-01 from ...

    Source: Kondor and Trivedi (2018), https://arxiv.org/abs/1802.03690
    """
    source = _space(space_in, "space_in")
    target = source if space_out is None else _space(space_out, "space_out")
    types, dimension = orbits_of_pairs(target, source)
    bias = None
    if not isinstance(linear_map, Tensor):
        linear_map, bias = _sampled(linear_map, target.size, source.size, channels, dtype)
    maps, layout = _stacked(linear_map.detach(), target.size, source.size)
    check_finite("linear_map", maps)
    allowed = TOLERANCES.get(maps.dtype, 1e-11) if tol is None else tol
    maps, types = maps.double(), types.to(maps.device)
    kernel = _orbit_means(maps, types, dimension)
    distance = _relative(maps - kernel[:, types], maps)
    moves = [_relative(_moved(maps, b, a) - maps, maps) for b, a in zip(target.images, source.images, strict=True)]
    if bias is not None:
        drift = _bias_drift(bias, target)
        moves, distance = [*moves, drift], max(distance, drift)
    count = burnside_count(target, source)
    return ConvolutionCheck(max(moves, default=0.0), distance, layout(kernel), bias, types, dimension, count, allowed)


def _space(space: Any, name: str) -> HomogeneousSpace:
    if isinstance(space, FiniteGroup):
        return regular_space(space)
    if not isinstance(space, HomogeneousSpace):
        raise TypeError(f"{name} must be a HomogeneousSpace or a FiniteGroup, got {type(space).__name__}")
    return space


def _stacked(matrix: Tensor, rows: int, columns: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The map as ``[L, |Y|, |X|]``, and how kernels ``[L, n_orb]`` of it are returned."""
    if matrix.dtype not in TOLERANCES:
        raise TypeError(f"linear_map must be real and floating point, got {matrix.dtype}")
    if matrix.dim() == 4 and (matrix.size(0), matrix.size(2)) == (rows, columns):
        out, into = matrix.size(1), matrix.size(3)
        return matrix.permute(1, 3, 0, 2).flatten(0, 1), lambda k: k.view(out, into, -1).permute(2, 1, 0)
    if matrix.dim() < 2 or tuple(matrix.shape[-2:]) != (rows, columns):
        raise ValueError(
            f"linear_map must have shape [..., {rows}, {columns}] or [{rows}, Co, {columns}, Ci] (points out, points "
            f"in), got {list(matrix.shape)}"
        )
    lead = matrix.shape[:-2]
    return matrix.reshape(-1, rows, columns), lambda k: k.reshape(*lead, -1)


def _sampled(
    linear_map: Any, rows: int, columns: int, channels: int | None, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """The matrix ``[|Y|, Co, |X|, Ci]`` and the bias ``[|Y|, Co]`` of a callable, from what it does to a basis."""
    channels = int(getattr(linear_map, "in_channels", 1)) if channels is None else channels
    parameters = list(linear_map.parameters()) if isinstance(linear_map, nn.Module) else []
    like = next((p for p in parameters if p.is_floating_point()), torch.zeros(0, dtype=torch.float64))
    eye = torch.eye(columns * channels, dtype=dtype or like.dtype, device=like.device)
    basis = eye.view(-1, columns, channels)
    with torch.no_grad():
        bias = _output(linear_map(torch.zeros_like(basis[:1])), 1, rows)[0]
        image = torch.cat([_output(linear_map(part), len(part), rows) for part in basis.split(_ROWS)]) - bias
        _check_linear(linear_map, image, bias, basis)
    return image.view(columns, channels, rows, -1).permute(2, 3, 0, 1), bias


def _output(y: Any, batch: int, rows: int) -> Tensor:
    if not isinstance(y, Tensor) or y.dim() not in (2, 3) or tuple(y.shape[:2]) != (batch, rows):
        got = list(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"linear_map must return a tensor [{batch}, {rows}, Co] for that many inputs, got {got}")
    return y if y.dim() == 3 else y[..., None]


def _check_linear(linear_map: Any, image: Tensor, bias: Tensor, basis: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, len(basis), generator=generator, dtype=torch.float64).to(basis)
    expected = (x.to(image.dtype) @ image.flatten(1)).view(2, *image.shape[1:]) + bias
    got = _output(linear_map((x @ basis.flatten(1)).view(2, *basis.shape[1:])), 2, image.size(1))
    error = float((got - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    if not error < 1e3 * TOLERANCES.get(got.dtype, 1e-5):
        raise ValueError(
            f"linear_map is not linear: on a random function it differs by {error:.1e} from what it does to a basis; "
            "check each linear layer by itself, and put random layers into evaluation mode"
        )


def _orbit_means(maps: Tensor, types: Tensor, number: int) -> Tensor:
    flat = types.flatten()
    sums = maps.new_zeros(len(maps), number).index_add(1, flat, maps.flatten(1))
    return sums / flat.bincount(minlength=number)


def _moved(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``P_out(g)^T A P_in(g)``, whose entry (b, a) is that of (g b, g a)."""
    return maps[:, rows.to(maps.device)][:, :, columns.to(maps.device)]


def _bias_drift(bias: Tensor, target: HomogeneousSpace) -> float:
    """How far a bias is from being constant on orbits: a convolution with functions on a single point."""
    columns = bias.double().T[:, :, None]
    orbits = target.orbits.to(bias.device)[:, None]
    return _relative(columns - _orbit_means(columns, orbits, target.num_orbits)[:, orbits], columns)


def _relative(difference: Tensor, whole: Tensor) -> float:
    return float(difference.norm() / whole.norm().clamp_min(torch.finfo(torch.float64).tiny))

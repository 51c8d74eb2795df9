"""A pointwise function of the signal on the circle whose Fourier coefficients the features are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geomeq.groups import SO2Irreps
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._sampled import ACTS, sampled_act

from ._paths import Constant
from ._so2 import check_features, join, layout, split

#: Samples for max. order M are ``factor * M + 5``, in float32 and in float64 (measured: docs/gauge.md).
_FACTORS = {"silu": (12, 32), "gelu": (14, 32), "tanh": (20, 56), "elu": (8, 8), "relu": (8, 8)}
_UNKNOWN = (20, 56)
#: Behind a batch norm a few nodes of real surfaces have features ten times the usual size: so many times more samples.
_OUTLIERS = 2

Act = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Group:
    """Channels whose fields have the same orders: ``count`` of them, blocks as (first column, components, order)."""

    count: int
    blocks: tuple[tuple[int, int, int], ...]

    @property
    def orders(self) -> tuple[int, ...]:
        return tuple(order for _, _, order in self.blocks)

    @property
    def size(self) -> int:
        return sum(components for _, components, _ in self.blocks)

    @property
    def plan(self) -> list[int]:
        return [self.count, len(self.blocks), *(n for begin, c, _ in self.blocks for n in (begin, c))]


class FourierNonlinearity(nn.Module):
    r"""Samples each channel on the circle, applies a function, and transforms back.

    Channel :math:`c` collects one field of every order that has more than :math:`c` fields: of ``"16x0+8x1+4x2"``, the
    first 4 channels have the orders 0, 1, 2, the next 4 the orders 0, 1, the last 8 only order 0. With :math:`D`
    components, :math:`N` angles :math:`\varphi_k = 2 \pi k / N` and :math:`z_m = x_m + i y_m`,

    .. math::
        u(\varphi) = \frac{a}{\sqrt D} \Bigl( z_0 + \sqrt 2 \sum_{m \geq 1} x_m \cos m\varphi + y_m \sin m\varphi
        \Bigr), \qquad z'_m = \text{coefficients of } f(u),

    truncated to the orders that were there. Components of unit variance give samples of standard deviation :math:`a`
    (the ``amplitude``), whatever :math:`D` and :math:`N` are, and the result is scaled to keep unit variance.

    Turns by multiples of :math:`2\pi/N` commute exactly. Others commute up to the part of :math:`f(u)` above order
    :math:`N - M - 1`, which falls geometrically where :math:`f` is smooth: for SiLU at the default count below
    rounding, also where features are twice as large as the amplitude expects. Kinks let it fall slowly: **no count
    makes ReLU or ELU exact** (8e-3 and 5e-4 at 21 samples). :class:`NormGate` is exact at any size.

    Samples are never stored: the backward pass, and any later one, computes them again. Differentiable to any order.

    Args:
        types: Type of input and output.
        act: ``"silu"``, ``"gelu"``, ``"tanh"``, ``"elu"``, ``"relu"``, or any function or module that acts on each
            number by itself.
        samples: Number of angles, odd and at least ``2M + 1``; by default, by function and precision, exact to
            rounding: ``12M + 5`` in float32 and ``32M + 5`` in float64 for SiLU; with ``norm`` twice the factor,
            since it leaves a few outliers of ten times the usual size.
        amplitude: Standard deviation of the samples of features of unit variance.
        norm: Normalise the samples of each channel over nodes and angles first, with a learned scale and shift (batch
            norm on samples; by Parseval it needs none).
        eps: Added to every mean square.
        momentum: Weight of the newest batch in the running averages.

    Raises:
        ValueError: If ``act`` is unknown, or ``samples`` too few or even.

    Example:
        >>> layer = FourierNonlinearity("4x0+4x1+2x2")
        >>> layer(torch.randn(5, 16)).shape
        torch.Size([5, 16])

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425, sec. 5.2 (there ReLU on 7 samples).
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(
        self,
        types: SO2Irreps | str,
        act: str | Act = "silu",
        samples: int | None = None,
        amplitude: float = 0.5,
        norm: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        if act not in ACTS if isinstance(act, str) else not callable(act):
            raise ValueError(f"act must be one of {', '.join(ACTS)} or a function of a tensor, got {act!r}")
        if not amplitude > 0:
            raise ValueError(f"amplitude must be positive, got {amplitude}")
        self._order = order = max(self.types.max_order, 0)  # a plain value: compile cannot trace the type
        if samples is not None and (samples < 2 * order + 1 or samples % 2 == 0):
            raise ValueError(
                f"samples must be odd and at least 2 * max_order + 1 = {2 * order + 1} for {self.types}, got {samples}"
            )
        self.act, self.samples, self.amplitude, self._has_norm = act, samples, amplitude, norm
        self._dim, self._hint = self.types.dim, f"the layer was built for types={self.types}"
        self._groups = _form_channels(self.types)
        self._plan = [number for group in self._groups for number in group.plan]
        self._bases: dict[int, list[Constant]] = {}
        self._scales: dict[int, list[float]] = {}
        for count in {self._count(torch.float32), self._count(torch.float64)}:
            self._bases[count] = [Constant(self._basis(g, count)) for g in self._groups]
            self._scales[count] = [self._scale(g, count) for g in self._groups]
        same = [b.order for b in layout(self.types)] == sorted({b.order for b in layout(self.types)})
        self._permutation = None if same else Constant(self.types.permutation())
        self._inverse = None if same else Constant(self.types.permutation().argsort())
        self.norm = _SampleNorm(self.types.regroup(), eps, momentum) if norm else None

    def default_samples(self, dtype: torch.dtype = torch.float32) -> int:
        """The number of angles for features of a dtype, if none was given."""
        factors = _FACTORS.get(self.act, _UNKNOWN) if isinstance(self.act, str) else _UNKNOWN
        spread = _OUTLIERS if self._has_norm else 1
        return spread * factors[dtype == torch.float64] * self._order + 5

    def _count(self, dtype: torch.dtype) -> int:
        return self.default_samples(dtype) if self.samples is None else self.samples

    def _basis(self, group: _Group, count: int) -> Tensor:
        """Samples of each component, ``[D, N]``, float64."""
        order = max(group.orders)
        if order == 0:  # a constant: one sample says all
            return torch.full((1, 1), self.amplitude, dtype=torch.float64)
        angle = 2 * torch.pi * torch.arange(count, dtype=torch.float64) / count
        rows = []
        for m in group.orders:
            waves = [(m * angle).cos(), (m * angle).sin()] if m else [torch.full_like(angle, 0.5**0.5)]
            rows += [2**0.5 * wave for wave in waves]
        return torch.stack(rows) * (self.amplitude * group.size**-0.5)

    def _scale(self, group: _Group, count: int) -> float:
        """What makes the way back invert the way there, times the gain that keeps the variance."""
        count = count if max(group.orders) else 1
        return _gain(self.act, self.amplitude) * group.size / (self.amplitude**2 * count)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function.

        Args:
            x: Features, ``[..., types.dim]``.

        Returns:
            ``[..., types.dim]``.

        Raises:
            ValueError: If the last axis of ``x`` differs from ``types``.
        """
        check_features(x, self._dim, self._hint)
        if not self._groups:
            return x
        wide = torch.promote_types(x.dtype, torch.float32)
        out_dtype = wide if torch.is_autocast_enabled(x.device.type) else x.dtype
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(wide)
            if self._permutation is not None:
                x = x.index_select(-1, self._permutation.on(x.device))
            if self.norm is not None:
                x = self.norm(x)
            y = self._sampled(x.reshape(-1, self._dim)).view(x.shape)
            y = y if self._inverse is None else y.index_select(-1, self._inverse.on(x.device))
            return y.to(out_dtype)

    def _sampled(self, x: Tensor) -> Tensor:
        count = self._count(x.dtype)
        bases = [basis.like(x) for basis in self._bases[count]]
        transforms = transforms_functions()
        if isinstance(self.act, str) and not transforms:
            out: Tensor = sampled_act(x, [], bases, self._plan, self._scales[count], self.act)
            return out
        if torch.is_grad_enabled() and not torch.compiler.is_compiling() and not transforms:
            kept: Tensor = checkpoint(self._plain, x, bases, self._scales[count], use_reentrant=False)
            return kept
        return self._plain(x, bases, self._scales[count])

    def _plain(self, x: Tensor, bases: list[Tensor], scales: list[float]) -> Tensor:
        """The same by ordinary autograd, for functions whose derivatives are not known here."""
        act = getattr(torch.nn.functional, self.act) if isinstance(self.act, str) else self.act
        columns: dict[int, list[Tensor]] = {}
        for group, basis, scale in zip(self._groups, bases, scales, strict=True):
            parts = [x[:, at : at + group.count * c].view(-1, group.count, c) for at, c, _ in group.blocks]
            made = act(torch.cat(parts, dim=-1) @ basis) @ (basis.t() * scale)
            pieces = made.split([c for _, c, _ in group.blocks], dim=-1)
            for (_, _, order), piece in zip(group.blocks, pieces, strict=True):
                columns.setdefault(order, []).append(piece.flatten(1))
        return torch.cat([part for order in sorted(columns) for part in columns[order]], dim=1)

    def extra_repr(self) -> str:
        """Type, function and samples."""
        name = self.act if isinstance(self.act, str) else type(self.act).__name__
        samples = self.samples or f"{self.default_samples()} ({self.default_samples(torch.float64)} in float64)"
        return f"{self.types}, act={name}, samples={samples}, amplitude={self.amplitude}"


def _form_channels(types: SO2Irreps) -> tuple[_Group, ...]:
    """Groups of channels with equal orders; columns refer to the regrouped layout."""
    blocks = layout(types.regroup())
    groups, low = [], 0
    for high in sorted({b.mul for b in blocks}):
        members = tuple((b.begin + low * b.components, b.components, b.order) for b in blocks if b.mul >= high)
        groups.append(_Group(high - low, members))
        low = high
    return tuple(groups)


def _gain(act: str | Act, amplitude: float) -> float:
    """Factor that gives ``f`` of a normal variable the variance of the variable; 1 where ``f`` is zero everywhere."""
    node, weight = np.polynomial.hermite_e.hermegauss(200)
    u = torch.from_numpy(node) * amplitude
    f = getattr(torch.nn.functional, act) if isinstance(act, str) else act
    with torch.no_grad():
        try:
            value = f(u)
        except RuntimeError:  # a module with weights in another dtype
            value = f(u.float()).double()
    square = float((torch.from_numpy(weight) * value.square()).sum() / weight.sum())
    return amplitude / square**0.5 if square > 0 else 1.0


class _SampleNorm(nn.Module):
    """Batch norm of the samples of each channel, computed from the coefficients.

    The mean of the samples is order 0 and their mean square the sum of squares of all coefficients (Parseval), so
    nothing needs to be sampled.
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(self, types: SO2Irreps, eps: float, momentum: float) -> None:
        super().__init__()
        self._blocks = layout(types)
        self.eps, self.momentum = eps, momentum
        self._num = max((b.mul for b in self._blocks), default=0)
        sizes = [sum(b.components for b in self._blocks if b.mul > c) for c in range(self._num)]
        self._sizes = Constant(torch.tensor(sizes, dtype=torch.float64))
        scalars = types.count(0)
        self.weight = nn.Parameter(torch.ones(self._num))
        self.bias = nn.Parameter(torch.zeros(scalars))
        self.register_buffer("running_mean", torch.zeros(scalars))
        self.register_buffer("running_square", torch.ones(self._num))

    def reset_parameters(self) -> None:
        """Scale 1, shift 0; the running averages too."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_square.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        parts = split(x, self._blocks)
        learning = self.training and x.numel() > 0
        mean = self.running_mean
        if learning and mean.numel():
            mean = parts[0].reshape(-1, mean.numel()).mean(0)
        if mean.numel():
            parts[0] = parts[0] - mean[:, None]
        square = self.running_square
        if learning:
            total = x.new_zeros(self._num)
            for part in parts:
                mul = part.size(-2)
                own = part.square().sum(-1).reshape(-1, mul).mean(0)
                total = total + torch.nn.functional.pad(own, (0, self._num - mul))
            square = total / self._sizes.like(x)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
                self.running_square.lerp_(square.to(self.running_square), self.momentum)
        factor = self.weight * (square + self.eps).rsqrt()
        out = [part * factor[: part.size(-2), None] for part in parts]
        if mean.numel():
            out[0] = out[0] + self.bias[:, None]
        return join(out, x)

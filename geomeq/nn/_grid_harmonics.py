"""Circular harmonics on the pixels of a window, and the kernels that a gauge layer makes of them."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from geomeq.groups import SO2Irreps

from ._gauge_radial import is_inside, ring_profiles

_SPREAD = 0.5  # of the Gaussian that carries a point of a ring to the pixels, in pixels, as published


class Window(NamedTuple):
    """What a table of harmonics depends on, besides orders."""

    kernel_size: int
    rings: int
    cutoff: float
    basis: str
    antialias: bool
    scale: float = 1.0  #: what every entry is multiplied by


def window_pixels(kernel_size: int) -> Tensor:
    """Pixels of a window relative to its centre, row by row from the top: (x, y) with y up, ``[k * k, 2]``, float64."""
    line = torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2
    down, right = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([right.flatten(), -down.flatten()], dim=1)


def harmonics(window: Window, frequency: int) -> Tensor:
    r"""One frequency of every ring at every pixel, (cos, sin), ``[R, k * k, 2]``, float64.

    Sampled at the pixels: :math:`\phi_q(r) e^{i f \theta}`, for ``basis="smooth"`` times :math:`(r / r_c)^f`, zero at
    the centre (which belongs to self interaction) and beyond the cut-off. Antialiased: see :func:`ring_harmonics`.
    """
    # tables are shared: no mode of whoever asks first may leave a trace in them
    with torch.inference_mode(False), torch.device("cpu"):
        pixels = window_pixels(window.kernel_size)
        if window.antialias:
            return ring_harmonics(pixels, window.rings, (window.kernel_size - 1) / 2, frequency)
        r = torch.linalg.vector_norm(pixels, dim=1)
        profile = ring_profiles(r, window.rings, window.cutoff, window.basis).T
        inside = (r > 0) & (r <= window.cutoff * (1 + 1e-9)) & is_inside(r, window.cutoff, window.basis)
        profile = profile * inside
        if window.basis == "smooth":
            profile = profile * (r / window.cutoff) ** frequency
        angle = frequency * torch.atan2(pixels[:, 1], pixels[:, 0])
        return torch.stack([profile * angle.cos(), profile * angle.sin()], dim=-1)


def ring_harmonics(pixels: Tensor, rings: int, outer: float, frequency: int) -> Tensor:
    r"""Harmonics on circles, carried to the pixels by Gaussians: the antialiased filters of harmonic networks.

    Radii are evenly spaced from 0 (frequency 0) or 1 to ``outer``. A circle is sampled at many angles
    :math:`\theta_s`, each sample spread over the pixels with weights :math:`g_{sp}` that sum to one, and
    :math:`\frac{1}{N} \sum_s g_{sp} e^{i f \theta_s}` is the value at pixel p. A circle of radius r can hold
    frequencies up to :math:`\pi r` (two pixels per wave); higher ones are left out. At the centre only frequency 0 is
    not zero.
    """
    radii = torch.linspace(0.0 if frequency == 0 else 1.0, max(outer, 1.0), rings, dtype=torch.float64)
    count = 4 * max(math.ceil(math.pi * outer), 26)  # a multiple of 4 keeps quarter turns exact
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    points = radii[:, None, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
    square = (points[:, :, None] - pixels).square().sum(-1)  # [R, N, k * k]
    spread = torch.softmax(-square / (2 * _SPREAD**2), dim=-1)
    wave = torch.stack([(frequency * angle).cos(), (frequency * angle).sin()], dim=-1)
    table = torch.einsum("qsp,sc->qpc", spread, wave) / count
    held = (frequency <= math.pi * radii + 1e-9).to(table)
    off_centre = (pixels != 0).any(dim=1) | (frequency == 0)
    return table * held[:, None, None] * off_centre[:, None]


def pair_table(window: Window, order_out: int, order_in: int) -> Tensor:
    r"""How the numbers of ``B`` between two orders become the kernel between them: ``[R * cm * cn, cm * cn * k * k]``.

    With :math:`B z = a z + b \bar z` the kernel is :math:`a E_{m-n} z + b E_{m+n} \bar z`,
    :math:`E_f` = :func:`harmonics`, :math:`E_{-f} = \bar E_f`; between an order and 0 only the real part counts, or
    only a real number comes in.
    """
    rows, columns = (2 if order_out else 1), (2 if order_in else 1)
    difference = torch.view_as_complex(harmonics(window, abs(order_out - order_in)))
    difference = difference.conj() if order_out < order_in else difference
    total = torch.view_as_complex(harmonics(window, order_out + order_in))
    numbers = torch.eye(rows * columns, dtype=torch.float64).view(-1, rows, columns)
    full = torch.zeros(rows * columns, 2, 2, dtype=torch.float64)  # B as if both orders had two components
    full[:, :rows, :columns] = numbers
    (b00, b01), (b10, b11) = full.permute(1, 2, 0)
    a = torch.complex(b00 + b11, b10 - b01)[:, None, None] / 2 * difference
    b = torch.complex(b00 - b11, b10 + b01)[:, None, None] / 2 * total
    kernel = torch.stack(  # of the map z -> a z + b conj(z), [numbers, R, P, 2, 2]
        [torch.stack([(a + b).real, (b - a).imag], -1), torch.stack([(a + b).imag, (a - b).real], -1)], -2
    )
    kernel = window.scale * kernel[..., :rows, :columns]
    return kernel.permute(1, 0, 3, 4, 2).reshape(window.rings * rows * columns, -1)


class _Pair(NamedTuple):
    """Where a pair of orders lies in the weight (sorted by order), and its table."""

    rows: slice
    columns: slice
    shape: tuple[int, int, int, int]  # fields out, components out, fields in, components in
    table: Tensor


class GridKernel:
    """The linear map from the weight of a gauge layer ``[R, dim_out, dim_in]`` to ``[dim_out, dim_in, k, k]``."""

    def __init__(self, window: Window, types_in: SO2Irreps, types_out: SO2Irreps, device: torch.device) -> None:
        self.window, self.dims = window, (types_out.dim, types_in.dim)
        self.sort_in, self.sort_out = _sorting(types_in, device), _sorting(types_out, device)
        inner, outer = types_in.regroup(), types_out.regroup()
        self.pairs = [
            [
                _Pair(
                    rows,
                    columns,
                    (m.mul, m.components, n.mul, n.components),
                    _shared_table(window, m.order, n.order).to(device),
                )
                for n, columns in zip(inner, inner.slices(), strict=True)
            ]
            for m, rows in zip(outer, outer.slices(), strict=True)
        ]

    def expand(self, weight: Tensor) -> Tensor:
        """``[R, dim_out, dim_in]`` to ``[dim_out, dim_in, k, k]``."""
        weight = self._reorder(weight, 1, 0)
        with torch.autocast(weight.device.type, enabled=False):  # what is rounded here is rounded for all pixels
            rows = [torch.cat([self._kernel(weight, pair) for pair in row], dim=1) for row in self.pairs]
        kernel = self._reorder(torch.cat(rows), 0, 1)
        return kernel.unflatten(2, (self.window.kernel_size, -1))

    def fold(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`expand`."""
        grad = self._reorder(grad.flatten(2), 0, 0)
        rows = [torch.cat([self._numbers(grad, pair) for pair in row], dim=2) for row in self.pairs]
        return self._reorder(torch.cat(rows, dim=1), 1, 1)

    def init_(self, weight: Tensor, gain: Tensor) -> None:
        """Normal weights such that pixels of independent features of unit variance give variance ``gain`` per row.

        Every component of the input has an equal share in it.
        """
        drawn = torch.randn_like(self._reorder(weight.detach(), 1, 0))
        for row in self.pairs:
            for pair in row:
                _, m, _, _ = pair.shape
                share = pair.table.square().sum() * self.dims[1] / (m * pair.shape[3])
                drawn[:, pair.rows, pair.columns] *= float(share.clamp(min=1e-12).rsqrt())
        with torch.no_grad():
            weight.copy_(self._reorder(drawn, 1, 1) * gain.to(weight).sqrt()[:, None])

    def _kernel(self, weight: Tensor, pair: _Pair) -> Tensor:
        outs, m, ins, n = pair.shape
        block = weight[:, pair.rows, pair.columns].reshape(self.window.rings, outs, m, ins, n)
        flat = block.permute(1, 3, 0, 2, 4).reshape(outs * ins, -1) @ pair.table.to(weight.dtype)
        return flat.view(outs, ins, m, n, -1).permute(0, 2, 1, 3, 4).reshape(outs * m, ins * n, -1)

    def _numbers(self, grad: Tensor, pair: _Pair) -> Tensor:
        outs, m, ins, n = pair.shape
        block = grad[pair.rows, pair.columns].reshape(outs, m, ins, n, -1)
        flat = block.permute(0, 2, 1, 3, 4).reshape(outs * ins, -1) @ pair.table.to(grad.dtype).T
        block = flat.view(outs, ins, self.window.rings, m, n).permute(2, 0, 3, 1, 4)
        return block.reshape(self.window.rings, outs * m, ins * n)

    def _reorder(self, x: Tensor, axis: int, back: int) -> Tensor:
        """Components sorted by order, or back, on two neighbouring axes (out, in)."""
        for sort, at in ((self.sort_out, axis), (self.sort_in, axis + 1)):
            if sort is not None:
                x = x.index_select(at, sort[back])
        return x


def _sorting(types: SO2Irreps, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The permutation that sorts by order and its inverse; none where there is nothing to sort."""
    there = types.permutation()
    if torch.equal(there, torch.arange(types.dim)):
        return None
    return there.to(device), there.argsort().to(device)


@lru_cache(maxsize=256)
def _shared_table(window: Window, order_out: int, order_in: int) -> Tensor:
    with torch.inference_mode(False), torch.device("cpu"):
        return pair_table(window, order_out, order_in)

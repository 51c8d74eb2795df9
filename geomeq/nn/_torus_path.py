"""Group convolution where the group has a torus of commuting elements: plain circular convolutions, or an FFT."""

from math import log2, prod

import torch
import torch.nn.functional as F
from torch import Tensor

from geomeq.groups.finite import FiniteGroup
from geomeq.groups.plane_groups import PlaneGroup
from geomeq.ops.stencil import HALF

from ._group_paths import CALL, EXPAND, MOVE, Tables
from ._once import ExpandOnce

# Multiplications per number and level of an FFT, and per frequency of a product in it, roughly.
_FFT, _COMPLEX = 50, 8


def find_torus(group: FiniteGroup) -> Tensor | None:
    r"""Elements as :math:`t_1^i t_2^j h`: ``[H, n1, n2]``, for the largest torus found; ``None`` if there is none.

    Of a plane group, the translations. Else :math:`t_1` is an element of the largest order and :math:`t_2` the best one
    that commutes with it and shares no power.
    """
    if isinstance(group, PlaneGroup):
        return torch.arange(group.order).view(-1, group.size, group.size)
    orders = group.element_orders
    line = _powers(group, int(orders.argmax()))
    every, first = torch.arange(group.order), line[1 % len(line)]
    commutes = (group.compose(every, first) == group.compose(first, every)).nonzero().flatten()
    fits = commutes[orders[commutes] * len(line) <= group.order]
    second = line[:1]
    for element in fits[orders[fits].argsort(descending=True, stable=True)].tolist():
        other = _powers(group, element)
        if int(torch.isin(other, line).sum()) == 1:
            second = other
            break
    torus = group.compose(line[:, None], second)
    if torus.numel() < 2:
        return None
    # right cosets T h: each is named by its smallest element
    names = torch.full((group.order,), group.order)
    for translation in torus.flatten().tolist():
        names = torch.minimum(names, group.compose(torch.tensor(translation), every))
    return group.compose(torus, names.unique()[:, None, None])


def _powers(group: FiniteGroup, element: int) -> Tensor:
    """``e, g, g^2, ...``: the cyclic group of an element."""
    powers = [torch.tensor(0)]
    for _ in range(int(group.element_orders[element]) - 1):
        powers.append(group.compose(powers[-1], torch.tensor(element)))
    return torch.stack(powers)


class TorusPath:
    r"""Correlation over the torus for every pair of cosets.

    With :math:`u = t h` and :math:`v = t' h'`, :math:`u^{-1} v = h^{-1} (t^{-1} t') h'`: for each pair
    :math:`(h, h')` the sum over :math:`t'` is a circular correlation with the kernel
    :math:`\tau \mapsto w(h^{-1} \tau h')`.

    Args:
        group: A ``FiniteGroup``.
        torus: Elements ``t h``, ``[H, n1, n2]``.
        rows: The row of the weight for each element of the group, ``[n]``.
        num_rows: Number of rows; elements without one have this number.
        fft: Whether to multiply per frequency, or to run one ``conv2d`` over the window that the support fills.
    """

    def __init__(self, group: FiniteGroup, torus: Tensor, rows: Tensor, num_rows: int, fft: bool) -> None:
        self.name = "fft" if fft else "conv2d"
        self.fft, self.num_rows = fft, num_rows
        self.cosets, *self.shape = torus.shape
        home = int((torus[:, 0, 0] == 0).nonzero()[0])  # the coset of the identity: the torus itself
        representatives, translations = torus[:, 0, 0], torus[home].flatten()
        left = group.compose(group.inv[representatives][:, None], translations)  # h^-1 tau
        kernel = rows[group.compose(left[:, None], representatives[None, :, None])]  # [h, h', tau]
        kernel = kernel.view(self.cosets, self.cosets, *self.shape)
        self.pads, kernel = ([(0, 0), (0, 0)], kernel) if fft else _window(kernel, num_rows)
        self.window = tuple(kernel.shape[2:])
        order = torus.flatten()
        self.natural = torch.equal(order, torch.arange(order.numel()))
        self.tables = Tables(kernel=kernel.flatten(), order=order, back=order.argsort())
        self.once = ExpandOnce()

    def cost(self, batch: int, channels: int, outputs: int) -> float:
        """Multiplications, or what takes as long."""
        points, pairs = prod(self.shape), self.cosets**2 * channels * outputs
        moves = MOVE * batch * points * self.cosets * (channels + outputs)
        if not self.fft:
            return (batch * points + EXPAND) * pairs * prod(self.window) + moves + 35 * CALL
        numbers = batch * self.cosets * (channels + outputs) + pairs
        return _COMPLEX * batch * points * pairs + numbers * points * _FFT * log2(points) + moves + 50 * CALL

    def expand(self, weight: Tensor) -> Tensor:
        """``[R, Ci, Co]`` to filters ``[h Co, h' Ci, ky, kx]``, or to spectra ``[n1, n2 / 2 + 1, h' Ci, h Co]``."""
        _, channels, outputs = weight.shape
        padded = F.pad(weight, (0, 0, 0, 0, 0, 1)).transpose(1, 2)
        taps = padded.index_select(0, self.tables.get("kernel", weight))
        taps = taps.view(self.cosets, self.cosets, *self.window, outputs, channels)
        filters = taps.permute(0, 4, 1, 5, 2, 3).reshape(self.cosets * outputs, self.cosets * channels, *self.window)
        if not self.fft:
            return filters
        return torch.fft.rfft2(_wide(filters)).permute(2, 3, 1, 0).conj().resolve_conj()

    def fold(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`expand`."""
        if self.fft:
            # of rfft: pad to all frequencies, then the unnormalised inverse transform, of which the real part stays
            spectrum = grad.conj().permute(3, 2, 0, 1)
            spectrum = F.pad(spectrum, (0, self.shape[1] - spectrum.size(-1)))
            grad = torch.fft.ifft2(spectrum, norm="forward").real
        channels, outputs = grad.size(1) // self.cosets, grad.size(0) // self.cosets
        taps = grad.reshape(self.cosets, outputs, self.cosets, channels, *self.window).permute(0, 2, 4, 5, 3, 1)
        taps = taps.reshape(-1, channels, outputs)
        out = taps.new_zeros(self.num_rows + 1, channels, outputs)
        return out.index_add(0, self.tables.get("kernel", grad), taps)[: self.num_rows]

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """``x`` ``[B, n, Ci]`` to ``[B, n, Co]``."""
        batch, channels, outputs = x.size(0), x.size(2), weight.size(2)
        if not self.natural:
            x = x.index_select(1, self.tables.get("order", x))
        maps = x.view(batch, self.cosets, *self.shape, channels).permute(0, 1, 4, 2, 3)
        maps = maps.reshape(batch, self.cosets * channels, *self.shape)
        out = (self._by_fft if self.fft else self._by_window)(maps, self.once(weight, self))
        out = out.view(batch, self.cosets, outputs, *self.shape).permute(0, 1, 3, 4, 2).reshape(batch, -1, outputs)
        return out if self.natural else out.index_select(1, self.tables.get("back", x))

    def _by_window(self, maps: Tensor, filters: Tensor) -> Tensor:
        (top, bottom), (left, right) = self.pads
        return F.conv2d(F.pad(maps, (left, right, top, bottom), mode="circular"), filters)

    def _by_fft(self, maps: Tensor, spectra: Tensor) -> Tensor:
        hat = torch.fft.rfft2(_wide(maps)).permute(2, 3, 0, 1)
        return torch.fft.irfft2((hat @ spectra).permute(2, 3, 0, 1), s=self.shape).to(maps.dtype)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least: there is no FFT of half precision on a CPU, and only of some sizes on a GPU."""
    return x.float() if x.dtype in HALF else x


def _window(kernel: Tensor, empty: int) -> tuple[list[tuple[int, int]], Tensor]:
    """The smallest window of a circular kernel ``[.., n1, n2]`` that holds all but ``empty``, and its padding."""
    pads = []
    for axis in (2, 3):
        length = kernel.size(axis)
        used = (kernel != empty).transpose(axis, 0).reshape(length, -1).any(dim=1)
        offset = torch.arange(length)
        offset = torch.where(offset > length // 2, offset - length, offset)[used] if bool(used.any()) else offset[:1]
        low, high = int(offset.min()), int(offset.max())
        kernel = kernel.roll(-low, dims=axis).narrow(axis, 0, high - low + 1)
        pads.append((-low, high))
    return pads, kernel.contiguous()

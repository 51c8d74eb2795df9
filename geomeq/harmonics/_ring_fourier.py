"""From nodes to Fourier coefficients of rings and back, with the two hemispheres folded together.

Coefficients of a field ``x [B, N, C]`` are ``[lmax + 1, 2, H, 2, B, C]``: order, even and odd part in the latitude,
ring of the northern hemisphere, real and imaginary part of the sum over the ring of :math:`x e^{-i m phi}`.
"""

import math

import torch
from torch import Tensor

from geomeq.spheres import Rings, Sampling

_SAME = 1e-12  # radians between latitudes that count as one


class GridFourier:
    """A table of longitudes and latitudes, symmetric about the equator, with more than twice as many columns as orders.

    Args:
        s: With :attr:`~geomeq.spheres.Sampling.grid`, first column at longitude 0.
        lmax: Highest order.
    """

    def __init__(self, s: Sampling, lmax: int) -> None:
        assert s.grid is not None
        assert s.rings is not None
        self.lmax, (self.rows, self.columns) = lmax, s.grid
        self.half = (self.rows + 1) // 2
        self.colatitude = s.rings.colatitude[: self.half].double()
        # The equator is folded onto itself, so that it counts half.
        once = torch.ones(self.rows, 1, dtype=torch.float64)
        once[self.half - 1] = 0.5 if self.rows % 2 else 1.0
        area = s.area.double()
        self._tensors = [area, (area.view(self.rows, self.columns) * once).flatten(), once]

    @staticmethod
    def serves(s: Sampling, lmax: int) -> bool:
        """Whether the rings of a sampling are such a table."""
        if s.grid is None or s.rings is None or s.grid[1] <= 2 * lmax or float(s.rings.start[0]) != 0:
            return False
        colatitude = s.rings.colatitude
        return bool(((colatitude + colatitude.flip(0) - math.pi).abs() < _SAME).all())

    def tensors(self) -> list[Tensor]:
        """What the transforms need beside the field."""
        return self._tensors

    def analyse(self, x: Tensor, tensors: list[Tensor], weighted: bool) -> Tensor:
        """Coefficients of the field, times the weights or not."""
        _, area, once = tensors
        x = x * area[:, None] if weighted else x
        x = x.unflatten(1, (self.rows, self.columns))
        x = x * once[:, None] if self.rows % 2 and not weighted else x
        north, south = x[:, : self.half], x[:, self.rows - self.half :].flip(1)
        even, odd = (self._of_rows(part) for part in (north + south, north - south))
        return torch.stack([even, odd], dim=1)

    def _of_rows(self, x: Tensor) -> Tensor:
        fourier = torch.fft.rfft(x, dim=2).narrow(2, 0, self.lmax + 1)
        return torch.view_as_real(fourier).permute(2, 1, 4, 0, 3)

    def synthesise(self, fourier: Tensor, tensors: list[Tensor]) -> Tensor:
        """The field of coefficients."""
        even, odd = torch.view_as_complex(fourier.permute(1, 4, 2, 0, 5, 3).contiguous())
        south = (even - odd)[:, : self.rows - self.half].flip(1)
        rows = torch.cat([even + odd, south], dim=1)
        return torch.fft.irfft(rows, n=self.columns, dim=2, norm="forward").flatten(1, 2)


class RingFourier:
    """Any rings: of unequal counts and beginnings, fewer nodes than orders need, not symmetric.

    Rings of one count are transformed together. Orders beyond half the count of a ring have the values that their
    frequency has at its nodes.

    Args:
        s: With rings.
        lmax: Highest order.
    """

    def __init__(self, s: Sampling, lmax: int) -> None:
        assert s.rings is not None
        self.lmax, rings = lmax, s.rings
        north, south, self.colatitude = _hemispheres(rings.colatitude.double())
        self.half = len(self.colatitude)
        order = rings.count.argsort(stable=True)  # rings of one count side by side
        counts, how_many = rings.count[order].unique_consecutive(return_counts=True)
        self.counts = list(zip(counts.tolist(), how_many.tolist(), strict=True))
        first = rings.count.cumsum(0) - rings.count
        steps = torch.cat([first[r] + torch.arange(int(rings.count[r])) for r in order.tolist()])
        node = rings.node[steps]
        width = rings.count[order] // 2 + 1
        begin = torch.empty_like(order)
        begin[order] = width.cumsum(0) - width
        self.bins = int(width.sum())
        ring = torch.cat([north, south])
        area = s.area.double()
        self._tensors = [
            area,
            area[node],
            node,
            node.argsort(),
            *_aliases(rings, ring, begin, self.bins, lmax),
        ]

    def tensors(self) -> list[Tensor]:
        """What the transforms need beside the field."""
        return self._tensors

    def analyse(self, x: Tensor, tensors: list[Tensor], weighted: bool) -> Tensor:
        """Coefficients of the field, times the weights or not."""
        _, area, node, _, place, turn, _ = tensors
        x = x.index_select(1, node)
        x = x * area[:, None] if weighted else x
        parts, start = [], 0
        for count, rings in self.counts:
            part = x.narrow(1, start, count * rings).unflatten(1, (rings, count))
            parts.append(torch.view_as_real(torch.fft.rfft(part, dim=2)).flatten(1, 2))
            start += count * rings
        parts.append(torch.zeros_like(parts[0][:, :1]))  # of a ring without a twin
        fourier = torch.cat(parts, dim=1).index_select(1, place)
        re, im = fourier.unbind(-1)
        cos, sin, sign = turn[:, :, None]
        turned = torch.stack([cos * re + sign * sin * im, sign * cos * im - sin * re])
        north, south = turned.unflatten(2, (self.lmax + 1, 2, self.half)).unbind(3)
        return torch.stack([north + south, north - south]).permute(3, 0, 4, 1, 2, 5)

    def synthesise(self, fourier: Tensor, tensors: list[Tensor]) -> Tensor:
        """The field of coefficients."""
        _, _, _, back, place, turn, times = tensors
        even, odd = fourier.unbind(1)
        both = torch.stack([even + odd, even - odd], dim=1).flatten(0, 2)  # [order, hemisphere, ring] in one axis
        re, im = both.unbind(1)
        cos, sin, sign = (turn * times)[:, :, None, None]
        sign = turn[2, :, None, None]
        turned = torch.stack([cos * re - sin * im, sign * (sin * re + cos * im)], dim=-1)
        bins = turned.new_zeros(self.bins + 1, *turned.shape[1:]).index_add(0, place, turned)
        parts, start = [], 0
        for count, rings in self.counts:
            width = count // 2 + 1
            part = bins.narrow(0, start, rings * width).unflatten(0, (rings, width)).permute(2, 0, 1, 3, 4)
            part = torch.view_as_complex(part.contiguous())
            parts.append(torch.fft.irfft(part, n=count, dim=2, norm="forward").flatten(1, 2))
            start += rings * width
        return torch.cat(parts, dim=1).index_select(1, back)


def _hemispheres(colatitude: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Northern ring and southern ring at each distance from the poles, -1 where there is none, and that distance."""
    twins: list[list[float]] = []  # distance, northern, southern ring
    is_south = (colatitude > math.pi / 2 + _SAME).tolist()
    distance = torch.where(colatitude > math.pi / 2, math.pi - colatitude, colatitude)
    for ring in distance.argsort(stable=True).tolist():
        side = 2 if is_south[ring] else 1
        if twins and abs(twins[-1][0] - float(distance[ring])) < _SAME and twins[-1][side] < 0:
            twins[-1][side] = ring
        else:
            twins.append([float(distance[ring]), -1, -1])
            twins[-1][side] = ring
    table = torch.tensor(twins, dtype=torch.float64)
    return table[:, 1].long(), table[:, 2].long(), table[:, 0]


def _aliases(rings: Rings, ring: Tensor, begin: Tensor, bins: int, lmax: int) -> list[Tensor]:
    """Where the transform of a ring holds each order, how it is turned, and how often it counts.

    Returns:
        ``[(lmax + 1) * len(ring)]``, then cosine, sine and sign of the imaginary part ``[3, ...]``, then the factor of
        the way back: zero frequency and the highest of an even count take an order and its negative.
    """
    order = torch.arange(lmax + 1)[:, None]
    count, start = rings.count[ring][None], rings.start.double()[ring][None]
    frequency = order % count
    mirrored = 2 * frequency > count
    frequency = torch.where(mirrored, count - frequency, frequency)
    place = torch.where(ring[None] >= 0, begin[ring] + frequency, bins)
    angle = order * start
    turn = torch.stack([angle.cos(), angle.sin(), torch.where(mirrored, -1.0, 1.0).double().expand_as(angle)])
    twice = (order > 0) & ((frequency == 0) | (2 * frequency == count))
    return [place.flatten(), turn.flatten(1), torch.where(twice, 2.0, 1.0).double().flatten()]

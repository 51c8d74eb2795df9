"""How the filter of one orientation becomes the filters of all: tables, and the two linear maps they define."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from geomeq.groups import PointGroup

# Width of the Gaussians of an interpolated filter, in pixels: wide enough that a pixel grid hardly sees where their
# centres lie, narrow enough that neighbouring ones differ.
_SIGMA = 0.6


class FilterRule(NamedTuple):
    r"""The map from one filter to its images under the point group :math:`H`.

    .. math:: w'_{(o h)(c g)}(v) = w_{oc}(h^{-1} v, h^{-1} g)

    Attributes:
        there: For all input channels at once, which number of the filter stands where after each h,
            ``[|H| * C_in * G * P]``: one lookup for the whole layer, because a small layer waits for calls.
        back: Its inverse in the same order: where the numbers of the filter went under each h.
        basis: ``[P, k * k]``: values of the interpolating functions at the pixels; ``None`` where filters are pixels.
        kernel_size: k.
        elements: G: ``|H|`` for filters on the group, 1 for filters on the plane.
        order: ``|H|``.
        channels: ``C_in``.
    """

    there: Tensor
    back: Tensor
    basis: Tensor | None
    kernel_size: int
    elements: int
    order: int
    channels: int

    @property
    def num_points(self) -> int:
        """P: free numbers per channel pair and input orientation."""
        return self.there.numel() // (self.order * self.channels * self.elements)

    def to(self, device: torch.device) -> "FilterRule":
        """The same on another device."""
        basis = None if self.basis is None else self.basis.to(device)
        return self._replace(there=self.there.to(device), back=self.back.to(device), basis=basis)

    def expand(self, weight: Tensor) -> Tensor:
        """``[C_out, C_in * G, ...]`` to ``[C_out * |H|, C_in * G, k, k]``."""
        outs, size = weight.size(0), self.kernel_size
        turned = weight.reshape(outs, -1).index_select(1, self.there)
        if self.basis is not None:
            with torch.autocast(weight.device.type, enabled=False):  # what is rounded here is rounded for all pixels
                turned = turned.view(-1, self.num_points) @ self.basis.to(weight.dtype)
        return turned.view(outs * self.order, self.channels * self.elements, size, size)

    def fold(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`expand`, ``[C_out * |H|, C_in * G, k, k]`` to ``[C_out, C_in * G * P]``."""
        outs = grad.size(0) // self.order
        if self.basis is not None:
            grad = grad.reshape(-1, self.basis.size(1)) @ self.basis.to(grad.dtype).T
        turned = grad.reshape(outs, self.back.numel()).index_select(1, self.back)
        return turned.view(outs, self.order, -1).sum(1)

    def repeat(self, bias: Tensor) -> Tensor:
        """One bias per field, ``[C_out]``, to one per map, ``[C_out * |H|]``."""
        return bias[:, None].expand(-1, self.order).reshape(-1)

    def unrepeat(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`repeat`."""
        return grad.view(-1, self.order).sum(1)


@lru_cache(maxsize=64)
def filter_rule(group: PointGroup, kernel_size: int, lifting: bool, channels: int, device: torch.device) -> FilterRule:
    """The rule of a group and a window; pixels where the group maps the window onto itself, else Gaussians on rings."""
    # It is shared by all layers, so no mode of the one that asks first may leave a trace in it.
    with torch.inference_mode(False), torch.device("cpu"):
        table, basis, elements = _tables(group, kernel_size, lifting)
        order, width = table.shape
        shift = torch.arange(channels)[:, None] * width
        row = torch.arange(order)[:, None, None] * (channels * width)
        there, back = table[:, None] + shift, table.argsort(dim=1)[:, None] + shift + row
        rule = FilterRule(there.flatten(), back.flatten(), basis, kernel_size, elements, order, channels)
        return rule.to(device)


@lru_cache(maxsize=64)
def _tables(group: PointGroup, kernel_size: int, lifting: bool) -> tuple[Tensor, Tensor | None, int]:
    """``table[h, i]``: which number of a filter stands at place ``i`` after ``h``, ``[|H|, G * P]``; basis; G."""
    if group.on_square_grid:
        taps, basis = _pixel_taps(group, kernel_size), None
    else:
        taps, basis = _ring_taps(group, kernel_size)
    order, points = taps.shape
    elements = 1 if lifting else order
    moved = torch.zeros(order, 1, dtype=torch.long) if lifting else group.left_division
    return (moved[:, :, None] * points + taps[:, None]).flatten(1), basis, elements


def _pixel_taps(group: PointGroup, size: int) -> Tensor:
    """``taps[h, v]``: the pixel of the window that stands at ``v`` after ``h``, ``[|H|, k * k]``."""
    window = torch.arange(size * size).view(size, size)
    return torch.stack([group.act_on_image(h, window).flatten() for h in range(group.order)])


def ring_sizes(group: PointGroup, size: int) -> list[tuple[float, int]]:
    """Radius and number of points of each ring: about ``8 r``, as a square window has, in steps the group allows."""
    step = math.lcm(group.n, 4)  # a multiple of 4, so that quarter turns stay exact
    radii = [(size - 1) / 2 - i for i in range((size + 1) // 2)]
    return [(r, step * max(1, round(8 * r / step)) if r else 1) for r in reversed(radii)]


def _ring_taps(group: PointGroup, size: int) -> tuple[Tensor, Tensor]:
    """Permutations of points on rings, ``[|H|, P]``, and the Gaussians around them at the pixels, ``[P, k * k]``."""
    taps: list[list[int]] = [[] for _ in range(group.order)]
    x: list[float] = []
    y: list[float] = []
    for radius, count in ring_sizes(group, size):
        first = len(x)
        angle = [2 * math.pi * i / count for i in range(count)]
        x += [radius * math.cos(a) for a in angle]
        y += [radius * math.sin(a) for a in angle]
        for h, row in enumerate(taps):
            m, r = divmod(group.inverse(h), group.n)  # (L_h w)(p) = w(h^-1 p)
            for i in range(count):
                j = (count // 2 - i if count > 1 else 0) if m else i  # the mirror x -> -x sends angle a to pi - a
                row.append(first + (j + r * count // group.n if count > 1 else 0) % count)
    basis = _gaussians(torch.tensor([x, y], dtype=torch.float64), size)
    return torch.tensor(taps), _symmetric(basis, group, torch.tensor(taps), size)


def _gaussians(points: Tensor, size: int) -> Tensor:
    """Gaussians around ``points [2, P]`` at the pixels of a disc, ``[P, k * k]``; squares sum to k * k.

    A disc cuts off what lies outside, on a side that depends on the angle. So pixels are corrected, as little as
    possible, until sums against polynomials of degree 2 are those of the whole Gaussian: smooth signals then see the
    same filter under every turn, to third order.
    """
    line = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    pixels = torch.stack([line.expand(size, size).flatten(), -line[:, None].expand(size, size).flatten()])
    square = (points[:, :, None] - pixels[:, None]).square().sum(0)
    inside = pixels.square().sum(0) <= (size / 2) ** 2
    basis = torch.exp(-square / (2 * _SIGMA**2)) / (2 * math.pi * _SIGMA**2) * inside
    sums = _moments(pixels, 0.0) * inside
    missing = _moments(points, _SIGMA**2) - sums @ basis.T
    basis = basis + (torch.linalg.pinv(sums, rtol=1e-10) @ missing).T * inside
    return basis * math.sqrt(size * size / float(basis.square().sum()))


def _moments(mean: Tensor, variance: float) -> Tensor:
    """Expected monomials of degree 0 to 2 of normal variables at ``mean [2, P]``, ``[6, P]``."""
    x, y = mean
    return torch.stack([torch.ones_like(x), x, y, x * x + variance, x * y, y * y + variance])


def _symmetric(basis: Tensor, group: PointGroup, taps: Tensor, size: int) -> Tensor:
    """The same with entries that quarter turns and mirrors exchange made equal to the last bit."""
    points, pixels = basis.shape
    index = torch.arange(points * pixels).view(points, pixels)
    window = _pixel_taps(PointGroup(math.gcd(group.n, 4), group.mirror), size)
    lowest = index
    for turned, h in zip(window, group.grid_elements(), strict=True):
        lowest = torch.minimum(lowest, index[taps[h]][:, turned])
    return basis.flatten()[lowest]

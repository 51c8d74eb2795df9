r"""Aggregation of spherical channels: a network on the values of functions at points of the sphere."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq.ops._product import Linear, linear

from .sphere_grid import SphereGrid


class GridAggregation(nn.Module):
    r"""A pointwise network on a node's functions and those of its summed messages, integrated back to coefficients.

    Widths ``2 b C -> 2 b C -> 2 C -> C``, SiLU after the first two; b bands, of which band k holds the same functions
    truncated to degrees ``l <= lmax - k``. Sampling is linear and so are the first and the last map: they act on
    coefficients, of which there are fewer than points, and all bands of one degree share one matrix.

    Args:
        channels: ``C``.
        lmax: Highest degree, ``L``.
        bands: ``b``.

    The grid has ``2 (L + 1)`` Gauss-Legendre rings of ``2 (L + 1) + 1`` points, as many as published.
    """

    def __init__(self, channels: int, lmax: int, bands: int) -> None:
        super().__init__()
        if not 1 <= bands <= lmax + 1:
            raise ValueError(f"bands must lie between 1 and lmax + 1 = {lmax + 1}, got {bands}")
        self.channels, self.lmax, self.bands = channels, lmax, bands
        self.grid = SphereGrid(lmax, nlat=2 * (lmax + 1), nlon=2 * (lmax + 1) + 1)
        self.first = Linear(2 * bands * channels, 2 * bands * channels)
        self.second = Linear(2 * bands * channels, 2 * channels)
        self.third = Linear(2 * channels, channels)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """Coefficients ``[N, (L+1)^2, C]`` of both to the same of the result."""
        both = torch.cat([x, message], dim=2)
        mapped = self._first(both)
        # points are the middle axes of a grid's result; this order of them is the one in which it lies in memory
        points = self.grid.to_grid(mapped).transpose(1, 2)
        points = F.silu(self.second(F.silu(points)))
        return _with_bias(linear(self.grid.from_grid(points.transpose(1, 2)), self.third.weight), self.third.bias)

    def _first(self, both: Tensor) -> Tensor:
        """The first map on coefficients: a degree that lies in several bands sees the sum of their matrices."""
        of_band = self.first.weight.split(2 * self.channels, dim=1)
        parts, start = [], 0
        for highest in range(self.lmax - self.bands + 1, self.lmax + 1):
            stop = (highest + 1) ** 2
            if stop > start:
                matrix = sum(of_band[1 : self.lmax - highest + 1], of_band[0])
                parts.append(linear(both[:, start:stop], matrix))
            start = stop
        return _with_bias(torch.cat(parts, dim=1), self.first.bias)


def _with_bias(x: Tensor, bias: Tensor) -> Tensor:
    """Adds a constant to functions: its only coefficient is that of degree 0, and Y_00 = 1."""
    return torch.cat([x[:, :1] + bias, x[:, 1:]], dim=1)

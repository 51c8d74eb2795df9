"""The grids a compression network can live on, behind one interface: node-major features ``[B, N, C]``."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq.nn import ChebConv, SphereAggregation, SphereShuffle
from geomeq.nn._operator_holder import OperatorHolder
from geomeq.ops.laplacian import rescaled_laplacian
from geomeq.spheres import healpix
from geomeq.spheres.healpix_tables import healpix_neighbours


class OrderedGrid:
    """HEALPix with filters that tell the eight neighbours apart: any resolution, and square patches of it too."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def block(self, in_channels: int, out_channels: int, level: int, hops: int, down: bool = False) -> nn.Module:
        stride = 4 if down else 1
        return SphereAggregation(in_channels, out_channels, hops=hops, stride=stride, **self.options)

    def shuffle(self, level: int) -> nn.Module:
        return SphereShuffle(4)


class IsotropicGrid(OrderedGrid):
    """The same pixels as a graph: Chebyshev filters, which see how far a pixel is but not in which direction.

    Level ``k`` has ``nside / 2^k``.
    """

    def __init__(self, nside: int, K: int) -> None:
        super().__init__()
        self.nside, self.K = nside, K

    def block(self, in_channels: int, out_channels: int, level: int, hops: int, down: bool = False) -> nn.Module:
        nside = self.nside >> level

        def conv(inputs: int, down: bool) -> nn.Module:
            return IsotropicConv(inputs, out_channels, self.K, nside, down)

        return Aggregate(conv, in_channels, out_channels, hops, EveryFourth() if down else None)


class PlaneGrid:
    """Equirectangular images of ``height x 2 height`` pixels, row by row, and plain 3 x 3 convolutions."""

    def __init__(self, height: int) -> None:
        self.height = height

    def block(self, in_channels: int, out_channels: int, level: int, hops: int, down: bool = False) -> nn.Module:
        height = self.height >> level

        def conv(inputs: int, down: bool) -> nn.Module:
            return PlaneConv(inputs, out_channels, height, down)

        return Aggregate(conv, in_channels, out_channels, hops, PlaneThin(height) if down else None)

    def shuffle(self, level: int) -> nn.Module:
        return PlaneShuffle(self.height >> level)


Grid = OrderedGrid | IsotropicGrid | PlaneGrid


class EveryFourth(nn.Module):
    """Keeps the southern child of every pixel, as a convolution of stride 4 does."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., ::4, :]


class IsotropicConv(nn.Module):
    """A Chebyshev filter on the graph of the eight neighbours, weights falling with the distance as in DeepSphere."""

    def __init__(self, in_channels: int, out_channels: int, K: int, nside: int, down: bool) -> None:
        super().__init__()
        self.conv, self.down = ChebConv(in_channels, out_channels, K), down
        neighbour = healpix_neighbours(nside)
        target, slot = (neighbour >= 0).nonzero().T
        edge_index = torch.stack([neighbour[target, slot], target])
        pos = healpix(nside).pos
        square = (pos[edge_index[0]] - pos[target]).square().sum(dim=1)
        self.laplacian = OperatorHolder(rescaled_laplacian(edge_index, torch.exp(-square / square.mean()), len(pos)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x, self.laplacian.like(x))
        return y[..., ::4, :] if self.down else y


class PlaneConv(nn.Module):
    """3 x 3 convolution of an equirectangular image that wraps round in longitude and sees zeros past the poles."""

    def __init__(self, in_channels: int, out_channels: int, height: int, down: bool) -> None:
        super().__init__()
        self.height = height
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2 if down else 1)

    def forward(self, x: Tensor) -> Tensor:
        image = F.pad(to_image(x, self.height), (1, 1, 0, 0), mode="circular")
        return from_image(self.conv(F.pad(image, (0, 0, 1, 1))))


class PlaneThin(nn.Module):
    """Keeps every other row and column."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        return from_image(to_image(x, self.height)[:, :, ::2, ::2])


class PlaneShuffle(nn.Module):
    """Four groups of channels become the four pixels of a square; ``height`` is that of the result."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.height = height

    def forward(self, x: Tensor) -> Tensor:
        return from_image(F.pixel_shuffle(to_image(x, self.height // 2), 2))


def to_image(x: Tensor, height: int) -> Tensor:
    """``[B, H W, C]`` to ``[B, C, H, W]``, in memory channels last."""
    return x.unflatten(1, (height, 2 * height)).permute(0, 3, 1, 2)


def from_image(image: Tensor) -> Tensor:
    """``[B, C, H, W]`` to ``[B, H W, C]``."""
    return image.permute(0, 2, 3, 1).flatten(1, 2)


class Aggregate(nn.Module):
    """What :class:`geomeq.nn.SphereAggregation` is on HEALPix, for other convolutions: one after another, all summed.

    Args:
        conv: Makes a convolution from its input channels and whether it has a stride.
        in_channels: Of the first.
        out_channels: Of every one.
        hops: How many.
        thin: Keeps those nodes of a signal that a stride keeps; ``None``: no stride.
    """

    def __init__(
        self,
        conv: Callable[[int, bool], nn.Module],
        in_channels: int,
        out_channels: int,
        hops: int,
        thin: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [out_channels] * (hops - 1)
        self.convs = nn.ModuleList(conv(c, thin is not None and k == hops - 1) for k, c in enumerate(widths))
        self.thin = nn.Identity() if thin is None else thin

    def forward(self, x: Tensor) -> Tensor:
        *first, last = self.convs
        found = []
        for conv in first:
            x = conv(x)
            found.append(self.thin(x))
        out = last(x)
        for other in found:
            out = out + other
        return out

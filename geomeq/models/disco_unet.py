"""DiscoUNet: a residual U-Net of DISCO convolutions on any chain of samplings of the sphere."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor, nn

from geomeq.spheres import Sampling

from ._disco_parts import ACTS, Parts, ScalarParts, SpinParts
from ._sphere_levels import Level, make_levels, read_samplings
from .deep_sphere import check_channels, read_signal

_CHOICES = {
    "filters": ("isotropic", "directional", "steerable"),
    "upsampling": ("transpose", "interpolation"),
    "nonlinearity": ("fourier", "gate", "norm"),
    "norm": (None, "batch"),
    "act": tuple(ACTS),
}


@dataclass(frozen=True)
class DiscoUNetConfig:
    """Everything that defines a :class:`DiscoUNet`; plain values (but for samplings of one's own), for JSON.

    Attributes:
        samplings: From fine to coarse: ``("healpix", 16)``, ``("gauss_legendre", 32, 64)``, or any
            :class:`geomeq.spheres.Sampling`; kinds may be mixed.
        in_channels: Scalars of the signal.
        out_channels: Of the output: classes, or quantities such as depth.
        channels: On each level; with ``filters="steerable"`` fields of every spin.
        depth: Residual blocks on each side of a level: one number, or one for each level (0: none).
        filters: ``"isotropic"``; ``"directional"``: in the frame of the local meridian, so **not** equivariant to
            rotations, but for those about the poles; ``"steerable"``: spin fields, directional and equivariant.
        spins: Of the features of steerable filters.
        basis: Of isotropic and directional filters, see :class:`~geomeq.nn.DiscoConv`.
        kernel_shape: Rings and directions of the filters; isotropic and steerable ones read the rings only.
        cutoff: Radius of the filters, in spacings of the sampling (:attr:`~geomeq.spheres.Sampling.spacing`); between
            two levels, of the coarser one. Below 4 sums over nodes are poor integrals, and rotations suffer.
        filter_norm: Of isotropic and directional filters, see :class:`~geomeq.nn.DiscoConv`.
        norm: Of features: ``"batch"`` or ``None``.
        act: ``"relu"``, ``"silu"``, ``"gelu"``, ``"tanh"`` or ``"elu"``.
        nonlinearity: Of spin fields: ``"fourier"`` (lift, act, project), ``"gate"`` (gates from the scalars) or
            ``"norm"`` (gates from lengths).
        upsampling: ``"transpose"`` (a learned transposed convolution) or ``"interpolation"`` (linear; scalars only).
    """

    samplings: tuple[Level, ...]
    in_channels: int
    out_channels: int
    channels: tuple[int, ...] = (16, 32, 64)
    depth: int | tuple[int, ...] = 1
    filters: Literal["isotropic", "directional", "steerable"] = "isotropic"
    spins: tuple[int, ...] = (0, 1)
    basis: str = "hann"
    kernel_shape: tuple[int, int] = (3, 3)
    cutoff: float = 4.0
    filter_norm: str = "mean"
    norm: Literal["batch"] | None = "batch"
    act: str = "silu"
    nonlinearity: Literal["fourier", "gate", "norm"] = "fourier"
    upsampling: Literal["transpose", "interpolation"] = "transpose"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        object.__setattr__(self, "samplings", read_samplings(self.samplings))
        for name in ("channels", "spins", "kernel_shape"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_channels(self.channels, self.samplings)
        numbers = (self.in_channels, self.out_channels, *self.channels, *self.kernel_shape)
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in numbers) or len(self.kernel_shape) != 2:
            raise ValueError(f"channels and the two of kernel_shape must be positive integers, got {self}")
        if isinstance(self.depth, list):  # as JSON gives it back
            object.__setattr__(self, "depth", tuple(self.depth))
        depths = self.depths
        if len(depths) != len(self.channels) or any(not isinstance(n, int) or n < 0 for n in depths):
            raise ValueError(
                f"depth must be a number from 0, or one for each of {len(self.channels)} levels, got {self.depth}"
            )
        if not self.cutoff > 0:
            raise ValueError(f"cutoff must be positive, in spacings of the sampling, got {self.cutoff}")
        if self.filters == "steerable":
            self._check_spins()

    def _check_spins(self) -> None:
        if 0 not in self.spins or any(not isinstance(s, int) or s < 0 for s in self.spins):
            raise ValueError(f"spins must hold 0 and other orders from 1, got {self.spins}")
        if len(set(self.spins)) != len(self.spins):
            raise ValueError(f"spins must differ from one another, got {self.spins}")
        if self.upsampling == "interpolation":
            raise ValueError("spin fields lie in frames that differ from node to node; use upsampling='transpose'")

    @property
    def depths(self) -> tuple[int, ...]:
        """Residual blocks on each side of each level."""
        return self.depth if isinstance(self.depth, tuple) else (self.depth,) * len(self.channels)

    def radius(self, s_in: Sampling, s_out: Sampling) -> float:
        """Of the filters from one sampling to another, radians."""
        return min(self.cutoff * max(s_in.spacing, s_out.spacing), 0.99 * math.pi)

    @classmethod
    def published(cls, in_channels: int, out_channels: int, rows: int = 256, **options: Any) -> "DiscoUNetConfig":
        """Four levels of 64 to 512 channels, two blocks each: the default widths of torch-harmonics' spherical U-Net.

        8,520,333 weights with directional filters, 3 channels and 13 classes; 4,356,749 with isotropic ones. (The
        widths of the network of the DISCO paper are not known to us.)

        Args:
            in_channels: Of the signal.
            out_channels: Of the output.
            rows: Of the finest equiangular grid, ``rows x 2 rows``; a multiple of 8.
            options: Any other field.
        """
        grids = tuple(("equiangular", rows >> level, 2 * rows >> level) for level in range(4))
        chosen: dict[str, Any] = {
            "channels": (64, 128, 256, 512),
            "depth": 2,
            "filters": "directional",
            "act": "gelu",
        } | options
        return cls(grids, in_channels, out_channels, **chosen)


class DiscoUNet(nn.Module):
    r"""A residual U-Net of discrete-continuous convolutions, for segmentation and dense regression on the sphere.

    A convolution in; on each level ``depth`` residual blocks (norm, act, convolution, twice, added to the input); a
    convolution straight to the nodes of the next coarser sampling; at the bottom blocks; on the way back a transposed
    convolution, the skip put beside it and mixed, and blocks; norm, act and a convolution out. Filters are functions of
    distance and azimuth, evaluated between any two samplings, so each level may be of any kind.

    Isotropic filters: as equivariant to rotations as sums over nodes are integrals. Directional filters: a function of
    the azimuth from the local meridian, which a rotation does not keep; outputs of a turned input have little to do
    with the turned output. Steerable filters: features of spin m turn with the frames
    (:class:`~geomeq.nn.GaugeConv`), directional and equivariant at once.

    Args:
        config: The network.

    Raises:
        ValueError: If levels do not become coarser, or a cap holds no node.

    Example:
        >>> import torch
        >>> config = DiscoUNetConfig((("healpix", 8), ("healpix", 4)), 3, 5, channels=(8, 16))
        >>> model = DiscoUNet(config)
        >>> model(torch.randn(2, 768, 3)).shape
        torch.Size([2, 768, 5])

    Source: Ocampo, Price and McEwen (2023), https://arxiv.org/abs/2209.13603
    """

    def __init__(self, config: DiscoUNetConfig) -> None:
        super().__init__()
        self.config = config
        samplings = make_levels(config.samplings)
        self.num_nodes = samplings[0].num_nodes
        parts: Parts = (SpinParts if config.filters == "steerable" else ScalarParts)(config, samplings)
        widths, last = config.channels, len(samplings) - 1
        self.stem, self.head = parts.stem(widths[0]), parts.head(widths[0])
        self.down = nn.ModuleList(
            _stage(parts, width, level, config.depths[level]) for level, width in enumerate(widths)
        )
        self.up = nn.ModuleList(_stage(parts, widths[level], level, config.depths[level]) for level in range(last))
        self.coarsen, self.refine, self.merge = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, (few, many) in enumerate(pairwise(widths)):
            self.coarsen.append(nn.Sequential(parts.activation(few), parts.conv(few, many, level, level + 1)))
            self.refine.append(nn.Sequential(parts.activation(many), parts.up(many, few, level + 1)))
            self.merge.append(_Merge(parts, few))
        self.final = parts.activation(widths[0])

    def forward(self, x: Tensor) -> Tensor:
        """One output for each node.

        Args:
            x: ``[B, N, in_channels]`` or ``[N, in_channels]`` on the finest sampling.

        Returns:
            ``[.., N, out_channels]``.

        Raises:
            ValueError: If ``x`` has another number of nodes or channels.
        """
        x, single = read_signal(x, self.num_nodes, self.config.in_channels, self.config.samplings[0])
        x, skips = self.stem(x), []
        for level, stage in enumerate(self.down):
            if level:
                skips.append(x)
                x = self.coarsen[level - 1](x)
            x = stage(x)
        for level in range(len(skips) - 1, -1, -1):
            x = self.up[level](self.merge[level](skips[level], self.refine[level](x)))
        x = self.head(self.final(x))
        return x[0] if single else x

    def __repr__(self) -> str:
        c = self.config
        return (
            f"{type(self).__name__}({c.in_channels} -> {c.out_channels}, channels={c.channels}, filters={c.filters!r}, "
            f"nodes={self.num_nodes})"
        )


class _Block(nn.Module):
    """Norm, act, convolution, twice, added to the input."""

    def __init__(self, parts: Parts, width: int, level: int) -> None:
        super().__init__()
        layers = [(parts.activation(width), parts.conv(width, width, level, level)) for _ in range(2)]
        self.layers = nn.Sequential(*(layer for pair in layers for layer in pair))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class _Merge(nn.Module):
    """A skip and what came up, mixed at each node: one map for each, added (as one map of both side by side)."""

    def __init__(self, parts: Parts, width: int) -> None:
        super().__init__()
        self.skip, self.below = parts.linear(width, width), parts.linear(width, width)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        return self.skip(skip) + self.below(below)


def _stage(parts: Parts, width: int, level: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(parts, width, level) for _ in range(depth)))

"""Harmonic networks: equivariant to turns by any angle, on images, points and meshes."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeConv, GaugeConv2d, GaugePool, GaugePool2d, NormReLU, SO2BatchNorm

from ._graphs import check_data, coarse_batch, means_of_graphs

_CHOICES = {
    "norm": ("every", "block"),
    "domain": ("image", "graph"),
    "pool": ("antialiased", "mean", "levels", "none"),
    "readout": ("mean", "none"),
}


@dataclass(frozen=True)
class HarmonicNetConfig:
    """Everything that defines a :class:`HarmonicNet`; plain values, so it can be saved as JSON.

    Attributes:
        types_in: Type of the input; C channels of an image are ``"Cx0"``.
        num_classes: Number of logits.
        domain: ``"image"`` (conv2d) or ``"graph"`` (points, meshes, spheres).
        channels: Fields of each order, one number per block.
        max_order: Features have the orders 0 to this one.
        convs: Convolutions per block, each but the last followed by the non-linearity.
        norm: Which convolutions have a batch norm: ``"every"``, or, as published, the last of each ``"block"``.
        kernel_size: Width of the window, images only.
        rings: Radial profiles of each filter.
        cutoff: Radius of the filters, one number or one per block: in pixels of the block (images; default half the
            window), or in the unit of ``polar`` (graphs, needed).
        antialias: Filters sampled on circles, as published; images only.
        basis: Radial profiles otherwise, ``"hat"`` or ``"smooth"``.
        weight: Weights of neighbours, graphs only.
        pool: Between blocks. Images: ``"antialiased"``, ``"mean"`` (2 x 2, as published) or ``"none"``. Graphs:
            ``"levels"`` of ``transforms.MultiScale``, or ``"none"``.
        mask: Whether everything outside of the inscribed disc is set to zero, in the image and after every layer: no
            turn but quarter turns leaves the corners and sides of a square alone. Images only.
        readout: ``"mean"`` over the image or graph, or ``"none"``: logits of every pixel or node.
    """

    types_in: str = "1x0"
    num_classes: int = 10
    domain: Literal["image", "graph"] = "image"
    channels: tuple[int, ...] = (8, 16, 32)
    max_order: int = 1
    convs: int = 2
    norm: Literal["every", "block"] = "every"
    kernel_size: int = 5
    rings: int = 2
    cutoff: float | tuple[float, ...] | None = None
    antialias: bool = False
    basis: Literal["hat", "smooth"] = "smooth"
    weight: str = "auto"
    pool: Literal["antialiased", "mean", "levels", "none"] = "antialiased"
    mask: bool = False
    readout: Literal["mean", "none"] = "mean"

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        for name in ("channels", "cutoff"):  # as JSON gives it back
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.channels or min(self.channels) < 1 or self.convs < 1 or self.max_order < 0:
            raise ValueError(
                f"channels must hold positive numbers, convs be at least 1 and max_order at least 0, got "
                f"{self.channels}, {self.convs}, {self.max_order}"
            )
        self._check_domain()

    def _check_domain(self) -> None:
        fits = ("antialiased", "mean", "none") if self.domain == "image" else ("levels", "none")
        if self.pool not in fits:
            raise ValueError(f"pool={self.pool!r} does not go with domain={self.domain!r}; use one of {fits}")
        if self.domain == "graph" and (self.cutoff is None or self.antialias or self.mask):
            raise ValueError(
                "domain='graph' needs cutoff, antialias=False and mask=False, got "
                f"cutoff={self.cutoff}, antialias={self.antialias}, mask={self.mask}"
            )
        if isinstance(self.cutoff, tuple) and len(self.cutoff) != len(self.channels):
            raise ValueError(f"cutoff must be one number or one per block ({len(self.channels)}), got {self.cutoff}")

    @classmethod
    def mnist_rot(cls, **options: object) -> "HarmonicNetConfig":
        """The published network for rotated digits of 28 x 28 pixels: seven convolutions of size 5, orders 0 and 1."""
        return cls(**{"norm": "block", "antialias": True, "pool": "mean", **options})  # type: ignore[arg-type]

    @classmethod
    def graph(cls, cutoff: float | tuple[float, ...], **options: object) -> "HarmonicNetConfig":
        """The same on the edges of ``transforms.PlaneGauge`` or ``MeshGauge``, by default without pooling."""
        made = {"domain": "graph", "cutoff": cutoff, "pool": "none", **options}
        return cls(**made)  # type: ignore[arg-type]

    def cutoffs(self) -> tuple[float | None, ...]:
        """One per block."""
        return self.cutoff if isinstance(self.cutoff, tuple) else (self.cutoff,) * len(self.channels)


class HarmonicNet(nn.Module):
    r"""Blocks of harmonic convolutions, then logits that do not see turns.

    Feature maps of order m are multiplied by :math:`e^{i m \theta}` when the input turns by :math:`\theta`. A block has
    convolutions, each followed by :class:`~geomeq.nn.SO2BatchNorm` and :class:`~geomeq.nn.NormReLU`; between blocks the
    size is halved by averages. The last convolution gives each class one field of every order; its logit is
    the mean over space of :math:`z_0 + \sum_{m \geq 1} |z_m|`, plus a bias.

    On images (``domain="image"``) the layers are conv2ds: logits are exactly invariant under quarter turns (at sizes
    that the pooling covers, see :class:`~geomeq.nn.GaugePool2d`), and nearly under all others. On points of the plane
    (``domain="graph"``, after ``transforms.PlaneGauge``) they are invariant under all turns to rounding; on meshes
    (``MeshGauge``) and spheres they do not depend on frames. All have the same parameters, and without ``antialias``
    and pooling a network trained on images runs on points.

    Args:
        config: The network.

    Example:
        >>> model = HarmonicNet(HarmonicNetConfig.mnist_rot()).eval()
        >>> image = torch.randn(2, 1, 28, 28)
        >>> torch.allclose(model(image), model(image.rot90(1, (-2, -1))), atol=1e-5)
        True

    Source: Worrall, Garbin, Turmukhambetov, Brostow (2017), https://arxiv.org/abs/1612.04642.
    """

    def __init__(self, config: HarmonicNetConfig) -> None:
        super().__init__()
        self.config = config
        types = [SO2Irreps(config.types_in), *(SO2Irreps.band(c, config.max_order) for c in config.channels)]
        pairs = zip(pairwise(types), config.cutoffs(), strict=True)
        self.blocks = nn.ModuleList(_Block(config, *pair, cutoff) for pair, cutoff in pairs)
        made = zip(types[1:-1], strict=True)
        self.pools = nn.ModuleList(_pool(config, kind) for (kind,) in made) if config.pool != "none" else None
        self.types_out = SO2Irreps.band(config.num_classes, config.max_order)
        self.last = _convolution(config, types[-1], self.types_out, config.cutoffs()[-1], bias=False)
        self.bias = nn.Parameter(torch.zeros(config.num_classes))

    def forward(self, data: Tensor | Data) -> Tensor:
        """Logits.

        Args:
            data: Images ``[B, C, H, W]``, or a ``Data`` or ``Batch``: with ``image`` (``[C, H, W]`` of each sample), or
                on a graph with ``x`` ``[N, types_in.dim]``, ``edge_index``, ``polar``, ``transport``, if there is one
                ``area``, and the levels of ``MultiScale`` with ``pool="levels"``.

        Returns:
            ``[B, num_classes]``; with ``readout="none"`` ``[B, num_classes, H', W']`` or ``[N', num_classes]``.

        Raises:
            ValueError: If the input has another type than the model, or lacks an attribute.
        """
        return self._on_images(data) if self.config.domain == "image" else self._on_graph(data)

    def _on_images(self, data: Tensor | Data) -> Tensor:
        x = read_images(data, self.types_in.dim)
        disc = _disc(x) if self.config.mask else None
        x = x if disc is None else x * disc
        for number, block in enumerate(self.blocks):
            if number and self.pools is not None:
                x = self.pools[number - 1](x)
                disc = _disc(x) if self.config.mask else None
            x = block(x, mask=disc)
        logits = self._logits(self.last(x).movedim(1, -1))
        if self.config.readout == "none":
            return logits.movedim(-1, 1)
        return logits.mean((1, 2)) if disc is None else torch.einsum("bhwc,hw->bc", logits, disc / disc.sum())

    def _on_graph(self, data: Tensor | Data) -> Tensor:
        check_data(data)
        assert isinstance(data, Data), "check_data lets nothing else through"
        x, edges = data.x, read_edges(data, 0)
        check_shape("data.x", x, "N", self.types_in.dim, hint=f"the model reads {self.config.types_in}")  # type: ignore[arg-type]
        x = x.to(self.bias.dtype)  # type: ignore[union-attr]
        batch = data.get("batch")
        for number, block in enumerate(self.blocks):
            if number and self.pools is not None:
                x, batch = self._coarser(data, number, x, batch)  # type: ignore[arg-type]
                edges = read_edges(data, number)
            x = block(x, *edges)
        logits = self._logits(self.last(x, *edges))
        return means_of_graphs(logits, data, batch) if self.config.readout == "mean" else logits

    def _coarser(self, data: Data, level: int, x: Tensor, batch: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if data.get(f"pool_index_{level}") is None:
            raise ValueError(f"data has no level {level}; apply transforms.MultiScale, or use pool='none'")
        index, transport = data[f"pool_index_{level}"], data[f"pool_transport_{level}"]
        count = data[f"pos_{level}"].size(0)
        if batch is not None:
            batch = coarse_batch(batch, index, count)
        assert self.pools is not None
        return self.pools[level - 1](x, index, transport, count), batch

    @property
    def types_in(self) -> SO2Irreps:
        """Type of the input."""
        return SO2Irreps(self.config.types_in)

    def _logits(self, z: Tensor) -> Tensor:
        """Sum over orders of invariants, ``[..., num_classes]``: order 0 itself, lengths of the others."""
        scalars, *others = self.types_out.split(z)
        logits = scalars.squeeze(-1) + self.bias
        for field in others:
            logits = logits + (field.square().sum(-1) + 1e-12).sqrt()  # its gradient is finite at 0
        return logits


class _Block(nn.Module):
    """Convolutions of one width, each with a norm (or the last only) and a non-linearity."""

    def __init__(
        self, config: HarmonicNetConfig, types_in: SO2Irreps, types_out: SO2Irreps, cutoff: float | None
    ) -> None:
        super().__init__()
        widths = pairwise([types_in] + [types_out] * config.convs)
        self.convs = nn.ModuleList(_convolution(config, *pair, cutoff) for pair in widths)
        last = config.convs - 1
        self.norms = nn.ModuleList(
            SO2BatchNorm(types_out) if config.norm == "every" or i == last else nn.Identity() for i in range(last + 1)
        )
        self.acts = nn.ModuleList(NormReLU(types_out) for _ in range(config.convs))
        self.axis = 1 if config.domain == "image" else -1

    def forward(self, x: Tensor, *edges: Tensor | None, mask: Tensor | None = None) -> Tensor:
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = act(norm(conv(x, *edges).movedim(self.axis, -1))).movedim(-1, self.axis)
            x = x if mask is None else x * mask
        return x


def _convolution(
    config: HarmonicNetConfig, types_in: SO2Irreps, types_out: SO2Irreps, cutoff: float | None, bias: bool = True
) -> GaugeConv:
    if config.domain == "graph":
        return GaugeConv(types_in, types_out, config.rings, cutoff, config.weight, config.basis, bias=bias)
    return GaugeConv2d(
        types_in,
        types_out,
        config.kernel_size,
        config.rings,
        cutoff,
        basis=config.basis,
        bias=bias,
        antialias=config.antialias,
    )


def _pool(config: HarmonicNetConfig, types: SO2Irreps) -> nn.Module:
    return GaugePool(types) if config.domain == "graph" else GaugePool2d(types, kind=config.pool)


def read_images(data: Tensor | Data, channels: int) -> Tensor:
    """The images of a tensor ``[B, C, H, W]``, or of the attribute ``image`` of a ``Data``."""
    hint = f"the model has {channels} channels in"
    if isinstance(data, Tensor):
        check_shape("image", data, "B", channels, "H", "W", hint=hint)
        return data
    image = data.get("image")
    if image is None:
        raise ValueError(f"data has no image, only {sorted(data.keys())}; set data.image = [C, H, W]")
    image = image.reshape(-1, channels, *image.shape[-2:]) if image.dim() == 3 else image
    check_shape("data.image", image, "B", channels, "H", "W", hint=hint)
    return image


def read_edges(data: Data, level: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """``edge_index``, ``polar``, ``transport`` and ``area`` (if there is one) of a level."""
    end = f"_{level}" if level else ""
    missing = [name for name in ("edge_index", "polar", "transport") if data.get(name + end) is None]
    if missing:
        raise ValueError(
            f"data has no {missing[0] + end}; apply transforms.PlaneGauge, MeshGauge or SphereGauge"
            + (", in transforms.MultiScale" if level else "")
        )
    return data["edge_index" + end], data["polar" + end], data["transport" + end], data.get("area" + end)


def _disc(x: Tensor) -> Tensor:
    """1 within the disc that touches the sides of the image, 0 outside, in between at its rim, ``[H, W]``."""
    height, width = x.shape[-2:]
    row = torch.arange(height, dtype=x.dtype, device=x.device) - (height - 1) / 2
    column = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    r = (row[:, None].square() + column.square()).sqrt()
    return (min(height, width) / 2 + 0.5 - r).clamp(0, 1)

"""GEM-CNN: gauge-equivariant networks on meshes and every other surface."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps
from geomeq.nn import GaugeLinear, GaugePlan, GaugePool, GaugeResBlock, GaugeUnpool
from geomeq.nn._so2 import layout, length, split
from geomeq.nn.gauge_res_block import LAYERS, NONLINEARITIES, NORMS

from ._graphs import check_data, coarse_batch, means_of_graphs

_CHOICES = {"task": ("graph", "node"), "layer": LAYERS, "nonlinearity": NONLINEARITIES, "norm": NORMS}


@dataclass(frozen=True)
class GEMCNNConfig:
    """Everything that defines a :class:`GEMCNN`; plain values, so it can be saved as JSON.

    Attributes:
        types_in: Type of ``data.x``, such as ``"3x0"`` or what ``GaugeFeatures`` wrote.
        types_out: Type of the output. Orders 0 only (``"40x0"``: classes, values) are read from invariants; with other
            orders (``"1x1"``: a tangent vector per vertex) the output is in the frames of the nodes.
        task: ``"graph"`` (one output per surface) or ``"node"`` (one per vertex).
        channels: Fields of every order: one number, or one per level.
        max_order: Largest order of the hidden features; 0 is an isotropic network.
        num_blocks: Residual blocks on each level (and on the way up).
        num_levels: 1, or the levels of ``MultiScale``: a U-Net for nodes, its descending half for graphs.
        rings: Radial profiles of each kernel.
        cutoff: Radius of the kernels, in the unit of ``pos``; one per level, or one for all. ``None`` with one ring.
        weight: Weights of neighbours, see :class:`~geomeq.nn.GaugePlan`.
        layer: ``"conv"`` or ``"attention"``.
        heads: Of the attention.
        nonlinearity: ``"fourier"``, ``"norm_gate"``, ``"scalar_gate"`` or ``"norm_relu"``.
        act: Its function.
        samples: Of ``"fourier"``; by default exact to rounding.
        norm: ``None``, ``"batch"`` or ``"samples"``.
        head: Width of the layer between invariants and output; 0 leaves it out.
        dropout: Before the last layer, and of whole fields within blocks.
    """

    types_in: str
    types_out: str
    task: Literal["graph", "node"] = "node"
    channels: int | tuple[int, ...] = 16
    max_order: int = 2
    num_blocks: int = 3
    num_levels: int = 1
    rings: int = 1
    cutoff: float | tuple[float, ...] | None = None
    weight: str = "auto"
    layer: Literal["conv", "attention"] = "conv"
    heads: int = 1
    nonlinearity: Literal["fourier", "norm_gate", "scalar_gate", "norm_relu"] = "fourier"
    act: str = "silu"
    samples: int | None = None
    norm: Literal["batch", "samples"] | None = None
    head: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        for name in ("types_in", "types_out"):
            object.__setattr__(self, name, str(SO2Irreps(getattr(self, name))))
        if self.task == "graph" and SO2Irreps(self.types_out).max_order > 0:
            raise ValueError(
                f"types_out={self.types_out} has orders above 0, which live in the frame of a node; task='graph' has "
                "none: use orders 0, or task='node'"
            )
        if self.num_levels < 1 or self.num_blocks < 1 or self.max_order < 0 or self.head < 0:
            raise ValueError("num_levels and num_blocks must be at least 1, max_order and head not negative")
        for name in ("channels", "cutoff"):
            value = getattr(self, name)
            if isinstance(value, (tuple, list)):
                object.__setattr__(self, name, tuple(value))
                if len(value) != self.num_levels:
                    raise ValueError(f"{name} must be one number or one per level ({self.num_levels}), got {value}")
        if min(self.channels if isinstance(self.channels, tuple) else (self.channels,)) < 1:
            raise ValueError(f"channels must be at least 1, got {self.channels}")

    @classmethod
    def faust_direct(cls, num_vertices: int = 6890, **options: Any) -> "GEMCNNConfig":
        """The published network for correspondence on FAUST: three blocks on one scale, positions in.

        Positions are read as scalars, so this one (only) depends on the pose of the body in space. ReLU on 7 samples is
        as published and leaves a gauge error of several per cent; ``act="silu", samples=None`` removes it.
        """
        made = {"types_in": "3x0", "rings": 2, "cutoff": 0.06, "act": "relu", "samples": 7, "weight": "mean"}
        return cls(**{**made, "types_out": f"{num_vertices}x0", "dropout": 0.5, **options})  # type: ignore[arg-type]

    @classmethod
    def faust_unet(cls, num_vertices: int = 6890, **options: Any) -> "GEMCNNConfig":
        """The published network of three scales: ``MultiScale(ratios=(0.25, 0.25))``, ``GaugeFeatures("matrix")``."""
        made = {"types_in": "7x0+4x1+3x2", "num_blocks": 1, "num_levels": 3, "rings": 2, "act": "relu", "samples": 7}
        made |= {"cutoff": (0.05, 0.14, 0.28), "weight": "mean", "types_out": f"{num_vertices}x0", "dropout": 0.5}
        return cls(**{**made, **options})  # type: ignore[arg-type]

    def types_of(self, level: int) -> SO2Irreps:
        """Type of the hidden features of a level."""
        width = self.channels if isinstance(self.channels, int) else self.channels[level]
        return SO2Irreps.band(width, self.max_order)

    def cutoff_of(self, level: int) -> float | None:
        """Radius of the kernels of a level."""
        return self.cutoff[level] if isinstance(self.cutoff, tuple) else self.cutoff


class GEMCNN(nn.Module):
    r"""Gauge-equivariant network on surfaces: residual blocks on one scale, or a U-Net on several.

    Reads ``x`` ``[N, types_in.dim]`` (or ``[B, N, types_in.dim]`` on one surface), ``edge_index``, ``polar``,
    ``transport``, ``area`` where there is one, and ``batch``: what ``MeshGauge``, ``PlaneGauge`` and ``SphereGauge``
    write; with several levels what ``MultiScale`` writes. Invariants (order 0, and the length of every other field) are
    read out by an ordinary network, so that nothing depends on the frames. Means over surfaces are weighted by area.

    Args:
        config: The network.

    Example:
        >>> model = GEMCNN(GEMCNNConfig("1x0", "4x0", channels=4, num_blocks=1, head=8))
        >>> data = Data(x=torch.ones(2, 1), edge_index=torch.tensor([[1, 0], [0, 1]]))
        >>> data.polar, data.transport = torch.ones(2, 2), torch.zeros(2)
        >>> model(data).shape
        torch.Size([2, 4])

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425
    """

    def __init__(self, config: GEMCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.types_in, self.types_out = SO2Irreps(config.types_in), SO2Irreps(config.types_out)
        self._dim, self._hint = self.types_in.dim, f"types_in of the config is {config.types_in}"
        levels = [config.types_of(level) for level in range(config.num_levels)]
        before = [self.types_in, *levels]
        self.down = nn.ModuleList(_stage(config, before[k], levels[k], k) for k in range(config.num_levels))
        self.pools = nn.ModuleList(GaugePool(types) for types in levels[:-1])
        climbs = config.num_levels > 1 and config.task == "node"
        self.unpools = nn.ModuleList(GaugeUnpool(types) for types in levels[1:]) if climbs else None
        joined = [fine + coarse for fine, coarse in pairwise(levels)]
        self.up = (
            nn.ModuleList(_stage(config, types, levels[k], k) for k, types in enumerate(joined)) if climbs else None
        )
        last = levels[0] if config.task == "node" else levels[-1]
        self.head = _Head(last, self.types_out, config.head, config.dropout)

    def forward(self, data: Data) -> Tensor:
        """Predicts.

        Args:
            data: A ``Data`` or ``Batch``, see the class.

        Returns:
            ``[N, types_out.dim]`` or ``[num_graphs, types_out.dim]``, by the task; ``B`` of them where ``x`` has a
            batch axis.

        Raises:
            ValueError: If an attribute is missing or its shape does not fit the config.
        """
        x, levels = self._features(data), range(self.config.num_levels)
        surfaces = [_surface(data, level) for level in levels]
        skips: list[Tensor] = []
        plans: list[GaugePlan] = []
        for level in levels:
            if level > 0:
                skips.append(x)
                x = self.pools[level - 1](x, *_pooling(data, level), surfaces[level - 1].get("area"))
            stage = self.down[level]
            assert isinstance(stage, _Stage)
            plans.append(stage.prepare(x, surfaces[level]))
            x = stage(x, plans[level])
        if self.config.task == "graph":
            means = _graph_means(self.head.invariants(x), data, surfaces[-1].get("area"), self.config.num_levels)
            return self.head.read(means)
        if self.up is not None and self.unpools is not None:
            for level in reversed(levels[:-1]):
                above = self.unpools[level](x, *_pooling(data, level + 1))
                x = self.up[level](torch.cat([skips[level], above], dim=-1), plans[level])
        return self.head(x)  # type: ignore[no-any-return]

    def _features(self, data: Data) -> Tensor:
        check_data(data)
        x = data.get("x")
        if x is None:
            raise ValueError(f"data has no x [N, {self._dim}]; {self._hint}; GaugeFeatures makes some from geometry")
        check_shape("x", x, "...", "N", self._dim, hint=self._hint)
        weight = next(self.parameters())
        if x.device != weight.device:
            raise ValueError(
                f"data is on {x.device}, the model on {weight.device}; move one: data.to('{weight.device}')"
            )
        return x.to(weight.dtype)


def _stage(config: GEMCNNConfig, types_in: SO2Irreps, types: SO2Irreps, level: int) -> "_Stage":
    return _Stage(config, types_in, types, config.cutoff_of(level))


class _Stage(nn.Module):
    """Blocks on one level, which share one plan of its geometry."""

    def __init__(self, config: GEMCNNConfig, types_in: SO2Irreps, types: SO2Irreps, cutoff: float | None) -> None:
        super().__init__()
        self.types_in, self.types_out = types_in, types
        self.blocks = nn.ModuleList(
            GaugeResBlock(
                types_in if k == 0 else types,
                types,
                layer=config.layer,
                rings=config.rings,
                cutoff=cutoff,
                weight=config.weight,
                nonlinearity=config.nonlinearity,
                act=config.act,
                samples=config.samples,
                norm=config.norm,
                dropout=config.dropout,
                layer_options={"heads": config.heads} if config.layer == "attention" else None,
            )
            for k in range(config.num_blocks)
        )

    def prepare(self, x: Tensor, surface: dict[str, Tensor]) -> GaugePlan:
        block = self.blocks[0]
        assert isinstance(block, GaugeResBlock)
        return block.prepare(x, surface["edge_index"], surface["polar"], surface["transport"], surface.get("area"))

    def forward(self, x: Tensor, plan: GaugePlan) -> Tensor:
        for block in self.blocks:
            x = block(x, plan)
        return x


class _Head(nn.Module):
    """From features of the last layer to the output: through invariants, or by a map that keeps orders."""

    def __init__(self, types: SO2Irreps, types_out: SO2Irreps, width: int, dropout: float) -> None:
        super().__init__()
        self._blocks = layout(types)
        self.fields = GaugeLinear(types, types_out) if types_out.max_order > 0 else None
        invariants, out = types.num_fields, types_out.dim
        layers: list[nn.Module] = [nn.Linear(invariants, width), nn.SiLU()] if width else []
        self.mlp = (
            nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(width or invariants, out))
            if self.fields is None
            else None
        )

    def invariants(self, x: Tensor) -> Tensor:
        """Fields of order 0 and the lengths of all others, ``[..., num_fields]``."""
        parts = split(x, self._blocks)
        return torch.cat(
            [(length(z) if b.order else z).squeeze(-1) for b, z in zip(self._blocks, parts, strict=True)], dim=-1
        )

    def forward(self, x: Tensor) -> Tensor:
        """Reads out the features of nodes."""
        return self.fields(x) if self.fields is not None else self.read(self.invariants(x))  # type: ignore[no-any-return]

    def read(self, invariants: Tensor) -> Tensor:
        """Reads out invariants."""
        assert self.mlp is not None
        return self.mlp(invariants)  # type: ignore[no-any-return]


def _surface(data: Data, level: int) -> dict[str, Tensor]:
    """The geometry of one level by its usual names."""
    found = {}
    for name in ("edge_index", "polar", "transport", "area"):
        key = name if level == 0 else f"{name}_{level}"
        value = data.get(key)
        if value is not None:
            found[name] = value
        elif name != "area":
            raise ValueError(f"data has no {key}, only {sorted(data.keys())}; {_advice(level)}")
    return found


def _pooling(data: Data, level: int) -> tuple[Tensor, Tensor, int]:
    """Coarse node of each node of the level below, the angle into its frame, and how many there are."""
    index, angle, pos = (data.get(f"{name}_{level}") for name in ("pool_index", "pool_transport", "pos"))
    if index is None or angle is None or pos is None:
        raise ValueError(f"data has no pool_index_{level}, pool_transport_{level} and pos_{level}; {_advice(level)}")
    return index, angle, pos.size(0)


def _advice(level: int) -> str:
    if level == 0:
        return "apply transforms.MeshGauge, PlaneGauge or SphereGauge"
    return "apply transforms.MultiScale with a ratio for each further level"


def _graph_means(x: Tensor, data: Data, area: Tensor | None, num_levels: int) -> Tensor:
    """Means over the nodes of each graph on the coarsest level, weighted by area."""
    batch = data.get("batch")
    for level in range(1, num_levels):
        index, _, coarse = _pooling(data, level)
        batch = None if batch is None else coarse_batch(batch, index, coarse)
    return means_of_graphs(x, data, batch, area)

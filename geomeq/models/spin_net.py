"""SpinNet: networks of spin-weighted fields on the sphere, for any sampling."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps
from geomeq.nn import (
    FourierNonlinearity,
    GaugeConv,
    GaugeLinear,
    GaugePool,
    GaugeUnpool,
    NormGate,
    NormReLU,
    SO2BatchNorm,
)

from ._graphs import check_data, means_of_graphs

_CHOICES = {
    "nonlinearity": ("fourier", "gate", "norm", "normrelu", "none"),
    "norm": (None, "batch"),
    "task": ("node", "graph"),
}
_LEVEL = ("edge_index", "polar", "transport", "area")


@dataclass(frozen=True)
class SpinNetConfig:
    """Everything that defines a :class:`SpinNet`; plain values, so it can be saved as JSON.

    Attributes:
        types_in: Type of ``data.x``, such as ``"2x0+3x1"``: scalars and tangent vectors.
        types_out: Type of the output.
        cutoff: Radius of the kernels, radians: three to four node spacings. A tuple has one for each level.
        types_hidden: Type of the hidden features.
        num_blocks: Residual blocks between the first and the last convolution (on each side of each level).
        rings: Radial profiles of each kernel.
        nonlinearity: ``"fourier"`` (lift, act, project), ``"gate"`` (gates from the scalars), ``"norm"`` (gates from
            lengths), ``"normrelu"``, or ``"none"`` for a linear network.
        act: Function of the non-linearity, such as ``"silu"``.
        samples: Angles of ``"fourier"``; default: as many as are exact to rounding.
        norm: ``None`` or ``"batch"``.
        residual: Whether blocks add to their input.
        self_interaction: Whether convolutions have a term of the node itself.
        task: ``"node"``: one output per node; ``"graph"``: the mean over the sphere, weighted by area.
        levels: Grids from fine to coarse, those of ``transforms.MultiScale``; with more than one an encoder and a
            decoder with skips.
    """

    types_in: str
    types_out: str
    cutoff: float | tuple[float, ...]
    types_hidden: str = "16x0+16x1"
    num_blocks: int = 2
    rings: int = 3
    nonlinearity: Literal["fourier", "gate", "norm", "normrelu", "none"] = "fourier"
    act: str = "silu"
    samples: int | None = None
    norm: Literal["batch"] | None = None
    residual: bool = True
    self_interaction: bool = True
    task: Literal["node", "graph"] = "node"
    levels: int = 1

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name in ("types_in", "types_out", "types_hidden"):
            object.__setattr__(self, name, str(SO2Irreps(getattr(self, name))))
        if self.num_blocks < 0 or self.levels < 1 or self.rings < 1:
            raise ValueError(
                f"num_blocks must not be negative, rings and levels must be at least 1, got num_blocks="
                f"{self.num_blocks}, rings={self.rings}, levels={self.levels}"
            )
        if isinstance(self.cutoff, list):  # as JSON gives it back
            object.__setattr__(self, "cutoff", tuple(self.cutoff))
        if len(self.cutoffs) != self.levels:
            raise ValueError(f"cutoff must have one entry for each of {self.levels} levels, got {self.cutoff}")
        if self.task == "graph" and SO2Irreps(self.types_out).max_order > 0:
            raise ValueError(f"task='graph' averages over nodes, so outputs must be scalars, got {self.types_out}")

    @property
    def cutoffs(self) -> tuple[float, ...]:
        """The radius on each level; a single number doubles from level to level."""
        if isinstance(self.cutoff, tuple):
            return self.cutoff
        return tuple(self.cutoff * 2**level for level in range(self.levels))


class SpinNet(nn.Module):
    r"""Convolutions of spin-weighted fields on the sphere, equivariant to its rotations.

    Features of order m are spin fields: :math:`f \to e^{-i m \psi} f` when the frame at a node turns by
    :math:`\psi`. Every layer is exactly equivariant to changes of frames, whatever the points are. Rotations of the
    signal are as exact as the quadrature, the sum over nodes weighted by area: kernels are functions of the distance
    (smooth, zero at the cut-off) times :math:`e^{i q a}`, evaluated at the nodes.

    One convolution, ``num_blocks`` residual blocks of non-linearity and convolution, and one convolution to the output.
    Lift, act, project (``nonlinearity="fourier"``): at each node the orders of a channel are the Fourier coefficients
    of a function on the circle of directions, which is sampled, activated and transformed back.

    A network of scalars and vectors cannot know where north is unless an input says so, such as the latitude.

    Args:
        config: The network.

    Example:
        >>> model = SpinNet(SpinNetConfig("1x0", "1x0+1x1", cutoff=0.5, types_hidden="4x0+4x1", num_blocks=1))
        >>> model
        SpinNet(1x0 -> 1x0+1x1, hidden=4x0+4x1, blocks=1, cutoff=0.5, nonlinearity='fourier')

    Source: Xu et al. (2022), https://arxiv.org/abs/2206.08362, for kernels and the non-linearity; Esteves et al.
    (2020), https://arxiv.org/abs/2006.10731, for spin-weighted networks (there spectral).
    """

    def __init__(self, config: SpinNetConfig) -> None:
        super().__init__()
        self.config = config
        hidden, last = config.types_hidden, config.levels - 1
        self.first = self._conv(config.types_in, hidden, 0)
        self.down = nn.ModuleList(self._blocks(level) for level in range(config.levels))
        self.up = nn.ModuleList(self._blocks(level) for level in range(last))
        self.merge = nn.ModuleList(GaugeLinear(f"{hidden}+{hidden}", hidden) for _ in range(last))
        self.pool, self.unpool = GaugePool(hidden), GaugeUnpool(hidden)
        self.final = nn.Sequential(*_activation(config))
        self.last = self._conv(hidden, config.types_out, 0)

    def _conv(self, types_in: str, types_out: str, level: int) -> GaugeConv:
        config = self.config
        return GaugeConv(
            types_in,
            types_out,
            rings=config.rings,
            cutoff=config.cutoffs[level],
            weight="integral",
            basis="smooth",
            self_interaction=config.self_interaction,
        )

    def _blocks(self, level: int) -> nn.ModuleList:
        hidden = self.config.types_hidden
        return nn.ModuleList(
            _Block(self.config, self._conv(hidden, hidden, level)) for _ in range(self.config.num_blocks)
        )

    def forward(self, data: Data) -> Tensor:
        """Features of all nodes, or of each graph.

        Args:
            data: With what ``transforms.SphereGauge`` writes (for several levels ``transforms.MultiScale``) and
                ``x`` ``[N, types_in.dim]``, or ``[B, N, types_in.dim]`` on one shared graph; for ``task="graph"`` and
                PyG batches also ``batch``.

        Returns:
            ``[N, types_out.dim]`` or ``[B, N, types_out.dim]`` in the frames of the nodes; for ``task="graph"``
            ``[num_graphs, types_out.dim]`` or ``[B, types_out.dim]``.

        Raises:
            ValueError: If an attribute is missing or has a wrong shape.
        """
        check_data(data)
        grids = [_grid(data, level) for level in range(self.config.levels)]
        dim = SO2Irreps(self.config.types_in).dim
        hint = f"the model has types_in={self.config.types_in}"
        check_shape("data.x", data.x, "...", "N", dim, hint=hint)
        x = data.x.to(self.first.weight.dtype)  # type: ignore[union-attr]
        x = self._encode(self.first(x, *grids[0]), data, grids)
        x = self.last(self.final(x), *grids[0])
        return x if self.config.task == "node" else means_of_graphs(x, data, data.get("batch"), data.area)

    def _encode(self, x: Tensor, data: Data, grids: list[list[Tensor]]) -> Tensor:
        skips = []
        for level, blocks in enumerate(self.down):
            if level:
                skips.append(x)
                index, transport = _pooling(data, level)
                x = self.pool(x, index, transport, len(grids[level][3]), grids[level - 1][3])
            x = _run(blocks, x, grids[level])
        for level in reversed(range(len(self.up))):
            index, transport = _pooling(data, level + 1)
            x = torch.cat([skips.pop(), self.unpool(x, index, transport)], dim=-1)
            x = _run(self.up[level], self.merge[level](x), grids[level])
        return x

    def __repr__(self) -> str:
        c = self.config
        levels = f", levels={c.levels}" if c.levels > 1 else ""
        return (
            f"{type(self).__name__}({c.types_in} -> {c.types_out}, hidden={c.types_hidden}, blocks={c.num_blocks}, "
            f"cutoff={c.cutoff}, nonlinearity={c.nonlinearity!r}{levels})"
        )


class _Block(nn.Module):
    """Norm, non-linearity and convolution, added to the input."""

    def __init__(self, config: SpinNetConfig, conv: GaugeConv) -> None:
        super().__init__()
        self.act, self.conv, self.residual = nn.Sequential(*_activation(config)), conv, config.residual

    def forward(self, x: Tensor, grid: list[Tensor]) -> Tensor:
        y = self.conv(self.act(x), *grid)
        return x + y if self.residual else y


def _run(blocks: nn.Module, x: Tensor, grid: list[Tensor]) -> Tensor:
    for block in blocks.children():
        x = block(x, grid)
    return x


def _activation(config: SpinNetConfig) -> list[nn.Module]:
    types = config.types_hidden
    norm: list[nn.Module] = [SO2BatchNorm(types)] if config.norm == "batch" else []
    if config.nonlinearity == "fourier":
        return [*norm, FourierNonlinearity(types, config.act, samples=config.samples)]
    if config.nonlinearity in ("gate", "norm"):
        return [*norm, NormGate(types, "scalars" if config.nonlinearity == "gate" else "norm", config.act)]
    return [*norm, NormReLU(types)] if config.nonlinearity == "normrelu" else norm


def _grid(data: Data, level: int) -> list[Tensor]:
    """``edge_index``, ``polar``, ``transport``, ``area`` of a level."""
    return [_read(data, name, level) for name in _LEVEL]


def _pooling(data: Data, level: int) -> tuple[Tensor, Tensor]:
    """Coarse node of each node of the level above, and the turn between their frames."""
    return _read(data, "pool_index", level), _read(data, "pool_transport", level)


def _read(data: Data, name: str, level: int) -> Tensor:
    key = f"{name}_{level}" if level else name
    value = data.get(key)
    if value is None:
        made = "MultiScale(..., gauge=SphereGauge(cutoff))" if level else "SphereGauge(cutoff)"
        raise ValueError(f"data has no {key}, only {sorted(data.keys())}; apply transforms.{made}")
    return value  # type: ignore[no-any-return]

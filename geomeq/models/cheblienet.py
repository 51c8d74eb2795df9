"""ChebLieNet: residual and U-shaped networks of Chebyshev filters on graphs of a group."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.nn import (
    ChebConv,
    GridPool,
    GridUnpool,
    IcospherePool,
    IcosphereUnpool,
    global_pool,
    lift,
    project,
)
from geomeq.nn._operator_holder import OperatorHolder
from geomeq.ops import SparseOperator

_CHOICES = {
    "task": ("classify", "segment"),
    "pool": ("random", "max", "mean"),
    "readout": ("max", "mean"),
    "path": ("auto", "fused", "clenshaw", "reference"),
}


@dataclass(frozen=True)
class ChebLieNetConfig:
    """Everything that defines a :class:`ChebLieNet` but its graphs; plain values, so it can be saved as JSON.

    Attributes:
        in_channels: Channels of ``data.x``.
        out_channels: Classes, or whatever the output counts.
        widths: Channels of the first convolution and of every stage after it. Stage ``l`` runs on graph ``l``.
        blocks: Residual blocks per stage.
        K: Terms of the filters.
        task: ``"classify"``: one output per signal (the residual form). ``"segment"``: one per place (the U form).
        pool: Between stages: ``"random"`` (published for classification), ``"max"`` (for segmentation) or ``"mean"``.
        readout: ``"max"`` or ``"mean"``: over all nodes (classify), over the orientations at a place (segment).
        path: Of the filters, see :class:`~geomeq.nn.ChebConv`.
    """

    in_channels: int
    out_channels: int
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    K: int = 4
    task: Literal["classify", "segment"] = "classify"
    pool: Literal["random", "max", "mean"] = "random"
    readout: Literal["max", "mean"] = "max"
    path: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.widths) < 2:
            raise ValueError(f"widths must name the first convolution and one stage at least, got {self.widths}")
        numbers = (self.in_channels, self.out_channels, self.blocks, self.K, *self.widths)
        if any(not isinstance(n, int) or n < 1 for n in numbers):
            raise ValueError(f"channels, widths, blocks and K must be positive integers, got {self}")

    @classmethod
    def wide_resnet(cls, in_channels: int, out_channels: int, widen: int = 2, blocks: int = 2) -> "ChebLieNetConfig":
        """The published classifier: 16 channels, then three stages of 16, 32 and 64 times ``widen``, random pooling."""
        return cls(in_channels, out_channels, (16, 16 * widen, 32 * widen, 64 * widen), blocks)


class ChebLieNet(nn.Module):
    r"""Chebyshev filters on graphs of a group, from fine to coarse.

    Every block is conv-norm-ReLU-conv-norm, plus its input (through one tap where widths differ), then ReLU. To
    classify, stages are joined by pooling, and a maximum over all nodes feeds a linear layer. To segment, the way back
    up joins every stage with its counterpart and orientations are reduced at the end.

    Each part commutes with every permutation of nodes under which graphs and blocks of pooling are unchanged: on
    ``GroupGraph(SE2())`` with an even number of orientations these are quarter turns, exactly. So a classifier is
    invariant and a segmentation turns with the image.

    Args:
        config: What to build.
        graphs: One graph per stage, the finest first, as ``transforms.group_levels`` makes them: each with
            ``laplacian``, ``num_orientations`` and ``grid`` (or, on spheres, the number of places of an icosphere).
            A single graph serves all stages, without pooling.

    Raises:
        ValueError: If graphs are missing, lack an attribute, or do not follow from one another by pooling.

    Example:
        >>> from geomeq.groups import SE2
        >>> from geomeq.transforms import GroupGraph, group_levels
        >>> graphs = group_levels(GroupGraph(SE2(), (8, 8, 4), k=8, anisotropy=0.1), levels=2)
        >>> model = ChebLieNet(ChebLieNetConfig(1, 10, widths=(8, 8, 16)), graphs)
        >>> model(torch.randn(3, 8 * 8 * 4, 1)).shape
        torch.Size([3, 10])

    Source: Aguettaz, Bekkers and Defferrard (2021), https://arxiv.org/abs/2111.12139
    """

    def __init__(self, config: ChebLieNetConfig, graphs: Sequence[Data]) -> None:
        super().__init__()
        graphs = list(graphs) if isinstance(graphs, list | tuple) else [graphs]
        stages = len(config.widths) - 1
        if len(graphs) not in (1, stages):
            raise ValueError(
                f"graphs must be one for each of the {stages} stages that widths={config.widths} names, finest first, "
                f"or a single one, got {len(graphs)}; see transforms.group_levels"
            )
        self.config = config
        self.num_orientations, self.num_spatial = _sizes(graphs[0])
        graphs = graphs * stages if len(graphs) == 1 else graphs
        self.pools = nn.ModuleList(_pool(fine, coarse, config.pool) for fine, coarse in _pairs(graphs))
        holders: dict[int, OperatorHolder] = {}
        for graph in graphs:
            holders.setdefault(id(graph), OperatorHolder(graph.laplacian))
        self.operators = nn.ModuleList(holders[id(graph)] for graph in graphs)

        self.stem = ChebConv(config.in_channels, config.widths[0], config.K, bias=False, path=config.path)
        self.norm = nn.BatchNorm1d(config.widths[0])
        self.down = nn.ModuleList(_Stage(a, b, config) for a, b in _pairs(config.widths))
        self.up, self.unpools = nn.ModuleList(), nn.ModuleList()
        if config.task == "segment":
            self.unpools.extend(_unpool(fine, coarse) for fine, coarse in _pairs(graphs))
            self.up.extend(_Stage(a + b, a, config) for a, b in _pairs(config.widths[1:]))
        self.head = nn.Linear(config.widths[1 if config.task == "segment" else -1], config.out_channels)

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        for module in self.modules():
            if isinstance(module, ChebConv | nn.BatchNorm1d | nn.Linear):
                module.reset_parameters()

    def forward(self, data: Data | Tensor) -> Tensor:
        """Classifies or segments.

        Args:
            data: A batch of ``SharedGraphLoader`` with ``x [B, N, C]``, or ``x`` itself; ``[N, C]`` is one signal.
                A signal on places only (``N = num_spatial``) is lifted by repetition.

        Returns:
            ``[B, out_channels]``, or ``[B, num_spatial, out_channels]`` to segment.

        Raises:
            ValueError: If ``x`` does not fit the finest graph.
        """
        x = self._read(data)
        operators = [self._operator(level, x) for level in range(len(self.down))]
        x = torch.relu(_over_nodes(self.norm, self.stem(x, operators[0])))
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            if level > 0:
                skips.append(x)
                x = self.pools[level - 1](x)
            x = stage(x, operators[level])
        if self.config.task == "classify":
            return self.head(global_pool(x, self.config.readout))
        for level in range(len(skips) - 1, -1, -1):
            x = torch.cat([skips[level], self.unpools[level](x)], dim=-1)
            x = self.up[level](x, operators[level])
        return self.head(project(x, self.num_orientations, self.config.readout))

    def _operator(self, level: int, x: Tensor) -> SparseOperator:
        holder = self.operators[level]
        assert isinstance(holder, OperatorHolder)
        return holder.like(x)

    def _read(self, data: Data | Tensor) -> Tensor:
        x = data if isinstance(data, Tensor) else data.x
        if not isinstance(x, Tensor):
            raise ValueError("data.x is missing; batches of SharedGraphLoader have it")
        x = x.unsqueeze(0) if x.dim() == 2 else x
        if x.dim() == 3 and self.num_orientations > 1 and x.size(1) == self.num_spatial:
            x = lift(x, self.num_orientations)
        nodes = self.num_orientations * self.num_spatial
        check_shape("x", x, "B", nodes, self.config.in_channels, hint="the finest graph has that many nodes")
        return x


class _Block(nn.Module):
    """conv-norm-ReLU-conv-norm plus the input, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int, config: ChebLieNetConfig) -> None:
        super().__init__()
        self.first = ChebConv(in_channels, out_channels, config.K, bias=False, path=config.path)
        self.second = ChebConv(out_channels, out_channels, config.K, bias=False, path=config.path)
        self.norms = nn.ModuleList(nn.BatchNorm1d(out_channels) for _ in range(2))
        self.skip = nn.Linear(in_channels, out_channels, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor, operator: SparseOperator) -> Tensor:
        y = torch.relu(_over_nodes(self.norms[0], self.first(x, operator)))
        y = _over_nodes(self.norms[1], self.second(y, operator))
        return torch.relu(y + (x if self.skip is None else self.skip(x)))


class _Stage(nn.Module):
    """Blocks on one graph."""

    def __init__(self, in_channels: int, out_channels: int, config: ChebLieNetConfig) -> None:
        super().__init__()
        widths = [in_channels, *[out_channels] * config.blocks]
        self.blocks = nn.ModuleList(_Block(a, b, config) for a, b in _pairs(widths))

    def forward(self, x: Tensor, operator: SparseOperator) -> Tensor:
        for block in self.blocks:
            x = block(x, operator)
        return x


def _pairs(items: Sequence) -> list[tuple]:
    return list(pairwise(items))


def _over_nodes(norm: nn.Module, x: Tensor) -> Tensor:
    """Normalises over samples and nodes alike, so that no node is special."""
    return norm(x.flatten(0, 1)).view(x.shape)


def _sizes(graph: Data) -> tuple[int, int]:
    """Orientations and places of a graph."""
    if not isinstance(graph, Data):
        raise TypeError(f"graphs must be torch_geometric.data.Data, got {type(graph).__name__}")
    operator = graph.get("laplacian")
    if not isinstance(operator, SparseOperator):
        raise ValueError("a graph has no laplacian; apply transforms.Laplacian() or use transforms.group_levels")
    orientations = int(graph.get("num_orientations", 1) or 1)
    nodes = operator.size[0]
    if nodes % orientations:
        raise ValueError(f"a graph of {nodes} nodes cannot have {orientations} orientations at every place")
    return orientations, nodes // orientations


def _steps(fine: Data, coarse: Data) -> tuple[Sequence[int] | None, int, int]:
    """Grid (``None`` on a sphere), orientations, and the factor between grids or the level of the finer sphere."""
    (orientations, places), (coarse_orientations, coarse_places) = _sizes(fine), _sizes(coarse)
    if orientations != coarse_orientations:
        raise ValueError(
            f"all graphs must have equally many orientations, got {orientations} and {coarse_orientations}"
        )
    grid, coarse_grid = fine.get("grid"), coarse.get("grid")
    if grid is not None and coarse_grid is not None:
        q = grid[0] // coarse_grid[0]
        if q < 1 or tuple(n * q for n in coarse_grid) != tuple(grid):
            raise ValueError(
                f"each grid must be a whole multiple of the next, got {tuple(grid)} and {tuple(coarse_grid)}"
            )
        return tuple(grid), orientations, q
    level = next((level for level in range(1, 16) if 10 * 4**level + 2 == places), None)
    if level is None or coarse_places != 10 * 4 ** (level - 1) + 2:
        raise ValueError(
            f"graphs without a grid must be icospheres of subsequent levels, 10 * 4^level + 2 places, "
            f"got {places} and {coarse_places}"
        )
    return None, orientations, level


def _pool(fine: Data, coarse: Data, reduce: str) -> nn.Module:
    if fine is coarse:
        return nn.Identity()
    grid, orientations, step = _steps(fine, coarse)
    return IcospherePool(step, orientations, reduce) if grid is None else GridPool(grid, orientations, step, reduce)


def _unpool(fine: Data, coarse: Data) -> nn.Module:
    if fine is coarse:
        return nn.Identity()
    grid, orientations, step = _steps(fine, coarse)
    return IcosphereUnpool(step, orientations) if grid is None else GridUnpool(grid, orientations, step)

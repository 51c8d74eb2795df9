"""DeepSphere: Chebyshev filters on a graph of the sphere, with pooling over children."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups._lasting import lasting
from geomeq.nn import ChebConv, global_pool
from geomeq.nn._operator_holder import OperatorHolder
from geomeq.nn._sphere_edges import edges_between
from geomeq.nn.graph_pool import TablePool, TableUnpool
from geomeq.ops import SparseOperator, rescaled_laplacian
from geomeq.spheres import Sampling

from ._sphere_levels import Level, clusters, make_levels, parents, read_samplings

_CHOICES = {"task": ("node", "graph"), "pool": ("max", "mean")}


@dataclass(frozen=True)
class DeepSphereConfig:
    """Everything that defines a :class:`DeepSphere`; plain values (but for samplings of one's own), for JSON.

    Attributes:
        samplings: From fine to coarse: ``("healpix", 16)``, ``("gauss_legendre", 32, 64)``, or any
            :class:`geomeq.spheres.Sampling`.
        in_channels: Of the signal.
        out_channels: Of the output.
        channels: On each level.
        K: Terms of the filters: a node reads up to K - 1 edges away.
        blocks: Convolutions on each level, on each side.
        cutoff: Of the graph, in spacings of the sampling; 2 gives about a dozen neighbours, 1.5 about eight.
        task: ``"node"``: a U-shaped network with one output per node; ``"graph"``: an encoder, and a mean over nodes.
        pool: ``"max"`` or ``"mean"`` over the children of a node.
    """

    samplings: tuple[Level, ...]
    in_channels: int
    out_channels: int
    channels: tuple[int, ...] = (32, 64, 128)
    K: int = 3
    blocks: int = 2
    cutoff: float = 2.0
    task: Literal["node", "graph"] = "node"
    pool: Literal["max", "mean"] = "max"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        object.__setattr__(self, "samplings", read_samplings(self.samplings))
        object.__setattr__(self, "channels", tuple(self.channels))
        check_channels(self.channels, self.samplings)
        numbers = (self.in_channels, self.out_channels, self.K, self.blocks, *self.channels)
        if any(not isinstance(n, int) or isinstance(n, bool) or n < 1 for n in numbers):
            raise ValueError(f"channels, K and blocks must be positive integers, got {self}")
        if not self.cutoff > 0:
            raise ValueError(f"cutoff must be positive, in spacings of the sampling, got {self.cutoff}")


class DeepSphere(nn.Module):
    r"""Chebyshev filters on a graph whose Laplacian is close to that of the sphere: isotropic, on any sampling.

    Near nodes are connected, with weights

    .. math:: w_{ij} = \exp\bigl(-\|x_i - x_j\|^2 / \sigma^2\bigr), \qquad
        \sigma^2 = \text{the mean of } \|x_i - x_j\|^2 \text{ over all edges},

    and filtered by polynomials of the normalised Laplacian (:class:`~geomeq.nn.ChebConv`). A block is filter, batch
    norm, ReLU. Downwards a node takes the maximum of its children, upwards children copy their parent, and the skip is
    put beside it. Rotations that permute the nodes commute exactly where pooling is over whole orbits; others as well
    as the graph resembles the sphere, which no quadrature weight enters.

    Args:
        config: The network.

    Example:
        >>> model = DeepSphere(DeepSphereConfig((("healpix", 8), ("healpix", 4)), 3, 5, channels=(8, 16)))
        >>> model(torch.randn(2, 768, 3)).shape
        torch.Size([2, 768, 5])

    Source: Perraudin et al. (2019), https://arxiv.org/abs/1810.12186, for weights and pooling; Defferrard et al.
    (2020), https://openreview.net/forum?id=B1e3OlStPB, for the U shape.
    """

    def __init__(self, config: DeepSphereConfig) -> None:
        super().__init__()
        self.config = config
        samplings = make_levels(config.samplings)
        self.num_nodes = samplings[0].num_nodes
        self.operators = nn.ModuleList(
            OperatorHolder(gaussian_laplacian(s, min(config.cutoff * s.spacing, 3.14))) for s in samplings
        )
        widths = config.channels
        self.down = nn.ModuleList(
            _stage(a, b, config)
            for a, b in pairwise((config.in_channels, *widths))  # one stage on each level
        )
        self.pools, self.unpools, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for (fine, coarse), (few, many) in zip(pairwise(samplings), pairwise(widths), strict=True):
            parent = lasting(parents)(fine, coarse)
            table, mask = lasting(clusters)(parent, coarse.num_nodes)
            self.pools.append(TablePool(table, None if bool(mask.all()) else mask, config.pool, fine.num_nodes))
            if config.task == "node":
                self.unpools.append(TableUnpool(parent, coarse.num_nodes))
                self.up.append(_stage(few + many, few, config))
        self.head = nn.Linear(widths[0] if config.task == "node" else widths[-1], config.out_channels)
        self._area = samplings[-1].area

    def forward(self, x: Tensor) -> Tensor:
        """Filters.

        Args:
            x: ``[B, N, in_channels]`` or ``[N, in_channels]`` on the finest sampling.

        Returns:
            ``[.., N, out_channels]``; for ``task="graph"`` ``[.., out_channels]``.

        Raises:
            ValueError: If ``x`` has another number of nodes or channels.
        """
        x, single = read_signal(x, self.num_nodes, self.config.in_channels, self.config.samplings[0])
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            if level:
                skips.append(x)
                x = self.pools[level - 1](x)
            x = _run(stage, x, self._operator(level, x))
        if self.config.task == "graph":
            x = self.head(global_pool(x, "mean", self._area.to(x)))
            return x[0] if single else x
        for level in range(len(skips) - 1, -1, -1):
            x = torch.cat([skips[level], self.unpools[level](x)], dim=-1)
            x = _run(self.up[level], x, self._operator(level, x))
        x = self.head(x)
        return x[0] if single else x

    def _operator(self, level: int, x: Tensor) -> SparseOperator:
        holder = self.operators[level]
        assert isinstance(holder, OperatorHolder)
        return holder.like(x)

    def __repr__(self) -> str:
        c = self.config
        return (
            f"{type(self).__name__}({c.in_channels} -> {c.out_channels}, channels={c.channels}, K={c.K}, "
            f"nodes={self.num_nodes}, task={c.task!r})"
        )


class _Block(nn.Module):
    """Filter, batch norm over samples and nodes alike, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, K: int) -> None:
        super().__init__()
        self.conv, self.norm = ChebConv(in_channels, out_channels, K, bias=False), nn.BatchNorm1d(out_channels)

    def forward(self, x: Tensor, operator: SparseOperator) -> Tensor:
        y = self.conv(x, operator)
        return torch.relu(self.norm(y.flatten(0, 1)).view(y.shape))


def _stage(in_channels: int, out_channels: int, config: DeepSphereConfig) -> nn.ModuleList:
    widths = [in_channels, *[out_channels] * config.blocks]
    return nn.ModuleList(_Block(a, b, config.K) for a, b in pairwise(widths))


def _run(stage: nn.Module, x: Tensor, operator: SparseOperator) -> Tensor:
    for block in stage.children():
        x = block(x, operator)
    return x


def gaussian_laplacian(s: Sampling, cutoff: float) -> SparseOperator:
    """The rescaled normalised Laplacian of the graph that :class:`DeepSphere` puts on a sampling, float64.

    Args:
        s: Nodes.
        cutoff: Connect nodes at most this far apart, radians.

    Raises:
        ValueError: If a node has no other within the cut-off.
    """
    edge_index = edges_between(s, s, cutoff)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    alone = s.num_nodes - len(edge_index[1].unique())
    if alone:
        raise ValueError(f"{alone} of {s.num_nodes} nodes of {s!r} have no neighbour within {cutoff:.4g} radians")
    square = (s.pos[edge_index[0]] - s.pos[edge_index[1]]).square().sum(dim=1)
    return rescaled_laplacian(edge_index, torch.exp(-square / square.mean()), s.num_nodes)


def check_channels(channels: Sequence[int], levels: Sequence[Level]) -> None:
    """Raises unless there is one width for each level."""
    if len(channels) != len(levels):
        raise ValueError(f"channels must have one entry for each of {len(levels)} levels, got {channels}")


def read_signal(x: Tensor, nodes: int, channels: int, level: Any) -> tuple[Tensor, bool]:
    """``x`` as ``[B, N, C]``, and whether it was a single signal ``[N, C]``.

    Raises:
        ValueError: If it has another number of nodes or channels.
    """
    check_shape("x", x, "...", nodes, channels, hint=f"the finest level is {level!r}")
    if x.dim() not in (2, 3):
        raise ValueError(f"x must be [N, C] or [B, N, C], got {list(x.shape)}")
    return (x.unsqueeze(0), True) if x.dim() == 2 else (x, False)

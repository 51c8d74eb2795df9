"""The graphs of a pyramid: a fine one and coarser ones, as pooling needs them."""

import copy
from typing import Any

from torch_geometric.data import Data

from ..groups import S2, SO3, FiniteGroup
from ..groups.group import GroupSample
from .group_graph import GroupGraph
from .laplacian import Laplacian

DEFAULT = Laplacian()


def group_levels(transform: GroupGraph, levels: int, q: int = 2, laplacian: Laplacian | None = DEFAULT) -> list[Data]:
    """Graphs of one group at several resolutions, fine to coarse, with their Laplacians.

    On grids each level has places ``q`` times farther apart, those in the middle of the blocks that
    :class:`geomeq.nn.GridPool` reduces; on icospheres (S2, SO(3)) each is one level lower, for
    :class:`geomeq.nn.IcospherePool`. Orientations stay. Neighbourhoods keep their shape: ``xi="auto"`` and ``alpha``
    adapt by themselves, a number ``xi`` is multiplied by the factor between spacings.

    Args:
        transform: How to build the finest graph.
        levels: Number of graphs, at least 1.
        q: Factor between grids; icospheres always halve.
        laplacian: Applied to every graph; ``None`` leaves it out.

    Returns:
        ``levels`` graphs, the finest first.

    Raises:
        ValueError: If a size is not divisible or the level is too low, or a metric is given (it knows one scale).

    Example:
        >>> from geomeq.groups import SE2
        >>> [graph.grid for graph in group_levels(GroupGraph(SE2(), (16, 16, 4), anisotropy=0.1), levels=3)]
        [(16, 16), (8, 8), (4, 4)]
    """
    if levels < 1 or q < 2:
        raise ValueError(f"levels must be at least 1 and q at least 2, got {levels} and {q}")
    if levels > 1 and transform.metric is not None:
        raise ValueError(
            "a metric that is given has one scale; use anisotropy with xi or alpha, which adapt to a level"
        )
    sphere = isinstance(transform.group, S2 | SO3)
    sizes = _sphere_sizes(transform, levels) if sphere else _grid_sizes(transform, levels, q)
    graphs = []
    for level, size in enumerate(sizes):
        build = copy.copy(transform)
        build.size = size
        if not isinstance(transform.xi, str):
            build.xi = transform.xi * (2 if sphere else q) ** level
        graph = build(Data())
        graphs.append(graph if laplacian is None else laplacian(graph))
    return graphs


def _sphere_sizes(transform: GroupGraph, levels: int) -> list[Any]:
    size = _size(transform)
    finest, *rest = (size,) if isinstance(size, int) else size
    if finest < levels - 1:
        raise ValueError(f"{levels} levels need an icosphere of level {levels - 1} at least, got size {size}")
    return [(finest - level, *rest) for level in range(levels)]


def _size(transform: GroupGraph) -> Any:
    if isinstance(transform.group, FiniteGroup):
        raise ValueError(f"{transform.group!r} is its own sample, which has no coarser one")
    if isinstance(transform.size, GroupSample):
        raise ValueError("levels need a size, such as (nx, ny, ...), but a sample was given, which has no coarser one")
    return transform.size


def _grid_sizes(transform: GroupGraph, levels: int, q: int) -> list[Any]:
    size = _size(transform)
    size = (size,) if isinstance(size, int) else tuple(size)
    axes = len(transform.group.sample(size).grid or ())
    if axes == 0:
        raise ValueError(f"the places of {transform.group!r} form no grid that could be made coarser")
    if any(n % q ** (levels - 1) for n in size[:axes]):
        raise ValueError(f"{levels} levels need sides divisible by {q ** (levels - 1)}, got {tuple(size[:axes])}")
    return [(*(n // q**level for n in size[:axes]), *size[axes:]) for level in range(levels)]

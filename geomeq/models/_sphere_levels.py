"""Chains of samplings of the sphere, from fine to coarse, and which node of one belongs to which of the next."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geomeq import spheres
from geomeq.groups import icosphere
from geomeq.spheres import Sampling
from geomeq.spheres.kinds import KINDS

#: A sampling, or the name of a function of ``geomeq.spheres`` and its arguments, such as ``("healpix", 16)``.
Level = Sampling | tuple[Any, ...]


def read_samplings(levels: Sequence[Any]) -> tuple[Level, ...]:
    """Levels as a config holds them: samplings, and tuples ``(kind, *arguments)`` (lists, as JSON gives them back).

    Raises:
        TypeError: If an entry is neither.
        ValueError: If there is none, or a kind does not exist.
    """
    if isinstance(levels, str | Sampling) or not isinstance(levels, Sequence):
        raise TypeError(
            f"samplings must be a sequence, finest first, such as (('healpix', 16), ('healpix', 8)), got {levels!r}"
        )
    if not levels:
        raise ValueError("samplings must name one sampling at least, finest first, got none")
    return tuple(level if isinstance(level, Sampling) else _read_name(level) for level in levels)


def _read_name(level: Any) -> tuple[Any, ...]:
    if not isinstance(level, list | tuple) or len(level) < 2 or not isinstance(level[0], str):
        raise TypeError(f"a level is a Sampling, or a kind and its resolution such as ('healpix', 16), got {level!r}")
    if level[0] not in KINDS:
        raise ValueError(f"a level must be of one of the kinds {', '.join(KINDS)}, got {level[0]!r}")
    return tuple(level)


def make_levels(levels: Sequence[Level]) -> list[Sampling]:
    """The samplings.

    Raises:
        ValueError: If a level is not coarser than the one before.
    """
    made = [level if isinstance(level, Sampling) else getattr(spheres, level[0])(*level[1:]) for level in levels]
    for number, (fine, coarse) in enumerate(pairwise(made), start=1):
        if coarse.num_nodes >= fine.num_nodes:
            raise ValueError(
                f"levels must become coarser, but level {number}, {coarse!r}, has no fewer nodes than {fine!r}; "
                "list them from fine to coarse"
            )
    return made


def parents(fine: Sampling, coarse: Sampling) -> Tensor:
    """The nodes of the coarser sampling to which each finer node belongs, ``[N, T]``; one, or the ends of an edge.

    HEALPix: the pixel around it. Icospheres one level apart: itself, or the ends of the edge in whose middle it lies.
    Grids of latitude and longitude whose sides are multiples: its block. Otherwise the nearest.
    """
    count = coarse.num_nodes
    if fine.nside is not None and coarse.nside is not None and fine.num_nodes % count == 0:
        return torch.arange(fine.num_nodes)[:, None] // (fine.num_nodes // count)
    if fine.kind == coarse.kind == "icosphere" and fine.num_nodes == 4 * count - 6:
        level = next(level for level in range(1, 16) if 10 * 4**level + 2 == fine.num_nodes)
        return icosphere(level).parents
    if fine.grid is not None and coarse.grid is not None:
        (rows, columns), (few_rows, few_columns) = fine.grid, coarse.grid
        if rows % few_rows == 0 and columns % few_columns == 0:
            row = torch.arange(rows) // (rows // few_rows)
            column = torch.arange(columns) // (columns // few_columns)
            return (row[:, None] * few_columns + column).reshape(-1, 1)
    nearest = cKDTree(coarse.pos.numpy()).query(fine.pos.numpy())[1]
    return torch.from_numpy(nearest.astype("int64"))[:, None]


def clusters(parent: Tensor, num_coarse: int) -> tuple[Tensor, Tensor]:
    """Finer nodes of each coarser one, ``[M, T]``, and which entries count.

    Args:
        parent: ``[N, T]`` of :func:`parents`; a repeated parent counts once.
        num_coarse: ``M``.

    Raises:
        ValueError: If a coarser node has no finer one.
    """
    child = torch.arange(len(parent))[:, None].expand_as(parent)
    pair = torch.stack([parent.reshape(-1), child.reshape(-1)]).unique(dim=1)  # sorted by parent, then child
    count = torch.bincount(pair[0], minlength=num_coarse)
    if bool((count == 0).any()):
        raise ValueError(
            f"{int((count == 0).sum())} of {num_coarse} nodes of a coarser level are nearest to no node of the finer "
            "one; take levels that differ more in their numbers of nodes"
        )
    slot = torch.arange(pair.size(1)) - (count.cumsum(0) - count)[pair[0]]
    table = torch.zeros(num_coarse, int(count.max()), dtype=torch.long)
    table[pair[0], slot] = pair[1]
    return table, torch.arange(table.size(1)) < count[:, None]

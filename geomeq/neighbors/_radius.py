"""All pairs of points closer than a cutoff."""

import torch
from torch import Tensor

from ._pairs import pairs_within
from ._points import read_cutoff, read_points, read_query, read_tolerance, sort_edges


def radius_edges(
    pos: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    *,
    loop: bool = False,
    query: Tensor | None = None,
    query_batch: Tensor | None = None,
    rtol: float | None = None,
) -> Tensor:
    r"""Edges between all points at most ``cutoff`` apart; none is dropped, whatever their number.

    .. math:: \{(j, i) : \|x_j - x_i\| \le r_c\}

    A pair exactly at the cutoff is connected, up to the relative tolerance ``rtol``, so that a rotated lattice keeps
    its edges. Distances are computed in float64.

    Args:
        pos: Positions of the sources, float32 or float64, any dimension, ``[N, d]``.
        cutoff: Largest distance, in the unit of ``pos``.
        batch: Graph of each point, in any order, ``[N]``; points of different graphs are never connected.
        loop: Whether each point is also connected with itself. Distinct points at the same place always are.
        query: Other points as targets, ``[M, d]``; the edges then lead from ``pos`` to ``query``.
        query_batch: Graph of each query point, ``[M]``.
        rtol: Relative tolerance at the cutoff; default :func:`geomeq.neighbors.tie_tolerance`.

    Returns:
        ``edge_index [2, E]``: source and target, sorted by target and then source.

    Raises:
        TypeError: If ``pos`` is neither float32 nor float64.
        ValueError: For a wrong shape, NaN, a cutoff that is not positive, or a batch on one side only.

    Example:
        >>> radius_edges(torch.tensor([[0.0], [1.0], [2.5]]), cutoff=1.0)
        tensor([[1, 0],
                [0, 1]])
    """
    source = read_points(pos, batch)
    target = read_query(pos, source, query, query_batch, loop)
    radius = read_cutoff(cutoff, read_tolerance(rtol, pos, query))
    j, i = pairs_within(source, target, radius)
    if loop:
        own = torch.arange(source.num, device=pos.device)
        j, i = torch.cat([j, own]), torch.cat([i, own])
    return sort_edges(j, i)

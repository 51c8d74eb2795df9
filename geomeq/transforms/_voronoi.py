"""Areas of Voronoi cells, clipped to a disc around each point, from the edges between near points."""

import math

import torch
from torch import Tensor

_TRIPLES = 4_000_000  # points on a bisector's line times neighbours that cut it, held at once


def voronoi_areas(edge_index: Tensor, offset: Tensor, num_nodes: int, radius: float) -> Tensor:
    r"""The area of what is closer to each point than ``radius`` and than to any other point.

    The cell is a union of sectors of the disc and of triangles on the bisectors: with :math:`[a_j, b_j]` the part of
    the bisector towards j (at distance :math:`h_j`) that no other bisector and not the circle cuts off,

    .. math:: A = \frac{\rho^2}{2} \Big(2 \pi - \sum_j \big[\arctan(t / h_j)\big]_{a_j}^{b_j}\Big)
              + \sum_j \frac{h_j (b_j - a_j)}{2}

    Closed form, so it does not see how the points are turned; points on a line, or alone, are no special case.

    Args:
        edge_index: All pairs of points at most ``2 * radius`` apart, sorted by target, ``[2, E]``; longer ones do no
            harm.
        offset: Source minus target, ``[E, 2]``, not zero.
        num_nodes: N.
        radius: Of the discs.

    Returns:
        ``[N]``, float64, at most ``pi * radius**2``.
    """
    offset = offset.double()
    target, length = edge_index[1], torch.linalg.vector_norm(offset, dim=1)
    keep = length < 2 * radius
    target, offset, length = target[keep], offset[keep], length[keep]
    degree = torch.bincount(target, minlength=num_nodes)
    first = degree.cumsum(0) - degree
    low, high = _cut(offset, length, degree[target], first[target], radius)
    width, height = (high - low).clamp(min=0), length / 2
    span = torch.where(width > 0, torch.atan2(high, height) - torch.atan2(low, height), 0.0)
    area = offset.new_full((num_nodes,), math.pi * radius**2)
    return area.index_add(0, target, (height * width - radius**2 * span) / 2)


def _cut(offset: Tensor, length: Tensor, degree: Tensor, first: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Where the part of each bisector begins and ends that bounds the cell, ``[E]`` each, along the line."""
    direction = offset / length[:, None]
    along = torch.stack([-direction[:, 1], direction[:, 0]], dim=1)
    high = (radius**2 - length.square() / 4).clamp(min=0).sqrt()
    low = -high
    ends = degree.cumsum(0)
    start = 0
    while start < offset.size(0):  # chunks of edges: their neighbours' neighbours may not fit into memory
        before = int(ends[start] - degree[start])
        stop = max(start + 1, int(torch.searchsorted(ends, before + _TRIPLES, right=True)))
        edge = torch.repeat_interleave(torch.arange(start, stop, device=offset.device), degree[start:stop])
        rank = torch.arange(edge.numel(), device=offset.device) - (ends - degree)[edge] + before
        other = first[edge] + rank
        edge, other = edge[other != edge], other[other != edge]
        # t * slope <= room is the half plane of the other bisector on this line
        slope = (along[edge] * offset[other]).sum(1)
        room = length[other].square() / 2 - length[edge] / 2 * (direction[edge] * offset[other]).sum(1)
        none = torch.where(slope == 0, torch.where(room < 0, -math.inf, math.inf), room / slope)
        up, down = slope >= 0, slope < 0
        high = high.scatter_reduce(0, edge[up], none[up], "amin")
        low = low.scatter_reduce(0, edge[down], none[down], "amax")
        start = stop
    return low, high

"""Edges between points of the unit sphere and their relative geometry, in float64 on the CPU."""

import math

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull, QhullError
from torch import Tensor

from ..neighbors import radius_edges


def edges_within(pos: Tensor, cutoff: float, batch: Tensor | None, rtol: float) -> Tensor:
    """All pairs at most ``cutoff`` radians apart, both ways, sorted by target and then source; no loops.

    Args:
        pos: Unit vectors ``[N, 3]``.
        cutoff: Radians, at most pi.
        batch: Sphere of each node.
        rtol: How much farther still counts as at the cut-off.
    """
    return radius_edges(pos, 2 * math.sin(cutoff / 2), batch, rtol=rtol)


def edges_of_rings(pos: Tensor, rings: int, face: Tensor | None, same: float) -> Tensor:
    """All pairs at most ``rings`` steps apart on the triangulation, or on the convex hull of the points.

    On the hull every two points of one facet are one step apart, however a triangulation would split the facet, so
    that the symmetries of a grid are kept. Coincident points are neighbours of the same nodes.

    Args:
        pos: Unit vectors ``[N, 3]``.
        rings: Number of steps.
        face: Triangles ``[3, F]``, if there are any.
        same: Distance below which points coincide.
    """
    place, first = distinct_places(pos, same)
    corner = _hull_facets(pos[first].numpy()) if face is None else _triangles(face, place, len(first))
    near = (corner.T @ corner).astype(bool)
    reach = near
    for _ in range(rings - 1):
        reach = (reach @ near).astype(bool)
    member = csr_matrix((np.ones(len(place), dtype=bool), (np.arange(len(place)), place.numpy())))
    pairs = (member @ reach @ member.T).tocoo()  # row: target
    pairs = csr_matrix((pairs.data, (pairs.row, pairs.col)), shape=pairs.shape)
    pairs.sort_indices()
    pairs = pairs.tocoo()
    keep = pairs.row != pairs.col
    return torch.from_numpy(np.stack([pairs.col[keep], pairs.row[keep]]).astype(np.int64))


def distinct_places(pos: Tensor, same: float) -> tuple[Tensor, Tensor]:
    """Number of the place of each node, ``[N]``, and one node at each place; nodes nearer than ``same`` share one."""
    edges = radius_edges(pos, same, rtol=0.0)
    graph = coo_matrix((np.ones(edges.size(1)), tuple(edges.numpy())), shape=(len(pos), len(pos)))
    count, place = connected_components(graph, directed=False)
    first = np.full(count, len(pos))
    np.minimum.at(first, place, np.arange(len(pos)))
    return torch.from_numpy(place.astype(np.int64)), torch.from_numpy(first)


def _triangles(face: Tensor, place: Tensor, places: int) -> csr_matrix:
    """Which places are corners of which triangle, ``[F, places]``."""
    rows = np.tile(np.arange(face.size(1)), 3)
    columns = place[face.cpu()].flatten().numpy()
    return csr_matrix((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(face.size(1), places))


def _hull_facets(points: np.ndarray) -> csr_matrix:
    """Which points are corners of which facet of the convex hull; simplices of one plane are one facet."""
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError) as error:
        raise ValueError(
            f"rings on the convex hull need at least 4 different points that are in no plane, got {len(points)}; "
            "give face or a cutoff"
        ) from error
    one, other = np.repeat(np.arange(len(hull.simplices)), 3), hull.neighbors.reshape(-1)
    coplanar = np.abs(hull.equations[one] - hull.equations[other]).max(axis=1) < 1e-8
    size = len(hull.simplices)
    graph = coo_matrix((np.ones(int(coplanar.sum())), (one[coplanar], other[coplanar])), shape=(size, size))
    count, facet = connected_components(graph, directed=False)
    rows, columns = np.repeat(facet, 3), hull.simplices.reshape(-1)
    return csr_matrix((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(count, len(points)))


def great_circles(pos: Tensor, frame: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The shortest arcs from targets to sources, seen from both ends.

    Args:
        pos: Unit vectors ``[N, 3]``.
        frame: Rows e1, e2, n, ``[N, 3, 3]``.
        edge_index: ``[2, E]``.

    Returns:
        Length in [0, pi], the azimuth :math:`a_{ij}` of the source in the target's frame, and the azimuth
        :math:`a_{ji}` of the target in the source's frame, ``[E]`` each, in (-pi, pi].
    """
    j, i = edge_index
    apart = pos[j] - pos[i]  # its tangent part is that of pos[j], without the digits a far origin would cost
    length = 2 * torch.atan2(apart.norm(dim=1), (pos[i] + pos[j]).norm(dim=1))  # accurate from 0 to pi
    return length, _azimuth(frame[i], apart), _azimuth(frame[j], -apart)


def _azimuth(frame: Tensor, v: Tensor) -> Tensor:
    x, y = torch.einsum("eak,ek->ae", frame[:, :2], v)
    angle = torch.atan2(y, x)
    return torch.where(angle <= -math.pi, math.pi, angle)

"""Neighbours in a fixed order, by compass: what ordered convolutions need of any sampling."""

from itertools import combinations
from math import comb, pi

import torch
from torch import Tensor

from .._checks import check_edge_index, check_shape
from ..groups.so3 import sphere_frame
from ._edges import edges_of_rings, great_circles
from .cubed import FACES
from .healpix_tables import healpix_neighbours
from .sampling import Sampling

_MOST_WAYS = 600


def ordered_neighbours(s: Sampling) -> Tensor:
    """The neighbours of every node of a sampling, clockwise from south-west (as seen from outside) to south.

    - HEALPix: SW, W, NW, N, NE, E, SE, S along the grids of the faces, see :func:`healpix_neighbours`.
    - Tables of latitude and longitude: the same eight; beyond a pole follows the opposite meridian, if there is a node
      on it, and nothing where the first or last row is the pole itself.
    - The cubed sphere: the same eight by compass; at the corners of the cube one is missing.
    - The icosphere: six, at 12 pentagons five.
    - Others: those on the convex hull, as far as their number varies little.

    Args:
        s: A whole sphere.

    Returns:
        ``[N, K]``, -1 where there is none.

    Raises:
        ValueError: If it is a part of a sphere, or numbers of neighbours differ too much for an order.

    Example:
        >>> from geomeq.spheres import icosphere
        >>> ordered_neighbours(icosphere(1)).shape
        torch.Size([42, 6])
    """
    if not s.is_whole:
        raise ValueError("neighbours are ordered on whole spheres; take those of the whole and keep the rows of s.node")
    if s.nside is not None:
        return healpix_neighbours(s.nside)
    if s.grid is not None:
        polar = s.pos[:, :2].norm(dim=1)[:: s.grid[1]] < 1e-9
        return _grid_neighbours(*s.grid, bool(polar[0]), bool(polar[-1]))
    if s.kind == "cubed":
        near = _cubed_neighbours(round((s.num_nodes / 6) ** 0.5))
        target, k = (near >= 0).nonzero().T
        return order_by_azimuth(s.pos, torch.stack([near[target, k], target]), 8)
    return order_by_azimuth(s.pos, edges_of_rings(s.pos, 1, s.face, 1e-9))


def order_by_azimuth(pos: Tensor, edge_index: Tensor, degree: int | None = None) -> Tensor:
    r"""Gives the neighbours of every node places in a fixed order, by where they lie against the meridian.

    The K places point in the directions :math:`-2 \pi (k + 1) / K` from south, counted eastward: clockwise, the last
    one south. Neighbours keep their cyclic order and take the places nearest to their directions (least squares); a
    node with fewer neighbours leaves places empty.

    Args:
        pos: Unit vectors ``[N, 3]``.
        edge_index: ``[2, E]``.
        degree: Number of places K; by default the largest number of neighbours.

    Returns:
        ``[N, K]``, -1 where there is none.

    Raises:
        ValueError: If a node has more neighbours than places, or so few that there are too many ways.
    """
    check_shape("pos", pos, "N", 3)
    check_edge_index(edge_index, len(pos), len(pos))
    pos, edge_index = pos.detach().cpu().double(), edge_index.detach().cpu().long()
    source, target = edge_index
    azimuth = great_circles(pos, sphere_frame(pos).transpose(1, 2), edge_index)[1]
    order = azimuth.argsort(descending=True, stable=True)
    order = order[target[order].argsort(stable=True)]  # by target, clockwise
    count = torch.bincount(target, minlength=len(pos))
    largest = int(count.max()) if len(count) else 0
    places = largest if degree is None else degree
    if largest > places:
        raise ValueError(f"a node has {largest} neighbours, more than degree={places}")
    first = count.cumsum(0) - count
    out = torch.full((len(pos), places), -1, device=pos.device)
    for have in count.unique().tolist():
        if have == 0:
            continue
        if have * comb(places, have) > _MOST_WAYS:
            raise ValueError(
                f"nodes have {have} to {largest} neighbours: in {places} places there is no order to speak of; connect "
                "every node to about as many others"
            )
        node = (count == have).nonzero()[:, 0]
        edges = order[first[node][:, None] + torch.arange(have, device=order.device)]
        out[node] = _place(azimuth[edges], source[edges], places)
    return out


def ordered_edges(table: Tensor) -> tuple[Tensor, Tensor]:
    """The edges of a table of ordered neighbours, for layers and models that take a graph.

    Args:
        table: ``[N, K]``, -1 where there is none.

    Returns:
        ``edge_index`` ``[2, E]``, sorted by target, then source, and ``edge_type`` ``[E]``: the place in the order,
        from 1 on (0 is the node itself, which has no edge here).

    Example:
        >>> from geomeq.spheres import healpix_neighbours
        >>> edge_index, edge_type = ordered_edges(healpix_neighbours(2))
        >>> edge_index.shape
        torch.Size([2, 360])
    """
    check_shape("table", table, "N", "K", hint="one row for each node, -1 where there is none")
    target, place = (table >= 0).nonzero().T
    source = table[target, place]
    order = (target * len(table) + source).argsort(stable=True)
    return torch.stack([source, target])[:, order], place[order] + 1


def _place(azimuth: Tensor, source: Tensor, places: int) -> Tensor:
    """Neighbours ``[n, d]``, clockwise, into places ``[n, K]``: the best of all ways that keep their cyclic order."""
    have = source.size(1)
    best = torch.full((len(source),), float("inf"), dtype=azimuth.dtype, device=azimuth.device)
    out = torch.full((len(source), places), -1, device=source.device)
    for turn in range(have):
        turned, angle = source.roll(turn, dims=1), azimuth.roll(turn, dims=1)
        for chosen in combinations(range(places), have):
            slot = torch.tensor(chosen, device=source.device)
            apart = torch.remainder(angle + 2 * pi * (slot + 1).to(angle.dtype) / places + pi, 2 * pi) - pi
            cost = apart.square().sum(dim=1)
            better = cost < best - 1e-9  # ties go to the first way, whatever the rounding
            best = torch.where(better, cost, best)
            row = torch.full_like(out, -1)
            row[:, slot] = turned
            out = torch.where(better[:, None], row, out)
    return out


def _grid_neighbours(nlat: int, nlon: int, north: bool, south: bool) -> Tensor:
    """Of a table of latitude and longitude; ``north`` and ``south``: whether the outer rows are the poles."""
    with torch.device("cpu"):  # whatever the default is
        row, column = torch.arange(nlat)[:, None, None], torch.arange(nlon)[:, None]
        down = torch.tensor([1, 0, -1, -1, -1, 0, 1, 1])  # SW, W, NW, N, NE, E, SE, S
        right = torch.tensor([-1, -1, -1, 0, 1, 1, 1, 0])
        r, c = torch.broadcast_tensors(row + down, column + right)
        over = (r < 0) | (r >= nlat)
        missing = over & (nlon % 2 == 1) | (r < 0) & north | (r >= nlat) & south
        c = torch.where(over, c + nlon // 2, c) % nlon
        r = torch.where(r < 0, -1 - r, torch.where(r >= nlat, 2 * nlat - 1 - r, r))
        return torch.where(missing, -1, r * nlon + c).flatten(0, 1)


def _cubed_neighbours(n: int) -> Tensor:
    """Of the cells of the cubed sphere, in no order: over an edge of the cube, and along it."""
    with torch.device("cpu"):  # whatever the default is
        halo = torch.full((6, n + 2, n + 2), -1)
        halo[:, 1:-1, 1:-1] = torch.arange(6 * n * n).view(6, n, n)
        middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 - 1
        out = torch.ones_like(middle)
        for across, cells in (
            ((-out, middle), (slice(None), 0, slice(1, -1))),
            ((out, middle), (slice(None), -1, slice(1, -1))),
            ((middle, -out), (slice(None), slice(1, -1), 0)),
            ((middle, out), (slice(None), slice(1, -1), -1)),
        ):
            halo[cells] = _beside_edge(n, *across)
        step = [(down, right) for down in (0, 1, 2) for right in (0, 1, 2) if (down, right) != (1, 1)]
        near = [halo[:, down : down + n, right : right + n] for down, right in step]
        return torch.stack(near, dim=-1).flatten(0, 2)


def _beside_edge(n: int, down: Tensor, right: Tensor) -> Tensor:
    """Cells beyond an edge of every face, ``[6, n]``: those of the other face at points of the edge."""
    edge = torch.stack([torch.ones_like(down), (right * pi / 4).tan(), (down * pi / 4).tan()])
    point = torch.einsum("an,fad->fnd", edge, FACES)
    normal = FACES[:, 0]
    lean = torch.einsum("fnd,gd->fng", point, normal)
    lean[[*range(6)], :, [*range(6)]] = -1  # not the face itself
    face = lean.argmax(dim=2)
    local = torch.einsum("fnd,fnad->fna", point, FACES[face])
    column, row = (torch.atan2(local[..., a], local[..., 0]) / (pi / 2) + 0.5 for a in (1, 2))
    column, row = ((c * n).floor().long().clamp(0, n - 1) for c in (column, row))
    return (face * n + row) * n + column

"""The matrices of resampling, row by row of the target, in float64."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree

from ._between_rings import RingSearch, RingWeights
from ._cube_faces import CubeWeights
from ._triangulation import Triangulation
from .cubed import cubed
from .image_grids import cubemap
from .sampling import Sampling

_CHUNK = 1 << 15  # points at a time
_MOST_ROUNDS = 30  # of the balance of areas; one is usual
_ROUNDING = 1e-12  # smaller weights are rounding: a point on a node reads that node alone
Rows = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray | None]]


class Weights(NamedTuple):
    """A resampling matrix in two factors.

    Attributes:
        matrix: ``[N_out, N_in + P]``; rows sum to 1, or are empty where nothing is known.
        poles: Means of the nodes around a pole, ``[P, N_in]``, if targets read them; the last columns of ``matrix``.
    """

    matrix: csr_array
    poles: csr_array | None


def nearest_weights(s_in: Sampling, points: np.ndarray, reach: float) -> Weights:
    """Each target has the value of the nearest source, unless that is farther than ``reach``."""
    node, distance = nearest_node(s_in, points)
    near = distance <= 2 * math.sin(min(reach, math.pi) / 2) + 1e-12
    ptr = np.concatenate([[0], np.cumsum(near)])
    return Weights(csr_array((np.ones(ptr[-1]), node[near], ptr), shape=(len(points), s_in.num_nodes)), None)


def nearest_node(s: Sampling, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number and distance (chord) of the nearest node of points ``[M, 3]``."""
    pos = s.pos.numpy()
    node, distance = np.empty(len(points), dtype=np.int64), np.empty(len(points))
    search, tree = (None if s.rings is None else RingSearch(s.rings, pos)), None
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        unsure = np.ones(len(points[part]), dtype=bool)
        if search is not None:
            node[part], distance[part], sure = search.at(points[part])
            unsure = ~sure
        if unsure.any():
            tree = cKDTree(pos) if tree is None else tree
            distance[part][unsure], node[part][unsure] = tree.query(points[part][unsure])
    return node, distance


def linear_weights(s_in: Sampling, points: np.ndarray, reach: float) -> Weights:
    """Bilinear on rings and on the faces of a cube, elsewhere linear in triangles."""
    if s_in.rings is not None:
        rings = RingWeights(s_in.rings, s_in.num_nodes)
        matrix = _assemble(lambda p: (*rings.at(p), None), points, s_in.num_nodes + 2)
        return _with_poles(matrix, rings.pole_rings)
    size = cube_size(s_in)
    if size is not None:
        cube = CubeWeights(size, s_in.kind == "cubed")
        return Weights(_assemble(lambda p: (*cube.at(p), None), points, s_in.num_nodes), None)
    return Weights(_assemble(_in_triangles(s_in, reach), points, s_in.num_nodes), None)


def cube_size(s: Sampling) -> int | None:
    """Pixels along the side of a face, if the points are those of a cubed sphere or a cube map that was not turned."""
    if s.kind not in ("cubed", "cubemap") or not s.is_whole:
        return None
    size = math.isqrt(s.num_nodes // 6)
    unturned = cubed(size) if s.kind == "cubed" else cubemap(size)
    same = unturned.num_nodes == s.num_nodes and bool((unturned.pos - s.pos).abs().max() < 1e-9)
    return size if same else None


def _in_triangles(s_in: Sampling, reach: float) -> Rows:
    """Linear in the triangles that are no gap, else the nearest node within ``reach``, else nothing."""
    mesh = Triangulation(s_in, math.pi / 2 if math.isinf(reach) else 1.5 * reach)
    tree = cKDTree(mesh.pos)

    def rows(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        column, weight, inside = mesh.at(points)
        if not inside.all() and not math.isinf(reach):
            lost = np.flatnonzero(~inside)
            distance, node = tree.query(points[lost])
            near = distance <= 2 * math.sin(min(reach, math.pi) / 2)
            column[lost[near]], weight[lost[near]] = node[near, None], np.array([1.0, 0.0, 0.0])
            inside[lost[near]] = True
        if not math.isinf(reach):  # inside a triangle of its rim, but far from all of its corners
            far = np.linalg.norm(points[:, None] - mesh.pos[column], axis=2).min(axis=1) > 2 * math.sin(reach / 2)
            inside &= ~far
        return column, weight, inside

    return rows


def _assemble(rows: Rows, points: np.ndarray, columns: int) -> csr_array:
    """Sparse rows, chunk by chunk; weights that are rounding are dropped, and the rest made to sum to 1."""
    index = np.int32 if columns < 2**31 else np.int64

    def chunk(start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        column, weight, inside = rows(points[start : start + _CHUNK])
        keep = weight > _ROUNDING
        if inside is not None:
            keep &= inside[:, None]
        total = np.where(keep, weight, 0.0).sum(axis=1, keepdims=True)
        weight = weight / np.where(total > 0, total, 1.0)
        return keep.sum(axis=1), column[keep].astype(index), weight[keep]

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # numpy lets other threads run while it computes
        parts = list(pool.map(chunk, range(0, len(points), _CHUNK)))
    counts, columns_of, weights_of = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    ptr = np.concatenate([[0], np.cumsum(counts)])
    matrix = csr_array((weights_of, columns_of, ptr), shape=(len(points), columns))
    matrix.sum_duplicates()
    return matrix


def _with_poles(matrix: csr_array, pole_rings: list[np.ndarray]) -> Weights:
    """Leaves the columns of the poles away where nothing reads them."""
    nodes = matrix.shape[1] - 2
    if not (matrix.indices >= nodes).any():
        return Weights(csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], nodes)), None)
    ptr = np.cumsum([0, *(len(ring) for ring in pole_rings)])
    data = np.concatenate([np.full(len(ring), 1 / len(ring)) for ring in pole_rings])
    poles = csr_array((data, np.concatenate(pole_rings), ptr), shape=(2, nodes))
    poles.sort_indices()
    return Weights(matrix, poles)


def conservative_weights(s_in: Sampling, s_out: Sampling) -> Weights:
    r"""Averages over cells of the target that keep every integral: :math:`\sum_i A_i y_i = \sum_j A_j x_j`.

    Each source gives its area to the targets around it, in the shares by which linear interpolation on the target would
    read them; on nested HEALPix to its parent. Shares are then changed as little as possible (by a factor
    :math:`1 + u_i + v_j`), so that every target receives its area and every source gives all of its own.
    """
    area_in, area_out = s_in.area.numpy(), s_out.area.numpy()
    area_in = area_in * (area_out.sum() / area_in.sum())
    if s_in.nside and s_out.nside and s_in.rings and s_out.rings and s_in.nside > s_out.nside:
        children = s_in.num_nodes // s_out.num_nodes
        ptr = np.arange(s_out.num_nodes + 1) * children
        given = csr_array((area_in.copy(), np.arange(s_in.num_nodes), ptr), shape=(s_out.num_nodes, s_in.num_nodes))
        return Weights(_rows_to_one(given), None)
    given = (diags_array(area_in) @ joined(linear_weights(s_out, s_in.pos.numpy(), math.inf))).T.tocsr()
    if not _balance(given, area_in, area_out):
        raise ValueError(
            f"method='conservative' averages over the cells of a coarser sampling, but the {s_in.num_nodes} nodes of "
            f"{s_in} are too few for the {s_out.num_nodes} cells of {s_out}; use method='linear'"
        )
    return Weights(_rows_to_one(given), None)


def _balance(given: csr_array, area_in: np.ndarray, area_out: np.ndarray) -> bool:
    """Changes shares in place until rows and columns have the right sums; whether that could be had.

    A change by :math:`1 + u_i + v_j` is the least in the sum of squares. Where it would be negative it is cut, and the
    rest made good by another round.
    """
    rows = np.repeat(np.arange(len(area_out)), np.diff(given.indptr))
    for _ in range(_MOST_ROUNDS):
        received, left = given.sum(axis=1), given.sum(axis=0)
        if received.min() <= 0 or left.min() <= 0:  # a target that hears of no source, a source without a target
            return False
        scaled = given.copy()
        scaled.data /= left[scaled.indices]
        laplacian = (diags_array(received) - scaled @ given.T).tocsr()  # of the targets alone: sources are many
        change, spare = area_out - received, area_in - left
        side = change - scaled @ spare
        tolerance = {"rtol": 1e-13, "atol": 1e-16 * area_out.sum(), "maxiter": 5000}
        u, _ = cg(laplacian, side - side.mean(), M=diags_array(1 / received), **tolerance)
        v = (spare - given.T @ u) / left
        factor = 1 + u[rows] + v[given.indices]
        given.data *= np.maximum(factor, 0.1)
        if factor.min() > 0.1:
            return True
    return False


def _rows_to_one(matrix: csr_array) -> csr_array:
    matrix.data /= np.repeat(matrix.sum(axis=1), np.diff(matrix.indptr))
    matrix.sort_indices()
    return matrix


def joined(weights: Weights) -> csr_array:
    """Both factors as one matrix ``[N_out, N_in]``; rows beside a pole hold a whole ring."""
    if weights.poles is None:
        return weights.matrix
    nodes = weights.poles.shape[1]
    return (weights.matrix[:, :nodes] + weights.matrix[:, nodes:] @ weights.poles).tocsr()

"""Interpolation inside the triangles of points on the sphere, found by walking."""

import numpy as np
from scipy.spatial import ConvexHull, QhullError, cKDTree

from .sampling import Sampling

_MOST_STEPS = 10_000  # of a walk; a dozen is usual


class Triangulation:
    """Triangles between the points of a sampling: its own, or those of the convex hull, which are Delaunay's.

    Args:
        s: The sampling.
        limit: Triangles whose circumcircle is wider, radians (of the radius), are gaps.

    Attributes:
        corner: ``[F, 3]``, counter-clockwise from outside.
        neighbour: Triangle across the edge opposite to each corner, ``[F, 3]``.
        gap: Which triangles cover nothing, ``[F]``.
    """

    def __init__(self, s: Sampling, limit: float) -> None:
        self.pos = s.pos.numpy()
        self.corner, self.neighbour = _hull(self.pos) if s.face is None else _given(s.face.numpy().T)
        a, b, c = self._corners(np.arange(len(self.corner)))
        normal = np.cross(b - a, c - a)
        height = (normal * a).sum(1) / np.linalg.norm(normal, axis=1)  # cosine of the circumcircle's radius
        self.behind = height < 1e-12  # points in one hemisphere: the hull closes behind them
        self.gap = self.behind | (height < np.cos(min(limit, np.pi / 2)) - 1e-12)
        used = np.unique(self.corner)
        self.vertex, self.tree = used, cKDTree(self.pos[used])
        self.some_face = np.zeros(len(self.pos), dtype=np.int64)
        order = np.argsort(~self.behind, kind="stable")  # a face in front is written last, and stays
        self.some_face[self.corner[order].reshape(-1)] = np.repeat(order, 3)

    def _corners(self, face: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a, b, c = self.corner[face].T
        return self.pos[a], self.pos[b], self.pos[c]

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns and weights of points ``[M, 3]``, ``[M, 3]`` each, and which points lie in no gap, ``[M]``.

        The weights are those of the place where the ray through a point meets the plane of its triangle.
        """
        face = self.some_face[self.vertex[self.tree.query(points)[1]]]
        weight = np.empty((len(points), 3))
        active = np.arange(len(points))
        for _ in range(_MOST_STEPS):
            weight[active] = self._signed(points[active], face[active])
            least = weight[active].argmin(axis=1)
            leaves = (weight[active, least] < -1e-15) & ~self.behind[face[active]]
            active, least = active[leaves], least[leaves]
            if not len(active):
                break
            face[active] = self.neighbour[face[active], least]
        weight = np.clip(weight, 0.0, None)
        total = weight.sum(axis=1, keepdims=True)
        inside = ~self.gap[face] & (total[:, 0] > 0)
        inside[active] = False  # a walk in circles: triangles that overlap
        return self.corner[face], weight / np.where(total > 0, total, 1.0), inside

    def _signed(self, points: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Thrice the volumes between a point and the edges of a triangle, positive inside, ``[M, 3]``."""
        a, b, c = (corner - points for corner in self._corners(face))  # differences keep the digits of small triangles
        return np.stack([(points * np.cross(u, v)).sum(1) for u, v in ((b, c), (c, a), (a, b))], axis=1)


def _hull(pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        hull = ConvexHull(pos)
    except (QhullError, ValueError) as error:
        raise ValueError(
            f"interpolation needs at least 4 different points that are in no plane, got {len(pos)}; "
            "use method='nearest'"
        ) from error
    corner, neighbour = hull.simplices.astype(np.int64), hull.neighbors.astype(np.int64)
    a, b, c = pos[corner.T]
    flip = (np.cross(b - a, c - a) * hull.equations[:, :3]).sum(1) < 0  # qhull's corners come in any order
    corner[flip], neighbour[flip] = corner[flip][:, ::-1], neighbour[flip][:, ::-1]
    return corner, neighbour


def _given(corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface of triangles with the neighbours across its edges."""
    start, end = corner[:, [1, 2, 0]].reshape(-1), corner[:, [2, 0, 1]].reshape(-1)  # opposite to corners 0, 1, 2
    size = int(corner.max()) + 1
    forth, back = np.argsort(start * size + end), np.argsort(end * size + start)
    neighbour = np.empty(len(start), dtype=np.int64)
    neighbour[back] = forth // 3
    return corner, neighbour.reshape(-1, 3)

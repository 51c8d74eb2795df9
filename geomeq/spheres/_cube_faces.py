"""Bilinear interpolation on the six faces of a cube, across their edges too."""

import math

import numpy as np

from .cubed import FACES

_FACES = FACES.numpy()  # normal, east, south of each face


class CubeWeights:
    """Where a point lies among the pixel centres of a cube map.

    Beyond the outer pixels of a face the nearest pixels of the neighbouring face continue it, found by linear
    interpolation along its edge. At the eight corners of the cube, where three faces meet, the cell is a triangle.

    Args:
        size: Pixels along the side of a face.
        equiangular: Whether lines of pixels are equal steps of the angle (:func:`cubed`) or of the plane.
    """

    def __init__(self, size: int, equiangular: bool) -> None:
        self.size, self.equiangular = size, equiangular

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and weights of points ``[M, 3]``, ``[M, 6]`` each."""
        face, right, down = self._place(points)
        j, i = (np.floor(v).astype(np.int64) for v in (right, down))
        u, v = right - j, down - i
        off = [(q < 0) | (q >= self.size) for q in (j, j + 1)], [(q < 0) | (q >= self.size) for q in (i, i + 1)]
        corner = (off[0][0] | off[0][1]) & (off[1][0] | off[1][1])
        u, v = np.where(corner & off[0][0], 1 - u, u), np.where(corner & off[1][0], 1 - v, v)  # from the own pixel
        own_j, own_i = np.where(off[0][0], j + 1, j), np.where(off[1][0], i + 1, i)
        far_j, far_i = np.where(off[0][0], j, j + 1), np.where(off[1][0], i, i + 1)
        near, far = np.where(corner, own_j, j), np.where(corner, far_j, j + 1)
        top, bottom = np.where(corner, own_i, i), np.where(corner, far_i, i + 1)
        column, weight = np.zeros((len(points), 8), dtype=np.int64), np.zeros((len(points), 8))
        cells = (
            (top, near, np.where(corner, 1 - u - v, (1 - u) * (1 - v))),
            (top, far, np.where(corner, u, u * (1 - v))),
            (bottom, near, np.where(corner, v, (1 - u) * v)),
            (bottom, far, np.where(corner, 0.0, u * v)),
        )
        for slot, (row, place, share) in enumerate(cells):
            both = slice(2 * slot, 2 * slot + 2)
            column[:, both], weight[:, both] = self._pixel(face, row, place)
            weight[:, both] *= share[:, None]
        return column, weight

    def _place(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face, and column and row in it as real numbers, 0 at the first pixel centre."""
        axis = np.abs(points).argmax(axis=1)
        sign = points[np.arange(len(points)), axis] < 0
        face = np.array([[0, 2], [1, 3], [4, 5]])[axis, sign.astype(np.int64)]
        local = np.einsum("mad,md->ma", _FACES[face], points)
        return face, self._line(local[:, 1] / local[:, 0]), self._line(local[:, 2] / local[:, 0])

    def _line(self, slope: np.ndarray) -> np.ndarray:
        """Coordinates on the plane, -1 to 1, as numbers of pixels."""
        across = np.arctan(slope) * (4 / math.pi) if self.equiangular else slope
        return (across + 1) * (self.size / 2) - 0.5

    def _slope(self, line: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`_line`."""
        across = (line + 0.5) * (2 / self.size) - 1
        return np.tan(across * (math.pi / 4)) if self.equiangular else across

    def _pixel(self, face: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two nodes and weights that stand for a pixel, which may lie one step beyond the face."""
        first = (face * self.size + np.clip(row, 0, self.size - 1)) * self.size + np.clip(column, 0, self.size - 1)
        node, weight = np.stack([first, first], axis=1), np.tile([1.0, 0.0], (len(face), 1))
        beyond = (row < 0) | (row >= self.size) | (column < 0) | (column >= self.size)
        if beyond.any():
            node[beyond], weight[beyond] = self._beyond(face[beyond], row[beyond], column[beyond])
        return node, weight

    def _beyond(self, face: np.ndarray, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes = np.stack([np.ones(len(face)), self._slope(column.astype(float)), self._slope(row.astype(float))], 1)
        other, right, down = self._place(np.einsum("ma,mad->md", slopes, _FACES[face]))
        right, down = np.clip(right, 0, self.size - 1), np.clip(down, 0, self.size - 1)
        sideways = np.abs(right - np.rint(right)) > np.abs(down - np.rint(down))  # which of them runs along the edge
        along = np.where(sideways, right, down)
        low = np.minimum(np.floor(along), max(self.size - 2, 0)).astype(np.int64)
        share = along - low
        nodes = []
        for step in (low, np.minimum(low + 1, self.size - 1)):
            i = np.where(sideways, np.rint(down).astype(np.int64), step)
            j = np.where(sideways, step, np.rint(right).astype(np.int64))
            nodes.append((other * self.size + i) * self.size + j)
        return np.stack(nodes, axis=1), np.stack([1 - share, share], axis=1)

"""Bilinear interpolation on rings of latitude: along two rings, then between them."""

import math
from typing import NamedTuple

import numpy as np

from .sampling import Rings

_POLE = 1e-12  # a ring this near to a pole, radians, is the pole


class _Chord(NamedTuple):
    """Two nodes, their weights ``[M, 2]`` each, and the colatitude of the point between them, ``[M]``."""

    column: np.ndarray
    weight: np.ndarray
    theta: np.ndarray


class RingWeights:
    """Where a point lies between rings, and which nodes it reads.

    A pole has one value: the mean of the nodes of the ring there, or of the ring beside it. It is a column of its own,
    ``num_nodes`` (north) and ``num_nodes + 1`` (south), so that a point beside the pole reads four numbers and not a
    whole ring.

    Args:
        rings: Of the sampling.
        num_nodes: Of the sampling.
    """

    def __init__(self, rings: Rings, num_nodes: int) -> None:
        colatitude, count = rings.colatitude.numpy(), rings.count.numpy()
        self.first = np.cumsum(count) - count  # of each ring, among the nodes ring by ring
        self.count, self.start, self.node = count, rings.start.numpy(), rings.node.numpy()
        inner = np.flatnonzero((colatitude > _POLE) & (colatitude < math.pi - _POLE))
        ends = np.array([len(count), len(count) + 1])
        self.ring = np.concatenate([ends[:1], inner, ends[1:]])  # ring numbers from pole to pole
        self.theta = np.concatenate([[0.0], colatitude[inner], [math.pi]])
        self.num_nodes, self.num_rings = num_nodes, len(count)
        self.pole_rings = [self._nodes(0), self._nodes(len(count) - 1)]

    def _nodes(self, ring: int) -> np.ndarray:
        """Numbers of the nodes of a ring."""
        return self.node[self.first[ring] : self.first[ring] + self.count[ring]]

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Columns and weights of points ``[M, 3]``, ``[M, 4]`` each; a column may come twice."""
        x, y, z = points.T
        theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
        below = np.clip(np.searchsorted(self.theta, theta, side="right"), 1, len(self.theta) - 1)
        upper, lower = self._along(below - 1, phi), self._along(below, phi)
        for step, near in ((1, lower.theta < theta), (-1, upper.theta > theta)):  # between a chord and its ring
            moved = np.flatnonzero(near & (below + step > 0) & (below + step < len(self.theta)))
            below[moved] += step
            for line, place in ((upper, below[moved] - 1), (lower, below[moved])):
                for old, new in zip(line, self._along(place, phi[moved]), strict=True):
                    old[moved] = new
        gap = lower.theta - upper.theta
        down = np.clip((theta - upper.theta) / np.where(gap > 0, gap, 1.0), 0.0, 1.0)[:, None]
        column = np.concatenate([upper.column, lower.column], axis=1)
        return column, np.concatenate([upper.weight * (1 - down), lower.weight * down], axis=1)

    def _along(self, place: np.ndarray, phi: np.ndarray) -> "_Chord":
        """The two nodes of a ring beside a longitude, and where the line between them is there; of a pole its column.

        Interpolation between two nodes of a ring gives the value on their chord, not on the ring. Around a pole, where
        a ring has a handful of nodes, the difference is a good part of the distance between rings: with the colatitude
        of the ring, as is usual, the error would fall only like the spacing, not like its square.
        """
        ring = self.ring[place]
        pole = ring >= self.num_rings
        ring = np.where(pole, 0, ring)
        count = self.count[ring]
        width = 2 * math.pi / count
        step = (phi - self.start[ring]) / width
        west = np.floor(step)
        angle = (step - west) * width
        one, other = np.sin(np.minimum(angle, math.pi)), np.sin(np.minimum(width - angle, math.pi))
        share = np.where(count > 2, one / np.where(one + other > 0, one + other, 1.0), step - west)
        shrink = np.cos(np.minimum(width, math.pi) / 2) / np.cos(np.clip(angle - width / 2, -1.5, 1.5))
        west = west.astype(np.int64) % count
        east = np.where(west + 1 == count, 0, west + 1)
        column = np.stack([self.node[self.first[ring] + west], self.node[self.first[ring] + east]], axis=1)
        weight = np.stack([1 - share, share], axis=1)
        column[pole] = (self.num_nodes + (self.ring[place[pole]] - self.num_rings))[:, None]
        weight[pole] = 0.5
        own = self.theta[place]
        return _Chord(column, weight, np.where(pole, own, np.arctan2(np.sin(own) * shrink, np.cos(own))))


class RingSearch:
    """The nearest node of a ring sampling: the nearest of each of a few rings, the rest by proof or by a tree.

    Args:
        rings: Of the sampling.
        pos: Its points ``[N, 3]``.
        reach: Rings looked at on either side.
    """

    def __init__(self, rings: Rings, pos: np.ndarray, reach: int = 2) -> None:
        count = rings.count.numpy()
        self.first, self.count = np.cumsum(count) - count, count
        self.theta, self.start, self.node = rings.colatitude.numpy(), rings.start.numpy(), rings.node.numpy()
        self.pos, self.reach = pos, reach

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Node and distance (chord) of the nearest among these rings ``[M]``, and whether no other ring is nearer."""
        x, y, z = points.T
        theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
        row = np.searchsorted(self.theta, theta)
        best = np.full(len(points), np.inf)
        node = np.zeros(len(points), dtype=np.int64)
        for offset in range(-self.reach, self.reach):
            ring = np.clip(row + offset, 0, len(self.theta) - 1)
            column = np.rint((phi - self.start[ring]) * (self.count[ring] / (2 * math.pi))).astype(np.int64)
            candidate = self.node[self.first[ring] + column % self.count[ring]]
            distance = np.linalg.norm(points - self.pos[candidate], axis=1)
            nearer = distance < best
            best[nearer], node[nearer] = distance[nearer], candidate[nearer]
        padded = np.concatenate([np.full(self.reach + 1, -np.inf), self.theta, np.full(self.reach + 1, np.inf)])
        outside = np.minimum(theta - padded[row], padded[row + 2 * self.reach + 1] - theta)  # to the next rings
        return node, best, 2 * np.arcsin(np.clip(best / 2, 0, 1)) <= outside

"""Half-edge collapse: a coarse mesh whose vertices are some of the fine mesh's.

A collapse moves a vertex onto a neighbour and removes it. The next one is that of least cost: the squared distances of
the vertex that stays from the planes of all faces merged so far (Garland and Heckbert, 1997), plus a share of the
squared edge length times the area around the vertex that goes, which spreads the vertices evenly. Collapses that would
change the topology, turn a face over, make a needle, or a vertex with too many neighbours are left out.
"""

import heapq

import numpy as np


class Decimation:
    """A closed mesh that is being coarsened.

    Args:
        pos: ``[V, 3]``.
        face: ``[F, 3]``, closed and consistently oriented.
        even: Weight of even spacing against shape.
        max_degree: Neighbours that a vertex may have.
    """

    def __init__(self, pos: np.ndarray, face: np.ndarray, even: float = 0.02, max_degree: int = 9) -> None:
        self.pos, self.even, self.max_degree = pos, even, max_degree
        self.face = {f: tuple(map(int, corners)) for f, corners in enumerate(face)}
        self.around: list[set[int]] = [set() for _ in pos]
        for f, corners in self.face.items():
            for v in corners:
                self.around[v].add(f)
        self.quadric = self._quadrics(face)
        self.version = np.zeros(len(pos), dtype=int)
        self.alive = len(pos)

    def _quadrics(self, face: np.ndarray) -> np.ndarray:
        a, b, c = (self.pos[face[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        twice = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
        plane = np.concatenate([normal, -np.sum(normal * a, axis=1, keepdims=True)], axis=1) / twice
        each = plane[:, :, None] * plane[:, None, :] * twice[:, :, None] / 6
        total = np.zeros((len(self.pos), 4, 4))
        for k in range(3):
            np.add.at(total, face[:, k], each)
        return total

    def neighbours(self, v: int) -> set[int]:
        return {w for f in self.around[v] for w in self.face[f]} - {v}

    def _area(self, v: int) -> float:
        corners = self.pos[[self.face[f] for f in self.around[v]]]
        return (
            0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
        )

    def _push(self, heap: list, u: int) -> None:
        """The cheapest collapse of ``u`` that is allowed."""
        ring = sorted(self.neighbours(u))
        point = np.concatenate([self.pos[ring], np.ones((len(ring), 1))], axis=1)
        shape = np.einsum("ni,nij,nj->n", point, self.quadric[u] + self.quadric[ring], point)
        length = ((self.pos[ring] - self.pos[u]) ** 2).sum(axis=1)
        cost = shape + self.even * length * self._area(u)
        for k in np.argsort(cost, kind="stable"):
            if self._allowed(u, ring[k]):
                heapq.heappush(heap, (float(cost[k]), u, ring[k], int(self.version[u])))
                return

    def _allowed(self, u: int, v: int) -> bool:
        """Whether ``u`` may move onto ``v``."""
        gone = self.around[u] & self.around[v]
        common = self.neighbours(u) & self.neighbours(v)
        if len(gone) != 2 or len(common) != 2:
            return False  # the link condition: the surface would pinch
        if len(self.neighbours(u) | self.neighbours(v)) - 2 > self.max_degree:
            return False
        if any(len(self.neighbours(w)) <= 4 for w in common):
            return False
        old = np.array([self.face[f] for f in self.around[u] - gone])
        new = np.where(old == u, v, old)
        return self._well_shaped(old, new)

    def _well_shaped(self, old: np.ndarray, new: np.ndarray) -> bool:
        before, after = (self.pos[x] for x in (old, new))
        n0, n1 = (np.cross(x[:, 1] - x[:, 0], x[:, 2] - x[:, 0]) for x in (before, after))
        turned = np.einsum("fi,fi->f", n0, n1) < 0.2 * np.linalg.norm(n0, axis=1) * np.linalg.norm(n1, axis=1)
        sides = ((after - np.roll(after, 1, axis=1)) ** 2).sum(axis=2).max(axis=1)
        return not (turned.any() or (np.linalg.norm(n1, axis=1) < 0.15 * sides).any())

    def _collapse(self, u: int, v: int) -> list[int]:
        """Moves ``u`` onto ``v``; the vertices whose collapses change."""
        touched = self.neighbours(u) | self.neighbours(v)
        for f in self.around[u] & self.around[v]:
            for w in self.face.pop(f):
                self.around[w].discard(f)
        for f in self.around[u]:
            self.face[f] = tuple(v if w == u else w for w in self.face[f])
            self.around[v].add(f)
        self.around[u] = set()
        self.quadric[v] += self.quadric[u]
        self.alive -= 1
        self.version[u] += 1
        return sorted(touched - {u})

    def run(self, vertices: int) -> tuple[np.ndarray, np.ndarray]:
        """Collapses down to so many vertices.

        Returns:
            The vertices that stay, ascending, ``[V']``; the faces in their numbering, ``[F', 3]``.
        """
        heap: list[tuple[float, int, int, int]] = []
        for u in range(len(self.pos)):
            self._push(heap, u)
        while self.alive > vertices:
            _, u, v, version = heapq.heappop(heap)
            if version != self.version[u]:
                continue
            if not self._allowed(u, v):
                self.version[u] += 1
                self._push(heap, u)
                continue
            for w in self._collapse(u, v):
                self.version[w] += 1
                self._push(heap, w)
        kept = np.flatnonzero([bool(f) for f in self.around])
        corners = np.array([self.face[f] for f in sorted(self.face)])
        return kept, np.searchsorted(kept, corners)

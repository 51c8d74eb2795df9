"""Flips of edges inside the surface, until every edge is Delaunay."""

import math

import numpy as np
import torch
from torch import Tensor

from ._half_edges import half_edges
from ._lengths import corner_angles
from ._read import read_face, read_length

_TOL = 1e-9  # radians; far above the rounding of an angle, so that no two flips undo each other


def flip_to_delaunay(
    face: Tensor, length: Tensor, *, simple: bool = True, max_rounds: int = 10_000
) -> tuple[Tensor, Tensor, int]:
    """Flips edges within the surface until the two angles opposite to every edge add up to pi at most.

    The surface stays what it is: an edge is replaced by the other diagonal of its two triangles, laid flat, so areas,
    angle sums at vertices and the distances within the surface are the same to rounding. Vertices stay where they are.
    Afterwards the cotangent weights of all inner edges are positive (or zero), and neighbours are nearer and rounder.

    Edges of one triangle, of more than two, or of two that disagree about their orientation are never flipped.

    Args:
        face: Corners of the triangles ``[3, F]``.
        length: Of the half-edges ``[3 F]``, equal on both sides of an edge.
        simple: Whether to leave out flips that would connect a vertex with itself, or two vertices a second time.
            The exact triangulation may have such edges, on thin tubes above all. It is fine for Laplacians and areas,
            which look at triangles alone, but :func:`geomeq.meshes.half_edges` cannot tell its edges apart.
        max_rounds: Rounds of flips that do not touch each other.

    Returns:
        The triangles ``[3, F]``, the lengths of their half-edges (float64, ``[3 F]``) and the number of flips.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, a face that names a vertex twice, negative lengths, NaN,
            lengths that differ on the two sides of an edge.
        RuntimeError: If ``max_rounds`` did not suffice, which takes triangles that are flat to the last digit;
            :func:`geomeq.meshes.mollify` them.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [4, 0, 0], [2, 1, 0], [2, -1, 0]])
        >>> face = torch.tensor([[0, 1], [1, 0], [2, 3]])  # the long diagonal of a rhombus
        >>> from geomeq.meshes import edge_lengths
        >>> face, length, flips = flip_to_delaunay(face, edge_lengths(pos, face))
        >>> flips, face.t().tolist()
        (1, [[0, 3, 2], [1, 2, 3]])

    Source: Bobenko and Springborn (2007), https://doi.org/10.1007/s00454-007-9006-1
    """
    face = read_face(face)
    length = read_length(length, face.size(1))
    num = int(face.amax()) + 1 if face.numel() else 0
    he = half_edges(face, num)
    paired = he.twin >= 0
    if not torch.allclose(length[paired], length[he.twin[paired]], rtol=1e-6):
        raise ValueError("length must be equal on both sides of an edge; take it from geomeq.meshes.edge_lengths")
    state = _Triangles(he.source.cpu().numpy().copy(), he.twin.cpu().numpy().copy(), length.detach().cpu().numpy())
    keys = _EdgeKeys(he.edges.cpu().numpy(), num) if simple else None
    flips = _run(state, keys, max_rounds)
    corners = torch.from_numpy(state.source).view(-1, 3).t().contiguous()
    return corners.to(face.device), torch.from_numpy(state.length).to(face.device), flips


def _run(state: "_Triangles", keys: "_EdgeKeys | None", max_rounds: int) -> int:
    """Rounds of flips; each looks only at edges beside the last ones, and at those that had to wait."""
    flips, everything = 0, True
    edges = state.edges()
    for _ in range(max_rounds):
        bad, excess = state.bad(edges, keys)
        now = state.independent(bad, excess)
        if keys is not None:
            now = keys.distinct(now, *state.other_ends(now))
        if now.size:
            flips += now.size
            if keys is not None:
                keys.exchange(state.ends(now), state.other_ends(now))
            edges, everything = state.pick(np.concatenate([state.flip(now), bad])), False
        elif everything:
            return flips
        else:  # a pair of vertices may have come apart, so that an edge that was refused is free now
            edges, everything = state.edges(), True
    raise RuntimeError(
        f"edges were still being flipped after {max_rounds} rounds ({flips} flips); apply geomeq.meshes.mollify to the "
        "lengths first, or take a larger max_rounds"
    )


class _Triangles:
    """Triangles glued along half-edges; two may share several edges, or one be glued to itself."""

    def __init__(self, source: np.ndarray, twin: np.ndarray, length: np.ndarray) -> None:
        self.source, self.twin, self.length = source, twin, length.copy()
        self._moved = np.arange(source.size)
        self._best = np.full(source.size // 3, np.inf)

    def edges(self) -> np.ndarray:
        """Every edge of two triangles once, as one of its half-edges."""
        return np.flatnonzero(self.twin > np.arange(self.twin.size))

    def pick(self, h: np.ndarray) -> np.ndarray:
        """The edges of two triangles among these half-edges, each once."""
        h = h[self.twin[h] >= 0]
        return np.unique(np.minimum(h, self.twin[h]))

    def ends(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The vertices that edges connect."""
        return self.source[h], self.source[_next(h)]

    def other_ends(self, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The vertices that they would connect when flipped."""
        return self.source[_prev(h)], self.source[_prev(self.twin[h])]

    def bad(self, h: np.ndarray, keys: "_EdgeKeys | None") -> tuple[np.ndarray, np.ndarray]:
        """Those of some edges that may and should be flipped, and by how much their angles exceed pi."""
        h = h[h // 3 != self.twin[h] // 3]
        excess = self._angle(_prev(h)) + self._angle(_prev(self.twin[h])) - math.pi
        h, excess = h[excess > _TOL], excess[excess > _TOL]
        if keys is not None and h.size:
            free = keys.free(*self.other_ends(h))
            h, excess = h[free], excess[free]
        return h, excess

    def independent(self, h: np.ndarray, excess: np.ndarray) -> np.ndarray:
        """Of these edges, those that are the worst of both their triangles."""
        f, g = h // 3, self.twin[h] // 3
        rank = np.empty(h.size)
        rank[np.lexsort((h, -excess))] = np.arange(h.size)
        np.minimum.at(self._best, f, rank)
        np.minimum.at(self._best, g, rank)
        chosen = h[(self._best[f] == rank) & (self._best[g] == rank)]
        self._best[f] = self._best[g] = np.inf
        return chosen

    def flip(self, h: np.ndarray) -> np.ndarray:
        """Flips edges of which no two share a triangle; gives the edges of the new triangles."""
        t = self.twin[h]
        f, g = h - h % 3, t - t % 3  # first half-edges of the two triangles
        outer = np.concatenate([_next(t), _prev(h), _next(h), _prev(t)])
        place = np.concatenate([f, f + 2, g, g + 2])
        diagonal = self._diagonal(h, t)
        near, far = self.other_ends(h)
        source, length, partner = self.source[outer], self.length[outer], self.twin[outer]
        self._moved[outer] = place
        partner = np.where(partner >= 0, self._moved[partner], -1)
        self._moved[outer] = outer
        self.source[place], self.length[place], self.twin[place] = source, length, partner
        self.twin[partner[partner >= 0]] = place[partner >= 0]
        self.source[f + 1], self.source[g + 1] = far, near
        self.length[f + 1] = self.length[g + 1] = diagonal
        self.twin[f + 1], self.twin[g + 1] = g + 1, f + 1
        return np.concatenate([place, f + 1])

    def _diagonal(self, h: np.ndarray, t: np.ndarray) -> np.ndarray:
        """Distance of the two corners opposite to edges, the two triangles laid flat."""
        a, b = self.length[_prev(h)], self.length[_next(t)]
        turn = (self._angle(h) + self._angle(_next(t))) / 2
        return np.sqrt((a - b) ** 2 + 4 * a * b * np.sin(turn) ** 2)

    def _angle(self, h: np.ndarray) -> np.ndarray:
        """Angles at the sources of half-edges."""
        sides = np.stack([self.length[h], self.length[_next(h)], self.length[_prev(h)]], axis=1)
        return corner_angles(torch.from_numpy(sides.reshape(-1))).numpy()[::3]


class _EdgeKeys:
    """The pairs of vertices that are connected, as sorted integers."""

    def __init__(self, edges: np.ndarray, num_vertices: int) -> None:
        self.num = num_vertices
        self.sorted = np.sort(self._key(edges[0], edges[1]))

    def _key(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.minimum(a, b) * self.num + np.maximum(a, b)

    def free(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Which pairs are two vertices not yet connected."""
        key = self._key(a, b)
        place = np.minimum(np.searchsorted(self.sorted, key), self.sorted.size - 1)
        return (self.sorted[place] != key) & (a != b)

    def distinct(self, h: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Of edges that would come to connect ``a`` and ``b``, one for each pair."""
        return h[np.unique(self._key(a, b), return_index=True)[1]]

    def exchange(self, old: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray]) -> None:
        """Takes pairs out and puts others in."""
        kept = np.delete(self.sorted, np.searchsorted(self.sorted, self._key(*old)))
        added = np.sort(self._key(*new))
        self.sorted = np.insert(kept, np.searchsorted(kept, added), added)


def _next(h: np.ndarray) -> np.ndarray:
    return h - h % 3 + (h + 1) % 3


def _prev(h: np.ndarray) -> np.ndarray:
    return h - h % 3 + (h + 2) % 3

"""What keeps a network from reading the answer off the mesh: another vertex order, other triangles."""

import numpy as np

_DEGREE = 3, 12  # neighbours that a vertex must keep, and may have


def shuffle_vertices(vertices: int, face: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random vertex order, and the faces in it: in random order as well, each from a random corner.

    Returns:
        ``order [V]``, where new vertex ``k`` was ``order[k]``, and the new faces ``[F, 3]``.
    """
    order = random.permutation(vertices)
    place = np.argsort(order)
    face = place[face][random.permutation(len(face))]
    corner = (random.integers(3, size=len(face))[:, None] + np.arange(3)) % 3
    return order, np.take_along_axis(face, corner, axis=1)


def flip_edges(pos: np.ndarray, face: np.ndarray, random: np.random.Generator, rounds: int = 8) -> np.ndarray:
    """Flips randomly chosen edges of a closed mesh: the same vertices and nearly the same surface, other triangles.

    Each round flips edges no two of which share a triangle, where both new triangles are well shaped and turn by less
    than 60 degrees.

    Args:
        pos: ``[V, 3]``.
        face: ``[F, 3]``, closed, manifold, consistently oriented.
        random: Where the choice comes from.
        rounds: How often; eight change a fifth to a quarter of the edges of a body.

    Returns:
        Faces ``[F, 3]``, oriented as before.
    """
    for _ in range(rounds):
        face = _flip_some(pos, face, random)
    return face


def _flip_some(pos: np.ndarray, face: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One round: edge a-b of triangles (a, b, c) and (b, a, d) becomes c-d of (d, b, c) and (c, a, d)."""
    count, faces = len(pos), len(face)
    a, b, c = (np.roll(face, -k, axis=1).ravel() for k in range(3))  # half-edge a -> b, opposite corner c
    forward, backward = np.argsort(a * count + b), np.argsort(b * count + a)
    twin = np.empty(3 * faces, dtype=np.int64)
    twin[forward] = backward
    edge = np.minimum(np.arange(3 * faces), twin)
    rank = random.permutation(3 * faces)[edge].reshape(faces, 3)
    first = (rank == rank.max(axis=1, keepdims=True)).ravel()  # of the three edges of its triangle
    chosen = np.flatnonzero(first & first[twin] & (a < b))
    a, b, c, d = a[chosen], b[chosen], c[chosen], c[twin[chosen]]
    new = np.stack([np.stack([d, b, c], axis=1), np.stack([c, a, d], axis=1)])
    good = _well_shaped(pos, np.stack([a, b, c], axis=1), np.stack([b, a, d], axis=1), new)
    good &= _keeps_degrees(count, face, a, b, c, d, good)
    good &= _is_new_edge(count, face, c, d)
    out = face.copy()
    out[chosen[good] // 3], out[twin[chosen[good]] // 3] = new[0, good], new[1, good]
    return out


def _well_shaped(pos: np.ndarray, one: np.ndarray, other: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Whether both new triangles look the way of both old ones, and none is a needle."""
    old = [_normal(pos[x]) for x in (one, other)]
    good = np.ones(len(one), dtype=bool)
    for corners in (pos[new[0]], pos[new[1]]):
        normal = _normal(corners)
        size = np.linalg.norm(normal, axis=1)
        longest = ((corners - np.roll(corners, 1, axis=1)) ** 2).sum(axis=2).max(axis=1)
        good &= size > 0.12 * longest
        for before in old:
            cosine = np.einsum("fi,fi->f", normal, before) / np.maximum(size * np.linalg.norm(before, axis=1), 1e-300)
            good &= cosine > np.cos(np.radians(60))
    return good


def _normal(corners: np.ndarray) -> np.ndarray:
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _keeps_degrees(count: int, face: np.ndarray, *quad_and_wanted: np.ndarray) -> np.ndarray:
    """Whether the vertices keep a sound number of neighbours even if all wanted flips happen."""
    a, b, c, d, wanted = quad_and_wanted
    degree = np.bincount(face.ravel(), minlength=count)
    lost = np.bincount(np.concatenate([a[wanted], b[wanted]]), minlength=count)
    won = np.bincount(np.concatenate([c[wanted], d[wanted]]), minlength=count)
    low, high = degree - lost >= _DEGREE[0], degree + won <= _DEGREE[1]
    return low[a] & low[b] & high[c] & high[d]


def _is_new_edge(count: int, face: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Whether c-d is no edge yet, and no other flip makes it."""
    key = np.minimum(c, d) * count + np.maximum(c, d)
    start, end = face.ravel(), np.roll(face, -1, axis=1).ravel()
    there = np.isin(key, np.minimum(start, end) * count + np.maximum(start, end))
    _, which, times = np.unique(key, return_inverse=True, return_counts=True)
    return ~there & (times[which] == 1)

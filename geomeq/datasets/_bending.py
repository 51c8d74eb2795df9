"""A bumpy sphere, and shapes near it that keep the lengths of its edges: as-rigid-as-possible deformation."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

#: Directions and heights of the bumps of the template, in the order of a golden spiral of ``len(BUMPS)`` points.
BUMPS = (0.31, -0.22, 0.36, 0.18, -0.3, 0.4, -0.14, 0.27, -0.36, 0.22, 0.39, -0.26, -0.18, 0.33, -0.29, 0.24)
WIDTH = 0.38  # radians, of every bump
STIFFNESS = 50.0  # of an edge against the pull of the target at a vertex
SWEEPS = 30  # of the as-rigid-as-possible iteration; later ones change lengths by less than 0.1 %


def bumpy_radius(direction: np.ndarray) -> np.ndarray:
    """Radius of the template in given directions: 1 plus Gaussian bumps and dents of fixed places and heights.

    Args:
        direction: Unit vectors, ``[V, 3]``.

    Returns:
        Radii ``[V]``, positive.
    """
    angle = np.arccos(np.clip(direction @ _spiral(len(BUMPS)).T, -1, 1))
    return 1 + np.exp(-0.5 * (angle / WIDTH) ** 2) @ np.asarray(BUMPS)


def low_modes(pos: np.ndarray) -> np.ndarray:
    """The harmonic polynomials of degrees 2 and 3 at the vertices, mean 0 and variance 1 each, ``[V, 12]``."""
    x, y, z = (pos - pos.mean(axis=0)).T
    r = x * x + y * y + z * z
    second = [x * y, y * z, z * x, x * x - y * y, 3 * z * z - r]
    third = [x * y * z, z * (x * x - y * y), x * (x * x - 3 * y * y), y * (3 * x * x - y * y)]
    third += [x * (5 * z * z - r), y * (5 * z * z - r), z * (5 * z * z - 3 * r)]
    modes = np.stack(second + third, axis=1)
    modes -= modes.mean(axis=0)
    return modes / modes.std(axis=0)


def pull(pos: np.ndarray, samples: int, strength: float, random: np.random.Generator) -> np.ndarray:
    """Random targets for the vertices: ``pos`` plus a smooth vector field of ``strength`` (root mean square).

    Returns:
        ``[S, V, 3]``. A smaller number of samples is the beginning of a larger one.
    """
    modes = low_modes(pos)
    weight = np.r_[np.ones(5), np.full(7, 0.6)]  # degree 2 bends and twists most
    field = random.standard_normal((samples, modes.shape[1], 3)) * weight[:, None] / np.sqrt((weight**2).sum() * 3)
    return pos + strength * np.einsum("vk,skc->svc", modes, field)


def keep_rigid(pos: np.ndarray, edge: np.ndarray, target: np.ndarray, sweeps: int = SWEEPS) -> np.ndarray:
    r"""Follows the targets as far as the surface bends, and as little as it would have to stretch.

    Minimises :math:`s \sum_{ij} |(x_i - x_j) - \tfrac12 (R_i + R_j)(p_i - p_j)|^2 + \sum_i |x_i - t_i|^2` over places
    :math:`x` and rotations :math:`R`, in turns, with stiffness :math:`s` (:data:`STIFFNESS`).

    Args:
        pos: Vertices of the template :math:`p`, ``[V, 3]``.
        edge: Every edge once, ``[2, E]``.
        target: Where vertices are pulled to, :math:`t`, ``[S, V, 3]``.
        sweeps: Number of turns.

    Returns:
        Vertices :math:`x`, ``[S, V, 3]``.

    Source: Sorkine and Alexa (2007), https://doi.org/10.2312/SGP/SGP07/109-116
    """
    samples, count, _ = target.shape
    source, end = np.concatenate([edge, edge[::-1]], axis=1)
    ones = np.ones(len(source))
    gather = sparse.csr_matrix((ones, (end, np.arange(len(source)))), shape=(count, len(source)))
    adjacency = sparse.csr_matrix((ones, (end, source)), shape=(count, count))
    laplacian = sparse.diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency
    solve = splu((STIFFNESS * laplacian + sparse.eye(count)).tocsc()).solve
    rest = pos[end] - pos[source]
    x = target.transpose(1, 0, 2)  # vertices first: sparse products run over them
    pulled = x
    for _ in range(sweeps):
        covariance = np.einsum("ei,esj->esij", rest, x[end] - x[source]).reshape(len(source), -1)
        rotation = _nearest_rotation((gather @ covariance).reshape(count, samples, 3, 3))
        kept = np.einsum("esij,ej->esi", (rotation[end] + rotation[source]) / 2, rest).reshape(len(source), -1)
        right = STIFFNESS * (gather @ kept).reshape(count, samples, 3) + pulled
        x = solve(right.reshape(count, -1)).reshape(count, samples, 3)
    return x.transpose(1, 0, 2)


def _nearest_rotation(covariance: np.ndarray) -> np.ndarray:
    """The rotations ``R`` with the largest ``trace(R C)``, ``[..., 3, 3]``."""
    u, _, vt = np.linalg.svd(covariance)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return np.swapaxes(u @ vt, -1, -2)


def _spiral(points: int) -> np.ndarray:
    """Nearly even directions on the sphere along a golden spiral, ``[points, 3]``."""
    k = np.arange(points)
    z = 1 - (2 * k + 1) / points
    around = k * np.pi * (3 - np.sqrt(5))
    return np.stack([np.sqrt(1 - z * z) * np.cos(around), np.sqrt(1 - z * z) * np.sin(around), z], axis=1)

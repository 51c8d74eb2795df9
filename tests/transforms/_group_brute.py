"""Graphs on groups by their definition: logarithms from formulas (numpy, scipy), every pair looked at."""

import numpy as np
from scipy.spatial.transform import Rotation


def wrap(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def se2_log(a, b):
    """The published formula, for ``a^-1 b``."""
    cos, sin = np.cos(a[..., 2]), np.sin(a[..., 2])
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    x, y, half = cos * dx + sin * dy, -sin * dx + cos * dy, wrap(b[..., 2] - a[..., 2]) / 2
    safe = np.where(np.abs(half) < 1e-9, 1.0, half)
    cot = np.where(np.abs(half) < 1e-9, 1.0, safe / np.tan(safe))
    return np.stack([cot * x + half * y, -half * x + cot * y, 2 * half], axis=-1)


def se2_log_wrong(a, b):
    """With the sign of the reference implementation in the second coordinate."""
    c = se2_log(a, b)
    cos, sin = np.cos(a[..., 2]), np.sin(a[..., 2])
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    x, y, half = cos * dx + sin * dy, -sin * dx + cos * dy, c[..., 2] / 2
    cot = np.where(np.abs(half) < 1e-9, 1.0 / 1e-9, 1 / np.tan(np.where(np.abs(half) < 1e-9, 1.0, half)))
    c[..., 1] = np.where(np.abs(half) < 1e-9, y, -half * (x + y * cot))
    return c


def so3_log(a, b):
    relative = np.swapaxes(a, -1, -2) @ b
    return Rotation.from_matrix(relative.reshape(-1, 3, 3)).as_rotvec().reshape(*relative.shape[:-2], 3)


def s2_length(a, b):
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1))[..., None]


def rn_log(a, b):
    return b - a


def so2_log(a, b):
    return wrap(b - a)[..., None]


def scale_log(a, b):
    shift, level = (b - a)[..., :-1] * np.exp(-a[..., -1:]), (b - a)[..., -1:]
    safe = np.where(np.abs(level) < 1e-9, 1.0, level)
    factor = np.where(np.abs(level) < 1e-9, 1.0, safe / np.expm1(safe))
    return np.concatenate([shift * factor, level], axis=-1)


def se3_log(a, b):
    """Rotation vector by scipy; the velocity solves ``V u = x`` with the integral V of the rotation along the screw."""
    relative = np.linalg.inv(a) @ b
    w = Rotation.from_matrix(relative[..., :3, :3]).as_rotvec()
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    cross = np.cross(np.eye(3), w[..., None, :])  # rows e_i x w: the matrix of w x
    safe = np.where(angle < 1e-6, 1.0, angle)
    first = np.where(angle < 1e-6, 0.5, (1 - np.cos(safe)) / safe**2)
    second = np.where(angle < 1e-6, 1 / 6, (safe - np.sin(safe)) / safe**3)
    integral = np.eye(3) + first * cross + second * cross @ cross
    u = np.linalg.solve(integral, relative[..., :3, 3:])[..., 0]
    return np.concatenate([u, w], axis=-1)


def all_sqdist(element, log, metric, symmetry=None):
    """``[N, N]``: the definition. ``symmetry`` maps elements to their other representatives."""
    n = len(element)
    best = np.full((n, n), np.inf)
    for other in [element] if symmetry is None else [element, symmetry(element)]:
        for i in range(n):
            c = log(np.broadcast_to(element[i], other.shape), other)
            best[i] = np.minimum(best[i], np.einsum("nd,de,ne->n", c, metric, c))
    best[np.arange(n), np.arange(n)] = np.inf
    return best


def half_turn_se2(a):
    return a + np.array([0.0, 0.0, np.pi])


def half_turn_so3(a):
    return a @ np.diag([-1.0, -1.0, 1.0])


def edges_within(sqdist, square):
    """``[2, E]`` sorted by target, then source."""
    target, source = np.nonzero(sqdist <= square * (1 + 1e-9))
    return np.stack([source, target])

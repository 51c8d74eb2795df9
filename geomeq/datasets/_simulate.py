"""Integrators of the N-body data, vectorised over systems: numpy, float64."""

from itertools import combinations

import numpy as np
from tqdm import tqdm, trange

DT = 1e-3
STEPS_PER_FRAME = 100
INPUT_FRAME, TARGET_FRAME = 30, 40
MAX_FORCE = 100.0  # 0.1 / DT, per component
SOFTENING = 0.1
SPEED = 0.5  # norm of every initial velocity of the charged system


def start_charged(
    systems: int, stream: np.random.SeedSequence, n: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws charged systems: positions ``[S, n, 3]``, velocities ``[S, n, 3]``, charges ``[S, n, 1]``."""
    for_pos, for_vel, for_charge = (np.random.default_rng(s) for s in stream.spawn(3))
    pos = for_pos.standard_normal((systems, n, 3)) * (n / 5) ** (1 / 3)
    vel = for_vel.standard_normal((systems, n, 3))
    vel *= SPEED / np.linalg.norm(vel, axis=-1, keepdims=True)
    charge = for_charge.integers(0, 2, (systems, n, 1)) * 2.0 - 1.0
    return pos, vel, charge


def charged(systems: int, stream: np.random.SeedSequence, label: str = "") -> dict[str, np.ndarray]:
    """Simulates charged systems up to the target frame.

    Args:
        systems: Their number, ``S``.
        stream: Seeds of the initial state.
        label: Text of the progress bar.

    Returns:
        ``pos``, ``vel`` (input frame), ``pos_target`` and ``vel_target`` ``[S, n, 3]``, ``charge`` ``[S, n, 1]``,
        float64. ``vel_target`` is the velocity of the step that *leaves* the target, where ``vel`` is that of the step
        that led to ``pos``: so ``(pos_target, -vel_target) -> pos`` is a motion of the same integrator.
    """
    pos, vel, charge = start_charged(systems, stream)
    frames = run_charged(pos, vel, charge, (INPUT_FRAME, TARGET_FRAME), label)
    (x, v), (x_target, v_target) = frames
    v_target = v_target + DT * charged_force(x_target, charge)
    return {"pos": x, "vel": v, "pos_target": x_target, "vel_target": v_target, "charge": charge}


def charged_force(pos: np.ndarray, charge: np.ndarray) -> np.ndarray:
    """Clipped forces ``[S, n, 3]`` at positions ``[S, n, 3]``."""
    q = charge[..., 0].T
    pairs = list(combinations(range(pos.shape[1]), 2))
    i, j = (np.array(p) for p in zip(*pairs, strict=True))
    force = _coulomb(np.ascontiguousarray(pos.transpose(1, 2, 0)), (q[i] * q[j])[:, None], i, j, pairs)
    return force.transpose(2, 0, 1)


def run_charged(
    pos: np.ndarray, vel: np.ndarray, charge: np.ndarray, frames: tuple[int, ...], label: str = ""
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Integrates charged systems and returns positions and velocities ``[S, n, 3]`` at the given frames.

    Only additions, multiplications, divisions and square roots in a fixed order: the same start
    gives the same bits on every machine, and system by system the same as in a batch.
    """
    x, v = (np.ascontiguousarray(a.transpose(1, 2, 0)) for a in (pos, vel))  # [n, 3, S]: long inner loops
    q = np.ascontiguousarray(charge[..., 0].T)  # [n, S]
    pairs = list(combinations(range(x.shape[0]), 2))
    i, j = (np.array(p) for p in zip(*pairs, strict=True))
    qq = (q[i] * q[j])[:, None]  # [P, 1, S]

    wanted = {STEPS_PER_FRAME * (frame + 1): frame for frame in frames}
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    v += DT * _coulomb(x, qq, i, j, pairs)
    for step in trange(1, max(wanted) + 1, desc=label, unit="step", disable=not label, mininterval=1.0):
        x += DT * v
        if step in wanted:  # between drift and kick, as in the published data
            found[wanted[step]] = (x.transpose(2, 0, 1).copy(), v.transpose(2, 0, 1).copy())
        v += DT * _coulomb(x, qq, i, j, pairs)
    return [found[frame] for frame in frames]


def _coulomb(x: np.ndarray, qq: np.ndarray, i: np.ndarray, j: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Clipped forces ``[n, 3, S]`` between all pairs; ``qq`` is ``[P, 1, S]``."""
    d = x[i] - x[j]
    r2 = d[:, 0] * d[:, 0]
    r2 += d[:, 1] * d[:, 1]
    r2 += d[:, 2] * d[:, 2]
    r2 *= np.sqrt(r2)
    d *= qq / r2[:, None]
    force = np.zeros_like(x)
    for pair, (a, b) in enumerate(pairs):  # Newton's third law, pair by pair
        force[a] += d[pair]
        force[b] -= d[pair]
    return np.clip(force, -MAX_FORCE, MAX_FORCE, out=force)


def start_gravity(systems: int, stream: np.random.SeedSequence, n: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Draws gravity systems: positions and velocities ``[S, n, 3]``, the mean velocity of each system being 0."""
    for_pos, for_vel = (np.random.default_rng(s) for s in stream.spawn(2))
    pos = for_pos.standard_normal((systems, n, 3))
    vel = for_vel.standard_normal((systems, n, 3))
    return pos, vel - vel.mean(axis=1, keepdims=True)


def gravity(systems: int, stream: np.random.SeedSequence, label: str = "", chunk: int = 20) -> dict[str, np.ndarray]:
    """Simulates gravity systems up to the target frame, ``chunk`` of them at a time (what the cache holds).

    Returns:
        ``pos``, ``vel``, ``force`` (input frame), ``pos_target``, ``force_target``, all ``[S, n, 3]`` float64.
    """
    pos, vel = start_gravity(systems, stream)
    parts = []
    for begin in tqdm(range(0, systems, chunk), desc=label, unit="chunk", disable=not label):
        part = slice(begin, begin + chunk)
        parts.append(run_gravity(pos[part], vel[part], (INPUT_FRAME, TARGET_FRAME)))
    (x, v, f), (x_target, _, f_target) = (
        tuple(np.concatenate(p) for p in zip(*frame, strict=True)) for frame in zip(*parts, strict=True)
    )
    return {"pos": x, "vel": v, "force": f, "pos_target": x_target, "force_target": f_target}


def run_gravity(
    pos: np.ndarray, vel: np.ndarray, frames: tuple[int, ...]
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Integrates unit masses by velocity Verlet; positions, velocities, forces ``[S, n, 3]`` at the given frames."""
    x, v = pos.copy(), vel.copy()
    force = attraction(x)
    found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for step in range(STEPS_PER_FRAME * max(frames) + 1):
        frame, rest = divmod(step, STEPS_PER_FRAME)
        if rest == 0 and frame in frames:
            found[frame] = (x.copy(), v.copy(), force.copy())
        v += (0.5 * DT) * force
        x += DT * v
        force = attraction(x)
        v += (0.5 * DT) * force
    return [found[frame] for frame in frames]


def attraction(x: np.ndarray) -> np.ndarray:
    """Softened gravity on unit masses, ``[S, n, 3]``.

    The sum of ``w_ij (x_j - x_i)`` is taken as ``W x - x (W 1)``: two small matrix products instead
    of an ``[n, n, 3]`` array of differences. Distances from ``|x|^2 + |y|^2 - 2 x y`` lose about
    1e-15 absolute, harmless beside the softening of 1e-2.
    """
    square = np.einsum("snd,snd->sn", x, x)
    w = x @ (-2.0 * x.transpose(0, 2, 1))
    w += square[:, :, None]
    w += square[:, None, :] + SOFTENING**2
    w *= np.sqrt(w)
    np.divide(1.0, w, out=w)
    return w @ x - w.sum(axis=-1, keepdims=True) * x

"""Looking at three dimensions from afar: orthographic projections that keep the order of depth."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Numbers = NDArray[np.integer]


def looking_from(azimuth: float, elevation: float) -> Array:
    """Rows, ``[3, 3]``: to the right, upwards, towards the eye; azimuth about z from x, both in degrees."""
    a, e = np.radians(azimuth), np.radians(elevation)
    out = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    return np.stack([right, np.cross(out, right), out])


def in_space(pos: Array) -> Array:
    """Points ``[N, 1 to 3]`` as points ``[N, 3]``, zeros appended."""
    return np.pad(pos, ((0, 0), (0, 3 - pos.shape[1])))


def graticule(matrix: Array) -> list[Array]:
    """Meridians and parallels of the unit sphere every 30 degrees, the parts in front, ``[K, 2]`` on the screen."""
    t = np.linspace(0, 2 * np.pi, 361)
    circles = [np.stack([np.cos(b) * np.cos(t), np.cos(b) * np.sin(t), np.sin(b) + 0 * t], axis=1)
               for b in np.radians(range(-60, 61, 30))]  # fmt: skip
    circles += [np.stack([np.cos(t) * np.cos(a), np.cos(t) * np.sin(a), np.sin(t)], axis=1)
                for a in np.radians(range(0, 180, 30))]  # fmt: skip
    return [run for circle in circles for run in visible_runs(circle, matrix)]


def visible_runs(line: Array, matrix: Array) -> list[Array]:
    """The pieces of a line on the unit sphere, ``[K, 3]``, that lie in front, ``[k, 2]`` on the screen."""
    screen = line @ matrix.T
    seen = np.flatnonzero(screen[:, 2] > 0)
    return [screen[run, :2] for run in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1) if len(run) > 1]

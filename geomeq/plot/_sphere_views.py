"""Ways to look at the sphere: which direction a pixel shows, and where on the picture a point lies."""

from abc import ABC, abstractmethod

import numpy as np
from scipy.spatial import cKDTree

from geomeq.plot._projection import Array, looking_from


class View(ABC):
    """A projection of the unit sphere.

    Attributes:
        width: Half of the picture's width, in its own unit.
        height: Half of its height.
    """

    width: float = 1.0
    height: float = 1.0

    @abstractmethod
    def _look(self, x: Array, y: Array) -> tuple[Array, np.ndarray]:
        """Directions ``[..., 3]`` of places of the picture, and which places show the sphere."""

    @abstractmethod
    def project(self, points: Array) -> tuple[Array, np.ndarray]:
        """Places ``[K, 2]`` of points ``[K, 3]``, and which of them are seen."""

    def facing(self, points: Array) -> np.ndarray:
        """Which of points ``[K, 3]`` are seen, and not only at the very rim."""
        return self.project(points)[1]

    def shade(self, directions: Array) -> Array:
        """Brightness of a place, ``[...]``."""
        return np.ones(directions.shape[:-1])

    def directions(self, pixels: int) -> tuple[Array, np.ndarray]:
        """Of an image ``pixels`` wide: directions ``[H, W, 3]`` and which pixels show the sphere, row 0 at the top."""
        rows = max(round(pixels * self.height / self.width), 1)
        x = self.width * ((np.arange(pixels) + 0.5) * 2 / pixels - 1)
        y = self.height * (1 - (np.arange(rows) + 0.5) * 2 / rows)
        return self._look(*np.meshgrid(x, y))

    def runs(self, line: Array) -> list[Array]:
        """The pieces of a line on the sphere, ``[K, 3]``, that are seen, ``[k, 2]`` each, not torn across the edge."""
        place, seen = self.project(line)
        step = np.linalg.norm(np.diff(place, axis=0), axis=1)
        torn = (~seen[1:]) | (~seen[:-1]) | (step > 0.5 * self.width)
        pieces = np.split(np.arange(len(line)), np.flatnonzero(torn) + 1)
        return [place[piece] for piece in pieces if len(piece) > 1]


class Orthographic(View):
    """A hemisphere from far away."""

    def __init__(self, azimuth: float, elevation: float) -> None:
        self.matrix = looking_from(azimuth, elevation)

    def _look(self, x: Array, y: Array) -> tuple[Array, np.ndarray]:
        square = 1 - x * x - y * y
        local = np.stack([x, y, np.sqrt(np.maximum(square, 0.0))], axis=-1)
        return local @ self.matrix, square > 0

    def project(self, points: Array) -> tuple[Array, np.ndarray]:
        screen = points @ self.matrix.T
        return screen[:, :2], screen[:, 2] > 0

    def facing(self, points: Array) -> np.ndarray:
        return np.asarray((points @ self.matrix.T)[:, 2] > 0.05)


class Globe(View):
    """A globe nearby, lit from the upper left."""

    _DISTANCE = 4.0  # of the eye from the centre, radii
    _LIGHT = np.array([-0.45, 0.55, 0.71]) / np.linalg.norm([-0.45, 0.55, 0.71])

    def __init__(self, azimuth: float, elevation: float) -> None:
        self.matrix = looking_from(azimuth, elevation)
        self._rim = 1 / np.sqrt(self._DISTANCE**2 - 1)  # tangent of the angle at which the globe is seen

    def _look(self, x: Array, y: Array) -> tuple[Array, np.ndarray]:
        slope = np.hypot(x, y) * self._rim
        root = 1 - (self._DISTANCE**2 - 1) * slope**2
        near = (self._DISTANCE - np.sqrt(np.maximum(root, 0.0))) / (1 + slope**2)  # along the ray, to the globe
        local = np.stack([x * self._rim * near, y * self._rim * near, self._DISTANCE - near], axis=-1)
        return local @ self.matrix, root > 0

    def project(self, points: Array) -> tuple[Array, np.ndarray]:
        screen = points @ self.matrix.T
        return screen[:, :2] / (self._DISTANCE - screen[:, 2:]) / self._rim, screen[:, 2] > 1 / self._DISTANCE

    def shade(self, directions: Array) -> Array:
        local = directions @ self.matrix.T
        return np.asarray(0.6 + 0.4 * np.clip(local @ self._LIGHT, 0.0, 1.0))


class Mollweide(View):
    """The whole sphere in an ellipse, areas kept."""

    width, height = 2.0, 1.0

    def __init__(self, centre: float) -> None:
        self.centre = np.radians(centre)

    def _look(self, x: Array, y: Array) -> tuple[Array, np.ndarray]:
        angle = np.arcsin(np.clip(y, -1.0, 1.0))
        inside = x * x / 4 + y * y < 1
        sin = np.clip((2 * angle + np.sin(2 * angle)) / np.pi, -1.0, 1.0)
        longitude = self.centre + np.pi * x / (2 * np.maximum(np.cos(angle), 1e-12))
        cos = np.sqrt(1 - sin * sin)
        return np.stack([cos * np.cos(longitude), cos * np.sin(longitude), sin], axis=-1), inside

    def project(self, points: Array) -> tuple[Array, np.ndarray]:
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        longitude = np.remainder(np.arctan2(unit[:, 1], unit[:, 0]) - self.centre + np.pi, 2 * np.pi) - np.pi
        angle = _auxiliary(unit[:, 2])
        place = np.stack([2 / np.pi * longitude * np.cos(angle), np.sin(angle)], axis=1)
        return place, np.ones(len(points), dtype=bool)


def _auxiliary(sin: Array) -> Array:
    """Solves ``2 t + sin 2 t = pi sin(latitude)`` by bisection, which does not mind the poles."""
    low, high = np.full(len(sin), -np.pi / 2), np.full(len(sin), np.pi / 2)
    for _ in range(48):
        middle = (low + high) / 2
        below = 2 * middle + np.sin(2 * middle) < np.pi * sin
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def net() -> list[Array]:
    """Meridians and parallels every 30 degrees, ``[K, 3]`` each."""
    t = np.linspace(0, 2 * np.pi, 361)
    half = np.linspace(-np.pi / 2, np.pi / 2, 181)
    lines = [np.stack([np.cos(b) * np.cos(t), np.cos(b) * np.sin(t), np.sin(b) + 0 * t], axis=1)
             for b in np.radians(range(-60, 61, 30))]  # fmt: skip
    lines += [np.stack([np.cos(half) * np.cos(a), np.cos(half) * np.sin(a), np.sin(half)], axis=1)
              for a in np.radians(range(0, 360, 30))]  # fmt: skip
    return lines


class Nearest:
    """The node that each direction shows.

    Args:
        points: Unit vectors ``[N, 3]``.
        reach: A direction farther than this from every node, radians, shows none; ``None``: found out.
    """

    def __init__(self, points: Array, reach: float | None) -> None:
        self.tree = cKDTree(points)
        self.reach = self._find_reach(points) if reach is None else reach

    def _find_reach(self, points: Array) -> float:
        """So far that random points on the whole sphere leave no gap."""
        if len(points) < 50:
            return np.pi
        some = points[:: max(len(points) // 2000, 1)]
        return 1.5 * float(np.median(self.tree.query(some, k=9)[0][:, -1]))

    def at(self, directions: Array) -> np.ndarray:
        """Number of a node, or -1, ``[...]``."""
        distance, node = self.tree.query(directions, distance_upper_bound=2 * np.sin(min(self.reach, np.pi) / 2) + 1e-9)
        return np.where(np.isfinite(distance), node, -1)

    def sees_all(self) -> bool:
        """Whether no direction is without a node, tried on 4000 of them."""
        i = np.arange(4000) + 0.5
        z, phi = 1 - i / 2000, np.pi * (1 + np.sqrt(5)) * i
        around = np.sqrt(1 - z * z)
        return bool((self.at(np.stack([around * np.cos(phi), around * np.sin(phi), z], axis=1)) >= 0).all())


def paint(view: View, nearest: Nearest, colours: Array, pixels: int) -> Array:
    """The image of nodes with colours ``[N, 4]``, ``[H, W, 4]``; transparent beside the sphere, grey without a node."""
    directions, inside = view.directions(pixels)
    image = np.zeros((*inside.shape, 4))
    node = nearest.at(directions[inside])
    shown = np.where((node < 0)[:, None], np.array([0.88, 0.88, 0.88, 1.0]), colours[node])
    shown[:, :3] *= view.shade(directions[inside])[:, None]
    image[inside] = shown
    return image

"""Painting surfaces and arrows: flat polygons, lit, sorted by depth, the far ones first."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geomeq.plot._projection import Array, looking_from

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LIGHT = np.array([-0.35, 0.55, 0.76])  # from above, left of the eye


@dataclass
class Scene:
    """Polygons on a screen, seen from one direction.

    Attributes:
        view: Azimuth about z from x, and elevation, degrees.
    """

    view: tuple[float, float]
    _polygons: list[Array] = field(default_factory=list)
    _colours: list[Array] = field(default_factory=list)
    _depths: list[Array] = field(default_factory=list)

    @property
    def matrix(self) -> Array:
        """Rows: right, up, towards the eye, ``[3, 3]``."""
        return looking_from(*self.view)

    def add_faces(self, corners: Array, colours: Array, both_sides: bool = False) -> None:
        """Adds lit flat polygons.

        Args:
            corners: ``[F, 3 or more, 3]``, counter-clockwise seen from outside.
            colours: ``[F, 4]``.
            both_sides: Whether faces seen from behind are drawn too (open surfaces), darker.
        """
        screen = corners @ self.matrix.T
        normal = np.cross(screen[:, 1] - screen[:, 0], screen[:, 2] - screen[:, 0])
        size = np.linalg.norm(normal, axis=1)
        seen = (size > 0) & (both_sides | (normal[:, 2] > 0))
        normal, screen, colours = normal[seen] / size[seen, None], screen[seen], colours[seen]
        light = np.where(normal[:, 2] > 0, 1.0, 0.75) * (0.62 + 0.38 * np.clip(np.abs(normal @ _LIGHT), 0, 1))
        self._add(screen[..., :2], colours * np.append(light[:, None] * [1, 1, 1], np.ones((len(light), 1)), axis=1),
                  screen[..., 2].mean(axis=1))  # fmt: skip

    def add_arrows(self, start: Array, v: Array, colour: Array, lift: float) -> None:
        """Adds flat arrows, ``v`` long; ``lift`` brings them before the surface they lie on.

        Args:
            start: ``[A, 3]``.
            v: ``[A, 3]``.
            colour: ``[4]`` or ``[A, 4]``.
            lift: In units of length.
        """
        base, along = start @ self.matrix.T, v @ self.matrix.T
        length = np.linalg.norm(along[:, :2], axis=1)
        keep = length > 1e-9 * (np.abs(base).max(initial=0) + 1)
        base, along, length = base[keep], along[keep], length[keep]
        full = np.linalg.norm(v[keep], axis=1)  # the width tells the true length even where it points at the eye
        side = np.stack([-along[:, 1], along[:, 0]], axis=1) / length[:, None] * full[:, None]
        outline = [(0, 0.03), (0.62, 0.03), (0.62, 0.14), (1, 0), (0.62, -0.14), (0.62, -0.03), (0, -0.03)]
        points = [base[:, :2] + t * along[:, :2] + w * side for t, w in outline]
        colours = np.broadcast_to(colour, (len(keep), 4))[keep]
        self._add(np.stack(points, axis=1), colours, (base + 0.5 * along)[:, 2] + lift)

    def add_lines(self, start: Array, end: Array, width: float, colour: Array, lift: float) -> None:
        """Adds straight lines of a width in units of length, ``[L, 3]`` each."""
        a, b = start @ self.matrix.T, end @ self.matrix.T
        along = (b - a)[:, :2]
        length = np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-12)
        side = np.stack([-along[:, 1], along[:, 0]], axis=1) / length * width / 2
        quads = np.stack([a[:, :2] + side, b[:, :2] + side, b[:, :2] - side, a[:, :2] - side], axis=1)
        self._add(quads, np.broadcast_to(colour, (len(a), 4)), (a + b)[:, 2] / 2 + lift)

    def draw(self, axes: "Axes") -> None:
        """Paints everything and fits the axes around it."""
        from matplotlib.collections import PolyCollection

        polygons = [p for group in self._polygons for p in group]
        colours, depths = np.concatenate(self._colours), np.concatenate(self._depths)
        order = np.argsort(depths, kind="stable")
        shade = np.clip(colours[order], 0, 1)
        # an edge in the colour of the face closes the hairlines between neighbours
        axes.add_collection(
            PolyCollection([polygons[k] for k in order], facecolors=shade, edgecolors=shade, linewidths=0.25)
        )
        corners = np.concatenate([group.reshape(-1, 2) for group in self._polygons])
        low, high = corners.min(axis=0), corners.max(axis=0)
        pad = 0.03 * max(*(high - low), 1e-12)
        axes.set_xlim(low[0] - pad, high[0] + pad)
        axes.set_ylim(low[1] - pad, high[1] + pad)
        axes.set_aspect("equal")
        axes.set_axis_off()

    def _add(self, polygons: Array, colours: Array, depths: Array) -> None:
        if len(polygons):
            self._polygons.append(polygons)
            self._colours.append(colours)
            self._depths.append(depths)

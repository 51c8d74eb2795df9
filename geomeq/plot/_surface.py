"""A mesh with numbers or classes on it, and tangent arrows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import new_figure
from geomeq.plot._projection import Array
from geomeq.plot._scene import Scene
from geomeq.plot._values import add_key, colour_scale, read_mesh, read_rows, read_vectors, spread_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLAIN = np.array([0.80, 0.82, 0.86, 1.0])
_INK = np.array([0.08, 0.08, 0.08, 1.0])
#: Rows that turn the named axis upwards.
_UPRIGHT = {
    "x": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "y": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "z": np.eye(3),
}


def surface(
    pos: Any,
    face: Any,
    value: Any = None,
    *,
    vectors: Any = None,
    classes: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    views: Sequence[tuple[float, float]] = ((30.0, 20.0), (210.0, 20.0)),
    up: str = "z",
    arrows: int = 400,
    arrow_length: float | None = None,
    label: str = "",
    title: str = "",
) -> "Figure":
    """Draws a triangle mesh from one or more sides.

    Triangles are lit, sorted by depth and painted from far to near; those that look away are left out, unless the mesh
    is open. A triangle takes the mean of its corners; classes are drawn as the cells of the vertices.

    Args:
        pos: ``[V, 3]``.
        face: Corners of the triangles, counter-clockwise seen from outside, ``[3, F]``.
        value: Numbers ``[V]``, or several by name, one row of pictures each (truth, prediction). Without, a plain
            surface.
        vectors: Vectors of space at the vertices, ``[V, 3]``; see :func:`geomeq.groups.to_ambient`.
        classes: Names of classes, if values are their numbers 0, 1, ...
        colours: A colour for each class.
        views: From where: azimuth about the upward axis and elevation, degrees, one column each.
        up: Axis of the data that points upwards, ``"x"``, ``"y"`` or ``"z"``.
        arrows: Number of arrows, at most, spread evenly.
        arrow_length: Of the longest arrow, in units of ``pos``; by default as long as their distances allow.
        label: Name and unit of the values.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or a class has no name.

    Example:
        >>> from geomeq.groups import icosphere
        >>> mesh = icosphere(2)
        >>> figure = surface(mesh.pos, mesh.face, mesh.pos[:, 2], label="height")
    """
    if up not in _UPRIGHT:
        raise ValueError(f"up must be 'x', 'y' or 'z', got {up!r}")
    if not views:
        raise ValueError("views is empty: give at least one pair (azimuth, elevation)")
    points, corners = read_mesh(pos, face)
    upright = points @ _UPRIGHT[up].T
    rows = {"": None} if value is None else read_rows(value, len(points), classes)
    scale = None
    if value is not None:
        scale = colour_scale(np.concatenate([v for v in rows.values() if v is not None]), classes, colours)
    arrow = None if vectors is None else read_vectors("vectors", vectors, len(points)) @ _UPRIGHT[up].T
    both_sides = is_open(corners)
    if arrow is not None:
        chosen, start, v, lift = placed_arrows(upright, arrow, arrows, arrow_length)
        normal = _vertex_normals(upright, corners)[chosen]

    width, height = _panel(upright, views)
    figure = new_figure(width * len(views) + (0.9 if scale is not None and classes is None else 0.2),
                        height * len(rows) + 0.35 * (bool(title) + (classes is not None)) + 0.1)  # fmt: skip
    grid = figure.subplots(len(rows), len(views), squeeze=False)
    for axes_row, (name, array) in zip(grid, rows.items(), strict=True):
        polygons, shade = _coloured(upright, corners, array, scale, classes)
        for axes, view in zip(axes_row, views, strict=True):
            scene = Scene(view)
            scene.add_faces(polygons, shade, both_sides)
            if arrow is not None:
                seen = both_sides | (normal @ scene.matrix[2] > 0)
                scene.add_arrows(start[seen], v[seen], _INK, lift)
            scene.draw(axes)
        axes_row[0].set_title(name, fontsize=10, loc="left")
    if scale is not None:
        add_key(figure, grid, scale, classes, label)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def is_open(corners: np.ndarray) -> bool:
    """Whether some edge has other than two triangles, so that the back of the surface can be seen."""
    edges = np.sort(np.concatenate([corners[[0, 1]], corners[[1, 2]], corners[[2, 0]]], axis=1), axis=0)
    _, counts = np.unique(edges, axis=1, return_counts=True)
    return bool((counts != 2).any())


def placed_arrows(points: Array, v: Array, most: int, length: float | None) -> tuple[np.ndarray, Array, Array, float]:
    """Evenly spread arrows: their vertices, starts and vectors, and how far to lift them off the surface."""
    chosen = spread_out(points, most)
    size = float(np.linalg.norm(points.max(axis=0) - points.min(axis=0))) or 1.0
    if length is None:
        length = 1.3 * size / np.sqrt(max(len(chosen), 1))
    largest = float(np.linalg.norm(v, axis=1).max()) or 1.0
    scaled = v[chosen] * (length / largest)
    return chosen, points[chosen] - 0.3 * scaled, scaled, 0.6 * length


def _vertex_normals(points: Array, corners: np.ndarray) -> Array:
    a, b, c = points[corners]
    normal = np.zeros_like(points)
    np.add.at(normal, corners, np.cross(b - a, c - a))
    return normal


def _panel(points: Array, views: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Inches for one view: the same height for all, the width of the widest."""
    extents = [np.ptp(points @ Scene(view).matrix.T, axis=0)[:2] for view in views]
    ratio = max(w / max(h, 1e-12) for w, h in extents)
    height = 3.6 if ratio < 1.6 else 2.6
    return float(np.clip(height * ratio, 1.6, 5.0)), height


def _coloured(
    points: Array, corners: np.ndarray, array: Array | None, scale: Any, classes: Sequence[str] | None
) -> tuple[Array, Array]:
    """Polygons and their colours: triangles for numbers; for classes the cell of each corner in each triangle."""
    triangle = points[corners]  # [3, F, 3]
    if array is None or scale is None:
        return triangle.transpose(1, 0, 2), np.broadcast_to(_PLAIN, (corners.shape[1], 4))
    if classes is None:
        return triangle.transpose(1, 0, 2), np.asarray(scale.to_rgba(array[corners].mean(axis=0)))
    after = (triangle + np.roll(triangle, -1, axis=0)) / 2
    centre = np.broadcast_to(triangle.mean(axis=0), triangle.shape)
    quads = np.stack([triangle, after, centre, np.roll(after, 1, axis=0)], axis=2).reshape(-1, 4, 3)
    return quads, np.asarray(scale.to_rgba(array[corners.reshape(-1)]))

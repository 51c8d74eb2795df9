"""Numbers, classes and tangent vectors on a sphere, seen from two opposite sides."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from geomeq.plot._figure import new_figure, to_array
from geomeq.plot._projection import Array, graticule, looking_from, visible_runs
from geomeq.plot._values import add_key, colour_scale, read_mesh, read_rows, read_vectors, spread_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIFT = 1.002  # outlines and arrows lie just above the sphere


def sphere_signal(
    pos: Any,
    value: Any = None,
    *,
    face: Any = None,
    vectors: Any = None,
    outlines: Iterable[Any] = (),
    classes: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    arrows: int = 600,
    centre: float = 15.0,
    elevation: float = 15.0,
    label: str = "",
    vector_label: str = "",
    title: str = "",
) -> "Figure":
    """Draws a signal on any sampling of the sphere on two hemispheres.

    Every node is drawn as its cell, a flat colour without interpolation, so that what is seen is what is stored.
    Vectors are drawn as arrows at some of the nodes, spread evenly, all rows on one scale; the key shows the length of
    the largest.

    Args:
        pos: Unit vectors, ``[N, 3]``; z is the axis through the poles, x points to longitude 0.
        value: Numbers ``[N]``, or several by name, one row of hemispheres each (truth, prediction). Without, the
            lengths of the vectors.
        face: Corners of triangles, ``[3, F]``; without, those of the convex hull.
        vectors: Tangent vectors of space, ``[N, 3]``, or several by the names of ``value``.
        outlines: Lines on the sphere such as coasts, ``[K, 3]`` or ``[K, 2]`` (longitude, latitude in degrees) each.
        classes: Names of classes, if values are their numbers 0, 1, ...; without, values are continuous.
        colours: A colour for each class.
        arrows: Number of arrows on the whole sphere, at most.
        centre: Longitude in the middle of the left hemisphere, degrees; the right one is opposite.
        elevation: Latitude in the middle of the left hemisphere; the right one shows it turned about the poles.
        label: Name and unit of the values, for the colour bar.
        vector_label: Unit of the vectors, for their key.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, a class has no name, or there is nothing to draw.

    Example:
        >>> from geomeq.groups import icosphere
        >>> mesh = icosphere(3)
        >>> figure = sphere_signal(mesh.pos, mesh.pos[:, 2], face=mesh.face, label="height")
    """
    points, corners = read_mesh(pos, _hull(pos) if face is None else face)
    fields = _vector_rows(vectors, value, len(points))
    if value is None:
        if not fields:
            raise ValueError("there is nothing to draw: give value, vectors or both")
        value = {name: np.linalg.norm(v, axis=1) for name, v in fields.items()}
    rows = read_rows(value, len(points), classes)
    if fields and set(fields) - set(rows):
        raise ValueError(f"vectors are named {sorted(fields)}, but value has {sorted(rows)}")
    scale = colour_scale(np.concatenate(list(rows.values())), classes, colours)
    largest = max((float(np.linalg.norm(v, axis=1).max()) for v in fields.values()), default=0.0) or 1.0
    chosen = spread_out(points, arrows) if fields else np.empty(0, dtype=int)
    lines = [_on_sphere(line) for line in outlines]

    figure = new_figure(6.6, 2.95 * len(rows) + (0.35 if title else 0.1))
    grid = figure.subplots(len(rows), 2, squeeze=False)
    quads, owner = _cells(points, corners)
    for axes_row, (name, array) in zip(grid, rows.items(), strict=True):
        shade = scale.to_rgba(array)[owner]
        for axes, azimuth in zip(axes_row, (centre, centre + 180), strict=True):
            matrix = looking_from(azimuth, elevation)
            _hemisphere(axes, quads, shade, lines, matrix)
            if name in fields:
                length = 2.4 / np.sqrt(max(len(chosen), 1) / 4) / largest
                _arrows(axes, points[chosen], fields[name][chosen] * length, matrix)
        axes_row[0].set_title(name, fontsize=10, loc="left")
    add_key(figure, grid, scale, classes, label)
    if fields:
        note = f"longest arrow: {largest:.3g} {vector_label}".rstrip()
        grid[-1, 1].text(1.0, -1.02, note, fontsize=8, ha="right", va="top", color="#444444")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _vector_rows(vectors: Any, value: Any, count: int) -> dict[str, Array]:
    if vectors is None:
        return {}
    if isinstance(vectors, Mapping):
        return {str(name): read_vectors(f"vectors {name}", v, count) for name, v in vectors.items()}
    name = str(next(iter(value))) if isinstance(value, Mapping) else ""
    return {name: read_vectors("vectors", vectors, count)}


def _hull(pos: Any) -> Array:
    """Triangles of the convex hull, ``[3, F]``: for points on a sphere their Delaunay triangulation."""
    points = to_array("pos", pos)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"pos must be [N, 3], got {list(points.shape)}")
    try:
        return np.asarray(ConvexHull(points).simplices.T, dtype=np.float64)
    except QhullError as error:
        raise ValueError("pos spans no sphere: at least four points that lie on no plane are needed") from error


def _on_sphere(line: Any) -> Array:
    points = to_array("an outline", line)
    if points.ndim == 2 and points.shape[1] == 2:
        lon, lat = np.radians(points).T
        points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"an outline must be [K, 3] or [K, 2], got {list(points.shape)}")
    return _unit(points)


def _cells(points: Array, corners: Array) -> tuple[Array, Array]:
    """Every triangle in three quadrilaterals, one for each corner: ``[3 F, 4, 3]``, and the corner, ``[3 F]``."""
    triangle = points[corners]  # [3, F, 3]
    centre = _unit(triangle.sum(axis=0))
    after = _unit(triangle + np.roll(triangle, -1, axis=0))
    before = np.roll(after, 1, axis=0)
    quads = np.stack([triangle, after, np.broadcast_to(centre, triangle.shape), before], axis=2)
    return quads.reshape(-1, 4, 3), corners.reshape(-1)


def _unit(v: Array) -> Array:
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def _hemisphere(axes: "Axes", quads: Array, shade: Array, lines: list[Array], matrix: Array) -> None:
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.patches import Circle

    screen = quads @ matrix.T
    front = screen[:, :, 2].max(axis=1) > 0
    order = np.flatnonzero(front)[np.argsort(screen[front, :, 2].mean(axis=1))]
    rim = Circle((0, 0), 1, facecolor="none", edgecolor="#888888", lw=0.9, zorder=4)
    axes.add_patch(rim)
    cells = PolyCollection(
        list(screen[order][:, :, :2]), facecolors=shade[order], edgecolors=shade[order], linewidths=0.3, zorder=1
    )
    net = LineCollection(graticule(matrix), colors="#000000", linewidths=0.4, alpha=0.22, zorder=2)
    coast = [run for line in lines for run in visible_runs(_LIFT * line, matrix)]
    coasts = LineCollection(coast, colors="#000000", linewidths=0.6, alpha=0.6, zorder=2.5)
    for collection in (cells, net, coasts):
        axes.add_collection(collection)
        collection.set_clip_path(rim)
    axes.set_xlim(-1.03, 1.03)
    axes.set_ylim(-1.03, 1.03)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _arrows(axes: "Axes", start: Array, v: Array, matrix: Array) -> None:
    """Arrows centred on their nodes, those in front."""
    base, along = start @ matrix.T, v @ matrix.T
    front = base[:, 2] > 0.05
    x, y = (base - 0.5 * along)[front, :2].T
    axes.quiver(
        x, y, *along[front, :2].T, angles="xy", scale_units="xy", scale=1, units="xy", width=0.009, headwidth=4.2,
        headlength=4.5, headaxislength=4, minlength=0.3, color="#111111", zorder=3,
    )  # fmt: skip

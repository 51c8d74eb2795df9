"""A signal on a triangulated sphere, seen from two opposite sides."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import GREY, SERIES, new_figure, to_array
from geomeq.plot._projection import Array, looking_from

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def icosphere_signal(
    pos: Any,
    face: Any,
    value: Any,
    *,
    classes: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    centre: float = 15.0,
    elevation: float = 15.0,
    label: str = "",
    title: str = "",
) -> "Figure":
    """Draws numbers or classes at the vertices of an icosphere on two hemispheres.

    Every vertex is drawn as its cell, a flat colour without interpolation, so that what is seen is what is stored.

    Args:
        pos: Unit vectors, ``[V, 3]``; z is the axis through the poles, x points to longitude 0.
        face: Corners of the triangles, ``[3, F]``.
        value: Numbers ``[V]``, or several by name, one row of hemispheres each (truth, prediction).
        classes: Names of classes, if values are their numbers 0, 1, ...; without, values are continuous.
        colours: A colour for each class.
        centre: Longitude in the middle of the left hemisphere, degrees; the right one is opposite.
        elevation: Latitude in the middle of the left hemisphere; the right one shows it turned about the poles.
        label: Name and unit of the values, for the colour bar.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or a class has no name.

    Example:
        >>> from geomeq.groups import icosphere
        >>> mesh = icosphere(3)
        >>> figure = icosphere_signal(mesh.pos, mesh.face, mesh.pos[:, 2], label="height")
    """
    points, corners = to_array("pos", pos), to_array("face", face).astype(int)
    if points.ndim != 2 or points.shape[1] != 3 or corners.ndim != 2 or len(corners) != 3:
        raise ValueError(f"pos must be [V, 3] and face [3, F], got {list(points.shape)} and {list(corners.shape)}")
    if corners.min() < 0 or corners.max() >= len(points):
        raise ValueError(f"face names vertices {corners.min()}..{corners.max()}, but pos has {len(points)}")
    rows = dict(value) if isinstance(value, Mapping) else {"": value}
    arrays = {name: _values(name, entry, len(points), classes) for name, entry in rows.items()}
    scale = _scale(np.concatenate(list(arrays.values())), classes, colours)
    figure = new_figure(6.6, 2.95 * len(rows) + (0.35 if title else 0.1))
    grid = figure.subplots(len(rows), 2, squeeze=False)
    quads, owner = _cells(points, corners)
    for axes_row, (name, array) in zip(grid, arrays.items(), strict=True):
        shade = scale.to_rgba(array)[owner]
        for axes, azimuth in zip(axes_row, (centre, centre + 180), strict=True):
            _hemisphere(axes, quads, shade, looking_from(azimuth, elevation))
        axes_row[0].set_title(name, fontsize=10, loc="left")
    _key(figure, grid, scale, classes, label)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _values(name: str, entry: Any, count: int, classes: Sequence[str] | None) -> Array:
    array = to_array(f"value {name}".rstrip(), entry)
    if array.shape != (count,):
        raise ValueError(f"value {name} must have shape [{count}], one for each vertex, got {list(array.shape)}")
    if classes is not None and not np.isin(array, np.arange(len(classes))).all():
        raise ValueError(f"classes {list(classes)} name the numbers 0..{len(classes) - 1}, but values hold others")
    return array


def _scale(values: Array, classes: Sequence[str] | None, colours: Sequence[str] | None) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    if classes is None:
        low, high = float(values.min()), float(values.max())
        if low < 0 < high:  # a sign means something: zero is white
            return ScalarMappable(Normalize(-max(-low, high), max(-low, high)), "RdBu_r")
        return ScalarMappable(Normalize(low, high), "viridis")
    names = list(colours) if colours is not None else [SERIES[k % len(SERIES)] for k in range(len(classes))]
    if len(names) != len(classes):
        raise ValueError(f"colours must name one for each of the {len(classes)} classes, got {len(names)}")
    return ScalarMappable(Normalize(-0.5, len(classes) - 0.5), ListedColormap(names))


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


def _hemisphere(axes: "Axes", quads: Array, shade: Array, matrix: Array) -> None:
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
    axes.add_collection(cells)
    lines = LineCollection(_graticule(matrix), colors="#000000", linewidths=0.4, alpha=0.22, zorder=2)
    axes.add_collection(lines)
    cells.set_clip_path(rim)
    lines.set_clip_path(rim)
    axes.set_xlim(-1.03, 1.03)
    axes.set_ylim(-1.03, 1.03)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _graticule(matrix: Array) -> list[Array]:
    """Meridians and parallels every 30 degrees, the parts in front."""
    t = np.linspace(0, 2 * np.pi, 361)
    circles = [np.stack([np.cos(b) * np.cos(t), np.cos(b) * np.sin(t), np.sin(b) + 0 * t], axis=1)
               for b in np.radians(range(-60, 61, 30))]  # fmt: skip
    circles += [np.stack([np.cos(t) * np.cos(a), np.cos(t) * np.sin(a), np.sin(t)], axis=1)
                for a in np.radians(range(0, 180, 30))]  # fmt: skip
    pieces = []
    for circle in circles:
        screen = circle @ matrix.T
        seen = np.flatnonzero(screen[:, 2] > 0)
        for run in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1):
            if len(run) > 1:
                pieces.append(screen[run, :2])
    return pieces


def _key(figure: "Figure", grid: Any, scale: Any, classes: Sequence[str] | None, label: str) -> None:
    if classes is None:
        bar = figure.colorbar(scale, ax=grid, shrink=0.7, pad=0.02, label=label)
        bar.ax.tick_params(labelsize=8)
        return
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], linestyle="", marker="s", markersize=9, markerfacecolor=scale.to_rgba(k), markeredgecolor=GREY,
               label=name)
        for k, name in enumerate(classes)
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower center", ncols=min(len(marks), 5), frameon=False, fontsize=9)

"""Numbers, classes, colours and tangent vectors on a sphere: two hemispheres, a map, or a globe."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from geomeq.plot._figure import new_figure, to_array
from geomeq.plot._projection import Array
from geomeq.plot._sphere_views import Globe, Mollweide, Nearest, Orthographic, View, net, paint
from geomeq.plot._values import add_key, colour_scale, read_mesh, read_rows, read_vectors, spread_out
from geomeq.spheres import Sampling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LIFT = 1.002  # outlines and arrows lie just above the sphere
_CELLS = 20_000  # nodes that are drawn as polygons; more are painted pixel by pixel
_EDGE = "#888888"


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
    view: Literal["hemispheres", "mollweide", "3d"] = "hemispheres",
    centre: float = 15.0,
    elevation: float = 15.0,
    reach: float | None = None,
    pixels: int = 1000,
    label: str = "",
    vector_label: str = "",
    title: str = "",
) -> "Figure":
    """Draws a signal on any sampling of the sphere.

    Every node is drawn as its cell, a flat colour without interpolation, so that what is seen is what is stored. What
    no node is near to (the rest of a partial sky) is grey. Vectors are drawn as arrows at some of the nodes, spread
    evenly, all rows on one scale; the key shows the length of the largest. Hundreds of thousands of nodes take a
    second: they are painted pixel by pixel.

    Args:
        pos: Unit vectors, ``[N, 3]``; z is the axis through the poles, x points to longitude 0. Or a
            :class:`geomeq.spheres.Sampling`.
        value: Numbers ``[N]``, colours ``[N, 3]`` (red, green and blue from 0 to 1, what is beyond is cut; or bytes),
            or several by name, one row each (truth, prediction). Without, the lengths of the vectors.
        face: Corners of triangles, ``[3, F]``; without, those of the sampling or of the convex hull.
        vectors: Tangent vectors of space, ``[N, 3]``, or several by the names of ``value``.
        outlines: Lines on the sphere such as coasts, ``[K, 3]`` or ``[K, 2]`` (longitude, latitude in degrees) each.
        classes: Names of classes, if values are their numbers 0, 1, ...; without, values are continuous.
        colours: A colour for each class.
        arrows: Number of arrows on the whole sphere, at most.
        view: ``"hemispheres"``: two orthographic views from opposite sides; ``"mollweide"``: the whole sphere, areas
            kept, north up and east to the right; ``"3d"``: a lit globe in perspective (:func:`interactive_sphere` turns
            with the mouse).
        centre: Longitude in the middle of the (left) picture, degrees; a second hemisphere is opposite.
        elevation: Latitude in the middle of the left hemisphere or the globe.
        reach: How far from its nodes a partial sky is drawn, radians; by default so far that no gap is left between
            them; for a whole :class:`~geomeq.spheres.Sampling` everywhere.
        pixels: Width of a painted picture.
        label: Name and unit of the values, for the colour bar.
        vector_label: Unit of the vectors, for their key.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, a class has no name, there is no such view, or there is
            nothing to draw.

    Example:
        >>> from geomeq.groups import icosphere
        >>> mesh = icosphere(3)
        >>> figure = sphere_signal(mesh.pos, mesh.pos[:, 2], face=mesh.face, label="height")
    """
    views = _views(view, centre, elevation)
    points, corners, nearest = _read_points(pos, face, reach, view == "hemispheres")
    fields = _vector_rows(vectors, value, len(points))
    if value is None:
        if not fields:
            raise ValueError("there is nothing to draw: give value, vectors or both")
        value = {name: np.linalg.norm(v, axis=1) for name, v in fields.items()}
    shades, scale = _shades(value, len(points), classes, colours)
    if fields and set(fields) - set(shades):
        raise ValueError(f"vectors are named {sorted(fields)}, but value has {sorted(shades)}")
    largest = max((float(np.linalg.norm(v, axis=1).max()) for v in fields.values()), default=0.0) or 1.0
    chosen = spread_out(points, arrows) if fields else np.empty(0, dtype=int)
    lines = [_on_sphere(line) for line in outlines]

    figure, grid = _frame(view, len(shades), bool(title))
    quads, owner = (None, None) if corners is None else _cells(points, corners)
    for axes_row, (name, shade) in zip(grid, shades.items(), strict=True):
        for axes, look in zip(axes_row, views, strict=True):
            if quads is None or not isinstance(look, Orthographic):
                _painted(axes, paint(look, nearest, shade, pixels), look)
            else:
                _hemisphere(axes, quads, shade[owner], look)
            _drawn_over(axes, lines, look)
            if name in fields:
                length = 2.4 / np.sqrt(max(len(chosen), 1) / 4) / largest
                _arrows(axes, points[chosen], fields[name][chosen] * length, look)
        axes_row[0].set_title(name, fontsize=10, loc="left")
    if scale is not None:
        add_key(figure, grid, scale, classes, label)
    if fields:
        note = f"longest arrow: {largest:.3g} {vector_label}".rstrip()
        look = views[-1]
        grid[-1, -1].text(look.width, -1.02 * look.height, note, fontsize=8, ha="right", va="top", color="#444444")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _views(view: str, centre: float, elevation: float) -> list[View]:
    if view == "hemispheres":
        return [Orthographic(centre, elevation), Orthographic(centre + 180, elevation)]
    if view == "mollweide":
        return [Mollweide(centre)]
    if view == "3d":
        return [Globe(centre, elevation)]
    raise ValueError(f"view must be 'hemispheres', 'mollweide' or '3d', got {view!r}")


def _frame(view: str, rows: int, titled: bool) -> tuple["Figure", Array]:
    """A figure and its axes ``[rows, views]``."""
    width, height, columns = {"hemispheres": (6.6, 2.95, 2), "mollweide": (6.6, 2.95, 1), "3d": (5.2, 4.2, 1)}[view]
    figure = new_figure(width, height * rows + (0.35 if titled else 0.1))
    return figure, figure.subplots(rows, columns, squeeze=False)


def _read_points(pos: Any, face: Any, reach: float | None, polygons: bool) -> tuple[Array, Array | None, Nearest]:
    """Points, corners of triangles if cells are drawn as polygons, and the search for painting."""
    whole = isinstance(pos, Sampling) and pos.is_whole and pos.kind != "scattered"
    if isinstance(pos, Sampling):
        face = pos.face if face is None else face
        reach = reach if reach is not None else (np.pi if whole else None if pos.is_whole else pos.spacing)
        pos = pos.pos
    if face is not None:
        points, corners = read_mesh(pos, face)
    else:
        points, corners = to_array("pos", pos), None
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"pos must be [N, 3], got {list(points.shape)}")
    nearest = Nearest(points, reach)
    if not polygons or len(points) > _CELLS or (face is None and not whole and not nearest.sees_all()):
        return points, None, nearest
    return points, _hull(points) if corners is None else corners, nearest


def _shades(
    value: Any, count: int, classes: Sequence[str] | None, colours: Sequence[str] | None
) -> tuple[dict[str, Array], Any]:
    """Colours of the nodes ``[N, 4]`` of each row, and the scale, ``None`` if all values are colours."""
    named = {str(name): entry for name, entry in (value if isinstance(value, Mapping) else {"": value}).items()}
    if not named:
        raise ValueError("there is nothing to draw: value is empty")
    colour = {name: entry for name, entry in named.items() if np.ndim(entry) == 2 and np.shape(entry)[1] == 3}
    painted = {name: _rgba(name, entry, count) for name, entry in colour.items()}
    if len(painted) == len(named):
        return painted, None  # colours need no scale
    rows = read_rows({name: entry for name, entry in named.items() if name not in colour}, count, classes)
    scale = colour_scale(np.concatenate(list(rows.values())), classes, colours)
    shades = painted | {name: scale.to_rgba(row) for name, row in rows.items()}
    return {name: shades[name] for name in named}, scale


def _rgba(name: str, entry: Any, count: int) -> Array:
    array = to_array(f"value {name}".rstrip(), entry)
    if len(array) != count:
        raise ValueError(f"colours must have shape [{count}, 3], one for each vertex, got {list(array.shape)}")
    scale = 255.0 if str(getattr(entry, "dtype", "")).endswith("uint8") else 1.0
    return np.concatenate([np.clip(array / scale, 0.0, 1.0), np.ones((count, 1))], axis=1)


def _vector_rows(vectors: Any, value: Any, count: int) -> dict[str, Array]:
    if vectors is None:
        return {}
    if isinstance(vectors, Mapping):
        return {str(name): read_vectors(f"vectors {name}", v, count) for name, v in vectors.items()}
    name = str(next(iter(value))) if isinstance(value, Mapping) else ""
    return {name: read_vectors("vectors", vectors, count)}


def _hull(points: Array) -> np.ndarray:
    """Triangles of the convex hull, ``[3, F]``: for points on a sphere their Delaunay triangulation."""
    try:
        return np.asarray(ConvexHull(points).simplices.T)
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


def _hemisphere(axes: "Axes", quads: Array, shade: Array, view: Orthographic) -> None:
    from matplotlib.collections import PolyCollection

    screen = quads @ view.matrix.T
    front = screen[:, :, 2].max(axis=1) > 0
    order = np.flatnonzero(front)[np.argsort(screen[front, :, 2].mean(axis=1))]
    cells = PolyCollection(
        list(screen[order][:, :, :2]), facecolors=shade[order], edgecolors=shade[order], linewidths=0.3, zorder=1
    )
    axes.add_collection(cells)
    cells.set_clip_path(_rim(axes, view))


def _painted(axes: "Axes", image: Array, view: View) -> None:
    extent = (-view.width, view.width, -view.height, view.height)
    picture = axes.imshow(image, extent=extent, interpolation="antialiased", interpolation_stage="rgba", zorder=1)
    picture.set_clip_path(_rim(axes, view))


def _rim(axes: "Axes", view: View) -> Any:
    """The outline of the sphere, drawn once."""
    from matplotlib.patches import Ellipse

    if not axes.patches:
        rim = Ellipse((0, 0), 2 * view.width, 2 * view.height, facecolor="none", edgecolor=_EDGE, lw=0.9, zorder=4)
        axes.add_patch(rim)
        axes.set_xlim(-1.03 * view.width, 1.03 * view.width)
        axes.set_ylim(-1.03 * view.height, 1.03 * view.height)
        axes.set_aspect("equal")
        axes.set_axis_off()
    return axes.patches[0]


def _drawn_over(axes: "Axes", lines: list[Array], view: View) -> None:
    """Meridians and parallels, and coasts."""
    from matplotlib.collections import LineCollection

    grid = [run for line in net() for run in view.runs(line)]
    coast = [run for line in lines for run in view.runs(_LIFT * line)]
    graticule = LineCollection(grid, colors="#000000", linewidths=0.4, alpha=0.22, zorder=2)
    coasts = LineCollection(coast, colors="#000000", linewidths=0.6, alpha=0.6, zorder=2.5)
    for collection in (graticule, coasts):
        axes.add_collection(collection)
        collection.set_clip_path(_rim(axes, view))


def _arrows(axes: "Axes", start: Array, v: Array, view: View) -> None:
    """Arrows centred on their nodes, those in front; short ones near the edge of a map are not torn."""
    base, seen = view.project(start)[0], view.facing(start)
    along = (view.project(start + 5e-4 * v)[0] - view.project(start - 5e-4 * v)[0]) * 1e3
    seen &= np.linalg.norm(along, axis=1) < 4 * np.linalg.norm(v, axis=1) + 1e-12
    x, y = (base - 0.5 * along)[seen].T
    width = 0.009 if view.width == 1 else 0.012
    axes.quiver(
        x, y, *along[seen].T, angles="xy", scale_units="xy", scale=1, units="xy", width=width,
        headwidth=4.2, headlength=4.5, headaxislength=4, minlength=0.3, color="#111111", zorder=3,
    )  # fmt: skip

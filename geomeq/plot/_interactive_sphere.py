"""A signal on the sphere to turn with the mouse, by plotly."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._interactive import _plotly
from geomeq.plot._projection import Array
from geomeq.plot._sphere_signal import _read_points, _shades
from geomeq.plot._values import class_colours, read_values

if TYPE_CHECKING:
    import plotly.graph_objects as go


def interactive_sphere(
    pos: Any,
    value: Any,
    *,
    classes: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    relief: float = 0.0,
    reach: float | None = None,
    rows: int = 181,
    label: str = "",
    title: str = "",
) -> "go.Figure":
    """Draws a signal on any sampling as an interactive globe: turn, zoom, read values under the mouse.

    The counterpart of :func:`sphere_signal` with ``view="3d"``. The globe has a table of places of its own, so that the
    page stays small however many nodes there are; each place shows the nearest node.

    Args:
        pos: Unit vectors, ``[N, 3]``, or a :class:`geomeq.spheres.Sampling`.
        value: Numbers ``[N]``, or colours ``[N, 3]`` from 0 to 1.
        classes: Names of classes, if values are their numbers.
        colours: A colour for each class.
        relief: How far the largest absolute value stands out of the sphere, radii; negative values go inwards.
        reach: As for :func:`sphere_signal`.
        rows: Of the table, pole to pole.
        label: Name and unit of the values.
        title: Title.

    Returns:
        A plotly figure.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If shapes do not fit, a value is not finite, or a class has no name.
    """
    go = _plotly()
    points, _, nearest = _read_points(pos, None, reach, False)
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(-np.pi, np.pi, 2 * rows - 1), indexing="ij")
    place = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    node = nearest.at(place)
    coloured = np.ndim(value) == 2
    number = None if coloured else read_values("", value, len(points), classes)
    if relief and number is not None:
        place = place * (1 + relief * number / (np.abs(number).max() or 1.0))[node][..., None]
    place = np.where((node >= 0)[..., None], place, np.nan)
    if coloured:
        trace = _coloured(go, place, _shades(value, len(points), None, None)[0][""][node])
    else:
        assert number is not None
        trace = go.Surface(
            x=place[..., 0], y=place[..., 1], z=place[..., 2], surfacecolor=number[node],
            **_scale(number, classes, colours, label),
        )  # fmt: skip
    axis = {"visible": False}
    scene = {"xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "data"}
    layout = go.Layout(title=title or None, scene=scene, margin={"l": 0, "r": 0, "b": 0, "t": 40 if title else 0})
    return go.Figure([trace], layout)


def _coloured(go: Any, place: Array, shade: Array) -> Any:
    """A mesh with a colour at each place; places that no node is near to have no triangles."""
    rows, columns = place.shape[:2]
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1].ravel(), number[1:, :-1].ravel(), number[1:, 1:].ravel(), number[:-1, 1:].ravel()
    corner = np.concatenate([np.stack([a, b, c]), np.stack([a, c, d])], axis=1)
    flat = place.reshape(-1, 3)
    corner = corner[:, np.isfinite(flat[corner, 0]).all(axis=0)]
    x, y, z = np.nan_to_num(flat).T
    i, j, k = corner
    return go.Mesh3d(x=x, y=y, z=z, i=i, j=j, k=k, vertexcolor=(255 * shade.reshape(-1, 4)[:, :3]).astype(np.uint8))


def _scale(number: Array, classes: Sequence[str] | None, colours: Sequence[str] | None, label: str) -> dict[str, Any]:
    if classes is not None:
        names = class_colours(classes, colours)
        edges = np.linspace(0, 1, len(names) + 1)
        steps = [[float(e), name] for k, name in enumerate(names) for e in edges[k : k + 2]]
        ticks = {"tickvals": list(range(len(names))), "ticktext": list(classes), "title": label}
        return {"colorscale": steps, "cmin": -0.5, "cmax": len(names) - 0.5, "colorbar": ticks}
    if number.min() < 0 < number.max():  # a sign means something: zero is white
        return {"colorscale": "RdBu", "reversescale": True, "cmid": 0.0, "colorbar": {"title": label}}
    return {"colorscale": "Viridis", "colorbar": {"title": label}}

"""A mesh to turn with the mouse, by plotly."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._projection import Array
from geomeq.plot._surface import placed_arrows
from geomeq.plot._values import class_colours, read_mesh, read_values, read_vectors

if TYPE_CHECKING:
    import plotly.graph_objects as go


def interactive_surface(
    pos: Any,
    face: Any,
    value: Any = None,
    *,
    vectors: Any = None,
    classes: Sequence[str] | None = None,
    colours: Sequence[str] | None = None,
    up: str = "z",
    arrows: int = 400,
    arrow_length: float | None = None,
    label: str = "",
    title: str = "",
) -> "go.Figure":
    """Draws a mesh as an interactive page: turn, zoom, read values under the mouse.

    The counterpart of :func:`surface`, with the same arguments for one field. Show it in a notebook, or
    ``figure.write_html("mesh.html")``.

    Args:
        pos: ``[V, 3]``.
        face: Corners of the triangles, ``[3, F]``.
        value: Numbers ``[V]``.
        vectors: Vectors of space at the vertices, ``[V, 3]``.
        classes: Names of classes, if values are their numbers.
        colours: A colour for each class.
        up: Axis of the data that points upwards.
        arrows: Number of arrows, at most, spread evenly.
        arrow_length: Of the longest arrow; by default as long as their distances allow.
        label: Name and unit of the values.
        title: Title.

    Returns:
        A plotly figure.

    Raises:
        ImportError: If plotly is not installed.
        ValueError: If shapes do not fit, a value is not finite, or a class has no name.
    """
    go = _plotly()
    if up not in ("x", "y", "z"):
        raise ValueError(f"up must be 'x', 'y' or 'z', got {up!r}")
    points, corners = read_mesh(pos, face)
    traces: list[Any] = []
    if value is not None and classes is not None:
        number = read_values("", value, len(points), classes).astype(int)
        traces += _class_meshes(go, points, corners, number, classes, class_colours(classes, colours))
    else:
        array = None if value is None else read_values("", value, len(points), None)
        traces.append(go.Mesh3d(**_mesh(points, corners), **_intensity(array, label)))
    if vectors is not None:
        v = read_vectors("vectors", vectors, len(points))
        traces += _arrows(go, *placed_arrows(points, v, arrows, arrow_length)[1:3])
    axis = {"visible": False}
    camera = {"up": {name: float(name == up) for name in "xyz"}}
    scene = {"xaxis": axis, "yaxis": axis, "zaxis": axis, "aspectmode": "data", "camera": camera}
    layout = go.Layout(title=title or None, scene=scene, margin={"l": 0, "r": 0, "b": 0, "t": 40 if title else 0})
    return go.Figure(traces, layout)


def _plotly() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ImportError("interactive pictures need plotly: pip install 'geomeq[plot]'") from error
    return go


def _mesh(points: Array, corners: np.ndarray) -> dict[str, Any]:
    x, y, z = points.T
    i, j, k = corners
    return {"x": x, "y": y, "z": z, "i": i, "j": j, "k": k, "flatshading": False}


def _intensity(array: Array | None, label: str) -> dict[str, Any]:
    if array is None:
        return {"color": "#cdd1db"}
    settings = {"intensity": array, "colorbar": {"title": label}, "colorscale": "Viridis"}
    if array.min() < 0 < array.max():  # a sign means something: zero is white
        return {**settings, "colorscale": "RdBu", "reversescale": True, "cmid": 0.0}
    return settings


def _class_meshes(
    go: Any, points: Array, corners: np.ndarray, array: np.ndarray, classes: Sequence[str], colours: list[str]
) -> list[Any]:
    """One mesh for each class, so that the legend switches them on and off."""
    a, b, c = array[corners]
    owner = np.where(b == c, b, a)
    return [
        go.Mesh3d(**_mesh(points, corners[:, owner == k]), color=colours[k], name=name, showlegend=True)
        for k, name in enumerate(classes)
        if (owner == k).any()
    ]


def _arrows(go: Any, start: Array, v: Array) -> list[Any]:
    """Shafts as one broken line, heads as cones."""
    end = start + 0.7 * v
    gap = np.full_like(start, np.nan)
    shafts = np.stack([start, end, gap], axis=1).reshape(-1, 3)
    keep = np.linalg.norm(v, axis=1) > 0
    line = go.Scatter3d(
        x=shafts[:, 0], y=shafts[:, 1], z=shafts[:, 2], mode="lines", line={"color": "#141414", "width": 3},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    x, y, z = end[keep].T
    u, w, t = v[keep].T
    heads = go.Cone(
        x=x, y=y, z=z, u=u, v=w, w=t, anchor="tail", sizemode="raw", sizeref=0.3, showscale=False, hoverinfo="skip",
        colorscale=[[0, "#141414"], [1, "#141414"]],
    )  # fmt: skip
    return [line, heads]

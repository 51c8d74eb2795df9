"""What parallel transport does to a vector carried around a loop."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geomeq.plot._figure import BLUE, GREEN, VERMILION, new_figure, to_array
from geomeq.plot._projection import Array
from geomeq.plot._scene import Scene
from geomeq.plot._surface import _PLAIN, _UPRIGHT, is_open
from geomeq.plot._values import read_mesh

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def transport_along(
    pos: Any,
    face: Any,
    frame: Any,
    edge_index: Any,
    transport: Any,
    path: Sequence[int],
    *,
    angle: float = 0.0,
    view: tuple[float, float] | None = None,
    up: str = "z",
    size: float | None = None,
    title: str = "",
) -> "Figure":
    r"""Draws the frames along a path and one vector carried from vertex to vertex.

    At every vertex of the path stand its e1 and e2, as thin arrows, and the vector, which starts at ``angle`` in the
    first frame and is turned by the ``transport`` of each edge. Where the path is closed, the caption gives the angle
    by which the vector came back turned, the holonomy: by Gauss and Bonnet the curvature enclosed.

    Args:
        pos: ``[V, 3]``.
        face: Corners of the triangles, ``[3, F]``.
        frame: Rows e1, e2, normal, ``[V, 3, 3]``.
        edge_index: Source and target, ``[2, E]``.
        transport: Radians, ``[E]``.
        path: Vertices, each joined to the one before by an edge; closed if the last is the first.
        angle: Of the vector at the start, from e1 towards e2, radians.
        view: Azimuth and elevation, degrees; by default from above the path.
        up: Axis of the data that points upwards.
        size: Length of the vector, in units of ``pos``; by default 0.8 of the mean step.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If shapes do not fit, or two vertices of the path share no edge.
    """
    if up not in _UPRIGHT:
        raise ValueError(f"up must be 'x', 'y' or 'z', got {up!r}")
    points, corners = read_mesh(pos, face)
    nodes = [int(v) for v in path]
    if len(nodes) < 2:
        raise ValueError(f"path must name at least two vertices, got {nodes}")
    frames = to_array("frame", frame)
    if frames.shape != (len(points), 3, 3):
        raise ValueError(f"frame must have shape [{len(points)}, 3, 3], got {list(frames.shape)}")
    angles = _carried(nodes, edge_index, transport, angle)

    turn = _UPRIGHT[up]
    points, frames = points @ turn.T, frames @ turn.T
    at = points[nodes]
    step = float(np.linalg.norm(np.diff(at, axis=0), axis=1).mean())
    size = 0.8 * step if size is None else size
    e1, e2, normal = (frames[nodes][:, k] for k in range(3))
    carried = np.cos(angles)[:, None] * e1 + np.sin(angles)[:, None] * e2
    scene = Scene(_from_above(normal) if view is None else view)
    scene.add_faces(
        points[corners].transpose(1, 0, 2), np.broadcast_to(_PLAIN, (corners.shape[1], 4)), is_open(corners)
    )
    scene.add_lines(at[:-1], at[1:], 0.035 * step, _rgba("#555555"), 0.3 * step)
    for axis in (e1, e2):
        scene.add_lines(at, at + 0.45 * size * axis, 0.03 * step, _rgba(BLUE if axis is e1 else GREEN), 0.5 * step)
    scene.add_arrows(at, size * carried, _rgba(VERMILION), 0.7 * step)

    figure = new_figure(4.6, 4.9)
    axes = figure.subplots()
    scene.draw(axes)
    closed = nodes[0] == nodes[-1]
    turned = math.remainder(float(angles[-1] - angles[0]), 2 * math.pi)
    note = f"came back turned by {math.degrees(turned):.1f} degrees" if closed else f"{len(nodes) - 1} steps"
    axes.text(0.5, -0.02, f"blue e1, green e2, red the vector: {note}", transform=axes.transAxes, ha="center", va="top",
              fontsize=8, color="#444444")  # fmt: skip
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _carried(nodes: list[int], edge_index: Any, transport: Any, angle: float) -> Array:
    """Angle of the vector in the frame of each vertex of the path."""
    source, target = (torch.as_tensor(edge_index).cpu().long()[k] for k in (0, 1))
    turn = torch.as_tensor(transport).detach().cpu().double()
    found = {}
    wanted = set(itertools.pairwise(nodes))
    for number, pair in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        if pair in wanted:
            found[pair] = float(turn[number])
    missing = sorted(wanted - set(found))
    if missing:
        raise ValueError(f"path steps from {missing[0][0]} to {missing[0][1]}, but edge_index has no such edge")
    return np.cumsum([angle, *(found[pair] for pair in itertools.pairwise(nodes))])


def _from_above(normal: Array) -> tuple[float, float]:
    x, y, z = normal.mean(axis=0)
    return math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))


def _rgba(colour: str) -> Array:
    from matplotlib.colors import to_rgba

    return np.array(to_rgba(colour))

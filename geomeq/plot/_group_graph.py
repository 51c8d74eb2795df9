"""The graph of a sampled group: one node, its fibre, and its neighbours by weight."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch_geometric.data import Data

from geomeq.plot._figure import BLACK, GREY, VERMILION, new_figure, to_array
from geomeq.plot._projection import Array, Numbers, in_space, looking_from

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_LAYER_GAP = 0.62  # height of a layer over the next, in widths of the part that is shown


@dataclass(frozen=True)
class _Scene:
    """What is drawn, all in three dimensions.

    Attributes:
        pos: Where each node stands, ``[N, 3]``.
        stroke: Its direction there, ``[N, 3]``, zero where it has none.
        shown: Nodes drawn as context.
        layers: Corners and label of each sheet of equal orientation.
        sphere: Whether places lie on a sphere of radius 1.
        note: What part of the graph is shown.
    """

    pos: Array
    stroke: Array
    shown: Numbers
    layers: list[tuple[Array, str]]
    sphere: bool
    note: str


def group_graph(
    data: Data, node: int | None = None, *, view: tuple[float, float] | None = None, title: str = ""
) -> "Figure":
    """Draws the neighbourhood of one node of a graph on a group, in space and in its own coordinates.

    Left: the places with their orientations above each other (layers for the plane, shells for the sphere). The fibre,
    which is all orientations over the place of the node, is red; neighbours are coloured by the weight of their edge,
    and a stroke shows the direction in which the first axis moves the place. Of a large grid only the part around the
    node is shown. Right: the same neighbours as the node sees them, at the first two coordinates of ``edge_log``.

    Args:
        data: A graph from :class:`geomeq.transforms.GroupGraph`: ``pos``, ``element``, ``edge_index``, ``edge_weight``,
            ``edge_log``, ``num_orientations``, ``num_spatial``.
        node: The node; by default one in the middle, or facing the eye.
        view: Azimuth (about z) and elevation of the eye, degrees.
        title: Title; by default the numbers of nodes and edges.

    Returns:
        The figure.

    Raises:
        ValueError: If an attribute is missing, or the node does not exist or has no neighbour.
    """
    pos, element, weight, log, count = _attributes(data)
    places = len(pos) // count
    sphere = data.get("grid") is None and pos.shape[1] == 3
    eye = view if view is not None else ((-50.0, 22.0) if sphere else (-64.0, 27.0))
    matrix = looking_from(*eye)
    node = _default_node(pos, count, matrix[2], sphere) if node is None else int(node)
    if not 0 <= node < len(pos):
        raise ValueError(f"node must be one of 0..{len(pos) - 1}, got {node}")
    at_node = data.edge_index[1].cpu().numpy() == node
    neighbours = data.edge_index[0].cpu().numpy()[at_node]
    if not len(neighbours):
        raise ValueError(f"node {node} has no neighbour; choose another one")
    scene = _scene(data, pos, element, node, neighbours, count, sphere)
    figure = new_figure(9.4, 4.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.45, 1))
    colours = _colours(weight[at_node])
    fibre = node % places + places * np.arange(count)
    _draw_space(left, scene, matrix, node, neighbours, fibre, colours.to_rgba(weight[at_node]))
    _draw_local(right, log[at_node], scene, node, neighbours, colours.to_rgba(weight[at_node]))
    figure.colorbar(colours, ax=right, shrink=0.6, label="edge weight", pad=0.03)
    figure.suptitle(title or f"{len(pos):,} nodes, {data.num_edges:,} edges", x=0.02, ha="left", fontsize=11)
    return figure


def _attributes(data: Data) -> tuple[Array, Array, Array, Array, int]:
    if not isinstance(data, Data):
        raise TypeError(f"data must be a torch_geometric Data, got {type(data).__name__}")
    names = ("pos", "element", "edge_index", "edge_weight", "edge_log", "num_orientations", "num_spatial")
    missing = [name for name in names if data.get(name) is None]
    if missing:
        raise ValueError(f"data has no {', '.join(missing)}; transforms.GroupGraph on a continuous group writes them")
    pos = to_array("data.pos", data.pos)
    if pos.ndim != 2 or pos.shape[1] > 3 or len(pos) != data.num_orientations * data.num_spatial:
        raise ValueError(
            f"data.pos must be [num_orientations * num_spatial, 1 to 3], got {list(pos.shape)} for "
            f"{data.num_orientations} x {data.num_spatial}"
        )
    log = to_array("data.edge_log", data.edge_log)
    return (
        pos,
        to_array("data.element", data.element),
        to_array("data.edge_weight", data.edge_weight),
        log,
        int(data.num_orientations),
    )


def _default_node(pos: Array, count: int, towards: Array, sphere: bool) -> int:
    places = in_space(pos[: len(pos) // count])
    if sphere:  # a little aside, or the fibre would point into the eye
        aim = towards + 0.75 * np.cross([0.0, 0.0, 1.0], towards) + [0.0, 0.0, 0.6]
        aim = aim / np.linalg.norm(aim)
    else:
        aim = places.mean(axis=0) + 1e-6  # of four in the middle, always the same
    return int(np.linalg.norm(places - aim, axis=1).argmin()) + (count // 2) * len(places)


def _scene(data: Data, pos: Array, element: Array, node: int, neighbours: Numbers, count: int, sphere: bool) -> _Scene:
    if sphere:
        first = np.arange(len(pos) // count)
        stroke = element[:, :, 1] * _step(pos, count) if element.ndim == 3 and count > 1 else 0 * in_space(pos)
        return _Scene(in_space(pos), stroke, first, [], True, "")
    if pos.shape[1] < 3 or len(data.grid) != 2:  # no orientations, or three dimensions of places
        return _Scene(in_space(pos), 0 * in_space(pos), np.arange(len(pos)), [], False, "")
    return _layered(data, pos, element, node, neighbours, count)


def _step(pos: Array, count: int) -> float:
    """Half a typical distance between neighbouring places."""
    places = pos[: len(pos) // count]
    return 0.4 * float(np.sqrt(4 * np.pi / len(places)))


def _layered(data: Data, pos: Array, element: Array, node: int, neighbours: Numbers, count: int) -> _Scene:
    """The part of a grid around a node, orientations stacked with a gap."""
    nx, ny = data.grid
    step = 1 / max(nx, ny)
    reach = np.abs(pos[neighbours, :2] - pos[node, :2]).max()
    window = max(1.35 * reach, 3 * step) + step / 2
    near = (np.abs(pos[:, :2] - pos[node, :2]) < window).all(axis=1)
    low, high = pos[near, :2].min(axis=0) - step / 2, pos[near, :2].max(axis=0) + step / 2
    level = np.arange(len(pos)) // (len(pos) // count)
    space = np.concatenate([pos[:, :2], (level * _LAYER_GAP * (high - low).max())[:, None]], axis=1)
    turns = not np.allclose(pos[:, 2], element[:, 2])  # SE(2) is drawn at angle / period, scales at their logarithm
    angle = element[:, 2]
    stroke = 0.42 * step * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1) * turns
    layers = []
    for k in range(count):
        value = angle[k * (len(pos) // count)]
        label = f"{np.degrees(value):.0f}°" if turns else f"× {np.exp(value):.2g}"
        corners = np.array([[x, y] for x, y in ((low[0], low[1]), (high[0], low[1]), high, (low[0], high[1]))])
        height = np.full((4, 1), k * _LAYER_GAP * (high - low).max())
        layers.append((np.concatenate([corners, height], axis=1), label))
    shown = np.flatnonzero(near)
    part = len(shown) // count
    note = "" if part == nx * ny else f"{part} of {nx} × {ny} places shown"
    return _Scene(space, stroke, shown, layers, False, note)


def _colours(weight: Array) -> "ScalarMappable":
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    ramp = LinearSegmentedColormap.from_list("weight", colormaps["viridis_r"](np.linspace(0.12, 1, 256)))
    top = float(weight.max())
    return ScalarMappable(Normalize(min(float(weight.min()), 0.98 * top), top), ramp)


def _draw_space(
    axes: "Axes", scene: _Scene, matrix: Array, node: int, neighbours: Numbers, fibre: Numbers, colours: Array
) -> None:
    screen = scene.pos @ matrix.T
    along = scene.stroke @ matrix.T
    if scene.sphere:
        _draw_sphere(axes, screen, scene, neighbours)
    for corners, label in scene.layers:
        _draw_layer(axes, corners @ matrix.T, label)
    if not scene.sphere:
        _strokes(axes, screen[scene.shown], 0.8 * along[scene.shown], "#c4c4c4", 0.8, 3.0)
    for j, colour in zip(neighbours, colours, strict=True):
        axes.plot(*screen[[node, j], :2].T, color=colour, lw=0.7, alpha=0.55, zorder=4)
    root = matrix @ (scene.pos[node] / np.linalg.norm(scene.pos[node])) if scene.sphere else screen[fibre[0]]
    if len(fibre) > 1:
        ends = np.stack([root, screen[fibre[-1]]])
        if scene.sphere or scene.layers:
            axes.plot(*ends[:, :2].T, color=VERMILION, lw=1.4, zorder=5)
        _strokes(axes, screen[fibre], along[fibre], VERMILION, 1.2, 22.0, zorder=6)
        end, offset = (ends[1], (6, 6)) if scene.sphere else (ends[0], (6, -12))
        axes.annotate(
            "fibre", (end[0], end[1]), offset, textcoords="offset points", color=VERMILION, fontsize=9, zorder=9
        )
    _strokes(axes, screen[neighbours], along[neighbours], colours, 2.2, 26.0, zorder=7)
    _strokes(axes, screen[[node]], along[[node]], BLACK, 2.4, 34.0, zorder=8)
    if scene.note:
        axes.text(0.0, 0.0, scene.note, transform=axes.transAxes, fontsize=8, color=GREY, va="top")
    axes.set_aspect("equal")
    axes.set_axis_off()


def _strokes(
    axes: "Axes", centre: Array, half: Array, colours: Any, width: float, size: float, zorder: float = 3
) -> None:
    """Short lines, or dots where there is no direction."""
    from matplotlib.collections import LineCollection

    if np.abs(half).max(initial=0) == 0:
        axes.scatter(centre[:, 0], centre[:, 1], s=size, c=colours, linewidths=0, zorder=zorder)
        return
    lines = np.stack([centre - half, centre + half], axis=1)[:, :, :2]
    axes.add_collection(LineCollection(list(lines), colors=colours, linewidths=width, zorder=zorder, capstyle="round"))
    axes.scatter(centre[:, 0], centre[:, 1], s=size / 4, c=colours, linewidths=0, zorder=zorder)


def _draw_layer(axes: "Axes", corners: Array, label: str) -> None:
    from matplotlib.patches import Polygon

    axes.add_patch(Polygon(corners[:, :2], facecolor="#f5f7fa", edgecolor="#b9c2cc", lw=0.8, alpha=0.75, zorder=2))
    right = corners[corners[:, 0].argmax(), :2]
    axes.annotate(
        label, (right[0], right[1]), (5, 0), textcoords="offset points", fontsize=8.5, color=GREY, va="center"
    )
    axes.update_datalim(corners[:, :2])


def _draw_sphere(axes: "Axes", screen: Array, scene: _Scene, neighbours: Numbers) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle((0, 0), 1, facecolor="#eef2f6", edgecolor="#b9c2cc", lw=1, zorder=1))
    front = scene.shown[screen[scene.shown, 2] > 0]
    axes.scatter(screen[front, 0], screen[front, 1], s=5, c="#b4bcc6", linewidths=0, zorder=2)
    foot = screen / np.linalg.norm(scene.pos, axis=1, keepdims=True)
    for j in neighbours:  # a thread from each neighbour down to its place
        axes.plot(*np.stack([foot[j], screen[j]])[:, :2].T, color="#b4bcc6", lw=0.7, zorder=3)
    axes.update_datalim([[-1, -1], [1, 1]])


def _draw_local(axes: "Axes", log: Array, scene: _Scene, node: int, neighbours: Numbers, colours: Array) -> None:
    """Neighbours at their first two logarithmic coordinates; a third turns the stroke."""
    place = in_space(log[:, :2])
    reach = max(1.25 * float(np.abs(place).max()), 1e-9)
    turned = log.shape[1] == 3 and np.abs(scene.stroke).max() > 0
    half = np.zeros_like(place)
    if turned:
        half[:, 0], half[:, 1] = 0.06 * reach * np.cos(log[:, 2]), 0.06 * reach * np.sin(log[:, 2])
    order = np.argsort(np.abs(log[:, 2]))[::-1] if log.shape[1] == 3 else np.arange(len(log))
    _strokes(axes, place[order], half[order], colours[order], 2.2, 30.0, zorder=4)
    origin = np.zeros((1, 3))
    _strokes(axes, origin, np.array([[0.08 * reach, 0, 0]]) * turned, BLACK, 2.6, 40.0, zorder=5)
    axes.axhline(0, color="#dddddd", lw=0.8, zorder=1)
    axes.axvline(0, color="#dddddd", lw=0.8, zorder=1)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-reach, reach)
    axes.set_aspect("equal")
    axes.set_xlabel("$c_1$")
    axes.set_ylabel("$c_2$" if log.shape[1] > 1 else "")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"as node {node} sees its {len(log)} neighbours", fontsize=9, loc="left", color=GREY)

"""Pictures of groups: group graphs, metric ellipses, filters, spectra, signals on the sphere."""

import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geomeq import plot
from geomeq.groups import S2, SE2, SE3, SO3, Rn, ScaleTranslation, icosphere, left_invariant_distance
from geomeq.nn import GroupConv2d, LiftingConv2d
from geomeq.transforms import GroupGraph

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.collections import LineCollection, PolyCollection  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.patches import Polygon  # noqa: E402

from tests.plot.test_plot import rendered, texts  # noqa: E402

MESH = icosphere(2)


def graph(group=None, size=(9, 9, 4), **options):
    return GroupGraph(group or SE2(), size=size, **({"k": 12} | options))(Data())


# group graphs


@pytest.mark.parametrize(
    ("group", "size", "fibre"),
    [
        (SE2(), (9, 9, 4), True),
        (SO3(), (1, 4), True),
        (ScaleTranslation(), (8, 8, 3), True),
        (SE3(), (3, 3, 3, 12), True),
        (S2(), 2, False),
        (Rn(2), (8, 6), False),
        (Rn(1), (30,), False),
    ],
    ids=repr,
)
def test_group_graphs_of_all_kinds_are_drawn(group, size, fibre):
    data = graph(group, size, k=6)
    figure = plot.group_graph(data)
    assert rendered(figure).std() > 5
    words = texts(figure)
    assert f"{data.num_nodes:,} nodes, {data.num_edges:,} edges" in words
    assert ("fibre" in words) is fibre
    assert "edge weight" in words


def test_group_graph_puts_each_neighbour_at_its_logarithm_with_its_colour():
    data = graph(anisotropy=0.2)
    node = 2 * 81 + 40
    figure = plot.group_graph(data, node)
    at_node = data.edge_index[1] == node
    local = figure.axes[1]
    strokes = max((c for c in local.collections if isinstance(c, LineCollection)), key=lambda c: len(c.get_segments()))
    middles = np.array([segment.mean(axis=0) for segment in strokes.get_segments()])
    wanted = data.edge_log[at_node][:, :2].numpy()
    gap = np.linalg.norm(middles[:, None] - wanted[None], axis=-1).min(axis=1)
    assert len(middles) == len(wanted)
    assert gap.max() < 1e-12
    weights = data.edge_weight[at_node]
    colours = {to_hex(c) for c in strokes.get_colors()}
    assert len(colours) == len(torch.unique(weights.round(decimals=9)))
    assert f"as node {node} sees its {len(wanted)} neighbours" in texts(figure)


def test_strokes_turn_by_the_third_coordinate():
    data = graph()
    node = 2 * 81 + 40
    local = plot.group_graph(data, node).axes[1]
    strokes = max((c for c in local.collections if isinstance(c, LineCollection)), key=lambda c: len(c.get_segments()))
    drawn = sorted(round(math.atan2(*(s[1] - s[0])[::-1]), 6) for s in strokes.get_segments())
    wanted = sorted(round(c, 6) for c in data.edge_log[data.edge_index[1] == node][:, 2].tolist())
    assert drawn == wanted


def test_layers_carry_their_angle_and_a_large_grid_is_cut_out():
    words = texts(plot.group_graph(graph(size=(21, 21, 4))))
    assert {"-90°", "-45°", "0°", "45°"} <= set(words)
    assert any(word.endswith("of 21 × 21 places shown") for word in words)
    assert not any("shown" in word for word in texts(plot.group_graph(graph(size=(3, 3, 4), k=8))))


def test_bad_graphs_say_what_is_wrong():
    data = graph()
    with pytest.raises(ValueError, match=r"node must be one of 0\.\.323, got 324"):
        plot.group_graph(data, 324)
    with pytest.raises(TypeError, match="must be a torch_geometric Data"):
        plot.group_graph([data])
    lonely = data.clone()
    lonely.edge_index = torch.zeros(2, 0, dtype=torch.long)
    lonely.edge_weight, lonely.edge_log = torch.ones(1), torch.ones(1, 3)
    with pytest.raises(ValueError, match="node 5 has no neighbour"):
        plot.group_graph(lonely, 5)
    del data.edge_log
    with pytest.raises(ValueError, match="data has no edge_log; transforms.GroupGraph"):
        plot.group_graph(data)


# metric ellipses


def outline(axes):
    """The ellipse of the places reached without turning: the thick black one."""
    return next(p for p in axes.patches if isinstance(p, Polygon) and p.get_linewidth() > 1.5).get_xy()[:-1]


@pytest.mark.parametrize("group", [SE2(), SE2(period=2 * math.pi)], ids=repr)
def test_the_ellipse_lies_at_the_radius_of_the_metric(group):
    metric, radius = (1.0, 10.0, 0.3), 0.3
    figure = plot.metric_ellipses(group, metric, orientations=4, radius=radius)
    angles = -group.period / 2 + group.period / 4 * np.arange(4)
    for axes, angle in zip(figure.axes[:4], angles, strict=True):
        places = torch.from_numpy(outline(axes).copy())
        turn = torch.full((len(places), 1), float(angle), dtype=torch.float64)
        element = torch.tensor([0.0, 0.0, angle], dtype=torch.float64)
        distance = left_invariant_distance(group, element, torch.cat([places, turn], dim=1), metric)
        torch.testing.assert_close(distance, torch.full_like(distance, radius))


def test_ellipses_of_so3_lie_at_the_radius_too():
    metric, radius = (1.0, 4.0, 0.5), 0.5
    axes = plot.metric_ellipses(SO3(), metric, orientations=2, radius=radius).axes[1]  # angle 0
    a, b = torch.from_numpy(outline(axes).copy()).T
    pole = torch.stack([b, -a, (1 - a**2 - b**2).sqrt()], dim=1)
    angle = torch.atan2(torch.hypot(a, b), pole[:, 2])
    c = angle[:, None] * torch.stack([a, b], dim=1) / torch.hypot(a, b)[:, None]
    length = (c.square() * torch.tensor([1.0, 4.0])).sum(dim=1).sqrt()
    torch.testing.assert_close(length, torch.full_like(length, radius))


def test_every_metric_has_its_row_and_a_full_matrix_is_drawn():
    mixed = torch.tensor([[1.0, 0.2, 0.1], [0.2, 5.0, 0.0], [0.1, 0.0, 0.5]])
    figure = plot.metric_ellipses(SE2(period=2 * math.pi), {"plain": None, "mixed": mixed}, orientations=3, title="two")
    assert len(figure.axes) == 2 * 3 + 1
    assert {"plain", "mixed", "two", "-180°", "-60°", "60°"} <= set(texts(figure))
    assert rendered(figure).std() > 5


def test_bad_metrics_and_groups_are_refused():
    with pytest.raises(TypeError, match="draws SE2 and SO3"):
        plot.metric_ellipses(Rn(2))
    with pytest.raises(ValueError, match="positive definite"):
        plot.metric_ellipses(SE2(), (1.0, -1.0, 1.0))
    with pytest.raises(ValueError, match="radius and orientations must be positive"):
        plot.metric_ellipses(SE2(), radius=0.0)


# filters


def shown(figure, columns):
    return [axes.images[0].get_array() for axes in figure.axes if axes.images][: len(figure.axes) // columns * columns]


def test_filters_of_a_lifting_layer_are_turned_copies():
    conv = LiftingConv2d("D4", 2, 3, kernel_size=5)
    figure = plot.filters(conv, rows=4)
    images = shown(figure, 8)
    assert len(images) == 4 * 8
    first = conv.weight[0, 0].detach().double()
    np.testing.assert_allclose(images[0], first)
    for h in range(4):
        np.testing.assert_allclose(images[h], torch.rot90(first, h, (-2, -1)))
    np.testing.assert_allclose(images[4], first.flip(-1))
    assert {"1", "R", "$R^{2}$", "M", "RM", "0←1", "4 of 6 rows"} <= set(texts(figure))
    limits = {axes.images[0].get_clim() for axes in figure.axes if axes.images}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high  # white is zero


def test_filters_of_a_group_layer_turn_and_change_places():
    conv = GroupConv2d("C4", 2, 3, kernel_size=3)
    images = shown(plot.filters(conv), 4)
    kernel = conv.kernel[0, 0].detach().double()  # [|H|, k, k]
    for g in range(4):
        for h in range(4):
            wanted = torch.rot90(kernel[(g - h) % 4], h, (-2, -1))
            np.testing.assert_allclose(images[4 * g + h], wanted)


def test_filters_of_a_tensor_and_bad_input():
    weight = torch.randn(2, 3, 4, 7, 7)
    images = shown(plot.filters(weight), 4)
    np.testing.assert_allclose(images[5], weight.double()[0, 1, 1])
    assert rendered(plot.filters(torch.zeros(4, 3, 3))).size  # all zero: no division
    with pytest.raises(ValueError, match=r"filters must have shape \[\.\.\., \|H\|, k, k\], got \[3, 3\]"):
        plot.filters(torch.ones(3, 3))
    with pytest.raises(ValueError, match="one entry for each of the 4 elements"):
        plot.filters(weight, names=["a"])
    with pytest.raises(TypeError, match="conv must be LiftingConv2d"):
        plot.filters(torch.nn.Conv2d(1, 1, 3))


# spectra


def test_spectra_are_sorted_divided_by_the_largest_and_cut_at_the_floor():
    figure = plot.spectra({"1": [2.0, 4.0, 1.0], "2": torch.tensor([1e-12, 1.0, 0.5])}, floor=1e-6, title="beta")
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1.0, 0.5, 0.25])
    np.testing.assert_allclose(axes.lines[1].get_ydata(), [1.0, 0.5, 1e-6])
    assert axes.get_yscale() == "log"
    assert {"1e-06 and below", "1", "2", "beta", "singular value / largest"} <= set(texts(figure))
    assert rendered(figure).std() > 5


def test_spectra_of_several_seeds_have_a_band():
    values = torch.tensor([[1.0, 0.5, 0.1], [0.2, 1.0, 0.3], [1.0, 0.4, 0.05]])
    axes = plot.spectra({"3 layers": values}, relative=False).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1.0, 0.4, 0.1], rtol=1e-6)
    (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.05)
    nested = plot.spectra({"3 layers": [row.tolist() for row in values]}, relative=False).axes[0]
    np.testing.assert_allclose(nested.lines[0].get_ydata(), [1.0, 0.4, 0.1], rtol=1e-6)


@pytest.mark.parametrize("values", [{}, {"1": []}, {"1": [-1.0, 2.0]}, {"1": [0.0, 0.0]}, {"1": torch.ones(2, 2, 2)}])
def test_bad_spectra_are_refused(values):
    with pytest.raises(ValueError, match=r"nothing to draw|must be \[n\]"):
        plot.spectra(values)
    with pytest.raises(ValueError, match="floor must be positive"):
        plot.spectra({"1": [1.0]}, floor=0.0)


# signals on the sphere


def cells(axes):
    return next(c for c in axes.collections if isinstance(c, PolyCollection))


def test_sphere_signal_shows_each_vertex_on_one_side():
    value = (MESH.pos[:, 0] > 0).long()  # front of a view from longitude 0
    figure = plot.sphere_signal(
        MESH.pos, value, classes=["far", "near"], colours=["#0000ff", "#ff0000"], centre=0.0, elevation=0.0
    )
    left, right = figure.axes[:2]
    share = [np.mean(cells(axes).get_facecolors()[:, 0]) for axes in (left, right)]
    assert share[0] > 0.8
    assert share[1] < 0.2
    assert {"far", "near"} <= set(texts(figure))
    assert rendered(figure).std() > 5


def test_cells_cover_the_sphere_without_interpolation():
    from geomeq.plot._sphere_signal import _cells

    quads, owner = _cells(MESH.pos.numpy(), MESH.face.numpy())
    nearest = np.argmax(quads.mean(axis=1) @ MESH.pos.numpy().T, axis=1)
    assert (nearest == owner).all()
    a, b, c, d = (torch.from_numpy(quads[:, k]) for k in range(4))
    from geomeq.groups.icosphere import spherical_area

    area = spherical_area(a, b, c) + spherical_area(a, c, d)
    assert float(area.sum()) == pytest.approx(4 * math.pi, rel=1e-12)


def test_signs_get_a_scale_that_is_white_at_zero_and_rows_share_it():
    value = MESH.pos[:, 2]
    figure = plot.sphere_signal(MESH.pos, {"a": value, "b": 0.5 * value}, face=MESH.face, label="height (m)", title="t")
    assert len(figure.axes) == 5
    assert {"a", "b", "t", "height (m)"} <= set(texts(figure))
    top = [cells(figure.axes[k]).get_facecolors().min(axis=1).min() for k in (0, 2)]
    assert top[0] < top[1]  # half the value, half the colour
    assert rendered(plot.sphere_signal(MESH.pos, value.abs() + 1)).std() > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.ones(5)}, r"must have shape \[162\]"),
        ({"value": torch.full((162,), math.nan)}, "must be finite"),
        ({"value": torch.full((162,), 2.0), "classes": ["a", "b"]}, r"name the numbers 0\.\.1"),
        ({"classes": ["a", "b"], "colours": ["red"]}, "colours must name one for each of the 2 classes"),
        ({"face": MESH.face + 5}, r"face names vertices 5\.\.166, but pos has 162"),
        ({"pos": MESH.pos[:, :2]}, r"pos must be \[V, 3\]"),
    ],
)
def test_bad_signals_say_what_is_wrong(change, message):
    arguments = {"pos": MESH.pos, "face": MESH.face, "value": torch.zeros(162)} | change
    with pytest.raises(ValueError, match=message):
        plot.sphere_signal(**arguments)

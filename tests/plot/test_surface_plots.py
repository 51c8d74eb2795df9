"""Pictures of surfaces: fields, arrows, transport around a loop, vectors on the sphere, the interactive page."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from geomeq import plot
from geomeq.groups import icosphere

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.collections import LineCollection, PolyCollection  # noqa: E402
from matplotlib.quiver import Quiver  # noqa: E402

from tests.plot.test_plot import rendered, texts  # noqa: E402

MESH = icosphere(2)
COUNT = MESH.pos.size(0)
EAST = torch.linalg.cross(torch.tensor([0.0, 0, 1], dtype=torch.float64).expand_as(MESH.pos), MESH.pos)


def polygons(axes):
    return next(c for c in axes.collections if isinstance(c, PolyCollection))


# surfaces


def test_a_closed_surface_shows_one_side_and_an_open_one_both():
    closed = plot.surface(MESH.pos, MESH.face, views=[(0, 0)])
    lower = plot.surface(MESH.pos, MESH.face[:, (MESH.pos[MESH.face, 2] < 0.1).all(0)], views=[(0, 60)])
    front = len(polygons(closed.axes[0]).get_paths())
    assert 0.4 * MESH.face.size(1) < front < 0.6 * MESH.face.size(1)
    inside = (MESH.pos[MESH.face, 2] < 0.1).all(0).sum()
    assert len(polygons(lower.axes[0]).get_paths()) == inside
    assert rendered(closed).std() > 5


def test_values_are_seen_from_their_side():
    value = (MESH.pos[:, 0] > 0).long()
    figure = plot.surface(
        MESH.pos, MESH.face, value, classes=["far", "near"], colours=["#0000ff", "#ff0000"], views=[(0, 0), (180, 0)]
    )
    red = [np.median(polygons(axes).get_facecolors()[:, 0]) for axes in figure.axes[:2]]
    assert red[0] > 0.4
    assert red[1] == 0
    assert {"far", "near"} <= set(texts(figure))


def test_the_named_axis_points_upwards():
    for axis, name in enumerate("xyz"):
        figure = plot.surface(MESH.pos, MESH.face, MESH.pos[:, axis], up=name, views=[(30, 0)])
        faces = polygons(figure.axes[0])
        height = np.array([path.vertices[:, 1].mean() for path in faces.get_paths()])
        warm = faces.get_facecolors()[:, 0] - faces.get_facecolors()[:, 2]  # red is positive, blue negative
        assert np.corrcoef(height, warm)[0, 1] > 0.9


def test_arrows_that_look_away_are_left_out():
    plain = plot.surface(MESH.pos, MESH.face, views=[(0, 0)])
    figure = plot.surface(MESH.pos, MESH.face, vectors=EAST, arrows=40, views=[(0, 0)])
    more = len(polygons(figure.axes[0]).get_paths()) - len(polygons(plain.axes[0]).get_paths())
    assert 10 <= more <= 30
    none = plot.surface(MESH.pos, MESH.face, vectors=torch.zeros(COUNT, 3), views=[(0, 0)])
    assert len(polygons(none.axes[0]).get_paths()) == len(polygons(plain.axes[0]).get_paths())


def test_rows_have_names_and_one_scale():
    value = MESH.pos[:, 2]
    figure = plot.surface(MESH.pos, MESH.face, {"truth": value, "prediction": 0.5 * value}, label="u (m)", title="both")
    assert {"truth", "prediction", "u (m)", "both"} <= set(texts(figure))
    assert len(figure.axes) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": torch.ones(5)}, r"value must have shape \[162\]"),
        ({"vectors": torch.ones(162, 2)}, r"vectors of space, \[162, 3\].*to_ambient"),
        ({"vectors": torch.ones(162, 3), "arrows": 0}, "arrows must be at least 1"),
        ({"up": "w"}, "up must be"),
        ({"views": []}, "views is empty"),
        ({"pos": MESH.pos * math.nan}, "must be finite"),
        ({"face": MESH.face.T}, r"face \[3, F\]"),
        ({"value": torch.ones(162), "classes": ["only"]}, "hold others"),
    ],
)
def test_bad_surfaces_say_what_is_wrong(change, message):
    arguments = {"pos": MESH.pos, "face": MESH.face} | change
    with pytest.raises(ValueError, match=message):
        plot.surface(**arguments)


def test_many_classes_have_different_colours():
    classes = [str(k) for k in range(12)]
    figure = plot.surface(MESH.pos, MESH.face, torch.arange(COUNT) % 12, classes=classes)
    assert set(classes) <= set(texts(figure))


# transport


def octant() -> dict:
    """The corner of a sphere: three points a right angle apart; a vector carried around turns by a right angle."""
    pos = torch.eye(3, dtype=torch.float64)
    face = torch.tensor([[0], [1], [2]])
    edge_index = torch.tensor([[0, 1, 2], [1, 2, 0]])
    e1 = pos.roll(-1, 0)  # towards the next corner
    frame = torch.stack([e1, torch.linalg.cross(pos, e1), pos], dim=1)
    # leaving along e1, one arrives along -e2 of the next: its frame is turned by +90 degrees against the path
    transport = torch.full((3,), -math.pi / 2, dtype=torch.float64)
    return {"pos": pos, "face": face, "frame": frame, "edge_index": edge_index, "transport": transport}


def test_transport_around_an_octant_turns_by_a_right_angle():
    data = octant()
    # three steps of -90 degrees: -270, the same as +90, the area of the octant
    figure = plot.transport_along(**data, path=[0, 1, 2, 0])
    assert any("turned by 90.0 degrees" in text for text in texts(figure))
    flat = plot.transport_along(**(data | {"transport": torch.zeros(3)}), path=[0, 1, 2, 0])
    assert any("turned by 0.0 degrees" in text for text in texts(flat))
    open_path = plot.transport_along(**data, path=[0, 1, 2], title="walk", up="y", view=(40, 30))
    assert {"walk"} <= set(texts(open_path))
    assert any("2 steps" in text for text in texts(open_path))
    assert rendered(figure).std() > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": [0]}, "at least two vertices"),
        ({"path": [0, 2]}, "no such edge"),
        ({"frame": torch.eye(3)}, r"frame must have shape \[3, 3, 3\]"),
        ({"up": "down"}, "up must be"),
    ],
)
def test_bad_paths_say_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        plot.transport_along(**({"path": [0, 1]} | octant() | change))


# vectors on the sphere


def test_vectors_on_the_sphere_have_arrows_on_both_sides():
    coast = np.stack([np.linspace(-60, 60, 40), np.full(40, 10.0)], axis=1)
    figure = plot.sphere_signal(MESH.pos, vectors=EAST, outlines=[coast], arrows=100, vector_label="m/s", label="speed")
    arrows = [next(c for c in axes.collections if isinstance(c, Quiver)) for axes in figure.axes[:2]]
    assert sum(q.N for q in arrows) <= 100
    assert all(q.N > 30 for q in arrows)
    # seen from outside, east is to the right on both sides
    assert all(np.mean(q.U) > 0 for q in arrows)
    assert any("longest arrow: 1 m/s" in text for text in texts(figure))
    lines = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert len(lines[-1].get_paths()) == 1
    assert rendered(figure).std() > 5


def test_rows_of_vectors_share_a_scale():
    value = {"truth": MESH.pos[:, 2], "forecast": MESH.pos[:, 0]}
    figure = plot.sphere_signal(MESH.pos, value, vectors={"truth": EAST, "forecast": 0.5 * EAST}, face=MESH.face)
    long, short = (np.hypot(q.U, q.V).max() for q in (
        next(c for c in figure.axes[k].collections if isinstance(c, Quiver)) for k in (0, 2)
    ))  # fmt: skip
    assert short == pytest.approx(0.5 * long, rel=0.02)


def test_any_sampling_gets_cells_from_its_hull():
    points = torch.nn.functional.normalize(torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    figure = plot.sphere_signal(points, points[:, 2])
    assert rendered(figure).std() > 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "nothing to draw"),
        ({"vectors": EAST[:5]}, "vectors of space"),
        ({"value": {"a": MESH.pos[:, 0]}, "vectors": {"b": EAST}}, r"named \['b'\]"),
        ({"value": MESH.pos[:, 0], "outlines": [torch.zeros(3, 4)]}, "an outline must be"),
        ({"pos": torch.eye(3), "value": torch.ones(3)}, "spans no sphere"),
        ({"pos": MESH.pos[:, :2], "value": torch.ones(COUNT)}, r"must be \[N, 3\]"),
    ],
)
def test_bad_sphere_vectors_say_what_is_wrong(change, message):
    with pytest.raises(ValueError, match=message):
        plot.sphere_signal(**({"pos": MESH.pos} | change))


# the interactive page


def test_the_interactive_page_holds_the_same_mesh(tmp_path):
    pytest.importorskip("plotly")
    vectors = EAST + torch.tensor([0.0, 0, 0.1])  # nowhere zero
    figure = plot.interactive_surface(MESH.pos, MESH.face, MESH.pos[:, 2], vectors=vectors, arrows=30, up="y")
    mesh, line, cones = figure.data
    assert len(mesh.x) == COUNT
    assert len(mesh.i) == MESH.face.size(1)
    np.testing.assert_allclose(mesh.intensity, MESH.pos[:, 2])
    assert (mesh.cmid, len(line.x), len(cones.x)) == (0.0, 90, 30)
    assert figure.layout.scene.camera.up.y == 1
    figure.write_html(tmp_path / "mesh.html")
    assert (tmp_path / "mesh.html").stat().st_size > 10_000


def test_classes_of_the_interactive_page_are_switched_one_by_one():
    pytest.importorskip("plotly")
    value = (MESH.pos[:, 2] > 0).long()
    figure = plot.interactive_surface(MESH.pos, MESH.face, value, classes=["south", "north"], title="halves")
    assert [trace.name for trace in figure.data] == ["south", "north"]
    assert sum(len(trace.i) for trace in figure.data) == MESH.face.size(1)
    plain = plot.interactive_surface(MESH.pos, MESH.face)
    assert plain.data[0].color
    with pytest.raises(ValueError, match="up must be"):
        plot.interactive_surface(MESH.pos, MESH.face, up="w")


def test_a_missing_plotly_is_named():
    code = (
        "import sys; sys.modules['plotly'] = None\n"
        "from geomeq import plot\n"
        "try:\n    plot.interactive_surface([[0., 0, 0]], [[0], [0], [0]])\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'geomeq[plot]'" in done.stdout

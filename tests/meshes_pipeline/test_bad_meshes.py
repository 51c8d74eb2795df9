"""Meshes as they come: the whole way to a network is finite and right, or stops with a message that helps."""

import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq import meshes
from geomeq.transforms import GaugeRandomize, MeshGauge
from tests.meshes._shapes import bow_tie, grid, klein, moebius, sphere, t_edge, two_parts
from tests.meshes_pipeline._networks import TYPES, bumpy, network, prepared, relative, settled

F64 = torch.float64


def with_face(mesh, *corners):
    """The mesh and further triangles."""
    return Data(pos=mesh.pos, face=torch.cat([mesh.face, torch.tensor(corners).T], dim=1))


def flat_triangle():
    """A sphere one of whose vertices lies in the middle of an edge: a triangle without area."""
    mesh = sphere(1)
    a, b, c = mesh.face[:, 0]
    pos = mesh.pos.clone()
    pos[a] = (pos[b] + pos[c]) / 2
    return Data(pos=pos, face=mesh.face)


def coincident():
    """A sphere with two vertices of an edge in one place: an edge of length zero, two triangles without area."""
    mesh = sphere(1)
    pos = mesh.pos.clone()
    pos[mesh.face[0, 0]] = pos[mesh.face[1, 0]]
    return Data(pos=pos, face=mesh.face)


def turned_over():
    mesh = sphere(1)
    face = mesh.face.clone()
    face[:, ::3] = face[:, ::3].flip(0)
    return Data(pos=mesh.pos, face=face)


USABLE = {  # mesh: what the report must count, at least
    "a vertex named twice": (lambda: with_face(sphere(1), [0, 0, 1]), {"degenerate_faces": 1}),
    "a triangle twice": (lambda: with_face(sphere(1), sphere(1).face[:, 0].tolist()), {"duplicate_faces": 1}),
    "a triangle without area": (flat_triangle, {"zero_area_faces": 1}),
    "an edge without length": (coincident, {"duplicate_vertices": 1}),
    "a vertex on its own": (two_parts, {"isolated_vertices": 1, "components": 2}),
    "triangles turned over": (turned_over, {"inconsistent_edges": 1}),
    "a boundary": (grid, {"boundary_edges": 14}),
    "one triangle": (lambda: Data(pos=torch.eye(3, dtype=F64), face=torch.tensor([[0], [1], [2]])), {}),
}
REFUSED = {  # mesh, and words of the message
    "a bow tie": (bow_tie, "vert"),
    "three triangles at an edge": (t_edge, "edge"),
    "a Moebius strip": (moebius, "one side"),
    "a Klein bottle": (klein, "one side"),
}


def spread_of_frames(data, model):
    """How much the output depends on the frames."""
    return relative(model(GaugeRandomize(TYPES)(data.clone())), model(data))


@pytest.mark.parametrize("name", USABLE)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (F64, 1e-11)])
def test_defects_are_counted_and_the_output_is_finite_and_frame_free(name, dtype, tol):
    make, counts = USABLE[name]
    mesh = make()
    written, report = MeshGauge().with_report(mesh)
    for count, least in counts.items():
        assert getattr(report, count) >= least, str(report)
    assert all(bool(written[key].isfinite().all()) for key in ("polar", "transport", "area", "frame"))
    data = prepared(mesh, dtype)
    assert bool(data.x.isfinite().all())
    model = settled(network(dtype), data)
    y = model(data)
    assert y.shape == (mesh.num_nodes, 4)
    assert bool(y.isfinite().all())
    assert spread_of_frames(data, model) < tol


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_frames_is_refused_with_words(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        MeshGauge()(make())


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("gauge", [MeshGauge("projected"), MeshGauge(fallback="projected")], ids=["projected", "falls"])
def test_and_goes_through_by_projection(name, gauge):
    mesh = REFUSED[name][0]()
    data = gauge(mesh)
    data.x = torch.cat([mesh.pos.square().sum(1, keepdim=True), torch.ones(mesh.num_nodes, 1, dtype=F64)], dim=1)
    model = settled(network(F64, types_in="2x0"), data)
    y = model(data)
    assert bool(y.isfinite().all())
    assert relative(model(GaugeRandomize("2x0")(data.clone())), y) < 1e-11


@pytest.mark.parametrize("name", ["a bow tie", "three triangles at an edge"])
def test_repair_makes_them_usable(name):
    repaired, report = meshes.clean(REFUSED[name][0](), split_nonmanifold=True)
    data = MeshGauge()(repaired)
    assert report.split_vertices > 0
    assert data.num_edges > 0


def test_a_triangle_twice_is_as_good_as_once():
    once, twice = sphere(2), with_face(sphere(2), sphere(2).face[:, 5].tolist())
    clean, dirty = (prepared(mesh, F64) for mesh in (once, twice))
    model = settled(network(F64), clean)
    assert relative(model(dirty), model(clean)) < 1e-11


def test_turned_triangles_are_turned_back():
    model = settled(network(F64), prepared(sphere(1), F64))
    assert relative(model(prepared(turned_over(), F64)), model(prepared(sphere(1), F64))) < 1e-11


def test_one_bad_mesh_does_not_touch_its_batch():
    fine = prepared(bumpy(1), F64)
    model = settled(network(F64), fine)
    alone = model(fine)
    for make, _ in USABLE.values():
        both = Batch.from_data_list([prepared(make(), F64), fine])
        torch.testing.assert_close(model(both)[-fine.num_nodes :], alone)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_positions_that_are_no_numbers_are_named(value):
    mesh = sphere(1)
    mesh.pos[7, 1] = value
    with pytest.raises(ValueError, match=r"pos.* 7|7.*pos"):
        MeshGauge()(mesh)
    assert meshes.inspect(mesh).nonfinite_vertices == 1


def test_nothing_at_all():
    empty = Data(pos=torch.zeros(0, 3), face=torch.zeros(3, 0, dtype=torch.long))
    data = MeshGauge()(empty)
    data.x = torch.zeros(0, 2)
    assert network(torch.float32, types_in="2x0").eval()(data).shape == (0, 4)
    points = MeshGauge()(Data(pos=torch.randn(5, 3), face=torch.zeros(3, 0, dtype=torch.long)))
    points.x = torch.randn(5, 2)
    assert points.num_edges == 0
    assert bool(network(torch.float32, types_in="2x0").eval()(points).isfinite().all())

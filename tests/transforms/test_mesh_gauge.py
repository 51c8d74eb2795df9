"""MeshGauge: the contract, rigid motions, mirror images, bending, order, the icosahedron, batches, points."""

import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.groups import SO3, icosahedral_rotations, wrap_angle
from geomeq.meshes import edge_lengths, face_areas, inspect
from geomeq.nn import GaugeConv
from geomeq.transforms import GaugeFeatures, MeshGauge

from ..meshes._shapes import F64, annulus, grid, moebius, sphere, t_edge, torus, two_parts

METHODS = [
    MeshGauge(),
    MeshGauge(boundary="flat", delaunay=True),
    MeshGauge(rings=2),
    MeshGauge(radius=0.9),
    MeshGauge("projected"),
    MeshGauge("projected", rings=2, radius=0.9),
    MeshGauge("projected", radius=0.9),
    MeshGauge("projected", knn=4),
]
HEAT = MeshGauge("vector_heat", radius=0.9)


def bumpy(dtype=F64):
    """A closed surface without any symmetry."""
    mesh = sphere(2)
    x, y, z = mesh.pos.t()
    mesh.pos = (mesh.pos * (1 + 0.2 * (3 * x + y).sin() + 0.1 * (4 * z - y).cos())[:, None]).to(dtype)
    return mesh


def moved(mesh, seed=1):
    """The mesh elsewhere, and the rotation."""
    turn = SO3.random(seed=seed, dtype=mesh.pos.dtype)
    out = mesh.clone()
    out.pos = mesh.pos @ turn.T + torch.tensor([0.3, -0.2, 0.5], dtype=mesh.pos.dtype)
    return out, turn


def assert_same_gauge(a, b, tol):
    assert torch.equal(a.edge_index, b.edge_index)
    assert float((a.polar[:, 0] - b.polar[:, 0]).abs().max()) < tol
    assert float(wrap_angle(a.polar[:, 1] - b.polar[:, 1]).abs().max()) < tol
    assert float(wrap_angle(a.transport - b.transport).abs().max()) < tol


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("transform", METHODS, ids=str)
def test_the_attributes_of_the_contract(transform, dtype):
    given = bumpy(dtype)
    given.edge_attr = torch.zeros(3)
    mesh = transform(given)
    num, (j, i) = mesh.num_nodes, mesh.edge_index
    assert "edge_attr" not in mesh
    assert "polar" not in given
    for key, shape in (("polar", (len(j), 2)), ("transport", (len(j),)), ("frame", (num, 3, 3)), ("area", (num,))):
        assert mesh[key].shape == shape
        assert mesh[key].dtype == dtype
    key = i * num + j
    assert bool((key[1:] > key[:-1]).all())  # sorted, none twice
    assert torch.equal((j * num + i).sort().values, key)  # both ways
    assert bool((i != j).all())
    angles = torch.cat([mesh.polar[:, 1], mesh.transport])
    assert float(angles.max()) <= float(torch.tensor(math.pi, dtype=dtype))
    assert float(angles.min()) > -float(torch.tensor(math.pi, dtype=dtype))
    assert float(mesh.area.sum()) == pytest.approx(float(face_areas(edge_lengths(mesh.pos, mesh.face)).sum()), rel=1e-5)
    frame = mesh.frame.double()
    torch.testing.assert_close(frame @ frame.mT, torch.eye(3, dtype=F64).expand(num, 3, 3), atol=1e-6, rtol=0)
    assert float((frame[:, 2] * mesh.pos).sum(dim=1).min()) > 0.5  # outward
    back = torch.searchsorted(key, j * num + i)
    assert float(wrap_angle(mesh.transport + mesh.transport[back]).abs().max()) < 1e-6
    assert torch.equal(mesh.polar[back, 0], mesh.polar[:, 0])


@pytest.mark.parametrize("transform", [*METHODS, HEAT], ids=str)
def test_angles_are_directions_in_space_up_to_the_scale(transform):
    if transform.method == "vector_heat":
        pytest.importorskip("potpourri3d")
    mesh = transform(sphere(3))
    j, i = mesh.edge_index
    x, y = torch.einsum("eij,ej->ie", mesh.frame[i, :2], mesh.pos[j] - mesh.pos[i])
    gap = wrap_angle(torch.atan2(y, x) - mesh.polar[:, 1])
    assert float(gap.abs().max()) < (1e-12 if transform.method == "projected" else 0.06)
    assert float(wrap_angle(torch.atan2(y, x) + mesh.polar[:, 1]).abs().max()) > 1


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-4), (F64, 1e-9)])
@pytest.mark.parametrize("transform", [*METHODS, HEAT], ids=str)
def test_a_rigid_motion_changes_frames_only(transform, dtype, tol):
    if transform.method == "vector_heat":
        pytest.importorskip("potpourri3d")
        tol = max(tol, 1e-6)  # of its solver
    mesh = bumpy(dtype)
    other, turn = moved(mesh)
    a, b = transform(mesh), transform(other)
    assert_same_gauge(a, b, tol)
    torch.testing.assert_close(b.frame, a.frame @ turn.T, atol=tol, rtol=0)
    torch.testing.assert_close(b.area, a.area, atol=tol, rtol=0)
    other.pos = other.pos * torch.tensor([1.2, 1.0, 1.0], dtype=dtype)  # not rigid
    c = transform(other)
    assert not torch.equal(a.edge_index, c.edge_index) or float((a.polar - c.polar).abs().max()) > 0.01


@pytest.mark.parametrize("transform", METHODS, ids=str)
def test_a_mirror_image_negates_all_angles(transform):
    mesh = bumpy()
    other = mesh.clone()
    other.pos = mesh.pos * torch.tensor([1.0, 1.0, -1.0], dtype=F64)
    a, b = transform(mesh), transform(other)
    assert torch.equal(a.edge_index, b.edge_index)
    torch.testing.assert_close(a.polar[:, 0], b.polar[:, 0])
    assert float(wrap_angle(a.polar[:, 1] + b.polar[:, 1]).abs().max()) < 1e-9
    assert float(wrap_angle(a.transport + b.transport).abs().max()) < 1e-9
    assert float(wrap_angle(a.polar[:, 1] - b.polar[:, 1]).abs().max()) > 0.1
    mirrored = a.frame * torch.tensor([1.0, 1.0, -1.0], dtype=F64)
    mirrored[:, 1] *= -1  # right-handed again
    torch.testing.assert_close(b.frame, mirrored, atol=1e-9, rtol=0)


BENDING = [MeshGauge(), MeshGauge(rings=2), MeshGauge(radius=2.1, boundary="flat")]


@pytest.mark.parametrize("transform", BENDING, ids=str)
def test_rolling_a_sheet_up_changes_nothing(transform):
    sheet = grid(6, 7)
    x, y, _ = sheet.pos.t()
    radius = 0.5 / math.sin(0.2)  # lines x = const stay straight, chords between them keep the length 1
    roll = Data(pos=torch.stack([radius * (0.4 * x).sin(), y, radius * (0.4 * x).cos()], 1), face=sheet.face)
    assert_same_gauge(transform(sheet), transform(roll), 1e-9)
    flat, rolled = MeshGauge("projected")(sheet), MeshGauge("projected")(roll)
    assert float(wrap_angle(flat.polar - rolled.polar)[:, 1].abs().max()) > 0.01  # that one sees the space around


@pytest.mark.parametrize("transform", [*METHODS[:-1], MeshGauge("projected", knn=6)], ids=str)
def test_another_order_of_vertices_and_faces_is_a_change_of_frames(transform):
    mesh = bumpy()
    num = mesh.num_nodes
    order = torch.randperm(num)
    new = torch.empty_like(order).index_copy_(0, order, torch.arange(num))
    shuffled = Data(pos=mesh.pos[order], face=new[mesh.face][:, torch.randperm(mesh.face.size(1))])
    assert_change_of_frames(transform(mesh), transform(shuffled), new, torch.eye(3, dtype=F64))


def assert_change_of_frames(a, b, new, turn, tol=1e-9):
    """Node ``i`` of ``a`` is node ``new[i]`` of ``b``, at its place turned in space; frames differ by angles."""
    num, (j, i) = a.num_nodes, a.edge_index
    key = b.edge_index[1] * num + b.edge_index[0]
    wanted = new[i] * num + new[j]
    assert torch.equal(wanted.sort().values, key)
    e = torch.searchsorted(key, wanted)
    frame = a.frame @ turn.T
    x, y = torch.einsum("nij,nj->in", frame[:, :2], b.frame[new, 0])
    by = torch.atan2(y, x)  # from frame i of a to frame new[i] of b
    torch.testing.assert_close(b.frame[new, 2], frame[:, 2], atol=tol, rtol=0)
    torch.testing.assert_close(b.polar[e, 0], a.polar[:, 0], atol=tol, rtol=0)
    assert float(wrap_angle(b.polar[e, 1] - a.polar[:, 1] + by[i]).abs().max()) < tol
    assert float(wrap_angle(b.transport[e] - a.transport + by[i] - by[j]).abs().max()) < tol
    return by


@pytest.mark.parametrize("transform", [MeshGauge(), MeshGauge(rings=3), MeshGauge("projected")], ids=str)
def test_the_sixty_rotations_of_an_icosphere(transform):
    mesh = sphere(2)
    out = transform(mesh)
    turns = icosahedral_rotations()
    assert len(turns) == 60
    largest = 0.0
    for turn in turns:
        new = torch.cdist(mesh.pos @ turn.T, mesh.pos).argmin(dim=1)
        assert float((mesh.pos @ turn.T - mesh.pos[new]).abs().max()) < 1e-9
        by = assert_change_of_frames(out, out, new, turn)
        largest = max(largest, float(by.abs().max()))
    assert largest > 1  # the shifts are needed


@pytest.mark.parametrize("transform", METHODS, ids=str)
def test_a_batch_equals_its_parts(transform):
    parts = [bumpy(torch.float32), torus(9, 7, dtype=torch.float32), annulus(dtype=torch.float32)]
    batch = transform(Batch.from_data_list(parts))
    assert isinstance(batch, Batch)
    for made, part in zip(batch.to_data_list(), parts, strict=True):
        alone = transform(part)
        for key in ("edge_index", "polar", "transport", "area", "frame"):
            assert torch.equal(made[key], alone[key])
    collated = Batch.from_data_list([transform(part) for part in parts])
    assert torch.equal(collated.polar, batch.polar)
    assert torch.equal(collated.edge_index, batch.edge_index)


def test_edges_of_a_boundary_go_both_ways():
    mesh = MeshGauge()(grid(3, 3))
    pairs = set(zip(*mesh.edge_index.tolist(), strict=True))
    assert {(j, i) for i, j in pairs} == pairs
    one_way = {(int(a), int(b)) for a, b in torch.cat([mesh.face[[0, 1]], mesh.face[[1, 2]], mesh.face[[2, 0]]], 1).t()}
    assert len(one_way) < len(pairs)  # as many as directed edges of faces would be too few


def test_inside_out_meshes_are_turned_and_reported():
    mesh = bumpy()
    over = Data(pos=mesh.pos, face=mesh.face[[0, 2, 1]])
    out, report = MeshGauge().with_report(over)
    assert report.turned_faces == 320
    assert report.inside_out
    assert_same_gauge(out, MeshGauge()(mesh), 1e-12)
    assert torch.equal(over.face, mesh.face[[0, 2, 1]])  # what was given stays
    assert not inspect(out).problems
    open_mesh, report = MeshGauge().with_report(annulus())
    assert report.turned_faces == 0
    assert "face" in open_mesh


def test_the_report_counts_flips_and_length_added():
    pos = torch.tensor([[0, 0, 0], [4, 0, 0], [2, 1, 0], [2, -1, 0], [2, 2.5, 0]], dtype=F64)
    face = torch.tensor([[0, 1, 0], [1, 0, 2], [2, 3, 4]])
    out, report = MeshGauge(delaunay=True).with_report(Data(pos=pos, face=face))
    assert report.flipped_edges == 1
    pairs = set(zip(*out.edge_index.tolist(), strict=True))
    assert {(2, 3), (3, 2)} <= pairs
    assert (0, 1) not in pairs
    assert torch.equal(out.face, face)  # the triangles in space stay
    flat = Data(pos=pos, face=torch.tensor([[0, 1, 0, 0], [1, 0, 2, 0], [2, 3, 4, 3]]))
    flat.pos[2, 1] = 0.0
    _, report = MeshGauge().with_report(flat)
    assert report.mollified > 0
    assert report.removed_faces == 1
    assert "every edge lengthened by" in str(report)


def test_points_with_normals_need_no_triangles():
    mesh = bumpy()
    full = MeshGauge("projected")(mesh)
    one_way = full.edge_index[:, full.edge_index[0] < full.edge_index[1]]
    points = Data(pos=mesh.pos, normal=3 * full.frame[:, 2], edge_index=one_way[:, torch.randperm(480)])
    out = MeshGauge("projected")(points)
    assert_same_gauge(out, full, 1e-12)
    assert "area" not in out
    near = MeshGauge("projected", radius=0.5)(Data(pos=mesh.pos, norm=full.frame[:, 2]))
    assert_same_gauge(near, MeshGauge("projected", radius=0.5)(mesh), 1e-12)
    assert MeshGauge("projected", knn=5)(Data(pos=mesh.pos, normal=mesh.pos)).num_edges >= 5 * 162


def test_a_network_on_features_sees_no_motion():
    mesh, other = bumpy(torch.float32), moved(bumpy(torch.float32))[0]
    features = GaugeFeatures(("matrix", "tangents"))
    types = "7x0+4x1+3x2+1x1"
    conv = GaugeConv(types, "8x0", rings=1)
    out = []
    for each in (mesh, other):
        graph = features(MeshGauge()(each))
        assert graph.types == types
        out.append(conv(graph.x, graph.edge_index, graph.polar, graph.transport, graph.area))
    torch.testing.assert_close(out[0], out[1], atol=1e-4, rtol=1e-3)
    graph = features(MeshGauge()(mesh))
    wrong = conv(graph.x, graph.edge_index, graph.polar, -graph.transport, graph.area)
    assert not torch.allclose(out[0], wrong, atol=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "flat"}, "method must be one of"),
        ({"boundary": "free"}, "boundary must be one of"),
        ({"fallback": "none"}, "fallback must be None or 'projected'"),
        ({"rings": 0}, "rings must be a positive integer"),
        ({"radius": 0.0}, "radius must be positive and finite"),
        ({"knn": 3}, "knn goes with method='projected'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        MeshGauge(**arguments)


def test_repr_names_every_argument():
    transform = MeshGauge("projected", radius=0.1, fallback="projected")
    assert repr(transform) == (
        "MeshGauge(method='projected', rings=None, radius=0.1, delaunay=False, mollify=True, boundary='plain', "
        "fallback='projected', knn=None)"
    )
    assert eval(repr(transform)).radius == 0.1


@pytest.mark.parametrize("mesh", [two_parts(), t_edge(), moebius(), grid()])
def test_projection_takes_any_mesh(mesh):
    out = MeshGauge("projected", rings=2)(mesh)
    assert bool(torch.isfinite(out.polar).all() and torch.isfinite(out.transport).all())
    assert bool(torch.isfinite(out.frame).all() and torch.isfinite(out.area).all())

"""Frames in space and projected log maps: against rotations by scipy, the sphere, potpourri3d."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from geomeq.groups import SO3, wrap_angle
from geomeq.meshes import (
    any_frames,
    edge_lengths,
    half_edges,
    load,
    one_ring,
    project,
    projected_frames,
    projected_transport,
    tangent_frames,
    turn_frames,
    vertex_normals,
)
from geomeq.meshes._surface import both_ways

from ._shapes import F64, grid, real_path, sphere, torus


def unit(num):
    v = torch.randn(num, 3, dtype=F64)
    return v / v.norm(dim=1, keepdim=True)


def intrinsic(mesh):
    """One ring, normals and frames."""
    log = one_ring(half_edges(mesh.face, mesh.pos.size(0)), edge_lengths(mesh.pos, mesh.face))
    normal = vertex_normals(mesh.pos, mesh.face)
    return log, normal, tangent_frames(mesh.pos, normal, log)


def assert_frames(frame):
    eye = torch.eye(3, dtype=frame.dtype).expand_as(frame)
    torch.testing.assert_close(frame @ frame.transpose(1, 2), eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frame), torch.ones(len(frame), dtype=frame.dtype))


def test_frames_are_orthonormal_and_right_handed():
    normal = torch.cat([unit(100), torch.eye(3, dtype=F64), -torch.eye(3, dtype=F64)])
    frame = any_frames(normal)
    assert_frames(frame)
    torch.testing.assert_close(frame[:, 2], normal, atol=0, rtol=0)
    turned = turn_frames(frame, torch.rand(len(frame), dtype=F64) * 7)
    assert_frames(turned)
    quarter = turn_frames(frame, torch.full((len(frame),), math.pi / 2, dtype=F64))
    torch.testing.assert_close(quarter[:, 0], frame[:, 1])


@pytest.mark.parametrize("mesh", [grid(), grid(7, 9)])
def test_on_a_plane_angles_are_directions_in_space(mesh):
    mesh.pos = mesh.pos @ SO3.random(seed=0).T
    log, _, frame = intrinsic(mesh)
    assert_frames(frame)
    j, i = log.edge_index
    r, angle = log.polar.t()
    step = r[:, None] * (angle.cos()[:, None] * frame[i, 0] + angle.sin()[:, None] * frame[i, 1])
    torch.testing.assert_close(step, mesh.pos[j] - mesh.pos[i], atol=1e-12, rtol=0)
    # and a constant field of space has constant components after transport
    v = frame[:, :2] @ mesh.pos[5]
    moved = torch.stack(
        [
            log.transport.cos() * v[j, 0] - log.transport.sin() * v[j, 1],
            log.transport.sin() * v[j, 0] + log.transport.cos() * v[j, 1],
        ],
        dim=1,
    )
    torch.testing.assert_close(moved, v[i], atol=1e-12, rtol=0)
    assert float((v[j] - v[i]).abs().max()) > 0.1


@pytest.mark.parametrize(("level", "most"), [(2, 0.03), (3, 0.008), (4, 0.002)])
def test_on_a_sphere_angles_and_transport_become_exact(level, most):
    mesh = sphere(level)
    log, _, _ = intrinsic(mesh)
    frame = tangent_frames(mesh.pos, mesh.pos, log)
    exact = project(mesh.pos, frame, log.edge_index)  # on a sphere the smallest rotation is parallel transport
    assert float(wrap_angle(log.polar[:, 1] - exact.polar[:, 1]).abs().max()) < most
    assert float(wrap_angle(log.transport - exact.transport).abs().max()) < most
    assert float(wrap_angle(log.transport + exact.transport).abs().max()) > 0.1


def test_frames_turn_by_as_much_as_the_angles_do():
    mesh = torus(9, 7)
    log, normal, frame = intrinsic(mesh)
    turn = torch.rand(len(frame), dtype=F64) * 2 * math.pi
    polar = torch.stack([log.polar[:, 0], log.polar[:, 1] - turn[log.edge_index[1]]], dim=1)
    again = tangent_frames(mesh.pos, normal, type(log)(log.edge_index, polar, log.transport))
    torch.testing.assert_close(again, turn_frames(frame, turn), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["spot", "koala", "skull"])
def test_equals_potpourri3d(name):
    potpourri3d = pytest.importorskip("potpourri3d")
    mesh = load(real_path(name), dtype=F64)
    log, normal, frame = intrinsic(mesh)
    num = mesh.pos.size(0)
    solver = potpourri3d.MeshVectorHeatSolver(
        mesh.pos.numpy(), mesh.face.t().numpy().copy(), use_intrinsic_delaunay=False
    )
    theirs = torch.from_numpy(np.stack(solver.get_tangent_frames(), axis=1))
    torch.testing.assert_close(theirs[:, 2], normal, atol=1e-7, rtol=0)
    x, y = torch.einsum("nij,nj->in", frame[:, :2], theirs[:, 0])
    turn = torch.atan2(y, x)  # from our frames to theirs
    laplacian = solver.get_connection_laplacian().tocoo()
    i, j = torch.from_numpy(laplacian.row).long(), torch.from_numpy(laplacian.col).long()
    value = torch.from_numpy(laplacian.data)
    clear = (i != j) & (value.abs() > 1e-6 * value.abs().max())  # without a weight there is no angle
    i, j, value = i[clear], j[clear], value[clear]
    key = log.edge_index[1] * num + log.edge_index[0]
    transport = log.transport[torch.searchsorted(key, i * num + j)]
    gap = wrap_angle(transport - turn[i] + turn[j] - torch.angle(-value))
    gap = torch.minimum(gap.abs(), math.pi - gap.abs())  # negative cotangents turn the entry by pi
    assert float(gap.max()) < 1e-8
    other = wrap_angle(-transport - turn[i] + turn[j] - torch.angle(-value))
    assert float(torch.minimum(other.abs(), math.pi - other.abs()).max()) > 0.1


def test_smallest_rotations_equal_those_of_scipy():
    n = 200
    a = turn_frames(any_frames(unit(n)), torch.rand(n, dtype=F64) * 7)
    b = turn_frames(any_frames(unit(n)), torch.rand(n, dtype=F64) * 7)
    axis = torch.linalg.cross(a[:, 2], b[:, 2])
    angle = torch.atan2(axis.norm(dim=1), (a[:, 2] * b[:, 2]).sum(dim=1))
    turn = Rotation.from_rotvec((axis / axis.norm(dim=1, keepdim=True) * angle[:, None]).numpy())
    moved = torch.from_numpy(turn.apply(a[:, 0].numpy()))
    expected = torch.atan2((moved * b[:, 1]).sum(dim=1), (moved * b[:, 0]).sum(dim=1))
    found = projected_transport(a, b)
    assert float(wrap_angle(found - expected).abs().max()) < 1e-9
    assert float(wrap_angle(found + projected_transport(b, a)).abs().max()) < 1e-9
    same = projected_transport(a, turn_frames(a, torch.full((n,), 0.3, dtype=F64)))
    torch.testing.assert_close(same, torch.full((n,), -0.3, dtype=F64))


def cloud(num=60):
    """Points of a sphere with normals, each with all others closer than 1."""
    pos = unit(num)
    near = torch.cdist(pos, pos) < 1
    return pos, both_ways(near.fill_diagonal_(False).nonzero().t(), num)


def test_projection_follows_its_formula():
    pos, edge_index = cloud()
    frame = projected_frames(pos, pos, edge_index)
    assert_frames(frame)
    log = project(pos, frame, edge_index)
    for e in range(0, edge_index.size(1), 7):
        j, i = edge_index[:, e].tolist()
        step = pos[j] - pos[i]
        first = int(edge_index[0][edge_index[1] == i].min())
        flat = (pos[first] - pos[i]) - ((pos[first] - pos[i]) @ pos[i]) * pos[i]
        torch.testing.assert_close(frame[i, 0], flat / flat.norm())
        assert float(log.polar[e, 0]) == pytest.approx(float(step.norm()))
        assert float(log.polar[e, 1]) == pytest.approx(math.atan2(float(step @ frame[i, 1]), float(step @ frame[i, 0])))


def test_opposite_normals_continue_along_the_edge():
    pos = torch.tensor([[0, 0, 0], [1, 0, 0], [0.5, 1, 0]], dtype=F64)
    normal = torch.tensor([[0, 0, 1], [0, 0, -1], [0, 0, 1]], dtype=F64)
    edge_index = both_ways(torch.tensor([[0, 0], [1, 2]]), 3)
    log = project(pos, projected_frames(pos, normal, edge_index), edge_index)
    (j, i), angle = edge_index, log.polar[:, 1]
    pair = {(int(a), int(b)): e for e, (a, b) in enumerate(zip(j, i, strict=True))}
    out, back = pair[1, 0], pair[0, 1]
    expected = wrap_angle(angle[out] - angle[back] - math.pi)
    torch.testing.assert_close(wrap_angle(log.transport[out] - expected), torch.zeros((), dtype=F64))
    torch.testing.assert_close(wrap_angle(log.transport[out] + log.transport[back]), torch.zeros((), dtype=F64))


def test_edges_along_the_normal_give_some_frame():
    pos = torch.tensor([[0, 0, 0], [0, 0, 1.0], [5, 0, 0]], dtype=F64)
    normal = torch.tensor([[0, 0, 1.0]], dtype=F64).expand(3, 3)
    edge_index = torch.tensor([[1, 0], [0, 1]])
    frame = projected_frames(pos, normal, edge_index)
    assert_frames(frame)
    assert bool(torch.isfinite(project(pos, frame, edge_index).polar).all())


def test_neighbours_at_one_place_have_no_direction():
    pos = torch.zeros(2, 3, dtype=F64)
    frame = torch.eye(3, dtype=F64).expand(2, 3, 3)
    with pytest.raises(ValueError, match=r"neighbours 0 and 1 coincide at \[0.0, 0.0, 0.0\].*merge_duplicates"):
        project(pos, frame, torch.tensor([[1, 0], [0, 1]]))


def test_edges_longer_inside_the_surface_count_less():
    mesh = grid(5, 5)
    log, normal, frame = intrinsic(mesh)
    wrong = log.polar.clone()
    wrong[::7] = torch.stack([wrong[::7, 0] * 3, wrong[::7, 1] + 2.0], dim=1)  # as if flipped across a fold
    near = tangent_frames(mesh.pos, normal, type(log)(log.edge_index, wrong, log.transport))
    assert float((near[:, 0] - frame[:, 0]).norm(dim=1).max()) < 1e-6

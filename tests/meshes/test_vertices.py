"""Areas and normals of vertices: sums, spheres, trimesh, and what happens where they cancel."""

import math

import numpy as np
import pytest
import torch
import trimesh

from geomeq.groups import random_orthogonal
from geomeq.meshes import edge_lengths, face_areas, face_normals, load, vertex_area, vertex_normals

from ._shapes import annulus, grid, real_path, sphere, torus, two_parts

KINDS = ["barycentric", "mixed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mesh", [sphere(2), torus(), grid(), annulus(), two_parts()])
def test_areas_add_up_to_that_of_the_mesh(mesh, kind):
    length = edge_lengths(mesh.pos, mesh.face)
    area = vertex_area(mesh.face, length, mesh.pos.size(0), kind)
    torch.testing.assert_close(area.sum(), face_areas(length).sum())
    assert (area >= 0).all()


def test_voronoi_cells_of_a_square_grid_are_squares():
    mesh = grid(4, 5)
    length = edge_lengths(mesh.pos, mesh.face)
    mixed = vertex_area(mesh.face, length, 20, "mixed").view(4, 5)
    torch.testing.assert_close(mixed[1:-1, 1:-1], torch.ones(2, 3, dtype=torch.float64))
    assert float(mixed[0, 0]) == pytest.approx(0.25)
    third = vertex_area(mesh.face, length, 20).view(4, 5)
    assert not torch.allclose(third[0], mixed[0])


def test_an_obtuse_triangle_gives_half_its_area_to_the_obtuse_corner():
    pos = torch.tensor([[-2.0, 0, 0], [2, 0, 0], [0, 1, 0]])
    face = torch.tensor([[0], [1], [2]])
    area = vertex_area(face, edge_lengths(pos, face), 3, "mixed")
    torch.testing.assert_close(area, torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64))


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", ["spot", "hand"])
def test_normals_agree_with_trimesh_and_turn_with_the_mesh(name, dtype, tol):
    mesh = load(real_path(name), dtype=dtype)
    normal = vertex_normals(mesh.pos, mesh.face)
    other = trimesh.Trimesh(mesh.pos.double().numpy(), mesh.face.t().numpy(), process=False)
    np.testing.assert_allclose(face_normals(mesh.pos, mesh.face), other.face_normals, atol=1e-9)
    expected = trimesh.geometry.weighted_vertex_normals(
        len(other.vertices), other.faces, other.face_normals, other.face_angles
    )
    np.testing.assert_allclose(normal, expected, atol=1e-6)
    turn = random_orthogonal(seed=1).to(dtype)
    torch.testing.assert_close(
        vertex_normals(mesh.pos @ turn.T, mesh.face), normal @ turn.double().T, atol=100 * tol, rtol=0
    )
    torch.testing.assert_close(vertex_normals(mesh.pos, mesh.face.flip(0)), -normal)  # the check has teeth


def test_cutting_a_triangle_in_two_leaves_angle_weighted_normals_alone():
    # one corner of a cube, each side one right angle: whole, or cut in two for one of the sides
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=torch.float64)
    whole = torch.tensor([[0, 0, 0], [1, 2, 3], [2, 3, 1]])
    cut = torch.tensor([[0, 0, 0, 0], [1, 4, 2, 3], [4, 2, 3, 1]])
    corner = torch.full((3,), 1 / math.sqrt(3), dtype=torch.float64)
    torch.testing.assert_close(vertex_normals(pos, whole)[0], corner)
    torch.testing.assert_close(vertex_normals(pos, cut)[0], corner)


def test_where_normals_cancel_areas_decide_and_then_an_axis():
    # two sides of one sheet: the same angles, so angle weights cancel
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [3, 0, 0], [0, 3, 0], [9, 9, 9]], dtype=torch.float64)
    face = torch.tensor([[0, 0], [1, 4], [2, 3]])
    normal = vertex_normals(pos, face)
    assert normal[0].tolist() == [0, 0, -1]  # the larger one faces down
    assert normal[5].tolist() == [0, 0, 1]  # isolated
    both = torch.tensor([[0, 0], [1, 2], [2, 1]])
    assert vertex_normals(pos, both)[0].tolist() == [0, 0, 1]


def test_degenerate_faces_leave_unit_normals():
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]])
    face = torch.tensor([[0, 0, 3], [1, 1, 3], [2, 3, 3]])
    normal = vertex_normals(pos, face)
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(4, dtype=torch.float64))
    assert face_normals(pos, face)[0].tolist() == [0, 0, 0]


def test_normals_are_differentiable():
    mesh = sphere(0)
    assert torch.autograd.gradcheck(lambda p: vertex_normals(p, mesh.face), (mesh.pos.clone().requires_grad_(),))


def test_an_unknown_kind_is_named():
    mesh = grid()
    with pytest.raises(ValueError, match="'barycentric' or 'mixed', got 'voronoi'"):
        vertex_area(mesh.face, edge_lengths(mesh.pos, mesh.face), 20, "voronoi")
    with pytest.raises(ValueError, match=r"length must have shape \[72\]"):
        vertex_area(mesh.face, torch.ones(3), 20)

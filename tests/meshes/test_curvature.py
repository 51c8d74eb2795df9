"""Curvatures: Gauss-Bonnet on every mesh, closed forms on sphere and torus, invariances."""

import math

import numpy as np
import pytest
import torch
import trimesh

from geomeq.groups import random_orthogonal
from geomeq.meshes import (
    edge_lengths,
    euler_characteristic,
    face_areas,
    gaussian_curvature,
    load,
    mean_curvature,
    mollify,
    principal_curvatures,
    shape_operator,
    vertex_normals,
)

from ._shapes import REAL, annulus, bow_tie, grid, klein, moebius, real_path, sphere, t_edge, torus, two_parts


def defects(mesh, density=False):
    return gaussian_curvature(mesh.face, edge_lengths(mesh.pos, mesh.face), mesh.pos.size(0), density=density)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gauss_bonnet_on_every_mesh_of_the_set(name, dtype):
    mesh = load(real_path(name), dtype=dtype)
    assert abs(float(defects(mesh).sum()) - 2 * math.pi * REAL[name][0]) < 1e-10


SHAPES = [sphere(2), torus(), grid(), annulus(), moebius(), klein(), bow_tie(), t_edge(), two_parts()]


@pytest.mark.parametrize("mesh", SHAPES)
def test_gauss_bonnet_holds_with_boundaries_one_sides_and_non_manifold_edges(mesh):
    chi = euler_characteristic(mesh.face)
    assert abs(float(defects(mesh).sum()) - 2 * math.pi * chi) < 1e-10
    longer, _ = mollify(edge_lengths(mesh.pos, mesh.face), 0.3)
    total = gaussian_curvature(mesh.face, longer, mesh.pos.size(0)).sum()
    assert abs(float(total) - 2 * math.pi * chi) < 1e-10  # for any lengths at all


def test_gauss_bonnet_holds_on_random_soups_with_flat_triangles():
    for seed in range(5):
        torch.manual_seed(seed)
        face = torch.stack([torch.randperm(9)[:3] for _ in range(20)], dim=1)
        pos = torch.randint(0, 3, (9, 3)).double()
        total = gaussian_curvature(face, edge_lengths(pos, face), 9).sum()
        assert abs(float(total) - 2 * math.pi * euler_characteristic(face)) < 1e-10


def test_defects_of_cube_and_plane_are_known():
    cube = trimesh.creation.box()
    face = torch.from_numpy(np.array(cube.faces.T, dtype=np.int64))
    pos = torch.from_numpy(np.array(cube.vertices))
    corner = torch.full((8,), math.pi / 2, dtype=torch.float64)
    torch.testing.assert_close(gaussian_curvature(face, edge_lengths(pos, face), 8), corner)
    flat = defects(grid(4, 5)).view(4, 5)
    expected = torch.zeros(4, 5, dtype=torch.float64)
    expected[0, 0] = expected[0, -1] = expected[-1, 0] = expected[-1, -1] = math.pi / 2  # square corners
    torch.testing.assert_close(flat, expected, atol=1e-12, rtol=0)
    assert defects(two_parts())[84] == 0  # isolated


def test_defects_agree_with_trimesh():
    mesh = load(real_path("spot"))
    other = trimesh.Trimesh(mesh.pos.double().numpy(), mesh.face.t().numpy(), process=False)
    np.testing.assert_allclose(defects(mesh), other.vertex_defects, atol=1e-6)


@pytest.mark.parametrize("radius", [1.0, 2.5])
def test_the_sphere_has_curvature_one_over_radius(radius):
    error = []
    for level in (2, 3):
        mesh = sphere(level)
        pos = radius * mesh.pos
        mesh.pos = pos
        unit = torch.ones(pos.size(0), dtype=torch.float64)
        gauss, mean = defects(mesh, density=True) * radius**2, mean_curvature(pos, mesh.face) * radius
        value, direction = principal_curvatures(pos, mesh.face)
        error.append([float((x - unit).abs().max()) for x in (gauss, mean)])
        torch.testing.assert_close(value * radius, torch.ones_like(value), atol=0.04, rtol=0)
        normal = vertex_normals(pos, mesh.face)
        assert float(torch.einsum("nak,nk->na", direction, normal).abs().max()) < 1e-12
        torch.testing.assert_close(direction @ direction.mT, torch.eye(2, dtype=torch.float64).expand(len(pos), 2, 2))
        torch.testing.assert_close(mean_curvature(pos, mesh.face.flip(0)), -mean / radius)  # the other side
    (g0, m0), (g1, m1) = error
    assert g1 < g0 / 3 < 0.007
    assert m1 < m0 / 3 < 1e-4


def test_the_torus_has_its_closed_form_to_second_order():
    error = []
    for n in (24, 48):
        mesh = torus(2 * n, n)
        angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
        around = angle.cos() / (2 + 0.7 * angle.cos())
        exact = torch.stack([torch.full_like(around, 1 / 0.7), around], dim=1).expand(2 * n, n, 2)
        value, direction = principal_curvatures(mesh.pos, mesh.face)
        mean = mean_curvature(mesh.pos, mesh.face).view(2 * n, n)
        gauss = defects(mesh, density=True).view(2 * n, n)
        found = [value.view(2 * n, n, 2) - exact, mean - exact.mean(dim=2), gauss - exact.prod(dim=2)]
        error.append([float(x.abs().max()) for x in found])
        assert float(direction[:, 0, 2].square().mean()) > 0.4  # the tube's own direction has a vertical part,
        assert float(direction[:, 1, 2].abs().max()) < 0.05  # that around the axis has none
    assert max(error[0]) < 0.02
    assert all(fine < coarse / 2.5 for coarse, fine in zip(*error, strict=True))


def test_a_cylinder_bends_one_way_only():
    mesh = annulus(around=48, across=20)
    mesh.pos[:, :2] *= 2 / mesh.pos[:, :2].norm(dim=1, keepdim=True)
    mesh.pos[:, 2] *= 6
    value, direction = principal_curvatures(mesh.pos, mesh.face)
    torch.testing.assert_close(value[:, 0], torch.full((len(value),), 0.5, dtype=torch.float64), atol=5e-3, rtol=0)
    assert float(value[:, 1].abs().max()) < 5e-3
    assert float(direction[:, 1, 2].abs().min()) > 0.99
    mean = mean_curvature(mesh.pos, mesh.face)
    torch.testing.assert_close(mean, torch.full_like(mean, 0.25), atol=2e-3, rtol=0)  # at the rim too


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_rigid_motions_and_scale(dtype, tol):
    mesh = sphere(2, torch.float64)
    pos = mesh.pos * torch.tensor([1.0, 1.3, 0.7], dtype=torch.float64)
    turn = random_orthogonal(seed=3)
    if torch.linalg.det(turn) < 0:
        turn = -turn
    moved = (2 * pos @ turn.T + 1).to(dtype)
    before, after = shape_operator(pos, mesh.face), shape_operator(moved, mesh.face)
    torch.testing.assert_close(2 * after, turn @ before @ turn.T, atol=tol, rtol=0)
    torch.testing.assert_close(2 * mean_curvature(moved, mesh.face), mean_curvature(pos, mesh.face), atol=tol, rtol=0)
    torch.testing.assert_close(before, before.mT)
    normal = vertex_normals(pos, mesh.face)
    assert float((before @ normal[:, :, None]).abs().max()) < 1e-12
    assert not torch.allclose(2 * after, before, atol=0.1)  # the check has teeth


def test_a_plane_has_none():
    mesh = grid(5, 5)
    assert float(shape_operator(mesh.pos, mesh.face).abs().max()) < 1e-12
    assert float(mean_curvature(mesh.pos, mesh.face).abs().max()) < 1e-12


def test_bad_meshes_give_finite_numbers_or_an_error():
    for mesh in SHAPES:
        for quantity in (shape_operator, mean_curvature):
            assert torch.isfinite(quantity(mesh.pos, mesh.face)).all()
    flat = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]])
    face = torch.tensor([[0, 0], [1, 2], [2, 3]])
    assert torch.isfinite(shape_operator(flat, face)).all()
    assert float(face_areas(edge_lengths(flat, face))[0]) == 0
    with pytest.raises(ValueError, match="1 triangles have no area, the first is face 0"):
        mean_curvature(flat, face)
    with pytest.raises(ValueError, match="names a vertex twice|name a vertex twice"):
        gaussian_curvature(torch.tensor([[0], [0], [1]]), torch.ones(3), 2)

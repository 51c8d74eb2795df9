"""Lengths, angles, areas and mollification against formulas from coordinates."""

import math

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from geomeq.meshes import corner_angles, cotangents, edge_lengths, face_areas, load, mollify

from ._shapes import REAL, grid, real_path, sphere

TOLERANCE = [(torch.float32, 2e-6), (torch.float64, 1e-12)]


@pytest.mark.parametrize(("dtype", "tol"), TOLERANCE)
def test_random_triangles_agree_with_atan2_of_cross_and_dot(dtype, tol):
    pos = torch.randn(60, 3, dtype=dtype)
    face = torch.arange(60).view(3, 20)
    a, b, c = pos.double()[face]
    length = edge_lengths(pos, face).view(-1, 3)
    torch.testing.assert_close(length, torch.stack([(b - a).norm(dim=1), (c - b).norm(dim=1), (a - c).norm(dim=1)], 1))

    def angle(u, v):
        return torch.atan2(torch.linalg.cross(u, v).norm(dim=1), (u * v).sum(dim=1))

    expected = torch.stack([angle(b - a, c - a), angle(c - b, a - b), angle(a - c, b - c)], dim=1)
    torch.testing.assert_close(corner_angles(length.to(dtype).flatten()).view(-1, 3), expected, atol=50 * tol, rtol=0)
    area = torch.linalg.cross(b - a, c - a).norm(dim=1) / 2
    torch.testing.assert_close(face_areas(length.flatten()), area, atol=0, rtol=1e-10)
    opposite = torch.stack([expected[:, 2], expected[:, 0], expected[:, 1]], dim=1)
    torch.testing.assert_close(cotangents(length.flatten()).view(-1, 3), 1 / opposite.tan(), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", ["spot", "hand", "skull"])
def test_real_meshes_agree_with_trimesh(name):
    mesh = load(real_path(name), dtype=torch.float64)
    other = trimesh.Trimesh(mesh.pos.numpy(), mesh.face.t().numpy(), process=False)
    length = edge_lengths(mesh.pos, mesh.face)
    np.testing.assert_allclose(face_areas(length), other.area_faces, rtol=1e-6, atol=1e-12 * other.area)
    np.testing.assert_allclose(corner_angles(length).view(-1, 3), other.face_angles, atol=1e-6)


@pytest.mark.parametrize("name", REAL)
def test_angles_add_up_to_pi_in_every_triangle_of_the_set(name):
    mesh = load(real_path(name))
    angle = corner_angles(edge_lengths(mesh.pos, mesh.face)).view(-1, 3)
    assert float((angle.sum(dim=1) - math.pi).abs().max()) < 1e-14
    assert (angle >= 0).all()


def test_a_flat_cap_keeps_the_accuracy_that_arccos_loses():
    height = 1e-7  # a triangle of base 2 with its apex almost on the base; arccos sees nothing of it
    pos = torch.tensor([[-1.0, 0, 0], [1, 0, 0], [0, height, 0]], dtype=torch.float64)
    length = edge_lengths(pos, torch.tensor([[0], [1], [2]]))
    thin = torch.tensor([1e-8, 1.0, 1.0], dtype=torch.float64)  # a needle: relative accuracy at the tip
    tip = corner_angles(thin)[2]
    assert abs(float(tip) - 1e-8) < 1e-20
    a, b, c = thin.tolist()
    assert math.acos((b * b + c * c - a * a) / (2 * b * c)) == 0.0  # the formula of the schoolbook
    assert abs(float(corner_angles(length)[0]) - height) < 1e-8  # the lengths themselves carry no more


@pytest.mark.parametrize(
    ("length", "angles"),
    [
        ([1.0, 1.0, 2.0], [0, math.pi, 0]),
        ([1.0, 1.0, 5.0], [0, math.pi, 0]),
        ([0.0, 1.0, 1.0], [math.pi / 2, math.pi / 2, 0]),
        ([0.0, 0.0, 0.0], [math.pi / 3] * 3),
        ([0.0, 0.0, 1.0], [0, math.pi, 0]),
    ],
)
def test_degenerate_triangles_have_finite_angles_and_no_area(length, angles):
    length = torch.tensor(length)
    torch.testing.assert_close(corner_angles(length), torch.tensor(angles, dtype=torch.float64), atol=1e-15, rtol=0)
    assert face_areas(length).tolist() == [0.0]
    with pytest.raises(ValueError, match="1 triangles have no area, the first is face 0"):
        cotangents(length)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_any_three_lengths_give_angles_that_add_up_to_pi(length):
    angle = corner_angles(torch.tensor(length, dtype=torch.float64))
    assert torch.isfinite(angle).all()
    assert (angle >= 0).all()
    assert abs(float(angle.sum()) - math.pi) < 1e-13
    assert torch.isfinite(face_areas(torch.tensor(length, dtype=torch.float64))).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1e3), min_size=12, max_size=12), st.floats(0, 0.1))
def test_mollified_lengths_hold_every_triangle_inequality(length, relative):
    length = torch.tensor(length, dtype=torch.float64)
    longer, added = mollify(length, relative)
    assert added >= 0
    torch.testing.assert_close(longer, length + added)
    side = longer.view(-1, 3)
    slack = side.sum(dim=1, keepdim=True) - 2 * side
    bound = float(relative * length.mean())
    assert float(slack.min()) >= bound - 1e-9 * float(1 + length.max())
    if added > 0:  # the smallest amount: some triangle is at the bound
        assert float(slack.min()) <= bound + 1e-9 * float(1 + length.max())


def test_a_healthy_mesh_is_not_mollified():
    mesh = sphere(2)
    length = edge_lengths(mesh.pos, mesh.face)
    same, added = mollify(length)
    assert added == 0.0
    assert torch.equal(same, length)
    assert mollify(torch.empty(0))[1] == 0.0


def test_lengths_angles_and_areas_are_differentiable():
    mesh = grid(3, 3)
    pos = (mesh.pos + 0.1 * torch.randn(9, 3, dtype=torch.float64)).requires_grad_()
    for quantity in (corner_angles, face_areas, cotangents):
        assert torch.autograd.gradcheck(lambda p, q=quantity: q(edge_lengths(p, mesh.face)), (pos,))


def test_bad_input_is_named():
    mesh = grid()
    with pytest.raises(ValueError, match=r"pos must have shape \[N, 3\]"):
        edge_lengths(mesh.pos[:, :2], mesh.face)
    with pytest.raises(ValueError, match="row 3 holds"):
        edge_lengths(mesh.pos.index_fill(0, torch.tensor([3]), torch.nan), mesh.face)
    with pytest.raises(ValueError, match="use a larger unit"):
        edge_lengths(mesh.pos * 1e200, mesh.face)
    with pytest.raises(TypeError, match="float32 or float64"):
        edge_lengths(mesh.pos.long(), mesh.face)
    with pytest.raises(ValueError, match="three entries per face"):
        corner_angles(torch.ones(4))
    with pytest.raises(ValueError, match="must not be negative"):
        corner_angles(torch.tensor([1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match="must be finite"):
        face_areas(torch.tensor([1.0, torch.nan, 1.0]))
    with pytest.raises(TypeError, match="floating point"):
        face_areas(torch.tensor([1, 1, 1]))
    with pytest.raises(ValueError, match=r"relative must lie in \[0, 1\)"):
        mollify(torch.ones(3), relative=1.0)

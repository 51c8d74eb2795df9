"""Wigner blocks and edge frames: homomorphism, poles, derivatives."""

import pytest
import torch
from e3nn import o3

from geomeq.groups.wigner import wigner_blocks
from geomeq.harmonics import edge_frames, edge_wigner, spherical_harmonics
from geomeq.ops import EdgeLayout
from tests.harmonics.test_spherical import random_rotations

AXES = torch.tensor([[0, 0, 1], [0, 0, -1], [0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0]], dtype=torch.float64)
NOISE = torch.linspace(-1e-9, 1e-9, 18, dtype=torch.float64).view(6, 3)
POLES = torch.cat([AXES, AXES + NOISE, AXES - NOISE])


def test_blocks_multiply_like_rotations():
    a, b = random_rotations(4), random_rotations(4)
    for da, db, dab in zip(wigner_blocks(a, 6), wigner_blocks(b, 6), wigner_blocks(a @ b, 6), strict=True):
        torch.testing.assert_close(da @ db, dab, atol=1e-13, rtol=0)
        torch.testing.assert_close(
            da @ da.mT, torch.eye(da.size(1), dtype=torch.float64).expand_as(da), atol=1e-13, rtol=0
        )


def test_blocks_agree_with_e3nn_to_the_precision_of_its_angles():
    rotation = random_rotations(5)
    for degree, block in enumerate(wigner_blocks(rotation, 6)):
        torch.testing.assert_close(block, o3.Irrep(degree, 1).D_from_matrix(rotation), atol=2e-5, rtol=0)


@pytest.mark.parametrize("vec", [torch.randn(50, 3, dtype=torch.float64), POLES], ids=["random", "poles"])
def test_frames_are_rotations_that_send_the_edge_to_the_axis_y(vec):
    frame = edge_frames(vec)
    axis = torch.tensor([0.0, 1, 0], dtype=torch.float64) * vec.norm(dim=1, keepdim=True)
    torch.testing.assert_close((frame @ vec[..., None]).squeeze(-1), axis, atol=1e-14, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frame), torch.ones(len(vec), dtype=torch.float64))
    assert not torch.allclose(frame, frame.mT)  # the inverse would not do


def blocks_of(vec, lmax, mmax=None):
    return EdgeLayout(lmax, mmax).blocks(edge_wigner(vec, lmax, mmax))


def euler_blocks(vec, lmax):
    """What the peers do: angles of the direction, alpha and beta, and a product of turns."""
    alpha, beta = o3.xyz_to_angles(vec / vec.norm(dim=1, keepdim=True))
    return [o3.wigner_D(deg, -torch.zeros_like(alpha), -beta, -alpha) for deg in range(lmax + 1)]


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-6), (torch.float64, 1e-13)])
def test_in_the_frame_only_order_zero_of_the_harmonics_is_left(dtype, tol):
    vec = torch.cat([torch.randn(20, 3, dtype=torch.float64), POLES]).to(dtype)
    y = spherical_harmonics(vec, 5)
    for degree, block in enumerate(blocks_of(vec, 5)):
        turned = (block @ y[:, degree**2 : (degree + 1) ** 2, None]).squeeze(-1)
        want = torch.zeros_like(turned)
        want[:, degree] = (2 * degree + 1) ** 0.5
        torch.testing.assert_close(turned, want, atol=tol * 10, rtol=0)


@pytest.mark.parametrize(("lmax", "mmax"), [(0, 0), (1, 0), (2, 1), (3, 3), (6, 2), (6, 6), (10, 4)])
def test_rows_are_those_of_the_wigner_matrix_of_the_frame(lmax, mmax):
    vec = torch.cat([torch.randn(30, 3, dtype=torch.float64), POLES])
    whole = wigner_blocks(edge_frames(vec), lmax)
    for degree, block in enumerate(blocks_of(vec, lmax, mmax)):
        top = min(degree, mmax)
        torch.testing.assert_close(block, whole[degree][:, degree - top : degree + top + 1], atol=1e-13, rtol=0)


def test_the_first_rows_are_the_harmonics():
    vec = torch.randn(9, 3, dtype=torch.float64)
    root = torch.tensor([(2 * deg + 1) ** 0.5 for deg in range(4) for _ in range(2 * deg + 1)], dtype=torch.float64)
    torch.testing.assert_close(edge_wigner(vec, 3, 1)[:, :16] * root, spherical_harmonics(vec, 3), atol=1e-13, rtol=0)


def test_ten_thousand_random_frames():
    vec = torch.randn(10_000, 3, dtype=torch.float64)
    turned = (edge_frames(vec) @ (vec / vec.norm(dim=1, keepdim=True))[..., None]).squeeze(-1)
    assert (turned - torch.tensor([0.0, 1, 0], dtype=torch.float64)).abs().max() < 1e-14 * 2


def invariant(rows, vec, lmax):
    """Something that a turn about the edge does not change: squared length of each order of a fixed signal."""
    signal = torch.linspace(-1, 1, (lmax + 1) ** 2, dtype=vec.dtype)
    total = torch.zeros_like(vec[:, 0])
    for degree, block in enumerate(rows):
        h = block @ signal[degree**2 : (degree + 1) ** 2]
        for m in range(1, degree + 1):
            total = total + (m + degree) * (h[:, degree + m] ** 2 + h[:, degree - m] ** 2).square()
    return total


def test_first_and_second_derivatives_at_the_poles_are_finite_and_right():
    vec = POLES.clone().requires_grad_()
    (grad,) = torch.autograd.grad(invariant(blocks_of(vec, 4), vec, 4).sum(), vec, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), vec)
    assert grad.abs().max() < 1e3
    assert second.abs().max() < 1e6
    assert torch.isfinite(second).all()
    step = 1e-5
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        up, down = POLES + shift, POLES - shift
        slope = (invariant(blocks_of(up, 4), up, 4) - invariant(blocks_of(down, 4), down, 4)) / (2 * step)
        torch.testing.assert_close(grad[:, axis], slope, atol=1e-6, rtol=1e-6)


def test_angles_fail_there():
    vec = POLES[[2, 3, 8, 9]].clone().requires_grad_()
    (grad,) = torch.autograd.grad(invariant(euler_blocks(vec, 2), vec, 2).sum(), vec)
    (ours,) = torch.autograd.grad(invariant(blocks_of(vec, 2), vec, 2).sum(), vec)
    wrong = ~torch.isfinite(grad) | ((grad - ours).abs() > 1e-3)
    assert wrong.any(dim=1).all()
    away = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)  # elsewhere the same function
    torch.testing.assert_close(
        invariant(euler_blocks(away, 2), away, 2), invariant(blocks_of(away, 2), away, 2), atol=1e-6, rtol=1e-6
    )


def test_derivatives_of_frames_are_bounded_at_the_poles():
    vec = POLES.clone().requires_grad_()
    grads = [torch.autograd.grad(b.sum(), vec, retain_graph=True)[0] for b in blocks_of(vec, 3)[1:]]
    assert max(g.abs().max().item() for g in grads) < 20


def test_zero_vector_gets_a_rotation_not_nan():
    frame = edge_frames(torch.zeros(1, 3))
    assert torch.isfinite(frame).all()
    assert torch.isfinite(edge_wigner(torch.zeros(1, 3), 3, 1)).all()


@pytest.mark.parametrize(("lmax", "mmax"), [(-1, None), (2, 3), (2, -1)])
def test_degrees_that_do_not_exist_are_refused(lmax, mmax):
    with pytest.raises(ValueError, match="max must"):
        edge_wigner(torch.ones(1, 3), lmax, mmax)


def test_rows_compile_in_one_graph(compiled):
    vec = torch.randn(6, 3)
    torch.testing.assert_close(compiled(lambda v: edge_wigner(v, 3, 2))(vec), edge_wigner(vec, 3, 2))

"""Wigner blocks and edge frames: homomorphism, poles, derivatives."""

import pytest
import torch
from e3nn import o3

from geomeq.groups.wigner import wigner_blocks
from geomeq.harmonics import edge_frames, edge_wigner, spherical_harmonics
from tests.harmonics.test_spherical import random_rotations

POLES = torch.tensor([[0, 0, 1], [0, 0, -1], [0, 1, 0], [0, -1, 0], [1, 0, 0], [1e-9, 0, -1]], dtype=torch.float64)


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


def test_in_the_frame_only_order_zero_of_the_harmonics_is_left():
    vec = torch.cat([torch.randn(20, 3, dtype=torch.float64), POLES])
    y = spherical_harmonics(vec, 5)
    for degree, block in enumerate(edge_wigner(vec, 5)):
        turned = (block @ y[:, degree**2 : (degree + 1) ** 2, None]).squeeze(-1)
        want = torch.zeros_like(turned)
        want[:, degree] = (2 * degree + 1) ** 0.5
        torch.testing.assert_close(turned, want, atol=1e-13, rtol=0)


def test_derivatives_are_bounded_at_the_poles():
    vec = POLES.clone().requires_grad_()
    grads = [torch.autograd.grad(b.sum(), vec, retain_graph=True)[0] for b in edge_wigner(vec, 3)[1:]]
    assert max(g.abs().max().item() for g in grads) < 20


def test_zero_vector_gets_a_rotation_not_nan():
    frame = edge_frames(torch.zeros(1, 3))
    assert torch.isfinite(frame).all()


def test_blocks_compile_in_one_graph(compiled):
    vec = torch.randn(6, 3)
    torch.testing.assert_close(compiled(lambda v: edge_wigner(v, 3)[3])(vec), edge_wigner(vec, 3)[3])

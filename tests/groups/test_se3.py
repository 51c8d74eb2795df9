"""SE(3): screws near half turns, its samples, its random rotations."""

import math

import numpy as np
import pytest
import torch

from geomeq.groups import (
    SE3,
    SO3,
    cube_rotations,
    icosahedral_rotations,
    motion,
    rotation_from_vector,
    tetrahedral_rotations,
)
from tests.groups._oracles import algebra_matrix

AXIS = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64) / 3


@pytest.mark.parametrize("angle", [0.0, 1e-300, 1e-9, 1e-4, 0.0316, 0.0317, 1.0, 3.1, math.pi - 1e-6, math.pi - 1e-12])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_log_is_accurate_up_to_half_a_turn(angle, dtype, bound):
    v = torch.cat([torch.tensor([0.5, 2.0, -1.0], dtype=torch.float64), AXIS * angle]).to(dtype)
    a = SE3.exp(v)
    torch.testing.assert_close(SE3.exp(SE3.log(a)), a, atol=bound, rtol=0)
    if angle < 3.11 or dtype == torch.float64:  # at half a turn rounding picks the sign of the axis
        torch.testing.assert_close(SE3.log(a), v, atol=20 * bound, rtol=0)


def test_left_jacobian_is_the_integral_of_the_rotation():
    v = torch.tensor([0.5, 2.0, -1.0, 0.3, -1.1, 0.7], dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    t = torch.from_numpy((nodes + 1) / 2)
    path = rotation_from_vector(t[:, None] * v[3:]) @ v[:3]
    shift = (torch.from_numpy(weights / 2)[:, None] * path).sum(dim=0)
    torch.testing.assert_close(SE3.exp(v)[:3, 3], shift, atol=1e-14, rtol=0)


def test_adjoint_is_the_derivative_of_conjugation():
    a, v = SE3.random(seed=0), torch.randn(6, dtype=torch.float64)
    turned = algebra_matrix(SE3(), SE3.adjoint(a) @ v)
    wanted = a.numpy() @ algebra_matrix(SE3(), v) @ np.linalg.inv(a.numpy())
    np.testing.assert_allclose(turned, wanted, atol=1e-13)


@pytest.mark.parametrize("count", [1, 12, 24, 60])
def test_sample_crosses_places_with_a_rotation_group(count):
    sample = SE3().sample((3, 2, 2, count))
    assert sample.num_orientations == count
    assert sample.num_spatial == 12
    assert float(sample.weight.sum()) == pytest.approx(12 / 27)
    rotations = sample.element[::12, :3, :3]
    products = (rotations[:, None] @ rotations[None]).flatten(0, 1)
    gap = (products[:, None] - rotations).abs().amax(dim=(-1, -2)).amin(dim=1)
    assert float(gap.max()) < 1e-14  # closed under products: a group
    torch.testing.assert_close(rotations[0], torch.eye(3, dtype=torch.float64), atol=0, rtol=0)


def test_the_tetrahedral_rotations_lie_in_both_other_groups():
    small = tetrahedral_rotations()
    for large in (cube_rotations(), icosahedral_rotations()):
        gap = (small[:, None] - large).abs().amax(dim=(-1, -2)).amin(dim=1)
        assert float(gap.max()) == 0


@pytest.mark.parametrize("size", [(2, 2, 2, 8), (2, 2, 2), (2, 2, 2, 0)])
def test_other_numbers_of_rotations_are_refused(size):
    with pytest.raises(ValueError, match="is sampled"):
        SE3().sample(size)


def rotations_look_uniform(rotation):
    """Wigner matrices of degree 1 and 2 average to zero: entries, and products of entries, within five errors."""
    count = len(rotation)
    first = rotation.mean(dim=0).abs().max()
    second = torch.einsum("nij,nkl->ijkl", rotation, rotation) / count
    eye = torch.eye(3, dtype=rotation.dtype)
    wanted = torch.einsum("ik,jl->ijkl", eye, eye) / 3
    return bool(first < 5 / count**0.5) and bool((second - wanted).abs().max() < 5 / count**0.5)


def test_random_rotations_are_haar_and_the_check_has_teeth():
    assert rotations_look_uniform(SE3.random(20000, seed=0)[:, :3, :3])
    moved = SE3.compose(SE3.random(seed=5), SE3.random(20000, seed=0))
    assert rotations_look_uniform(moved[:, :3, :3])
    angles = torch.rand(20000, 3, dtype=torch.float64) * torch.tensor([2 * math.pi, math.pi, 2 * math.pi])
    turns = [torch.nn.functional.pad(angles[:, i, None], pad) for i, pad in enumerate([(2, 0), (1, 1), (2, 0)])]
    euler = SO3.exp(turns[0]) @ SO3.exp(turns[1]) @ SO3.exp(turns[2])
    assert not rotations_look_uniform(euler)  # uniform Euler angles are not uniform rotations


def test_motion_broadcasts_and_refuses_bad_shapes():
    assert motion(SO3.random(4, 1, seed=0), torch.zeros(5, 3, dtype=torch.float64)).shape == (4, 5, 4, 4)
    with pytest.raises(ValueError, match="shift must have shape"):
        motion(SO3.identity(), torch.zeros(2))

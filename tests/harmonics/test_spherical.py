"""Spherical harmonics: values, equivariance, and what happens at the origin."""

import math

import pytest
import torch
from scipy.special import sph_harm_y

from geomeq.groups.wigner import wigner_blocks
from geomeq.harmonics import direction, spherical_harmonics


def random_rotations(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(count, 3, 3, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None]
    return (q * torch.linalg.det(q)[:, None, None]).to(dtype)


@pytest.mark.parametrize(
    ("normalization", "square"),
    [("component", lambda n: n), ("integral", lambda n: n / (4 * math.pi)), ("norm", lambda n: 1.0)],
)
def test_each_degree_has_the_documented_norm(normalization, square):
    y = spherical_harmonics(torch.randn(20, 3, dtype=torch.float64), 4, normalization)
    for degree in range(5):
        part = y[:, degree**2 : (degree + 1) ** 2]
        torch.testing.assert_close(part.square().sum(1), torch.full((20,), float(square(2 * degree + 1))).double())


def test_agrees_with_scipy_up_to_its_complex_phase():
    # e3nn's polar axis is y and its azimuth runs from z to x.
    vec = torch.randn(30, 3, dtype=torch.float64)
    x, y, z = (vec / vec.norm(dim=1, keepdim=True)).numpy().T
    import numpy as np

    theta, phi = np.arccos(y), np.arctan2(x, z)
    ours = spherical_harmonics(vec, 3, "integral").numpy()
    for degree in range(4):
        for m in range(degree + 1):
            complex_value = sph_harm_y(degree, m, theta, phi)
            plus, minus = ours[:, degree**2 + degree + m], ours[:, degree**2 + degree - m]
            if m == 0:
                np.testing.assert_allclose(plus, complex_value.real, atol=1e-13)
            else:
                want = math.sqrt(2) * (-1) ** m * complex_value
                np.testing.assert_allclose(plus, want.real, atol=1e-13)
                np.testing.assert_allclose(minus, want.imag, atol=1e-13)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-13)])
def test_turns_with_the_wigner_matrix(dtype, tol):
    vec, rotation = torch.randn(10, 3, dtype=dtype), random_rotations(1, dtype)
    before, after = spherical_harmonics(vec, 5), spherical_harmonics(vec @ rotation[0].T, 5)
    for degree, block in enumerate(wigner_blocks(rotation, 5)):
        part = slice(degree**2, (degree + 1) ** 2)
        torch.testing.assert_close(before[:, part] @ block[0].T, after[:, part], atol=tol, rtol=0)
    assert not torch.allclose(before, after, atol=1e-2)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e-6, 1e200])
def test_direction_does_not_underflow_or_overflow(size):
    vec = torch.tensor([[0.3, -0.4, 1.2]], dtype=torch.float64)
    torch.testing.assert_close(direction(vec * size), vec / vec.norm(), atol=1e-14, rtol=0)


def test_zero_vector_has_only_degree_zero_and_a_finite_gradient():
    vec = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    y = spherical_harmonics(vec, 3)
    assert y.tolist() == [[1.0] + [0.0] * 15]
    (grad,) = torch.autograd.grad(y.sum(), vec, create_graph=True)
    assert torch.isfinite(grad).all()


def test_gradients_to_second_order():
    vec = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda v: spherical_harmonics(v, 3), vec)
    torch.autograd.gradgradcheck(lambda v: spherical_harmonics(v, 3), vec)


@pytest.mark.parametrize(
    ("vec", "lmax", "kwargs", "message"),
    [
        (torch.zeros(4, 2), 1, {}, r"must have shape \[..., 3\]"),
        (torch.zeros(4, 3), -1, {}, "lmax must be at least 0"),
        (torch.zeros(4, 3), 1, {"normalization": "mean"}, "normalization must be one of"),
    ],
)
def test_bad_input(vec, lmax, kwargs, message):
    with pytest.raises(ValueError, match=message):
        spherical_harmonics(vec, lmax, **kwargs)

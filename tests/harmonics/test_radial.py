"""Radial bases and the envelope."""

import math

import pytest
import torch

from geomeq.harmonics import bessel_basis, gaussian_basis, polynomial_envelope


@pytest.mark.parametrize("p", [2, 6])
def test_envelope_is_one_at_zero_and_flat_at_the_cutoff(p):
    ends = torch.tensor([0.0, 5.0, 7.0], dtype=torch.float64)
    torch.testing.assert_close(polynomial_envelope(ends, 5.0, p), torch.tensor([1.0, 0, 0], dtype=torch.float64))
    r = torch.tensor(5.0 - 1e-4, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(polynomial_envelope(r, 5.0, p), r, create_graph=True)
    (second,) = torch.autograd.grad(first, r)
    assert abs(first) < 1e-6
    assert abs(second) < 1e-2
    assert polynomial_envelope(torch.tensor(4.0), 5.0, p) > 0.01  # not flat everywhere


def test_bessel_functions_are_orthonormal_on_the_ball():
    r = torch.linspace(0, 3, 20001, dtype=torch.float64)
    b = bessel_basis(r, 3.0, 5)
    gram = torch.trapezoid(b[:, :, None] * b[:, None, :] * r[:, None, None] ** 2, r, dim=0)
    torch.testing.assert_close(gram, torch.eye(5, dtype=torch.float64), atol=1e-6, rtol=0)


def test_bessel_at_zero_is_the_limit_with_finite_gradients():
    r = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    b = bessel_basis(r, 2.0, 3)
    torch.testing.assert_close(b[0], torch.arange(1, 4, dtype=torch.float64) * math.pi / 2)
    (grad,) = torch.autograd.grad(b.sum(), r, create_graph=True)
    (grad2,) = torch.autograd.grad(grad.sum(), r)
    assert torch.isfinite(grad).all()
    assert torch.isfinite(grad2).all()


def test_gaussians_peak_at_their_centres():
    centres = torch.linspace(0, 4, 5, dtype=torch.float64)
    g = gaussian_basis(centres, 4.0, 5)
    torch.testing.assert_close(g.diagonal(), torch.ones(5, dtype=torch.float64))
    assert (g - torch.eye(5)).max() < math.exp(-0.5) + 1e-12


@pytest.mark.parametrize(
    "call", [lambda: bessel_basis(torch.ones(1), 0.0), lambda: gaussian_basis(torch.ones(1), 1, 1)]
)
def test_bad_input(call):
    with pytest.raises(ValueError, match="must be"):
        call()

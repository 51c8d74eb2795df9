"""Norms of spherical channels: symmetry, size, agreement with the norm on irreps."""

import pytest
import torch

from geomeq.nn import SphericalNorm, SteerableLayerNorm
from tests.harmonics.test_spherical import random_rotations
from tests.nn._spherical import turned

KINDS = ["rms", "layer", "degree"]


def norm(kind: str, channels: int = 8, lmax: int = 3, dtype: torch.dtype = torch.float64) -> SphericalNorm:
    layer = SphericalNorm(channels, lmax, kind).to(dtype)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mirrored", [False, True], ids=["rotation", "reflection"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_equivariance(kind, mirrored, dtype, tol):
    layer, x, rotation = norm(kind, dtype=dtype), torch.randn(5, 16, 8, dtype=dtype), random_rotations(1)
    before = turned(layer(x), rotation, mirrored)
    torch.testing.assert_close(layer(turned(x, rotation, mirrored)), before, atol=tol, rtol=tol)
    assert not torch.allclose(layer(x), before, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_results_have_unit_size(kind, scale):
    x = scale * torch.randn(300, 9, 32, dtype=torch.float64)
    y = SphericalNorm(32, 2, kind, eps=1e-12).double()(x)
    torch.testing.assert_close(y.square().mean((0, 2)), torch.ones(9).double(), atol=0.1, rtol=0)


def test_each_degree_alone_is_the_norm_on_irreps():
    x = 3 * torch.randn(7, 16, 4, dtype=torch.float64) + 1
    ours = SphericalNorm(4, 3, "degree").double()(x)
    flat = torch.cat([x[:, k * k : (k + 1) ** 2].transpose(1, 2).flatten(1) for k in range(4)], dim=1)
    theirs = SteerableLayerNorm("4x0e+4x1o+4x2e+4x3o").double()(flat)
    expected = torch.cat([ours[:, k * k : (k + 1) ** 2].transpose(1, 2).flatten(1) for k in range(4)], dim=1)
    torch.testing.assert_close(theirs, expected, atol=1e-12, rtol=0)


def test_only_the_rms_norm_leaves_degrees_that_are_zero_by_symmetry_at_rounding():
    x = torch.randn(3, 9, 8)
    x[:, 1:] = 1e-7 * torch.randn(3, 8, 8)  # what rounding leaves of an atom in a perfect crystal
    largest = {kind: SphericalNorm(8, 2, kind)(x)[:, 1:].abs().max().item() for kind in KINDS}
    assert largest["rms"] < 1e-6
    assert min(largest["layer"], largest["degree"]) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_scalars_alone_no_nodes_and_no_weights(kind):
    assert SphericalNorm(4, 0, kind)(torch.randn(3, 1, 4)).shape == (3, 1, 4)
    assert SphericalNorm(4, 2, kind)(torch.zeros(0, 9, 4)).shape == (0, 9, 4)
    assert not list(SphericalNorm(4, 2, kind, affine=False).parameters())
    zero = torch.zeros(2, 9, 4, requires_grad=True)  # an isolated atom
    SphericalNorm(4, 2, kind)(zero).sum().backward()
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives(kind):
    layer = norm(kind, channels=2, lmax=1)
    x = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_as_one_graph(kind):
    layer, x = SphericalNorm(4, 2, kind), torch.randn(5, 9, 4)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


def test_bad_input():
    with pytest.raises(ValueError, match="kind must be one of"):
        SphericalNorm(4, 2, "batch")
    with pytest.raises(ValueError, match="lmax must not be negative"):
        SphericalNorm(4, -1)
    with pytest.raises(ValueError, match="built for lmax=2"):
        SphericalNorm(4, 2)(torch.zeros(3, 4, 4))

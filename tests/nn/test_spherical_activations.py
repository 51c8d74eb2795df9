"""Activations of spherical channels, at nodes and in the frame of an edge."""

import math

import pytest
import torch

from geomeq.nn import S2Activation, SphericalActivation, SphericalGate
from tests.harmonics.test_spherical import random_rotations
from tests.nn._spherical import parity, rolled, turned

KINDS = ["gate", "s2", "separable_s2"]


def activation(kind: str, lmax: int, mmax: int | None = None, fine: int = 1) -> SphericalActivation:
    nlat = 2 * (lmax + 1) * fine
    return SphericalActivation(4, lmax, mmax, kind, nlat=nlat, nlon=2 * nlat + 1)


def inputs(layer: SphericalActivation, rows: int, dtype: torch.dtype, nodes: int = 6) -> tuple:
    scalars = torch.randn(nodes, layer.num_scalars, dtype=dtype) if layer.num_scalars else None
    return torch.randn(nodes, rows, 4, dtype=dtype), scalars


@pytest.mark.parametrize("lmax", [0, 1, 2, 4])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_gate_is_exact_under_rotations(lmax, dtype, tol):
    layer = activation("gate", lmax)
    (x, scalars), rotation = inputs(layer, (lmax + 1) ** 2, dtype), random_rotations(1)
    scalars = torch.zeros(6, 0, dtype=dtype) if scalars is None else scalars
    after, before = layer(turned(x, rotation), scalars), turned(layer(x, scalars), rotation)
    torch.testing.assert_close(after, before, atol=tol, rtol=tol)
    torch.testing.assert_close(layer(parity(x), scalars), parity(layer(x, scalars)), atol=tol, rtol=tol)
    if lmax:
        assert not torch.allclose(layer(turned(x, rotation), scalars), layer(x, scalars), atol=1e-2)


@pytest.mark.parametrize("kind", ["s2", "separable_s2"])
def test_a_function_on_the_grid_is_as_exact_as_the_grid(kind):
    errors = []
    for fine in (1, 3):
        layer = activation(kind, 2, fine=fine)
        (x, scalars), rotation = inputs(layer, 9, torch.float64, nodes=40), random_rotations(1)
        after, before = layer(turned(x, rotation), scalars), turned(layer(x, scalars), rotation)
        errors.append(((after - before).norm() / before.norm()).item())
    assert 1e-5 < errors[0] < 5e-3
    assert errors[1] < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mmax", [0, 1, 2])
def test_turns_about_the_axis_of_an_edge(kind, mmax):
    layer = activation(kind, 3, mmax, fine=3)
    rows = 4 + sum(2 * (4 - m) for m in range(1, mmax + 1))
    x, scalars = inputs(layer, rows, torch.float64)
    after, before = layer(rolled(x, 0.7, 3, mmax), scalars), rolled(layer(x, scalars), 0.7, 3, mmax)
    torch.testing.assert_close(after, before, atol=1e-12 if kind == "gate" else 1e-5, rtol=0)
    if mmax:
        assert not torch.allclose(layer(x, scalars), after, atol=1e-2)


def test_turns_by_the_grid_of_an_edge_are_exact_on_the_coarsest_grid():
    layer = S2Activation(2, 2, nlat=3, nlon=5)
    x = torch.randn(4, 9, 3, dtype=torch.float64)
    step = 2 * math.pi / 5
    torch.testing.assert_close(layer(rolled(x, step, 2, 2)), rolled(layer(x), step, 2, 2), atol=1e-6, rtol=0)
    assert (layer(rolled(x, step / 2, 2, 2)) - rolled(layer(x), step / 2, 2, 2)).abs().max() > 1e-2


@pytest.mark.parametrize("mmax", [None, 1])
def test_variance_stays(mmax):
    torch.manual_seed(0)
    rows = 16 if mmax is None else 10
    x, gates = torch.randn(4000, rows, 8), torch.randn(4000, 24)
    torch.testing.assert_close(
        SphericalGate(3, mmax)(x, gates).square().mean((0, 2)), torch.ones(rows), atol=0.1, rtol=0
    )
    # on the sphere what is lost lies in degrees above lmax
    assert 0.7 < S2Activation(3, mmax)(x).square().mean() < 1.0


def test_the_separable_path_sees_only_its_scalars():
    layer = S2Activation(2, separable=True)
    x, scalars = torch.randn(4, 9, 3), torch.randn(4, 3)
    out = layer(x, scalars)
    torch.testing.assert_close(layer(2 * x, scalars)[:, 0], out[:, 0])
    assert not torch.allclose(layer(x, -scalars)[:, 0], out[:, 0])
    torch.testing.assert_close(out[:, 1:], S2Activation(2)(x)[:, 1:])


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_and_no_nodes(kind):
    layer = activation(kind, 1)
    x, scalars = inputs(layer, 4, torch.float64, nodes=1)
    points = [t.requires_grad_() for t in (x, scalars) if t is not None]
    assert torch.autograd.gradgradcheck(lambda x, s=None: layer(x, s), points)
    empty = None if scalars is None else scalars[:0]
    assert layer(x[:0], empty).shape == (0, 4, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_as_one_graph(kind):
    layer = activation(kind, 2, 1)
    x, scalars = inputs(layer, 7, torch.float32)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x, scalars), layer(x, scalars))


def test_bad_input():
    with pytest.raises(ValueError, match="activation must be one of"):
        SphericalActivation(4, 2, kind="relu")
    with pytest.raises(ValueError, match="one gate per degree"):
        SphericalGate(2)(torch.zeros(3, 9, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="only if separable"):
        S2Activation(2)(torch.zeros(3, 9, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="only if separable"):
        S2Activation(2, separable=True)(torch.zeros(3, 9, 4))

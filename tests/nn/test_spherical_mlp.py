"""Networks on the channels of each node."""

import pytest
import torch

from geomeq.nn import GatedMLP, GridMLP, SphericalLinear
from tests.harmonics.test_spherical import random_rotations
from tests.nn._spherical import parity, turned

BUILD = {
    "linear": lambda: SphericalLinear(4, 6, 2),
    "gate": lambda: GatedMLP(4, 8, 2, out_channels=6),
    "invariants": lambda: GatedMLP(4, 8, 2, out_channels=6, invariants=True),
    "grid": lambda: GridMLP((4, 8, 8, 6), 2, nlat=20),
    "separable": lambda: GridMLP((4, 8, 6), 2, separable=True, nlat=20),
}


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-5)])
def test_equivariance_under_rotations_and_reflections(name, dtype, tol):
    torch.manual_seed(1)
    layer, x = BUILD[name]().to(dtype), torch.randn(5, 9, 4, dtype=dtype)
    rotation = random_rotations(1)
    tol = 1e-12 if dtype == torch.float64 and name in ("linear", "gate", "invariants") else tol
    torch.testing.assert_close(layer(turned(x, rotation)), turned(layer(x), rotation), atol=tol, rtol=tol)
    torch.testing.assert_close(layer(parity(x)), parity(layer(x)), atol=tol, rtol=tol)
    assert not torch.allclose(layer(turned(x, rotation)), layer(x), atol=1e-2)


def test_the_linear_map_has_one_matrix_per_degree():
    layer, x = SphericalLinear(3, 5, 2).double(), torch.randn(4, 9, 3, dtype=torch.float64)
    torch.nn.init.normal_(layer.bias)
    for degree in range(3):
        rows = slice(degree**2, (degree + 1) ** 2)
        expected = x[:, rows] @ layer.weight[degree] + (layer.bias if degree == 0 else 0)
        torch.testing.assert_close(layer(x)[:, rows], expected)


def test_the_grid_network_is_a_network_at_every_point():
    layer = GridMLP((3, 5, 5, 2), 2, nlat=6).double()
    x = torch.randn(4, 9, 3, dtype=torch.float64)
    from geomeq.nn._gate import SILU_FACTOR

    samples = layer.grid.to_grid(x)
    for k, linear in enumerate(layer.layers):
        samples = samples @ linear.weight.T
        samples = torch.nn.functional.silu(samples) * SILU_FACTOR if k < 2 else samples
    torch.testing.assert_close(layer(x), layer.grid.from_grid(samples), atol=1e-12, rtol=0)


def test_slices_change_nothing_and_hold_less():
    whole, sliced = GridMLP((4, 8, 8, 4), 2), GridMLP((4, 8, 8, 4), 2, chunk=3)
    sliced.load_state_dict(whole.state_dict())
    x = torch.randn(10, 9, 4, requires_grad=True)
    largest, results = {}, {}
    for name, layer in (("whole", whole), ("sliced", sliced)):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            out = layer(x)
        largest[name] = max(sizes)
        (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum(), x)
        results[name] = (out, grad, second)
    for a, b in zip(*results.values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)
    assert largest["whole"] >= 10 * 6 * 13 * 8
    assert largest["sliced"] <= 10 * 9 * 8  # no samples among what is kept for the backward pass


@pytest.mark.parametrize("name", BUILD)
def test_variance_stays_at_initialisation(name):
    torch.manual_seed(0)
    wide = {
        "linear": lambda: SphericalLinear(32, 64, 2),
        "gate": lambda: GatedMLP(32, 64, 2),
        "invariants": lambda: GatedMLP(32, 64, 2, invariants=True),
        "grid": lambda: GridMLP((32, 64, 64, 32), 2),
        "separable": lambda: GridMLP((32, 64, 32), 2, separable=True),
    }
    out = wide[name]()(torch.randn(200, 9, 32))
    assert 0.5 < out.square().mean().item() < 1.5


@pytest.mark.parametrize("name", BUILD)
def test_second_derivatives_no_nodes_and_a_new_draw(name):
    small = {
        "linear": lambda: SphericalLinear(1, 2, 1),
        "gate": lambda: GatedMLP(1, 2, 1),
        "invariants": lambda: GatedMLP(1, 2, 1, invariants=True),
    }
    layer = small.get(name, lambda: GridMLP((1, 2, 1), 1, separable=name == "separable", nlat=2, nlon=3))()
    layer = layer.double()
    x = torch.randn(1, 4, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layer, x)
    assert layer(x[:0]).size(0) == 0
    before = layer(x)
    layer.reset_parameters()
    assert not torch.allclose(layer(x), before)


def test_only_mean_squares_tell_degree_zero_about_higher_degrees():
    x = torch.randn(3, 9, 4)
    other = torch.cat([x[:, :1], torch.randn(3, 8, 4)], dim=1)
    blind, seeing = GatedMLP(4, 8, 2), GatedMLP(4, 8, 2, invariants=True)
    torch.testing.assert_close(blind(x)[:, 0], blind(other)[:, 0])
    assert not torch.allclose(seeing(x)[:, 0], seeing(other)[:, 0], atol=1e-2)


def test_degree_zero_only():
    assert GatedMLP(4, 8, 0)(torch.randn(3, 1, 4)).shape == (3, 1, 4)
    assert GridMLP((4, 8, 4), 0)(torch.randn(3, 1, 4)).shape == (3, 1, 4)


@pytest.mark.parametrize("name", BUILD)
def test_compiles_as_one_graph(name):
    layer, x = BUILD[name](), torch.randn(5, 9, 4)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


def test_bad_input():
    with pytest.raises(ValueError, match="at least"):
        GridMLP((4, 4), 2)
    with pytest.raises(ValueError, match="chunk must be"):
        GridMLP((4, 4, 4), 2, chunk=0)
    with pytest.raises(ValueError, match="built for lmax=2"):
        GridMLP((4, 4, 4), 2)(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="built for lmax=2"):
        SphericalLinear(4, 4, 2)(torch.zeros(3, 9, 5))

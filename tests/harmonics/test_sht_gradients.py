"""Harmonic transforms: adjointness, derivatives, function transforms, compilation, tables on the fly."""

import pytest
import torch

from geomeq import spheres
from geomeq.harmonics import SHT, InverseSHT, _dense_transform, _ring_transform

LMAX = 4
SAMPLINGS = {
    "grid": lambda: spheres.gauss_legendre(5, 9),
    "grid with poles": lambda: spheres.equiangular(9),
    "rings": lambda: spheres.healpix(2),
    "points": lambda: spheres.icosphere(1),
}


def make(name, spin, direction, **options):
    s = SAMPLINGS[name]()
    layer = InverseSHT(s, LMAX, spin) if direction == "back" else SHT(s, LMAX, spin, **options)
    count = 25 if direction == "back" else s.num_nodes
    return layer, torch.randn(count, *((2,) if spin else ()), dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("spin", [0, 1])
def test_synthesis_and_analysis_are_adjoint_by_the_weights(name, spin):
    s = SAMPLINGS[name]()
    tail = (2,) if spin else ()
    x, c = torch.randn(s.num_nodes, *tail, dtype=torch.float64), torch.randn(25, *tail, dtype=torch.float64)
    there, back = SHT(s, LMAX, spin, method="quadrature"), InverseSHT(s, LMAX, spin)
    area = s.area.view(-1, *(1,) * len(tail))
    torch.testing.assert_close((there(x) * c).sum(), (area * x * back(c)).sum(), atol=1e-12, rtol=0)
    if name == "grid":
        assert abs((there(x) * c).sum() - (x * back(c)).sum()) > 0.1


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("spin", [0, 1])
@pytest.mark.parametrize("direction", ["there", "back"])
def test_derivatives_of_both_orders(name, spin, direction):
    layer, x = make(name, spin, direction)
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).square(), x, atol=1e-4, fast_mode=True)


def test_derivative_of_conjugate_gradients():
    """With a spin: a gradient may name coefficients that no field has."""
    layer = SHT(spheres.healpix(1), 2, spin=1, method="cg", iterations=8)
    x = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x).square(), x, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize(
    ("name", "options"),
    [("grid", {}), ("rings", {"iterations": 1}), ("points", {}), ("grid", {"method": "cg", "iterations": 4})],
    ids=["grid", "rings", "points", "cg"],
)
def test_function_transforms(name, options):
    layer, x = make(name, 0, "there", **options)
    x, tangent = x.detach(), torch.randn(len(x), dtype=torch.float64)
    close = {"atol": 1e-12, "rtol": 0}
    torch.testing.assert_close(
        torch.func.vmap(layer)(torch.stack([x, tangent])), torch.stack([layer(x), layer(tangent)]), **close
    )
    torch.testing.assert_close(torch.func.jvp(layer, (x,), (tangent,))[1], layer(tangent), **close)
    wanted = torch.autograd.functional.jacobian(layer, x)
    torch.testing.assert_close(torch.func.jacrev(layer)(x), wanted, **close)
    torch.testing.assert_close(torch.func.jacfwd(layer)(x), wanted, **close)


@pytest.mark.parametrize(
    ("name", "spin"),
    [("grid", 0)]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in (("grid with poles", 1), ("rings", 1), ("points", 1))],
)
def test_compiles_in_one_graph(name, spin, compiled):
    s = SAMPLINGS[name]()
    there, back = SHT(s, LMAX, spin), InverseSHT(s, LMAX, spin)
    x = torch.randn(2, s.num_nodes, 2, *((2,) if spin else ()), dtype=torch.float64, requires_grad=True)

    def function(x):
        return back(there(x) * 2)

    y, z = compiled(function, backend="aot_eager")(x), function(x)
    torch.testing.assert_close(y, z, atol=1e-12, rtol=0)
    grad = torch.randn_like(y)
    got, wanted = torch.autograd.grad(y, x, grad), torch.autograd.grad(z, x, grad)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


@pytest.mark.slow
def test_compiles_with_inductor(compiled):
    s = spheres.gauss_legendre(5, 9)
    there = SHT(s, LMAX)
    x = torch.randn(2, 45, 2)
    torch.testing.assert_close(compiled(there)(x), there(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["grid", "rings", "points"])
@pytest.mark.parametrize("spin", [0, 1])
def test_tables_too_large_to_keep_are_made_on_the_way(name, spin, monkeypatch):
    options = {"method": "cg", "iterations": 10}
    layer, x = make(name, spin, "there", **options)
    wanted = layer(x)
    (grad,) = torch.autograd.grad(wanted.square().sum(), x)
    monkeypatch.setattr(_ring_transform, "_TABLE_BYTES", 0)
    monkeypatch.setattr(_dense_transform, "_LARGEST_TABLE", 0)
    monkeypatch.setattr(_dense_transform, "_CHUNK", 200)
    layer.transform.kept.clear()
    got = layer(x)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(got.square().sum(), x)[0], grad, atol=1e-11, rtol=0)
    kept = sum(t.numel() for tensors in layer.transform.kept.values() for t in tensors)
    assert kept < 1200  # indices and weights only
    layer.transform.kept.clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SAMPLINGS)
def test_runs_on_a_gpu(name):
    layer, x = make(name, 1, "there")
    torch.testing.assert_close(layer(x.detach().cuda()).cpu(), layer(x.detach()), atol=1e-10, rtol=0)

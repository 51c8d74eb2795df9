"""SteerableLinear: equal to e3nn's product, to an ordinary linear map, and its statistics."""

import pytest
import torch
from e3nn import o3

from geomeq.nn import SteerableLinear
from geomeq.testing._elements import irrep_matrix
from tests.harmonics.test_spherical import random_rotations

TYPES = [
    ("8x0e+8x1o", "1x0e+1x1o", "4x0e+4x1o"),
    ("3x0e+4x1o+3x2e+2x0e", "1x0e+1x1o+2x2e", "5x0e+4x1o+3x2e+2x1o"),
    ("3x0e+4x1o+2x1e+1x0o", "1x0e+1x1o", "5x0e+4x1o+3x1e+2x0o+1x2e"),
]


def representation(irreps: o3.Irreps, rotation: torch.Tensor, mirrored: bool) -> torch.Tensor:
    element = -rotation if mirrored else rotation
    return torch.block_diag(*[irrep_matrix(ir.l, ir.p, element) for mul, ir in irreps for _ in range(mul)])


def e3nn_product(layer: SteerableLinear) -> tuple[o3.FullyConnectedTensorProduct, torch.Tensor]:
    """e3nn's product and the factor it divides each weight by."""
    torch.set_default_dtype(torch.float64)  # e3nn rounds its constants to the default type when it is built
    try:
        product = o3.FullyConnectedTensorProduct(layer.irreps_in, layer.irreps_attr, layer.irreps_out)
    finally:
        torch.set_default_dtype(torch.float32)
    factors = []
    for p in layer.paths.paths:
        size = layer.irreps_in[p.source].mul * layer.irreps_attr[p.attr].mul * layer.irreps_out[p.target].mul
        factors.append(torch.full((size,), layer.paths.fan_in[p.target] ** 0.5, dtype=torch.float64))
    return product, torch.cat(factors)


@pytest.mark.parametrize("types", TYPES, ids=["L1", "multiplicities", "all-parities"])
def test_equals_e3nns_product_with_weights_scaled_by_fan_in(types):
    layer = SteerableLinear(*types, bias=False).double()
    product, factor = e3nn_product(layer)
    x = torch.randn(7, layer.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    attr = torch.randn(7, layer.irreps_attr.dim, dtype=torch.float64, requires_grad=True)
    ours, theirs = layer(x, attr), product.double()(x, attr, layer.weight * factor)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    cotangent = torch.randn_like(ours)
    ours = torch.autograd.grad((ours * cotangent).sum(), [x, attr, layer.weight])
    theirs = torch.autograd.grad((theirs * cotangent).sum(), [x, attr, layer.weight])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    assert not torch.allclose(layer(x, attr), product(x, attr, layer.weight))  # the factor matters


@pytest.mark.parametrize("mirrored", [False, True], ids=["rotation", "reflection"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_equivariance(mirrored, dtype, tol):
    layer = SteerableLinear(*TYPES[1]).to(dtype)
    rotation = random_rotations(1)[0]
    d_in, d_attr, d_out = (
        representation(i, rotation, mirrored).to(dtype) for i in (layer.irreps_in, layer.irreps_attr, layer.irreps_out)
    )
    x, attr = torch.randn(5, layer.irreps_in.dim, dtype=dtype), torch.randn(5, layer.irreps_attr.dim, dtype=dtype)
    torch.testing.assert_close(layer(x @ d_in.T, attr @ d_attr.T), layer(x, attr) @ d_out.T, atol=tol, rtol=tol)
    assert not torch.allclose(layer(x @ d_in.T, attr), layer(x, attr) @ d_out.T, atol=1e-2)


def test_with_the_constant_attribute_it_is_an_ordinary_linear_map():
    layer = SteerableLinear("5x0e+4x1o+3x2e", "1x0e", "2x0e+3x1o+2x2e").double()
    x = torch.randn(6, layer.irreps_in.dim, dtype=torch.float64)
    linear = o3.Linear(layer.irreps_in, layer.irreps_out, biases=[True, False, False]).double()
    factor = torch.cat([torch.full((i * o,), i**0.5, dtype=torch.float64) for i, o in ((5, 2), (4, 3), (3, 2))])
    theirs = linear(x, weight=layer.weight * factor, bias=layer.bias)
    torch.testing.assert_close(layer(x, torch.ones(6, 1, dtype=torch.float64)), theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("lmax", [1, 2])
def test_outputs_have_the_spread_of_nn_linear_at_the_start(lmax):
    hidden = o3.Irreps([(32, ir) for _, ir in o3.Irreps.spherical_harmonics(lmax)])
    attr = o3.spherical_harmonics(range(lmax + 1), torch.randn(500, 3), True, "component")
    layer_std = (
        torch.stack(
            [
                torch.stack([y[:, s].std() for s in hidden.slices()])
                for y in (
                    SteerableLinear(hidden, o3.Irreps.spherical_harmonics(lmax), hidden, bias=False)(
                        torch.randn(500, hidden.dim), attr
                    )
                    for _ in range(8)
                )
            ]
        )
        .square()
        .mean(0)
        .sqrt()
    )
    torch.testing.assert_close(layer_std, torch.full_like(layer_std, 3**-0.5), rtol=0.1, atol=0)


def test_leading_axes_and_empty_input():
    layer = SteerableLinear(*TYPES[0])
    x, attr = torch.randn(2, 3, 32), torch.randn(2, 3, 4)
    torch.testing.assert_close(layer(x, attr)[1], layer(x[1], attr[1]))
    assert layer(x[:0], attr[:0]).shape == (0, 3, 16)


def test_double_precision_constants_are_not_rounded_by_a_trip_through_float32():
    layer = SteerableLinear(*TYPES[1]).float()
    layer(torch.randn(2, layer.irreps_in.dim), torch.randn(2, layer.irreps_attr.dim))
    layer = layer.double()
    x = torch.randn(3, layer.irreps_in.dim, dtype=torch.float64)
    attr = torch.randn(3, layer.irreps_attr.dim, dtype=torch.float64)
    fresh = SteerableLinear(*TYPES[1]).double()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x, attr), fresh(x, attr))


def test_second_derivatives():
    layer = SteerableLinear(*TYPES[1]).double()
    x = torch.randn(2, layer.irreps_in.dim, dtype=torch.float64, requires_grad=True)
    attr = torch.randn(2, layer.irreps_attr.dim, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(layer, (x, attr))
    torch.autograd.gradgradcheck(layer, (x, attr))


def test_autocast_leaves_the_product_in_float32():
    layer = SteerableLinear(*TYPES[0])
    x, attr = torch.randn(4, 32), torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, attr)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, layer(x, attr))


def test_bad_input():
    layer = SteerableLinear(*TYPES[0])
    with pytest.raises(ValueError, match=r"x must have shape \[..., 32\], got \[4, 31\]"):
        layer(torch.randn(4, 31), torch.randn(4, 4))
    with pytest.raises(ValueError, match=r"attr must have shape \[4, 4\]"):
        layer(torch.randn(4, 32), torch.randn(5, 4))
    with pytest.raises(ValueError, match="no product of .* gives 1x2e"):
        SteerableLinear("1x0e", "1x0e+1x1o", "1x0e+1x2e")


def test_unreachable_outputs_can_be_left_zero():
    layer = SteerableLinear("2x0e", "1x0e+1x1o", "2x0e+1x1e+2x1o", unreachable="zero")
    out = layer(torch.randn(3, 2), torch.randn(3, 4))
    assert (out[:, 2:5] == 0).all()
    assert (out[:, 5:] != 0).all()

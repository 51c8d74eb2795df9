"""SteerableGate: the gate's definition, its factors, equivariance."""

import numpy as np
import pytest
import torch
from e3nn import o3
from scipy.integrate import quad
from scipy.special import expit

from geomeq.nn import SteerableGate
from geomeq.nn._gate import SIGMOID_FACTOR, SILU_FACTOR
from tests.harmonics.test_spherical import random_rotations
from tests.nn.test_steerable_linear import representation


@pytest.mark.parametrize(
    ("factor", "function"), [(SILU_FACTOR, lambda z: z * expit(z)), (SIGMOID_FACTOR, expit)], ids=["silu", "sigmoid"]
)
def test_activations_have_unit_second_moment(factor, function):
    density = lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    moment, _ = quad(lambda z: function(z) ** 2 * density(z), -12, 12, epsabs=1e-13)
    assert abs(factor**2 * moment - 1) < 1e-11


def test_equals_its_definition_on_the_output_of_the_linear_map():
    layer = SteerableGate("4x0e+4x1o", "1x0e+1x1o", "3x0e+2x1o").double()
    x, attr = torch.randn(5, 16, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    raw = layer.linear(x, attr)  # 3 scalars, 2 gates, 2 vectors
    scalars = torch.nn.functional.silu(raw[:, :3]) * SILU_FACTOR
    vectors = raw[:, 5:].view(5, 2, 3) * torch.sigmoid(raw[:, 3:5, None]) * SIGMOID_FACTOR
    torch.testing.assert_close(layer(x, attr), torch.cat([scalars, vectors.flatten(1)], 1), atol=1e-14, rtol=0)


@pytest.mark.parametrize(
    "irreps", ["3x0e+2x1o+2x2e", "2x1o+3x0e+1x2e+2x1o+1x0e", "2x0e+2x0o+1x1e+2x1o", "4x0e", "2x1o"]
)
@pytest.mark.parametrize("mirrored", [False, True], ids=["rotation", "reflection"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_equivariance_for_any_order_and_parity(irreps, mirrored, dtype, tol):
    layer = SteerableGate("2x0e+1x0o+2x1o+2x1e+1x2e", "1x0e+1x1o", irreps).to(dtype)
    rotation = random_rotations(1)[0]
    d_in, d_attr, d_out = (
        representation(o3.Irreps(i), rotation, mirrored).to(dtype)
        for i in (layer.irreps_in, layer.irreps_attr, layer.irreps_out)
    )
    x, attr = torch.randn(5, layer.irreps_in.dim, dtype=dtype), torch.randn(5, 4, dtype=dtype)
    torch.testing.assert_close(layer(x @ d_in.T, attr @ d_attr.T), layer(x, attr) @ d_out.T, atol=tol, rtol=tol)
    assert not torch.allclose(layer(x @ d_in.T, attr), layer(x, attr) @ d_out.T, atol=1e-3)

"""GaugeConv: all paths are one function, with all its derivatives."""

import pytest
import torch

from geomeq.nn import GaugeConv
from tests.nn._surfaces import random_surface

TYPES = [
    ("3x1+2x0+2x2+1x0", "2x0+3x2+1x3+2x1"),
    ("4x0+4x1+4x2", "4x0+4x1+4x2"),
    ("3x0", "2x2"),
    ("3x2", "2x0"),
    ("3x1+1x4", "2x0+1x3"),
]
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def pair(types, dtype, **options) -> list[GaugeConv]:
    made = [GaugeConv(*types, rings=3, cutoff=0.8, path=path, **options).to(dtype) for path in ("edge", "moments")]
    for parameter in made[0].parameters():
        torch.nn.init.normal_(parameter)
    made[1].load_state_dict(made[0].state_dict())
    return made


def derivatives(conv, x, *surface):
    """The output, the gradient of a function of it, and the gradient of that gradient's square."""
    out = conv(x, *surface)
    inputs = [x, *conv.parameters()]
    ramp = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    first = torch.autograd.grad((out * ramp).square().sum(), inputs, create_graph=True)
    return [out, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), inputs)]


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize("edge_bias", [False, True])
@pytest.mark.parametrize(("dtype", "tol"), PRECISIONS)
def test_moments_equal_messages_twice_differentiated(types, basis, edge_bias, dtype, tol):
    surface = random_surface(dtype=dtype)
    edge, moments = pair(types, dtype, basis=basis, edge_bias=edge_bias)
    for lead in [(12,), (2, 12)]:
        x = torch.randn(*lead, edge.types_in.dim, dtype=dtype, requires_grad=True)
        for a, b in zip(derivatives(moments, x, *surface), derivatives(edge, x, *surface), strict=True):
            assert ((a - b).norm() / b.norm().clamp(min=1e-9)).item() < tol


@pytest.mark.parametrize("path", ["edge", "moments"])
def test_the_smooth_kernel_has_one_value_at_the_origin(path):
    conv = GaugeConv("2x0+2x1+2x2", "2x0+2x1+2x2", rings=2, cutoff=1.0, basis="smooth", path=path).double()
    x = torch.randn(2, conv.types_in.dim, dtype=torch.float64)
    edge_index, transport = torch.tensor([[1], [0]]), torch.tensor([0.3], dtype=torch.float64)
    for r, tol in [(0.0, 1e-14), (1e-3, 1e-2)]:
        out = [conv(x, edge_index, torch.tensor([[r, angle]]).double(), transport)[0] for angle in (0.0, 2.0, -1.1)]
        torch.testing.assert_close(out[1], out[0], atol=tol, rtol=0)
        torch.testing.assert_close(out[2], out[0], atol=tol, rtol=0)
    far = [conv(x, edge_index, torch.tensor([[0.5, angle]]).double(), transport)[0] for angle in (0.0, 2.0)]
    assert not torch.allclose(far[1], far[0], atol=1e-2)

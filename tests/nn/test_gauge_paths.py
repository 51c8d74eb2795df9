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


@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize("path", ["edge", "moments"])
def test_finite_differences_agree_twice(basis, path):
    conv = GaugeConv("1x0+1x1", "1x0+1x2", rings=2, cutoff=0.8, basis=basis, path=path).double()
    edge_index, polar, transport, area = random_surface(nodes=4)
    plan = conv.plan(edge_index, polar, transport, area)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in conv.named_parameters()]

    def layer(x, *values):
        return torch.func.functional_call(conv, dict(zip(names, values, strict=True)), (x, plan))

    inputs = (x, *(p.detach().requires_grad_() for p in conv.parameters()))
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)


def test_geometry_that_needs_gradients_gets_them():
    conv = GaugeConv("1x0+1x1", "1x0+1x1", rings=2, cutoff=2.0, basis="smooth").double()
    edge_index, polar, transport, area = random_surface(nodes=4)
    x = torch.randn(4, 3, dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (polar, transport, area)]
    assert torch.autograd.gradcheck(lambda *geometry: conv(x, edge_index, *geometry), inputs)
    torch.testing.assert_close(conv(x, edge_index, *inputs), conv(x, edge_index, polar, transport, area))
    with pytest.raises(ValueError, match="geometry needs gradients"):
        GaugeConv("1x0+1x1", "1x0+1x1", cutoff=2.0, path="moments").double()(x, edge_index, *inputs)


@pytest.mark.parametrize("basis", ["hat", "smooth"])
@pytest.mark.parametrize("given", ["plan", "tensors"])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_equals_eager(compiled, basis, given, backend):
    conv = GaugeConv("4x0+4x1", "4x0+3x2", rings=2, cutoff=0.8, basis=basis, edge_bias=True)
    surface = random_surface(dtype=torch.float32)
    arguments = (conv.plan(*surface),) if given == "plan" else surface
    x = torch.randn(12, 12, requires_grad=True)
    inputs = [x, *conv.parameters()]
    wanted, got = conv(x, *arguments), compiled(conv, backend=backend)(x, *arguments)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    first, second = (torch.autograd.grad(out.square().sum(), inputs) for out in (got, wanted))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_autocast_sums_in_single_precision():
    conv = GaugeConv("4x0+4x1", "4x0+4x2", rings=2, cutoff=0.8)
    surface = random_surface(dtype=torch.float32)
    x = torch.randn(12, 12)
    wanted = conv(x, *surface)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv(x, *surface), wanted)
        half = conv(x.bfloat16(), *surface)
    torch.testing.assert_close(half, conv(x.bfloat16().float(), *surface))
    narrow = conv.bfloat16()(x.bfloat16(), *surface)  # weights rounded as well, sums not
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), wanted, atol=0.05, rtol=0.05)


def test_blocks_do_not_change_the_result(monkeypatch):
    conv = GaugeConv("4x0+4x1", "4x0+4x2", rings=2, cutoff=0.8).double()
    surface = random_surface(nodes=70)
    x = torch.randn(70, 12, dtype=torch.float64, requires_grad=True)
    whole = derivatives(conv, x, *surface)
    monkeypatch.setattr("geomeq.ops._gauge_sum._BLOCK", 1)  # sixteen nodes, the smallest
    for a, b in zip(derivatives(conv, x, *surface), whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)

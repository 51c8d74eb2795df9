import copy

import pytest
import torch
from hypothesis import given, settings
from torch.autograd import gradcheck, gradgradcheck

from geomeq.ops import Stencil, StencilLinear, stencil_linear
from geomeq.ops._kernels import PATHS
from tests.ops._graphs import problems, random_edges

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}  # sums of up to 40 x 5 x 17 products of order one
compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def long_way(problem, weight):
    sums = Stencil(problem["edge_index"], problem["coef"], problem["size"], "reference")(problem["x"])
    sums = sums.unsqueeze(-2) if problem["coef"].dim() == 1 else sums
    return torch.einsum("...kc,kco->...o", sums, weight)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_equals_the_stencil_and_then_the_product(problem):
    coef, x = problem["coef"], problem["x"]
    weight = torch.randn(1 if coef.dim() == 1 else coef.size(1), x.size(-1), 4, dtype=x.dtype)
    for path in PATHS:
        out = StencilLinear(problem["edge_index"], coef, problem["size"], path)(x, weight)
        torch.testing.assert_close(out, long_way(problem, weight), atol=TOLERANCE[x.dtype], rtol=0)


def test_the_check_has_teeth():
    problem = {"edge_index": random_edges(40, (9, 7)), "coef": torch.randn(40, 3), "size": (9, 7)}
    problem["x"], weight = torch.randn(9, 4), torch.randn(3, 4, 5)
    out = StencilLinear(problem["edge_index"], problem["coef"], (9, 7))(problem["x"], weight)
    assert not torch.allclose(out, long_way(problem, weight.flip(0)), atol=1e-2)


@pytest.mark.parametrize("path", ["bag", "csr"])
@pytest.mark.parametrize("lead", [(), (2,)])
def test_differentiable_twice_in_many_blocks(path, lead, monkeypatch):
    monkeypatch.setattr(stencil_linear, "_BLOCK", 1)  # 16 nodes, the least there is
    layer = StencilLinear(random_edges(60, (20, 37)), torch.randn(60, 2, dtype=torch.float64), (20, 37), path)
    x = torch.randn(*lead, 20, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(layer, (x, weight), fast_mode=True)
    assert gradgradcheck(lambda x, w: layer(x, w).sin(), (x, weight), fast_mode=True)


def test_learned_coefficients_get_their_gradient():
    coef, weight = torch.randn(40, 3, requires_grad=True), torch.randn(3, 4, 5)
    problem = {"edge_index": random_edges(40, (9, 7)), "coef": coef, "size": (9, 7), "x": torch.randn(9, 4)}
    got = torch.autograd.grad(StencilLinear(problem["edge_index"], coef, (9, 7))(problem["x"], weight).sum(), coef)
    torch.testing.assert_close(got, torch.autograd.grad(long_way(problem, weight).sum(), coef))


def test_keeps_and_builds_no_sums_of_all_nodes(monkeypatch):
    monkeypatch.setattr(stencil_linear, "_BLOCK", 1 << 14)
    nodes, coefs, channels = 20_000, 8, 16
    layer = StencilLinear(random_edges(20_000, (nodes, nodes)), torch.randn(20_000, coefs), nodes)
    x, weight = torch.randn(nodes, channels, requires_grad=True), torch.randn(coefs, channels, 4)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layer(x, weight).sum().backward()
    largest = max(e.nbytes() for e in profile.profiler.kineto_results.events() if e.name() == "[memory]")
    assert largest < nodes * coefs * channels * 4 / 4


@compiles
def test_compiles_to_the_same_result():
    layer = StencilLinear(random_edges(40, (9, 7)), torch.randn(40, 3), (9, 7))
    x, weight = torch.randn(2, 9, 4, requires_grad=True), torch.randn(3, 4, 5, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True)
    torch.testing.assert_close(compiled(x, weight), layer(x, weight))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x, weight).sin().sum(), (x, weight)),
        torch.autograd.grad(layer(x, weight).sin().sum(), (x, weight)),
    )


def test_follows_moves_and_writes_into_the_coefficients():
    layer = StencilLinear(random_edges(40, (9, 9)), torch.randn(40, 3), 9)
    x, weight = torch.randn(9, 4), torch.randn(3, 4, 5)
    before = layer(x, weight)
    double = copy.deepcopy(layer).to(torch.float64)
    torch.testing.assert_close(double(x.double(), weight.double()).float(), before, atol=1e-4, rtol=0)
    layer.stencil.coef.mul_(2)
    torch.testing.assert_close(layer(x, weight), 2 * before)
    x.requires_grad_()
    doubled = torch.autograd.grad(layer(x, weight).sum(), x)[0]
    half = StencilLinear(layer.stencil.pattern, layer.stencil.coef / 2)
    torch.testing.assert_close(doubled, 2 * torch.autograd.grad(half(x, weight).sum(), x)[0], atol=1e-4, rtol=0)


def test_autocast_leaves_it_in_float32():
    layer = StencilLinear(random_edges(40, (9, 9)), torch.randn(40, 3), 9)
    x, weight = torch.randn(9, 4), torch.randn(3, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x, weight)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, layer(x, weight))
    half = layer.to(torch.bfloat16)
    assert half(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(2, 4, 5), r"weight must have shape \[3, 4, O\], got \[2, 4, 5\]"),
        (torch.ones(3, 4), r"got \[3, 4\]"),
    ],
)
def test_bad_weights_are_refused(weight, message):
    layer = StencilLinear(random_edges(40, (9, 9)), torch.randn(40, 3), 9)
    with pytest.raises(ValueError, match=message):
        layer(torch.randn(9, 4), weight)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    edge_index, coef = random_edges(400, (30, 20)), torch.randn(400, 3)
    x, weight = torch.randn(2, 30, 16), torch.randn(3, 16, 8)
    results = []
    for device in ("cpu", "cuda"):
        y, w = x.to(device).requires_grad_(), weight.to(device).requires_grad_()
        out = StencilLinear(edge_index.to(device), coef.to(device), (30, 20))(y, w)
        results.append([t.cpu() for t in (out, *torch.autograd.grad(out.sin().sum(), (y, w)))])
    torch.testing.assert_close(*results, atol=1e-3, rtol=1e-3)

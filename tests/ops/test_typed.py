import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from geomeq.ops import TypedPattern, typed, typed_linear
from geomeq.ops.typed import PATHS, choose_typed_path
from tests.ops._graphs import random_edges

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}  # sums of up to 40 x 17 products of order one
FAST = [path for path in PATHS if path != "reference"]


def definition(x, weight, pattern):
    """Edge by edge."""
    out = x.new_zeros(*x.shape[:-2], pattern.size[1], weight.size(-1))
    for (j, i), t in zip(pattern.edge_index.T.tolist(), pattern.edge_type.tolist(), strict=True):
        out[..., i, :] += x[..., j, :] @ weight[t]
    return out


def problem(num_edges=60, num_types=4, size=(9, 7), channels=(5, 3), lead=(), dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    edge_type = torch.randint(num_types, (num_edges,), generator=rng)
    pattern = TypedPattern(random_edges(num_edges, size, seed), edge_type, num_types, size)
    x = torch.randn(*lead, size[0], channels[0], generator=rng, dtype=dtype)
    return x, torch.randn(num_types, *channels, generator=rng, dtype=dtype), pattern


@settings(max_examples=60, deadline=None)
@given(
    num_edges=st.integers(0, 40),
    num_types=st.integers(1, 6),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.sampled_from([(1, 1), (3, 2), (17, 4), (2, 0), (0, 2)]),
    lead=st.sampled_from([(), (1,), (3,), (2, 2), (0,)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**16),
)
def test_all_paths_equal_the_definition(num_edges, num_types, size, channels, lead, dtype, seed):
    x, weight, pattern = problem(num_edges, num_types, size, channels, lead, dtype, seed)
    for path in PATHS:
        out = typed_linear(x, weight, pattern, path)
        torch.testing.assert_close(out, definition(x, weight, pattern), atol=TOLERANCE[dtype], rtol=0)


def test_the_check_has_teeth():
    x, weight, pattern = problem()
    assert not torch.allclose(typed_linear(x, weight, pattern), definition(x, weight.flip(0), pattern), atol=1e-2)


@pytest.mark.parametrize("path", FAST)
@pytest.mark.parametrize("lead", [(), (2,)])
def test_differentiable_twice(path, lead, monkeypatch):
    monkeypatch.setattr(typed, "_BLOCK", 1)  # 64 edges, the least there is
    x, weight, pattern = problem(num_edges=200, num_types=2, channels=(2, 3), lead=lead)
    inputs = x.requires_grad_(), weight.requires_grad_()
    assert gradcheck(lambda x, w: typed_linear(x, w, pattern, path), inputs, fast_mode=True)
    assert gradgradcheck(lambda x, w: typed_linear(x, w, pattern, path).sin(), inputs, fast_mode=True)


@pytest.mark.parametrize("path", FAST)
def test_gradients_equal_those_of_the_reference(path):
    x, weight, pattern = problem(lead=(2,))
    inputs = x.requires_grad_(), weight.requires_grad_()
    grads = [torch.autograd.grad(typed_linear(*inputs, pattern, p).cos().sum(), inputs) for p in (path, "reference")]
    torch.testing.assert_close(*grads, atol=1e-12, rtol=0)


@pytest.mark.parametrize("path", FAST)
def test_builds_no_message_per_edge_and_pair_of_channels(path):
    edges, channels = 20_000, 32
    x, weight, pattern = problem(edges, 8, (2_000, 2_000), (channels, channels), dtype=torch.float32)
    inputs = x.requires_grad_(), weight.requires_grad_()
    typed_linear(*inputs, pattern, path)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.autograd.grad(typed_linear(*inputs, pattern, path).sum(), inputs)
    largest = max(e.nbytes() for e in profile.profiler.kineto_results.events() if e.name() == "[memory]")
    assert largest <= 2 * edges * channels * 4


@pytest.mark.parametrize("path", FAST)
def test_compiles_to_the_same_result(path, compiled):
    x, weight, pattern = problem(lead=(2,), dtype=torch.float32)
    inputs = x.requires_grad_(), weight.requires_grad_()
    function = compiled(lambda x, w: typed_linear(x, w, pattern, path))
    torch.testing.assert_close(function(*inputs), typed_linear(*inputs, pattern, path))
    torch.testing.assert_close(
        torch.autograd.grad(function(*inputs).sin().sum(), inputs),
        torch.autograd.grad(typed_linear(*inputs, pattern, path).sin().sum(), inputs),
    )


def test_isolated_targets_get_zero_and_order_of_edges_does_not_matter():
    x, weight, pattern = problem(num_edges=10, size=(9, 30))
    isolated = torch.ones(30, dtype=torch.bool).index_fill(0, pattern.edge_index[1], False)
    order = torch.randperm(10)
    other = TypedPattern(pattern.edge_index[:, order], pattern.edge_type[order], 4, (9, 30))
    for path in PATHS:
        out = typed_linear(x, weight, pattern, path)
        assert bool((out[isolated] == 0).all())
        assert bool((out[~isolated] != 0).any())
        torch.testing.assert_close(typed_linear(x, weight, other, path), out, atol=1e-13, rtol=0)


def test_cost_rule_follows_how_full_the_graph_is():
    full = TypedPattern(*_all_pairs(30), num_types=30, size=30)
    assert choose_typed_path(full, 1, 16, 16) == "rows"
    empty = TypedPattern(random_edges(500, (500, 500)), torch.arange(500) % 50, num_types=50, size=500)
    assert choose_typed_path(empty, 1, 32, 32) == "sorted"


def _all_pairs(n):
    target, source = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return torch.stack([source.flatten(), target.flatten()]), ((source - target) % n).flatten()


def test_autocast_leaves_it_in_float32_and_half_precision_is_summed_wide():
    x, weight, pattern = problem(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert typed_linear(x, weight, pattern).dtype == torch.float32
    out = typed_linear(x.bfloat16(), weight.bfloat16(), pattern)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), typed_linear(x, weight, pattern), atol=0.5, rtol=0.05)


def test_moving_the_pattern_keeps_it_valid():
    x, weight, pattern = problem()
    out = typed_linear(x, weight, pattern)
    moved = copy.deepcopy(pattern).to("cpu", torch.float32)
    torch.testing.assert_close(typed_linear(x, weight, moved), out)
    assert moved.edge_index.dtype == torch.int64
    assert not moved.state_dict()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"edge_type": torch.zeros(3)}, TypeError, "edge_type must hold integers"),
        ({"edge_type": torch.zeros(4, dtype=torch.long)}, ValueError, r"edge_type must have shape \[3\], got \[4\]"),
        ({"edge_type": torch.tensor([0, 1, 2])}, ValueError, r"edge_type must lie in 0\.\.1, got 0\.\.2"),
        ({"edge_type": torch.tensor([0, -1, 1])}, ValueError, r"got -1\.\.1"),
        ({"edge_index": torch.tensor([[0, 1, 5], [0, 0, 1]])}, ValueError, "source nodes 0..5"),
        ({"size": (-1, 2)}, ValueError, "size must be"),
    ],
)
def test_bad_patterns_are_refused(arguments, error, message):
    good = {"edge_index": torch.tensor([[0, 1, 2], [0, 0, 1]]), "edge_type": torch.tensor([0, 1, 0])}
    with pytest.raises(error, match=message):
        TypedPattern(**(good | {"num_types": 2, "size": 3} | arguments))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, w, p: (x[:-1], w, p), ValueError, r"x must have shape \[\.\.\., 9, C\]"),
        (lambda x, w, p: (x[:, 0], w, p), ValueError, "x must have shape"),
        (lambda x, w, p: (x, w[1:], p), ValueError, r"weight must have shape \[4, 5, O\], got \[3, 5, 3\]"),
        (lambda x, w, p: (x.float(), w, p), TypeError, "must have one dtype"),
        (lambda x, w, p: (x.long(), w, p), TypeError, "must be floating point"),
        (lambda x, w, p: (x, w, p.edge_index), TypeError, "pattern must be a TypedPattern"),
        (lambda x, w, p: (x, w, p, "fast"), ValueError, "path must be one of"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        typed_linear(*change(*problem()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", PATHS)
def test_cuda_equals_cpu(path):
    x, weight, pattern = problem(400, lead=(2,), dtype=torch.float32)
    results = []
    for device in ("cpu", "cuda"):
        inputs = x.to(device).requires_grad_(), weight.to(device).requires_grad_()
        out = typed_linear(*inputs, copy.deepcopy(pattern).to(device), path)
        results.append([t.cpu() for t in (out, *torch.autograd.grad(out.sin().sum(), inputs))])
    torch.testing.assert_close(*results, atol=1e-3, rtol=1e-3)

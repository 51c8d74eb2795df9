import copy

import pytest
import torch
from hypothesis import given, settings
from torch.autograd import gradcheck, gradgradcheck

from geomeq.ops import Stencil, StencilPattern, stencil
from geomeq.ops._kernels import PATHS, edge_dot, edge_dot_in_chunks, stencil_sum
from tests.ops._graphs import definition, problems, random_edges

FAST = [path for path in PATHS if path != "reference"]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}  # sums of at most 40 products of order one
compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_path_equals_the_definition(problem):
    x, edge_index, coef, size = (problem[key] for key in ("x", "edge_index", "coef", "size"))
    columns = coef.unsqueeze(1) if coef.dim() == 1 else coef
    expected = definition(x, edge_index, columns, size[1])
    expected = expected.squeeze(-2) if coef.dim() == 1 else expected
    for path in PATHS:
        out = Stencil(edge_index, coef, size, path)(x)
        torch.testing.assert_close(out, expected, atol=TOLERANCE[x.dtype], rtol=0)


@settings(max_examples=30, deadline=None)
@given(problems(dtypes=(torch.float64,)))
def test_gradients_equal_those_of_the_definition(problem):
    x, edge_index, coef, size = (problem[key] for key in ("x", "edge_index", "coef", "size"))
    x.requires_grad_()
    coef.requires_grad_()
    columns = coef.unsqueeze(1) if coef.dim() == 1 else coef
    expected = definition(x, edge_index, columns, size[1]).sin().sum()
    expected = expected + 0 * (x.sum() + coef.sum())  # an empty graph depends on neither
    wanted = torch.autograd.grad(expected, (x, coef))
    for path in PATHS:
        got = torch.autograd.grad(stencil(x, edge_index, coef, size, path).sin().sum(), (x, coef))
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=0)


def test_the_check_has_teeth():
    edge_index, coef, x = random_edges(40, (9, 7)), torch.randn(40, 3), torch.randn(9, 4)
    expected = definition(x, edge_index, coef, 7)
    assert not torch.allclose(stencil(x, edge_index, coef.flip(0), (9, 7)), expected)
    assert not torch.allclose(stencil(x, edge_index, coef.flip(1), (9, 7)), expected)
    swapped = edge_index.flip(0).clamp(max=6)
    assert not torch.allclose(stencil(x, swapped, coef, (9, 7)), expected)


@pytest.mark.parametrize("path", FAST)
@pytest.mark.parametrize("shape", [(12,), (12, 1), (12, 3)])
def test_differentiable_twice_in_features_and_coefficients(path, shape):
    edge_index = random_edges(12, (5, 4))
    coef = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, c: stencil(x, edge_index, c, (5, 4), path), (x, coef))
    assert gradgradcheck(lambda x, c: stencil(x, edge_index, c, (5, 4), path), (x, coef))
    fixed = Stencil(edge_index, coef.detach(), (5, 4), path)
    assert gradcheck(fixed, (x,))
    assert gradgradcheck(lambda x: fixed(x).sin(), (x,))


def test_third_derivative_of_a_learned_stencil():
    edge_index = random_edges(10, (4, 4))
    coef = torch.randn(10, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)

    def thrice(apply):
        out = apply().pow(3).sum()
        for _ in range(3):
            out = sum(g.pow(2).sum() for g in torch.autograd.grad(out, (x, coef), create_graph=True))
        return out

    fast = thrice(lambda: stencil(x, edge_index, coef, path="bag"))
    torch.testing.assert_close(fast, thrice(lambda: stencil(x, edge_index, coef, path="reference")))


def test_operators_meet_the_rules_of_torch():
    pattern = StencilPattern(random_edges(12, (5, 4)), (5, 4), num_coefs=2)
    coef = torch.randn(12, 2, dtype=torch.float64, requires_grad=True)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    cached = pattern.lay_out(coef.detach())
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(stencil_sum, (coef, x, [], pattern.tensors(), False, "csr"), test_utils=tests)
    torch.library.opcheck(stencil_sum, (coef.detach(), y, cached, pattern.tensors(), True, "bag"), test_utils=tests)
    torch.library.opcheck(edge_dot, (y, x, pattern.tensors(), 2, "csr"), test_utils=tests)


@pytest.mark.parametrize("edges", [50, 63, 64, 500])  # the dense product takes over from 9 x 7 edges on
def test_edge_dot_in_chunks_equals_the_other_products(edges):
    pattern = StencilPattern(random_edges(edges, (9, 7)), (9, 7), num_coefs=3)
    a, b = torch.randn(21, 4), torch.randn(9, 4)
    chunked = edge_dot_in_chunks(a, b, pattern.ptr, pattern.tensors()[1], chunk=7)
    torch.testing.assert_close(edge_dot(a, b, pattern.tensors(), 3, "csr").reshape(-1)[pattern.order], chunked)


@compiles
@pytest.mark.parametrize("path", ["auto", "csr"])
def test_compiles_to_the_same_result(path):
    edge_index, coef = random_edges(40, (9, 7)), torch.randn(40, 3)
    x = torch.randn(2, 9, 4, requires_grad=True)
    layer = Stencil(edge_index, coef, (9, 7), path)
    compiled = torch.compile(layer, fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x).sin().sum(), x), torch.autograd.grad(layer(x).sin().sum(), x)
    )


@compiles
def test_functional_form_compiles_with_its_pattern():
    edge_index, coef = random_edges(40, (9, 7)), torch.randn(40, 3, requires_grad=True)
    x = torch.randn(9, 4, requires_grad=True)
    compiled = torch.compile(lambda x, c: stencil(x, edge_index, c, (9, 7)), fullgraph=True)
    eager = stencil(x, edge_index, coef, (9, 7))
    torch.testing.assert_close(compiled(x, coef), eager)
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x, coef).sin().sum(), (x, coef)),
        torch.autograd.grad(eager.sin().sum(), (x, coef)),
    )


def test_permuting_nodes_permutes_the_result():
    edge_index, coef, x = random_edges(40, (8, 8)), torch.randn(40, 3), torch.randn(8, 4)
    perm = torch.randperm(8)
    inverse = torch.argsort(perm)
    torch.testing.assert_close(
        stencil(x[perm], inverse[edge_index], coef), stencil(x, edge_index, coef)[perm], atol=1e-5, rtol=0
    )


def test_shared_graph_equals_block_diagonal_batch():
    edge_index, coef, x = random_edges(40, (8, 8)), torch.randn(40, 3), torch.randn(5, 8, 4)
    blocks = torch.cat([edge_index + 8 * b for b in range(5)], dim=1)
    packed = stencil(x.reshape(40, 4), blocks, coef.repeat(5, 1))
    torch.testing.assert_close(stencil(x, edge_index, coef), packed.view(5, 8, 3, 4), atol=1e-5, rtol=0)


def test_new_coefficients_reuse_the_pattern():
    edge_index, x = random_edges(40, (8, 8)), torch.randn(8, 4)
    first = Stencil(edge_index, torch.randn(40, 3), 8)
    coef = torch.randn(40, 3)
    second = first.with_coef(coef)
    assert second.pattern is first.pattern
    torch.testing.assert_close(second(x), stencil(x, edge_index, coef))
    with pytest.raises(ValueError, match="3 coefficients per edge"):
        first.with_coef(torch.randn(40, 2))


def test_writing_into_the_coefficients_is_noticed():
    layer, x = Stencil(random_edges(40, (8, 8)), torch.randn(40, 3), 8), torch.randn(8, 4)
    before = layer(x)
    layer.coef.mul_(2)
    torch.testing.assert_close(layer(x), 2 * before)


def test_parameter_is_trained_and_follows_freezing():
    layer, x = Stencil(random_edges(40, (8, 8)), torch.nn.Parameter(torch.randn(40, 3)), 8), torch.randn(8, 4)
    assert [name for name, _ in layer.named_parameters()] == ["coef"]
    layer(x).sum().backward()
    assert layer.coef.grad.shape == (40, 3)
    layer.requires_grad_(False)
    before = layer(x)
    with torch.no_grad():
        layer.coef.mul_(2)
    torch.testing.assert_close(layer(x), 2 * before)


def test_moves_dtype_and_copies_and_saves_only_what_is_learned():
    layer, x = Stencil(random_edges(40, (8, 8)), torch.randn(40, 3), 8), torch.randn(8, 4)
    expected = layer(x)
    assert layer.state_dict() == {}
    double = copy.deepcopy(layer).to(torch.float64)
    assert double(x.double()).dtype == torch.float64
    torch.testing.assert_close(double(x.double()).float(), expected)
    assert layer.coef.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    edge_index, coef, x = random_edges(400, (8, 8)), torch.randn(400, 3), torch.randn(8, 4).to(dtype)
    exact = stencil(x.float(), edge_index, coef)
    assert stencil(x, edge_index, coef).dtype == torch.float32
    torch.testing.assert_close(stencil(x, edge_index, coef), exact)
    half = stencil(x, edge_index, coef.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half, stencil(x.float(), edge_index, coef.to(dtype).float()).to(dtype))


@pytest.mark.parametrize("path", FAST)
def test_autocast_leaves_the_sum_in_float32(path):
    edge_index, coef = random_edges(400, (8, 8)), torch.randn(400, 3, requires_grad=True)
    x = torch.randn(8, 4, requires_grad=True)
    expected = torch.autograd.grad(stencil(x, edge_index, coef).sin().sum(), (x, coef))
    with torch.autocast("cpu", torch.bfloat16):
        out = stencil(x, edge_index, coef, path=path)
        got = torch.autograd.grad(out.sin().sum(), (x, coef))
    assert out.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-4)


def test_nan_reaches_exactly_the_targets_of_its_node():
    edge_index, x = torch.tensor([[0, 1, 1], [0, 1, 2]]), torch.ones(2, 1)
    x[1] = torch.nan
    for path in PATHS:
        assert stencil(x, edge_index, torch.ones(3), (2, 4), path).isnan().flatten().tolist() == [0, 1, 1, 0]


def test_no_tensor_of_edges_times_coefficients_times_channels():
    edges, coefs, channels = 2000, 8, 32
    edge_index, coef = random_edges(edges, (200, 200)), torch.randn(edges, coefs, requires_grad=True)
    x = torch.randn(200, channels, requires_grad=True)
    peaks = {}
    for path in ("auto", "reference"):
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            stencil(x, edge_index, coef, path=path).sum().backward()
        memory = [e.nbytes() for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
        peaks[path] = max(memory)
    assert peaks["auto"] < edges * coefs * channels * 4 / 4
    assert peaks["reference"] >= edges * coefs * channels * 4  # the measure sees it where it is


@pytest.mark.parametrize("kind", ["SparseTensor", "csr", "coo"])
def test_accepts_a_sparse_adjacency_with_targets_as_rows(kind):
    edge_index = random_edges(30, (9, 7)).unique(dim=1)
    edge_index = edge_index[:, torch.argsort(edge_index[1] * 9 + edge_index[0])]
    coef = torch.randn(edge_index.size(1), requires_grad=True)
    x = torch.randn(9, 4)
    if kind == "SparseTensor":
        sparse = pytest.importorskip("torch_sparse")
        adj = sparse.SparseTensor(row=edge_index[1], col=edge_index[0], value=coef, sparse_sizes=(7, 9))
    else:
        adj = torch.sparse_coo_tensor(edge_index.flip(0), coef, (7, 9), check_invariants=True, is_coalesced=True)
        adj = adj.to_sparse_csr() if kind == "csr" else adj
    expected = stencil(x, edge_index, coef, (9, 7))
    torch.testing.assert_close(stencil(x, adj), expected)
    torch.testing.assert_close(Stencil(adj)(x), expected)
    grad = torch.autograd.grad(stencil(x, adj).sin().sum(), coef)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sin().sum(), coef))
    many = torch.randn(edge_index.size(1), 3)
    torch.testing.assert_close(Stencil(adj, many)(x), stencil(x, edge_index, many, (9, 7)))
    with pytest.raises(ValueError, match=r"size must be \(columns, rows\) = \(9, 7\)"):
        Stencil(adj, size=(7, 9))


def test_ones_where_no_coefficients_are_given():
    edge_index = torch.tensor([[0, 1], [1, 1]])
    torch.testing.assert_close(stencil(torch.tensor([[1.0], [2.0]]), edge_index), torch.tensor([[0.0], [3.0]]))


EDGES, COEF = torch.tensor([[0, 1], [1, 0]]), torch.ones(2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((EDGES.float(), COEF, 2), TypeError, "must hold integers"),
        ((EDGES[0], COEF, 2), ValueError, r"shape \[2, E\]"),
        (([[0], [0]], COEF, 2), TypeError, "integer tensor"),
        ((EDGES, COEF, (1, 2)), ValueError, "source nodes 0..1, but there are only 1"),
        ((EDGES - 1, COEF, 2), ValueError, "-1..0"),
        ((EDGES, COEF, None), ValueError, "size must be given"),
        ((EDGES, COEF, (2, -1)), ValueError, "pair"),
        ((EDGES, torch.ones(3), 2), ValueError, r"shape \[2\] or \[2, K\]"),
        ((EDGES, torch.ones(2, 1, 1), 2), ValueError, r"got \[2, 1, 1\]"),
        ((EDGES, torch.ones(2).long(), 2), TypeError, "floating point"),
        ((EDGES, [1.0, 1.0], 2), TypeError, "torch.Tensor"),
        ((EDGES, torch.tensor([1.0, torch.nan]), 2), ValueError, "finite, but row 1"),
        ((EDGES, COEF.to("meta"), 2), ValueError, "device"),
        ((EDGES, COEF, 2, "fast"), ValueError, "path must be one of"),
    ],
)
def test_bad_graph_or_coefficients_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Stencil(*arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(3, 4), ValueError, r"shape \[..., 2, C\], got \[3, 4\]"),
        (torch.ones(2), ValueError, r"got \[2\]"),
        (torch.ones(2, 4).long(), TypeError, "floating point"),
        (torch.ones(2, 4).double(), TypeError, r"stencil.to\(torch.float64\)"),
        (torch.ones(2, 4, device="meta"), ValueError, "device"),
    ],
)
def test_bad_features_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        Stencil(EDGES, COEF, 2)(x)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", PATHS)
def test_cuda_equals_cpu(path):
    edge_index, coef, x = random_edges(400, (30, 20)), torch.randn(400, 3), torch.randn(2, 30, 16)
    results = []
    for device in ("cpu", "cuda"):
        c, y = coef.to(device).requires_grad_(), x.to(device).requires_grad_()
        out = stencil(y, edge_index.to(device), c, (30, 20), path)
        results.append([t.cpu() for t in (out, *torch.autograd.grad(out.sin().sum(), (c, y)))])
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)

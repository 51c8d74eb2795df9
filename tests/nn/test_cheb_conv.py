import copy
import math
import pickle
import weakref

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.nn import ChebConv as PyGChebConv

from geomeq.nn import ChebConv, cheb_conv
from geomeq.ops import SparseOperator, rescaled_laplacian
from geomeq.ops.chebyshev import CHEB_PATHS
from tests.nn._group_graphs import dense_laplacian, operator_of, quarter_turn, random_graph, se2_graph

TOLERANCE = [(torch.float32, 1e-4), (torch.float64, 1e-10)]


def spectral(conv, x, edge_index, weight, lambda_max=2.0, normalization="sym"):
    """The definition by eigenvectors: sum_j T_j(2 lam / lambda_max - 1), with T_j(cos t) = cos(j t)."""
    laplacian = dense_laplacian(edge_index, weight.double(), x.size(-2), normalization)
    lam, vectors = torch.linalg.eig(laplacian)
    angle = torch.acos((2 * lam / lambda_max - 1).to(torch.complex128))
    out = 0.0
    for j in range(conv.K):
        t_j = vectors @ torch.diag(torch.cos(j * angle)) @ torch.linalg.inv(vectors)
        out = out + t_j.real @ x.double() @ conv.weight[j].double()
    return out if conv.bias is None else out + conv.bias.double()


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("path", CHEB_PATHS)
@pytest.mark.parametrize("K", [1, 2, 3, 6])
@pytest.mark.parametrize("channels", [(5, 3), (3, 5), (1, 40)])
def test_is_the_polynomial_of_the_eigenvalues(dtype, tolerance, path, K, channels):
    (edge_index, weight), x = random_graph(), torch.randn(3, 30, channels[0], dtype=dtype)
    conv = ChebConv(*channels, K, path=path).to(dtype)
    torch.nn.init.normal_(conv.bias)
    out = conv(x, operator_of((edge_index, weight), 30, dtype))
    torch.testing.assert_close(out.double(), spectral(conv, x, edge_index, weight), atol=tolerance, rtol=0)
    torch.testing.assert_close(conv(x[1], edge_index, weight.to(dtype)), out[1], atol=tolerance, rtol=0)
    if K > 1:  # the check has teeth
        assert not torch.allclose(out.double(), spectral(conv, x, edge_index, weight, 1.5), atol=1e-2)


@pytest.mark.parametrize("path", CHEB_PATHS)
@pytest.mark.parametrize("normalization", ["rw", None])
def test_other_laplacians_and_scales(path, normalization):
    (edge_index, weight), x = random_graph(), torch.randn(30, 4, dtype=torch.float64)
    conv = ChebConv(4, 3, 4, path=path, normalization=normalization, lambda_max=7.5).double()
    want = spectral(conv, x, edge_index, weight, 7.5, normalization)
    torch.testing.assert_close(conv(x, edge_index, weight), want, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("batched", [False, True])
def test_equals_pyg_with_its_weights(dtype, tolerance, batched):
    (edge_index, weight), x = random_graph(), torch.randn(2, 30, 4, dtype=dtype)
    x, weight = x if batched else x[0], weight.to(dtype)
    theirs, ours = PyGChebConv(4, 3, 5).to(dtype), ChebConv(4, 3, 5).to(dtype)
    with torch.no_grad():
        ours.weight.copy_(torch.stack([lin.weight.T for lin in theirs.lins]))
        ours.bias.copy_(theirs.bias.normal_())
    want = theirs(x, edge_index, weight, lambda_max=torch.tensor(2.0, dtype=dtype))
    torch.testing.assert_close(ours(x, edge_index, weight), want, atol=tolerance, rtol=0)


@pytest.mark.parametrize("K", [1, 2, 4])
def test_a_delta_reaches_nodes_up_to_k_minus_1_edges_away(K):
    nodes, path = 15, torch.arange(14)
    edge_index = torch.cat([torch.stack([path, path + 1]), torch.stack([path + 1, path])], dim=1)
    delta = torch.zeros(nodes, 1).index_fill_(0, torch.tensor(7), 1.0)
    reached = ChebConv(1, 1, K, bias=False)(delta, edge_index).flatten() != 0
    hops = (torch.arange(nodes) - 7).abs()
    assert not reached[hops > K - 1].any()
    assert reached[hops == K - 1].all()


def skew_operator(dtype=torch.float64):
    edge_index = torch.randint(12, (2, 50))
    return SparseOperator.from_edges(edge_index, torch.randn(50, dtype=dtype) / 4, 12)


@pytest.mark.parametrize("path", CHEB_PATHS)
@pytest.mark.parametrize("channels", [(2, 3), (3, 2)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_differentiable_twice(path, channels, symmetric):
    operator = operator_of(random_graph(12, 20), 12) if symmetric else skew_operator()
    assert operator.symmetric == symmetric
    conv = ChebConv(*channels, 4, path=path).double()
    x = torch.randn(2, 12, channels[0], dtype=torch.float64, requires_grad=True)

    def run(x, weight, bias):
        return torch.func.functional_call(conv, {"weight": weight, "bias": bias}, (x, operator)).sin()

    parameters = tuple(p.detach().clone().requires_grad_() for p in (conv.weight, conv.bias))
    assert gradcheck(run, (x, *parameters), fast_mode=True)
    assert gradgradcheck(run, (x, *parameters), fast_mode=True)
    # a first layer needs no gradient of x, a fixed filter none of its weights
    assert gradgradcheck(lambda w: run(x.detach(), w, parameters[1]), parameters[:1], fast_mode=True)
    assert gradgradcheck(lambda x: run(x, parameters[0].detach(), parameters[1].detach()), (x,), fast_mode=True)


def test_a_narrow_first_layer_has_the_same_gradient():
    operator, x = skew_operator(), torch.randn(3, 12, 2, dtype=torch.float64)
    gradients = []
    for path in ("auto", "reference"):
        torch.manual_seed(1)
        conv = ChebConv(2, 7, 4, path=path).double()
        gradients.append(torch.autograd.grad(conv(x, operator).sin().sum(), conv.weight)[0])
    torch.testing.assert_close(*gradients)


def test_weights_of_the_graph_may_be_learned():
    edge_index, weight = random_graph(12, 20)
    conv, x = ChebConv(2, 3, 4).double(), torch.randn(2, 12, 2, dtype=torch.float64)
    weight.requires_grad_()
    assert gradcheck(lambda w: conv(x, edge_index, w), (weight,), fast_mode=True)
    assert gradgradcheck(lambda w: conv(x, edge_index, w), (weight,), fast_mode=True)


def saved(call):
    """Bytes of activations that autograd keeps, by storage."""
    kept = {}

    def pack(tensor):
        if tensor.layout == torch.strided and tensor.is_floating_point():
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = call()
    return sum(kept.values()), out


def test_keeps_x_and_nothing_else():
    operator, x = operator_of(random_graph(200, 400), 200, torch.float32), torch.randn(8, 200, 16, requires_grad=True)
    conv = ChebConv(16, 16, 4)
    fixed = sum(t.nbytes for t in (conv.weight, operator.value))
    assert saved(lambda: conv(x, operator))[0] <= x.nbytes + fixed
    slow = ChebConv(16, 16, 4, path="reference")
    assert saved(lambda: slow(x, operator))[0] >= 4 * x.nbytes


@pytest.mark.parametrize(
    ("graph", "backend"), [("operator", "inductor"), ("edge_index", "aot_eager"), ("learned", "aot_eager")]
)
def test_compiles_to_the_same_result(graph, backend, compiled):
    edge_index, weight = random_graph()
    weight = weight.float().requires_grad_(graph == "learned")
    given = (rescaled_laplacian(edge_index, weight, 30),) if graph == "operator" else (edge_index, weight)
    conv, x = ChebConv(4, 3, 4), torch.randn(2, 30, 4, requires_grad=True)
    fast = compiled(conv, backend=backend)
    torch.testing.assert_close(fast(x, *given), conv(x, *given))
    wanted = [x, conv.weight, *([weight] if graph == "learned" else [])]
    got, want = (torch.autograd.grad(f(x, *given).sin().sum(), wanted) for f in (fast, conv))
    torch.testing.assert_close(got, want)


def test_autocast_and_half_precision_filter_in_float32():
    operator, x, conv = operator_of(random_graph(), 30, torch.float32), torch.randn(30, 4), ChebConv(4, 3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(x, operator)
        torch.testing.assert_close(conv(x.bfloat16(), operator), conv(x.bfloat16().float(), operator))
    assert out.dtype == torch.float32
    assert torch.equal(out, conv(x, operator))
    low = copy.deepcopy(conv).bfloat16()(x.bfloat16(), operator)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), out, atol=0.2, rtol=0.1)


# ---- symmetries ----


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_commutes_with_a_quarter_turn_of_se2(dtype, tolerance):
    n, orientations = 8, 4
    operator = operator_of(se2_graph(n, orientations), n * n * orientations, dtype)
    turn, x = quarter_turn(n, orientations), torch.randn(n * n * orientations, 3, dtype=dtype)
    conv = ChebConv(3, 5, 4).to(dtype)
    torch.testing.assert_close(conv(x[turn], operator), conv(x, operator)[turn], atol=tolerance, rtol=0)
    in_space_only = quarter_turn(n, 2 * orientations)[: n * n].remainder(n * n)
    in_space_only = (torch.arange(orientations)[:, None] * n * n + in_space_only).reshape(-1)
    off = conv(x[in_space_only], operator) - conv(x, operator)[in_space_only]
    assert off.abs().max() > 1e-2  # the check has teeth: without the shift in theta it does not commute


def test_follows_a_permutation_of_the_nodes_and_leaves_samples_apart():
    (edge_index, weight), x = random_graph(), torch.randn(4, 30, 3, dtype=torch.float64)
    conv, order = ChebConv(3, 2, 4).double(), torch.randperm(30)
    out = conv(x, edge_index, weight)
    torch.testing.assert_close(conv(x[:, order], order.argsort()[edge_index], weight), out[:, order])
    torch.testing.assert_close(conv(x[2], edge_index, weight), out[2])
    batch = torch.cat([edge_index + 30 * b for b in range(4)], dim=1)  # PyG's block-diagonal batch
    torch.testing.assert_close(conv(x.reshape(120, 3), batch, weight.repeat(4)).view(4, 30, 2), out)


def test_isolated_nodes_and_an_empty_graph():
    conv = ChebConv(1, 1, 2, bias=False)
    x = torch.ones(3, 1)
    out = conv(x, torch.zeros(2, 0, dtype=torch.long))
    torch.testing.assert_close(out, x * (conv.weight[0] - conv.weight[1]))  # L = 0, so T_1 = -1
    assert conv(torch.ones(0, 3, 1), torch.tensor([[0, 1], [1, 0]])).shape == (0, 3, 1)


# ---- what it is built from, and when ----


def test_the_operator_is_built_once_and_never_stale(monkeypatch):
    built = []
    real = cheb_conv.rescaled_laplacian
    monkeypatch.setattr(cheb_conv, "rescaled_laplacian", lambda *a: built.append(1) or real(*a))
    (edge_index, weight), x = random_graph(), torch.randn(30, 3, dtype=torch.float64)
    conv = ChebConv(3, 2, 4).double()
    first = conv(x, edge_index, weight)
    assert torch.equal(conv(x, edge_index, weight), first)
    assert len(built) == 1

    for change in (lambda w: w.mul_(torch.rand_like(w)), lambda w: w.__setitem__(0, 9.0)):
        with torch.no_grad():
            change(weight)
        torch.testing.assert_close(conv(x, edge_index, weight), spectral(conv, x, edge_index, weight))
    assert len(built) == 3
    other = weight.clone()  # same values, another tensor
    conv(x, edge_index, other)
    edge_index[:, 0] = torch.tensor([3, 4])
    torch.testing.assert_close(conv(x, edge_index, other), conv(x, edge_index.clone(), other.clone()))
    conv(x[:, :].float().double(), edge_index)
    torch.testing.assert_close(conv(x, edge_index), conv(x, edge_index, torch.ones(edge_index.size(1)).double()))


def test_an_operator_first_built_in_inference_mode_serves_training():
    conv, x, edge_index = ChebConv(2, 2, 3), torch.randn(30, 2), random_graph()[0]
    with torch.inference_mode():
        want = conv(x, edge_index)
    out = conv(x, edge_index)
    torch.testing.assert_close(out, want)
    out.sum().backward()
    assert conv.weight.grad.abs().min() > 0


def test_the_cache_keeps_no_graph_alive_and_does_not_travel():
    (edge_index, weight), x, conv = random_graph(), torch.randn(30, 3, dtype=torch.float64), ChebConv(3, 2, 4).double()
    want = conv(x, edge_index, weight)
    alive = weakref.ref(edge_index)
    for other in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert other._cache._operator is None
        torch.testing.assert_close(other(x, edge_index, weight), want)
    del edge_index
    assert alive() is None


def test_follows_another_number_of_nodes_and_precision_on_the_same_edges():
    edge_index, conv = torch.tensor([[0, 1], [1, 0]]), ChebConv(1, 1, 3)
    assert conv(torch.ones(2, 1), edge_index).shape == (2, 1)
    assert conv(torch.ones(3, 1), edge_index).shape == (3, 1)
    assert conv.double()(torch.ones(3, 1).double(), edge_index).dtype == torch.float64


def test_accepts_sparse_adjacencies():
    (edge_index, weight), x = random_graph(), torch.randn(30, 3, dtype=torch.float64)
    conv = ChebConv(3, 2, 4).double()
    dense = torch.zeros(30, 30, dtype=torch.float64).index_put((edge_index[1], edge_index[0]), weight)
    want = conv(x, edge_index, weight)
    for adjacency in (dense.to_sparse_coo(), dense.to_sparse_csr()):
        torch.testing.assert_close(conv(x, adjacency), want)


def test_accepts_torch_sparse():
    sparse = pytest.importorskip("torch_sparse")
    (edge_index, weight), x = random_graph(), torch.randn(30, 3, dtype=torch.float64)
    conv = ChebConv(3, 2, 4).double()
    adj_t = sparse.SparseTensor(row=edge_index[1], col=edge_index[0], value=weight, sparse_sizes=(30, 30))
    torch.testing.assert_close(conv(x, adj_t), conv(x, edge_index, weight))


# ---- design and initialisation ----


def test_variance_at_initialisation_is_that_of_the_formula():
    operator = operator_of(random_graph(200, 1000), 200)
    eigenvalues = torch.linalg.eigvalsh(operator.to_dense()).clamp(-1, 1)
    wanted = 2 * torch.stack([torch.cos(j * eigenvalues.acos()).square().mean() for j in range(4)]).mean()
    conv = ChebConv(64, 256, 4).double()
    variance = conv(torch.randn(4, 200, 64, dtype=torch.float64), operator).detach().var()
    assert math.isclose(variance, wanted, rel_tol=0.05)
    assert 0.9 < wanted < 2.0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_from_response_filters_with_that_response(dtype, tolerance):
    (edge_index, weight), x = random_graph(), torch.randn(30, 2, dtype=torch.float64)
    responses = [[lambda s: torch.exp(-3 * s), lambda s: s.square()], [lambda s: 1 / (1 + s), lambda s: 0.5]]
    conv = ChebConv.from_response(responses, K=24, dtype=dtype)
    lam, vectors = torch.linalg.eigh(dense_laplacian(edge_index, weight, 30))
    want = torch.stack(
        [
            sum(vectors @ (torch.as_tensor(responses[i][o](lam)) * (vectors.T @ x[:, i])) for i in (0, 1))
            for o in (0, 1)
        ],
        dim=1,
    )
    got = conv(x.to(dtype), edge_index, weight.to(dtype))
    torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=0)


def test_from_response_of_a_polynomial_is_exact_with_few_terms():
    conv = ChebConv.from_response(lambda s: 1 + s + s**3, K=4, lambda_max=3.0, points=9, dtype=torch.float64)
    s = torch.linspace(0, 3, 7, dtype=torch.float64)
    angle = torch.acos((2 * s / 3 - 1).clamp(-1, 1))
    value = sum(conv.weight[j, 0, 0] * torch.cos(j * angle) for j in range(4))
    torch.testing.assert_close(value, 1 + s + s**3)
    assert ChebConv.from_response([lambda s: s, lambda s: s], K=2).weight.shape == (2, 1, 2)


# ---- bad input ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"K": 0}, "in_channels, out_channels and K must be positive, got 3, 2 and 0"),
        ({"path": "dense"}, "path must be one of auto, fused, clenshaw, reference, got 'dense'"),
        ({"normalization": "both"}, "normalization must be 'sym', 'rw' or None, got 'both'"),
        ({"lambda_max": 0.0}, "lambda_max must be positive and finite, got 0.0"),
        ({"lambda_max": math.nan}, "lambda_max must be positive and finite, got nan"),
        ({"lambda_max": math.inf}, "lambda_max must be positive and finite, got inf"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ChebConv(**{"in_channels": 3, "out_channels": 2, "K": 4} | arguments)


EDGES = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("x", "graph", "error", "message"),
    [
        (torch.ones(2, 4), (EDGES,), ValueError, r"x must have shape \[..., N, 3\], got \[2, 4\]"),
        (torch.ones(1, 1, 2, 3), (EDGES,), ValueError, r"x must have shape \[N, C\] or \[B, N, C\]"),
        (torch.ones(1, 3), (EDGES,), ValueError, "there are only 1 nodes"),
        (torch.ones(2, 3, dtype=torch.long), (EDGES,), TypeError, "x must be floating point"),
        (torch.ones(2, 3, dtype=torch.float64), (EDGES,), TypeError, "x must have the dtype of the layer"),
        (torch.ones(2, 3), (EDGES, torch.ones(3)), ValueError, r"edge_weight must have shape \[2\], got \[3\]"),
        (torch.ones(2, 3), (EDGES, -torch.ones(2)), ValueError, "edge_weight must not be negative"),
        (torch.ones(2, 3), (EDGES, torch.ones(2).long()), TypeError, "edge_weight must be a floating point"),
        (torch.ones(2, 3), (EDGES, torch.full((2,), torch.nan)), ValueError, "must be finite"),
        (torch.ones(2, 3), ("graph",), TypeError, "edge_index must be an integer tensor"),
        (torch.ones(3, 3), (SparseOperator.from_edges(EDGES, torch.ones(2), 2),), ValueError, "must have 2 nodes"),
        (
            torch.ones(2, 3),
            (SparseOperator.from_edges(EDGES, torch.ones(2), 2), torch.ones(2)),
            ValueError,
            "edge_weight goes with an edge_index",
        ),
        (
            torch.ones(2, 3),
            (SparseOperator.from_edges(EDGES, torch.ones(2), (2, 3)),),
            ValueError,
            "laplacian must be square",
        ),
        (
            torch.ones(2, 3),
            (SparseOperator.from_edges(EDGES, torch.ones(2).double(), 2),),
            TypeError,
            "x must have the dtype of the operator, torch.float64",
        ),
    ],
)
def test_bad_input_is_refused(x, graph, error, message):
    with pytest.raises(error, match=message):
        ChebConv(3, 2, 4)(x, *graph)


@pytest.mark.parametrize(
    ("response", "arguments", "message"),
    [
        (lambda s: s, {"K": 0}, "K and lambda_max must be positive"),
        (lambda s: s, {"K": 4, "points": 3}, "points at least K"),
        ([], {"K": 2}, "response must be a function"),
        ([[lambda s: s], []], {"K": 2}, "every pair of channels"),
        (lambda s: s / 0, {"K": 2}, "one finite number per frequency"),
        (lambda s: s[:1], {"K": 2}, "one finite number per frequency"),
    ],
)
def test_bad_responses_are_refused(response, arguments, message):
    with pytest.raises(ValueError, match=message):
        ChebConv.from_response(response, **arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("path", CHEB_PATHS)
def test_cuda_equals_cpu(path):
    operator, conv = operator_of(random_graph(), 30, torch.float32), ChebConv(4, 3, 4, path=path)
    x, results = torch.randn(5, 30, 4), []
    for device in ("cpu", "cuda"):
        y = x.to(device).requires_grad_()
        out = conv.to(device)(y, operator.to(device))
        results.append([t.cpu() for t in (out, *torch.autograd.grad(out.sin().sum(), (y, conv.weight)))])
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)

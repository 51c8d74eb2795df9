import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.data import Data

from geomeq.ops import SparseOperator
from geomeq.ops._kernels import PATHS
from tests.ops._graphs import random_edges

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}  # sums of up to 40 products of order one


def dense(edge_index, value, size):
    """The definition, edge by edge."""
    out = value.new_zeros(size[1], size[0])
    for e, (j, i) in enumerate(edge_index.T.tolist()):
        out[i, j] += value[e]
    return out


def symmetric_operator(nodes=12, edges=40, dtype=torch.float64):
    half = random_edges(edges, (nodes, nodes))
    value = torch.rand(edges, dtype=dtype)
    both = torch.cat([half, half.flip(0)], dim=1)
    return SparseOperator.from_edges(both, torch.cat([value, value]), nodes)


def skew_operator(dtype=torch.float64, size=(9, 7)):
    return SparseOperator.from_edges(random_edges(40, size), torch.randn(40, dtype=dtype), size)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 40),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from([(), (0,), (1,), (17,), (2, 3)]),
    st.integers(0, 2**16),
)
def test_equals_the_dense_matrix(sources, targets, edges, dtype, shape, seed):
    size = (sources, targets)
    edge_index, rng = random_edges(edges, size, seed), torch.Generator().manual_seed(seed)
    value, x = (
        torch.randn(n, generator=rng, dtype=dtype) for n in (edges, sources * max(1, torch.Size(shape).numel()))
    )
    x = x[: sources * torch.Size(shape).numel()].view(sources, *shape)
    operator, matrix = SparseOperator.from_edges(edge_index, value, size), dense(edge_index, value, size)
    torch.testing.assert_close(operator.to_dense(), matrix)
    want = (matrix @ x.reshape(sources, -1)).view(targets, *shape)
    for path in PATHS:
        torch.testing.assert_close(operator.matmul(x, path), want, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(operator.t().to_dense(), matrix.t())
    torch.testing.assert_close(operator.t().t().to_dense(), matrix)
    key = operator.edge_index[1] * sources + operator.edge_index[0]
    assert operator.edge_index.shape[1] == operator.num_entries
    assert (key.diff() > 0).all()  # sorted by target, then source; no repeats


def test_the_check_has_teeth():
    operator, x = skew_operator(size=(9, 9)), torch.randn(9, 4, dtype=torch.float64)
    assert not torch.allclose(operator @ x, operator.t() @ x, atol=1e-2)


def test_the_diagonal_joins_the_entries():
    edge_index, value = torch.tensor([[0, 1, 1], [1, 0, 1]]), torch.tensor([2.0, 3.0, 4.0])
    operator = SparseOperator.from_edges(edge_index, value, 2, diagonal=torch.tensor([10.0, 20.0]))
    assert operator.to_dense().tolist() == [[10.0, 3.0], [2.0, 24.0]]
    assert SparseOperator.from_edges(edge_index, value, 2, diagonal=-1.0).to_dense().tolist() == [[-1, 3], [2, 3]]


@pytest.mark.parametrize("operator", [skew_operator(), symmetric_operator()], ids=["skew", "symmetric"])
@pytest.mark.parametrize("path", PATHS)
def test_differentiable_twice(operator, path):
    x = torch.randn(operator.size[0], 3, dtype=torch.float64, requires_grad=True)
    value = operator.value.clone().requires_grad_()
    assert gradcheck(lambda x: operator.matmul(x, path), (x,), fast_mode=True)
    assert gradgradcheck(lambda x: operator.matmul(x, path).sin(), (x,), fast_mode=True)

    def learned(x, value):
        return operator.with_value(value).matmul(x, path).sin()

    assert gradcheck(learned, (x, value), fast_mode=True)
    assert gradgradcheck(learned, (x, value), fast_mode=True)


def test_gradient_reaches_values_through_sorting_and_summing():
    edge_index = torch.tensor([[0, 1, 1, 0], [1, 0, 0, 0]])
    value = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    x = torch.tensor([[5.0], [7.0]])
    (SparseOperator.from_edges(edge_index, value, 2, diagonal=1.0) @ x).sum().backward()
    assert value.grad.tolist() == [5.0, 7.0, 7.0, 5.0]


def test_symmetry_is_found_up_to_rounding_and_a_false_claim_refused():
    operator = symmetric_operator()
    assert operator.symmetric
    tilted = operator.value.clone()
    tilted[(operator.edge_index[0] != operator.edge_index[1]).nonzero()[0]] *= 1 + 1e-15
    assert operator.with_value(tilted).symmetric
    tilted[(operator.edge_index[0] != operator.edge_index[1]).nonzero()[0]] *= 1 + 1e-9
    assert not operator.with_value(tilted).symmetric
    assert not SparseOperator.from_edges(operator.edge_index, operator.value, 12, symmetric=False).symmetric
    with pytest.raises(ValueError, match="symmetric=True was given, but the value of some edge"):
        SparseOperator.from_edges(operator.edge_index, tilted, 12, symmetric=True)
    assert not skew_operator().symmetric


def test_a_symmetric_operator_stores_no_second_pattern():
    operator = symmetric_operator()
    assert operator.ptr_t is operator.ptr
    assert operator.col_t is operator.col
    assert operator.value_t is operator.value
    assert operator.col.dtype == torch.int32


@pytest.mark.parametrize("operator", [skew_operator(size=(9, 9)), symmetric_operator(9)], ids=["skew", "symmetric"])
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, SparseOperator.clone, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_copies_act_alike(operator, copied):
    x, other = torch.randn(9, 3, dtype=torch.float64), copied(operator)
    torch.testing.assert_close(other @ x, operator @ x)
    assert (other.size, other.symmetric) == (operator.size, operator.symmetric)


def test_moves_with_a_data_and_changes_precision():
    operator = skew_operator(size=(9, 9))
    data = Data(laplacian=operator, num_nodes=9).to("meta")
    assert data.laplacian.device.type == "meta"
    assert data.laplacian.ptr.device.type == "meta"
    assert operator.to("cpu") is operator
    single = operator.to(dtype=torch.float32)
    assert single.dtype == single.value_t.dtype == torch.float32
    assert single.col is operator.col
    assert operator.to(torch.float32).dtype == torch.float32
    x = torch.randn(9, 2)
    torch.testing.assert_close(single @ x, (operator @ x.double()).float())


@pytest.mark.parametrize("learned", [False, True])
def test_compiles_to_the_same_result(learned, compiled):
    operator = skew_operator(torch.float32, (9, 9))
    if learned:
        operator = operator.with_value(operator.value.requires_grad_())
    x = torch.randn(9, 4, requires_grad=True)
    function = compiled(lambda o, x: o.matmul(x).sin(), backend="aot_eager")
    torch.testing.assert_close(function(operator, x), operator.matmul(x).sin())
    got, want = (torch.autograd.grad(f(operator, x).sum(), x)[0] for f in (function, lambda o, x: o.matmul(x).sin()))
    torch.testing.assert_close(got, want)


def test_autocast_and_half_precision_sum_in_float32():
    operator, x = skew_operator(torch.float32), torch.randn(9, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert (operator @ x).dtype == torch.float32
        torch.testing.assert_close(operator @ x, operator @ x.clone())
    low = operator.to(torch.bfloat16) @ x.bfloat16()
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), operator @ x, atol=0.1, rtol=0.05)


def test_reads_sparse_adjacencies():
    operator = skew_operator()
    for matrix in (operator.to_dense().to_sparse_coo(), operator.to_dense().to_sparse_csr(), operator.to_torch()):
        torch.testing.assert_close(SparseOperator.from_edges(matrix).to_dense(), operator.to_dense())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"edge_index": torch.zeros(2, 3)}, TypeError, "edge_index must hold integers"),
        ({"edge_index": torch.full((2, 3), 5)}, ValueError, "there are only 4 nodes"),
        ({"value": torch.ones(2)}, ValueError, r"value must have shape \[3\], got \[2\]"),
        ({"value": torch.ones(3, dtype=torch.long)}, TypeError, "value must be floating point"),
        ({"value": torch.tensor([1.0, float("nan"), 2.0])}, ValueError, "value must be finite"),
        ({"size": (4, 5), "diagonal": 1.0}, ValueError, "diagonal needs a square operator"),
        ({"diagonal": torch.ones(3)}, ValueError, r"diagonal must have shape \[4\], got \[3\]"),
        ({"size": None}, ValueError, "size must be given"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    arguments = {"edge_index": torch.zeros(2, 3, dtype=torch.long), "size": 4} | arguments
    with pytest.raises(error, match=message):
        SparseOperator.from_edges(**arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.ones(8, 2), ValueError, "x must have 9 nodes on axis 0"),
        (torch.ones(9, 2, dtype=torch.long), TypeError, "x must be floating point"),
        (torch.ones(9, 2), TypeError, r"x must have the dtype of the operator, torch.float64"),
        (torch.ones(9, 2, device="meta"), ValueError, "x must lie on the device of the operator"),
        ([1.0] * 9, TypeError, "x must be a torch.Tensor"),
    ],
)
def test_bad_features_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        skew_operator() @ x


def test_isolated_nodes_and_an_empty_graph_give_zero():
    operator = SparseOperator.from_edges(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), 3)
    assert (operator @ torch.ones(3, 2)).eq(0).all()
    assert operator.symmetric


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    operator, x = skew_operator(torch.float32), torch.randn(9, 33)
    torch.testing.assert_close((operator.cuda() @ x.cuda()).cpu(), operator @ x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (torch.ones(3), ValueError, r"value must have shape \[1\], got \[3\]; one per entry"),
        (torch.tensor([float("nan")]), ValueError, "value must be finite"),
        (torch.ones(1, dtype=torch.long), TypeError, "value must be floating point"),
    ],
)
def test_bad_values_on_the_same_entries_are_refused(value, error, message):
    operator = SparseOperator.from_edges(torch.tensor([[0], [1]]), torch.ones(1), 2)
    with pytest.raises(error, match=message):
        operator.with_value(value)

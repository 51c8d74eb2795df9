"""Laplacian: the formula, its scale, and graphs of all kinds."""

import inspect
import math

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose
from torch_geometric.utils import get_laplacian, to_dense_adj

from geomeq.groups import S2, SE2, SO3, Rn
from geomeq.ops import SparseOperator
from geomeq.transforms import CutoffGraph, GroupGraph, Laplacian
from geomeq.transforms.laplacian import equalize

FLOATS = [(torch.float32, 1e-6), (torch.float64, 1e-13)]


def random_graph(nodes=20, seed=0, directed=False):
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(nodes, nodes, generator=generator, dtype=torch.float64)
    dense = dense * (torch.rand(nodes, nodes, generator=generator) < 0.3)
    dense.fill_diagonal_(0)
    dense = dense if directed else dense + dense.T
    target, source = dense.nonzero().T
    return Data(edge_index=torch.stack([source, target]), edge_weight=dense[target, source], num_nodes=nodes), dense


def formula(dense, normalization):
    degree = dense.sum(dim=1)
    if normalization is None:
        return torch.diag(degree) - dense
    if normalization == "rw":
        return torch.diag((degree > 0).double()) - dense / degree.where(degree > 0, 1.0)[:, None]
    root = degree.where(degree > 0, 1.0).rsqrt()
    return torch.diag((degree > 0).double()) - root[:, None] * dense * root


@pytest.mark.parametrize(("dtype", "tolerance"), FLOATS)
@pytest.mark.parametrize("lambda_max", [None, "power", 30.0])
@pytest.mark.parametrize("normalization", ["sym", "rw", None])
def test_operator_is_the_formula(normalization, lambda_max, dtype, tolerance):
    data, dense = random_graph()
    data = Laplacian(normalization, lambda_max, dtype)(data)
    expected = 2 * formula(dense, normalization) / data.lambda_max - torch.eye(20)
    assert isinstance(data.laplacian, SparseOperator)
    assert data.laplacian.dtype == dtype
    torch.testing.assert_close(data.laplacian.to_dense(), expected.to(dtype), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("normalization", ["sym", "rw", None])
def test_agrees_with_pyg(normalization):
    data, _ = random_graph(seed=3)
    edges, weight = get_laplacian(data.edge_index, data.edge_weight, normalization, num_nodes=20)
    theirs = to_dense_adj(edges, edge_attr=weight, max_num_nodes=20)[0]  # as matrices; the graph is undirected
    ours = Laplacian(normalization, dtype=torch.float64)(data)
    torch.testing.assert_close((ours.laplacian.to_dense() + torch.eye(20)) * ours.lambda_max / 2, theirs)


@pytest.mark.parametrize("normalization", ["sym", "rw", None])
@pytest.mark.parametrize("nodes", [2, 20, 120])
def test_largest_eigenvalue_is_never_below_and_within_one_percent(nodes, normalization):
    data, dense = random_graph(nodes, seed=nodes)
    dense = dense if bool(dense.any()) else torch.ones(2, 2, dtype=torch.float64).fill_diagonal_(0)
    source, target = dense.nonzero().T
    data = Data(edge_index=torch.stack([source, target]), edge_weight=dense[source, target], num_nodes=nodes)
    top = float(torch.linalg.eigvals(formula(dense, normalization)).real.max())
    found = Laplacian(normalization, "power")(data).lambda_max
    assert top * (1 - 1e-12) <= found <= 1.01 * top
    bound = Laplacian(normalization)(data).lambda_max
    assert found <= bound * (1 + 1e-12)
    if normalization is not None:
        assert bound == 2.0


@pytest.mark.parametrize(("group", "size"), [(SE2(), (10, 10, 6)), (SO3(), (1, 6)), (S2(), 2), (Rn(2), (12, 12))])
def test_spectrum_of_group_graphs(group, size):
    graph = GroupGraph(group, size)(Data())
    plain = torch.linalg.eigvalsh(Laplacian(dtype=torch.float64)(graph).laplacian.to_dense()) + 1
    assert float(plain[0]) > -1e-12
    assert float(plain[-1]) <= 2
    scaled = Laplacian(lambda_max="power", dtype=torch.float64)(graph)
    assert float(plain[-1]) <= scaled.lambda_max <= 1.01 * float(plain[-1])
    assert scaled.lambda_max < 1.7  # far from the bound of 2: the scale makes a difference
    spectrum = torch.linalg.eigvalsh(scaled.laplacian.to_dense())
    assert float(spectrum[0]) >= -1 - 1e-12
    assert 0.98 <= float(spectrum[-1]) <= 1


def test_isolated_nodes_have_a_row_of_zeros():
    data = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), num_nodes=4)
    for normalization in ("sym", "rw", None):
        for lambda_max in (None, "power"):
            out = Laplacian(normalization, lambda_max, torch.float64)(data)
            unscaled = (out.laplacian.to_dense() + torch.eye(4)) * out.lambda_max / 2
            expected = torch.tensor([[1.0, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
            torch.testing.assert_close(unscaled, expected)
    empty = Laplacian("sym", "power")(Data(edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=3))
    torch.testing.assert_close(empty.laplacian.to_dense(), -torch.eye(3))


def test_loops_are_left_out_and_repeats_summed():
    edges = torch.tensor([[0, 1, 0, 1, 1], [1, 0, 1, 0, 1]])
    weight = torch.tensor([1.0, 1, 2, 2, 7])
    data = Data(edge_index=edges, edge_weight=weight, num_nodes=2)
    expected = torch.tensor([[0.0, -1], [-1, 0]])
    torch.testing.assert_close(Laplacian(None, 6.0)(data).laplacian.to_dense(), expected)
    once = Data(edge_index=edges[:, :2], edge_weight=torch.tensor([3.0, 3]), num_nodes=2)
    torch.testing.assert_close(Laplacian(None, 6.0)(once).laplacian.to_dense(), expected)


def test_directed_graphs():
    data, dense = random_graph(directed=True)
    out = Laplacian("rw", dtype=torch.float64)(data)
    torch.testing.assert_close(out.laplacian.to_dense() + torch.eye(20), formula(dense, "rw"))
    assert not out.laplacian.symmetric
    with pytest.raises(ValueError, match="normalization='sym' needs a graph with the same weight both ways"):
        Laplacian()(data)
    for normalization in ("rw", None):
        with pytest.raises(ValueError, match="eigenvalues of others are not real"):
            Laplacian(normalization, "power")(data)
    assert Laplacian("rw", 1.5)(data).lambda_max == 1.5  # cannot be checked


def test_default_precision_is_that_of_features():
    data, _ = random_graph()
    assert Laplacian()(data).laplacian.dtype == torch.float32
    x = torch.randn(20, 3)
    torch.testing.assert_close(
        Laplacian()(data).laplacian @ x, (Laplacian(dtype=torch.float64)(data).laplacian @ x.double()).float()
    )


def test_each_call_has_its_own_scale_and_precision():
    """The reference caches whichever rescaling came first."""
    data, _ = random_graph()
    first = Laplacian()(data)
    second = Laplacian(lambda_max="power", dtype=torch.float64)(first)
    assert second.laplacian.dtype == torch.float64
    assert second.lambda_max != first.lambda_max
    assert first.lambda_max == 2.0
    assert not torch.allclose(first.laplacian.to_dense().double(), second.laplacian.to_dense())


@pytest.mark.parametrize("lambda_max", [None, "power"])
@pytest.mark.parametrize("normalization", ["sym", None])
def test_a_batch_equals_its_graphs(normalization, lambda_max):
    parts = [random_graph(nodes, seed=nodes)[0] for nodes in (7, 80, 12)]
    transform = Laplacian(normalization, lambda_max, torch.float64)
    batch = transform(Batch.from_data_list(parts))
    alone = [transform(part) for part in parts]
    expected = torch.block_diag(*[part.laplacian.to_dense() for part in alone])
    torch.testing.assert_close(batch.laplacian.to_dense(), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(batch.lambda_max, torch.tensor([part.lambda_max for part in alone]).double())


def test_reads_sparse_adjacencies_too():
    data, dense = random_graph(directed=True)
    sparse = Data(adj_t=dense.to_sparse_csr(), num_nodes=20)
    torch.testing.assert_close(Laplacian("rw")(sparse).laplacian.to_dense(), Laplacian("rw")(data).laplacian.to_dense())


def test_new_edges_remove_the_old_operator():
    data = Compose([CutoffGraph(1.5), Laplacian()])(Data(pos=torch.randn(6, 3)))
    assert "laplacian" in data
    again = CutoffGraph(1.0)(data)
    assert "laplacian" not in again
    assert "lambda_max" not in again


def test_equal_numbers_become_the_same():
    value = torch.tensor([0.3, 0.1 + 0.2, 1.0, -0.5, 1.0 + 1e-9, 0.0, -0.5 * (1 + 2e-16)], dtype=torch.float64)
    assert value[0] != value[1]
    out = equalize(value)
    torch.testing.assert_close(out, value, rtol=1e-13, atol=0)
    assert out[0] == out[1]
    assert out[2] != out[4]
    assert out[3] == out[6]
    assert equalize(value[:0]).numel() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normalization": "symmetric"}, "normalization must be 'sym', 'rw' or None, got 'symmetric'"),
        ({"lambda_max": 0.0}, "lambda_max must be a positive number, 'power' or None"),
        ({"lambda_max": True}, "lambda_max must be a positive number"),
        ({"lambda_max": float("inf")}, "lambda_max must be a positive number"),
        ({"lambda_max": "lanczos"}, "lambda_max must be a positive number"),
        ({"dtype": torch.int32}, "dtype must be floating point"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Laplacian(**arguments)


def test_bad_graphs():
    data, _ = random_graph()
    with pytest.raises(ValueError, match=r"Laplacian reads edge_index, but the data has only \['x'\]"):
        Laplacian()(Data(x=torch.zeros(3, 1)))
    for value, message in ((-1.0, "not be negative"), (math.nan, "must be finite"), (math.inf, "must be finite")):
        bad = data.clone()
        bad.edge_weight[3] = value
        with pytest.raises(ValueError, match=message):
            Laplacian()(bad)
    with pytest.raises(TypeError, match="floating point"):
        Laplacian()(Data(edge_index=data.edge_index, edge_weight=torch.ones(data.num_edges).long(), num_nodes=20))
    with pytest.raises(ValueError, match=r"lambda_max=1.0 is below the largest eigenvalue, 1\."):
        Laplacian(lambda_max=1.0)(data)


def test_repr_names_every_argument():
    for name in inspect.signature(Laplacian.__init__).parameters:
        assert name == "self" or f"{name}=" in repr(Laplacian())

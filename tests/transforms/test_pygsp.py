import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geomeq.groups import S2, SE2
from geomeq.nn import ChebConv
from geomeq.transforms import GroupGraph, Laplacian, NearestGraph, from_pygsp, to_pygsp

pygsp = pytest.importorskip("pygsp")

TOLERANCE = [(torch.float32, 1e-4), (torch.float64, 1e-10)]


@pytest.fixture(scope="module")
def graph():
    return GroupGraph(SE2(), size=(6, 6, 4), k=8, anisotropy=0.2)(Data())


@pytest.mark.parametrize("normalization", ["sym", None])
def test_its_laplacian_is_the_one_that_layers_get(graph, normalization):
    data = Laplacian(normalization, dtype=torch.float64)(graph.clone())
    rescaled = data.laplacian.to_dense() + torch.eye(graph.num_nodes, dtype=torch.float64)
    theirs = torch.from_numpy(to_pygsp(graph, normalization).L.toarray())
    torch.testing.assert_close(rescaled * data.lambda_max / 2, theirs, atol=1e-12, rtol=0)


def test_spectrum_lies_in_0_to_2_and_the_power_estimate_is_above_it(graph):
    bridge = to_pygsp(graph)
    bridge.compute_fourier_basis()
    assert bridge.e.min() > -1e-12
    assert bridge.e.max() < 2
    assert bridge.is_connected()
    estimate = Laplacian(lambda_max="power")(graph.clone()).lambda_max
    assert bridge.e.max() <= estimate <= 1.01 * bridge.e.max()


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("normalization", ["sym", None])
@pytest.mark.parametrize("K", [3, 12])
def test_cheb_conv_is_pygsps_chebyshev_filter(graph, dtype, tolerance, normalization, K):
    bridge = to_pygsp(graph, normalization)
    bridge.compute_fourier_basis()  # so that its lmax is the largest eigenvalue
    bank = pygsp.filters.MexicanHat(bridge, Nf=3)
    conv = ChebConv.from_response(bank, K, lambda_max=bridge.lmax, dtype=dtype)
    data = Laplacian(normalization, lambda_max=float(bridge.lmax), dtype=dtype)(graph.clone())
    x = torch.randn(graph.num_nodes, 5, dtype=torch.float64)
    want = torch.from_numpy(bank.filter(x.numpy(), method="chebyshev", order=K - 1))  # [N, 5, 3]
    got = torch.stack([conv(x[:, i : i + 1].to(dtype), data.laplacian) for i in range(5)], dim=1)
    torch.testing.assert_close(got.double(), want, atol=tolerance, rtol=0)
    assert not torch.allclose(got.double(), want.flip(2), atol=1e-2)  # the check has teeth


def test_enough_terms_give_the_exact_filter(graph):
    bridge = to_pygsp(graph)
    bridge.compute_fourier_basis()
    bank = pygsp.filters.Heat(bridge, scale=[1, 10])
    conv = ChebConv.from_response(bank, K=30, lambda_max=bridge.lmax, dtype=torch.float64)
    data = Laplacian(lambda_max=float(bridge.lmax), dtype=torch.float64)(graph.clone())
    x = torch.randn(graph.num_nodes, 1, dtype=torch.float64)
    want = torch.from_numpy(bank.filter(x.numpy()[:, 0], method="exact"))
    torch.testing.assert_close(conv(x, data.laplacian), want, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back(graph, dtype):
    back = from_pygsp(to_pygsp(graph), dtype)
    assert torch.equal(back.edge_index, graph.edge_index)
    torch.testing.assert_close(back.edge_weight, graph.edge_weight.to(dtype))
    torch.testing.assert_close(back.pos, graph.pos.to(dtype))
    assert back.num_nodes == graph.num_nodes


def test_graphs_of_pygsp_come_over():
    for theirs in (pygsp.graphs.Grid2d(4, 3), pygsp.graphs.Ring(7), pygsp.graphs.Sensor(20, seed=1)):
        data = Laplacian(None, dtype=torch.float64)(from_pygsp(theirs))
        want = torch.from_numpy(theirs.W.toarray()).double()
        got = torch.zeros_like(want).index_put((data.edge_index[0], data.edge_index[1]), data.edge_weight)
        torch.testing.assert_close(got, want)
        assert data.num_nodes == theirs.N


def test_a_directed_graph_keeps_its_direction():
    weights = np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 5.0]])  # 0 -> 1 -> 2, and a loop
    data = from_pygsp(pygsp.graphs.Graph(weights))
    assert data.edge_index.tolist() == [[0, 1], [1, 2]]
    assert data.edge_weight.tolist() == [2.0, 3.0]
    np.testing.assert_array_equal(to_pygsp(data, None).W.toarray(), weights * (1 - np.eye(3)))


def test_repeats_isolated_nodes_and_other_dimensions():
    data = Data(edge_index=torch.tensor([[0, 0, 1], [1, 1, 0]]), num_nodes=3, pos=torch.zeros(3, 4))
    bridge = to_pygsp(data)
    assert bridge.W.toarray().tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0]]
    assert bridge.N == 3
    assert not hasattr(bridge, "coords") or bridge.coords is None
    sphere = GroupGraph(S2(), 1, k=6)(Data())
    assert to_pygsp(sphere).coords.shape == (42, 3)
    cloud = NearestGraph(3)(Data(pos=torch.rand(10, 3)))
    assert to_pygsp(cloud, None).W.sum() == cloud.num_edges


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: to_pygsp(Data(num_nodes=3)), ValueError, "to_pygsp reads edge_index"),
        (lambda: to_pygsp(Data(edge_index=torch.zeros(2, 0).long(), num_nodes=3), "rw"), ValueError, "no random-walk"),
        (
            lambda: to_pygsp(Data(edge_index=torch.zeros(2, 2).long(), edge_weight=torch.ones(3), num_nodes=3)),
            ValueError,
            r"edge_weight must have shape \[2\], got \[3\]",
        ),
        (lambda: to_pygsp("graph"), TypeError, "Data"),
        (lambda: from_pygsp("graph"), TypeError, "graph must be a pygsp.graphs.Graph, got str"),
        (lambda: from_pygsp(pygsp.graphs.Graph([[0.0, -1.0], [-1.0, 0.0]])), ValueError, "must not be negative"),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()

import copy

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric.data import Data

from geomeq.groups import SE2
from geomeq.nn import ChebConv, LearnableMetric
from geomeq.ops import rescaled_laplacian
from geomeq.transforms import GroupGraph

BLOCKS = [(0, 1), (2,)]


@pytest.fixture(scope="module")
def graph():
    return GroupGraph(SE2(), size=(6, 6, 4), k=8, anisotropy=0.2, xi=0.5)(Data())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_starts_at_the_weights_of_the_graph(graph, dtype, tolerance):
    for metric in (
        LearnableMetric.from_graph(graph),
        LearnableMetric.from_graph(graph, BLOCKS),
        LearnableMetric.from_anisotropy(epsilon=0.2**0.5, xi=0.5),
    ):
        weight = metric(graph.edge_log.to(dtype))
        torch.testing.assert_close(weight, graph.edge_weight.to(dtype), atol=tolerance, rtol=0)
    other = LearnableMetric.from_anisotropy(epsilon=1.0, xi=0.5)
    assert (other(graph.edge_log) - graph.edge_weight).abs().max() > 0.1  # the check has teeth


def test_takes_the_bandwidth_of_the_graph_along():
    graph = GroupGraph(SE2(), size=(6, 6, 4), k=8, anisotropy=0.2, bandwidth=0.5)(Data())
    torch.testing.assert_close(LearnableMetric.from_graph(graph)(graph.edge_log), graph.edge_weight)


def test_a_node_whose_weights_vanish_is_isolated():
    edge_index = torch.tensor([[0, 0, 1, 1, 2, 3], [1, 2, 0, 3, 0, 1]])
    edge_log = torch.tensor([[1e-3, 0.0], [0.0, 1.0], [1e-3, 0.0], [1e-3, 0.0], [0.0, 1.0], [1e-3, 0.0]])
    metric = LearnableMetric([1.0, 1.0], bandwidth=1e-3).float()
    operator = metric.laplacian(edge_index, edge_log, 4)  # node 2 has one edge, of weight exp(-750) = 0 in float32
    want = rescaled_laplacian(edge_index, metric(edge_log), 4).to_dense()
    torch.testing.assert_close(operator.to_dense(), want)
    assert want[2].tolist() == [0, 0, -1, 0]
    operator.to_dense().square().sum().backward()
    assert metric.log_scale.grad.isfinite().all()


def test_is_the_formula():
    matrix = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    metric, c = LearnableMetric(matrix, BLOCKS, bandwidth=0.3), torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(metric.metric, matrix)
    square = torch.stack([v @ matrix @ v for v in c])
    torch.testing.assert_close(metric(c), torch.exp(-square / (4 * 0.3 * square.mean())))
    assert metric.metric[0, 2] == 0


def test_scale_cancels_and_names_say_the_shape(graph):
    one, ten = LearnableMetric([1.0, 4.0, 9.0]), LearnableMetric([10.0, 40.0, 90.0])
    torch.testing.assert_close(one(graph.edge_log), ten(graph.edge_log))
    assert (one.epsilon, ten.epsilon) == pytest.approx((0.5, 0.5))
    assert (one.xi, ten.xi) == pytest.approx((3.0, 3.0))


def test_differentiable_twice_down_to_the_metric(graph):
    metric = LearnableMetric.from_graph(graph, BLOCKS)
    conv, x = ChebConv(2, 2, 3).double(), torch.randn(graph.num_nodes, 2, dtype=torch.float64)

    def run(log_scale, mix):
        parameters = {"log_scale": log_scale, "mix": mix}
        weight = torch.func.functional_call(metric, parameters, (graph.edge_log,))
        return conv(x, rescaled_laplacian(graph.edge_index, weight, graph.num_nodes)).square().mean()

    inputs = tuple(p.detach().clone().requires_grad_() for p in (metric.log_scale, metric.mix))
    assert gradcheck(run, inputs)
    assert gradgradcheck(run, inputs)


def test_its_laplacian_is_that_of_its_weights_with_the_same_gradient(graph):
    metric = LearnableMetric.from_graph(graph)
    conv, x = ChebConv(2, 2, 3).double(), torch.randn(graph.num_nodes, 2, dtype=torch.float64)
    results = []
    for shuffled in (False, True):  # in another order of edges the values cannot just be put in
        order = torch.randperm(graph.num_edges) if shuffled else torch.arange(graph.num_edges)
        edge_index, edge_log = graph.edge_index[:, order], graph.edge_log[order]
        for _ in range(2):
            operator = metric.laplacian(edge_index, edge_log, graph.num_nodes)
            out = conv(x, operator)
            results.append((out, *torch.autograd.grad(out.square().sum(), (metric.log_scale,))))
    want = conv(x, graph.edge_index, metric(graph.edge_log))
    for out, gradient in results:
        torch.testing.assert_close(out, want)
        torch.testing.assert_close(gradient, results[0][1])
    assert results[0][1].abs().max() > 1e-3


def test_the_metric_a_signal_was_filtered_with_is_found_again(graph):
    hidden, metric = LearnableMetric([1.0, 9.0, 0.5]), LearnableMetric([1.0, 2.0, 0.25])
    x = torch.randn(8, graph.num_nodes, 1, dtype=torch.float64)
    conv = ChebConv.from_response(lambda s: torch.exp(-3 * s), K=6, dtype=torch.float64)
    with torch.no_grad():
        y = conv(x, hidden.laplacian(graph.edge_index, graph.edge_log, graph.num_nodes))
    optimizer = torch.optim.LBFGS(metric.parameters(), max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (conv(x, metric.laplacian(graph.edge_index, graph.edge_log, graph.num_nodes)) - y).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert metric.epsilon == pytest.approx(hidden.epsilon, rel=1e-3)
    assert metric.xi == pytest.approx(hidden.xi, rel=1e-3)
    metric.reset_parameters()
    assert metric.epsilon == pytest.approx(0.5**0.5)


def test_copies_casts_and_saves():
    metric = LearnableMetric([1.0, 4.0, 9.0])
    single = copy.deepcopy(metric).float()
    c = torch.randn(10, 3)
    torch.testing.assert_close(single(c), metric(c.double()).float())
    other = LearnableMetric([1.0, 1.0, 1.0])
    other.load_state_dict(metric.state_dict())
    assert other.epsilon == metric.epsilon
    assert metric(torch.zeros(0, 3)).shape == (0,)


def test_compiles(graph, compiled):
    metric, conv = LearnableMetric.from_graph(graph), ChebConv(1, 1, 3).double()
    x = torch.randn(graph.num_nodes, 1, dtype=torch.float64)

    def run(edge_index, edge_log):
        return conv(x, metric.laplacian(edge_index, edge_log, 144)).square().sum()

    got = torch.autograd.grad(compiled(run, backend="aot_eager")(graph.edge_index, graph.edge_log), metric.log_scale)
    torch.testing.assert_close(got, torch.autograd.grad(run(graph.edge_index, graph.edge_log), metric.log_scale))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LearnableMetric([1.0, 0.0, 1.0]), "metric must be positive definite"),
        (lambda: LearnableMetric(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "metric must be finite and symmetric"),
        (lambda: LearnableMetric(torch.ones(2, 3)), r"metric must have shape \[dim\] or \[dim, dim\]"),
        (lambda: LearnableMetric(torch.eye(2) + 0.5), "must not mix axes of different blocks"),
        (lambda: LearnableMetric([1.0, 1.0], [(0,)]), "blocks must name every axis"),
        (lambda: LearnableMetric([1.0], bandwidth=0.0), "bandwidth must be positive"),
        (lambda: LearnableMetric.from_anisotropy(0.0, 1.0), "epsilon and xi must be positive"),
        (lambda: LearnableMetric.from_graph(Data()), "the graph has no metric"),
        (lambda: LearnableMetric([1.0, 1.0])(torch.zeros(4, 3)), r"edge_log must have shape \[E, 2\]"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""GraphDropout: what it keeps, how often, and what it leaves alone."""

import inspect
import math

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose

from geomeq.groups import SE2
from geomeq.transforms import GraphDropout, GroupGraph, Laplacian


def graph():
    return GroupGraph(SE2(), (6, 6, 4), k=12)(Data())


@pytest.mark.parametrize("by", ["edge", "vertex"])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_both_directions_stay_or_go(p, by):
    full = graph()
    part = GraphDropout(p, by)(full)
    assert part.is_undirected()
    assert part.num_nodes == full.num_nodes
    place = {edge: number for number, edge in enumerate(map(tuple, full.edge_index.T.tolist()))}
    kept = torch.tensor([place[edge] for edge in map(tuple, part.edge_index.T.tolist())], dtype=torch.long)
    assert bool((kept.diff() > 0).all())  # sorted as before
    for key in ("edge_weight", "edge_log", "edge_sqdist"):
        assert torch.equal(part[key], full[key][kept])
    if by == "edge":
        assert part.num_edges == 2 * round((1 - p) * full.num_edges / 2)
    else:
        assert int(part.node_mask.sum()) == round((1 - p) * full.num_nodes)
        assert torch.equal(kept, part.node_mask[full.edge_index].all(dim=0).nonzero()[:, 0])
    assert (p == 0) == torch.equal(part.edge_index, full.edge_index)
    assert full.num_edges == graph().num_edges  # the argument is as it was
    operator = Laplacian()(part).laplacian
    assert operator.symmetric
    assert bool(torch.isfinite(operator.value).all())


def test_heavy_edges_are_kept_in_proportion_to_their_weight():
    """One edge out of three, drawn with probabilities 1/6, 2/6, 3/6."""
    edges = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    data = Data(edge_index=edges, edge_weight=torch.tensor([1.0, 1, 2, 2, 3, 3]), num_nodes=4)
    transform = GraphDropout(2 / 3, generator=torch.Generator().manual_seed(0))
    count = torch.zeros(3)
    for _ in range(1000):
        (kept,) = transform(data).edge_weight.unique().tolist()
        count[int(kept) - 1] += 1
    torch.testing.assert_close(count / 1000, torch.tensor([1.0, 2, 3]) / 6, atol=0.05, rtol=0)


def test_weightless_edges_go_first():
    data = Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), edge_weight=torch.tensor([0.0, 0, 1, 1]))
    data.num_nodes = 3
    for _ in range(20):
        assert GraphDropout(0.5)(data).edge_index.tolist() == [[1, 2], [2, 1]]


def test_each_call_draws_anew_and_seeds_repeat():
    full = graph()
    transform = GraphDropout(0.5, generator=torch.Generator().manual_seed(1))
    first, second = transform(full), transform(full)
    assert not torch.equal(first.edge_index, second.edge_index)
    again = GraphDropout(0.5, generator=torch.Generator().manual_seed(1))(full)
    assert torch.equal(first.edge_index, again.edge_index)


def test_the_operator_is_that_of_the_subgraph():
    full = Laplacian()(graph())
    part = GraphDropout(0.5)(full)
    assert "laplacian" not in part
    fresh = Compose([GraphDropout(0.5), Laplacian()])(full)
    assert fresh.laplacian.num_entries < full.laplacian.num_entries


def test_directed_edges_and_other_attributes():
    data = Data(edge_index=torch.tensor([[0, 1, 2, 3], [1, 2, 3, 3]]), edge_attr=torch.arange(4.0), x=torch.ones(4, 1))
    data.shift = torch.zeros(4, 3)
    part = GraphDropout(0.5)(data)
    assert part.num_edges == 2
    assert part.shift.shape == (2, 3)
    assert torch.equal(part.edge_index[0].float(), part.edge_attr)
    assert torch.equal(part.x, data.x)


def test_an_adjacency_that_is_kept_beside_goes():
    data = Data(edge_index=torch.tensor([[0, 1, 2], [1, 2, 0]]), num_nodes=3)
    data.adj_t = torch.eye(3).to_sparse()  # three rows, as many as edges
    assert "adj_t" not in GraphDropout(0.5)(data)


def test_batches():
    parts = [graph(), GroupGraph(SE2(), (5, 5, 4), k=12)(Data())]
    batch = GraphDropout(0.4)(Batch.from_data_list(parts))
    for before, after in zip(parts, batch.to_data_list(), strict=True):
        assert 0 < after.num_edges < before.num_edges
        assert after.is_undirected()
        assert after.edge_log.shape == (after.num_edges, 3)


def test_bad_input():
    for p in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="p must be at least 0 and less than 1"):
            GraphDropout(p)
    with pytest.raises(ValueError, match="by must be 'edge' or 'vertex', got 'node'"):
        GraphDropout(by="node")
    with pytest.raises(ValueError, match="reads edge_index"):
        GraphDropout()(Data(x=torch.zeros(3, 1)))
    negative = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), edge_weight=-torch.ones(2), num_nodes=2)
    with pytest.raises(ValueError, match="must not be negative"):
        GraphDropout()(negative)
    with pytest.raises(ValueError, match="edge_weight must be finite"):
        GraphDropout()(Data(edge_index=negative.edge_index, edge_weight=torch.tensor([1.0, math.nan]), num_nodes=2))
    with pytest.raises(ValueError, match=r"edge_weight must have shape \[2\], got \[1\]"):
        GraphDropout()(Data(edge_index=negative.edge_index, edge_weight=torch.ones(1), num_nodes=2))
    with pytest.raises(TypeError, match="needs a torch_geometric Data"):
        GraphDropout()(torch.zeros(2))


def test_repr_names_every_argument():
    for name in inspect.signature(GraphDropout.__init__).parameters:
        assert name == "self" or f"{name}=" in repr(GraphDropout())

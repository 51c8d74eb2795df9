"""Many signals on one graph."""

import pytest
import torch
from torch.utils.data import Subset
from torch_geometric.data import Data

from geomeq.datasets import SharedGraphDataset, SharedGraphLoader


def ring(n=6):
    target = torch.arange(n).repeat_interleave(2)
    source = torch.stack([(torch.arange(n) - 1) % n, (torch.arange(n) + 1) % n], dim=1).flatten()
    return Data(edge_index=torch.stack([source, target]), pos=torch.randn(n, 3))


@pytest.fixture
def samples():
    torch.manual_seed(0)
    return SharedGraphDataset(ring(), torch.randn(10, 6, 2), torch.randn(10, 1))


def test_a_batch_stacks_signals_and_shares_edges(samples):
    loader = SharedGraphLoader(samples, batch_size=4)
    batches = list(loader)
    assert [b.x.shape for b in batches] == [(4, 6, 2), (4, 6, 2), (2, 6, 2)]
    assert torch.equal(torch.cat([b.x for b in batches]), samples.x)
    assert batches[0].y.shape == (4,)  # PyG's leading axis of a target per graph is dropped
    assert all(b.edge_index.data_ptr() == samples.graph.edge_index.data_ptr() for b in batches)
    assert all(b.num_nodes == 6 for b in batches)
    assert "x" not in samples.graph  # the graph itself is left as it was


def test_a_batch_equals_its_samples_one_by_one(samples):
    def mean_of_neighbours(x, edge_index):
        out = torch.zeros_like(x).index_add_(-2, edge_index[1], x[..., edge_index[0], :])
        return out / 2

    (batch,) = SharedGraphLoader(samples, batch_size=10)
    together = mean_of_neighbours(batch.x, batch.edge_index)
    for k, sample in enumerate(samples):
        torch.testing.assert_close(together[k], mean_of_neighbours(sample.x, samples.graph.edge_index))


def test_node_targets_transforms_workers_and_subsets():
    graph = ring()
    samples = SharedGraphDataset(graph, torch.ones(8, 6, 2), torch.zeros(8, 6, 3), lambda d: Data(x=d.x * 2, y=d.y))
    loader = SharedGraphLoader(Subset(samples, [0, 2, 4]), batch_size=2, num_workers=1)
    first, second = loader
    assert first.y.shape == (2, 6, 3)
    assert second.x.shape == (1, 6, 2)
    assert (first.x == 2).all()


def test_shuffle_is_seeded_by_the_generator(samples):
    def order(seed):
        loader = SharedGraphLoader(samples, 5, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return torch.cat([b.x for b in loader])

    assert torch.equal(order(0), order(0))
    assert not torch.equal(order(0), order(1))


def test_bad_input_is_named(samples):
    graph = samples.graph
    with pytest.raises(ValueError, match=r"x must have shape \[S, 6, C\] on this graph, got \[10, 5, 2\]"):
        SharedGraphDataset(graph, torch.zeros(10, 5, 2))
    with pytest.raises(ValueError, match=r"y must have shape \[10, ...\], one target per signal, got \[9\]"):
        SharedGraphDataset(graph, torch.zeros(10, 6, 2), torch.zeros(9))
    with pytest.raises(ValueError, match="list has no graph"):
        SharedGraphLoader([Data(x=torch.zeros(6, 2))])
    with pytest.raises(ValueError, match="a sample brings edge_index of its own"):
        next(iter(SharedGraphLoader([graph], graph=graph)))
    with pytest.raises(ValueError, match=r"x of each sample must have shape \[6, C\], got \[5, 2\]"):
        next(iter(SharedGraphLoader([Data(x=torch.zeros(5, 2))], graph=graph)))
    with pytest.raises(IndexError, match="index must be within 10 samples, got 10"):
        samples[10]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_graph_is_moved_once(samples):
    loader = SharedGraphLoader(samples, batch_size=4, device="cuda")
    a, b, _ = loader
    assert a.x.is_cuda
    assert a.edge_index.data_ptr() == b.edge_index.data_ptr()

"""Networks on surfaces that answer for whole graphs: which nodes belong to which graph."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.models import GEMCNN, GEMCNNConfig, HarmonicNet, HarmonicNetConfig, SpinNet, SpinNetConfig
from tests.nn._gauge import Surface, features

TYPES = "2x0+1x1"
MODELS = {
    "GEMCNN": lambda: GEMCNN(GEMCNNConfig(TYPES, "3x0", task="graph", channels=4, num_blocks=1, head=8)),
    "SpinNet": lambda: SpinNet(
        SpinNetConfig(TYPES, "3x0", cutoff=1.0, types_hidden="4x0+4x1", num_blocks=1, task="graph")
    ),
    "HarmonicNet": lambda: HarmonicNet(
        HarmonicNetConfig.graph(1.0, types_in=TYPES, channels=(4,), num_classes=3, basis="hat")
    ),
}
each = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def graph(nodes: int = 12) -> Data:
    surface = Surface(max(nodes, 3))
    data = Data(x=features(TYPES, nodes), edge_index=surface.edge_index, polar=surface.polar)
    data.transport, data.area = surface.transport, surface.area
    if nodes == 0:
        data.edge_index, data.polar, data.transport, data.area = (
            data.edge_index[:, :0],
            data.polar[:0],
            data.transport[:0],
            data.area[:0],
        )
    data.num_nodes = nodes
    return data


def network(make):
    return make().double().eval()


@each
def test_a_batch_by_any_name(make):
    model, graphs = network(make), [graph(9), graph(12)]
    batch = Batch.from_data_list(graphs)
    alone = torch.cat([model(g) for g in graphs])
    assert alone.shape == (2, 3)
    assert (alone[0] - alone[1]).abs().max() > 1e-3
    plain = Data(**{key: batch[key] for key in ("x", "edge_index", "polar", "transport", "area", "batch")})
    for data in (batch, plain):  # a Data with batch is no Batch, but says the same
        torch.testing.assert_close(model(data), alone)
    torch.testing.assert_close(model(Batch.from_data_list(graphs[:1])), alone[:1])
    del batch.batch
    with pytest.raises(ValueError, match="a Batch of 2 graphs without batch.*Batch.from_data_list"):
        model(batch)


@each
def test_graphs_without_nodes(make):
    model, whole = network(make), graph()
    assert torch.isfinite(model(graph(0))).all()
    found = model(Batch.from_data_list([graph(0), whole, graph(0)]))
    assert found.shape == (3, 3)
    torch.testing.assert_close(found[1:2], model(whole))
    torch.testing.assert_close(found[0], model(graph(0))[0])


@each
def test_surfaces_of_no_area(make):
    model, data = network(make), graph()
    data.area = torch.zeros_like(data.area)
    assert torch.isfinite(model(data)).all()


@pytest.mark.parametrize("name", ["GEMCNN", "SpinNet"])
def test_many_signals_belong_to_one_surface(name):
    model, batch = network(MODELS[name]), Batch.from_data_list([graph(), graph()])
    batch.x = features(TYPES, 5, 24)
    with pytest.raises(ValueError, match="belongs to one surface, but data holds a batch of 2"):
        model(batch)
    one = Batch.from_data_list([graph()])
    one.x = features(TYPES, 5, 12)
    assert model(one).shape == (5, 3)
    one.x = one.x[:0]
    assert model(one).shape == (0, 3)


@each
def test_answers_are_in_the_precision_of_the_weights(make):
    model, data = network(make).float(), graph()
    assert model(data).dtype == torch.float32
    torch.testing.assert_close(model.double()(data).float(), model.float()(data), atol=1e-4, rtol=1e-4)


@each
def test_a_tensor_is_no_graph(make):
    with pytest.raises(TypeError, match="reads a Data or Batch, got Tensor"):
        network(make)(torch.zeros(12, 4))

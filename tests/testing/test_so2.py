"""SO(2) types in the testing tools: how they are read, many signals on one graph, relative geometry, levels."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.groups import SO2Irreps, icosphere
from geomeq.testing import assert_equivariant, equivariance_error, equivariance_report
from geomeq.testing._compare import declared_type
from geomeq.testing._elements import Element
from geomeq.testing._hypotheses import candidates
from geomeq.testing._move import attribute_types, move
from geomeq.testing._run import Subject
from geomeq.testing._types import parse_type
from geomeq.transforms import MeshGauge, MultiScale

TYPES = SO2Irreps("1x0+2x1")


def mesh(levels: bool = False) -> Data:
    sphere = icosphere(1)
    data = Data(pos=sphere.pos, face=sphere.face)
    data = MultiScale(ratios=(0.4,))(data) if levels else MeshGauge()(data)
    data.x = torch.randn(data.num_nodes, TYPES.dim, dtype=torch.float64)
    return data


class Sum(nn.Module):
    """The sum over neighbours in the frame of each node, without angles."""

    def __init__(self, types=TYPES, carry=True):
        super().__init__()
        self.types_in, self.types_out, self.carry = types, types, carry

    def forward(self, data):
        source, target = data.edge_index
        message = data.x.index_select(-2, source)
        message = self.types_in.rotate(message, data.transport) if self.carry else message
        return torch.zeros_like(data.x).index_add(-2, target, message)


def test_types_are_read_from_objects_strings_models_configs_and_data():
    assert parse_type(TYPES) == parse_type("1x0+2x1")
    assert parse_type(TYPES).turns
    assert not parse_type("4x0").turns
    assert str(parse_type(SO2Irreps("2x1+1x0"))) == "2x1+1x0"
    assert declared_type(Sum()) == parse_type(TYPES)
    config = type("Config", (), {"types_out": "3x2"})()
    assert declared_type(type("Model", (), {"config": config})()) == parse_type("3x2")
    data = mesh()
    assert str(Subject(Sum(), data).types["x"]) == "1x0+2x1"
    assert str(Subject(lambda data: data.x, data).types["x"]) == "invariant"
    data.types = "1x0+2x1"
    assert str(Subject(lambda data: data.x, data).types["x"]) == "1x0+2x1"
    assert str(Subject(lambda data: data.x, Batch.from_data_list([data, data])).types["x"]) == "1x0+2x1"


@pytest.mark.parametrize("group", ["frames", "permutation", "rotation"])
def test_transport_is_needed(group):
    assert_equivariant(Sum(), mesh(), group)
    error = equivariance_error(Sum(carry=False), mesh(), group)
    assert (error > 0.1) is (group == "frames")


def test_many_signals_on_one_graph():
    data = mesh()
    data.x = torch.randn(3, data.num_nodes, TYPES.dim, dtype=torch.float64)
    assert_equivariant(Sum(), data, "frames")
    assert equivariance_error(Sum(carry=False), data, "frames") > 0.1


def test_scalars_of_graphs_are_no_fields_of_nodes():
    class Mean(nn.Module):
        types_in, types_out = TYPES, SO2Irreps("1x0")

        def forward(self, data):
            return data.x[:, :1].mean(0, keepdim=True)

    assert_equivariant(Mean(), mesh(), "frames")


def test_relative_geometry_is_a_possible_input():
    data, turn = mesh(), torch.rand(42, dtype=torch.float64) * 6
    moved = move(data, Element(turn=turn), attribute_types(data, {"x": TYPES})).data
    source, target = data.edge_index
    wanted = data.transport - turn[target] + turn[source]
    torch.testing.assert_close(moved.transport, wanted)
    names = {str(kind) for kind in candidates(data.polar, [], True)}
    assert "polar" in names
    assert {"transport", "angle"} <= {str(kind) for kind in candidates(data.transport, [], True)}
    assert "polar" not in {str(kind) for kind in candidates(data.polar, [], False)}

    class Layer(nn.Module):
        types_in = types_out = TYPES

        def __init__(self, shift):
            super().__init__()
            self.shift = shift

        def forward(self, x, edge_index, polar, transport):
            source, target = edge_index
            x = TYPES.rotate(TYPES.rotate(x[source], transport) + self.shift, 0.0)
            return torch.zeros_like(x[: len(target.unique())]).index_add(0, target, x)

    class Net(nn.Module):
        types_in = types_out = TYPES

        def __init__(self, shift):
            super().__init__()
            self.first, self.last = Layer(shift), Layer(0.0)

        def forward(self, data):
            geometry = data.edge_index, data.polar, data.transport
            return self.last(self.first(data.x, *geometry), *geometry)

    assert equivariance_report(Net(0.0), data).passed
    assert equivariance_report(Net(0.5), data).culprits == {"frames": "first"}


def test_levels_follow_the_finest():
    data, turn = mesh(levels=True), torch.rand(42, dtype=torch.float64)
    types = attribute_types(data, {"x": TYPES})
    assert str(types["pos_1"]) == "position"
    assert str(types["frame_1"]) == "1x1o"
    moved = move(data, Element(turn=turn), types).data
    torch.testing.assert_close(moved.pool_transport_1, data.pool_transport_1 + turn)
    assert torch.equal(moved.polar_1, data.polar_1)

    order = torch.randperm(42)
    moved = move(data, Element(order=order), types).data
    assert torch.equal(moved.pool_index_1, data.pool_index_1[order])
    assert torch.equal(moved.pool_transport_1, data.pool_transport_1[order])
    assert torch.equal(moved.edge_index_1, data.edge_index_1)
    assert torch.equal(moved.pos_1, data.pos_1)

    matrix = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    moved = move(data, Element(matrix=matrix), types).data
    torch.testing.assert_close(moved.pos_1, data.pos_1 @ matrix.T)

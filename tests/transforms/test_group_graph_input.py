"""GroupGraph: what it refuses, and how it lives with Data and Batch."""

import inspect
import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.groups import S2, SE2, SO2, SO3, Rn, cyclic
from geomeq.transforms import GroupGraph

from .test_group_graph import FULL, random_sample


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be an integer"),
        ({"k": True}, "k must be an integer"),
        ({"k": 2.5}, "k must be an integer"),
        ({"anisotropy": 0.0}, "anisotropy must be positive, got 0.0"),
        ({"anisotropy": math.inf}, "anisotropy must be positive"),
        ({"xi": -1.0}, "xi must be positive or 'auto', got -1.0"),
        ({"xi": "high"}, "xi must be positive or 'auto', got 'high'"),
        ({"alpha": 0}, "alpha must be positive"),
        ({"xi": 1.0, "alpha": 1.0}, "both set the price of turning"),
        ({"share": 1.0}, "share .* between 0 and 1"),
        ({"ties": "cut"}, "ties must be one of 'radius', 'keep', 'index', got 'cut'"),
        ({"kernel": "box"}, "kernel must be one of"),
        ({"boundary": "periodic"}, "boundary must be one of"),
        ({"boundary": "torus", "ties": "keep"}, "goes with ties='radius'"),
        ({"bandwidth": 0}, "bandwidth must be positive"),
        ({"dtype": torch.int64}, "dtype must be floating point"),
        ({"generators": [1]}, "generators are for finite groups"),
        ({"metric": [1.0, 1, 1], "xi": 0.1}, "metric already says"),
        ({"metric": [1.0, 1, 1], "anisotropy": 0.1}, "metric already says"),
        ({"size": None}, "needs a size"),
    ],
)
def test_arguments_that_contradict(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupGraph(SE2(), **({"size": (4, 4, 4)} | arguments))


@pytest.mark.parametrize(
    ("group", "size", "arguments", "message"),
    [
        (SE2(), (6, 6, 4), {"metric": [1.0, 1]}, r"shape \[3\] or \[3, 3\], got \[2, 2\]"),
        (SE2(), (6, 6, 4), {"metric": [1.0, -1, 1]}, "positive definite"),
        (SE2(), (6, 6, 4), {"metric": [1.0, 0, 1]}, "positive definite"),
        (SE2(), (6, 6, 4), {"metric": [[1.0, 1, 0], [0, 1, 0], [0, 0, 1]]}, "symmetric matrix"),
        (SE2(), (6, 6, 4), {"metric": [math.nan, 1, 1]}, "finite"),
        (SE2(), (6, 6, 4), {"metric": [[1.0, 0, 0.2], [0, 1, 0], [0.2, 0, 1]]}, "identifies elements"),
        (S2(), 1, {"anisotropy": 0.1}, "no preferred directions"),
        (S2(), 1, {"metric": [1.0, 2]}, "no preferred directions"),
        (SO2(), 8, {"anisotropy": 0.1}, "no second spatial axis"),
        (S2(), 1, {"boundary": "torus"}, "needs places on a grid"),
        (S2(), 0, {"k": 12}, "k must be at most 11"),
        (SO3(), (0, 1), {"k": 12}, "k must be at most 11"),
        (SE2(), (3, 3, 2), {"k": 200}, "k must be at most 17, the number of other vertices, got 200"),
        (Rn(2), (2, 2), {}, "k must be at most 3, the number of other vertices, got 8"),
        (SE2(), (8, 8, 4), {"xi": 10.0, "k": 4}, "falls into 4 parts, of 64 vertices"),
        (SE2(), (8, 8), {}, "nx, ny, n_theta"),
    ],
)
def test_graphs_that_cannot_be(group, size, arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupGraph(group, size, **arguments)(Data())


@pytest.mark.parametrize("group", [SE2, "SE2", None])
def test_what_is_no_group(group):
    with pytest.raises(TypeError, match=r"group must be a group or space of geomeq.groups, such as SE2\(\), got"):
        GroupGraph(group, (6, 6, 4))


def test_a_single_place_has_only_turns():
    graph = GroupGraph(SE2(), (1, 1, 6), k=2)(Data())
    assert torch.bincount(graph.edge_index[1]).tolist() == [2] * 6
    torch.testing.assert_close(graph.edge_log[:, 2].abs(), torch.full((12,), math.pi / 6, dtype=torch.float64))
    with pytest.raises(ValueError, match="k must be at most 0, the number of other vertices, got 1"):
        GroupGraph(SO2(), 1, k=1)(Data())


def test_a_graph_in_parts_if_wanted():
    graph = GroupGraph(SE2(), (8, 8, 4), xi=10.0, k=4, allow_disconnected=True)(Data())
    layer = graph.edge_index // 64
    assert torch.equal(layer[0], layer[1])


def test_finite_groups_have_no_size_or_metric():
    with pytest.raises(ValueError, match="leave size and metric out"):
        GroupGraph(cyclic(5), size=5)
    with pytest.raises(ValueError, match="leave size and metric out"):
        GroupGraph(cyclic(5), metric=[1.0])


def test_only_a_single_graph_is_made():
    with pytest.raises(ValueError, match="makes one graph"):
        GroupGraph(Rn(2), (3, 3))(Batch.from_data_list([Data(x=torch.zeros(9, 1))]))
    with pytest.raises(TypeError, match="needs a torch_geometric Data"):
        GroupGraph(Rn(2), (3, 3))(torch.zeros(3))


def test_graphs_can_be_batched_and_taken_apart():
    parts = [GroupGraph(SE2(), (5, 5, 4))(Data()), GroupGraph(SE2(), (6, 4, 4))(Data())]
    batch = Batch.from_data_list(parts)
    assert batch.metric.shape == (2, 3, 3)
    assert batch.num_orientations.tolist() == [4, 4]
    for part, again in zip(parts, batch.to_data_list(), strict=True):
        for key in ("edge_index", "edge_log", "edge_weight", "element", "metric"):
            assert torch.equal(part[key], again[key])


def test_repr_names_every_argument():
    for transform in (GroupGraph(SE2(), (4, 4, 4)), GroupGraph(SE2(), (4, 4, 4), metric=torch.ones(3))):
        shown = repr(transform)
        for name in inspect.signature(GroupGraph.__init__).parameters:
            assert name in ("self", "group") or f"{name}=" in shown
    a, b = (repr(GroupGraph(SE2(), random_sample(SE2(), 9, seed))) for seed in (0, 1))
    assert a != b
    assert "sha256" in a
    assert repr(GroupGraph(SE2(period=FULL), (4, 4, 4))) != repr(GroupGraph(SE2(), (4, 4, 4)))

"""CutoffGraph, NearestGraph, FullyConnected: the edges they write, on one graph and on batches."""

import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.transforms import BaseTransform, Compose

from geomeq.groups import random_orthogonal
from geomeq.neighbors import knn_edges, periodic_radius_edges, radius_edges
from geomeq.transforms import CutoffGraph, FullyConnected, NearestGraph

TRANSFORMS = [CutoffGraph(1.5), CutoffGraph(1.5, loop=True), NearestGraph(3), NearestGraph(2, ties="index")]
TRANSFORMS += [FullyConnected(), FullyConnected(loop=True)]


def molecules(sizes, seed=0, periodic=False):
    generator = torch.Generator().manual_seed(seed)
    graphs = []
    for n in sizes:
        data = Data(pos=torch.randn(n, 3, generator=generator), z=torch.ones(n, dtype=torch.long), y=torch.zeros(1, 2))
        if periodic:
            data.cell = 2.5 * torch.eye(3)[None] + 0.3 * torch.randn(1, 3, 3, generator=generator)
            data.pbc = torch.tensor([[True, n % 2 == 0, True]])
        graphs.append(data)
    return graphs


def with_old_edges(data):
    """The bonds that some data sets come with."""
    data.edge_index, data.edge_attr = torch.zeros(2, 1, dtype=torch.long), torch.zeros(1, 4)
    return data


def test_edges_are_those_of_the_neighbor_functions():
    data = molecules([12])[0]
    assert torch.equal(CutoffGraph(1.5)(data).edge_index, radius_edges(data.pos, 1.5))
    assert torch.equal(NearestGraph(3)(data).edge_index, knn_edges(data.pos, 3))
    assert torch.equal(FullyConnected()(data).edge_index, radius_edges(data.pos, 1e6))
    assert torch.equal(FullyConnected(loop=True)(data).edge_index, radius_edges(data.pos, 1e6, loop=True))


def test_periodic_data_gets_shifts():
    data = molecules([5], periodic=True)[0]
    out = CutoffGraph(3.0)(data)
    edges, shift = periodic_radius_edges(data.pos, 3.0, data.cell, data.pbc)
    assert torch.equal(out.edge_index, edges)
    assert torch.equal(out.shift, shift)
    assert out.shift.dtype == torch.long
    vec = data.pos[edges[0]] - data.pos[edges[1]] + out.shift.float() @ data.cell[0]
    assert float(vec.norm(dim=1).max()) <= 3.0 + 1e-5
    for pbc in (torch.tensor([True, False, True]), [[True, False, True]], (True, False, True)):
        data.pbc = pbc
        assert torch.equal(CutoffGraph(3.0)(data).shift, shift)
    data.pbc = True
    everywhere = CutoffGraph(3.0)(data)
    del data.pbc
    assert torch.equal(CutoffGraph(3.0)(data).shift, everywhere.shift)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@pytest.mark.parametrize("periodic", [False, True])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_batch_equals_its_parts(transform, periodic, sizes, seed):
    if periodic and isinstance(transform, NearestGraph):
        return
    graphs = [with_old_edges(data) for data in molecules(sizes, seed, periodic)]
    batch = Batch.from_data_list(graphs)
    out = transform(batch)
    parts = [transform(data) for data in graphs]
    whole = Batch.from_data_list(parts)
    assert torch.equal(out.edge_index, whole.edge_index)
    assert set(out.keys()) == set(whole.keys())
    for mine, part in zip(out.to_data_list(), parts, strict=True):  # the batch still knows its graphs
        assert set(mine.keys()) == set(part.keys())
        assert all(torch.equal(mine[key], part[key]) for key in ("edge_index", "pos", "y"))
        if periodic and isinstance(transform, CutoffGraph):
            assert torch.equal(mine.shift, part.shift)
    assert batch.to_data_list()[0].edge_attr.shape == (1, 4)  # and the input is as it was


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
@given(seed=st.integers(0, 1000), n=st.integers(0, 12))
@settings(max_examples=20, deadline=None)
def test_moving_the_points_keeps_the_edges(transform, seed, n):
    pos = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    moved = pos @ random_orthogonal(seed=seed).T + 3
    edges = transform(Data(pos=pos)).edge_index
    assert torch.equal(transform(Data(pos=moved)).edge_index, edges)
    key = edges[1] * (n + 1) + edges[0]
    assert (key.diff() > 0).all()  # sorted by target, then source


def test_attributes_of_former_edges_are_removed():
    data = molecules([6])[0]
    data.edge_index, data.edge_attr = torch.zeros(2, 4, dtype=torch.long), torch.zeros(4, 1)
    data.shift, data.edge_vec, data.edge_scalar = torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(4, 1)
    before = copy.copy(data)
    for transform in TRANSFORMS:
        out = transform(data)
        assert set(out.keys()) == {"pos", "z", "y", "edge_index"}
        assert set(data.keys()) == set(before.keys())


def test_an_interleaved_batch_is_kept_apart():
    first, second = molecules([6, 6])
    pos = torch.stack([first.pos, second.pos], dim=1).reshape(12, 3)
    data = Data(pos=pos, batch=torch.arange(12) % 2)
    for transform in TRANSFORMS:
        edges = transform(data).edge_index
        assert (data.batch[edges[0]] == data.batch[edges[1]]).all()
        assert torch.equal(edges[:, edges[1] % 2 == 0] // 2, transform(first).edge_index)


def test_a_batch_without_batch():
    batch = Batch.from_data_list(molecules([3, 4, 5]))
    expected = CutoffGraph(1.5)(batch).edge_index
    del batch.batch
    assert torch.equal(CutoffGraph(1.5)(batch).edge_index, expected)  # ptr says the same
    del batch.ptr
    for transform in TRANSFORMS:
        with pytest.raises(ValueError, match="different graphs"):
            transform(batch)


def test_small_and_empty_graphs():
    for transform in TRANSFORMS:
        loops = int(getattr(transform, "loop", False))
        for n in (0, 1):
            edges = transform(Data(pos=torch.zeros(n, 3))).edge_index
            assert edges.shape == (2, n * loops)
            assert edges.dtype == torch.long
    assert FullyConnected()(Data(num_nodes=4)).edge_index.shape == (2, 12)
    assert FullyConnected()(Data(x=torch.zeros(4, 2))).edge_index.shape == (2, 12)
    assert CutoffGraph(1.0)(Data(pos=torch.zeros(0, 3), cell=torch.eye(3)[None])).shift.shape == (0, 3)
    flat = Data(pos=torch.rand(8, 2))
    assert CutoffGraph(9.0)(flat).edge_index.shape == (2, 56)


def test_coincident_points_are_named():
    pos = torch.randn(6, 3)
    pos[4] = pos[1]
    data = Data(pos=pos, z=torch.tensor([1, 6, 1, 1, 8, 1]))
    for transform in (CutoffGraph(1.0), CutoffGraph(1.0, loop=True), NearestGraph(1)):
        with pytest.raises(ValueError, match=r"points 1 and 4 \(z = 6 and 8\) coincide .* allow_coincident=True"):
            transform(data)
    assert [1, 4] in CutoffGraph(1.0, allow_coincident=True)(data).edge_index.T.tolist()
    assert [1, 4] in NearestGraph(1, allow_coincident=True)(data).edge_index.T.tolist()
    # in different graphs the same place is no conflict
    CutoffGraph(1.0)(Data(pos=pos, batch=torch.tensor([0, 0, 0, 1, 1, 1])))


def test_coincident_periodic_images_are_named():
    data = Data(pos=torch.tensor([[0.0, 0, 0], [1.0, 1, 1], [2.0, 0, 0]]), cell=2 * torch.eye(3)[None])
    with pytest.raises(ValueError, match="points 0 and 2 coincide"):
        CutoffGraph(1.9)(data)
    assert CutoffGraph(1.9, allow_coincident=True)(data).edge_index.size(1) > 0
    batch = Batch.from_data_list([data, data])
    with pytest.raises(ValueError, match="points 0 and 2 coincide"):
        CutoffGraph(1.9)(batch)
    CutoffGraph(1.0, loop=True)(Data(pos=torch.zeros(1, 3), cell=2 * torch.eye(3)[None]))


@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_repr_names_every_argument(transform):
    assert repr(eval(repr(transform))) == repr(transform)
    arguments = transform.__init__.__code__.co_varnames[1 : transform.__init__.__code__.co_argcount]
    arguments += transform.__init__.__code__.co_varnames[1 : 1 + transform.__init__.__code__.co_kwonlyargcount]
    assert all(re.search(rf"\b{name}=", repr(transform)) for name in arguments)
    assert isinstance(transform, BaseTransform)


def test_functional_names_and_compose():
    from torch_geometric.data.datapipes import DatasetAdapter

    for name in ("cutoff_graph", "nearest_graph", "fully_connected"):
        assert hasattr(DatasetAdapter([]), name)
    out = Compose([FullyConnected(), CutoffGraph(1.5)])(molecules([7])[0])
    assert torch.equal(out.edge_index, radius_edges(out.pos, 1.5))


NAN = Data(pos=torch.tensor([[0.0, 0, 0], [0, float("nan"), 0]]))


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "cutoff must be positive", lambda: CutoffGraph(0.0)),
        (ValueError, "cutoff must be positive", lambda: CutoffGraph(float("nan"))),
        (ValueError, "k must be", lambda: NearestGraph(0)),
        (ValueError, "k must be", lambda: NearestGraph(1.5)),
        (ValueError, "ties must", lambda: NearestGraph(1, ties="any")),
        (ValueError, "CutoffGraph reads pos", lambda: CutoffGraph(1.0)(Data(x=torch.zeros(3, 1)))),
        (ValueError, "NearestGraph reads pos", lambda: NearestGraph(1)(Data(x=torch.zeros(3, 1)))),
        (ValueError, "row 1 holds", lambda: CutoffGraph(1.0)(NAN)),
        (ValueError, "row 1 holds", lambda: NearestGraph(1)(NAN)),
        (ValueError, r"shape \[N, d\]", lambda: CutoffGraph(1.0)(Data(pos=torch.zeros(3), num_nodes=3))),
        (TypeError, "float32 or float64", lambda: CutoffGraph(1.0)(Data(pos=torch.zeros(3, 3, dtype=torch.long)))),
        (TypeError, "HeteroData", lambda: CutoffGraph(1.0)(HeteroData())),
        (TypeError, "HeteroData", lambda: FullyConnected()(HeteroData())),
        (ValueError, "periodic images", lambda: NearestGraph(1)(Data(pos=torch.zeros(2, 3), cell=torch.eye(3)[None]))),
        (ValueError, "no volume", lambda: CutoffGraph(1.0)(Data(pos=torch.rand(2, 3), cell=torch.zeros(1, 3, 3)))),
    ],
)
def test_bad_input_is_named(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)
def test_cuda_equals_cpu(transform):
    batch = Batch.from_data_list(molecules([3, 9, 5]))
    expected = transform(batch).edge_index
    out = transform(batch.cuda()).edge_index
    assert out.is_cuda
    assert torch.equal(out.cpu(), expected)

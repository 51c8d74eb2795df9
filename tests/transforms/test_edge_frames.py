"""Frames of edges as a transform."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.harmonics import edge_vectors, edge_wigner
from geomeq.ops import EdgeLayout
from geomeq.transforms import CutoffGraph, EdgeFrames, PeriodicGraph


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mmax", [0, 2, None])
def test_writes_the_rows_of_every_edge(dtype, mmax):
    data = EdgeFrames(3, mmax)(CutoffGraph(2.0)(Data(pos=torch.randn(9, 3, dtype=dtype))))
    vec = edge_vectors(data.pos, data.edge_index)
    assert data.edge_wigner.dtype == dtype
    assert data.edge_wigner.shape == (data.num_edges, EdgeLayout(3, mmax).num_values)
    assert torch.equal(data.edge_wigner, edge_wigner(vec, 3, mmax))
    assert not torch.allclose(data.edge_wigner, edge_wigner(-vec, 3, mmax))


def test_blocks_hold_far_fewer_numbers_than_a_matrix_over_all_degrees():
    layout = EdgeLayout(6, 1)
    assert layout.num_values == 145
    assert layout.num_rows * layout.num_coefficients == 931


def test_periodic_edges_point_across_the_border():
    cell = 3.0 * torch.eye(3)[None]
    data = Data(pos=torch.tensor([[0.1, 0, 0], [2.9, 0, 0]]), cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool))
    data = EdgeFrames(1)(PeriodicGraph(1.0)(data))
    assert data.edge_wigner[:, 1:4].abs().allclose(torch.tensor([1.0, 0, 0]), atol=1e-6)
    near = data.edge_index[0] == 1  # the neighbour at 2.9 is on the left of 0.1
    assert (data.edge_wigner[near, 1] < 0).all()


def test_a_stored_vector_is_read_first():
    data = Data(edge_index=torch.tensor([[0], [1]]), edge_vec=torch.tensor([[3.0, 0, 0]]))
    assert torch.equal(EdgeFrames(2)(data).edge_wigner, edge_wigner(data.edge_vec, 2))


def test_twice_is_the_same_to_the_bit():
    data = CutoffGraph(2.0)(Data(pos=torch.randn(9, 3)))
    assert torch.equal(EdgeFrames(4, 2)(data.clone()).edge_wigner, EdgeFrames(4, 2)(data.clone()).edge_wigner)


def test_batch_equals_its_parts():
    parts = [CutoffGraph(2.0)(Data(pos=torch.randn(n, 3))) for n in (4, 7)]
    batch = EdgeFrames(2)(Batch.from_data_list(parts))
    one_by_one = torch.cat([EdgeFrames(2)(part.clone()).edge_wigner for part in parts])
    torch.testing.assert_close(batch.edge_wigner, one_by_one, atol=1e-6, rtol=0)


def test_no_edges():
    data = EdgeFrames(2, 1)(Data(pos=torch.zeros(1, 3), edge_index=torch.empty(2, 0, dtype=torch.long)))
    assert data.edge_wigner.shape == (0, EdgeLayout(2, 1).num_values)


def test_bad_input_is_refused():
    edge = torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="edge 0 from node 0 to node 1 has length zero"):
        EdgeFrames(1)(Data(pos=torch.zeros(2, 3), edge_index=edge))
    with pytest.raises(ValueError, match="edge_index"):
        EdgeFrames(1)(Data(pos=torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="finite"):
        EdgeFrames(1)(Data(pos=torch.tensor([[0, 0, 0], [float("nan"), 0, 1]]), edge_index=edge))
    with pytest.raises(ValueError, match="edge_vec"):
        EdgeFrames(1)(Data(edge_vec=torch.ones(3, 3), edge_index=edge))
    with pytest.raises(ValueError, match="mmax"):
        EdgeFrames(1, 2)
    with pytest.raises(TypeError, match="Data"):
        EdgeFrames(1)(torch.ones(3))


def test_repr_names_its_arguments():
    assert repr(EdgeFrames(6, 2)) == "EdgeFrames(lmax=6, mmax=2)"
    assert repr(EdgeFrames(3)) == "EdgeFrames(lmax=3, mmax=3)"

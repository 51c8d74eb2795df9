"""Steerable attributes and edge vectors."""

import pytest
import torch

from geomeq.harmonics import edge_length, edge_vectors, spherical_harmonics, steerable_attributes


def test_node_attribute_is_the_mean_over_incoming_edges_with_first_component_one():
    vec = torch.randn(3, 3, dtype=torch.float64)
    edge_index = torch.tensor([[1, 2, 0], [0, 0, 1]])
    made = steerable_attributes(vec, edge_index, 4, 2)
    want = spherical_harmonics(vec, 2)
    torch.testing.assert_close(made.node_attr[0, 1:], want[:2, 1:].mean(0))
    torch.testing.assert_close(made.node_attr[1, 1:], want[2, 1:])
    torch.testing.assert_close(made.node_attr[:, 0], torch.ones(4, dtype=torch.float64))
    assert (made.node_attr[2:, 1:] == 0).all()  # isolated
    torch.testing.assert_close(made.edge_dist[:, 0], vec.norm(dim=1))


def test_vectors_at_the_nodes_add_their_harmonics_and_a_resting_particle_adds_nothing():
    vec, edge_index = torch.randn(1, 3, dtype=torch.float64), torch.tensor([[1], [0]])
    vel = torch.tensor([[1.0, 2, 3], [0, 0, 0]], dtype=torch.float64)
    plain = steerable_attributes(vec, edge_index, 2, 1).node_attr
    steered = steerable_attributes(vec, edge_index, 2, 1, [vel]).node_attr
    torch.testing.assert_close((steered - plain)[0, 1:], spherical_harmonics(vel[0], 1)[1:])
    assert torch.equal(steered[1], plain[1])


def test_smooth_attributes_do_not_jump_when_an_edge_reaches_the_cutoff():
    edge_index = torch.tensor([[1, 2], [0, 0]])
    far = torch.tensor([[1.0, 0, 0], [0, 2.0 - 1e-6, 0]], dtype=torch.float64)
    with_edge = steerable_attributes(far, edge_index, 3, 2, cutoff=2.0).node_attr
    without = steerable_attributes(far[:1], edge_index[:, :1], 3, 2, cutoff=2.0).node_attr
    torch.testing.assert_close(with_edge, without, atol=1e-12, rtol=0)
    rough = steerable_attributes(far, edge_index, 3, 2).node_attr
    assert not torch.allclose(rough[0], steerable_attributes(far[:1], edge_index[:, :1], 3, 2).node_attr[0])


def test_periodic_vectors_use_the_cell_of_their_graph():
    pos = torch.tensor([[0.1, 0, 0], [0.9, 0, 0], [0.1, 0, 0], [0.9, 0, 0]], dtype=torch.float64)
    edge_index, shift = torch.tensor([[1, 3], [0, 2]]), torch.tensor([[-1, 0, 0], [-1, 0, 0]])
    cell = torch.stack([torch.eye(3, dtype=torch.float64), 2 * torch.eye(3, dtype=torch.float64)])
    vec = edge_vectors(pos, edge_index, shift, cell, torch.tensor([0, 0, 1, 1]))
    torch.testing.assert_close(vec[:, 0], torch.tensor([-0.2, -1.2], dtype=torch.float64))
    with pytest.raises(ValueError, match="no batch"):
        edge_vectors(pos, edge_index, shift, cell)
    with pytest.raises(ValueError, match="needs cell"):
        edge_vectors(pos, edge_index, shift)


def test_length_of_a_zero_edge_has_zero_gradient():
    vec = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(edge_length(vec).sum(), vec, create_graph=True)
    assert (grad == 0).all()
    tiny = torch.tensor([[3e-200, 4e-200, 0]], dtype=torch.float64)
    torch.testing.assert_close(edge_length(tiny), torch.tensor([[5e-200]], dtype=torch.float64), rtol=1e-12, atol=0)

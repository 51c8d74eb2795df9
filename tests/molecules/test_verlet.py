"""A neighbour list that outlives small moves never misses a pair."""

import pytest
import torch

from geomeq.molecules._edge_list import Lattice, find_edges, squared_lengths
from geomeq.molecules._verlet import VerletList

CELL = torch.tensor([[[4.0, 0, 0], [1.2, 3.6, 0], [-0.7, 0.4, 4.4]]], dtype=torch.float64)


def lattice(pbc=(True, True, True)):
    return Lattice(CELL, torch.tensor([pbc]))


def fresh(pos, box, cutoff):
    """Lengths of all edges by a new search: sorted numbers, which do not depend on the choice of images."""
    edges = find_edges(pos, cutoff, box, None)
    return squared_lengths(pos, edges, box, None).sort().values


@pytest.mark.parametrize("box", [None, lattice(), lattice((True, False, True)), lattice((False, False, False))])
@pytest.mark.parametrize("skin", [0.0, 0.3, 1.0])
def test_equals_a_new_search_at_every_step_of_a_walk(box, skin):
    generator = torch.Generator().manual_seed(0)
    pos = 4 * torch.rand(12, 3, generator=generator, dtype=torch.float64)
    neighbors = VerletList(2.2, skin)
    drift = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)  # common to all: never a reason for a new list
    for _ in range(30):
        home, edges, squares = neighbors(pos, box)
        torch.testing.assert_close(squares.sort().values, fresh(pos, box, 2.2), atol=1e-9, rtol=0)
        torch.testing.assert_close(squares, squared_lengths(home, edges, box, None))
        target = edges.edge_index[1]
        assert (target.diff() >= 0).all()
        if box is not None:
            moved = torch.linalg.solve(CELL[0].T, (pos - home).T).T
            torch.testing.assert_close(moved, moved.round(), atol=1e-9, rtol=0)
            assert (moved[:, ~box.pbc[0]].abs() < 1e-12).all()
        pos = pos + drift + 0.04 * torch.randn(12, 3, generator=generator, dtype=torch.float64)
    assert neighbors.builds == 30 if skin == 0 else neighbors.builds < 20


def test_two_atoms_that_meet_half_way():
    """The worst case: both move straight at each other, each by almost half of the skin."""
    for fraction, builds in ((0.49, 1), (0.51, 2)):
        neighbors = VerletList(2.0, 0.5)
        apart = torch.tensor([[0.0, 0, 0], [2.48, 0, 0]], dtype=torch.float64)
        assert neighbors(apart, None)[1].edge_index.size(1) == 0
        step = torch.tensor([[fraction * 0.5, 0, 0], [-fraction * 0.5, 0, 0]], dtype=torch.float64)
        assert neighbors(apart + step, None)[1].edge_index.size(1) == 2
        assert neighbors.builds == builds


def test_one_atom_among_many_that_rest():
    pos = torch.zeros(1000, 3, dtype=torch.float64)
    pos[:, 1] = 10 * torch.arange(1000)
    pos[0, 0] = 2.4
    pos[1] = 0
    neighbors = VerletList(2.0, 0.5)
    neighbors(pos, None)
    moved = pos.clone()
    moved[0, 0] = 1.99  # 0.41 of the skin of 0.5, all by itself: more than half
    assert neighbors(moved, None)[1].edge_index.size(1) == 2
    assert neighbors.builds == 2


def test_the_rule_is_needed(monkeypatch):
    neighbors = VerletList(2.0, 0.5)
    apart = torch.tensor([[0.0, 0, 0], [3.0, 0, 0]], dtype=torch.float64)
    neighbors(apart, None)
    monkeypatch.setattr(neighbors, "_is_stale", lambda *_: False)
    assert neighbors(apart * 0.5, None)[1].edge_index.size(1) == 0


def test_a_new_list_for_another_cell_or_other_atoms():
    pos = torch.rand(5, 3, dtype=torch.float64)
    neighbors = VerletList(2.0, 1.0)
    strained = Lattice(CELL * 1.0001, torch.ones(1, 3, dtype=torch.bool))
    cases = [(pos, lattice()), (pos, strained), (pos, lattice((True, True, False))), (pos, None), (pos[:4], None)]
    for builds, (structure, box) in enumerate([*cases, (pos[:0], None)], start=1):
        for _ in range(2):
            neighbors(structure, box)
            assert neighbors.builds == builds


def test_the_list_does_not_change_with_the_cell_of_the_caller():
    box, pos = Lattice(CELL.clone(), torch.ones(1, 3, dtype=torch.bool)), torch.rand(5, 3, dtype=torch.float64)
    neighbors = VerletList(2.0, 1.0)
    neighbors(pos, box)
    box.cell.mul_(1.01)  # in place
    neighbors(pos, box)
    assert neighbors.builds == 2

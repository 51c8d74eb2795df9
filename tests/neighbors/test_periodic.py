"""periodic_radius_edges equals a supercell by brute force and ASE's neighbor list, in any cell."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomeq.groups import random_orthogonal
from geomeq.neighbors import periodic_radius_edges, radius_edges
from tests.neighbors._brute import periodic as brute


def as_tuples(edges, shift):
    return [tuple(row) for row in torch.cat([edges.flip(0).T, shift], dim=1).tolist()]


@st.composite
def crystals(draw):
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    skew = draw(st.sampled_from([0.0, 0.3, 1.0]))
    cell = torch.from_numpy(np.diag(rng.uniform(1, 4, 3)) + skew * rng.normal(size=(3, 3)))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    n = draw(st.integers(1, 6))
    if draw(st.booleans()):  # on a lattice: ties, atoms on faces of the cell, coincident images
        pos = torch.from_numpy(rng.integers(-4, 5, (n, 3)) / 2.0) @ cell
    else:
        pos = torch.from_numpy(rng.normal(size=(n, 3)) * draw(st.sampled_from([0.5, 5.0])))
    return pos, cell, pbc


@given(crystal=crystals(), cutoff=st.sampled_from([0.5, 1.5, 3.0]))
@settings(max_examples=200, deadline=None)
def test_equals_a_supercell_by_brute_force(crystal, cutoff):
    pos, cell, pbc = crystal
    complete = torch.where(torch.tensor(pbc)[:, None], cell, 10 * torch.eye(3, dtype=torch.float64))
    if abs(float(torch.linalg.det(complete))) < 0.5:
        return
    inverse = torch.linalg.inv(complete)
    span = (pos @ inverse).amax(0) - (pos @ inverse).amin(0)
    images = int((span + cutoff * inverse.norm(dim=0)).amax()) + 1
    if images > 14:
        return
    edges, shift = periodic_radius_edges(pos, cutoff, cell, pbc)
    assert as_tuples(edges, shift) == brute(pos, cutoff, cell, pbc, images)


@pytest.mark.parametrize("seed", range(20))
def test_equals_ase(seed):
    ase = pytest.importorskip("ase")
    from ase.neighborlist import neighbor_list

    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(1, 6, 3)) + rng.normal(size=(3, 3)) * rng.choice([0, 0.8])
    pbc, n = rng.random(3) < 0.7, int(rng.integers(1, 12))
    pos = rng.normal(size=(n, 3)) * 5
    atoms = ase.Atoms(f"H{n}", positions=pos, cell=cell, pbc=pbc)
    i, j, shift, vec = neighbor_list("ijSD", atoms, 4.0)
    edges, ours = periodic_radius_edges(torch.from_numpy(pos), 4.0, torch.from_numpy(cell), torch.from_numpy(pbc))
    order = np.lexsort((*shift.T[::-1], j, i))
    assert np.array_equal(edges.numpy(), np.stack([j, i])[:, order])
    assert np.array_equal(ours.numpy(), shift[order])
    ours_vec = pos[edges[0]] - pos[edges[1]] + ours.numpy() @ cell
    np.testing.assert_allclose(ours_vec, vec[order], atol=1e-12)


def test_known_crystals():
    eye = torch.eye(3, dtype=torch.float64)
    one = torch.zeros(1, 3, dtype=torch.float64)
    assert periodic_radius_edges(one, 1.0, eye)[0].size(1) == 6  # simple cubic
    fcc = 0.5 * (torch.ones(3, 3, dtype=torch.float64) - eye)
    assert periodic_radius_edges(one, 0.5**0.5, fcc)[0].size(1) == 12
    bcc = 0.5 * (torch.ones(3, 3, dtype=torch.float64) - 2 * eye)
    assert periodic_radius_edges(one, 0.75**0.5, bcc)[0].size(1) == 8
    assert periodic_radius_edges(one, 5.0, eye)[0].size(1) == 514  # lattice points within 5, the sum of squares table
    assert periodic_radius_edges(one, 1.0, eye, loop=True)[0].size(1) == 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_turned_crystal_keeps_its_edges(dtype):
    fcc = 3.6 * 0.5 * (torch.ones(3, 3, dtype=torch.float64) - torch.eye(3, dtype=torch.float64))
    pos = torch.zeros(1, 3, dtype=torch.float64)
    for shell, count in ((0.5, 12), (1.0, 18), (1.5, 42), (2.0, 54)):
        for seed in range(4):
            turn = random_orthogonal(seed=seed)
            edges, _ = periodic_radius_edges((pos @ turn.T + 0.1).to(dtype), 3.6 * shell**0.5, (fcc @ turn.T).to(dtype))
            assert edges.size(1) == count


def test_every_edge_has_its_opposite():
    pos = torch.rand(30, 3, dtype=torch.float64) * 4
    cell = torch.tensor([[4.0, 0, 0], [1.5, 3.5, 0], [-1.0, 0.7, 4.2]], dtype=torch.float64)
    edges, shift = periodic_radius_edges(pos, 2.5, cell)
    there = as_tuples(edges, shift)
    back = sorted(as_tuples(edges.flip(0), -shift))
    assert there == back


def test_moving_atoms_by_cell_vectors_moves_only_the_shifts():
    cell = torch.tensor([[4.0, 0, 0], [1.5, 3.5, 0], [-1.0, 0.7, 4.2]], dtype=torch.float64)
    pos = torch.rand(10, 3, dtype=torch.float64) @ cell
    hop = torch.randint(-3, 4, (10, 3))
    edges, shift = periodic_radius_edges(pos, 3.0, cell)
    moved_edges, moved_shift = periodic_radius_edges(pos + hop.double() @ cell, 3.0, cell)
    back = moved_shift + hop[moved_edges[0]] - hop[moved_edges[1]]
    assert sorted(as_tuples(moved_edges, back)) == as_tuples(edges, shift)


def test_a_batch_equals_its_parts():
    torch.manual_seed(0)
    sizes = torch.tensor([3, 1, 8])
    cells = torch.eye(3, dtype=torch.float64) * torch.tensor([2.0, 1.0, 5.0], dtype=torch.float64)[:, None, None]
    cells = cells + 0.3 * torch.randn(3, 3, 3, dtype=torch.float64)
    pbc = torch.tensor([[True, True, True], [True, False, True], [False, False, False]])
    pos = torch.randn(12, 3, dtype=torch.float64) * 3
    batch = torch.repeat_interleave(torch.arange(3), sizes)
    edges, shift = periodic_radius_edges(pos, 2.5, cells, pbc, batch)
    start, parts = 0, []
    for g, n in enumerate(sizes.tolist()):
        e, s = periodic_radius_edges(pos[start : start + n], 2.5, cells[g], pbc[g])
        parts.append((e + start, s))
        start += n
    assert torch.equal(edges, torch.cat([e for e, _ in parts], dim=1))
    assert torch.equal(shift, torch.cat([s for _, s in parts]))
    # unsorted batches, and one cell or one pbc for all graphs
    order = torch.randperm(12)
    mixed, mixed_shift = periodic_radius_edges(pos[order], 2.5, cells, pbc, batch[order])
    assert sorted(as_tuples(order[mixed], mixed_shift)) == as_tuples(edges, shift)
    shared = periodic_radius_edges(pos, 2.5, cells[0], pbc, batch)
    assert torch.equal(shared[0], periodic_radius_edges(pos, 2.5, cells[:1].expand(3, 3, 3), pbc, batch)[0])


def test_without_periodicity_it_is_radius_edges():
    pos = torch.randn(40, 3)
    edges, shift = periodic_radius_edges(pos, 1.0, torch.zeros(3, 3), pbc=False)
    assert torch.equal(edges, radius_edges(pos, 1.0))
    assert not shift.any()
    assert shift.dtype == torch.long


def test_far_outside_of_the_cell():
    cell = torch.eye(3, dtype=torch.float64) * 2
    pos = torch.rand(5, 3, dtype=torch.float64) * 2
    far = pos.clone()
    far[2] += 2e6
    edges, _ = periodic_radius_edges(pos, 1.9, cell)
    far_edges, far_shift = periodic_radius_edges(far, 1.9, cell)
    assert torch.equal(edges, far_edges)
    assert int(far_shift.abs().max()) >= 999_999


@pytest.mark.parametrize("n", [0, 1])
def test_few_points(n):
    edges, shift = periodic_radius_edges(torch.zeros(n, 3), 0.5, torch.eye(3))
    assert edges.shape == (2, 0)
    assert shift.shape == (0, 3)


EYE, POS = torch.eye(3), torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "no volume", lambda: periodic_radius_edges(POS, 1.0, torch.zeros(3, 3))),
        (ValueError, "no volume", lambda: periodic_radius_edges(POS, 1.0, torch.ones(3, 3), (True, True, False))),
        (ValueError, "must be finite", lambda: periodic_radius_edges(POS, 1.0, EYE * torch.nan)),
        (ValueError, "pos must have shape", lambda: periodic_radius_edges(torch.zeros(2, 2), 1.0, EYE)),
        (ValueError, "cell must have shape", lambda: periodic_radius_edges(POS, 1.0, torch.zeros(3))),
        (TypeError, "cell must be", lambda: periodic_radius_edges(POS, 1.0, [1.0, 1.0, 1.0])),
        (ValueError, "pass batch", lambda: periodic_radius_edges(POS, 1.0, EYE.expand(2, 3, 3))),
        (
            ValueError,
            "names 3 graphs",
            lambda: periodic_radius_edges(POS, 1.0, EYE.expand(2, 3, 3), batch=torch.tensor([0, 2])),
        ),
        (ValueError, "pbc must", lambda: periodic_radius_edges(POS, 1.0, EYE, (True, False))),
        (ValueError, "booleans", lambda: periodic_radius_edges(POS, 1.0, EYE, (1, 2, 3))),
        (ValueError, "cutoff", lambda: periodic_radius_edges(POS, -1.0, EYE)),
        (ValueError, "too many", lambda: periodic_radius_edges(POS, 1e4, EYE)),
        (ValueError, "row 0", lambda: periodic_radius_edges(POS * torch.nan, 1.0, EYE)),
    ],
)
def test_bad_input_is_named(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    pos, cell = torch.rand(2000, 3, dtype=torch.float64) * 20, 20 * torch.eye(3, dtype=torch.float64)
    edges, shift = periodic_radius_edges(pos, 2.5, cell)
    cuda_edges, cuda_shift = periodic_radius_edges(pos.cuda(), 2.5, cell.cuda())
    assert torch.equal(cuda_edges.cpu(), edges)
    assert torch.equal(cuda_shift.cpu(), shift)

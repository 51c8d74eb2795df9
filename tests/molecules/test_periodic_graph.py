"""Periodic graphs: against ASE, matscipy, vesin and brute force; the cap on neighbours; bad input."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.groups import random_orthogonal
from geomeq.harmonics import edge_vectors
from geomeq.models import SEGNN, Potential, SEGNNConfig
from geomeq.molecules import periodic_graph
from geomeq.neighbors import tie_tolerance
from geomeq.transforms import CutoffGraph, PeriodicGraph
from tests.molecules._lennard_jones import LennardJones
from tests.neighbors._brute import periodic as brute

FCC = 0.5 * (torch.ones(3, 3) - torch.eye(3)).double()


def structure(seed, dtype=torch.float64):
    """A random crystal: skewed, small, left-handed or partly periodic, with atoms far outside of the cell."""
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(1.5, 6, 3)) + rng.normal(size=(3, 3)) * rng.choice([0, 0.5])
    cell = cell[[1, 0, 2]] if seed % 3 == 0 else cell
    pbc = np.array([True, True, True]) if seed % 2 else rng.random(3) < 0.6
    pos = rng.uniform(-1, 2, (int(rng.integers(1, 8)), 3)) @ cell
    data = Data(pos=torch.from_numpy(pos), cell=torch.from_numpy(cell)[None], pbc=torch.from_numpy(pbc)[None])
    return data.apply(lambda x: x.to(dtype) if x.is_floating_point() else x)


def rows(i, j, shift):
    return sorted(map(tuple, np.column_stack([i, j, shift]).tolist()))


def lengths(data):
    return edge_vectors(data.pos, data.edge_index, data.get("shift"), data.get("cell"), data.get("batch")).norm(dim=1)


def from_ase_list(data, cutoff):
    neighborlist = pytest.importorskip("ase.neighborlist")
    ase = pytest.importorskip("ase")
    arrays = {"positions": data.pos.numpy(), "cell": data.cell[0].numpy(), "pbc": data.pbc[0].numpy()}
    atoms = ase.Atoms(f"H{len(data.pos)}", **arrays)
    return rows(*neighborlist.neighbor_list("ijS", atoms, cutoff))


def from_matscipy(data, cutoff):
    neighbours = pytest.importorskip("matscipy.neighbours")
    arrays = {"positions": data.pos.numpy(), "cell": data.cell[0].numpy(), "pbc": data.pbc[0].numpy()}
    return rows(*neighbours.neighbour_list("ijS", cutoff=cutoff, **arrays))


def from_vesin(data, cutoff):
    vesin = pytest.importorskip("vesin")
    found = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        points=data.pos.numpy(), box=data.cell[0].numpy(), periodic=data.pbc[0].numpy(), quantities="ijS"
    )
    return rows(*(np.asarray(x).astype(np.int64) for x in found))


def from_brute(data, cutoff):
    return brute(data.pos, cutoff, data.cell[0], data.pbc[0].tolist(), 8)


@pytest.mark.parametrize("peer", [from_ase_list, from_matscipy, from_vesin])
def test_equals_other_lists(peer):
    for seed in range(16):
        data = structure(seed)
        out = periodic_graph(data, 3.1)
        j, i = out.edge_index.numpy()
        assert rows(i, j, out.shift.numpy()) == peer(data, 3.1)


def test_equals_brute_force_over_images():
    for seed in range(6):
        data = structure(seed)
        out = periodic_graph(data, 2.0)
        j, i = out.edge_index.numpy()
        assert rows(i, j, out.shift.numpy()) == from_brute(data, 2.0)


def test_a_small_cell_meets_its_own_images():
    out = periodic_graph(Data(pos=torch.zeros(1, 3).double(), cell=FCC[None]), 1.0)
    assert out.num_edges == 12 + 6
    assert (out.edge_index == 0).all()
    assert (out.shift != 0).any(dim=1).all()
    torch.testing.assert_close(out.shift.sum(0), torch.zeros(3, dtype=torch.long))


def test_molecules_have_no_shift_and_batches_may_mix_them_with_crystals():
    molecule = Data(pos=torch.randn(5, 3))
    assert "shift" not in periodic_graph(molecule, 2.0)
    molecule.pbc = torch.zeros(1, 3, dtype=torch.bool)
    assert torch.equal(periodic_graph(molecule, 2.0).edge_index, CutoffGraph(2.0)(molecule).edge_index)
    molecule.cell = torch.zeros(1, 3, 3)
    crystal = structure(1, torch.float32)
    whole = periodic_graph(Batch.from_data_list([molecule, crystal, molecule]), 2.5)
    for mine, part in zip(whole.to_data_list(), [molecule, crystal, molecule], strict=True):
        alone = periodic_graph(part, 2.5)
        assert torch.equal(mine.edge_index, alone.edge_index)
        assert torch.equal(mine.shift, alone.shift)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_cap_keeps_ties_and_says_what_it_dropped(dtype):
    shells = [12, 6, 24, 12]  # of the face-centred cubic lattice
    for seed in range(3):
        turned = (FCC @ random_orthogonal(seed=seed).T).to(dtype)
        crystal = Data(pos=torch.zeros(1, 3, dtype=dtype), cell=turned[None])
        for cap, kept in ((1, 12), (12, 12), (13, 18), (18, 18), (19, 42), (54, 54), (99, 54)):
            out = periodic_graph(crystal, 2**0.5 + 1e-3, cap)
            assert out.num_edges == kept
            assert out.dropped_edges.tolist() == [sum(shells) - kept]
            assert out.shift.size(0) == kept


def test_a_cap_keeps_the_nearest_of_each_atom():
    data = structure(3)
    full, capped = periodic_graph(data, 4.0), periodic_graph(data, 4.0, 7)
    expected = []
    for atom in range(data.num_nodes):
        own = (full.edge_index[1] == atom).nonzero().flatten()
        seventh = lengths(full)[own].sort().values[6]
        expected += own[lengths(full)[own] <= seventh * (1 + 1e-9)].tolist()  # an image and its opposite tie
    assert torch.equal(capped.edge_index, full.edge_index[:, expected])
    assert torch.equal(capped.shift, full.shift[expected])
    assert 7 * data.num_nodes <= capped.num_edges < full.num_edges
    assert "dropped_edges" not in full
    assert "dropped_edges" not in periodic_graph(capped, 4.0)  # nor does it survive from another graph


def test_a_capped_batch_equals_its_parts():
    parts = [structure(seed) for seed in (1, 2, 4)]
    whole = periodic_graph(Batch.from_data_list(parts), 4.0, 3)
    assert whole.dropped_edges.shape == (3,)
    for mine, part in zip(whole.to_data_list(), parts, strict=True):
        alone = periodic_graph(part, 4.0, 3)
        for name in ("edge_index", "shift", "dropped_edges"):
            assert torch.equal(mine[name], alone[name])
    again = Batch.from_data_list(whole.to_data_list())
    assert torch.equal(again.dropped_edges, whole.dropped_edges)


def test_the_transform_wraps_it_and_agrees_with_cutoff_graph():
    data = structure(3)
    data.edge_attr, data.shift = torch.zeros(2, 4), torch.zeros(2, 3)
    out = PeriodicGraph(3.0)(data)
    assert torch.equal(out.edge_index, periodic_graph(data, 3.0).edge_index)
    assert "edge_attr" not in out
    assert "edge_attr" in data
    points = CutoffGraph(3.0)(data)
    assert torch.equal(points.edge_index, out.edge_index)
    assert torch.equal(points.shift, out.shift)
    assert PeriodicGraph(3.0, 5)(data).dropped_edges.item() > 0
    assert repr(PeriodicGraph(3, 5)) == "PeriodicGraph(cutoff=3.0, max_neighbors=5)"
    with pytest.raises(TypeError, match="PeriodicGraph needs a torch_geometric Data"):
        PeriodicGraph(3.0)(None)


def energy_per_atom(model, data):
    return float(model(periodic_graph(data, model.model.cutoff))["energy"]) / data.num_nodes


def steerable():
    torch.manual_seed(0)
    config = SEGNNConfig("1x0e", "2x0e+2x1o", pool="atoms", cutoff=2.5, radial="bessel", num_layers=2)
    model = SEGNN(config).double()
    model.cutoff = config.cutoff
    return Potential(model).eval()


@pytest.mark.parametrize("make", [lambda: Potential(LennardJones(smooth=True)).eval(), steerable])
def test_supercells_and_wrapping_change_nothing(make):
    model = make()
    cell = torch.tensor([[2.3, 0, 0], [0.6, 2.1, 0], [-0.4, 0.3, 2.6]]).double()
    pos = torch.tensor([[0.1, 0.2, 0.1], [0.5, 0.6, 0.4]]).double() @ cell
    primitive = Data(pos=pos, x=torch.ones(2, 1).double(), cell=cell[None])
    expected = energy_per_atom(model, primitive)
    for axis in range(3):
        doubled = cell.clone()
        doubled[axis] *= 2
        supercell = Data(pos=torch.cat([pos, pos + cell[axis]]), x=torch.ones(4, 1).double(), cell=doubled[None])
        assert energy_per_atom(model, supercell) == pytest.approx(expected, abs=1e-10)
    hop = torch.tensor([[2, -1, 0], [0, 3, -2]]).double()
    away = Data(pos=pos + hop @ cell, x=primitive.x, cell=cell[None])
    assert energy_per_atom(model, away) == pytest.approx(expected, abs=1e-10)
    mirrored = Data(pos=pos, x=primitive.x, cell=cell[[1, 0, 2]][None])  # the same lattice, left-handed
    assert energy_per_atom(model, mirrored) == pytest.approx(expected, abs=1e-10)
    moved = Data(pos=pos + 0.3 * hop, x=primitive.x, cell=cell[None])
    assert abs(energy_per_atom(model, moved) - expected) > 1e-6


@pytest.mark.parametrize("make", [lambda: Potential(LennardJones(smooth=True)).eval(), steerable])
def test_nothing_jumps_when_an_atom_passes_the_cutoff(make):
    model = make()
    edges, energies, forces = [], [], []
    for distance in (2.5 - 1e-7, 2.5 + 1e-7):
        pos = torch.tensor([[0.0, 0, 0], [1.1, 0, 0], [0, distance, 0]], dtype=torch.float64)
        data = Data(pos=pos, x=torch.ones(3, 1).double(), cell=9 * torch.eye(3).double()[None])
        graph = periodic_graph(data, 2.5)
        out = model(graph)
        edges.append(graph.num_edges)
        energies.append(float(out["energy"]))
        forces.append(out["forces"])
    assert edges[0] == edges[1] + 2
    assert abs(energies[0] - energies[1]) < 1e-8
    torch.testing.assert_close(*forces, atol=1e-6, rtol=0)


POS, EYE = torch.zeros(1, 3), torch.eye(3)[None]


@pytest.mark.parametrize(
    ("match", "call"),
    [
        ("has no cell: set data.cell", lambda: periodic_graph(Data(pos=POS, pbc=torch.tensor([True, True, False])), 1)),
        ("has no cell", lambda: CutoffGraph(1.0)(Data(pos=POS, pbc=True))),
        ("no volume", lambda: periodic_graph(Data(pos=POS, cell=torch.zeros(1, 3, 3)), 1.0)),
        ("no volume", lambda: periodic_graph(Data(pos=POS, cell=torch.ones(1, 3, 3)), 1.0)),
        ("must be finite", lambda: periodic_graph(Data(pos=POS * torch.nan, cell=EYE), 1.0)),
        ("must be finite", lambda: periodic_graph(Data(pos=POS, cell=EYE * torch.inf), 1.0)),
        ("max_neighbors must be a positive integer", lambda: periodic_graph(Data(pos=POS), 1.0, 0)),
        ("max_neighbors must be a positive integer", lambda: PeriodicGraph(1.0, 2.5)),
        ("cutoff must be positive", lambda: PeriodicGraph(0.0)),
        ("cutoff must be", lambda: periodic_graph(Data(pos=POS), -1.0)),
        ("needs pos", lambda: periodic_graph(Data(z=torch.ones(1)), 1.0)),
    ],
)
def test_bad_input_is_named(match, call):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_atom_written_on_both_faces_of_the_cell_is_named(dtype):
    cell = torch.tensor([[5.123, 0, 0], [1.7, 4.9, 0], [0.1, 0.2, 6.03]], dtype=dtype)
    pos = torch.tensor([[0, 0.3, 0.7], [0.4, 0.1, 0.2], [1, 0.3, 0.7]], dtype=dtype) @ cell
    pos = pos + 17.3  # far from zero: the sum with shift @ cell rounds
    with pytest.raises(ValueError, match="points 0 and 2 .*coincide .* or an image of it"):
        periodic_graph(Data(pos=pos, z=torch.tensor([1, 6, 1]), cell=cell[None]), 2.0)
    apart = pos.clone()
    apart[2] += 100 * tie_tolerance(dtype) * cell.norm(dim=1).max()
    assert periodic_graph(Data(pos=apart, cell=cell[None]), 2.0).num_edges > 0


def test_empty_structures_and_lonely_atoms():
    for n in (0, 1):
        out = periodic_graph(Data(pos=torch.zeros(n, 3), cell=9 * EYE), 1.0, 3)
        assert out.edge_index.shape == (2, 0)
        assert out.shift.shape == (0, 3)
        assert out.dropped_edges.tolist() == [0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    for seed in range(4):
        data = structure(seed)
        host, device = periodic_graph(data, 3.0, 6), periodic_graph(data.clone().cuda(), 3.0, 6)
        for name in ("edge_index", "shift", "dropped_edges"):
            assert torch.equal(device[name].cpu(), host[name])

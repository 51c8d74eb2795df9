"""The bundled slabs against EMT itself, their splits, and elements' energies."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from geomeq.datasets import Slabs, atom_energies
from geomeq.transforms import CutoffGraph

SPLITS = {"train": 150, "val_id": 25, "val_ood_ads": 20, "val_ood_cat": 20, "val_ood_both": 15}


@pytest.fixture(scope="module")
def splits():
    return {name: Slabs(name) for name in SPLITS}


def test_splits_are_disjoint_and_complete(splits):
    systems = {name: set(frames._data.sid.tolist()) for name, frames in splits.items()}
    assert {name: len(found) for name, found in systems.items()} == SPLITS
    assert set().union(*systems.values()) == set(range(230))
    assert len(Slabs("val_ood")) == sum(len(splits[name]) for name in list(SPLITS)[2:]) == 550
    assert len(splits["train"]) == 2100


def test_what_is_unseen_is_unseen_and_elements_are_all_known(splits):
    names = splits["train"].names
    parts = {name: {names[k] for k in frames._data.sid.tolist()} for name, frames in splits.items()}

    def adsorbates(split):
        return {name.split(" on ")[0] for name in parts[split]}

    def metals(split):
        return {"".join(c for c in name.split(" on ")[1].split("(")[0] if c.isalpha()) for name in parts[split]}

    assert adsorbates("val_id") <= adsorbates("train")
    assert adsorbates("val_ood_ads") | adsorbates("val_ood_both") == {"CH", "NO", "NN"}
    assert not adsorbates("val_ood_ads") & adsorbates("train")
    assert metals("val_ood_ads") <= metals("train")
    assert not (metals("val_ood_cat") | metals("val_ood_both")) & metals("train")
    known = set(splits["train"]._data.z.tolist())
    assert known == {1, 6, 7, 8, 13, 28, 29, 46, 47, 78, 79}
    assert all(set(frames._data.z.tolist()) <= known for frames in splits.values())


def test_labels_are_those_of_emt(splits):
    emt = pytest.importorskip("ase.calculators.emt")
    from ase import Atoms

    for frames in splits.values():
        for k in (0, len(frames) // 2, len(frames) - 1):
            f = frames[k]
            atoms = Atoms(
                f.z.numpy(), f.pos.double().numpy(), cell=f.cell[0].double().numpy(), pbc=True, calculator=emt.EMT()
            )
            assert atoms.get_potential_energy() == pytest.approx(f.energy.item(), abs=2e-5)
            np.testing.assert_allclose(atoms.get_forces(), f.force.numpy(), atol=1e-4)
            np.testing.assert_allclose(atoms.get_stress(voigt=False), f.stress[0].numpy(), atol=1e-6)
            atoms.positions[-1, 2] += 0.01  # the comparison can fail
            assert abs(atoms.get_forces() - f.force.numpy()).max() > 1e-3


def test_form_of_a_frame(splits):
    for frames in splits.values():
        for f in (frames[0], frames[-1]):
            n = f.num_nodes
            assert f.pos.shape == f.force.shape == (n, 3)
            assert f.cell.shape == f.stress.shape == (1, 3, 3)
            assert f.pbc.tolist() == [[True, True, True]]
            assert f.energy.dtype == f.reference.dtype == torch.float64
            assert torch.equal(f.fixed, f.tags == 0)
            assert 0 < int(f.fixed.sum()) < n - 1
            assert 1 <= int((f.tags == 2).sum()) <= 2
            assert int(f.z[f.tags == 2].max()) <= 8
            assert f.pos[f.tags == 2, 2].min() > f.pos[f.tags == 0, 2].max()
            assert f.force[f.fixed].abs().max() > 0  # they feel forces, they do not move


def test_fixed_atoms_do_not_move_within_a_system(splits):
    frames = [f for f in splits["train"][:28] if int(f.kind) < 2]
    start = {int(f.sid): f for f in reversed(frames)}
    for f in frames:
        torch.testing.assert_close(f.pos[f.fixed], start[int(f.sid)].pos[f.fixed], atol=3e-4, rtol=0)
        torch.testing.assert_close(f.cell, start[int(f.sid)].cell)
    strained = next(f for f in splits["train"][:28] if int(f.kind) == 2)
    assert not torch.allclose(strained.cell, start[int(strained.sid)].cell, atol=1e-2)


def test_relaxations_end_where_forces_are_small():
    found = Slabs("val_id", task="IS2RE")
    assert len(found) == 25
    by_system = {}
    for f in Slabs("val_id"):
        if int(f.kind) == 0:
            by_system.setdefault(int(f.sid), []).append(f)
    for sample in found:
        path = by_system[int(sample.sid)]
        assert torch.equal(sample.pos, path[0].pos)
        assert torch.equal(sample.pos_relaxed, path[-1].pos)
        assert sample.energy_relaxed < sample.energy
        assert path[-1].force[~path[-1].fixed].norm(dim=1).max() < 0.025
        assert path[0].force[~path[0].fixed].norm(dim=1).max() > 0.1
        assert -15 < sample.energy_relaxed - sample.reference < 2


def test_edges_and_batches():
    frames = Slabs("val_id", pre_transform=CutoffGraph(6.0), pre_filter=lambda f: int(f.sid) < 153)
    batch = next(iter(DataLoader(frames, batch_size=4)))
    assert batch.cell.shape == (4, 3, 3)
    assert batch.shift.dtype == torch.int64
    assert batch.edge_index.size(1) / batch.num_nodes > 30


def test_a_wrong_choice_is_named():
    with pytest.raises(ValueError, match="split must be one of train, val_id, .*val_ood, got 'test'"):
        Slabs("test")
    with pytest.raises(ValueError, match="task must be 'S2EF' or 'IS2RE', got 'IS2RS'"):
        Slabs("train", task="IS2RS")


def made(z, energy):
    return Data(z=torch.tensor(z), energy=torch.tensor([energy], dtype=torch.float64))


def test_energies_of_elements_are_found():
    true = {1: -13.6, 6: -1030.0, 8: -2040.0}
    generator = torch.Generator().manual_seed(0)
    frames = []
    for _ in range(20):
        z = torch.tensor([1, 6, 8])[torch.randint(3, (7,), generator=generator)].tolist()
        frames.append(made(z, sum(true[k] for k in z)))
    found = atom_energies(frames)
    assert found.shape == (9,)
    assert found.dtype == torch.float64
    for z, energy in true.items():
        assert found[z].item() == pytest.approx(energy, rel=1e-10)
    assert found[[0, 2, 7]].abs().max() == 0


def test_one_composition_gives_the_mean_energy():
    frames = [made([8, 1, 1], -70.0), made([1, 8, 1], -74.0)]
    found = atom_energies(frames)
    assert (2 * found[1] + found[8]).item() == pytest.approx(-72.0)
    assert found[8].item() == pytest.approx(found[1].item() / 2)  # the shortest solution


def test_frames_that_have_no_energy_are_named():
    with pytest.raises(ValueError, match="at least one frame"):
        atom_energies([])
    with pytest.raises(ValueError, match=r"frame 1 must have z and energy, it has \['z'\]"):
        atom_energies([made([1], 0.0), Data(z=torch.tensor([1]))])
    with pytest.raises(ValueError, match="the energy of frame 1 is nan"):
        atom_energies([made([1], 0.0), made([1], float("nan"))])

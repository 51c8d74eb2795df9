"""Molecular dynamics: bundled GFN2-xTB frames, and rMD17, 3BPA, AcAc where GEOMEQ_DATA names them."""

import importlib.util

import numpy as np
import pytest
import torch

from geomeq.datasets import MD, list_bundled
from geomeq.datasets import _md_source as source

BUNDLED = source.SOURCES["gfn2"].molecules
KCAL = 0.0433641  # eV


def frames(dataset, key):
    return dataset._data[key].reshape(len(dataset), -1, 3)


@pytest.mark.parametrize("molecule", BUNDLED)
@pytest.mark.parametrize(("split", "size"), [("train", 1000), ("test", 500)])
class TestBundled:
    def test_attributes(self, molecule, split, size):
        dataset = MD(molecule, split)
        assert len(dataset) == size
        kinds = {k: (tuple(v.shape), v.dtype) for k, v in dataset[7].to_dict().items()}
        f32 = torch.float32
        assert kinds == {
            **{"z": ((9,), torch.int64), "pos": ((9, 3), f32), "force": ((9, 3), f32)},
            **{"energy": ((1,), torch.float64), "dipole": ((1, 3), f32)},
        }

    def test_no_net_force_and_no_net_torque(self, molecule, split, size):
        dataset = MD(molecule, split)
        pos, force = frames(dataset, "pos").double(), frames(dataset, "force").double()
        assert force.sum(dim=1).abs().max() < 1e-5
        assert torch.linalg.cross(pos, force).sum(dim=1).abs().max() < 1e-4
        assert 0.9 < force.std() < 1.7

    def test_frames_are_spread_like_a_canonical_ensemble(self, molecule, split, size):
        """The potential energy of 3 n - 6 classical modes spreads by about k T sqrt((3 n - 6) / 2): 0.14 eV."""
        dataset = MD(molecule, split)
        assert 0.10 < dataset._data.energy.std() < 0.22
        bond = (frames(dataset, "pos")[:, 0] - frames(dataset, "pos")[:, 1]).norm(dim=-1)
        assert 0.02 < bond.std() < 0.1

    def test_frames_are_well_separated(self, molecule, split, size):
        energy = MD(molecule, split)._data.energy
        lag = torch.corrcoef(torch.stack([energy[1:], energy[:-1]]))[0, 1]
        assert abs(lag) < 0.35


@pytest.mark.parametrize("molecule", BUNDLED)
def test_training_and_test_frames_are_alike_but_not_the_same(molecule):
    train, test = MD(molecule), MD(molecule, "test")
    assert abs(train.mean_energy - test.mean_energy) < 0.05
    assert torch.cdist(frames(train, "pos").flatten(1), frames(test, "pos").flatten(1)).min() > 0.05


@pytest.mark.skipif(importlib.util.find_spec("tblite") is None, reason="tblite makes the labels: pip install tblite")
@pytest.mark.parametrize("molecule", BUNDLED)
def test_labels_are_those_of_the_method(molecule):
    from tblite.interface import Calculator

    data = MD(molecule, "test")[3]
    bohr, hartree = 0.529177210903, 27.211386245988
    calculator = Calculator("GFN2-xTB", data.z.numpy(), data.pos.double().numpy() / bohr)
    calculator.set("verbosity", 0)
    result = calculator.singlepoint()
    assert data.energy.item() == pytest.approx(result.get("energy") * hartree, abs=1e-4)
    np.testing.assert_allclose(data.force, -result.get("gradient") * hartree / bohr, atol=1e-3)
    np.testing.assert_allclose(data.dipole[0], result.get("dipole") * bohr, atol=1e-3)


@pytest.mark.parametrize("molecule", source.SOURCES["rmd17"].molecules)
def test_rmd17(shared_data, molecule):
    train, test = MD(molecule, source="rmd17"), MD(molecule, "test", source="rmd17")
    assert len(train) == len(test) == 1000
    assert frames(train, "force").double().sum(dim=1).abs().max() < 5e-5 * KCAL * 2
    with np.load(shared_data / "rmd17" / f"{molecule}.npz") as raw:
        assert train[5].energy.item() == pytest.approx(raw["train_energy"][5] * KCAL, rel=2e-7)
        np.testing.assert_allclose(test[9].force, raw["test_forces"][9] * KCAL, rtol=1e-5, atol=1e-6)
        assert set(raw["train_old_index"]).isdisjoint(raw["test_old_index"])


def test_rmd17_ethanol_in_both_units(shared_data):
    ev, kcal = MD("ethanol", source="rmd17"), MD("ethanol", source="rmd17", energy_unit="kcal/mol")
    assert -97086 < kcal.mean_energy < -97056
    assert kcal._data.force.std().item() == pytest.approx(27.5, abs=0.2)
    assert kcal.mean_energy * KCAL == pytest.approx(ev.mean_energy, rel=1e-6)
    assert ev._data.force.std().item() == pytest.approx(1.195, abs=0.005)


def test_3bpa_and_acac(shared_data):
    cold, mixed = MD("3bpa", source="3bpa"), MD("3bpa", "train_mixedT", source="3bpa")
    assert cold.split == "train_300K"
    assert (cold._data.force.std().item(), mixed._data.force.std().item()) == pytest.approx((0.95, 1.42), abs=0.01)
    assert -17660.82 < cold._data.energy.min() < mixed._data.energy.max() < -17655.63
    sizes = {split: len(MD("acac", split, source="acac")) for split in source.SOURCES["acac"].splits}
    assert list(sizes.values()) == [500, 500, 650, 650, 45, 15]
    assert "force" not in MD("acac", "test_dihedral", source="acac")[0]
    assert len(MD("acac", "test", source="acac")) == 650


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"molecule": "water"}, "molecule must be one of 'ethanol', 'acetamide' of gfn2, got 'water'"),
        (
            {"molecule": "ethanol", "source": "md17"},
            "source must be one of 'gfn2', .*, got 'md17'",
        ),
        ({"molecule": "ethanol", "split": "valid"}, "split must be one of 'train', 'test' of gfn2, got 'valid'"),
        ({"molecule": "ethanol", "energy_unit": "Ha"}, "energy_unit must be 'eV' or 'kcal/mol', got 'Ha'"),
        ({"molecule": "3bpa", "split": "test", "source": "3bpa"}, "split must be one of .*'train' of 3bpa, got 'test'"),
    ],
)
def test_a_wrong_choice_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MD(**arguments)


def test_a_missing_file_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("GEOMEQ_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"GEOMEQ_DATA is not set\. .* MD\('ethanol', source='gfn2'\)"):
        MD("aspirin", root=tmp_path, source="rmd17")
    monkeypatch.setenv("GEOMEQ_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"found neither .*aspirin\.npz nor .*aspirin\.npz"):
        MD("aspirin", root=tmp_path, source="rmd17")


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("GEOMEQ_DATA", raising=False)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "aspirin.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"aspirin\.npz \(2 bytes\) is damaged, truncated or another version"):
        MD("aspirin", root=tmp_path, source="rmd17")


def test_the_bundled_molecules_are_registered():
    assert {file.name for file in list_bundled()} >= {f"md/{name}.npz" for name in BUNDLED}

"""Relaxations by a network and by EMT, and what is said of them."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from geomeq.datasets import Slabs
from tests.examples._run import EXAMPLES, load

pytest.importorskip("ase", reason="relaxations need ase: pip install 'geomeq[data]'")

TINY = ["--model", "segnn", "--config", "irreps_hidden=4x0e+4x1o", "num_layers=1", "lmax_attributes=1"]


@pytest.fixture
def example(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setenv("GEOMEQ_CACHE", str(tmp_path_factory.getbasetemp() / "potential-cache"))
    return load("relax_slab")


class EMTModel(nn.Module):
    """EMT as if it were a network."""

    def forward(self, data):
        from ase.calculators.emt import EMT

        from geomeq.molecules import to_ase

        atoms = to_ase(data)
        atoms.calc = EMT()
        forces = torch.from_numpy(atoms.get_forces(apply_constraint=False))
        return {"energy": torch.tensor([atoms.get_potential_energy()]), "forces": forces}


def test_a_perfect_model_finds_the_minimum_of_emt(example):
    args = example.parse(["--quick"])
    sample = Slabs("val_id", task="IS2RE")[0]
    row = example.compare(sample, EMTModel(), 4.5, args)
    assert row["done"]
    assert abs(row["energy"]) < 1e-4
    assert row["rmsd"] < 1e-2
    assert row["sites"][0] == row["sites"][1]
    assert row["from start"] > 0.1
    assert example.apart(row["start"], row["EMT"]) > 0.1  # the measures can fail
    fixed = sample.fixed.numpy()
    np.testing.assert_array_equal(row["network"].positions[fixed], row["start"].positions[fixed])
    stored = float(sample.energy_relaxed)
    assert example.emt_energy(row["EMT"]) == pytest.approx(stored, abs=5e-3)


def test_sites_are_told_apart(example):
    from ase.build import add_adsorbate, fcc100, fcc111

    found = {}
    for build, place, height in (
        (fcc111, "ontop", 1.8),
        (fcc111, "bridge", 1.3),
        (fcc111, "fcc", 1.1),
        (fcc100, "hollow", 0.9),
    ):
        slab = build("Cu", (3, 3, 3), vacuum=7.0)
        slab.set_tags([0] * len(slab))
        add_adsorbate(slab, "O", height, place)
        slab.set_tags([0] * (len(slab) - 1) + [2])
        slab.pbc = True
        found[place] = example.site(slab)
    assert found == {"ontop": "top", "bridge": "bridge", "fcc": "threefold", "hollow": "fourfold"}


def test_the_example_runs_end_to_end(example, tmp_path, capsys):
    few = ["--seconds", "1", "--systems", "1", "--steps", "2", "--out", str(tmp_path)]
    found = example.main(["--quick", *TINY, *few])
    assert np.isfinite(found["energy"])
    assert (tmp_path / "relaxed.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "model" / "history.json").read_text())["data"] == "slabs"
    assert "EMT's minimum" in capsys.readouterr().out
    again = example.main(["--load", str(tmp_path / "model"), *few])  # a trained model is taken as it is
    assert again == found
    with pytest.raises(SystemExit, match="holds another model, not with {'seconds': 2.0}"):
        example.main(["--quick", *TINY, *few, "--seconds", "2"])


def test_every_model_has_a_size_of_its_own(example):
    import train_potential

    for name in ("escn", "scn", "segnn"):
        config = train_potential.options(example.parse(["--model", name]).config)
        network = train_potential.build(name, config, 4.5, [1, 29])
        assert getattr(getattr(network, "config", None), "forces", "autograd") == "autograd"

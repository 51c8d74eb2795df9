"""Structures to and from ASE: what is read, with which signs and orders, and exact ways back."""

import sys

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.molecules import GeomeqCalculator, from_ase, to_ase
from geomeq.transforms import PeriodicGraph

pytest.importorskip("ase", reason="needs ase: pip install 'geomeq[data]'")

from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength
from ase.io import read, write


def slab():
    """A strained, rattled slab with everything that an ``Atoms`` can hold."""
    atoms = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    add_adsorbate(atoms, "O", 1.2, "fcc")
    atoms.set_cell(atoms.cell @ np.array([[1.01, 0.02, 0], [0, 0.99, 0.01], [0, 0, 1]]), scale_atoms=True)
    atoms.rattle(0.1, seed=0)
    atoms.set_constraint(FixAtoms(indices=[-2, 0, 3]))
    atoms.set_initial_charges(np.linspace(-1, 1, 13))
    atoms.set_initial_magnetic_moments(np.linspace(0, 2, 13))
    atoms.set_momenta(np.random.default_rng(0).normal(size=(13, 3)), apply_constraint=False)
    atoms.info = {"sid": 12, "name": "a slab", "matrix": np.eye(2)}
    atoms.calc = EMT()
    atoms.get_potential_energy()
    atoms.get_forces()
    return atoms


def same(a, b):
    """Everything equal, bit for bit."""
    assert a == b  # elements, positions, cell, pbc
    assert set(a.arrays) == set(b.arrays)
    assert all(np.array_equal(a.arrays[name], b.arrays[name]) for name in a.arrays)
    assert [c.todict()["name"] for c in a.constraints] == [c.todict()["name"] for c in b.constraints]
    for mine, other in zip(a.constraints, b.constraints, strict=True):
        assert set(mine.get_indices() % len(a)) == set(other.get_indices() % len(b))
    assert set(a.info) == set(b.info)
    assert all(np.array_equal(a.info[key], b.info[key]) for key in a.info)
    assert (a.calc is None) == (b.calc is None)
    if a.calc is not None:
        for name in ("energy", "forces", "stress"):
            mine, other = (x.calc.get_property(name, x, allow_calculation=False) for x in (a, b))
            assert (mine is None) == (other is None)
            assert mine is None or np.array_equal(mine, other)
    return True


STRUCTURES = {
    "slab": slab,
    "crystal": lambda: bulk("NaCl", "rocksalt", a=5.64),
    "molecule": lambda: molecule("CH3CH2OH"),
    "one atom": lambda: Atoms("H"),
    "none": lambda: Atoms(cell=[1, 2, 3], pbc=True),
    "box": lambda: Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[8, 9, 10], pbc=False),
    "wire": lambda: Atoms("H", cell=[[0, 0, 0], [0, 2.0, 1.0], [0, 0, 0]], pbc=[False, True, False]),
    "left-handed": lambda: Atoms("CuAu", [[0, 0, 0], [9, 9, 9]], cell=bulk("Cu").cell.array[[1, 0, 2]], pbc=True),
    "spins": lambda: Atoms("Fe2", [[0, 0, 0], [0, 0, 2]], magmoms=[[0, 0, 1.0], [1, 0, 0]]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_there_and_back_is_exact(name):
    atoms = STRUCTURES[name]()
    data = from_ase(atoms)
    assert same(to_ase(data), atoms)
    again = from_ase(to_ase(data))
    assert set(again.keys()) == set(data.keys())
    assert all(torch.equal(again[k], data[k]) for k in data.keys() if isinstance(data[k], torch.Tensor))  # noqa: SIM118
    connected = PeriodicGraph(4.0)(data)
    assert same(to_ase(connected), atoms)


def test_a_batch_goes_back_to_its_structures():
    frames = [slab(), slab()]
    frames[1].rattle(0.05, seed=3)
    frames[1].info["sid"] = 13
    frames[1].info["only here"] = True
    frames[1].get_potential_energy()
    frames[1].get_forces()
    batch = Batch.from_data_list([from_ase(atoms) for atoms in frames])
    assert batch.energy.shape == (2,)
    assert batch.stress.shape == (2, 3, 3)
    for atoms, back in zip(frames, to_ase(PeriodicGraph(4.0)(batch)), strict=True):
        assert same(back, atoms)


def test_attributes_of_a_slab():
    atoms = slab()
    data = from_ase(atoms)
    shapes = {name: list(value.shape) for name, value in data.to_dict().items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        **{"pos": [13, 3], "z": [13], "cell": [1, 3, 3], "pbc": [1, 3], "energy": [1], "force": [13, 3]},
        **{"stress": [1, 3, 3], "fixed": [13], "tags": [13], "charges": [13], "magmoms": [13], "momenta": [13, 3]},
    }
    assert (data.z.dtype, data.tags.dtype, data.pbc.dtype, data.fixed.dtype) == (torch.int64,) * 2 + (torch.bool,) * 2
    assert data.pbc.tolist() == [[True, True, False]]
    assert data.fixed.nonzero().flatten().tolist() == [0, 3, 11]
    assert data.info["name"] == "a slab"
    assert (len(data.info), list(data.info), data.info.get("none", 7)) == (3, ["sid", "name", "matrix"], 7)
    assert "sid" in repr(data.info)
    assert not atoms.get_forces()[0].any()  # ASE hides the force on a fixed atom; a model must not learn that
    assert data.force[0].abs().max() > 1e-3
    half = from_ase(atoms, dtype=torch.float32)
    assert {half[n].dtype for n in ("pos", "cell", "force", "stress", "charges")} == {torch.float32}
    assert half.energy.dtype == torch.float64


def test_stress_has_the_order_and_sign_of_ase():
    voigt = np.array([1.0, 2, 3, 4, 5, 6])  # xx, yy, zz, yz, xz, xy
    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, stress=voigt)
    assert from_ase(atoms).stress[0].tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]
    np.testing.assert_array_equal(from_ase(atoms).stress[0], atoms.get_stress(voigt=False))
    np.testing.assert_array_equal(to_ase(from_ase(atoms)).get_stress(), voigt)
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
    atoms.calc = EMT()
    atoms.get_stress()
    assert float(from_ase(atoms).stress[0].trace()) > 0  # a stretched crystal pulls


def test_results_of_other_positions_are_not_read():
    atoms = slab()
    atoms.positions[0, 0] += 0.1
    assert not {"energy", "force", "stress"} & set(from_ase(atoms).keys())
    with pytest.raises(ValueError, match="no 'energy' to read as energy"):
        from_ase(atoms, ["energy"])
    lazy = bulk("Cu")
    lazy.calc = EMT()
    assert "energy" not in from_ase(lazy)  # nothing is computed on the way
    assert lazy.calc.results == {}


def test_named_properties_make_structures_alike():
    names = ["fixed", "tags", "charges", "magmoms", "momenta", "masses", "info"]
    data = [from_ase(atoms, names, with_cell=True) for atoms in (slab(), molecule("H2O"))]
    assert set(data[0].keys()) == set(data[1].keys())
    batch = Batch.from_data_list(data)
    assert batch.cell.shape == (2, 3, 3)
    assert not batch.pbc[1].any()
    assert batch.fixed.tolist()[-3:] == [False] * 3
    assert "energy" not in data[0]
    assert data[1].masses.tolist() == molecule("H2O").get_masses().tolist()


def test_energies_under_other_names(tmp_path):
    atoms = molecule("H2O")
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -12.5, np.arange(9.0).reshape(3, 3)
    atoms.info["REF_stress"] = np.arange(9.0).reshape(3, 3)
    write(tmp_path / "water.xyz", atoms)
    keys = {"energy": "REF_energy", "force": "REF_forces", "stress": "REF_stress"}
    data = from_ase(read(tmp_path / "water.xyz"), keys=keys)
    assert data.energy.tolist() == [-12.5]
    assert data.force.tolist() == np.arange(9.0).reshape(3, 3).tolist()
    assert data.stress.shape == (1, 3, 3)
    with pytest.raises(ValueError, match="no 'DFT_energy' to read as energy"):
        from_ase(atoms, keys={"energy": "DFT_energy"})


def test_an_extxyz_file_there_and_back(tmp_path):
    frames = [slab(), slab()]
    frames[1].rattle(0.02, seed=5)
    frames[1].get_potential_energy()
    frames[1].get_forces()
    write(tmp_path / "slabs.xyz", frames, write_results=True)
    for mine, frame in zip(read(tmp_path / "slabs.xyz", ":"), frames, strict=True):
        data, other = from_ase(mine), from_ase(frame)
        torch.testing.assert_close(data.pos, other.pos, atol=1e-7, rtol=0)
        torch.testing.assert_close(data.energy, other.energy)
        torch.testing.assert_close(data.stress, other.stress, atol=1e-7, rtol=0)
        assert torch.equal(data.fixed, other.fixed)


def fixed_bond():
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLength(0, 1))
    return atoms


def wrong_stress():
    atoms = bulk("Cu")
    atoms.info["s"] = np.arange(5.0)
    atoms.arrays["f"] = np.zeros((1, 2))
    return atoms


def named(value):
    atoms = Atoms("H2", positions=np.eye(3)[:2])
    atoms.info["n"] = value
    return atoms


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (TypeError, "needs an ase.Atoms, got list; take the frames one by one", lambda: from_ase([molecule("H2O")])),
        (TypeError, "write .'energy'.", lambda: from_ase(molecule("H2O"), "energy")),
        (ValueError, "properties must be among .* got forces", lambda: from_ase(molecule("H2O"), ["forces"])),
        (ValueError, "keys must be among energy, force, stress", lambda: from_ase(molecule("H2O"), keys={"z": "q"})),
        (ValueError, "not FixBondLengths?; remove it", lambda: from_ase(fixed_bond())),
        (ValueError, "'s' must have 6 entries", lambda: from_ase(wrong_stress(), keys={"stress": "s"})),
        (ValueError, "'f' must have shape .1, 3.", lambda: from_ase(wrong_stress(), keys={"force": "f"})),
        (
            ValueError,
            "'n' must be one number to be read as energy, got shape .2.",
            lambda: from_ase(named([1, 2]), keys={"energy": "n"}),
        ),
        (
            ValueError,
            "'n' must hold numbers to be read as energy, got 'x'",
            lambda: from_ase(named("x"), keys={"energy": "n"}),
        ),
        (
            TypeError,
            "dtype must be torch.float32 or torch.float64, got torch.int64",
            lambda: from_ase(named("x"), dtype=torch.int64),
        ),
        (ValueError, "needs the elements z", lambda: to_ase(Data(pos=torch.zeros(1, 3)))),
        (ValueError, "pos must have shape", lambda: to_ase(Data(pos=torch.zeros(1, 2), z=torch.ones(1)))),
        (ValueError, "z must have shape", lambda: to_ase(Data(pos=torch.zeros(2, 3), z=torch.ones(1)))),
        (
            ValueError,
            "tags must have shape",
            lambda: to_ase(Data(pos=torch.zeros(2, 3), z=torch.ones(2, dtype=torch.long), tags=torch.ones(3))),
        ),
    ],
)
def test_bad_input_is_named(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("call", [lambda: from_ase(None), lambda: to_ase(None), lambda: GeomeqCalculator(print, 1.0)])
def test_without_ase_there_is_an_install_line(monkeypatch, call):
    monkeypatch.setitem(sys.modules, "ase", None)
    with pytest.raises(ImportError, match=r"pip install 'geomeq\[data\]'"):
        call()

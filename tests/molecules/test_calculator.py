"""The calculator: signs and units against ASE's own, finite differences, dynamics, relaxations, bad input."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geomeq.models import ESCN, SCN, SEGNN, ESCNConfig, Potential, ScaledPotential, SCNConfig, SEGNNConfig
from geomeq.molecules import GeomeqCalculator, from_ase
from geomeq.transforms import PeriodicGraph
from tests.molecules._lennard_jones import LennardJones

pytest.importorskip("ase", reason="needs ase: pip install 'geomeq[data]'")

from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed, Calculator, PropertyNotImplementedError
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS, FIRE

SHEAR = np.array([[1.0, 0.03, 0], [0, 1, 0.02], [0, 0, 0.98]])


def crystal(repeat=(2, 2, 2), seed=1, pbc=True, noise=0.05):
    atoms = bulk("Ar", "fcc", a=1.6, cubic=True) * repeat
    atoms.set_cell(atoms.cell @ SHEAR, scale_atoms=True)
    atoms.rattle(noise, seed=seed)
    atoms.pbc = pbc
    return atoms


def ours(**options):
    options.setdefault("cutoff", 2.5)
    return GeomeqCalculator(Potential(LennardJones(cutoff=2.5, smooth=options.pop("smooth", True))), **options)


def theirs():
    return AseLennardJones(sigma=1.0, epsilon=1.0, rc=2.5)


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, False, True), False])
@pytest.mark.parametrize("handed", [(0, 1, 2), (1, 0, 2)])
def test_lennard_jones_equals_that_of_ase(pbc, handed):
    atoms = crystal(pbc=pbc)
    atoms.cell = atoms.cell.array[list(handed)]
    atoms.positions += np.random.default_rng(0).integers(-3, 4, (32, 3)) * np.array(pbc) @ atoms.cell.array
    atoms.calc = theirs()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = ours(smooth=False)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-10)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-10)
    assert np.abs(stress[3:]).min() > 1e-3  # yz, xz, xy are told apart
    assert len(set(np.abs(stress[3:]).round(3))) == 3


def test_results_of_a_function_pass_unchanged():
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell @ SHEAR, scale_atoms=True)
    atoms.rattle(0.05, seed=0)

    def emt(data):
        frame = Atoms(data.z.numpy(), data.pos.numpy(), cell=data.cell[0].numpy(), pbc=data.pbc[0].numpy())
        frame.calc = EMT()
        stress = torch.from_numpy(frame.get_stress(voigt=False))
        energies = torch.from_numpy(frame.get_potential_energies())
        return {
            **{"energy": torch.tensor([frame.get_potential_energy()], dtype=torch.float64), "stress": stress[None]},
            **{"forces": torch.from_numpy(frame.get_forces()), "energies": energies},
        }

    expected = atoms.copy()
    expected.calc = EMT()
    atoms.calc = GeomeqCalculator(emt, transform=lambda data: data)
    assert atoms.get_potential_energy() == pytest.approx(expected.get_potential_energy(), abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), expected.get_forces(), atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(), expected.get_stress(), atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies(), expected.get_potential_energies(), atol=1e-12)
    np.testing.assert_allclose(atoms.calc.results["energies"].sum(), atoms.get_potential_energy())


def test_forces_and_stress_are_slopes_of_the_energy():
    atoms = crystal((1, 1, 2))
    atoms.calc = ours()
    forces, stress, step = atoms.get_forces(), atoms.get_stress(voigt=False), 1e-5
    for i, k in ((0, 0), (3, 1), (7, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[i, k] += sign * step
            energies.append(moved.get_potential_energy())
        assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(forces[i, k], rel=1e-6, abs=1e-7)
    for a, b in ((0, 0), (1, 2), (0, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.set_cell(atoms.cell @ strain, scale_atoms=True)
            energies.append(moved.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
        assert slope == pytest.approx(stress[a, b], rel=1e-6, abs=1e-7)


def test_units_are_those_of_ase():
    """Argon with its own parameters vibrates at the frequency that ASE's Lennard-Jones gives."""
    parameters = {"sigma": 3.4, "epsilon": 0.0104}
    dimer = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.9]])
    results = []
    for calc in (
        AseLennardJones(rc=10.0, **parameters),
        GeomeqCalculator(Potential(LennardJones(cutoff=10.0, **parameters)), cutoff=10.0),
    ):
        atoms = dimer.copy()
        atoms.calc = calc
        VelocityVerlet(atoms, 4 * units.fs).run(80)
        results.append(atoms.positions)
    np.testing.assert_allclose(*results, atol=1e-10)
    assert np.abs(results[0] - dimer.positions).max() > 0.01


def total_energies(calc, steps, step, seed=0):
    atoms = crystal(noise=0.01)
    thermal = np.sqrt(0.3 * atoms.get_masses()[:, None])
    atoms.set_momenta(thermal * np.random.default_rng(seed).normal(size=(32, 3)))
    atoms.calc = calc
    dynamics, energies = VelocityVerlet(atoms, step), []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
    dynamics.run(steps)
    return np.array(energies), atoms


def test_dynamics_conserve_the_energy_up_to_the_square_of_the_step():
    deviation = [np.ptp(total_energies(ours(), n, 1 / n)[0]) for n in (40, 80)]
    assert deviation[0] / deviation[1] == pytest.approx(4, rel=0.25)
    model = Potential(LennardJones(smooth=True))

    def crooked(data):  # the check has teeth: forces that are no slope
        out = model(data)
        return {**out, "forces": out["forces"] + 0.05 * torch.roll(out["forces"], 1, dims=1)}

    model.eval()
    wrong = [np.ptp(total_energies(GeomeqCalculator(crooked, 2.5), n, 1 / n)[0]) for n in (40, 80)]
    assert wrong[0] / wrong[1] < 2


def test_the_neighbour_list_of_the_calculator_changes_nothing_but_the_time():
    reference, _ = total_energies(ours(skin=0.0), 60, 0.02)
    for skin in (0.1, 1.0):
        calc = ours(skin=skin)
        energies, atoms = total_energies(calc, 60, 0.02)
        np.testing.assert_allclose(energies, reference, atol=1e-9)
        assert 1 <= calc.neighbors.builds < 61 / 2
    atoms.set_cell(atoms.cell * 1.001, scale_atoms=True)
    builds = calc.neighbors.builds
    atoms.get_potential_energy()
    assert calc.neighbors.builds == builds + 1


def test_langevin_dynamics_reach_the_temperature():
    atoms = crystal()
    atoms.calc = ours()
    rng = np.random.RandomState(0)
    dynamics = Langevin(atoms, 0.05, temperature_K=0.2 / units.kB, friction=2.0, fixcm=False, rng=rng)
    temperatures = []
    dynamics.attach(lambda: temperatures.append(atoms.get_temperature() * units.kB))
    dynamics.run(100)
    assert np.mean(temperatures[40:]) == pytest.approx(0.2, rel=0.3)


@pytest.mark.parametrize("optimizer", [BFGS, FIRE])
def test_relaxations_reach_the_minimum_of_ase(optimizer):
    found = []
    for calc in (theirs(), ours(smooth=False)):
        atoms = Atoms("Ar6", crystal(noise=0.02).positions[:6])
        atoms.set_constraint(FixAtoms([0]))
        atoms.calc = calc
        assert optimizer(atoms, logfile=None).run(fmax=1e-6, steps=1000)
        found.append((atoms.get_potential_energy(), atoms.positions))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-9)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)


def test_a_cell_relaxes_to_the_lattice_constant():
    found = []
    for calc in (theirs(), ours(smooth=False)):
        atoms = crystal((1, 1, 1), noise=0.0)
        atoms.calc = calc
        assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5, steps=300)
        assert np.abs(atoms.get_stress()).max() < 1e-4
        found.append(atoms.get_volume())
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def steerable(dtype=torch.float32):
    torch.manual_seed(0)
    config = SEGNNConfig("2x0e", "4x0e+4x1o", pool="atoms", cutoff=3.0, radial="bessel", num_layers=2)
    return Potential(SEGNN(config).to(dtype), stress=True)


def one_hot(data):
    data.x = (data.z[:, None] == torch.tensor([1, 8])).to(data.pos)
    return data


def test_any_network_of_the_package_with_its_own_cutoff_and_precision():
    model = steerable()
    calc = GeomeqCalculator(ScaledPotential(model, 2.0), transform=one_hot)
    assert (calc.cutoff, calc.dtype, model.training) == (3.0, torch.float32, False)
    atoms = Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]], cell=[2.9, 3.1, 3.3], pbc=True)
    atoms.calc = calc
    data = Data(z=torch.tensor(atoms.numbers), pos=torch.tensor(atoms.positions).float())
    data.cell = torch.tensor(atoms.cell.array).float()[None]
    expected = ScaledPotential(model, 2.0)(one_hot(PeriodicGraph(3.0)(data)))
    assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"]), rel=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-5)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected["stress"][0], atol=1e-5)
    double = GeomeqCalculator(model, transform=one_hot, dtype=torch.float64)
    assert double.model is not model  # the user's model stays in single precision
    assert next(model.parameters()).dtype == torch.float32
    atoms.calc = double
    assert 2 * atoms.get_potential_energy() == pytest.approx(float(expected["energy"]), rel=1e-5)
    model.train()
    atoms.calc = GeomeqCalculator(model, transform=one_hot)
    model.train()
    atoms.get_forces()
    assert not model.training


def test_spherical_channels_give_all_properties_and_direct_forces_keep_no_graph():
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    atoms.rattle(0.1, seed=0)
    for forces in ("autograd", "direct"):
        model = ESCN(ESCNConfig(lmax=2, mmax=1, channels=8, num_layers=1, cutoff=4.0, forces=forces)).double()
        expected = model.eval()(PeriodicGraph(4.0)(from_ase(atoms)))
        seen = []
        model.norm.register_forward_hook(lambda *args, seen=seen: seen.append(args[2].requires_grad))
        atoms.calc = GeomeqCalculator(model)
        assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"].detach()), abs=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), expected["forces"].detach(), atol=1e-10)
        np.testing.assert_allclose(atoms.get_stress(voigt=False), expected["stress"][0].detach(), atol=1e-10)
        np.testing.assert_allclose(atoms.get_potential_energies().sum(), atoms.get_potential_energy(), atol=1e-10)
        assert seen == [forces == "autograd"]


@pytest.mark.slow
@pytest.mark.parametrize("forces", ["autograd", "direct"])
def test_spherical_channels_conserve_energy(forces):
    torch.manual_seed(0)
    model = ScaledPotential(ESCN(ESCNConfig(channels=16, cutoff=4.0, forces=forces)).double(), 0.3)
    for start in (molecule("CH3CH2OH"), bulk("NaCl", "rocksalt", a=5.64, cubic=True)):
        start.rattle(0.05, seed=1)
        thermal = np.sqrt(units.kB * 300 * start.get_masses()[:, None])
        start.set_momenta(thermal * np.random.default_rng(0).normal(size=(len(start), 3)))
        deviation = []
        for steps in (100, 200):
            atoms, energies = start.copy(), []
            atoms.calc = GeomeqCalculator(model)
            dynamics = VelocityVerlet(atoms, 25 / steps * units.fs)
            dynamics.attach(lambda atoms=atoms, energies=energies: energies.append(atoms.get_total_energy()))
            dynamics.run(steps)
            deviation.append(np.ptp(energies))
        # all of it is the integrator's, which is of second order; or that of the forces, whatever the step
        expected = 4 if forces == "autograd" else 1
        assert deviation[0] / deviation[1] == pytest.approx(expected, rel=0.1)
        assert (deviation[1] < 1e-3 * atoms.get_kinetic_energy()) == (forces == "autograd")


def test_far_atoms_lose_no_digits_in_single_precision():
    atoms = crystal()
    atoms.calc = ours(dtype=torch.float32)
    forces = atoms.get_forces()
    atoms.positions += 1000 * atoms.cell.array[0] - 500 * atoms.cell.array[2]
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5 * np.abs(forces).max())


def test_a_cap_on_neighbours_comes_from_the_arguments():
    class Counting(LennardJones):
        def forward(self, data):
            counts.append(data.num_edges)
            return super().forward(data)

    atoms, counts = bulk("Ar", "fcc", a=1.6), []
    for cap in (None, 12, 13):
        atoms.calc = GeomeqCalculator(Potential(Counting()), 1.7, max_neighbors=cap)
        atoms.get_potential_energy()
    assert counts == [18, 12, 18]


def test_results_are_kept_until_the_atoms_change():
    calls = []

    def model(data):
        calls.append(data)
        return {"energy": data.pos.square().sum()[None], "forces": -2 * data.pos}

    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.0]], calculator=GeomeqCalculator(model, 2.0))
    atoms.get_potential_energy()
    forces = atoms.get_forces()
    forces[:] = 7  # a copy
    assert atoms.get_forces()[1, 2] == -2
    assert len(calls) == 1
    atoms.positions[0, 0] += 0.1
    assert atoms.calc.get_property("energy", atoms, allow_calculation=False) is None
    atoms.get_potential_energy()
    atoms.numbers[0] = 2
    atoms.get_potential_energy()
    assert len(calls) == 3
    atoms.set_tags([1, 2])
    atoms.set_initial_charges([0.5, -0.5])
    atoms.get_forces()
    assert calls[-1].tags.tolist() == [1, 2]
    assert calls[-1].charges.tolist() == [0.5, -0.5]
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_dipole_moment()


def test_it_is_a_calculator_that_can_be_copied_and_pickled():
    atoms = crystal((1, 1, 1))
    atoms.calc = ours()
    energy = atoms.get_potential_energy()
    assert isinstance(atoms.calc, Calculator)
    assert isinstance(atoms.calc, GeomeqCalculator)
    for other in (copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))):
        assert isinstance(other, GeomeqCalculator)
        again = atoms.copy()
        again.calc = other
        assert again.get_potential_energy() == energy

    class Named(GeomeqCalculator):
        name = "named"

    assert isinstance(Named(LennardJones(), 2.5), (Named, Calculator))
    assert ours(device="cpu").device == torch.device("cpu")


def test_a_structure_without_volume_has_no_stress_but_forces():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1.0]], cell=[4, 0, 0], pbc=[True, False, False], calculator=ours())
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    lonely = Atoms("H", cell=[9, 9, 9], pbc=True, calculator=ours())
    assert not lonely.get_forces().any()
    assert not lonely.get_stress().any()


NAN = torch.full((2, 3), torch.nan)
ENERGY = {"energy": torch.zeros(1), "forces": torch.zeros(2, 3)}


def hydrogen(distance=0.74, **options):
    return Atoms("H2", [[0, 0, 0], [0, 0, distance]], **options)


@pytest.mark.parametrize(
    ("error", "match", "atoms", "calc"),
    [
        (
            CalculationFailed,
            "force on atom 0 is .nan",
            {},
            lambda: GeomeqCalculator(lambda d: {**ENERGY, "forces": NAN}, 2),
        ),
        (
            CalculationFailed,
            "energy is inf",
            {},
            lambda: GeomeqCalculator(lambda d: {**ENERGY, "energy": torch.tensor([torch.inf])}, 2),
        ),
        (
            CalculationFailed,
            "stress is",
            {"cell": [3, 3, 3]},
            lambda: GeomeqCalculator(lambda d: {**ENERGY, "stress": torch.full((1, 3, 3), torch.nan)}, 2),
        ),
        (ValueError, "atoms 0 and 1 .z = 1 and 1. are 0.05 Angstrom apart, less", {"distance": 0.05}, ours),
        (ValueError, "are 0 Angstrom apart, less than min_distance", {"distance": 0.0}, ours),
        (
            ValueError,
            "0.04 Angstrom apart .across",
            {"distance": 2.96, "cell": [3, 3, 3], "pbc": True},
            ours,
        ),
        (ValueError, "no volume", {"pbc": True}, ours),
        (ValueError, "no volume", {"pbc": True, "cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, ours),
        (ValueError, "finite", {"distance": np.nan}, ours),
        (ValueError, "not trained for H; it knows C, O", {}, lambda: ours(elements=(6, 8))),
        (TypeError, "dict with energy and forces, got Tensor; wrap", {}, lambda: GeomeqCalculator(LennardJones(), 2)),
        (
            TypeError,
            "got a dict of .'energy'.",
            {},
            lambda: GeomeqCalculator(lambda d: {"energy": ENERGY["energy"]}, 2),
        ),
        (
            TypeError,
            "energy .1. and forces .2, 3.",
            {},
            lambda: GeomeqCalculator(lambda d: {**ENERGY, "energy": torch.zeros(2)}, 2),
        ),
    ],
)
def test_bad_structures_and_models_are_named(error, match, atoms, calc):
    structure = hydrogen(**atoms)
    structure.calc = calc()
    for _ in range(2):  # nothing stale is returned the second time
        with pytest.raises(error, match=match):
            structure.get_potential_energy()


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "no config.cutoff: pass cutoff", lambda: GeomeqCalculator(Potential(LennardJones()))),
        (TypeError, "must be a module or a function", lambda: GeomeqCalculator(3, 2.0)),
        (ValueError, "cutoff > 0 and skin >= 0", lambda: ours(skin=-1.0)),
        (ValueError, "cutoff > 0", lambda: ours(cutoff=0.0)),
        (ValueError, "dtype must be torch.float32", lambda: ours(dtype=torch.float16)),
        (ValueError, "max_neighbors must be a positive integer", lambda: ours(max_neighbors=0)),
        (ValueError, "max_neighbors must be a positive integer", lambda: ours(max_neighbors=2.5)),
        (ValueError, "cutoff 3.0 is below that of the model, 6.0", lambda: GeomeqCalculator(SCN(SCNConfig(1)), 3.0)),
        (ValueError, "cutoff cannot be set afterwards", lambda: ours().set(cutoff=3.0)),
    ],
)
def test_bad_arguments_are_named(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    results = []
    for device in ("cpu", "cuda"):
        atoms = crystal()
        atoms.calc = GeomeqCalculator(Potential(LennardJones(smooth=True)), 2.5, device=device)
        results.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)

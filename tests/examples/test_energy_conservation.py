"""Energy conservation: the script runs, its integrator is right on known forces; in full it meets its claims."""

import math

import pytest
import torch
from torch_geometric.data import Data

from geomeq.testing import nve_drift
from tests.examples._run import load


def trimers(count=2):
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0.5, 0.75**0.5, 0]], dtype=torch.float64)
    return [Data(z=torch.tensor([8, 1, 1]), pos=pos + 0.01 * k) for k in range(count)]


def springs(data):
    """Bonds of 30 eV/A^2 between all atoms of a molecule, at rest at 1 A."""
    pos = data.pos.view(-1, 3, 3)
    d = pos[:, :, None] - pos[:, None]
    length = d.norm(dim=-1) + torch.eye(3, dtype=pos.dtype)
    force = -(30 * (length - 1) / length)[..., None] * d
    return {"energy": 7.5 * (length - 1).square().sum((1, 2)), "forces": force.sum(2).view(-1, 3)}


def molecules(script, seed=0):
    return script.Molecules(trimers(), 300.0, torch.Generator().manual_seed(seed))


def test_molecules_start_at_rest_as_a_whole_and_warm():
    script = load("reproduce/energy_conservation")
    mol = script.Molecules(trimers(400), 300.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close((mol.mass * mol.velocity).sum(1), torch.zeros(400, 3, dtype=torch.float64))
    arm = mol.pos - (mol.mass * mol.pos).sum(1, keepdim=True) / mol.mass.sum()
    spin = torch.linalg.cross(arm, mol.mass * mol.velocity).sum(1)
    torch.testing.assert_close(spin, torch.zeros_like(spin), atol=1e-12, rtol=0)
    # three degrees of freedom are left, each with half k T
    assert float(mol.kinetic().mean()) == pytest.approx(1.5 * script.BOLTZMANN * 300, rel=0.1)


def test_verlet_conserves_the_energy_of_springs_to_second_order_and_no_momentum_appears():
    script = load("reproduce/energy_conservation")
    swing = []
    for dt in (0.4, 0.2):
        run = script.run_nve(springs, molecules(script), round(200 / dt), dt, 1, "springs")
        drift = nve_drift(run["time"], (run["kinetic"] + run["potential"])[:, 0], run["kinetic"][:, 0])
        assert drift.drift < 0.01
        swing.append(drift.fluctuation)
    assert swing[0] / swing[1] == pytest.approx(4, rel=0.1)  # units of mass, force and time fit together
    assert float(run["time"][-1]) == pytest.approx(0.2)


def test_a_period_is_that_of_the_formula():
    """Two atoms on a spring of 30 eV/A^2: omega^2 = k / reduced mass, in units of 1.0364e-4 amu (A/fs)^2 per eV."""
    script = load("reproduce/energy_conservation")
    mol = molecules(script)
    mol.batch.pos, mol.mass = mol.batch.pos[:4], mol.mass[:, 1:] * 0 + 1.008
    mol.pos = torch.tensor([[[0.0, 0, 0], [1.02, 0, 0]]] * 2, dtype=torch.float64)
    mol.velocity = torch.zeros_like(mol.pos)
    mol.velocity[:, 0, 1] = 1e-9  # something moves at the start, so that "100 times" means something

    def spring(data):
        d = data.pos.view(2, 2, 3).diff(dim=1)[:, 0]
        force = (30 * (1 - 1 / d.norm(dim=1)))[:, None] * d
        energy = 15 * (d.norm(dim=1) - 1).square()
        return {"energy": energy, "forces": torch.stack([force, -force], 1).view(-1, 3)}

    mol.kinetic = lambda: torch.ones(2, dtype=torch.float64)
    period = 2 * math.pi * math.sqrt(1.008 / 2 / 30 / 9.648533e-3)  # fs
    run = load("reproduce/energy_conservation").run_nve(spring, mol, 4000, period / 4000, 1, "spring")
    assert float(run["potential"][1000, 0]) < 1e-7  # a quarter later all is kinetic
    assert float(run["potential"][2000, 0]) == pytest.approx(15 * 0.02**2, rel=1e-5)


def test_a_molecule_that_flies_apart_ends_the_run(capsys):
    script = load("reproduce/energy_conservation")

    def push(data):
        return {"energy": data.pos.sum() * torch.zeros(2), "forces": 50 * data.pos}

    run = script.run_nve(push, molecules(script), 500, 0.5, 1, "pushed")
    assert len(run["time"]) < 400
    assert "a molecule flew apart after" in capsys.readouterr().out
    # however flat the energy was until then
    calm = {"time": torch.arange(9) / 1e3, "kinetic": torch.ones(9, 2), "potential": torch.zeros(9, 2)}
    assert max(d.drift for d in script.judge_run(calm, 3, "calm", 8e-3)) < 1e-12
    assert all(d.drift == math.inf for d in script.judge_run(calm, 3, "calm", 0.25))
    assert all(d.drift == math.inf for d in script.judge_run(run, 3, "pushed", 0.25))


@pytest.mark.slow
def test_runs_end_to_end(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    found = load("reproduce/energy_conservation").main(["--quick", "--nve-steps", "60", "--out", str(tmp_path)])
    assert found["ok"]
    assert found["autograd slope"] < 1e-6
    assert found["autograd asymmetry"] < 1e-8 < 1e-3 < found["direct asymmetry"]
    assert (tmp_path / "energy_conservation.png").stat().st_size > 10_000
    assert "no claims" in capsys.readouterr().out


@pytest.mark.slow
def test_meets_its_claims(tmp_path):
    assert load("reproduce/energy_conservation").main(["--out", str(tmp_path)])["ok"]

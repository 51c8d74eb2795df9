"""ESCN: symmetry, energy and forces, smoothness at the cut-off, crystals; each with what would break it."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.models import ESCN, ESCNConfig
from geomeq.testing import force_consistency
from geomeq.transforms import CutoffGraph, PeriodicGraph
from tests.harmonics.test_spherical import random_rotations
from tests.models._atoms import CUTOFF, crystal, molecule, rotated

SMALL = {"channels": 8, "num_layers": 2, "cutoff": CUTOFF, "edge_channels": 16, "average_degree": 6.0}
EXACT = {
    "default": {},
    "attention": {"attention_heads": 2, "attention_channels": 8},
    "lmax 3, mmax 1, layer norm": {"lmax": 3, "mmax": 1, "norm": "layer"},
    "direct": {"forces": "direct"},
}


def build(dtype: torch.dtype = torch.float64, **options) -> ESCN:
    torch.manual_seed(0)
    return ESCN(ESCNConfig(**{**SMALL, **options})).to(dtype).eval()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_rotations_at_degree_6_with_4_layers(dtype, tol):
    model = build(dtype, lmax=6, mmax=6, num_layers=4)
    data, rotation = molecule(dtype=dtype), random_rotations(1)[0]
    before, after = model(data), model(rotated(data, rotation))
    assert relative(after["energy"], before["energy"]) < tol
    expected = before["forces"] @ rotation.to(dtype).T
    assert relative(after["forces"], expected) < tol
    assert relative(after["forces"], before["forces"]) > 0.1  # the check has teeth


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("make", [molecule, crystal])
def test_rotations_of_molecules_and_of_crystals_with_their_cell(name, make):
    model, data, rotation = build(**EXACT[name]), make(), random_rotations(1)[0]
    before, after = model(data), model(rotated(data, rotation))
    torch.testing.assert_close(after["energy"], before["energy"], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(after["forces"], before["forces"] @ rotation.T, atol=1e-10, rtol=1e-10)
    if "stress" in before:
        expected = rotation @ before["stress"] @ rotation.T
        torch.testing.assert_close(after["stress"], expected, atol=1e-10, rtol=1e-10)


def test_mirror_images():
    data = molecule()
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0]).double())
    both, one_hand = build(), build(reflections=False)
    before, after = both(data), both(rotated(data, mirror))
    torch.testing.assert_close(after["energy"], before["energy"], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(after["forces"], before["forces"] @ mirror, atol=1e-10, rtol=1e-10)
    assert (one_hand(rotated(data, mirror))["energy"] - one_hand(data)["energy"]).abs() > 1e-4


def test_a_cell_that_stays_behind_is_another_crystal():
    model, data, rotation = build(), crystal(), random_rotations(1)[0]
    wrong = model(PeriodicGraph(CUTOFF)(rotated(crystal(graph=False), rotation, cell=False)))
    assert (wrong["energy"] - model(data)["energy"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["gate", "attention", "grid at the atoms", "escn", "escn, fine"])
def test_only_coarse_grids_in_frames_notice_where_the_roll_jumps(name):
    """The frame of an edge jumps where the edge crosses the plane z = 0."""
    options = {
        "gate": {},
        "attention": {"attention_heads": 2, "attention_channels": 8},
        "grid at the atoms": {"mlp": "grid"},
        "escn": {"form": "escn", "activation": "s2"},
        "escn, fine": {"form": "escn", "activation": "s2", "nlat": 30, "nlon": 61},
    }
    model, data = build(**options[name]), molecule()
    source, target = data.edge_index[:, 0].tolist()
    energies = []
    for height in (-3e-7, -1e-7, 1e-7, 3e-7):
        data.pos[source, 2] = data.pos[target, 2] + height
        energies.append(model(data)["energy"].item())
    jump = energies[2] - energies[1] - (energies[1] - energies[0] + energies[3] - energies[2]) / 2
    if name == "escn":
        assert abs(jump) > 1e-4
    else:
        assert abs(jump) < (1e-5 if name == "escn, fine" else 1e-9)


def test_the_grid_is_equivariant_only_as_far_as_it_resolves():
    errors = {}
    for nlat in (6, 9, 16):
        model = build(activation="separable_s2", mlp="grid", nlat=nlat, nlon=2 * nlat + 1, forces="direct")
        data, rotation = molecule(), random_rotations(1)[0]
        forces = model(data)["forces"] @ rotation.T
        errors[nlat] = relative(model(rotated(data, rotation))["forces"], forces)
    assert errors[6] > 1e-8
    assert errors[16] < 1e-2 * errors[6]


def test_edges_along_the_poles_of_the_frames():
    """Euler angles are singular there: other codes give other forces, or NaN."""
    model = build()
    pos = torch.tensor([[0.0, 0, 0], [0, 1.1, 0], [0, -1.3, 0], [1.0, 0.2, 0.1]]).double()
    data = CutoffGraph(CUTOFF)(Data(z=torch.tensor([6, 1, 8, 1]), pos=pos))
    before = model(data)
    rotation = random_rotations(1)[0]
    after = model(rotated(data, rotation))
    torch.testing.assert_close(after["forces"], before["forces"] @ rotation.T, atol=1e-10, rtol=1e-10)
    nudged = data.clone()
    nudged.pos = data.pos + 1e-9 * torch.randn(4, 3, dtype=torch.float64)
    assert (model(nudged)["forces"] - before["forces"]).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["default", "attention", "lmax 3, mmax 1, layer norm"])
def test_forces_are_the_slope_of_the_energy_and_balance(name):
    model, data = build(**EXACT[name]), molecule()
    forces = model(data)["forces"]
    step, weights = 5e-4, ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))  # errors of order step^4
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        slope = 0.0
        for sign, weight in weights:
            moved = data.clone()
            moved.pos = data.pos.clone()
            moved.pos[atom, axis] += sign * step
            slope += weight * model(moved)["energy"].item() / step
        assert abs(slope + forces[atom, axis].item()) < 1e-6 * forces.abs().max().item()
    size = forces.abs().max()
    assert forces.sum(0).abs().max() < 1e-10 * max(1, size)
    assert torch.linalg.cross(data.pos, forces).sum(0).abs().max() < 1e-10 * max(1, size)


def test_direct_forces_are_no_slope():
    model, data = build(forces="direct"), molecule()
    forces = model(data)["forces"]
    assert forces.sum(0).abs().max() > 1e-3  # nor do they balance


def asymmetry(model: ESCN, data: Data) -> float:
    """Of the exact Jacobian of the forces, ``|J - J^T| / 2 |J|``."""
    data = data.clone()
    data.pos = data.pos.requires_grad_()
    forces = model(data)["forces"].flatten()
    rows = [torch.autograd.grad(f, data.pos, retain_graph=True)[0].flatten() for f in forces]
    jacobian = torch.stack(rows)
    return ((jacobian - jacobian.T).norm() / (2 * jacobian.norm())).item()


def test_the_jacobian_of_forces_is_symmetric_only_if_energy_is_conserved():
    data = molecule(5)
    assert asymmetry(build(), data) < 1e-10
    assert asymmetry(build(forces="direct"), data) > 1e-2


def test_forces_and_stress_by_the_tools_for_users():
    found = force_consistency(build(), crystal(), directions=3)
    assert found.error < 1e-6
    assert found.stress_error < 1e-6
    assert found.net_force < 1e-10


def jump_at_the_cutoff(model: ESCN, gap: float = 1e-6) -> float:
    """What the energy of three atoms changes, beyond its slope, where one passes the cut-off of another."""
    energy, force = [], []
    for sign in (-1, 1):
        far = [CUTOFF + sign * gap, 0, 0]
        pos = torch.tensor([[0.0, 0, 0], [1.2, 0.3, 0], far], dtype=torch.float64)
        data = CutoffGraph(CUTOFF)(Data(z=torch.tensor([8, 1, 6]), pos=pos))
        assert data.num_edges == (6 if sign < 0 else 4)
        out = model(data)
        energy.append(out["energy"].item())
        force.append(out["forces"][2, 0].item())
    return abs(energy[1] - energy[0] + gap * (force[0] + force[1]))


@pytest.mark.parametrize("name", ["default", "attention", "lmax 3, mmax 1, layer norm"])
def test_energies_do_not_notice_an_atom_that_passes_the_cutoff(name):
    assert jump_at_the_cutoff(build(**EXACT[name])) < 1e-12


def test_without_an_envelope_they_jump():
    assert jump_at_the_cutoff(build(envelope=None)) > 1e-4


def lonely_pair(model: ESCN, distance: float) -> float:
    pos = torch.tensor([[0.0, 0, 0], [0.0, 0.6 * distance, 0.8 * distance]]).double()
    return model(CutoffGraph(CUTOFF)(Data(z=torch.tensor([8, 1]), pos=pos)))["energy"].item()


@pytest.mark.parametrize("name", ["default", "attention", "lmax 3, mmax 1, layer norm"])
def test_the_last_neighbour_leaves_smoothly_too(name):
    """A plain softmax would give it full weight up to the end."""
    model = build(**EXACT[name])
    assert abs(lonely_pair(model, CUTOFF - 1e-6) - lonely_pair(model, CUTOFF + 1e-6)) < 1e-8


def strained(data: Data, strain: torch.Tensor) -> Data:
    turn = torch.eye(3, dtype=torch.float64) + strain
    data = data.clone()
    data.pos, data.cell = data.pos @ turn, data.cell @ turn
    return data


def test_stress_against_finite_strain():
    model, data, step = build(), crystal(), 1e-5
    stress, volume = model(data)["stress"][0], torch.linalg.det(data.cell[0])
    for a in range(3):
        for b in range(a, 3):
            strain = torch.zeros(3, 3, dtype=torch.float64)
            strain[a, b] += step / 2
            strain[b, a] += step / 2
            up, down = (model(strained(data, sign * strain))["energy"].item() for sign in (1, -1))
            slope = (up - down) / (2 * step) / volume.item()
            assert abs(slope - stress[a, b].item()) < 1e-6 * stress.abs().max().item()


def test_energies_and_stress_do_not_depend_on_the_choice_of_the_cell():
    model, data = build(), crystal(graph=False)
    small = model(PeriodicGraph(CUTOFF)(data.clone()))
    double = Data(
        z=data.z.repeat(2), pos=torch.cat([data.pos, data.pos + data.cell[0, 0]]), cell=data.cell.clone(), pbc=data.pbc
    )
    double.cell[0, 0] *= 2
    large = model(PeriodicGraph(CUTOFF)(double))
    assert abs(large["energy"].item() / 2 - small["energy"].item()) < 1e-10
    torch.testing.assert_close(large["forces"][:4], small["forces"], atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(large["stress"], small["stress"], atol=1e-10, rtol=1e-10)
    moved = data.clone()
    moved.pos = data.pos + torch.tensor([[1.0, 0, 0], [0, -2, 1], [0, 0, 0], [3, 1, 0]]).double() @ data.cell[0]
    unwrapped = model(PeriodicGraph(CUTOFF)(moved))
    torch.testing.assert_close(unwrapped["energy"], small["energy"], atol=1e-10, rtol=0)
    torch.testing.assert_close(unwrapped["forces"], small["forces"], atol=1e-10, rtol=1e-10)
    # a strained crystal is another one (energies that ignore the cell do not see it)
    assert (
        abs(model(strained(PeriodicGraph(CUTOFF)(data), 0.01 * torch.eye(3).double()))["energy"] - small["energy"])
        > 1e-4
    )


def test_a_loss_on_forces_has_the_right_gradient():
    model = build(channels=2, num_layers=1, lmax=1, mmax=1, edge_channels=3, num_radial=3, num_elements=8).train()
    data = molecule(3)
    data.z = torch.tensor([1, 8, 6])
    names = ("blocks.0.conv.first", "edge_scalars.length", "blocks.0.mlp.gates")
    chosen = [p for name, p in model.named_parameters() if name.startswith(names)]

    def loss() -> torch.Tensor:
        out = model(data)
        return out["forces"].square().sum() + out["energy"].sum()

    grads = torch.autograd.grad(loss(), chosen)
    for parameter, grad in zip(chosen, grads, strict=True):
        direction = torch.randn_like(parameter)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-5 * direction)
            values.append(loss().item())
            with torch.no_grad():
                parameter.sub_(sign * 1e-5 * direction)
        expected = (grad * direction).sum().item()
        assert abs((values[0] - values[1]) / 2e-5 - expected) < 1e-5 * max(1.0, abs(expected))


def test_inference_mode_no_grad_and_training_agree():
    model, data = build(), molecule()
    reference = model(data)
    with torch.no_grad():
        quiet = model(data)
    with torch.inference_mode():
        inferred = model(data)
    trained = model.train()(data)
    for other in (quiet, inferred, trained):
        torch.testing.assert_close(other["forces"].detach(), reference["forces"])
    assert trained["forces"].requires_grad
    assert not reference["forces"].requires_grad


def test_translations_and_copies_far_away():
    model, data = build(), molecule()
    moved = data.clone()
    moved.pos = data.pos + torch.tensor([3.0, -20.0, 7.0])
    torch.testing.assert_close(model(moved)["forces"], model(data)["forces"], atol=1e-9, rtol=1e-9)
    pair = Batch.from_data_list([data, moved])
    torch.testing.assert_close(model(pair)["energy"], model(data)["energy"].expand(2))

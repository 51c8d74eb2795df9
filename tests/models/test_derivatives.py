"""Forces and stress: against closed forms and finite differences, in training, inference and second derivatives."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.models import Potential
from geomeq.models._derivatives import energy_and_derivatives
from geomeq.molecules import periodic_graph
from tests.molecules._lennard_jones import LennardJones

MODEL = LennardJones(cutoff=2.5, smooth=True)
SKEWED = torch.tensor([[[2.0, 0, 0], [0.4, 1.9, 0], [-0.3, 0.2, 2.2]]], dtype=torch.float64)
CELLS = {
    "skewed": SKEWED,
    "left-handed": SKEWED[:, [1, 0, 2]],
    "small": SKEWED / 1.6,
}


def crystal(cell=SKEWED, atoms=4, seed=0, pbc=(True, True, True)):
    grid = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], dtype=torch.float64)[:atoms]
    noise = torch.rand(grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = Data(pos=(grid + 0.05 * noise) @ cell[0], cell=cell, pbc=torch.tensor([pbc]))
    return periodic_graph(data, 2.5)


def strained(data, strain):
    moved = data.clone()
    moved.pos, moved.cell = data.pos @ (torch.eye(3).double() + strain), data.cell @ (torch.eye(3).double() + strain)
    return moved


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
def test_stress_and_forces_equal_finite_differences(name, pbc):
    data = crystal(CELLS[name], atoms=1 if name == "small" else 4, pbc=pbc)
    assert (data.edge_index[0] == data.edge_index[1]).any() or name != "small"  # an atom meets its own images
    _, forces, stress = energy_and_derivatives(MODEL, data, stress=True)
    step, volume = 1e-5, torch.linalg.det(data.cell[0]).abs()
    numeric = torch.zeros(3, 3).double()
    for a in range(3):
        for b in range(3):
            strain = torch.zeros(3, 3).double()
            strain[a, b] += step / 2
            strain[b, a] += step / 2
            rise = MODEL(strained(data, strain)) - MODEL(strained(data, -strain))
            numeric[a, b] = rise.item() / (2 * step) / volume
    torch.testing.assert_close(stress[0], numeric, rtol=1e-6, atol=1e-6 * float(numeric.abs().max()))
    assert not torch.allclose(stress[0], -numeric)
    slope = torch.zeros_like(data.pos)
    for i in range(data.pos.size(0)):
        for k in range(3):
            up, down = data.clone(), data.clone()
            up.pos[i, k] += step
            down.pos[i, k] -= step
            slope[i, k] = (MODEL(up) - MODEL(down)).item() / (2 * step)
    torch.testing.assert_close(forces, -slope, rtol=1e-6, atol=1e-6 * float(slope.abs().max()) + 1e-9)


def test_two_atoms_by_hand():
    r = 1.3
    data = Data(pos=torch.tensor([[0.0, 0, 0], [0, 0, r]]).double(), edge_index=torch.tensor([[1, 0], [0, 1]]))
    energy, forces, stress = energy_and_derivatives(LennardJones(cutoff=9.0), data)
    assert stress is None
    assert float(energy) == pytest.approx(4 * (r**-12 - r**-6) - 4 * (9.0**-12 - 9.0**-6))
    assert float(forces[1, 2]) == pytest.approx(4 * (12 * r**-13 - 6 * r**-7))
    assert float(forces[0, 2]) == pytest.approx(-float(forces[1, 2]))


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_a_batch_equals_its_parts(dtype, tol):
    parts = [crystal(seed=1), crystal(CELLS["left-handed"], seed=2, pbc=(True, False, True)), crystal(atoms=1)]
    parts = [part.apply(lambda x: x.to(dtype) if x.is_floating_point() else x) for part in parts]
    together = energy_and_derivatives(MODEL, Batch.from_data_list(parts), stress=True)
    alone = [energy_and_derivatives(MODEL, part, stress=True) for part in parts]
    for k, value in enumerate(together):
        assert value.dtype == dtype
        torch.testing.assert_close(value, torch.cat([out[k] for out in alone]), atol=tol, rtol=tol)


def test_a_graph_without_volume_has_no_stress_but_its_neighbour_in_the_batch_has():
    molecule = Data(pos=crystal().pos, cell=torch.zeros(1, 3, 3).double(), pbc=torch.zeros(1, 3, dtype=torch.bool))
    batch = Batch.from_data_list([periodic_graph(molecule, 2.5), crystal()])
    batch.pos.requires_grad_()
    energy, forces, stress = energy_and_derivatives(MODEL, batch, stress=True)
    assert stress[0].isnan().all()
    torch.testing.assert_close(stress[1].detach(), energy_and_derivatives(MODEL, crystal(), stress=True)[2][0])
    loss = torch.where(stress.isnan(), 0.0, stress).square().sum() + forces.square().sum() + energy.sum()
    assert torch.autograd.grad(loss, batch.pos)[0].isfinite().all()


def test_training_gives_second_derivatives_and_evaluation_keeps_no_graph():
    class Scaled(LennardJones):
        def __init__(self):
            super().__init__(smooth=True)
            self.factor = torch.nn.Parameter(torch.tensor(2.0).double())

        def forward(self, data):
            return self.factor * super().forward(data)

    model, data = Scaled(), crystal()
    out = Potential(model).train()(data)
    loss = out["forces"].square().sum() + out["stress"].square().sum()
    (slope,) = torch.autograd.grad(loss, model.factor)
    torch.testing.assert_close(slope, 2 * loss / model.factor.detach())  # the loss is quadratic in the factor
    for value in Potential(model).eval()(data).values():
        assert not value.requires_grad
    assert not data.pos.requires_grad


def test_positions_that_require_a_gradient_give_the_hessian():
    data = crystal()
    pos = data.pos.clone().requires_grad_()
    data.pos = pos
    _, forces, _ = energy_and_derivatives(MODEL, data)
    hessian = torch.stack([-torch.autograd.grad(f, pos, retain_graph=True)[0].flatten() for f in forces.flatten()])
    torch.testing.assert_close(hessian, hessian.T, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(hessian.view(12, 4, 3).sum(1), torch.zeros(12, 3).double(), atol=1e-9, rtol=0)
    step = torch.zeros_like(pos)
    step[1, 2] = 1e-5
    up, down = (energy_and_derivatives(MODEL, moved(data, s))[1] for s in (step, -step))
    torch.testing.assert_close(-((up - down) / 2e-5).flatten(), hessian[:, 5], rtol=1e-6, atol=1e-5)


def moved(data, step):
    out = data.clone()
    out.pos = data.pos.detach() + step
    return out


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_forces_without_gradients_around(context):
    expected = energy_and_derivatives(MODEL, crystal(), stress=True)
    with context():
        data = crystal()  # in inference mode these tensors can never be differentiated
        result = energy_and_derivatives(MODEL, data, stress=True)
    for mine, other in zip(result, expected, strict=True):
        assert not mine.requires_grad
        torch.testing.assert_close(mine, other)


def test_an_energy_that_ignores_the_positions_is_an_error_unless_nothing_is_connected():
    data = crystal()
    vec = data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]
    frozen = {"constant": lambda d: torch.ones(1), "stored": lambda d: vec.sum()[None], "detached": detached}
    for energy in frozen.values():
        with pytest.raises(ValueError, match="does not depend on pos"):
            energy_and_derivatives(energy, data)
    lonely = periodic_graph(Data(pos=torch.zeros(1, 3), cell=9 * torch.eye(3)[None]), 2.5)
    energy, forces, stress = energy_and_derivatives(lambda d: torch.ones(1), lonely, stress=True)
    assert (energy.item(), forces.abs().max().item(), stress.abs().max().item()) == (1.0, 0.0, 0.0)


def detached(data):
    out = data.clone()
    out.pos = data.pos.detach()
    return MODEL(out) * torch.nn.Parameter(torch.ones(1))


def test_attributes_made_from_positions_are_hidden_from_the_energy():
    data = crystal()
    data.edge_vec, data.edge_wigner = torch.zeros(data.num_edges, 3), torch.zeros(data.num_edges, 1)
    seen = []
    energy_and_derivatives(lambda d: seen.extend(d.keys()) or MODEL(d), data)
    assert not {"edge_vec", "edge_wigner"} & set(seen)
    assert {"edge_vec", "edge_wigner"} <= set(data.keys())


def test_missing_attributes_are_named():
    with pytest.raises(ValueError, match="reads pos, but data has only"):
        energy_and_derivatives(MODEL, Data(x=torch.zeros(2, 1)))
    with pytest.raises(ValueError, match="no cell"):
        energy_and_derivatives(MODEL, Data(pos=torch.zeros(2, 3)), stress=True)
    batch = crystal()
    batch.cell = batch.cell.repeat(2, 1, 1)
    with pytest.raises(ValueError, match="2 cells but no batch"):
        energy_and_derivatives(MODEL, batch, stress=True)

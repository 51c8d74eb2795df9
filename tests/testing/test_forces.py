"""Forces against central differences of energies: closed forms, real potentials, and every way to be wrong."""

import math
import re

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.models import ESCN, SEGNN, ESCNConfig, Potential, SEGNNConfig
from geomeq.testing import force_consistency, jacobian_asymmetry
from geomeq.transforms import CutoffGraph, PeriodicGraph


def cluster(atoms=5, seed=0, dtype=torch.float64):
    """Points on a jittered lattice: none too near to another."""
    generator = torch.Generator().manual_seed(seed)
    lattice = torch.cartesian_prod(*[torch.arange(2.0)] * 3)[:atoms]
    pos = 1.2 * lattice.double() + 0.2 * torch.randn(atoms, 3, dtype=torch.float64, generator=generator)
    return Data(pos=pos.to(dtype), z=torch.arange(atoms) % 3 + 1)


def crystal(seed=0):
    """Four atoms in a skew cell, with every image nearer than 2.5."""
    generator = torch.Generator().manual_seed(seed)
    cell = 2.6 * torch.eye(3, dtype=torch.float64) + 0.3 * torch.randn(3, 3, dtype=torch.float64, generator=generator)
    data = Data(pos=torch.rand(4, 3, dtype=torch.float64, generator=generator) @ cell, cell=cell[None])
    data.pbc = torch.ones(1, 3, dtype=torch.bool)
    return data


class Pairs(nn.Module):
    """exp(-r^2) of all pairs (and images) with forces and stress by autograd, which can be spoiled.

    ``spoil``: ``"scale"`` of the forces, ``"swirl"`` adds a part that is no gradient, ``"detach"`` freezes a part of
    the energy, ``"stress"`` has the wrong sign, ``"outside"`` holds every atom on a spring.
    """

    def __init__(self, spoil=""):
        super().__init__()
        self.spoil, self.width = spoil, nn.Parameter(torch.tensor(0.7))

    def energy(self, pos, cell, batch, graphs):
        images = torch.zeros(1, 3) if cell is None else torch.cartesian_prod(*[torch.arange(-1.0, 2.0)] * 3)
        shift = images.to(pos) if cell is None else images.to(pos) @ cell[0]
        d = pos[None, :, None] - pos[None, None] + shift[:, None, None]
        square = d.square().sum(-1)
        if self.spoil == "detach":
            square = square.detach() * 0.5 + square * 0.5
        same = (batch[:, None] == batch[None]) & (square > 0)
        e = torch.where(same, torch.exp(-self.width * square), torch.zeros_like(square)).sum((0, 1)) / 2
        if self.spoil == "outside":
            e = e + 0.1 * pos.square().sum(-1)
        return e.new_zeros(graphs).index_add(0, batch, e)

    def forward(self, data):
        batch = torch.zeros(len(data.pos), dtype=torch.long) if data.batch is None else data.batch
        pos, cell, out = data.pos.detach().requires_grad_(), data.get("cell"), {}
        strain = torch.zeros(3, 3, dtype=pos.dtype, requires_grad=True)
        turn = torch.eye(3, dtype=pos.dtype) + (strain + strain.T) / 2
        out["energy"] = self.energy(pos @ turn, None if cell is None else cell @ turn, batch, int(batch.max()) + 1)
        slope, tension = torch.autograd.grad(out["energy"].sum(), (pos, strain))
        out["forces"] = -slope
        if cell is not None:
            out["stress"] = tension[None] / torch.linalg.det(cell[0]).abs() * (-1 if self.spoil == "stress" else 1)
        if self.spoil == "scale":
            out["forces"] = 1.01 * out["forces"]
        if self.spoil == "swirl":
            centred = pos - pos.mean(0)
            out["forces"] = out["forces"] + 0.1 * torch.stack([-centred[:, 1], centred[:, 0], 0 * centred[:, 2]], 1)
        return {k: v.detach() for k, v in out.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_conservative_potential_is_consistent_whatever_its_dtype(dtype):
    model, data = Pairs().to(dtype), cluster(dtype=dtype)
    before = model.width.detach().clone()
    found = force_consistency(model, data)
    assert found.error < 1e-8
    assert found.net_force < 1e-12
    assert found.net_torque < 1e-12
    assert (found.stress_error, found.displacements) == (None, 15)
    assert jacobian_asymmetry(model, data) < 1e-10
    assert model.width.dtype == data.pos.dtype == dtype  # a copy was widened
    assert torch.equal(model.width, before)
    assert model.training


def test_float32_itself_is_much_worse_which_is_why_a_copy_is_widened():
    found = force_consistency(Pairs(), cluster(dtype=torch.float32), double=False)
    assert 1e-6 < found.error < 0.1


@pytest.mark.parametrize(("spoil", "low"), [("scale", 0.009), ("swirl", 0.05), ("detach", 0.1)])
def test_spoiled_forces_are_found(spoil, low):
    assert low < force_consistency(Pairs(spoil), cluster()).error < 1


def test_the_jacobian_tells_what_is_no_gradient_at_all():
    assert 0.01 < jacobian_asymmetry(Pairs("swirl"), cluster()) < 0.9
    assert jacobian_asymmetry(Pairs("scale"), cluster()) < 1e-10  # a gradient, though not of the energy it comes with


def test_random_directions_cost_less_and_find_the_same():
    found = force_consistency(Pairs(), cluster(), directions=3)
    assert found.displacements == 3
    assert found.error < 1e-8
    assert force_consistency(Pairs("scale"), cluster(), directions=3).error == pytest.approx(0.01, rel=0.3)


def test_something_that_holds_the_atoms_is_a_net_force_and_torque():
    found = force_consistency(Pairs("outside"), cluster())
    assert found.error < 1e-8
    assert found.net_force > 1e-2
    swirl = force_consistency(Pairs("swirl"), cluster())
    assert swirl.net_torque > 1e-2


def test_a_crystal_has_a_stress_and_no_torque():
    found = force_consistency(Pairs(), crystal())
    assert found.error < 1e-8
    assert found.stress_error < 1e-8
    assert found.net_torque is None
    assert force_consistency(Pairs("stress"), crystal()).stress_error == pytest.approx(2, rel=1e-6)
    assert "stress by" in str(found)


def test_stress_is_tested_where_there_is_a_volume():
    """A molecule in the batch must not hide a wrong stress of the crystal, nor NaN pass for no stress."""
    config = ESCNConfig(lmax=1, mmax=1, channels=4, num_layers=1, cutoff=2.0)
    torch.manual_seed(0)
    model, solid, alone = ESCN(config), crystal(), cluster(4)
    solid.z, alone.z = (torch.ones(len(d.pos), dtype=torch.long) for d in (solid, alone))
    solid.pbc, alone.pbc = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool)
    alone.cell = torch.zeros(1, 3, 3, dtype=torch.float64)
    keys = ("z", "pos", "cell", "pbc")
    graphs = [PeriodicGraph(2.0)(Data(**{key: data[key] for key in keys})) for data in (solid, alone)]
    both = Batch.from_data_list(graphs)

    def spoiled(factor):
        def call(model, data):
            out = model(data)
            return {**out, "stress": factor * out["stress"]}

        return call

    assert force_consistency(model, both).stress_error < 1e-6
    assert force_consistency(model, both, call=spoiled(-1)).stress_error == pytest.approx(2, rel=1e-5)
    assert force_consistency(model, both, call=spoiled(torch.nan)).stress_error == torch.inf
    assert force_consistency(model, graphs[1]).stress_error is None


def test_structures_of_a_batch_are_moved_together():
    batch = Batch.from_data_list([cluster(4), cluster(6, seed=1)])
    found = force_consistency(Pairs(), batch)
    assert found.displacements == 18  # coordinates of the larger one
    assert found.error < 1e-8
    assert found.net_force < 1e-12
    assert jacobian_asymmetry(Pairs(), batch) < 1e-10
    assert jacobian_asymmetry(Pairs("swirl"), batch) > 1e-3


def test_a_real_potential_with_its_graph_made_anew():
    torch.manual_seed(0)
    config = SEGNNConfig("1x0e", "4x0e+4x1o", pool="atoms", radial="bessel", cutoff=2.5)
    data = cluster()
    data.x = torch.ones(5, 1, dtype=torch.float64)
    found = force_consistency(Potential(SEGNN(config)), data, transform=CutoffGraph(2.5), directions=2)
    assert found.error < 1e-6
    assert found.net_force < 1e-10
    assert found.net_torque < 1e-10


def test_outputs_may_be_renamed_and_functions_have_no_parameters():
    def model(data):
        found = Pairs().double()(data)
        return found["energy"], found["forces"]

    renamed = {"call": lambda m, d: dict(zip(("energy", "force"), m(d), strict=True))}
    assert force_consistency(model, cluster(), **renamed).error < 1e-8
    assert jacobian_asymmetry(lambda data: -data.pos, cluster()) < 1e-10


def test_a_random_model_sees_the_same_numbers_each_time():
    def model(data):
        scale = 1 + torch.rand((), dtype=torch.float64)
        return {k: scale * v for k, v in Pairs().double()(data).items()}

    assert force_consistency(model, cluster(3)).error < 1e-8


def test_infinite_and_missing_slopes():
    def nan(data):
        return {"energy": data.pos.sum()[None] * math.nan, "forces": data.pos}

    assert force_consistency(nan, cluster(1), directions=1).error == math.inf
    free = {"energy": torch.zeros(1), "forces": torch.ones(2, 3)}
    assert force_consistency(lambda data: free, cluster(2)).error == math.inf  # forces without an energy


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda d: {"energy": d.pos.sum()[None]}, "the model must return forces, got ['energy']"),
        (lambda d: d.pos, "the model must return energy and forces, got ['output']"),
        (lambda d: {"energy": d.pos.sum(1), "forces": d.pos}, "energy must have shape [1], got [5]"),
        (lambda d: {"energy": d.pos.sum()[None], "forces": d.pos[:2]}, "forces must have shape [5, 3], got [2, 3]"),
        (lambda d: {"energy": torch.zeros(1), "forces": torch.zeros(5, 3)}, "the energy depends on no position"),
    ],
)
def test_bad_potentials_are_named(model, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        force_consistency(model, cluster())


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="no force depends on any position"):
        jacobian_asymmetry(lambda data: torch.ones(5, 3), cluster())
    with pytest.raises(ValueError, match=r"forces need positions data.pos \[N, 3\], got None"):
        force_consistency(Pairs(), Data(z=torch.ones(2)))
    with pytest.raises(ValueError, match="step must be positive, got 0"):
        force_consistency(Pairs(), cluster(), step=0)
    with pytest.raises(ValueError, match="directions must be at least 1, got 0"):
        force_consistency(Pairs(), cluster(), directions=0)
    with pytest.raises(TypeError, match="PyG|torch_geometric"):
        force_consistency(Pairs(), cluster().pos)

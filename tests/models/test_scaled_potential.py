"""A potential in the units of its data."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.models import ScaledPotential


class Springs(nn.Module):
    """Energy of springs to the origin, in float32."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, data):
        pos = data.pos
        energy = 0.5 * self.weight * pos.square().sum(1)
        graphs = 1 if data.get("batch") is None else int(data.batch.max()) + 1
        batch = torch.zeros(len(pos), dtype=torch.long) if data.get("batch") is None else data.batch
        total = energy.new_zeros(graphs).index_add(0, batch, energy)
        return {"energies": energy, "energy": total, "forces": -self.weight * pos, "stress": torch.ones(graphs, 3, 3)}


def atoms(*z):
    return Data(z=torch.tensor(z), pos=torch.randn(len(z), 3))


def test_outputs_are_scaled_and_atoms_added():
    table = torch.tensor([0.0, -13.0, 5.0])
    model, inner = ScaledPotential(Springs(), 2.5, table), Springs()
    batch = Batch.from_data_list([atoms(1, 1, 2), atoms(2)])
    found, plain = model(batch), inner(batch)
    torch.testing.assert_close(found["energy"], 2.5 * plain["energy"].double() + torch.tensor([-21.0, 5.0]).double())
    torch.testing.assert_close(found["forces"], 2.5 * plain["forces"])
    torch.testing.assert_close(found["stress"], 2.5 * plain["stress"])
    torch.testing.assert_close(found["energies"], 2.5 * plain["energies"].double() + table[batch.z].double())
    assert plain["forces"].dtype == found["forces"].dtype


def test_large_totals_keep_small_differences():
    model = ScaledPotential(Springs(), 1.0, torch.tensor([0.0, -4200.0]))
    near, far = (
        Data(z=torch.tensor([1]), pos=torch.zeros(1, 3)),
        Data(z=torch.tensor([1]), pos=torch.tensor([[0.01, 0, 0]])),
    )
    step = float((model(far)["energy"] - model(near)["energy"]).detach())
    assert step == pytest.approx(5e-5, rel=1e-5)
    assert float((torch.tensor(-4200.0) + 5e-5) - torch.tensor(-4200.0)) == 0.0  # what float32 would make of it


def test_casting_keeps_the_energies_in_float64():
    table = torch.tensor([0.0, -4200.123456789], dtype=torch.float64)
    model = ScaledPotential(Springs(), 0.1, table).half().float()
    assert model.atom_energies.dtype == model.scale.dtype == torch.float64
    assert torch.equal(model.atom_energies, table)
    assert model.model.weight.dtype == torch.float32
    again = ScaledPotential(Springs(), 9.0, torch.zeros(2))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.atom_energies, table)
    assert again.scale == model.scale


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        ScaledPotential(Springs(), 0)
    with pytest.raises(ValueError, match=r"atom_energies must have shape \[Z_max \+ 1\], got \[1, 2\]"):
        ScaledPotential(Springs(), 1.0, torch.zeros(1, 2))
    model = ScaledPotential(Springs(), 1.0, torch.zeros(3))
    with pytest.raises(ValueError, match="no atom energy for atomic number 8: the table ends at 2"):
        model(atoms(1, 8))
    with pytest.raises(ValueError, match="no atom energy for atomic number -1: look at where z comes from"):
        model(atoms(1, -1))
    with pytest.raises(ValueError, match="need the atomic numbers"):
        model(Data(pos=torch.zeros(1, 3)))


def test_the_table_is_a_copy():
    """Loading weights must not change the table of the caller."""
    table = torch.tensor([0.0, -13.6], dtype=torch.float64)
    model = ScaledPotential(Springs(), 1.0, table)
    model.load_state_dict({**model.state_dict(), "atom_energies": table + 5})
    assert table.tolist() == [0.0, -13.6]

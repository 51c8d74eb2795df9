"""Forces and stress as derivatives of any energy model."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

# Attributes made from positions: an energy that read them would not depend on ``pos``, and forces would be zero.
_DERIVED = ("edge_attr", "node_attr", "edge_dist", "edge_radial", "edge_vec")


class PotentialOutput(NamedTuple):
    """Energy of each graph ``[B]``, force on each atom ``[N, 3]``, stress of each cell ``[B, 3, 3]`` or ``None``."""

    energy: Tensor
    force: Tensor
    stress: Tensor | None = None


class Potential(nn.Module):
    r"""A conservative potential: energy from a model, forces :math:`F = -\partial E / \partial x` by autograd.

    Args:
        model: Maps a ``Data`` or ``Batch`` with ``pos`` to energies ``[B, 1]`` or ``[B]``.
        scale: Factor on the model's output, in the unit of energy.
        atom_energies: Energy of an isolated atom by atomic number, ``[Z_max + 1]``, added per atom of ``data.z``.
        stress: Whether the stress :math:`\sigma = \frac{1}{V} \partial E / \partial \epsilon` is computed too; needs
            ``cell``.

    Returns:
        :class:`PotentialOutput`. In training mode forces are differentiable again, so that a loss may contain them.

    Example:
        >>> from geomeq.models import SEGNN, SEGNNConfig
        >>> config = SEGNNConfig("1x0e", "4x0e+4x1o", pool="atoms", cutoff=5.0)
        >>> data = Data(x=torch.ones(2, 1), pos=torch.tensor([[0.0, 0, 0], [0, 0, 1]]),
        ...             edge_index=torch.tensor([[1, 0], [0, 1]]))
        >>> Potential(SEGNN(config))(data).force.sum(0).abs().max() < 1e-6
        tensor(True)
    """

    atom_energies: Tensor | None

    def __init__(
        self, model: nn.Module, scale: float = 1.0, atom_energies: Tensor | None = None, stress: bool = False
    ) -> None:
        super().__init__()
        self.model, self.stress = model, stress
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("atom_energies", atom_energies)

    def forward(self, data: Data) -> PotentialOutput:
        """Energy, forces and, if asked for, stress of ``data``."""
        pos = data.get("pos")
        if pos is None:
            raise ValueError(f"a potential reads pos, but data has only {sorted(data.keys())}")
        free = _shallow(data)
        batch = free.get("batch")
        with torch.enable_grad():
            pos = pos.detach().requires_grad_()
            free.pos = pos
            inputs, strain = [pos], None
            if self.stress:
                strain = self._strain(free, batch)
                inputs.append(strain)
            energy = self.model(free).reshape(-1) * self.scale
            grads = torch.autograd.grad(energy.sum(), inputs, create_graph=self.training)
        if self.atom_energies is not None:
            energy = energy + self._reference(free, energy, batch)
        stress = None
        if strain is not None:
            volume = torch.linalg.det(data["cell"].view(-1, 3, 3).to(grads[1].dtype)).abs()
            stress = grads[1] / volume[:, None, None]
        if not self.training:
            energy = energy.detach()
        return PotentialOutput(energy, -grads[0], stress)

    def _strain(self, data: Data, batch: Tensor | None) -> Tensor:
        """Applies a zero strain to positions and cell, to differentiate by."""
        cell, pos = data.get("cell"), data["pos"]
        if cell is None:
            raise ValueError("stress=True needs a periodic structure, but data has no cell")
        cell = cell.view(-1, 3, 3).to(pos.dtype)
        strain = torch.zeros_like(cell, requires_grad=True)
        turn = torch.eye(3, dtype=pos.dtype, device=pos.device) + (strain + strain.mT) / 2
        data.cell = cell @ turn
        of_atom = turn[0].expand(pos.size(0), 3, 3) if batch is None else turn[batch]
        data.pos = (pos[:, None] @ of_atom).squeeze(1)
        return strain

    def _reference(self, data: Data, energy: Tensor, batch: Tensor | None) -> Tensor:
        z = data.get("z")
        if z is None:
            raise ValueError("atom_energies need the atomic numbers data.z [N]")
        table = self.atom_energies
        assert table is not None
        if z.numel() and int(z.max()) >= table.numel():
            raise ValueError(f"no atom energy for atomic number {int(z.max())}: the table ends at {table.numel() - 1}")
        own = table[z].to(energy.dtype)
        batch = torch.zeros_like(z) if batch is None else batch
        return torch.zeros_like(energy).index_add(0, batch, own)


def _shallow(data: Data) -> Data:
    """A copy that shares tensors and lacks everything made from positions."""
    free = data.__copy__()
    for name in _DERIVED:
        if name in free:
            del free[name]
    return free

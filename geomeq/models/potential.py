"""Forces and stress as derivatives of any energy model."""

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from ._atoms import check_table
from ._derivatives import energy_and_derivatives


class Potential(nn.Module):
    r"""A conservative potential: energy from a model, forces :math:`F = -\partial E / \partial x` by autograd.

    Args:
        model: Maps a ``Data`` or ``Batch`` with ``pos`` to energies ``[B, 1]`` or ``[B]``.
        scale: Factor on the model's output, in the unit of energy.
        atom_energies: Energy of an isolated atom by atomic number, ``[Z_max + 1]``, added per atom of ``data.z``, in
            float64, since totals are large; give the table in float64 too. :class:`ScaledPotential` keeps it so.
        stress: Whether the stress :math:`\sigma = \frac{1}{V} \partial E / \partial \epsilon` is computed too; needs
            ``cell``. Default: where the data has a ``cell``.

    Returns:
        A dict with ``energy`` ``[B]``, ``forces`` ``[N, 3]`` and, if computed, ``stress`` ``[B, 3, 3]`` (positive under
        tension). In training mode all are differentiable again, so that a loss may contain them.

    Example:
        >>> from geomeq.models import SEGNN, SEGNNConfig
        >>> config = SEGNNConfig("1x0e", "4x0e+4x1o", pool="atoms", cutoff=5.0)
        >>> data = Data(x=torch.ones(2, 1), pos=torch.tensor([[0.0, 0, 0], [0, 0, 1]]),
        ...             edge_index=torch.tensor([[1, 0], [0, 1]]))
        >>> Potential(SEGNN(config))(data)["forces"].sum(0).abs().max() < 1e-6
        tensor(True)
    """

    atom_energies: Tensor | None

    def __init__(
        self, model: nn.Module, scale: float = 1.0, atom_energies: Tensor | None = None, stress: bool | None = None
    ) -> None:
        super().__init__()
        self.model, self.stress = model, stress
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("atom_energies", atom_energies)

    def forward(self, data: Data) -> dict[str, Tensor]:
        """Energy, forces and stress of ``data``."""
        wanted = data.get("cell") is not None if self.stress is None else self.stress
        energy, forces, stress = energy_and_derivatives(self._energy, data, wanted, create_graph=self.training)
        out = {"energy": energy, "forces": forces}
        return out if stress is None else {**out, "stress": stress}

    def _energy(self, data: Data) -> Tensor:
        energy = self.model(data).reshape(-1) * self.scale
        return energy if self.atom_energies is None else energy + self._reference(data, energy)

    def _reference(self, data: Data, energy: Tensor) -> Tensor:
        z, batch = data.get("z"), data.get("batch")
        if z is None:
            raise ValueError("atom_energies need the atomic numbers data.z [N]")
        table = self.atom_energies
        assert table is not None
        if not torch.compiler.is_compiling() and z.numel():
            check_table(z, table)
        batch = torch.zeros_like(z) if batch is None else batch
        return torch.zeros_like(energy, dtype=torch.float64).index_add(0, batch, table[z].double())

"""An energy model in units of its own, and the energy of its atoms."""

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from ._atoms import check_table


class ScaledPotential(nn.Module):
    r"""Scales the outputs of an energy model and adds an energy for each atom.

    .. math:: E = s\,\hat E + \sum_i e_{z_i}, \qquad F = s\,\hat F, \qquad \sigma = s\,\hat\sigma

    A network of weights near one then gives energies of the data set. The sum is taken in float64, since total energies
    are large and their differences small: float32 rounds -4,200 eV (ethanol) to 0.5 meV.

    Args:
        model: Maps a ``Data`` or ``Batch`` to a dict with ``energy`` ``[B]``, ``forces`` ``[N, 3]`` and perhaps
            ``stress`` ``[B, 3, 3]`` and ``energies`` ``[N]``: :class:`ESCN`, :class:`SCN` or :class:`Potential`.
        scale: In the unit of energy. The root mean square force of the training frames is a good choice.
        atom_energies: By atomic number, ``[Z_max + 1]``, see :func:`geomeq.datasets.atom_energies`; default: none.
            Copied.

    Raises:
        ValueError: If the scale is not positive, the table has another shape, or (in ``forward``) an element is not in
            the table.

    Example:
        >>> from geomeq.models import SEGNN, Potential, SEGNNConfig
        >>> model = Potential(SEGNN(SEGNNConfig("1x0e", "4x0e+4x1o", pool="atoms", cutoff=5.0)))
        >>> data = Data(z=torch.tensor([1, 1]), x=torch.ones(2, 1), edge_index=torch.tensor([[1, 0], [0, 1]]),
        ...             pos=torch.tensor([[0.0, 0, 0], [0, 0, 1]]))
        >>> out = ScaledPotential(model, 2.0, torch.tensor([0.0, -13.6]))(data)
        >>> out["energy"].dtype, out["forces"].shape
        (torch.float64, torch.Size([2, 3]))
    """

    scale: Tensor
    atom_energies: Tensor | None

    def __init__(self, model: nn.Module, scale: float = 1.0, atom_energies: Tensor | None = None) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        if atom_energies is not None and atom_energies.dim() != 1:
            raise ValueError(f"atom_energies must have shape [Z_max + 1], got {list(atom_energies.shape)}")
        self.model = model
        self.register_buffer("scale", torch.tensor(float(scale), dtype=torch.float64))
        self.register_buffer(
            "atom_energies", None if atom_energies is None else atom_energies.detach().double().clone()
        )

    def forward(self, data: Data) -> dict[str, Tensor]:
        """The model's outputs in the unit of the data set; ``energy`` ``[B]`` is float64."""
        out = dict(self.model(data))
        for name in ("forces", "stress"):
            if name in out:
                out[name] = out[name] * self.scale.to(out[name].dtype)
        out["energy"] = out["energy"].double() * self.scale
        if "energies" in out:
            out["energies"] = out["energies"].double() * self.scale
        if self.atom_energies is not None:
            own = self._of_atoms(data)
            batch = data.get("batch")
            batch = torch.zeros_like(data["z"]) if batch is None else batch
            out["energy"] = out["energy"].index_add(0, batch, own)
            if "energies" in out:
                out["energies"] = out["energies"] + own
        return out

    def _of_atoms(self, data: Data) -> Tensor:
        """The energy of each atom, ``[N]``, float64."""
        z = data.get("z")
        table = self.atom_energies
        assert table is not None
        if z is None:
            raise ValueError("atom_energies need the atomic numbers data.z [N]")
        if not torch.compiler.is_compiling() and z.numel():
            check_table(z, table)
        return table[z]

    def _apply(self, *args: object, **kwargs: object) -> "ScaledPotential":
        """Keeps scale and atom energies in float64 through ``model.float()`` and ``model.half()``."""
        kept = {name: getattr(self, name) for name in ("scale", "atom_energies")}
        super()._apply(*args, **kwargs)  # type: ignore[arg-type]
        for name, value in kept.items():
            if value is not None:
                setattr(self, name, value.to(getattr(self, name).device))
        return self

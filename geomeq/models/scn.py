"""SCN: the spherical channel network, for molecules and periodic structures."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq.harmonics import edge_vectors
from geomeq.nn import SphericalChannelBlock

from ._atoms import check_atoms, sum_structures
from ._derivatives import energy_and_derivatives
from ._sphere_readout import SphereReadout

_PUBLISHED: dict[str, dict[str, Any]] = {
    "default": {},
    "t1-b1": {"hidden_channels": 1024, "num_layers": 12, "basis_width": 2.0, "taps": 1},
    "t4-b2": {"hidden_channels": 1024, "num_layers": 12, "basis_width": 2.0, "bands": 2},
    "all-md": {"hidden_channels": 1024, "num_layers": 16, "basis_width": 2.0, "bands": 2},
}


@dataclass(frozen=True)
class SCNConfig:
    """Everything that defines an :class:`SCN`; plain values, so it can be saved as JSON.

    Attributes:
        lmax: Highest degree of the functions at the atoms.
        mmax: Highest order kept in the frames of edges. With 0 messages are exactly equivariant.
        channels: Functions per atom.
        hidden_channels: Width of the message networks.
        num_layers: Number of blocks.
        cutoff: Length at which messages end, Angstrom; the graph must hold all edges up to it.
        taps: 1 or 4, see :class:`~geomeq.nn.SphericalChannelBlock`; so too the following.
        bands: Of the grid networks.
        num_resolutions: 1, or 2: smaller messages for all but the ``near`` nearest edges of an atom.
        near: How many are near.
        grid: Whether messages meet the atom on a grid.
        reduced_channels: Width within messages, if not ``channels``.
        edge_channels: Width of the edge scalars.
        num_elements: Elements 1 .. ``num_elements``.
        num_basis: Gaussians of the lengths.
        basis_width: Their width in units of their spacing.
        envelope: Order of the envelope on messages; ``None``, as published, makes the energy jump at the cut-off.
        average_degree: Messages are divided by its root.
        num_points: Points on the sphere at which energies and forces are read.
        forces: ``"direct"``: a network of their own, as published; not the slope of the energy. ``"autograd"``: minus
            its slope, and the stress where there is a cell.
        roll: ``"fixed"`` or, as published, ``"random"`` in training.
        chunk_size: Edges whose messages are made at a time, to save memory.
        path: Of the first map of messages.
    """

    lmax: int = 4
    mmax: int = 1
    channels: int = 32
    hidden_channels: int = 64
    num_layers: int = 2
    cutoff: float = 6.0
    taps: int = 4
    bands: int = 1
    num_resolutions: int = 1
    near: int = 12
    grid: bool = True
    reduced_channels: int | None = None
    edge_channels: int = 128
    num_elements: int = 90
    num_basis: int = 64
    basis_width: float = 1.0
    envelope: int | None = 5
    average_degree: float = 1.0
    num_points: int = 128
    forces: Literal["direct", "autograd"] = "direct"
    roll: Literal["fixed", "random"] = "fixed"
    chunk_size: int | None = None
    path: Literal["auto", "nodes", "edges"] = "auto"

    def __post_init__(self) -> None:
        if self.forces not in ("direct", "autograd"):
            raise ValueError(f"forces must be 'direct' or 'autograd', got {self.forces!r}")
        if self.num_layers < 1 or self.num_points < 1:
            raise ValueError(
                f"num_layers and num_points must be at least 1, got {self.num_layers} and {self.num_points}"
            )

    @classmethod
    def published(cls, name: str = "default", **options: Any) -> "SCNConfig":
        """The published sizes; messages without an envelope, so that the energy jumps at the cut-off.

        ``"default"``: 8 layers, H = 256, the defaults of the published code (20.5 million parameters). ``"t1-b1"`` (one
        tap, one band) and ``"t4-b2"``: 12 layers, H = 1024 (123.5 and 126.7 million; published: 126). ``"all-md"``: 16
        layers (168.9 million). All: L = 6, 128 channels, cut-off 8 Angstrom, two resolutions.

        The roll is fixed; ``roll="random"`` is the published one.

        Args:
            name: One of these.
            options: What shall be different.
        """
        if name not in _PUBLISHED:
            raise ValueError(f"name must be one of {tuple(_PUBLISHED)}, got {name!r}")
        made: dict[str, Any] = {"lmax": 6, "channels": 128, "hidden_channels": 256, "num_layers": 8, "cutoff": 8.0}
        made |= {"num_resolutions": 2, "num_basis": 400, "envelope": None}
        return cls(**{**made, **_PUBLISHED[name], **options})

    def block_options(self) -> dict[str, Any]:
        """Arguments of :class:`~geomeq.nn.SphericalChannelBlock`."""
        own = ("num_layers", "num_points", "forces")
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in own}


class SCN(nn.Module):
    r"""Spherical channel network: energies and forces of molecules and periodic structures.

    Every atom starts with constant functions that depend on its element, layers of
    :class:`~geomeq.nn.SphericalChannelBlock` change them (the first sets, the others add), and networks on their values
    at points of the sphere give

    .. math:: E = \sum_i \sum_p w_p \, \text{MLP}_E(x_i(r_p)), \qquad F_i = \sum_p w_p \, r_p \, \text{MLP}_F(x_i(r_p))

    Translations and permutations are exact. Rotations are exact up to the sampling of the sphere with ``mmax=0``; with
    ``mmax > 0`` the frames' roll breaks them, see :class:`~geomeq.nn.SphericalChannelBlock`. Mirror images are seen as
    different. :class:`~geomeq.models.ESCN` is exact.

    Reads ``z`` ``[N]`` (atomic numbers), ``pos`` ``[N, 3]``, ``edge_index`` ``[2, E]`` (of ``CutoffGraph`` or
    ``PeriodicGraph``), where periodic ``cell`` ``[B, 3, 3]`` and ``shift`` ``[E, 3]``, and ``batch``.

    Example:
        >>> model = SCN(SCNConfig(lmax=2, channels=8, hidden_channels=16))
        >>> data = Data(z=torch.tensor([8, 1, 1]), pos=torch.eye(3), edge_index=torch.tensor([[1, 2, 0], [0, 0, 1]]))
        >>> out = model(data)
        >>> out["energy"].shape, out["forces"].shape
        (torch.Size([1]), torch.Size([3, 3]))

    Source: Zitnick et al. (2022), https://arxiv.org/abs/2206.14331.
    """

    def __init__(self, config: SCNConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.num_elements, config.channels)
        options = config.block_options()
        self.blocks = nn.ModuleList(SphericalChannelBlock(**options) for _ in range(config.num_layers))
        self.readout = SphereReadout(config.channels, config.lmax, config.num_points, config.forces == "direct")

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        self.embedding.reset_parameters()
        for module in self.modules():
            if isinstance(module, SphericalChannelBlock):
                module.reset_parameters()
        for layer in self.readout.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def forward(self, data: Data, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Predicts.

        Args:
            data: A ``Data`` or ``Batch``, see the class.
            generator: From which ``roll="random"`` draws in training.

        Returns:
            ``energy`` ``[B]`` (float64) and ``forces`` ``[N, 3]``; with ``forces="autograd"`` and a cell also
            ``stress`` ``[B, 3, 3]``. In the unit of the training data.

        Raises:
            ValueError: If an attribute is missing, a shape does not fit, two connected atoms lie at the same place, or
                an element is unknown.
        """
        check_atoms(data, self.config.num_elements, self.embedding.weight.device)
        if self.config.forces == "direct":
            energy, forces = self._atoms(data, generator)
            assert forces is not None
            return {"energy": sum_structures(energy, data), "forces": forces}
        energy, forces, stress = energy_and_derivatives(
            lambda free: sum_structures(self._atoms(free, generator)[0], free),
            data,
            stress=data.get("cell") is not None,
            create_graph=self.training,
        )
        out = {"energy": energy, "forces": forces}
        return out if stress is None else {**out, "stress": stress}

    def features(self, data: Data, generator: torch.Generator | None = None) -> Tensor:
        """Functions at the atoms after the last layer, ``[N, (lmax + 1)^2, C]``."""
        check_atoms(data, self.config.num_elements, self.embedding.weight.device)
        return self._features(data, generator)

    def _atoms(self, data: Data, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        """Energy and, if direct, force of each atom."""
        return self.readout(self._features(data, generator))

    def _features(self, data: Data, generator: torch.Generator | None) -> Tensor:
        z, edge_index = data["z"], data["edge_index"]
        weight = self.embedding.weight
        start = weight.index_select(0, z - 1)[:, None]
        x = torch.cat([start, start.new_zeros(z.size(0), (self.config.lmax + 1) ** 2 - 1, start.size(2))], dim=1)
        pos = data["pos"].to(weight.dtype)
        vec = edge_vectors(pos, edge_index, data.get("shift"), data.get("cell"), data.get("batch"))
        geometry = self.blocks[0].geometry(edge_index, vec, z.size(0), generator=generator)  # type: ignore[operator]
        for k, block in enumerate(self.blocks):
            change = block(x, z, edge_index, geometry=geometry)
            x = change if k == 0 else x + change
        return x

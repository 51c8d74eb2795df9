"""ESCN: equivariant spherical channels, for molecules and periodic structures."""

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq.harmonics import edge_vectors, edge_wigner, polynomial_envelope
from geomeq.harmonics.attributes import edge_length
from geomeq.nn import SphericalNorm
from geomeq.ops import EdgeLayout, EdgeRotation

from ._atoms import check_atoms, check_lengths, of_atoms, sum_structures
from ._derivatives import energy_and_derivatives, without_derived
from ._escn_config import ESCNConfig
from ._escn_parts import DegreeEmbedding, EdgeScalars, ESCNBlock, Readout, message_layer


class ESCN(nn.Module):
    r"""Energies, forces and stress from messages in the frames of the edges: eSCN, EquiformerV2, eSEN.

    Every atom holds functions on the sphere, C channels of coefficients. They start with its element and the
    harmonics of its surroundings; each block adds the messages of :class:`~geomeq.nn.SO2Conv` and a network at each
    atom. The energy is a sum over atoms of what degree 0 says at the end, :math:`E = \sum_i \mathrm{MLP}(x_{i,00})`,
    and forces and stress are its derivatives.

    With the defaults of :class:`ESCNConfig` (the design of eSEN) the energy is exactly invariant under rotations,
    reflections, translations and permutations, and smooth in the positions, also where atoms pass the cut-off; forces
    conserve it. With ``reflections=False`` mirror images are told apart (SO(3)), as in the published models.

    Reads ``z`` ``[N]`` (atomic numbers), ``pos`` ``[N, 3]`` (Angstrom), ``edge_index`` ``[2, E]`` (of ``CutoffGraph``
    or ``PeriodicGraph`` with the model's cutoff), where periodic ``cell`` ``[B, 3, 3]`` and ``shift`` ``[E, 3]``, and
    ``batch``. Edge vectors are made from ``pos`` in the forward pass.

    Example:
        >>> model = ESCN(ESCNConfig(channels=8, num_layers=1))
        >>> data = Data(z=torch.tensor([8, 1, 1]), pos=torch.eye(3), edge_index=torch.tensor([[1, 2, 0], [0, 0, 1]]))
        >>> out = model(data)
        >>> out["energy"].shape, out["forces"].shape
        (torch.Size([1]), torch.Size([3, 3]))

    Source: Passaro and Zitnick (2023), https://arxiv.org/abs/2302.03655; Liao et al. (2023),
    https://arxiv.org/abs/2306.12059; Fu et al. (2025), https://arxiv.org/abs/2502.12147.
    """

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        self.config = config
        self.layout, self.zonal = EdgeLayout(config.lmax, config.mmax), EdgeLayout(config.lmax, 0)
        self.elements = nn.Embedding(config.num_elements, config.channels)
        self.edge_scalars = EdgeScalars(config)
        self.degree = DegreeEmbedding(config) if config.degree_embedding else None
        self.scalars = nn.Linear(len(config.scalars), config.channels) if config.scalars else None
        self.blocks = nn.ModuleList(ESCNBlock(config) for _ in range(config.num_layers))
        normed = config.norm is not None and config.form != "escn"
        self.norm = SphericalNorm(config.channels, config.lmax, config.norm or "rms") if normed else None
        self.energy = Readout(config)
        direct = config.forces == "direct"
        self.force = self.attention = None
        if direct and config.attention_heads:
            self.attention = message_layer(config, out_channels=1)
        elif direct:
            self.force = Readout(config, 1)
        self.tension = Readout(config, 2) if direct and config.stress is not False and config.lmax >= 2 else None

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        # parts before what they belong to, as when the model was built: a layer draws the weights of its parts anew
        for module in reversed([*self.modules()]):
            if module is not self and hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]

    def forward(self, data: Data) -> dict[str, Tensor]:
        """Predicts.

        Args:
            data: A ``Data`` or ``Batch``, see the class.

        Returns:
            ``energy`` ``[B]`` (float64, as sums over many atoms are), ``energies`` ``[N]`` (the parts of the atoms),
            ``forces`` ``[N, 3]`` and, where there is a cell, ``stress`` ``[B, 3, 3]`` (energy per volume, positive
            under tension). In training mode all can be differentiated again, so that a loss may contain them.

        Raises:
            TypeError: If ``data`` is no graph.
            ValueError: If an attribute is missing, a shape does not fit, an element is unknown, a number is not finite
                or two connected atoms lie at the same place.
        """
        check_atoms(data, self.config.num_elements, self.elements.weight.device)
        stress = data.get("cell") is not None if self.config.stress is None else self.config.stress
        if stress and data.get("cell") is None:
            raise ValueError("config.stress is set, but data has no cell; leave stress=None for molecules")
        if self.config.forces == "direct":
            return self._direct(data, stress)
        parts: list[Tensor] = []

        def energy(free: Data) -> Tensor:
            parts.append(self.energy(self._features(free)[0])[:, 0])
            return sum_structures(parts[0], free)

        total, forces, tension = energy_and_derivatives(energy, data, stress, create_graph=self.training)
        own = parts[0] if total.requires_grad else parts[0].detach()
        out = {"energy": total, "energies": own, "forces": forces}
        return out if tension is None else {**out, "stress": tension}

    def features(self, data: Data) -> Tensor:
        """Coefficients of the functions at the atoms after the last block, ``[N, (lmax + 1)^2, C]``."""
        check_atoms(data, self.config.num_elements, self.elements.weight.device)
        return self._features(without_derived(data))[0]

    def _direct(self, data: Data, stress: bool) -> dict[str, Tensor]:
        x, rotation, edges, envelope = self._features(without_derived(data))
        own = self.energy(x)[:, 0]
        if self.attention is not None:
            force = self.attention(x, rotation, edges, envelope)[..., 0]
        else:
            assert self.force is not None
            force = self.force(x)
        # degree 1 in the order x, y, z
        out = {"energy": sum_structures(own, data), "energies": own, "forces": force[:, 1:4]}
        if stress and self.tension is not None:
            virial = sum_structures(_tensor(self.tension(x)), data)
            volume = torch.linalg.det(data["cell"].view(-1, 3, 3).double()).abs()
            out["stress"] = (virial / volume[:, None, None]).to(own.dtype)
        return out

    def _features(self, data: Data) -> tuple[Tensor, EdgeRotation, Tensor, Tensor | None]:
        """Functions at the atoms; frames, invariants and envelope of the edges."""
        config, edge_index = self.config, data["edge_index"]
        z = data["z"].long() - 1
        pos = data["pos"].to(self.elements.weight.dtype)
        vec = edge_vectors(pos, edge_index, data.get("shift"), data.get("cell"), data.get("batch"))
        dist = edge_length(vec).squeeze(1)
        check_lengths(dist, edge_index)
        envelope = None
        if config.envelope is not None:
            envelope = polynomial_envelope(dist, config.cutoff, config.envelope)
        edges = self.edge_scalars(dist, z, edge_index)
        wigner = edge_wigner(vec, config.lmax, config.mmax)
        rotation = EdgeRotation(wigner, edge_index, z.numel(), self.layout)
        x = self._start(data, z, edges, rotation, envelope)
        for block in self.blocks:
            x = block(x, rotation, edges, envelope)
        return x if self.norm is None else self.norm(x), rotation, edges, envelope

    def _start(self, data: Data, z: Tensor, edges: Tensor, rotation: EdgeRotation, envelope: Tensor | None) -> Tensor:
        """Element, further invariants and, if configured, the harmonics of the surroundings."""
        start = self.elements(z)
        if self.scalars is not None:
            extra = torch.stack([of_atoms(name, data, z.numel()) for name in self.config.scalars], dim=1)
            start = start + self.scalars(extra.to(start.dtype))
        if self.degree is None:
            rest = start.new_zeros(z.numel(), (self.config.lmax + 1) ** 2 - 1, start.size(1))
            return torch.cat([start[:, None], rest], dim=1)
        wigner = rotation.wigner[:, : self.zonal.num_values]  # rows of order 0 come first
        x = self.degree(edges, EdgeRotation(wigner, rotation.edge_index, z.numel(), self.zonal), envelope)
        return torch.cat([x[:, :1] + start[:, None], x[:, 1:]], dim=1)


def _tensor(x: Tensor) -> Tensor:
    """Symmetric matrices ``[N, 3, 3]`` from their degrees 0 and 2, ``[N, 9]`` (e3nn's basis)."""
    xz, xy, y2, yz, z2 = x[:, 4:].unbind(1)  # of e3nn: xz, xy, 2yy - xx - zz, yz, zz - xx
    a = y2 * 3**-0.5
    xx, yy, zz = -a - z2, 2 * a, z2 - a
    flat = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=1).view(-1, 3, 3)
    return flat + x[:, 0, None, None] * torch.eye(3, dtype=x.dtype, device=x.device)

"""Node features of particles: centred positions, velocities, speeds, charges or masses."""

import torch
from e3nn import o3
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ._edges import graph_of_nodes, require_data, require_pos


@functional_transform("particle_features")
class ParticleFeatures(BaseTransform):
    r"""Writes the input of a network on moving particles, ``x = [|v|, (q,) pos - centre, v]``.

    Positions are features only after the centre of each graph (the mean over its *particles*) is taken away; without
    that a network is not invariant under translations. A published pipeline subtracts the mean over x, y and z of
    each particle instead, which breaks rotations too; see the page on pitfalls.

    Reads ``pos`` and ``vel`` (``[N, 3]``), and with ``charge=True`` also ``charge`` or ``mass`` (``[N, 1]``).
    Writes ``x`` of type ``1x0e+2x1o`` (``[N, 7]``), or ``2x0e+2x1o`` (``[N, 8]``) with charges.

    Args:
        charge: Whether the charge (or mass) of each particle is a feature. Leave it out where only products of
            charges act, and give those to the edges: the network is then exactly invariant under a change of all signs.

    Example:
        >>> data = Data(pos=torch.tensor([[0.0, 0, 0], [2, 0, 0]]), vel=torch.eye(3)[:2])
        >>> ParticleFeatures()(data).x[0].tolist()
        [1.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, charge: bool = False) -> None:
        self.charge = charge
        self.irreps_out = o3.Irreps("2x0e+2x1o" if charge else "1x0e+2x1o")

    def forward(self, data: Data) -> Data:
        """Writes ``x`` to ``data`` and returns it."""
        require_data(data, "ParticleFeatures")
        pos = require_pos(data, "ParticleFeatures")
        vel = data.get("vel")
        if vel is None:
            raise ValueError(f"ParticleFeatures reads vel [N, 3], but the data has only {sorted(data.keys())}")
        scalars = [vel.norm(dim=1, keepdim=True)]
        if self.charge:
            charge = data.get("charge") if data.get("charge") is not None else data.get("mass")
            if charge is None:
                raise ValueError("ParticleFeatures(charge=True) reads charge or mass [N, 1], and the data has neither")
            scalars.append(charge.to(pos.dtype))
        centred = pos - _centre(pos, graph_of_nodes(data, pos.size(0)))
        data.x = torch.cat([*scalars, centred, vel], dim=1)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(charge={self.charge})"


def _centre(pos: Tensor, batch: Tensor | None) -> Tensor:
    if batch is None:
        return pos.mean(dim=0, keepdim=True)
    graphs = int(batch.max()) + 1 if batch.numel() else 0
    total = pos.new_zeros(graphs, pos.size(1)).index_add(0, batch, pos)
    count = pos.new_zeros(graphs).index_add(0, batch, pos.new_ones(pos.size(0))).clamp(min=1)
    return (total / count[:, None])[batch]

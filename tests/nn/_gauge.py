"""Random surfaces, frames and features for tests of gauge layers."""

import torch
from torch import Tensor

from geomeq.groups import SO2Irreps

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def turns(nodes: int) -> Tensor:
    """An angle for the frame of each node, float64."""
    return torch.rand(nodes, dtype=torch.float64) * 2 * torch.pi


def features(types: SO2Irreps | str, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal features of a type."""
    return torch.randn(*shape, SO2Irreps(types).dim, dtype=dtype)


def turned(types: SO2Irreps | str, x: Tensor, turn: Tensor) -> Tensor:
    """Features in frames that were turned by ``turn``."""
    return SO2Irreps(types).rotate(x, -turn)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference in units of the largest entry."""
    return float(((a - b).abs().max() / b.abs().max()).detach())


def gauge_error(layer, x: Tensor, turn: Tensor) -> float:
    """How far a layer at the nodes is from commuting with turns of the frames."""
    return relative(layer(turned(layer.types_in, x, turn)), turned(layer.types_out, layer(x), turn))


class Surface:
    """A random graph with the relative geometry of a surface; any numbers will do, as frames are what is turned.

    Sorted by target, then source, both directions of every edge.
    """

    def __init__(self, nodes: int = 12, extra: int = 14, dtype: torch.dtype = torch.float64) -> None:
        ring = torch.stack([torch.arange(nodes), (torch.arange(nodes) + 1) % nodes])
        pairs = torch.cat([ring, torch.randint(nodes, (2, extra))], dim=1)
        pairs = pairs[:, pairs[0] != pairs[1]]
        pairs = torch.cat([pairs, pairs.flip(0)], dim=1)
        keys = (pairs[1] * nodes + pairs[0]).unique()
        self.edge_index = torch.stack([keys % nodes, keys // nodes])
        edges = self.edge_index.size(1)
        r = 0.2 + torch.rand(edges, dtype=torch.float64)
        self.polar = torch.stack([r, turns(edges) - torch.pi], dim=1).to(dtype)
        self.transport = (turns(edges) - torch.pi).to(dtype)
        self.area = (0.5 + torch.rand(nodes, dtype=torch.float64)).to(dtype)
        self.nodes, self.dtype = nodes, dtype

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a layer takes after ``x``."""
        return self.edge_index, self.polar, self.transport, self.area

    def turned(self, turn: Tensor) -> "Surface":
        """The same surface with every frame turned by its own angle."""
        other = object.__new__(Surface)
        other.__dict__.update(self.__dict__)
        source, target = self.edge_index
        angle = self.polar[:, 1].double() - turn[target]
        other.polar = torch.stack([self.polar[:, 0].double(), angle], dim=1).to(self.dtype)
        other.transport = (self.transport.double() - turn[target] + turn[source]).to(self.dtype)
        return other

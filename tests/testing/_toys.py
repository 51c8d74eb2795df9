"""Small equivariant networks, each with a place where a bug can be planted."""

import torch
from e3nn import o3
from torch import nn
from torch_geometric.data import Batch, Data


def ring_graph(nodes=6, dtype=torch.float64, seed=0):
    """A random cloud with an irregular set of edges (so that the numbers of nodes and edges differ)."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [(j, i) for i in range(nodes) for j in range(nodes) if i != j and (2 * i + j) % 3]
    data = Data(edge_index=torch.tensor(pairs).T)
    data.pos = torch.randn(nodes, 3, dtype=torch.float64, generator=generator).to(dtype)
    data.vel = torch.randn(nodes, 3, dtype=torch.float64, generator=generator).to(dtype)
    data.x = torch.randn(nodes, 2, dtype=torch.float64, generator=generator).to(dtype)
    return data


def two_graphs(dtype=torch.float64):
    return Batch.from_data_list([ring_graph(6, dtype), ring_graph(5, dtype, seed=1)])


class Centre(nn.Module):
    """Subtracts the mean over the particles (dim=0), or, wrongly, over x, y, z of each particle (dim=1)."""

    def __init__(self, dim=0):
        super().__init__()
        self.dim = dim

    def forward(self, pos):
        return pos - pos.mean(dim=self.dim, keepdim=True)


class Mix(nn.Module):
    """Mixes channels of vectors [N, C, 3]."""

    def __init__(self, channels_in, channels_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_in, channels_out) / channels_in**0.5)

    def forward(self, v):
        return torch.einsum("nci,cd->ndi", v, self.weight)


class VectorGate(nn.Module):
    """Scales each vector by a function of the lengths."""

    def __init__(self, channels):
        super().__init__()
        self.lin = nn.Linear(channels, channels)

    def forward(self, v):
        return v * torch.sigmoid(self.lin(v.norm(dim=-1)))[..., None]


def pull(pos, edge_index):
    source, target = edge_index
    r = pos[source] - pos[target]
    return torch.zeros_like(pos).index_add(0, target, r * torch.exp(-r.norm(dim=-1, keepdim=True)))


class VectorNet(nn.Module):
    """A vector at each particle, from plain torch: the submodules do not know their types."""

    def __init__(self, act=None, centre=None, channels=8):
        super().__init__()
        self.centre = centre or Centre()
        self.first = Mix(2, channels)
        self.act = act or VectorGate(channels)
        self.last = Mix(channels, 1)

    def forward(self, data):
        pos = self.centre(data.pos)
        v = torch.stack([pos, pull(pos, data.edge_index)], dim=1)
        return self.last(self.act(self.first(v)))[:, 0]


class IrrepsNet(nn.Module):
    """A message passing network from e3nn's modules: the submodules carry their types."""

    irreps_out = o3.Irreps("1x1o")

    def __init__(self, act=None):
        super().__init__()
        hidden = o3.Irreps("4x0e+4x1o")
        self.embed = o3.Linear("2x0e+1x1o", hidden)
        self.message = o3.FullyConnectedTensorProduct(hidden, "1x0e+1x1o", hidden)
        self.act = act or nn.Identity()
        self.update = o3.Linear(hidden, self.irreps_out)

    def forward(self, data):
        source, target = data.edge_index
        y = o3.spherical_harmonics([0, 1], data.pos[source] - data.pos[target], True, "component")
        h = self.embed(torch.cat([data.x, data.vel], dim=-1))
        message = self.message(h[source], y)
        h = h + torch.zeros_like(h).index_add(0, target, message)
        return self.update(self.act(h))

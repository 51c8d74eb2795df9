"""Random graphs with attributes, for the tests of steerable layers."""

import torch
from torch import Tensor

from geomeq.harmonics import SteerableGeometry, steerable_attributes


def random_graph(
    nodes: int = 9, edges: int = 40, lmax: int = 1, dtype: torch.dtype = torch.float64, seed: int = 0
) -> tuple[Tensor, Tensor, SteerableGeometry]:
    """Positions, unsorted edges without loops, attributes. The last node has no edge at all."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(nodes, 3, dtype=torch.float64, generator=generator).to(dtype)
    edge_index = torch.randint(0, nodes - 1, (2, edges), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]].unique(dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.size(1), generator=generator)]
    vec = pos[edge_index[0]] - pos[edge_index[1]]
    return pos, edge_index, steerable_attributes(vec, edge_index, nodes, lmax)

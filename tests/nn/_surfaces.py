"""Random graphs with angles at the edges, as gauge layers read them, and changes of their frames."""

import math

import torch
from torch import Tensor

from geomeq.groups import SO2Irreps


def random_surface(
    nodes: int = 12, dtype: torch.dtype = torch.float64, density: float = 0.4
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``(edge_index, polar, transport, area)``; neither symmetric nor from any surface: layers must not care."""
    target, source = (torch.rand(nodes, nodes) < density).fill_diagonal_(False).nonzero().T
    r = torch.rand(len(source), dtype=dtype) + 0.05
    angle, transport = (torch.rand(2, len(source), dtype=dtype) * 2 - 1) * math.pi
    return torch.stack([source, target]), torch.stack([r, angle], dim=1), transport, torch.rand(nodes, dtype=dtype)


def turn_frames(
    turn: Tensor, x: Tensor, types: SO2Irreps, edge_index: Tensor, polar: Tensor, transport: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``(x, polar, transport)`` in frames turned by ``turn`` ``[N]``."""
    source, target = edge_index
    angle = torch.stack([polar[:, 0], polar[:, 1] - turn[target]], dim=1)
    return types.rotate(x, -turn), angle, transport - turn[target] + turn[source]

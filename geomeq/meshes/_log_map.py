"""Neighbourhoods in polar coordinates: what every method of this package gives back."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class LogMap:
    """Each neighbour in the tangent plane of a vertex, and the transport between the two planes.

    Pairs come in both directions, without loops, sorted by target, then by source. Float64.

    Attributes:
        edge_index: Source ``j`` and target ``i``, ``[2, E]``.
        polar: Length, and angle of the source in the frame of the target, in (-pi, pi], ``[E, 2]``.
        transport: Turns components in the frame of the source into components in that of the target, an angle in
            (-pi, pi], ``[E]``.
    """

    edge_index: Tensor
    polar: Tensor
    transport: Tensor

    @property
    def num_edges(self) -> int:
        """Number of pairs."""
        return self.transport.numel()

    def take(self, index: Tensor) -> "LogMap":
        """The pairs at ``index`` (numbers or a mask)."""
        return LogMap(self.edge_index[:, index], self.polar[index], self.transport[index])


def store_angle(angle: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounds an angle in (-pi, pi] to ``dtype`` without reaching the excluded end."""
    angle = angle.to(dtype)
    end = angle.new_tensor(math.pi)
    return torch.where(angle <= -end, end, angle)


def sorted_pairs(source: Tensor, target: Tensor, num_vertices: int) -> Tensor:
    """Order of pairs by target, then by source, ``[E]``."""
    key = target * num_vertices + source
    return torch.from_numpy(np.argsort(key.numpy(), kind="stable"))


def reverse_pairs(edge_index: Tensor, num_vertices: int) -> Tensor:
    """For every pair the number of the pair that runs back, ``[E]``.

    Args:
        edge_index: Pairs in both directions, sorted by target, then by source, ``[2, E]``.
        num_vertices: Number of vertices.
    """
    source, target = edge_index
    return sorted_pairs(target, source, num_vertices)

"""Smooth images, known at every point of the plane, and what turns them."""

import math

import torch
from torch import Tensor


def waves(size: int, highest: float, angle: float = 0.0, count: int = 16, seed: int = 0) -> Tensor:
    """Sums of twelve random plane waves with wave numbers up to ``highest`` per pixel, turned by ``angle``."""
    rng = torch.Generator().manual_seed(seed)
    length, direction, phase = torch.rand(3, count, 12, 1, 1, generator=rng, dtype=torch.float64).unbind(0)
    length, direction = length.sqrt() * highest, 2 * math.pi * direction + angle
    line = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    x, y = line.expand(size, size), -line[:, None].expand(size, size)
    wave = length * (direction.cos() * x + direction.sin() * y) + 2 * math.pi * phase
    return wave.cos().sum(1, keepdim=True) / 12**0.5


def turned_image(types, x: Tensor) -> Tensor:
    """Typed images ``[B, dim, H, W]`` after a quarter turn counter-clockwise."""
    quarter = torch.tensor(math.pi / 2, dtype=torch.float64)
    return types.rotate(torch.rot90(x, 1, (-2, -1)).movedim(1, -1), quarter).movedim(-1, 1)

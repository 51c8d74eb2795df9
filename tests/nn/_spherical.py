"""Helpers for tests of spherical channels."""

import torch

from geomeq.groups.wigner import wigner_blocks


def turned(x: torch.Tensor, rotation: torch.Tensor, mirrored: bool = False) -> torch.Tensor:
    """Coefficients ``[N, (L+1)^2, C]`` of the turned (and, after that, point-mirrored) signals."""
    lmax = round(x.size(1) ** 0.5) - 1
    blocks = wigner_blocks(rotation.expand(x.size(0), 3, 3).double(), lmax)
    parts = [(-1) ** (k * mirrored) * (blocks[k].to(x.dtype) @ x[:, k * k : (k + 1) ** 2]) for k in range(lmax + 1)]
    return torch.cat(parts, dim=1)


def parity(x: torch.Tensor) -> torch.Tensor:
    """Coefficients of the mirrored signals, x -> -x."""
    return turned(x, torch.eye(3, dtype=torch.float64), mirrored=True)


def rolled(x: torch.Tensor, angle: float, lmax: int, mmax: int) -> torch.Tensor:
    """Rows of an edge frame ``[E, B, C]`` after a turn by ``angle`` about its axis."""
    parts = [x[:, : lmax + 1]]
    at = lmax + 1
    for m in range(1, mmax + 1):
        size = lmax + 1 - m
        plus, minus = x[:, at : at + size], x[:, at + size : at + 2 * size]
        c, s = torch.cos(torch.tensor(m * angle)).to(x), torch.sin(torch.tensor(m * angle)).to(x)
        parts += [c * plus - s * minus, s * plus + c * minus]
        at += 2 * size
    return torch.cat(parts, dim=1)

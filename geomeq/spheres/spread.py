"""Samplings that are nearly uniform and lie on no rings."""

import math

import torch

from ..groups import icosphere as build_icosphere
from .sampling import Sampling, check_count


def icosphere(level: int) -> Sampling:
    """The icosahedron subdivided ``level`` times, with its triangles; weights are the areas around vertices.

    Args:
        level: From 0 (12 nodes); ``10 * 4^level + 2`` nodes.

    Raises:
        ValueError: If ``level`` is negative or no integer.

    Example:
        >>> icosphere(3)
        Sampling('icosphere', num_nodes=642)
    """
    mesh = build_icosphere(level)
    return Sampling("icosphere", mesh.pos, mesh.area, None, None, mesh.face)


def fibonacci(n: int) -> Sampling:
    r"""``n`` points on a spiral, of equal area: :math:`z_i = 1 - (2 i + 1) / n`, longitudes by the golden ratio.

    Args:
        n: Number of points.

    Raises:
        ValueError: If ``n`` is no positive integer.

    Example:
        >>> fibonacci(100)
        Sampling('fibonacci', num_nodes=100)
    """
    check_count("n", n, 1)
    with torch.device("cpu"):  # whatever the default is
        i = torch.arange(n, dtype=torch.float64) + 0.5
        phi = math.pi * (1 + math.sqrt(5)) * i
        z = 1 - 2 * i / n
        sin = (4 * i / n * (1 - i / n)).sqrt()
        pos = torch.stack([sin * phi.cos(), sin * phi.sin(), z], dim=-1)
        return Sampling("fibonacci", pos, torch.full((n,), 4 * math.pi / n, dtype=torch.float64))

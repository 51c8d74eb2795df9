"""Gridded rotations: finite subgroups and a product grid with exact integrals."""

import itertools
import math

import numpy as np
import torch
from e3nn import o3
from torch import Tensor

from .rotation_vectors import rotation_from_vector


def cube_rotations() -> Tensor:
    """The 24 rotations that map the cube to itself, ``[24, 3, 3]``, float64, exact, the identity first."""
    matrices = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = torch.zeros(3, 3, dtype=torch.float64)
            matrix[torch.arange(3), torch.tensor(order)] = torch.tensor(signs, dtype=torch.float64)
            if torch.linalg.det(matrix) > 0:
                matrices.append(matrix)
    return torch.stack(matrices)


def tetrahedral_rotations() -> Tensor:
    """The 12 rotations that map the tetrahedron to itself, ``[12, 3, 3]``, float64, exact, the identity first.

    Those :func:`cube_rotations` that permute the axes in cycles; :func:`icosahedral_rotations` has them too.
    """
    rotations = cube_rotations()
    return rotations[torch.linalg.det(rotations.abs()) > 0]


def icosahedral_rotations() -> Tensor:
    """The 60 rotations that map the icosahedron with vertices (0, +-1, +-phi) and cyclic to itself.

    Returns:
        Matrices ``[60, 3, 3]``, float64, each entry correctly rounded, the identity first.
    """
    phi = (1 + math.sqrt(5)) / 2
    axes = torch.tensor([[0.0, 1.0, phi], [1.0, 1.0, 1.0]], dtype=torch.float64)
    angles = torch.tensor([2 * math.pi / 5, 2 * math.pi / 3], dtype=torch.float64)
    generators = rotation_from_vector(axes / axes.norm(dim=1, keepdim=True) * angles[:, None])
    # all entries that occur: closing the group by products would otherwise collect rounding
    entries = torch.tensor([0, 1 / (2 * phi), 0.5, phi / 2, 1], dtype=torch.float64)
    entries = torch.cat([-entries.flip(0), entries[1:]])
    elements = [torch.eye(3, dtype=torch.float64)]
    known = {_name(elements[0])}
    for element in elements:  # grows while it runs
        for generator in generators:
            product = generator @ element
            product = entries[(product[..., None] - entries).abs().argmin(dim=-1)]
            if _name(product) not in known:
                known.add(_name(product))
                elements.append(product)
    return torch.stack(elements)


def _name(matrix: Tensor) -> tuple[int, ...]:
    return tuple((matrix * 1000).round().long().flatten().tolist())


def rotation_grid(degree: int) -> tuple[Tensor, Tensor]:
    r"""A product grid on SO(3) whose weighted sum integrates all Wigner functions up to ``degree`` exactly.

    Angles of e3nn, :math:`R = R_y(\alpha) R_x(\beta) R_y(\gamma)`: ``degree + 1`` equal steps in :math:`\alpha` and
    :math:`\gamma`, ``ceil((degree + 1) / 2)`` Gauss-Legendre nodes in :math:`\cos\beta`. For the product of two
    functions of degree L ask for ``degree = 2 L``.

    Args:
        degree: Highest degree of the integrand, at least 0.

    Returns:
        Rotations ``[G, 3, 3]`` and weights ``[G]``, float64, positive, with sum 1.

    Raises:
        ValueError: If ``degree`` is negative.

    Example:
        >>> rotations, weights = rotation_grid(2)
        >>> rotations.shape, float(weights.sum())
        (torch.Size([18, 3, 3]), 1.0)
    """
    if degree < 0:
        raise ValueError(f"degree must be at least 0, got {degree}")
    step = torch.arange(degree + 1, dtype=torch.float64) * (2 * math.pi / (degree + 1))
    nodes, node_weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    beta = torch.from_numpy(np.arccos(nodes))
    alpha, beta, gamma = (t.flatten() for t in torch.meshgrid(step, beta, step, indexing="ij"))
    weight = torch.from_numpy(node_weights / node_weights.sum()) / (degree + 1) ** 2
    weight = weight[None, :, None].expand(degree + 1, -1, degree + 1)
    return o3.angles_to_matrix(alpha, beta, gamma), weight.flatten().clone()

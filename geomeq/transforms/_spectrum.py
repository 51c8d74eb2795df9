"""The largest eigenvalue of a graph Laplacian."""

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigsh

from ..ops import SparseOperator

_DENSE = 64  # nodes up to which all eigenvalues are computed
_MARGIN = 1e-3  # Lanczos approaches the eigenvalue from below


def top_eigenvalue(operator: SparseOperator, shift: float) -> float:
    """An upper estimate of the largest eigenvalue of ``operator + shift``, at most 1% above it.

    Args:
        operator: Symmetric, float64, with eigenvalues at least ``-shift``.
        shift: Added to all eigenvalues.
    """
    nodes = operator.size[0]
    if nodes <= _DENSE:
        return float(torch.linalg.eigvalsh(operator.to_dense())[-1]) + shift if nodes else shift
    ptr, col, value = (part.cpu().numpy() for part in operator.rows())
    matrix = csr_array((value, col, ptr), shape=(nodes, nodes))
    start = np.random.default_rng(0).standard_normal(nodes)  # the same estimate in every run
    top = float(eigsh(matrix, k=1, which="LA", v0=start, tol=1e-4, return_eigenvectors=False)[0]) + shift
    return top * (1 + _MARGIN)

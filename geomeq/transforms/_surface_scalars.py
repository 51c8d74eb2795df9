"""Numbers that describe a surface at each vertex and do not change when it moves."""

import math

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.linalg import eigsh
from torch import Tensor

from .. import meshes
from ..meshes._surface import surface

_LEAST_AREA = 1e-3  # of a vertex, as a part of the mean, where curvature is divided by it
_ZERO = 1e-6  # eigenvalues times area below this belong to constants
_TIE = 1e-6  # eigenvalues that differ by a smaller part are one
_DECAY = 4 * math.log(10)  # the slowest and fastest eigenfunctions decay to 1e-4 at the last and first time


def curvatures(pos: Tensor, face: Tensor) -> Tensor:
    """Mean and Gaussian curvature, made free of units by the area of the mesh, and compressed by ``asinh``.

    Mean curvature is half the trace of the shape operator, Gaussian curvature the angle defect over the area of the
    vertex. Both are finite also where triangles are flat.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``.

    Returns:
        ``[N, 2]``, float64.
    """
    pos = _of_unit_size(pos, face)
    made = surface(pos, face)
    total, num = float(made.area.sum()), pos.size(0)
    if not bool((made.length > 0).any()):
        return pos.new_zeros(num, 2)
    mean = meshes.shape_operator(pos, made.face).diagonal(dim1=1, dim2=2).sum(dim=1) / 2
    defect = meshes.gaussian_curvature(made.face, made.length, num)
    used = max(int((made.area > 0).sum()), 1)
    area = meshes.vertex_area(made.face, made.length, num, "mixed").clamp(min=_LEAST_AREA * total / used or 1.0)
    return torch.stack([mean * math.sqrt(total), defect / area * total], dim=1).asinh()


def heat_kernel(pos: Tensor, face: Tensor, times: int, eigenpairs: int) -> Tensor:
    r"""Heat kernel signatures: :math:`\sum_k e^{-\lambda_k t} \phi_k(i)^2`, over its mean.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``.
        times: Number of times.
        eigenpairs: Number of eigenfunctions.

    Returns:
        ``[N, times]``, float64; zero at vertices of no triangle.
    """
    made = surface(_of_unit_size(pos, face), face)
    num = pos.size(0)
    mass = meshes.vertex_area(made.face, made.length, num).numpy()
    used = np.flatnonzero(mass > 0)
    out = torch.zeros(num, times, dtype=torch.float64)
    if used.size == 0:
        return out
    total = mass.sum()
    stiffness = csr_array(meshes.cotangent_laplacian(made.face, made.length, num))[used][:, used]
    root = np.sqrt(total / mass[used])
    value, vector = _lowest(csr_array(stiffness * root[:, None] * root[None, :]), min(eigenpairs, used.size))
    square = (vector * root[:, None]) ** 2  # eigenfunctions of norm 1 on a mesh of area 1
    growing = value[value > _ZERO]
    if growing.size == 0:
        growing = np.ones(1)
    at = np.geomspace(_DECAY / growing.max(), _DECAY / growing.min(), times)
    decay = np.exp(-np.clip(value, 0, None)[:, None] * at)
    out[torch.from_numpy(used)] = torch.from_numpy(square @ decay / decay.sum(axis=0))
    return out


def _of_unit_size(pos: Tensor, face: Tensor) -> Tensor:
    """The mesh, about as large as 1 and around the origin: no area under- or overflows."""
    used = pos[face.flatten()]
    if used.size(0) == 0:
        return pos
    pos = pos - used[0]
    size = float((used - used[0]).abs().max())
    return pos / size if size > 0 else pos


def _lowest(matrix: csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The smallest eigenvalues of a positive semidefinite matrix, about ``count``, and their vectors ``[N, count]``.

    Of eigenvalues that tie (symmetric meshes) all are kept or none: a part of them would depend on rounding.
    """
    size = matrix.shape[0]
    if size <= max(2 * count, 200):
        value, vector = np.linalg.eigh(matrix.toarray())
    else:
        start = np.cos(np.arange(size))  # the same for every call; a constant would be an eigenvector
        value, vector = eigsh(matrix.tocsc(), k=count + 1, sigma=-0.1, which="LM", v0=start)
        order = np.argsort(value)
        value, vector = value[order], vector[:, order]
    if size > count:
        whole = value[:count] < value[count] * (1 - _TIE)
        count = int(whole.sum()) or count
    return value[:count], vector[:, :count]

"""Laplacians and masses of triangle meshes, as sparse matrices."""

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix, diags_array
from torch import Tensor

from ._lengths import cotangents, face_areas
from ._read import read_face, read_length, read_pos, read_simple_face
from ._vertices import vertex_area


def cotangent_laplacian(face: Tensor, length: Tensor, num_vertices: int) -> csr_matrix:
    r"""The Laplacian of functions that are linear on triangles, positive semidefinite.

    .. math:: (L u)_i = \tfrac12 \sum_{j} (\cot\alpha_{ij} + \cot\beta_{ij}) (u_i - u_j)

    with the angles opposite to the edge. ``L`` is the integrated Laplacian with the sign of :math:`-\Delta`: divide by
    :func:`mass_matrix` for values. It sees the lengths only, so bending a sheet does not change it. Constants are in
    its kernel on every component. Neighbours have a negative weight (entry above zero) where the angles opposite to an
    edge exceed pi together; :func:`flip_to_delaunay` removes these.

    Args:
        face: Corners of the triangles ``[3, F]``.
        length: Of the half-edges ``[3 F]``.
        num_vertices: Number of vertices.

    Returns:
        ``[N, N]``, float64, symmetric; an empty row for a vertex of no triangle.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, or a triangle without area; mollify the lengths then.

    Example:
        >>> from geomeq.meshes import edge_lengths
        >>> pos, face = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0], [1], [2]])
        >>> abs(cotangent_laplacian(face, edge_lengths(pos, face), 3).toarray().round(12))
        array([[1. , 0.5, 0.5],
               [0.5, 0.5, 0. ],
               [0.5, 0. , 0.5]])

    Source: Pinkall and Polthier (1993), Computing discrete minimal surfaces and their conjugates
    """
    face = read_face(face, num_vertices)
    weight = _numpy(cotangents(read_length(length, face.size(1)))) / 2
    i, j = _numpy(face.t().reshape(-1)), _numpy(face.roll(-1, dims=0).t().reshape(-1))
    rows, columns = np.concatenate([i, j, i, j]), np.concatenate([j, i, i, j])
    return _matrix(rows, columns, np.concatenate([-weight, -weight, weight, weight]), num_vertices)


def mass_matrix(face: Tensor, length: Tensor, num_vertices: int, kind: str = "lumped") -> csr_matrix:
    r"""What integrates products of functions on the mesh: :math:`\int u v = u^T M v`.

    Args:
        face: Corners of the triangles ``[3, F]``.
        length: Of the half-edges ``[3 F]``.
        num_vertices: Number of vertices.
        kind: ``"lumped"``: a diagonal of vertex areas, a third of each triangle. ``"mixed"``: a diagonal of the mixed
            Voronoi areas of :func:`vertex_area`. ``"full"``: exact for functions that are linear on triangles.

    Returns:
        ``[N, N]``, float64; all entries together are the area of the mesh.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, an unknown ``kind``.
    """
    if kind in ("lumped", "mixed"):
        area = vertex_area(face, length, num_vertices, "barycentric" if kind == "lumped" else kind)
        return csr_matrix(diags_array(_numpy(area)))
    if kind != "full":
        raise ValueError(f"kind must be 'lumped', 'mixed' or 'full', got {kind!r}")
    face = read_face(face, num_vertices)
    share = _numpy(face_areas(read_length(length, face.size(1))).repeat_interleave(3)) / 12
    i, j = _numpy(face.t().reshape(-1)), _numpy(face.roll(-1, dims=0).t().reshape(-1))
    rows, columns = np.concatenate([i, j, i]), np.concatenate([j, i, i])
    return _matrix(rows, columns, np.concatenate([share, share, 2 * share]), num_vertices)


def tufted_laplacian(pos: Tensor, face: Tensor, mollify: float = 1e-5) -> tuple[csr_matrix, csr_matrix]:
    """Laplacian and lumped mass of any triangles at all, non-manifold ones included.

    Every triangle is doubled and the two sheets glued to a closed manifold (the tufted cover), which is mollified and
    flipped to an intrinsic Delaunay triangulation. So no weight is negative.

    Args:
        pos: Vertices ``[N, 3]``.
        face: Corners of the triangles ``[3, F]``, of any connectivity.
        mollify: As in :func:`geomeq.meshes.mollify`.

    Returns:
        Laplacian, positive semidefinite, and diagonal mass, both ``[N, N]``, float64; empty rows for vertices of no
        triangle.

    Raises:
        ImportError: If robust-laplacian is not installed.
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, NaN, no faces, a face that names a vertex twice.

    Source: Sharp and Crane (2020), A Laplacian for nonmanifold triangle meshes, https://doi.org/10.1111/cgf.14069
    """
    try:
        import robust_laplacian
    except ImportError as error:
        raise ImportError("the tufted Laplacian needs robust-laplacian: pip install 'geomeq[mesh]'") from error
    pos = read_pos(pos)
    face = read_simple_face(face, pos.size(0))
    if face.size(1) == 0:
        raise ValueError("the tufted Laplacian needs at least one face, got none")
    used, corner = torch.unique(face, return_inverse=True)  # it fails on vertices of no face
    laplacian, mass = robust_laplacian.mesh_laplacian(
        _numpy(pos.double()[used]), _numpy(corner.t().contiguous()), mollify_factor=mollify
    )
    return _spread(laplacian, _numpy(used), pos.size(0)), _spread(mass, _numpy(used), pos.size(0))


def _spread(matrix: csr_matrix, index: np.ndarray, num: int) -> csr_matrix:
    """Rows and columns of a matrix put at ``index`` of a larger one."""
    entries = coo_matrix(matrix)
    return _matrix(index[entries.row], index[entries.col], entries.data, num)


def _matrix(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, num: int) -> csr_matrix:
    return csr_matrix(coo_matrix((values, (rows, columns)), shape=(num, num)))  # equal places are added


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().numpy()

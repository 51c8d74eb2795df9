"""Graphs to and from pygsp, for its spectra, filters and pictures."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch_geometric.data import Data

from ._edges import require_data

if TYPE_CHECKING:
    from pygsp.graphs import Graph

LAP_TYPES = {"sym": "normalized", None: "combinatorial"}


def to_pygsp(data: Data, normalization: str | None = "sym") -> "Graph":
    r"""The graph of ``data`` as a :class:`pygsp.graphs.Graph`.

    Reads ``edge_index`` (or ``adj_t``), ``edge_weight`` (default ones) and, for pictures, ``pos``. Self loops are left
    out and repeated edges summed, as :class:`Laplacian` does, so ``graph.L`` is the Laplacian ``L`` whose rescaled form
    that transform writes.

    Args:
        data: One graph, undirected or not.
        normalization: ``"sym"`` (pygsp's ``"normalized"``) or ``None`` (``"combinatorial"``).

    Returns:
        The graph, in float64; ``W[i, j]`` is the weight of the edge i -> j. Its node numbers are those of ``data``.

    Raises:
        ValueError: If there are no edges attributes, a weight does not fit, or the normalization has no counterpart.

    Example:
        >>> graph = to_pygsp(Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), num_nodes=3))
        >>> graph.compute_fourier_basis()
        >>> graph.e.round(6) + 0.0
        array([0., 1., 2.])
    """
    from pygsp.graphs import Graph

    require_data(data, "to_pygsp")
    if normalization not in LAP_TYPES:
        raise ValueError(
            f"normalization must be 'sym' or None, got {normalization!r}; pygsp has no random-walk Laplacian"
        )
    weights = _weights(data)
    coords = data.get("pos")
    if isinstance(coords, Tensor) and coords.dim() == 2 and coords.size(1) in (2, 3):
        coords = coords.detach().cpu().double().numpy()
    else:
        coords = None  # pygsp draws in two or three dimensions only
    return Graph(weights, lap_type=LAP_TYPES[normalization], coords=coords)


def from_pygsp(graph: "Graph", dtype: torch.dtype = torch.float64) -> Data:
    """A :class:`pygsp.graphs.Graph` as ``Data``, ready for :class:`Laplacian`.

    Writes ``edge_index`` (sorted by target, then source; both ways for an undirected graph), ``edge_weight`` and, where
    the graph has coordinates, ``pos``. Self loops are left out. The type of its Laplacian is for you to pass on:
    ``Laplacian("sym")`` for ``lap_type="normalized"``, ``Laplacian(None)`` for ``"combinatorial"``.

    Args:
        graph: Any graph of pygsp.
        dtype: Of weights and positions.

    Returns:
        The graph; node numbers are those of ``graph``.

    Raises:
        TypeError: If ``graph`` is none of pygsp's.
        ValueError: If a weight is negative.
    """
    weights: Any = getattr(graph, "W", None)
    if not sparse.issparse(weights):
        raise TypeError(f"graph must be a pygsp.graphs.Graph, got {type(graph).__name__}")
    matrix = sparse.csr_matrix(weights.T, dtype=np.float64)  # rows are targets
    matrix.setdiag(0.0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    entries = matrix.tocoo()
    if entries.nnz and entries.data.min() < 0:
        raise ValueError(f"weights must not be negative, got {entries.data.min()}")
    edges = torch.from_numpy(np.stack([entries.col, entries.row]).astype(np.int64))
    data = Data(edge_index=edges, edge_weight=torch.from_numpy(entries.data).to(dtype), num_nodes=matrix.shape[0])
    coords = getattr(graph, "coords", None)
    if isinstance(coords, np.ndarray):
        data.pos = torch.from_numpy(np.asarray(coords, dtype=np.float64).copy()).to(dtype)
    return data


def _weights(data: Data) -> sparse.csr_matrix:
    """``W[i, j]``, the weight of the edge i -> j, without loops."""
    from ..ops._adjacency import read_graph

    graph: Any = data.get("edge_index")
    graph = data.get("adj_t") if graph is None else graph
    if graph is None:
        raise ValueError(
            f"to_pygsp reads edge_index, but the data has only {sorted(data.keys())}; apply a transform that makes "
            "edges first, such as GroupGraph or NearestGraph"
        )
    num_nodes = int(data.num_nodes or 0)
    edges, stored, _ = read_graph(graph, num_nodes)
    weight = data.get("edge_weight")
    weight = stored if weight is None else weight
    weight = torch.ones(edges.size(1)) if weight is None else weight
    if weight.shape != (edges.size(1),):
        raise ValueError(f"edge_weight must have shape [{edges.size(1)}], got {list(weight.shape)}")
    source, target = edges.cpu().numpy()
    keep = source != target
    values = weight.detach().cpu().double().numpy()[keep]
    return sparse.csr_matrix((values, (source[keep], target[keep])), shape=(num_nodes, num_nodes))

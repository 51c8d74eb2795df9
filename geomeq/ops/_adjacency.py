"""Reads the forms in which PyG users hold a graph: edge lists and sparse adjacencies."""

from typing import Any, TypeAlias

import torch
from torch import Tensor

from geomeq._checks import check_edge_index

Size: TypeAlias = int | tuple[int, int]

_SPARSE_LAYOUTS = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


def is_adjacency(graph: Any) -> bool:
    """Whether ``graph`` is a sparse matrix (torch's, or torch-sparse's ``SparseTensor``) and not an edge list."""
    if isinstance(graph, Tensor):
        return graph.layout in _SPARSE_LAYOUTS
    # by name: torch_sparse is optional and importing it here would cost those who never use it
    return any(base.__name__ == "SparseTensor" and hasattr(graph, "sparse_sizes") for base in type(graph).__mro__)


def read_graph(graph: Any, size: Size | None) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
    """Edge list, values and sizes of a graph in any accepted form.

    A sparse adjacency follows PyG's ``adj_t``: rows are targets, columns are sources. Its edges come row by row, as
    ``SparseTensor.coo()`` gives them.

    Returns:
        ``edge_index [2, E]``, the stored values ``[E]`` (or ``[E, K]``) or ``None``, and ``(N_src, N_dst)``.

    Raises:
        TypeError: If ``graph`` is neither an integer tensor nor a sparse matrix.
        ValueError: If sizes are missing or contradict the matrix, or an index is out of range.
    """
    if is_adjacency(graph):
        edge_index, values, found = _read_adjacency(graph)
        if size is not None and _pair(size) != found:
            raise ValueError(
                f"size must be (columns, rows) = {found} of the sparse adjacency, got {_pair(size)}; "
                "leave it out, or pass adj.t() if the matrix has sources as rows"
            )
        return edge_index, values, found
    if not isinstance(graph, Tensor):
        raise TypeError(
            f"edge_index must be an integer tensor [2, E] or a sparse adjacency (rows = targets), "
            f"got {type(graph).__name__}"
        )
    if size is None:
        raise ValueError("size must be given as (N_src, N_dst) with an edge_index: isolated nodes are not in the list")
    pair = _pair(size)
    if torch.compiler.is_compiling():  # a range check would read data and break the graph
        check_edge_index(graph)
    else:
        check_edge_index(graph, *pair)
    return graph, None, pair


def _read_adjacency(graph: Any) -> tuple[Tensor, Tensor | None, tuple[int, int]]:
    if not isinstance(graph, Tensor):
        row, col, values = graph.coo()
        rows, columns = graph.sparse_sizes()
        return torch.stack([col, row]), values, (columns, rows)
    if graph.layout != torch.sparse_coo:
        graph = graph.to_sparse_coo()
    graph = graph.coalesce()
    row, col = graph.indices()
    return torch.stack([col, row]), graph.values(), (graph.size(1), graph.size(0))


def _pair(size: Size) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(not isinstance(n, int | torch.SymInt) or n < 0 for n in pair):
        raise ValueError(f"size must be a number of nodes or a pair (N_src, N_dst), got {size!r}")
    return pair

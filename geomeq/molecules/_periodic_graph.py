"""The graph of atoms: all neighbours within a cutoff, periodic images included."""

import copy

import torch
from torch import Tensor
from torch_geometric.data import Data

from ..neighbors import tie_tolerance
from ..neighbors._write_edges import graph_of_nodes, reject_coincident, write_edges, write_per_graph
from ._edge_list import EdgeList, check_cap, find_edges, nearest, read_lattice, squared_lengths, touching


def periodic_graph(
    data: Data,
    cutoff: float,
    max_neighbors: int | None = None,
    *,
    loop: bool = False,
    allow_coincident: bool = False,
) -> Data:
    r"""Connects all atoms and periodic images at most a cutoff apart.

    Cells may be skewed, left-handed or smaller than the cutoff (an atom then meets several images of its neighbours and
    of itself), atoms may lie outside of their cell, and any directions may be periodic. Structures of a batch are never
    connected. An atom exactly at the cutoff is connected, also after a rotation; see :mod:`geomeq.neighbors`.

    Args:
        data: A ``Data`` or ``Batch`` with ``pos`` ``[N, 3]`` (Angstrom, say) and, where it repeats, ``cell``
            ``[B, 3, 3]`` (rows) and ``pbc`` ``[B, 3]`` (all directions if missing).
        cutoff: Largest distance, in the unit of ``pos``.
        max_neighbors: If given, each atom receives from its ``max_neighbors`` nearest only, and from all that tie with
            the last of these, so that the graph does not depend on orientation or rounding. The number of edges left
            out is then written to ``dropped_edges``. An energy on such a graph jumps where neighbours change ranks.
        loop: Whether each atom is also connected with itself; its images always are.
        allow_coincident: Whether two atoms may lie at the same place, which by default is an error.

    Returns:
        A shallow copy of ``data`` with ``edge_index`` ``[2, E]``, sorted by target, then source; with a cell, ``shift``
        ``[E, 3]``, integers, so that ``edge_vec = pos[j] - pos[i] + shift @ cell``; with ``max_neighbors``,
        ``dropped_edges`` ``[B]``. Attributes of former edges are removed.

    Raises:
        TypeError: If ``pos`` or ``cell`` is neither float32 nor float64.
        ValueError: For atoms at the same place, NaN, a cell that periodic directions lack or that has no volume, a
            cutoff or a number of neighbours that is not positive.

    Example:
        >>> crystal = Data(pos=torch.zeros(1, 3), cell=torch.eye(3)[None])
        >>> periodic_graph(crystal, 1.0)
        Data(pos=[1, 3], cell=[1, 3, 3], edge_index=[2, 6], shift=[6, 3])
    """
    check_cap(max_neighbors)
    pos = data.get("pos")
    if pos is None:
        raise ValueError(f"a graph needs pos, but the data has only {sorted(data.keys())}; set data.pos = [N, 3]")
    data, batch, lattice = copy.copy(data), graph_of_nodes(data, pos.size(0)), read_lattice(data)
    edges = find_edges(pos, cutoff, lattice, batch, loop)
    dropped = None
    if max_neighbors is not None or not allow_coincident:
        squares = squared_lengths(pos, edges, lattice, batch)
        if not allow_coincident:
            remedy = "set allow_coincident=True (CutoffGraph has it) with layers that bear edges of length zero"
            reject_coincident(data, pos, edges.edge_index, touching(pos, edges, squares, lattice), remedy)
        if max_neighbors is not None:
            keep = nearest(edges, squares, pos.size(0), max_neighbors + loop, tie_tolerance(pos.dtype))
            dropped = _count_dropped(data, edges, keep, batch)
            edges = edges.take(keep)
    extra = {} if edges.shift is None else {"shift": edges.shift}
    if "dropped_edges" in data:  # of another graph
        del data["dropped_edges"]
    data = write_edges(data, edges.edge_index, batch, **extra)
    return data if dropped is None else write_per_graph(data, "dropped_edges", dropped)


def _count_dropped(data: Data, edges: EdgeList, keep: Tensor, batch: Tensor | None) -> Tensor:
    """How many edges each graph lost, ``[B]``."""
    target = edges.edge_index[1, ~keep]
    num_graphs = int(getattr(data, "num_graphs", 1) or 1)
    if batch is None:
        return torch.bincount(torch.zeros_like(target), minlength=1)
    return torch.bincount(batch[target], minlength=num_graphs)

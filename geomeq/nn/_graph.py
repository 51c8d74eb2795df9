"""Everything the steerable layers derive from one graph and its attributes, built on first use and shared by layers."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from geomeq.groups._lasting import lasting
from geomeq.harmonics import edge_wigner
from geomeq.ops.coupling import Coupling, CouplingPattern, CouplingRows

from ._paths import ProductGroup

# Relative to |Y_l|: how far an attribute may be from the harmonics of its own direction to count as one.
_HARMONIC_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


class AttributeCouplings:
    """Clebsch-Gordan couplings with one attribute tensor ``[N, dim]``: item ``n`` reads features of node ``n``."""

    def __init__(self, attr: Tensor) -> None:
        self.attr = attr
        self._made: dict[str, Coupling] = {}

    def get(self, group: ProductGroup) -> Coupling:
        """The coupling of one product group, made once."""
        if group.key not in self._made:
            pattern = CouplingPattern(group.rows, None, self.attr.size(0), self.attr.device)
            self._made[group.key] = Coupling(pattern, self.attr @ group.matrix.like(self.attr))
        return self._made[group.key]


class SteerableGraph:
    """One graph with its attributes, as :class:`SEGNNConv` reads it.

    A model makes it once per forward pass and hands it to all its layers; a layer called alone makes its own.

    Args:
        edge_index: Source j and target i of each edge, ``[2, E]``, in any order.
        edge_attr: Attribute of each edge, ``[E, (L+1)^2]``.
        node_attr: Attribute of each node, ``[N, (L'+1)^2]``.
        edge_weight: Factor of each message, ``[E]`` (for example an envelope), or ``None``.
    """

    def __init__(
        self, edge_index: Tensor, edge_attr: Tensor, node_attr: Tensor, edge_weight: Tensor | None = None
    ) -> None:
        self.edge_index, self.edge_attr, self.node_attr, self.edge_weight = (
            edge_index,
            edge_attr,
            node_attr,
            edge_weight,
        )
        self.num_nodes = node_attr.size(0)
        self.node = AttributeCouplings(node_attr)
        self.edge = AttributeCouplings(edge_attr)
        self._rows: dict[int, Tensor] = {}
        self._made: dict[tuple, Coupling] = {}
        self._harmonic: bool | None = None

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.edge_index.size(1)

    def is_harmonic(self, lmax: int) -> bool:
        """Whether every edge attribute is the component-normalised harmonics of one direction (so a frame exists).

        Under ``torch.compile`` a graph cannot branch on data: there it is asserted instead, at run time.
        """
        if lmax < 1:
            return False
        if self._harmonic is None:
            attr = self.edge_attr.detach()
            unit = attr[:, 1:4] / math.sqrt(3)
            scale = [math.sqrt(2 * deg + 1) for deg in range(lmax + 1) for _ in range(2 * deg + 1)]
            want = edge_wigner(unit, lmax, mmax=0) * torch.tensor(scale, dtype=attr.dtype, device=attr.device)
            gap = (want - attr).abs().amax(dim=1)
            tolerance = _HARMONIC_TOLERANCE.get(attr.dtype, 1e-2)
            close = (gap <= tolerance).all()
            if torch.compiler.is_compiling():
                torch._assert_async(close, "edge_attr must hold spherical harmonics; build the layer with path='cg'")
                self._harmonic = True
            else:
                self._harmonic = bool(close)
        return self._harmonic

    def _wigner(self, lmax: int) -> Tensor:
        """Wigner matrices of all edges, ``[E, 1 + 9 + ...]``, in the order of ``EdgeLayout(lmax)``."""
        if lmax not in self._rows:
            self._rows[lmax] = edge_wigner(self.edge_attr[:, 1:4], lmax)
        return self._rows[lmax]

    def into_frame(self, rows: CouplingRows, columns: tuple[int, ...], lmax: int) -> Coupling:
        """Coupling from the nodes into the frames of the edges; side 0 reads the target, side 1 the source."""
        key = ("in", rows.key, columns, lmax)
        if key not in self._made:
            index = self.edge_index.flip(0).T if max(rows.side, default=0) > 0 else self.edge_index[1][:, None]
            self._made[key] = self._frame_coupling(rows, columns, lmax, index)
        return self._made[key]

    def out_of_frame(self, rows: CouplingRows, columns: tuple[int, ...], lmax: int) -> Coupling:
        """The same towards the target only and with the weights of the edges; its transpose sums messages."""
        key = ("out", rows.key, columns, lmax)
        if key not in self._made:
            coupling = self._frame_coupling(rows, columns, lmax, self.edge_index[1][:, None])
            self._made[key] = coupling if self.edge_weight is None else coupling.scaled(self.edge_weight)
        return self._made[key]

    def _frame_coupling(self, rows: CouplingRows, columns: tuple[int, ...], lmax: int, index: Tensor) -> Coupling:
        wigner = self._wigner(lmax)
        value = wigner.index_select(1, _columns(columns, wigner.device))
        return Coupling(CouplingPattern(rows, index, self.num_nodes), value)

    def sum_messages(self, message: Tensor) -> Tensor:
        """Sum over the edges of each target, ``[E, ...] -> [N, ...]``, times the weights of the edges."""
        if self.edge_weight is not None:
            message = message * self.edge_weight.view(-1, *[1] * (message.dim() - 1))
        return message.new_zeros(self.num_nodes, *message.shape[1:]).index_add(0, self.edge_index[1], message)


@lru_cache(maxsize=256)
@lasting
def _cached_columns(columns: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(columns, dtype=torch.long, device=device)


def _columns(columns: tuple[int, ...], device: torch.device) -> Tensor:
    if torch.compiler.is_compiling():
        return torch.tensor(columns, dtype=torch.long, device=device)
    return _cached_columns(columns, device)

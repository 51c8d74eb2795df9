r"""Two steerable gates in the frame of the edge: the fast path of the SEGNN message.

The attribute of an edge is the harmonics of one direction. In the frame that turns this direction onto the polar axis
only its m = 0 components survive, and the Clebsch-Gordan product falls apart into one matrix per order m,

.. math:: A^m_{l_3 l_1} = \sqrt{2 l_3 + 1} \sum_{l_2} \sqrt{2 l_2 + 1} \; W^{l_1 l_2 l_3} \, C^{l_1 l_2 l_3}_{m 0 m},

the same for +m and -m when :math:`l_1 + l_2 + l_3` is even, as the parity of spherical harmonics demands. Gates are
invariant, so both gates of a message stay in the frame: rotate in once, out once. Equal to the Clebsch-Gordan path to
rounding, with the same weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor

from geomeq.ops._product import addmm, matmul
from geomeq.ops.coupling import CouplingRows
from geomeq.ops.edge_rotation import EdgeLayout

from ._gate import gate
from ._graph import SteerableGraph
from ._paths import SteerablePaths, WeightAssembly, from_tables, layout, to_table, widths
from .steerable_gate import SteerableGate


def frame_path_exists(*irreps: o3.Irreps) -> bool:
    """Whether all types have the parity of spherical harmonics, (-1)^l: then orders +m and -m never mix."""
    return all(ir.p == (-1) ** ir.l for part in irreps for mul, ir in part if mul)


@dataclass(frozen=True)
class _Order:
    """The components of order +-m of one width: how to rotate them in (or out)."""

    m: int
    width: int
    rows: CouplingRows
    columns: tuple[int, ...]
    """Column of the flat Wigner rows for each coefficient."""


def _orders(irreps: o3.Irreps, sides: int, frame: EdgeLayout) -> list[_Order]:
    """Couplings of node tables with the frame; output rows run over (sign of m, side, slice)."""
    orders = []
    for w, width in enumerate(widths(irreps)):
        degrees = [irreps[s].ir.l for s in width.slices]
        for m in range(max(degrees) + 1):
            side: list[int] = []
            start: list[int] = []
            length: list[int] = []
            columns: list[int] = []
            for sign in (1, -1) if m else (0,):
                for endpoint in range(sides):
                    for deg, at in zip(degrees, width.start, strict=True):
                        if deg >= m:
                            dim = 2 * deg + 1
                            first = frame.starts[frame.row(deg, sign * m)]
                            side.append(endpoint)
                            start.append(at)
                            length.append(dim)
                            columns.extend(range(first, first + dim))
            rows = CouplingRows(width.rows, tuple(side), tuple(start), tuple(length))
            orders.append(_Order(m, w, rows, tuple(columns)))
    return orders


def _matrix(
    paths: SteerablePaths, m: int, rows: Sequence[int], cols: Sequence[int], at: int
) -> tuple[tuple[int, int], list[tuple[int, int, int, float, Tensor]]]:
    """Shape and weight blocks of the matrix of order m from the input slices ``rows`` to the output slices ``cols``."""
    row_at = {s: sum(paths.irreps_in[r].mul for r in rows[:k]) for k, s in enumerate(rows)}
    col_at = {s: sum(paths.irreps_out[c].mul for c in cols[:k]) for k, s in enumerate(cols)}
    blocks = []
    for p in paths.paths:
        if p.source in row_at and p.target in col_at:
            l1, l2, l3 = paths.irreps_in[p.source].ir.l, paths.irreps_attr[p.attr].ir.l, paths.irreps_out[p.target].ir.l
            symbol = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)[l1 + m, l2, l3 + m].item()
            factor = ((2 * l3 + 1) * (2 * l2 + 1)) ** 0.5 * symbol
            blocks.append((at, row_at[p.source], col_at[p.target], factor, paths.block(p)))
    shape = (sum(paths.irreps_in[s].mul for s in rows), sum(paths.irreps_out[s].mul for s in cols))
    return shape, blocks


class FrameMessage:
    """Computes the summed messages of a SEGNN layer in the frames of the edges.

    Args:
        irreps_node: Type of the node features.
        first: Gate on ``[h_i, h_j, scalars]``.
        second: Gate on its output.
    """

    def __init__(self, irreps_node: o3.Irreps, first: SteerableGate, second: SteerableGate) -> None:
        self.irreps_node, self.first, self.second = irreps_node, first, second
        self.irreps_message = second.irreps_out
        self.lmax_in = max((ir.l for _, ir in irreps_node), default=0)
        self.lmax_out = max((ir.l for _, ir in self.irreps_message), default=0)
        self._layout_in, self._layout_out = layout(irreps_node), layout(self.irreps_message)
        self._widths_in, self._widths_out = widths(irreps_node), widths(self.irreps_message)
        self.lmax = max(self.lmax_in, self.lmax_out)
        frame = EdgeLayout(self.lmax)
        self._in, self._out = _orders(irreps_node, 2, frame), _orders(self.irreps_message, 1, frame)

        self._inner, self._outer = _by_degree(first.irreps_out), _by_degree(self.irreps_message)
        self._first = self._assemble_first()
        self._second, self._second_orders = self._assemble_second()

    def _assemble_first(self) -> WeightAssembly:
        paths, num = self.first.linear.paths, len(self.irreps_node)
        shapes: list[tuple[int, int]] = []
        blocks: list[tuple[int, int, int, float, Tensor]] = []
        for order in self._in:
            members = [s for s in self._widths_in[order.width].slices if self.irreps_node[s].ir.l >= order.m]
            rows = [*members, *(num + s for s in members)]
            cols = [c for c, (_, ir) in enumerate(paths.irreps_out) if ir.l >= order.m]
            shape, part = _matrix(paths, order.m, rows, cols, len(shapes))
            shapes.append(shape)
            blocks.extend(part)
        if len(paths.irreps_in) > 2 * num:  # invariants of the edge: rows of their own at m = 0
            rows = list(range(2 * num, len(paths.irreps_in)))
            shape, part = _matrix(paths, 0, rows, range(len(paths.irreps_out)), len(shapes))
            shapes.append(shape)
            blocks.extend(part)
        return WeightAssembly(shapes, blocks)

    def _assemble_second(self) -> tuple[WeightAssembly, list[int]]:
        paths = self.second.linear.paths
        shapes: list[tuple[int, int]] = []
        blocks: list[tuple[int, int, int, float, Tensor]] = []
        orders: list[int] = []
        for m in range(max(ir.l for _, ir in self.second.irreps_in) + 1):
            rows = [s for s in self._inner if paths.irreps_in[s].ir.l >= m]
            cols = [c for c, (_, ir) in enumerate(paths.irreps_out) if ir.l >= m]
            if cols:
                shape, part = _matrix(paths, m, rows, cols, len(shapes))
                shapes.append(shape)
                blocks.extend(part)
                orders.append(m)
        return WeightAssembly(shapes, blocks), orders

    def __call__(self, x: Tensor, edge_scalar: Tensor | None, graph: SteerableGraph) -> Tensor:
        """Sum of the messages to each node.

        Args:
            x: Node features, ``[N, irreps_node.dim]``.
            edge_scalar: Invariants of the edges, ``[E, k]``, or ``None``.
            graph: Edges and their attributes.

        Returns:
            ``[N, irreps_message.dim]``.
        """
        tables = [to_table(x, self._layout_in, width) for width in self._widths_in]
        matrices = self._first(self.first.linear.weight)
        linear: dict[int, Tensor] = {}
        if edge_scalar is not None:
            linear[0] = matmul(edge_scalar, matrices[-1])
        for order, matrix in zip(self._in, matrices, strict=False):
            rotated = graph.into_frame(order.rows, order.columns, self.lmax).apply(tables[order.width])
            rotated = rotated.view(graph.num_edges * (2 if order.m else 1), matrix.size(0))
            m = order.m
            linear[m] = addmm(linear[m], rotated, matrix) if m in linear else matmul(rotated, matrix)
        hidden = _gate_orders(self.first, linear)
        linear = {}
        for m, matrix in zip(self._second_orders, self._second(self.second.linear.weight), strict=True):
            if m in hidden:
                linear[m] = matmul(hidden[m], matrix)
        return self._sum_out(_gate_orders(self.second, linear), graph)

    def _sum_out(self, message: dict[int, Tensor], graph: SteerableGraph) -> Tensor:
        """Rotates messages back and sums them at their targets."""
        tables: list[Tensor | None] = [None] * len(self._widths_out)
        for order in self._out:
            if order.m not in message:
                continue
            width = self._widths_out[order.width]
            columns, at = {}, 0
            for s in self._outer:
                part = self._layout_out[s]
                if part.degree >= order.m:
                    columns[s] = slice(at, at + part.mul)
                    at += part.mul
            members = [s for s in width.slices if s in columns]
            own = message[order.m]
            if members != list(columns):
                own = torch.cat([own[:, columns[s]] for s in members], dim=1)
            coupling = graph.out_of_frame(order.rows, order.columns, self.lmax)
            summed = coupling.apply_transposed(own.reshape(graph.num_edges, order.rows.num_out, width.mul))
            previous = tables[order.width]
            tables[order.width] = summed if previous is None else previous + summed
        return from_tables([t for t in tables if t is not None], self._layout_out, self._widths_out)


def _gate_orders(layer: SteerableGate, linear: dict[int, Tensor]) -> dict[int, Tensor]:
    """Bias, SiLU and gates. Order 0 is ``[E, C]``, order m ``[2E, C_m]`` with both signs of an edge together."""
    zero = linear[0]
    active, rest = zero.split([layer.num_scalars + layer.num_gates, layer.num_gates], dim=1)
    if layer.linear.bias is not None:
        active = active + layer.linear.bias
    scalars, gates = active.split([layer.num_scalars, layer.num_gates], dim=1)
    signed = {m: t.view(zero.size(0), 2, t.size(-1)) for m, t in linear.items() if m > 0}
    first = {m: layer.num_gates - t.size(-1) for m, t in signed.items()}
    active, (rest, *gated) = gate(scalars, gates, [(rest[:, None], 0), *((t, first[m]) for m, t in signed.items())])
    out = {0: torch.cat([active, rest.squeeze(1)], dim=1)}
    out.update({m: t.flatten(0, 1) for m, t in zip(signed, gated, strict=True)})
    return out


def _by_degree(irreps: o3.Irreps) -> list[int]:
    """Slices in the order in which a gate makes their channels."""
    return sorted((s for s, (mul, _) in enumerate(irreps) if mul), key=lambda s: irreps[s].ir.l)

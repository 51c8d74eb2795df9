r"""Small matrices applied between the rows of nodes and of edges, without per-edge copies of the features.

Every steerable operation here is one bilinear map: each item ``e`` (an edge, or a node itself) looks at the features
of one or two nodes and mixes their *rows* (the components of an irrep) by coefficients of its own:

.. math:: y[e, o, :] = \sum_{t \in o} \text{value}[e, t] \; x[\text{index}[e, \text{side}(t)], \text{row}(t), :]

Rotation into the frame of an edge (values = a Wigner block), rotation back with the sum over edges (the transpose),
and the Clebsch-Gordan product with an attribute (values = 3j symbols times attribute) are all of this form. It is a
sparse matrix with a known pattern, so one ``embedding_bag`` does gather, multiply and sum in a single pass.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geomeq.ops._kernels import choose_path, weighted_rows


class CouplingRows:
    """The part of a coupling that does not depend on the graph.

    Args:
        num_in: Rows per node of the input.
        side: Which endpoint each output row reads, one entry per output row. Every side has the same number of
            coefficients in each input row.
        start: First input row that each output row reads.
        length: How many consecutive input rows it reads.
    """

    def __init__(self, num_in: int, side: Sequence[int], start: Sequence[int], length: Sequence[int]) -> None:
        self.num_in, self.side, self.start, self.length = num_in, tuple(side), tuple(start), tuple(length)
        self.key = (num_in, self.side, self.start, self.length)
        self.num_out, self.num_values = len(self.start), sum(self.length)
        entries = [
            (out, side, at + k)
            for out, (side, at, n) in enumerate(zip(self.side, self.start, self.length, strict=True))
            for k in range(n)
        ]
        sides = max(self.side, default=0) + 1
        # Entries of each side by the input row they read: the order of the transpose.
        order = [
            sorted((t for t, e in enumerate(entries) if e[1] == s), key=lambda t: entries[t][2]) for s in range(sides)
        ]
        reads = [[entries[t][2] for t in members] for members in order]
        if any(r != reads[0] for r in reads):
            raise ValueError("every side of a coupling must read the same input rows equally often")
        count = [reads[0].count(r) for r in range(num_in)]
        ends = [0]
        for n in self.length:
            ends.append(ends[-1] + n)
        plan = {
            "row": [e[0] for e in entries],
            "side": [e[1] for e in entries],
            "input": [e[2] for e in entries],
            "pair": [(out * sides + side) * num_in + row for out, side, row in entries],
            "begin": ends[:-1],
            "order": order,
            "read": reads[0],
            "count": count,
            "before": [sum(count[:r]) for r in range(num_in)],
        }
        made = {name: torch.tensor(values, dtype=torch.long) for name, values in plan.items()}
        self._plans = {torch.device("cpu"): made}

    def plan(self, device: torch.device) -> dict[str, Tensor]:
        """Index arrays of the structure on one device, moved there once."""
        if device not in self._plans:
            self._plans[device] = {k: v.to(device) for k, v in self._plans[torch.device("cpu")].items()}
        return self._plans[device]


class CouplingPattern:
    """Where each coefficient of a coupling reads and writes, for one graph; built once, used by every layer.

    Args:
        rows: The structure shared by all items.
        index: Node that each side of each item reads, ``[E, S]``, or ``None`` if item ``e`` reads node ``e``.
        num_nodes: Number of nodes, ``N``.
        device: Where to build the pattern if ``index`` is ``None``.
    """

    def __init__(
        self, rows: CouplingRows, index: Tensor | None, num_nodes: int, device: torch.device | str | None = None
    ) -> None:
        if index is None:
            index = torch.arange(num_nodes, device=device)[:, None]
        self.rows, self.num_nodes, self.num_items, self.index = rows, num_nodes, index.size(0), index
        items, sides = index.shape
        total, out, per_node = rows.num_values, rows.num_out, rows.num_in
        if max(items * total, num_nodes * per_node, items * out) >= 2**31:
            raise ValueError(
                f"{items} items with {total} coefficients each do not fit 32-bit indices; split the batch into parts"
            )
        plan = rows.plan(index.device)
        self.col = (index[:, plan["side"]] * per_node + plan["input"]).reshape(-1).int()
        steps = torch.arange(items, device=index.device)[:, None] * total
        self.ptr = _closed((steps + plan["begin"]).reshape(-1), items * total)

        # The transpose gathers, for each (node, input row), all coefficients that read it. An item has one *reader*
        # per side; readers are sorted by node, and within a node the entries of one input row lie together.
        node, perm = index.reshape(-1).sort(stable=True)
        degree = torch.zeros(num_nodes, dtype=torch.long, device=index.device)
        degree = degree.index_add(0, node, torch.ones_like(node))
        first = degree.cumsum(0) - degree
        rank = torch.arange(items * sides, device=index.device) - first[node]
        read, count, before = plan["read"], plan["count"], plan["before"]
        width = total // sides
        place = (
            (width * first[node])[:, None]
            + degree[node][:, None] * before[read]
            + rank[:, None] * count[read]
            + (torch.arange(width, device=index.device) - before[read])
        ).reshape(-1)
        item, side = perm // sides, perm % sides
        entry = plan["order"][side]  # [readers, T]
        self.perm_t = torch.empty_like(place).index_copy(0, place, (item[:, None] * total + entry).reshape(-1))
        col_t = (item[:, None] * out + plan["row"][entry]).reshape(-1)
        self.col_t = torch.empty_like(place).index_copy(0, place, col_t).int()
        self.ptr_t = _closed(((width * first)[:, None] + degree[:, None] * before).reshape(-1), items * total)


def _closed(starts: Tensor, end: int) -> Tensor:
    """Starts of all bags and the end of the last, 32-bit."""
    return torch.cat([starts, starts.new_full((1,), end)]).int()


_SMALL = 200_000  # multiplications below which making a sparse tensor costs more than its faster product saves


def _product(table: Tensor, col: Tensor, ptr: Tensor, value: Tensor) -> Tensor:
    """Sparse matrix (CSR) times dense ``[rows, C]``."""
    # torch.compile cannot trace sparse tensors, nor branch on sizes it does not know.
    if torch.compiler.is_compiling():
        return F.embedding_bag(col, table, ptr, mode="sum", per_sample_weights=value, include_last_offset=True)
    small = table.device.type == "cpu" and col.numel() * table.size(1) < _SMALL
    path = "bag" if small else choose_path(table.device, table.dtype, table.size(1))
    return weighted_rows(ptr, col, value, table, path)


class _Apply(torch.autograd.Function):
    """y = V x. All three functions are bilinear and each one's gradients are the other two: any order works."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, x: Tensor, value_t: Tensor | None, pattern: CouplingPattern) -> Tensor:
        ctx.save_for_backward(value, x if ctx.needs_input_grad[0] else None, value_t)
        ctx.pattern = pattern
        y = _product(x.reshape(-1, x.size(-1)), pattern.col, pattern.ptr, value.reshape(-1))
        return y.view(pattern.num_items, pattern.rows.num_out, x.size(-1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, x, value_t = ctx.saved_tensors
        grad = grad.contiguous()
        grad_value = _Sample.apply(x, grad, ctx.pattern) if ctx.needs_input_grad[0] else None
        grad_x = _ApplyTransposed.apply(value, grad, value_t, ctx.pattern) if ctx.needs_input_grad[1] else None
        return grad_value, grad_x, None, None


class _ApplyTransposed(torch.autograd.Function):
    """x = V^T y."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, y: Tensor, value_t: Tensor | None, pattern: CouplingPattern) -> Tensor:
        ctx.save_for_backward(value, y if ctx.needs_input_grad[0] else None, value_t)
        ctx.pattern = pattern
        weights = value.reshape(-1)[pattern.perm_t] if value_t is None else value_t
        x = _product(y.reshape(-1, y.size(-1)), pattern.col_t, pattern.ptr_t, weights)
        return x.view(pattern.num_nodes, pattern.rows.num_in, y.size(-1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, y, value_t = ctx.saved_tensors
        grad = grad.contiguous()
        grad_value = _Sample.apply(grad, y, ctx.pattern) if ctx.needs_input_grad[0] else None
        grad_y = _Apply.apply(value, grad, value_t, ctx.pattern) if ctx.needs_input_grad[1] else None
        return grad_value, grad_y, None, None


class _Sample(torch.autograd.Function):
    """value[e, t] = <x[node, row], y[e, out row]>.

    All products of the rows of one item in one small matrix, of which the pattern's are picked: some are computed in
    vain, but the features of an item are read once, and there is one call instead of one for each output row.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, pattern: CouplingPattern) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.pattern = pattern
        items, sides = pattern.index.shape
        nodes = x.index_select(0, pattern.index.reshape(-1)).view(items, sides * x.size(1), x.size(2))
        return torch.bmm(y, nodes.mT).flatten(1).index_select(1, pattern.rows.plan(y.device)["pair"])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = _ApplyTransposed.apply(grad, y, None, ctx.pattern) if ctx.needs_input_grad[0] else None
        grad_y = _Apply.apply(grad, x, None, ctx.pattern) if ctx.needs_input_grad[1] else None
        return grad_x, grad_y, None


class Coupling:
    """A :class:`CouplingPattern` together with its coefficients.

    Args:
        pattern: Where the coefficients read and write.
        value: Coefficients, ``[E, T]``. May require gradients (forces); then nothing is cached.
    """

    def __init__(self, pattern: CouplingPattern, value: Tensor) -> None:
        self.pattern, self.value = pattern, value.contiguous()
        fixed = not value.requires_grad
        self._value_t = self.value.reshape(-1)[pattern.perm_t] if fixed else None

    def apply(self, x: Tensor) -> Tensor:
        """From node rows ``[N, R, C]`` to item rows ``[E, O, C]``."""
        return _Apply.apply(self.value, x.contiguous(), self._value_t, self.pattern)

    def apply_transposed(self, y: Tensor) -> Tensor:
        """From item rows ``[E, O, C]`` to node rows ``[N, R, C]``, summed over the items that read a node."""
        return _ApplyTransposed.apply(self.value, y.contiguous(), self._value_t, self.pattern)

    def scaled(self, weight: Tensor) -> "Coupling":
        """The same coupling with every coefficient of item ``e`` times ``weight[e]`` (``[E]``)."""
        return Coupling(self.pattern, self.value * weight[:, None])

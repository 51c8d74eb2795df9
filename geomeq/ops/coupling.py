r"""Small matrices applied between the rows of nodes and of edges, without per-edge copies of the features.

Every steerable operation here is one bilinear map: each item ``e`` (an edge, or a node itself) looks at the features
of one or two nodes and mixes their *rows* (the components of an irrep) by coefficients of its own:

.. math:: y[e, o, :] = \sum_{t \in o} \text{value}[e, t] \; x[\text{index}[e, \text{side}(t)], \text{row}(t), :]

Rotation into the frame of an edge (values = a Wigner block), rotation back with the sum over edges (the transpose),
and the Clebsch-Gordan product with an attribute (values = 3j symbols times attribute) are all of this form. It is a
sparse matrix with a known pattern, so one ``embedding_bag`` does gather, multiply and sum in a single pass.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class CouplingRows:
    """The part of a coupling that does not depend on the graph.

    Attributes:
        num_in: Rows per node of the input.
        side: Which endpoint each output row reads, one entry per output row.
        start: First input row that each output row reads.
        length: How many consecutive input rows it reads.
    """

    num_in: int
    side: tuple[int, ...]
    start: tuple[int, ...]
    length: tuple[int, ...]

    @property
    def num_out(self) -> int:
        """Output rows per item."""
        return len(self.start)

    @property
    def num_values(self) -> int:
        """Coefficients per item."""
        return sum(self.length)


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
        self.rows, self.num_nodes, self.num_items = rows, num_nodes, index.size(0)
        device = index.device
        items, sides = index.shape
        total, out, per_node = rows.num_values, rows.num_out, rows.num_in
        if max(items * total, num_nodes * per_node, items * out) >= 2**31:
            raise ValueError(
                f"{items} items with {total} coefficients each do not fit 32-bit indices; split the batch into parts"
            )

        def constant(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        row_of = constant([r for r, n in enumerate(rows.length) for _ in range(n)])
        side_of = constant([rows.side[r] for r, n in enumerate(rows.length) for _ in range(n)])
        in_of = constant([s + k for s, n in zip(rows.start, rows.length, strict=True) for k in range(n)])
        ends = constant([0, *rows.length]).cumsum(0)

        self.col = (index[:, side_of] * per_node + in_of).reshape(-1).int()
        start = (torch.arange(items, device=device)[:, None] * total + ends[:-1]).reshape(-1)
        self.ptr = torch.cat([start, start.new_tensor([items * total])]).int()

        # The transpose gathers, for each (node, input row), all coefficients that read it. An item has one *reader*
        # per side; readers are sorted by node, and within a node the entries of one input row lie together.
        entries = [(side_of == s).nonzero()[:, 0] for s in range(sides)]
        entries = [e[in_of[e].argsort(stable=True)] for e in entries]
        order = torch.stack(entries)  # [S, T], T entries a side
        row = in_of[order[0]]
        count = torch.bincount(row, minlength=per_node)
        before = count.cumsum(0) - count
        reader_node = index.reshape(-1)
        perm = reader_node.argsort(stable=True)
        node = reader_node[perm]
        degree = torch.bincount(node, minlength=num_nodes)
        first = degree.cumsum(0) - degree
        rank = torch.arange(node.numel(), device=device) - first[node]
        width = row.numel()
        place = (
            (width * first[node])[:, None]
            + degree[node][:, None] * before[row]
            + rank[:, None] * count[row]
            + (torch.arange(width, device=device) - before[row])
        ).reshape(-1)
        item, side = perm // sides, perm % sides
        entry = order[side]  # [readers, T]
        self.perm_t = torch.empty_like(place)
        self.perm_t[place] = (item[:, None] * total + entry).reshape(-1)
        col_t = torch.empty_like(place)
        col_t[place] = (item[:, None] * out + row_of[entry]).reshape(-1)
        self.col_t = col_t.int()
        start_t = (width * first)[:, None] + degree[:, None] * before
        self.ptr_t = torch.cat([start_t.reshape(-1), start_t.new_tensor([place.numel()])]).int()
        self.pair = row_of * (sides * per_node) + side_of * per_node + in_of
        self.index = index


def _bag(table: Tensor, col: Tensor, ptr: Tensor, value: Tensor) -> Tensor:
    """Sparse matrix (CSR) times dense ``[rows, C]``."""
    if col.numel() == 0 or table.numel() == 0:
        return table.new_zeros(ptr.numel() - 1, table.size(-1))
    return F.embedding_bag(col, table, ptr, mode="sum", per_sample_weights=value, include_last_offset=True)


class _Apply(torch.autograd.Function):
    """y = V x. All three functions are bilinear and each one's gradients are the other two: any order works."""

    @staticmethod
    def forward(ctx, value: Tensor, x: Tensor, value_t: Tensor | None, pattern: CouplingPattern) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(value, x if ctx.needs_input_grad[0] else None, value_t)
        ctx.pattern = pattern
        y = _bag(x.reshape(-1, x.size(-1)), pattern.col, pattern.ptr, value.reshape(-1))
        return y.view(pattern.num_items, pattern.rows.num_out, x.size(-1))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN001
        value, x, value_t = ctx.saved_tensors
        grad = grad.contiguous()
        grad_value = _Sample.apply(x, grad, ctx.pattern) if ctx.needs_input_grad[0] else None
        grad_x = _ApplyTransposed.apply(value, grad, value_t, ctx.pattern) if ctx.needs_input_grad[1] else None
        return grad_value, grad_x, None, None


class _ApplyTransposed(torch.autograd.Function):
    """x = V^T y."""

    @staticmethod
    def forward(ctx, value: Tensor, y: Tensor, value_t: Tensor | None, pattern: CouplingPattern) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(value, y if ctx.needs_input_grad[0] else None, value_t)
        ctx.pattern = pattern
        weights = value.reshape(-1)[pattern.perm_t] if value_t is None else value_t
        x = _bag(y.reshape(-1, y.size(-1)), pattern.col_t, pattern.ptr_t, weights)
        return x.view(pattern.num_nodes, pattern.rows.num_in, y.size(-1))

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN001
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
    def forward(ctx, x: Tensor, y: Tensor, pattern: CouplingPattern) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(x, y)
        ctx.pattern = pattern
        items, sides = pattern.index.shape
        nodes = x.index_select(0, pattern.index.reshape(-1)).view(items, sides * x.size(1), x.size(2))
        return torch.bmm(y, nodes.mT).flatten(1).index_select(1, pattern.pair)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN001
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

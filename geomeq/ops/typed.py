"""Typed messages: every edge multiplies its source with the matrix of its type, without a message tensor per edge."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops._adjacency import Size, read_graph
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._product import add_product, product
from geomeq.ops.stencil import HALF
from geomeq.ops.stencil_linear import stencil_mix

PATHS = ("auto", "rows", "sorted", "reference")

# Numbers per block of messages: they stay in the cache between the product and the sum.
_BLOCK = 1 << 18
# Costs in multiplications of a matrix product, by measurement (examples/benchmarks, case typed_linear): to gather and
# scatter one number; to lay out one number of a row, in a batch (which is transposed) and without; one block of edges.
_MOVE, _LAY_OUT_BATCH, _LAY_OUT, _CALL = 8, 24, 4, 100_000


class TypedPattern(nn.Module):
    r"""Where typed messages go: edges with a type each, sorted once for all layers on the graph.

    Indices are buffers: ``.to(device)`` moves them, ``.to(dtype)`` leaves them alone, and no ``state_dict`` holds them.

    Args:
        edge_index: ``[2, E]`` (source, target) in any order, repeats allowed.
        edge_type: Type of each edge, ``[E]``, in ``0 .. num_types - 1``.
        num_types: Number of types :math:`R`; by default the largest type and one.
        size: ``(N_src, N_dst)``, or one number for both; by default the largest index and one.

    Raises:
        TypeError: If a tensor does not hold integers.
        ValueError: If a shape, size or type is wrong.

    Example:
        >>> TypedPattern(torch.tensor([[0, 1, 2], [0, 0, 1]]), torch.tensor([0, 1, 0]), num_types=2, size=(3, 2))
        TypedPattern(edges=3, types=2, size=(3, 2))
    """

    edge_index: Tensor
    edge_type: Tensor

    def __init__(
        self, edge_index: Tensor, edge_type: Tensor, num_types: int | None = None, size: Size | None = None
    ) -> None:
        super().__init__()
        if size is None and isinstance(edge_index, Tensor) and edge_index.numel():
            size = int(edge_index.max()) + 1
        edges, _, self.size = read_graph(edge_index, size)
        num_edges = edges.size(1)
        check_shape("edge_type", edge_type, num_edges, hint="one type per edge")
        if edge_type.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"edge_type must hold integers (torch.long), got {edge_type.dtype}")
        low, high = (int(edge_type.min()), int(edge_type.max())) if num_edges else (0, -1)
        self.num_types = high + 1 if num_types is None else num_types
        if self.num_types < 0 or low < 0 or high >= self.num_types:
            raise ValueError(f"edge_type must lie in 0..{self.num_types - 1}, got {low}..{high}; raise num_types")
        self.num_edges = num_edges
        self.register_buffer("edge_index", edges, persistent=False)
        self.register_buffer("edge_type", edge_type.to(edges.device), persistent=False)
        self._sorted: list[Tensor] | None = None
        self._rows: tuple[list[Tensor], list[Tensor]] | None = None

    def sorted_by_type(self) -> list[Tensor]:
        """Pointers ``[R + 1]``, sources and targets ``[E]`` of the edges by type, then by target."""
        if self._sorted is None:
            with torch.inference_mode(False):  # it serves training later
                source, target = self.edge_index.long()
                order = torch.argsort(self.edge_type.long() * self.size[1] + target, stable=True)
                counts = torch.bincount(self.edge_type.long(), minlength=self.num_types)
                ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
                self._sorted = [ptr, source[order].contiguous(), target[order].contiguous()]
        return self._sorted

    def rows(self) -> tuple[list[Tensor], list[Tensor]]:
        """Sparse rows (target, type) over sources, and rows (source, type) over targets of the reversed graph.

        Each is pointers, columns and ones, as ``stencil_mix`` takes them.
        """
        if self._rows is None:
            with torch.inference_mode(False):  # they serve training later
                source, target = self.edge_index.long()
                there = typed_rows(source, target, self.edge_type.long(), self.size[1], self.num_types)
                back = typed_rows(target, source, self.edge_type.long(), self.size[0], self.num_types)
                self._rows = there, back
        return self._rows

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._sorted = self._rows = None  # sorted again on the new device, when they are needed
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"edges={self.num_edges}, types={self.num_types}, size={self.size}"


def typed_rows(source: Tensor, target: Tensor, edge_type: Tensor, num_targets: int, num_types: int) -> list[Tensor]:
    """CSR rows (target, type) over sources: pointers ``[N_dst R + 1]``, columns ``[E]``, ones ``[E]``."""
    row = target * num_types + edge_type
    order = torch.argsort(row, stable=True)
    edges = torch.arange(num_targets * num_types + 1, device=row.device)
    ptr = torch.searchsorted(row[order], edges)
    dtype = torch.int32 if max(num_targets * num_types, row.numel()) < 2**31 else torch.int64
    return [ptr.to(dtype), source[order].to(dtype), torch.ones(row.numel(), device=row.device)]


def typed_costs(
    edges: int, size: tuple[int, int], num_types: int, batch: int, channels: int, outputs: int
) -> dict[str, float]:
    """Multiplications that ``"rows"`` and ``"sorted"`` take, or what takes as long.

    ``"rows"`` sums sources per (target, type) and multiplies every row: :math:`N R C O`, whether a row has edges or
    not. ``"sorted"`` multiplies per edge, :math:`E C O`, and pays for gathers, scatters and one block per type.
    """
    product, places = batch * channels * outputs, max(size) * num_types
    return {
        "rows": places * (product + batch * channels * (_LAY_OUT if batch == 1 else _LAY_OUT_BATCH)),
        "sorted": edges * product + edges * batch * (channels + outputs) * _MOVE + num_types * _CALL,
    }


def choose_typed_path(pattern: TypedPattern, batch: int, channels: int, outputs: int) -> str:
    """The cheaper of ``"rows"`` and ``"sorted"``, by counting."""
    costs = typed_costs(pattern.num_edges, pattern.size, pattern.num_types, batch, channels, outputs)
    return "rows" if costs["rows"] <= costs["sorted"] else "sorted"


def typed_linear(x: Tensor, weight: Tensor, pattern: TypedPattern, path: str = "auto") -> Tensor:
    r"""Sums over neighbours, each multiplied by the matrix of its edge's type.

    .. math:: y_i = \sum_{e = (j \to i)} x_j W_{\tau(e)}

    The layer of relational graphs and of every group convolution by its definition (first message form). Neither path
    builds a message per edge and channel for all edges at once: ``"rows"`` sums the sources of each (target, type)
    block by block and multiplies once over (type, channel); ``"sorted"`` takes the edges of one type at a time through
    one matrix product. Both are differentiable to any order and compile with ``fullgraph=True``. Under ``torch.func``
    transforms, which do not reach into them, ``"auto"`` takes ``"reference"``.

    Args:
        x: ``[N_src, C]``, or ``[..., N_src, C]`` on this one shared graph.
        weight: ``[R, C, O]``, one matrix per type.
        pattern: The typed edges.
        path: ``"auto"`` counts operations; ``"rows"``, ``"sorted"`` and ``"reference"`` (a message per edge) force one.

    Returns:
        ``[..., N_dst, O]``.

    Raises:
        TypeError: If the dtypes of ``x`` and ``weight`` do not go together.
        ValueError: If a shape, device or path is wrong.

    Example:
        >>> pattern = TypedPattern(torch.tensor([[0, 1], [1, 1]]), torch.tensor([0, 1]), num_types=2, size=2)
        >>> typed_linear(torch.tensor([[1.0], [2.0]]), torch.tensor([[[10.0]], [[100.0]]]), pattern)
        tensor([[  0.],
                [210.]])
    """
    check_typed(x, weight, pattern, path)
    out_dtype = torch.promote_types(x.dtype, weight.dtype)
    wide = torch.float32 if out_dtype in HALF else out_dtype
    x, weight = x.to(wide), weight.to(wide)
    lead, batch = x.shape[:-2], x.shape[:-2].numel()
    channels, outputs = x.size(-1), weight.size(-1)
    by_node = x.reshape(batch, pattern.size[0], channels).transpose(0, 1)
    if path == "auto" and transforms_functions():
        path = "reference"
    elif path == "auto":
        path = choose_typed_path(pattern, batch, channels, outputs)
    with torch.autocast(x.device.type, enabled=False):
        if path == "reference":
            out = _reference(by_node, weight, pattern)
        elif path == "sorted" or pattern.num_types == 0:
            out = typed_sum(by_node, weight, pattern.sorted_by_type(), False, list(pattern.size))
        else:
            there, back = ([ptr, col, ones.to(wide)] for ptr, col, ones in pattern.rows())
            out = stencil_mix(by_node, weight, there, back, "auto")
    return out.transpose(0, 1).reshape(*lead, pattern.size[1], outputs).to(out_dtype)


def check_typed(x: Tensor, weight: Tensor, pattern: TypedPattern, path: str) -> None:
    """Raises unless the arguments of ``typed_linear`` go together."""
    if path not in PATHS:
        raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
    if not isinstance(pattern, TypedPattern):
        raise TypeError(f"pattern must be a TypedPattern, got {type(pattern).__name__}; build it once per graph")
    check_shape("x", x, "...", pattern.size[0], "C", hint="its last but one axis are the source nodes, size[0]")
    if x.dim() < 2:
        raise ValueError(f"x must have shape [..., {pattern.size[0]}, C], got {list(x.shape)}; use x.unsqueeze(-1)")
    check_shape("weight", weight, pattern.num_types, x.size(-1), "O", hint="[types, channels in, channels out]")
    if not x.dtype.is_floating_point or not weight.dtype.is_floating_point:
        raise TypeError(f"x and weight must be floating point, got {x.dtype} and {weight.dtype}")
    if x.dtype != weight.dtype and x.dtype not in HALF and weight.dtype not in HALF:
        raise TypeError(f"x and weight must have one dtype, got {x.dtype} and {weight.dtype}; call .to() on one")
    if not x.device == weight.device == pattern.edge_index.device:
        raise ValueError(
            f"x, weight and pattern must lie on one device, got {x.device}, {weight.device} and "
            f"{pattern.edge_index.device}; move them with .to()"
        )


def _reference(x: Tensor, weight: Tensor, pattern: TypedPattern) -> Tensor:
    """The definition, word for word: ``x`` ``[N_src, B, C]`` to ``[N_dst, B, O]``. Builds ``[E, C, O]``."""
    source, target = pattern.edge_index
    message = torch.einsum("ebc,eco->ebo", x.index_select(0, source), weight.index_select(0, pattern.edge_type))
    return x.new_zeros(pattern.size[1], x.size(1), weight.size(2)).index_add(0, target, message)


def _type_blocks(ptr: Tensor, numbers_per_edge: int) -> Iterator[tuple[int, slice]]:
    """The edges of each type, in blocks that stay in the cache."""
    step = max(64, _BLOCK // max(numbers_per_edge, 1))
    bounds = ptr.tolist()
    for edge_type, (first, last) in enumerate(pairwise(bounds)):
        for start in range(first, last, step):
            yield edge_type, slice(start, min(start + step, last))


@torch.library.custom_op("geomeq::typed_sum", mutates_args=())
def typed_sum(x: Tensor, weight: Tensor, edges: Sequence[Tensor], reverse: bool, size: Sequence[int]) -> Tensor:
    """Gather, multiply, add: type by type.

    Args:
        x: ``[N_src, B, C]``; reversed: ``[N_dst, B, O]``.
        weight: ``[R, C, O]``; reversed, its transpose is applied.
        edges: ``TypedPattern.sorted_by_type()``.
        reverse: Whether messages run from targets to sources.
        size: ``[N_src, N_dst]``.

    Returns:
        ``[N_dst, B, O]``; reversed: ``[N_src, B, C]``.
    """
    ptr, source, target = edges
    if reverse:
        source, target, weight = target, source, weight.transpose(1, 2)
    batch, channels, outputs = x.size(1), weight.size(1), weight.size(2)
    out = x.new_zeros(size[0] if reverse else size[1], batch, outputs)
    if x.numel() == 0 or out.numel() == 0:
        return out
    x, flat = x.reshape(x.size(0), -1), out.view(out.size(0), -1)
    for edge_type, block in _type_blocks(ptr, batch * (channels + outputs)):
        message = product(x.index_select(0, source[block]).view(-1, channels), weight[edge_type])
        flat.index_add_(0, target[block], message.view(-1, batch * outputs))
    return out


@torch.library.custom_op("geomeq::typed_outer", mutates_args=())
def typed_outer(x: Tensor, grad: Tensor, edges: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The gradient of ``typed_sum`` for its weights: ``[R, C, O]``.

    Args:
        x: ``[N_src, B, C]``.
        grad: ``[N_dst, B, O]``.
        edges: ``TypedPattern.sorted_by_type()``.
        size: ``[N_src, N_dst]``.
    """
    (ptr, source, target), channels, outputs = edges, x.size(2), grad.size(2)
    out = x.new_zeros(ptr.numel() - 1, channels, outputs)
    if x.numel() == 0 or grad.numel() == 0:
        return out
    numbers = x.size(1) * (channels + outputs)
    x, grad = x.reshape(x.size(0), -1), grad.reshape(grad.size(0), -1)
    for edge_type, block in _type_blocks(ptr, numbers):
        left = x.index_select(0, source[block]).view(-1, channels)
        right = grad.index_select(0, target[block]).view(-1, outputs)
        add_product(out[edge_type], left.t(), right)
    return out


@typed_sum.register_fake
def _(x: Tensor, weight: Tensor, edges: Sequence[Tensor], reverse: bool, size: Sequence[int]) -> Tensor:
    return x.new_empty(size[0] if reverse else size[1], x.size(1), weight.size(1) if reverse else weight.size(2))


@typed_outer.register_fake
def _(x: Tensor, grad: Tensor, edges: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    return x.new_empty(edges[0].size(0) - 1, x.size(2), grad.size(2))


def _save_sum(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, edges, ctx.reverse, ctx.size = inputs
    ctx.save_for_backward(x, weight, *edges)


def _sum_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight, *edges = ctx.saved_tensors
    grad_x = grad_weight = None
    if ctx.needs_input_grad[0]:
        grad_x = typed_sum(grad, weight, edges, not ctx.reverse, ctx.size)
    if ctx.needs_input_grad[1]:
        pair = (grad, x) if ctx.reverse else (x, grad)
        grad_weight = typed_outer(*pair, edges, ctx.size)
    return grad_x, grad_weight, [None] * len(edges), None, None


def _save_outer(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, grad, edges, ctx.size = inputs
    ctx.save_for_backward(x, grad, *edges)


def _outer_backward(ctx: Any, toward_weight: Tensor) -> tuple[Any, ...]:
    x, grad, *edges = ctx.saved_tensors
    of_x = of_grad = None
    if ctx.needs_input_grad[0]:
        of_x = typed_sum(grad, toward_weight, edges, True, ctx.size)
    if ctx.needs_input_grad[1]:
        of_grad = typed_sum(x, toward_weight, edges, False, ctx.size)
    return of_x, of_grad, [None] * len(edges), None


for _device in ("cpu", "cuda"):  # under autocast the products inside would be cast down
    typed_sum.register_autocast(_device, torch.float32)
    typed_outer.register_autocast(_device, torch.float32)
typed_sum.register_autograd(_sum_backward, setup_context=_save_sum)
typed_outer.register_autograd(_outer_backward, setup_context=_save_outer)

r"""Messages in the frames of edges with memory that does not grow with the number of edges."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from geomeq._checks import check_shape
from geomeq.ops._edge_kernels import add_rotated_out, edge_rotate_dot, edge_rotate_in, edge_rotate_out
from geomeq.ops._functorch import transforms_functions
from geomeq.ops.edge_rotation import EdgeRotation

__all__ = ["edge_message"]

Mix = Callable[..., Tensor]
P = ParamSpec("P")
T = TypeVar("T")


def edge_message(
    x: Tensor,
    rotation: EdgeRotation,
    mix: Mix,
    *edge_tensors: Tensor | None,
    weight: Tensor | None = None,
    side: str = "source",
    chunk_size: int | None = None,
    parameters: Sequence[Tensor] | None = None,
) -> Tensor:
    r"""Gathers, rotates, mixes in the frame, rotates back and sums, at most ``chunk_size`` edges at a time.

    .. math:: x'_i = \sum_j w_{ij} \, D_{ij}^T \, \text{mix}(D_{ij} x_j, a_{ij})

    With a chunk size nothing of the size of the edges is kept or made, except the Wigner rows: the backward pass
    computes each chunk again, and the backward pass of that one (forces in a loss) once more. Twice differentiable.
    Under ``torch.compile`` and the transforms of ``torch.func`` all edges go at once.

    Args:
        x: Coefficients at the nodes, ``[N, (L+1)^2, C]``.
        rotation: Frames of the edges.
        mix: Maps ``[e, B, C]`` (``[e, B, 2C]`` for both sides) and slices of ``edge_tensors`` to ``[e, B, C']``, edge
            by edge. A module, or a method of one. It is called again in the backward pass and must give the same.
        edge_tensors: What else it reads, ``[E, ...]`` each, or ``None``.
        weight: Factor of each message, ``[E]``.
        side: Which ends of the edges, see :meth:`EdgeRotation.into_frame`.
        chunk_size: Edges at a time; all by default.
        parameters: Tensors that ``mix`` reads and that need gradients, where it is neither a module nor a method of
            one (then they are the parameters of the module).

    Returns:
        ``[N, (L+1)^2, C']``.

    Raises:
        ValueError: If a size differs, or ``mix`` is a plain function and ``parameters`` are not given.

    Example:
        >>> from geomeq.ops import EdgeLayout
        >>> layout, edge_index = EdgeLayout(1), torch.tensor([[1, 0], [0, 1]])
        >>> rotation = EdgeRotation(torch.randn(2, layout.num_values), edge_index, 2, layout)
        >>> edge_message(torch.randn(2, 4, 8), rotation, torch.nn.Linear(8, 3), chunk_size=1).shape
        torch.Size([2, 4, 3])
    """
    for number, tensor in enumerate(edge_tensors):
        if tensor is not None and tensor.size(0) != rotation.num_edges:
            raise ValueError(
                f"edge tensor {number} must have one row for each of {rotation.num_edges} edges, got {tensor.size(0)}"
            )
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    whole = chunk_size is None or rotation.num_edges <= chunk_size
    if whole or torch.compiler.is_compiling() or transforms_functions():
        h = rotation.into_frame(x, side)
        return rotation.out_of_frame(mix(h, *edge_tensors).to(h.dtype), weight)
    assert chunk_size is not None
    check_shape("x", x, rotation.num_nodes, rotation.layout.num_coefficients, "C")
    if weight is not None:
        check_shape("weight", weight, rotation.num_edges)
    names, held = _parameters(mix, parameters)
    plan = _Plan(rotation, _Mix(mix, x.dtype, names, held), side, chunk_size, len(edge_tensors))
    dtype = torch.promote_types(torch.promote_types(x.dtype, rotation.wigner.dtype), torch.float32)
    wigner, features = rotation.wigner.to(dtype), x.to(dtype)
    weight = None if weight is None else weight.to(dtype)
    return _Message.apply(plan, features, wigner, weight, *edge_tensors, *held).to(x.dtype)


def _parameters(mix: Mix, parameters: Sequence[Tensor] | None) -> tuple[list[str], list[Tensor]]:
    """The tensors that ``mix`` reads, with their names where it is a module."""
    if parameters is not None:
        return [], list(parameters)
    owner = _owner(mix)
    if owner is None:
        raise ValueError(
            "mix is a plain function, so the tensors that it reads cannot be found; pass parameters= (an empty list if "
            "there are none), or make it a module: their gradients would be lost otherwise"
        )
    named = dict(owner.named_parameters())
    return list(named), list(named.values())


def _owner(mix: Mix) -> nn.Module | None:
    owner = mix if isinstance(mix, nn.Module) else getattr(mix, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


class _Mix:
    """Calls ``mix`` as the caller had it: in his dtype, with and without autocast, with the parameters of then.

    ``torch.func.functional_call`` lends parameters for the forward pass only, and the backward pass calls again.
    """

    def __init__(self, mix: Mix, dtype: torch.dtype, names: Sequence[str], held: Sequence[Tensor]) -> None:
        self.mix, self.dtype, self.names, self.held = mix, dtype, names, held

    def __call__(self, h: Tensor, *tensors: Tensor | None) -> Tensor:
        owner = _owner(self.mix)
        made: Tensor
        if owner is None or not self.names or self._still_there(owner):
            made = self.mix(h.to(self.dtype), *tensors)
        else:
            lent = {f"owner.{name}": held for name, held in zip(self.names, self.held, strict=True)}
            made = functional_call(_Owned(owner, self.mix), lent, (h.to(self.dtype), *tensors))
        return made.to(h.dtype)

    def _still_there(self, owner: nn.Module) -> bool:
        now = list(owner.parameters())
        return len(now) == len(self.held) and all(a is b for a, b in zip(now, self.held, strict=True))


class _Owned(nn.Module):
    """A module whose call is a method of another one."""

    mix: Mix

    def __init__(self, owner: nn.Module, mix: Mix) -> None:
        super().__init__()
        self.owner = owner
        object.__setattr__(self, "mix", mix)  # not a second name of the same module

    def forward(self, *args: Tensor | None) -> Tensor:
        made: Tensor = self.mix(*args)
        return made


class _Plan:
    """What a chunked message needs besides tensors."""

    def __init__(self, rotation: EdgeRotation, mix: _Mix, side: str, chunk_size: int, num_tensors: int) -> None:
        self.mix, self.num_tensors, self.layout = mix, num_tensors, rotation.layout
        self.degrees = (rotation.layout.lmax, rotation.layout.mmax)
        device = rotation.edge_index.device.type
        self.autocast = (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        columns = rotation._rows_of(side)
        self.chunks = []
        for start in range(0, rotation.num_edges, chunk_size):
            part = rotation.chunk(start, min(start + chunk_size, rotation.num_edges))
            index_in, index_out = part.edge_index[columns].T.contiguous(), part.edge_index[1:].T.contiguous()
            sorted_out = part._sorted(1)
            sorted_in = [sorted_out if c == 1 else part._sorted(0) for c in columns]
            stop = start + part.num_edges
            self.chunks.append(_Chunk(slice(start, stop), index_in, sorted_in, index_out, [sorted_out]))

    def run_mix(self, h: Tensor, tensors: Sequence[Tensor | None]) -> Tensor:
        device, enabled, dtype = self.autocast
        with torch.autocast(device, dtype=dtype, enabled=enabled):
            return self.mix(h, *tensors)

    def split(self, inputs: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
        """Tensors of the edges, and parameters."""
        return inputs[: self.num_tensors], inputs[self.num_tensors :]


@dataclass(frozen=True)
class _Chunk:
    edges: slice
    index_in: Tensor
    sorting_in: list[Tensor]
    index_out: Tensor
    sorting_out: list[Tensor]


def _cut(tensors: Sequence[Tensor | None], edges: slice) -> list[Tensor | None]:
    return [None if t is None else t[edges] for t in tensors]


def _leaves(tensors: Sequence[Tensor | None], need: Sequence[bool]) -> list[Tensor | None]:
    return [None if t is None else t.detach().requires_grad_(n) for t, n in zip(tensors, need, strict=True)]


def _in_full(function: Callable[P, T]) -> Callable[P, T]:
    """Runs ``function`` without autocast; the mix has it as the caller had."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        plan = next(a for a in (*args, getattr(args[0], "plan", None)) if isinstance(a, _Plan))
        with torch.autocast(plan.autocast[0], enabled=False):
            return function(*args, **kwargs)

    return run


class _Message(torch.autograd.Function):
    """The sum over all chunks. Keeps its inputs only."""

    @staticmethod
    @_in_full
    def forward(ctx: Any, plan: _Plan, x: Tensor, wigner: Tensor, weight: Tensor | None, *rest: Tensor) -> Tensor:
        ctx.plan, ctx.need = plan, ctx.needs_input_grad[1:]
        ctx.save_for_backward(x, wigner, weight, *rest)
        tensors, _ = plan.split(rest)
        out: Tensor | None = None
        for chunk in plan.chunks:
            h = edge_rotate_in(wigner[chunk.edges], x, chunk.index_in, chunk.sorting_in, *plan.degrees)
            y = plan.run_mix(h, _cut(tensors, chunk.edges))
            del h
            if out is None:
                out = x.new_zeros(x.size(0), x.size(1), y.size(2))
            own = wigner[chunk.edges] if weight is None else wigner[chunk.edges] * weight[chunk.edges, None]
            add_rotated_out(out, own, y, chunk.index_out, chunk.sorting_out, *plan.degrees)
        assert out is not None
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, wigner, weight, *rest = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *_MessageGrad.apply(ctx.plan, ctx.need, grad, x, wigner, weight, *rest)
        return None, *_gradients(ctx.plan, ctx.need, grad, x, wigner, weight, rest)


@_in_full
def _gradients(
    plan: _Plan,
    need: Sequence[bool],
    grad: Tensor,
    x: Tensor,
    wigner: Tensor,
    weight: Tensor | None,
    rest: Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients of the message by ``x``, ``wigner``, ``weight`` and the rest, chunk by chunk."""
    tensors, held = plan.split(rest)
    need_tensors, need_held = plan.split(need[3:])
    grads = [
        torch.zeros_like(t) if t is not None and n else None
        for t, n in zip((x, wigner, weight, *rest), need, strict=True)
    ]
    of_tensors, of_held = plan.split(grads[3:])
    grad = grad.contiguous()
    wanted = [p for p, n in zip(held, need_held, strict=True) if n]
    for chunk in plan.chunks:
        e, rows = chunk.edges, wigner[chunk.edges]
        own = rows if weight is None else rows * weight[e, None]
        h = edge_rotate_in(rows, x, chunk.index_in, chunk.sorting_in, *plan.degrees)
        grad_y = edge_rotate_in(own, grad, chunk.index_out, chunk.sorting_out, *plan.degrees)
        with torch.enable_grad():
            h = h.detach().requires_grad_(need[0] or need[1])
            cut = _leaves(_cut(tensors, e), need_tensors)
            y = plan.run_mix(h, cut)
            sources = [t for t in (h, *cut) if t is not None and t.requires_grad] + wanted
            found = _grad(y, sources, grad_y)
        y = y.detach()
        del grad_y
        if grads[1] is not None or grads[2] is not None:
            dot = edge_rotate_dot(y, grad, chunk.index_out, chunk.sorting_out, *plan.degrees)
            if grads[2] is not None:
                grads[2][e] = (dot * rows).sum(1)
            if grads[1] is not None:
                grads[1][e] = dot if weight is None else dot * weight[e, None]
        del y
        if h.requires_grad:
            grad_h = next(found)
            if grads[0] is not None and grad_h is not None:
                add_rotated_out(grads[0], rows, grad_h, chunk.index_in, chunk.sorting_in, *plan.degrees)
            if grads[1] is not None and grad_h is not None:
                grads[1][e] += edge_rotate_dot(grad_h, x, chunk.index_in, chunk.sorting_in, *plan.degrees)
        for total, part in zip(of_tensors, cut, strict=True):
            if total is not None and part is not None and part.requires_grad:
                piece = next(found)
                if piece is not None:
                    total[e] = piece
        for total in of_held:
            piece = None if total is None else next(found)
            if piece is not None:
                total += piece
    return grads


def _grad(y: Tensor, sources: Sequence[Tensor], grad_y: Tensor) -> Iterator[Tensor | None]:
    if not sources or not y.requires_grad:
        return iter([None] * len(sources))
    return iter(torch.autograd.grad(y, sources, grad_y, allow_unused=True))


class _MessageGrad(torch.autograd.Function):
    """The gradients as a function, so that they can be differentiated once more, again chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: _Plan,
        need: Sequence[bool],
        grad: Tensor,
        x: Tensor,
        wigner: Tensor,
        weight: Tensor | None,
        *rest: Tensor,
    ) -> tuple[Tensor | None, ...]:
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad, x, wigner, weight, *rest)
        return tuple(_gradients(plan, need, grad, x, wigner, weight, rest))

    @staticmethod
    @torch.autograd.function.once_differentiable
    @_in_full
    def backward(ctx: Any, *seconds: Tensor | None) -> tuple[Any, ...]:
        plan, inputs = ctx.plan, ctx.saved_tensors
        flags = ctx.needs_input_grad[2:]
        totals = [torch.zeros_like(t) if t is not None and n else None for t, n in zip(inputs, flags, strict=True)]
        targets = [k for k, n in enumerate(flags) if n]
        last_edge_tensor = 4 + plan.num_tensors
        if not targets or all(s is None for s in seconds):
            return None, None, *totals
        for chunk in plan.chunks:

            def cut(tensors: Sequence[Any], first: int, edges: slice = chunk.edges) -> list[Any]:
                """Slices of what belongs to edges."""
                return [
                    t[edges] if t is not None and 2 <= k < last_edge_tensor else t
                    for k, t in enumerate(tensors, start=first)
                ]

            with torch.enable_grad():
                leaves: list[Any] = [
                    None if t is None else t.detach().requires_grad_(t.is_floating_point())
                    for t in cut(inputs, 0)[:last_edge_tensor]
                ]
                leaves += list(inputs[last_edge_tensor:])  # mix itself holds these
                out = _one_chunk(plan, chunk, leaves[1:])
                firsts = [(leaf, s) for leaf, s in zip(leaves[1:], cut(seconds, 1), strict=True) if s is not None]
                sources = [leaf for leaf, _ in firsts]
                grads = torch.autograd.grad(out, sources, leaves[0], create_graph=True, allow_unused=True)
                pairs = [(g, s) for g, (_, s) in zip(grads, firsts, strict=True) if g is not None and g.requires_grad]
                if not pairs:
                    continue
                found = torch.autograd.grad(
                    [g for g, _ in pairs],
                    [leaves[k] for k in targets],
                    [s for _, s in pairs],
                    allow_unused=True,
                )
            for k, piece in zip(targets, found, strict=True):
                if piece is not None:
                    total = totals[k]
                    assert total is not None
                    (total[chunk.edges] if 2 <= k < last_edge_tensor else total).add_(piece)
        return None, None, *totals


def _one_chunk(plan: _Plan, chunk: _Chunk, leaves: Sequence[Tensor | None]) -> Tensor:
    """The message of one chunk in differentiable operations."""
    x, wigner, weight = leaves[:3]
    assert x is not None
    assert wigner is not None
    tensors, _ = plan.split(leaves[3:])
    h = edge_rotate_in(wigner, x, chunk.index_in, chunk.sorting_in, *plan.degrees)
    y = plan.run_mix(h, tensors)
    own = wigner if weight is None else wigner * weight[:, None]
    return edge_rotate_out(own, y, chunk.index_out, chunk.sorting_out, x.size(0), *plan.degrees)

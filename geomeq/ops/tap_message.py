r"""Messages averaged over rolls about the edge, in slices that stay in the cache.

A message of four taps is a network of width H evaluated four times an edge, with B C outputs of which the mean is kept:
four times as many numbers before the mean as after it. Written plainly, each of these large tensors is memory taken
anew, whose page faults cost as much as the arithmetic. Here a slice of edges runs through all steps in buffers that are
used again; only what the last linear map gave is kept for the backward pass, or nothing of it (``recompute``).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geomeq.ops._functorch import transforms_functions
from geomeq.ops._product import product
from geomeq.ops._scratch import scratch

_SLICE = 2**21  # numbers of the widest buffer, 8 MB in float32: less, and products pack their matrices too often


def tap_message(
    first: Tensor,
    gate: Tensor,
    weights: Sequence[Tensor],
    rows: Sequence[int],
    taps: int,
    recompute: bool = False,
) -> Tensor:
    r"""From what the first linear map gave to the mean over taps.

    .. math::
        h_k = \text{SiLU}(W_2 (\text{SiLU}(p_k) \odot g) + b_2), \qquad
        y = \frac{1}{K} \sum_k Z(\theta_k)^T \, \text{SiLU}(W_3 h_k + b_3), \qquad \theta_k = 2 \pi k / K

    where :math:`p_k = P_0 + (\pm P_1 \text{ or } \pm P_2) \pm P_3` puts together the constant, the two turning and the
    alternating parts of the rolled input. Rolling back mixes rows of order +m and -m,
    :math:`y_m = \cos(m \theta) s_m - \sin(m \theta) s_{-m}`.

    Args:
        first: ``[E, R, H]``, R = 1 for one tap, else 3 or 4 parts.
        gate: ``[E, H]``.
        weights: ``W_2 [H, H]`` (applied from the right), ``b_2 [H]``, ``W_3 [H, B C]``, ``b_3 [B C]``.
        rows: Rows of each degree, ``2 min(l, mmax) + 1``, B in all, from order -m up.
        taps: 1 or 4.
        recompute: Whether to keep nothing of the last linear map.

    Returns:
        ``[E, B, C]``, differentiable to any order.

    Raises:
        ValueError: For another number of taps, or of parts.
    """
    if taps not in (1, 4) or first.size(1) not in ((1,) if taps == 1 else (3, 4)):
        raise ValueError(f"one tap has 1 part and four taps have 3 or 4, got {taps} taps and {first.size(1)} parts")
    width = weights[2].size(1) // sum(rows)
    plain = torch.compiler.is_compiling() or transforms_functions() or first.size(0) == 0
    if plain or first.device.type != "cpu" or torch.is_autocast_enabled(first.device.type):
        return plain_tap_message(first, gate, weights, rows, taps)
    out: Tensor = _TapMessage.apply(tuple(rows), taps, recompute, first, gate, *weights)
    return out.view(first.size(0), sum(rows), width)


def plain_tap_message(first: Tensor, gate: Tensor, weights: Sequence[Tensor], rows: Sequence[int], taps: int) -> Tensor:
    """The definition of :func:`tap_message`."""
    middle, middle_bias, last, last_bias = weights
    hidden = F.silu(torch.stack(_taps(first, taps), dim=1)) * gate[:, None]
    hidden = F.silu(torch.matmul(hidden, middle) + middle_bias)
    out = F.silu(torch.matmul(hidden, last) + last_bias)
    out = out.view(first.size(0), taps, sum(rows), last.size(1) // sum(rows))
    if taps == 1:
        return out[:, 0]
    parts = []
    for own in out.split(list(rows), dim=2):
        top = own.size(2) // 2
        for m in range(-top, top + 1):
            terms = _signed(own, m, top)
            parts.append((terms[0] + terms[1] + terms[2] + terms[3]) / taps)
    return torch.stack(parts, dim=1)


def _taps(first: Tensor, taps: int) -> list[Tensor]:
    """What each tap sees, from the parts ``[E, R, H]``."""
    parts = first.unbind(1)
    if taps == 1:
        return [parts[0]]
    even = odd = parts[0]
    if len(parts) == 4:
        even, odd = parts[0] + parts[3], parts[0] - parts[3]
    return [even + parts[1], odd + parts[2], even - parts[1], odd - parts[2]]


def quarter_turn(m: int, tap: int) -> tuple[int, int]:
    """Cosine and sine of ``m`` times ``tap`` quarter turns."""
    return ((1, 0), (0, 1), (-1, 0), (0, -1))[(m * tap) % 4]


def _signed(own: Tensor, m: int, top: int) -> list[Tensor]:
    """The terms of a row of one degree, of ``[E, 4, M, C]``."""
    terms = []
    for tap in range(4):
        cos, sin = quarter_turn(m, tap)
        terms.append(cos * own[:, tap, m + top] if cos else -sin * own[:, tap, top - m])
    return terms


def _groups(rows: Sequence[int]) -> list[tuple[int, int, int]]:
    """Degrees with equally many rows: first row, number of degrees, rows of each."""
    groups: list[tuple[int, int, int]] = []
    at = 0
    for count in rows:
        if groups and groups[-1][2] == count:
            groups[-1] = (groups[-1][0], groups[-1][1] + 1, count)
        else:
            groups.append((at, 1, count))
        at += count
    return groups


class _TapMessage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: tuple[int, ...],
        taps: int,
        recompute: bool,
        first: Tensor,
        gate: Tensor,
        middle: Tensor,
        middle_bias: Tensor,
        last: Tensor,
        last_bias: Tensor,
    ) -> Tensor:
        first, gate = first.contiguous(), gate.contiguous()
        edges, hidden, wide = first.size(0), first.size(2), last.size(1)
        keep = any(ctx.needs_input_grad) and not recompute
        before: list[Tensor] = []
        out = first.new_empty(edges, wide)
        step = max(1, _SLICE // (taps * wide))
        for start in range(0, edges, step):
            part = slice(start, min(start + step, edges))
            own = _hidden(first[part], gate[part], middle, middle_bias, taps)[-1]
            values = scratch("tap after", first, own.size(0), wide)
            made = product(own, last, last_bias)
            torch.ops.aten.silu.out(made, out=values)
            if keep:
                before.append(made)
            if taps == 1:
                out[part] = values
            else:
                _mean(values.view(-1, taps, sum(rows), wide // sum(rows)), rows, out[part])
        ctx.save_for_backward(first, gate, middle, middle_bias, last, last_bias, *before)
        ctx.rows, ctx.taps, ctx.hidden = rows, taps, hidden
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: a checkpoint computes them when asked
        inputs, before = saved[:6], saved[6:]
        if torch.is_grad_enabled():  # to be differentiated again
            return (None, None, None, *_differentiable(ctx, inputs, grad))
        return (None, None, None, *_backward(ctx.rows, ctx.taps, inputs, before, grad.contiguous()))


def _hidden(first: Tensor, gate: Tensor, middle: Tensor, bias: Tensor, taps: int) -> tuple[Tensor, ...]:
    """Before and after both activations, ``[e * taps, H]``, in scratch."""
    edges, _, width = first.shape
    p, s, q, h = (scratch(name, first, edges, taps, width) for name in ("tap p", "tap s", "tap q", "tap h"))
    if taps == 1:
        p.copy_(first)
    else:
        even = odd = first[:, 0]
        if first.size(1) == 4:
            even, odd = first[:, 0] + first[:, 3], first[:, 0] - first[:, 3]
        for tap, (base, turn) in enumerate(((even, 1), (odd, 2), (even, 1), (odd, 2))):
            torch.add(base, first[:, turn], alpha=1 if tap < 2 else -1, out=p[:, tap])
    torch.ops.aten.silu.out(p, out=s)
    torch.mul(s, gate[:, None], out=q)
    t = product(q.view(edges * taps, width), middle, bias)
    torch.ops.aten.silu.out(t, out=h.view(edges * taps, width))
    return p, s, q, t, h.view(edges * taps, width)


def _mean(values: Tensor, rows: Sequence[int], out: Tensor) -> None:
    """Rolls back and averages ``[e, 4, B, C]`` into ``[e, B * C]``."""
    edges, _, _, width = values.shape
    out = out.view(edges, -1, width)
    for at, degrees, count in _groups(rows):
        own = values[:, :, at : at + degrees * count].unflatten(2, (degrees, count))
        to, top = out[:, at : at + degrees * count].unflatten(1, (degrees, count)), count // 2
        for m in range(-top, top + 1):
            row = to[:, :, m + top]
            torch.add(own[:, 0, :, m + top], _row(own, 1, m, top), alpha=_sign(1, m), out=row)
            row.add_(_row(own, 2, m, top), alpha=_sign(2, m)).add_(_row(own, 3, m, top), alpha=_sign(3, m))
    out.mul_(0.25)


def _row(own: Tensor, tap: int, m: int, top: int) -> Tensor:
    return own[:, tap, :, (m if quarter_turn(m, tap)[0] else -m) + top]


def _sign(tap: int, m: int) -> int:
    cos, sin = quarter_turn(m, tap)
    return cos or -sin


def _spread(grad: Tensor, rows: Sequence[int], out: Tensor) -> None:
    """The transpose of :func:`_mean`: ``[e, B, C]`` into ``[e, 4, B, C]``."""
    for at, degrees, count in _groups(rows):
        own = grad[:, at : at + degrees * count].unflatten(1, (degrees, count))
        to, top = out[:, :, at : at + degrees * count].unflatten(2, (degrees, count)), count // 2
        for m in range(-top, top + 1):
            for tap in range(4):
                torch.mul(own[:, :, m + top], 0.25 * _sign(tap, m), out=_row(to, tap, m, top))


def _backward(
    rows: tuple[int, ...], taps: int, inputs: Sequence[Tensor], before: Sequence[Tensor], grad: Tensor
) -> tuple[Tensor, ...]:
    first, gate, middle, middle_bias, last, last_bias = inputs
    edges, hidden, wide = first.size(0), first.size(2), last.size(1)
    g_first, g_gate = torch.empty_like(first), torch.empty_like(gate)
    g_weights = [torch.zeros_like(t) for t in (middle, middle_bias, last, last_bias)]
    step = max(1, _SLICE // (taps * wide))
    silu_backward = torch.ops.aten.silu_backward.grad_input
    for number, start in enumerate(range(0, edges, step)):
        part = slice(start, min(start + step, edges))
        p, s, q, t, h = _hidden(first[part], gate[part], middle, middle_bias, taps)
        size = h.size(0)
        own = before[number] if before else product(h, last, last_bias)
        g = scratch("tap after", first, size, wide)
        if taps == 1:
            g.copy_(grad[part])
        else:
            shape = (sum(rows), wide // sum(rows))
            _spread(grad[part].view(-1, *shape), rows, g.view(-1, taps, *shape))
        silu_backward(g, own, grad_input=g)
        g_weights[2].add_(product(h.T, g))
        g_weights[3].add_(g.sum(dim=0))
        g_hidden = product(g, last.T)
        silu_backward(g_hidden, t, grad_input=g_hidden)
        g_weights[0].add_(product(q.view(size, hidden).T, g_hidden))
        g_weights[1].add_(g_hidden.sum(dim=0))
        g_q = product(g_hidden, middle.T).view(-1, taps, hidden)
        torch.mul(g_q, s, out=s)
        torch.sum(s, dim=1, out=g_gate[part])
        g_q.mul_(gate[part][:, None])
        silu_backward(g_q, p, grad_input=g_q)
        _collect(g_q, g_first[part])
    return (g_first, g_gate, *g_weights)


def _collect(taps: Tensor, out: Tensor) -> None:
    """The transpose of putting taps together, ``[e, K, H]`` into ``[e, R, H]``."""
    if taps.size(1) == 1:
        out.copy_(taps)
        return
    torch.sum(taps, dim=1, out=out[:, 0])
    torch.sub(taps[:, 0], taps[:, 2], out=out[:, 1])
    torch.sub(taps[:, 1], taps[:, 3], out=out[:, 2])
    if out.size(1) == 4:
        torch.sub(taps[:, 0], taps[:, 1], out=out[:, 3])
        out[:, 3].add_(taps[:, 2]).sub_(taps[:, 3])


def _differentiable(ctx: Any, inputs: Sequence[Tensor], grad: Tensor) -> list[Tensor | None]:
    """The same gradients from the definition, as functions that have gradients themselves."""
    needed = ctx.needs_input_grad[3:]
    with torch.enable_grad():
        # views of their own, so that this does not reach through into what made the inputs
        own = [t.view_as(t) for t in inputs]
        out = plain_tap_message(own[0], own[1], own[2:], ctx.rows, ctx.taps).flatten(1)
        wanted = [t for t, need in zip(own, needed, strict=True) if need]
        found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needed]

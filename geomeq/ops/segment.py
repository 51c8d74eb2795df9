"""Reductions over sorted segments: the edges of a target, the nodes of a graph in a batch.

Sorting is the contract: rows of one segment lie together, so that a segment is a slice and no scatter is needed. All
functions are differentiable to any order, give zeros for an empty segment, and reduce half precision in float32.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geomeq.ops._functorch import transforms_functions
from geomeq.ops._kernels import choose_path, csr_matrix

_NARROW = 8  # channels up to which segment_reduce is the fastest maximum on a CPU; beyond, scatter_reduce is
_SLICE = 1 << 16  # numbers per slice of the softmax: temporaries stay in the cache


def segment_sum(
    src: Tensor, index: Tensor | None = None, num_segments: int | None = None, *, ptr: Tensor | None = None
) -> Tensor:
    r"""Sums the rows of each segment, :math:`y_i = \sum_{e : index_e = i} x_e`.

    Args:
        src: ``[E, ...]``, floating point.
        index: Segment of each row, ``[E]``, never decreasing.
        num_segments: ``N``; needed with ``index``, since the last segments may be empty.
        ptr: Instead of ``index``: first row of each segment and, last, ``E``: ``[N + 1]``.

    Returns:
        ``[N, ...]``; zeros for an empty segment.

    Raises:
        TypeError: If a dtype is wrong.
        ValueError: If ``index`` is not sorted or out of range, ``ptr`` does not cover ``src``, or neither or both are
            given.

    Example:
        >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), num_segments=3)
        tensor([3., 0., 4.])
    """
    return _reduce(_sum, src, index, num_segments, ptr)


def segment_mean(
    src: Tensor, index: Tensor | None = None, num_segments: int | None = None, *, ptr: Tensor | None = None
) -> Tensor:
    """Averages the rows of each segment; zeros for an empty one. Arguments and errors as in ``segment_sum``.

    Example:
        >>> segment_mean(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 0, 2]), num_segments=3)
        tensor([1.5000, 0.0000, 4.0000])
    """
    return _reduce(_mean, src, index, num_segments, ptr)


def segment_max(
    src: Tensor, index: Tensor | None = None, num_segments: int | None = None, *, ptr: Tensor | None = None
) -> Tensor:
    """The largest value of each segment, per channel; zeros for an empty one. Arguments as in ``segment_sum``.

    Equal largest values share the gradient equally. A NaN makes its segment NaN.

    Example:
        >>> segment_max(torch.tensor([1.0, 2.0, -4.0]), torch.tensor([0, 0, 2]), num_segments=3)
        tensor([ 2.,  0., -4.])
    """
    return _reduce(_amax, src, index, num_segments, ptr)


def segment_softmax(
    src: Tensor, index: Tensor | None = None, num_segments: int | None = None, *, ptr: Tensor | None = None
) -> Tensor:
    r"""Softmax within each segment, per channel, :math:`y_e = \exp(x_e) / \sum_{f : index_f = index_e} \exp(x_f)`.

    The largest value is subtracted first, so large logits do not overflow. As in ``torch.softmax``, a segment in which
    all logits are ``-inf`` gives NaN. Arguments and errors as in ``segment_sum``.

    Returns:
        ``[E, ...]``, like ``src``; the rows of one segment sum to one.

    Example:
        >>> segment_softmax(torch.tensor([0.0, 0.0, 4.0]), torch.tensor([0, 0, 2]), num_segments=3)
        tensor([0.5000, 0.5000, 1.0000])
    """
    return _reduce(_soft, src, index, num_segments, ptr)


def _reduce(
    function: Callable[[Tensor, Tensor, Tensor], Tensor],
    src: Tensor,
    index: Tensor | None,
    num_segments: int | None,
    ptr: Tensor | None,
) -> Tensor:
    """Checks, flattens channels, widens half precision, and undoes both after ``function(src, index, ptr)``."""
    index, ptr = _segments(src, index, num_segments, ptr)
    wide = torch.float32 if src.dtype in (torch.float16, torch.bfloat16) else src.dtype
    flat = src.to(wide).reshape(src.size(0), math.prod(src.shape[1:]))
    out = function(flat, index, ptr)
    return out.reshape(out.size(0), *src.shape[1:]).to(src.dtype)


def _segments(src: Tensor, index: Tensor | None, num_segments: int | None, ptr: Tensor | None) -> tuple[Tensor, Tensor]:
    """``index [E]`` and ``ptr [N + 1]`` (32-bit where it fits) from whichever of the two was given."""
    if not isinstance(src, Tensor):
        raise TypeError(f"src must be a torch.Tensor [E, ...], got {type(src).__name__}")
    if not src.dtype.is_floating_point:
        raise TypeError(f"src must be floating point, got {src.dtype}; call .float() on it")
    if src.dim() == 0:
        raise ValueError("src must have shape [E, ...], got a scalar; use src.unsqueeze(0)")
    if (index is None) == (ptr is None):
        raise ValueError("segments must be given either by index (with num_segments) or by ptr, not by both or neither")
    given, name = (index, "index") if index is not None else (ptr, "ptr")
    assert given is not None
    if not isinstance(given, Tensor) or given.dtype not in (torch.int64, torch.int32):
        kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise TypeError(f"{name} must be a tensor of integers, got {kind}")
    if given.dim() != 1:
        raise ValueError(f"{name} must have one axis, got shape {list(given.shape)}")
    if given.device != src.device:
        raise ValueError(f"{name} must lie on the device of src, {src.device}, got {given.device}; move it with .to()")
    dtype = torch.int32 if max(src.size(0), src[:1].numel()) < 2**31 else torch.int64
    if index is not None:
        _check_index(index, src.size(0), num_segments)
        bounds = torch.arange((num_segments or 0) + 1, device=src.device, dtype=index.dtype)
        return index, torch.searchsorted(index.contiguous(), bounds).to(dtype)
    assert ptr is not None
    _check_ptr(ptr, src.size(0), num_segments)
    numbers = torch.arange(ptr.numel() - 1, device=src.device)
    return numbers.repeat_interleave(ptr.diff(), output_size=src.size(0)), ptr.to(dtype).contiguous()


def _check_index(index: Tensor, num_rows: int, num_segments: int | None) -> None:
    if num_segments is None:
        raise ValueError("num_segments must be given with index: the last segments may be empty")
    if index.numel() != num_rows:
        raise ValueError(f"index must have one entry per row of src, [{num_rows}], got {list(index.shape)}")
    if num_rows == 0 or torch.compiler.is_compiling():  # reading values would break the graph
        return
    if num_rows > 1 and bool((index[1:] < index[:-1]).any()):
        row = int((index[1:] < index[:-1]).nonzero()[0]) + 1
        raise ValueError(
            f"index must be sorted, but row {row} goes from segment {int(index[row - 1])} back to {int(index[row])}; "
            "sort first: index, perm = index.sort(stable=True); src = src[perm]"
        )
    if int(index[0]) < 0 or int(index[-1]) >= num_segments:
        raise ValueError(
            f"index names segments {int(index[0])}..{int(index[-1])}, but num_segments is {num_segments} "
            f"(0..{num_segments - 1})"
        )


def _check_ptr(ptr: Tensor, num_rows: int, num_segments: int | None) -> None:
    if ptr.numel() == 0:
        raise ValueError("ptr must have num_segments + 1 entries, got none")
    if num_segments is not None and ptr.numel() != num_segments + 1:
        raise ValueError(f"ptr must have num_segments + 1 = {num_segments + 1} entries, got {ptr.numel()}")
    if torch.compiler.is_compiling():
        return
    if int(ptr[0]) != 0 or int(ptr[-1]) != num_rows or bool((ptr.diff() < 0).any()):
        raise ValueError(
            f"ptr must rise from 0 to the number of rows, {num_rows}, without falling; "
            f"got {int(ptr[0])} to {int(ptr[-1])}{', falling in between' if bool((ptr.diff() < 0).any()) else ''}"
        )


def _sum(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    if transforms_functions():
        return src.new_zeros(ptr.numel() - 1, src.size(1)).index_add(0, index, src)
    return segment_total(src, index, ptr)


def _mean(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    return _sum(src, index, ptr) / ptr.diff().clamp(min=1).unsqueeze(1).to(src.dtype)


def _amax(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    if not transforms_functions():
        return segment_amax(src, index, ptr)
    lowest = src.new_full((ptr.numel() - 1, src.size(1)), -math.inf)
    largest = lowest.scatter_reduce(0, index.long().unsqueeze(1).expand_as(src), src, "amax")
    return largest.masked_fill((ptr.diff() == 0).unsqueeze(1), 0.0)


def _soft(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    if not transforms_functions():
        return segment_soft(src, index, ptr)
    out = (src - _amax(src.detach(), index, ptr).index_select(0, index)).exp()
    return out / _sum(out, index, ptr).index_select(0, index)


@torch.library.custom_op("geomeq::segment_total", mutates_args=())
def segment_total(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    """Segment sum of ``src`` ``[E, C]``: ``[N, C]``. Adjoint of ``segment_spread``."""
    if src.numel() == 0:
        return src.new_zeros(ptr.numel() - 1, src.size(1))
    path = choose_path(src.device, src.dtype, src.size(1))
    if path == "reference":
        return src.new_zeros(ptr.numel() - 1, src.size(1)).index_add_(0, index, src)
    rows = torch.arange(src.size(0), dtype=ptr.dtype, device=src.device)
    if path == "bag":
        return F.embedding_bag(rows, src.contiguous(), ptr, mode="sum", include_last_offset=True)
    return csr_matrix(ptr, rows, src.new_ones(src.size(0)), src.size(0)) @ src.contiguous()


@torch.library.custom_op("geomeq::segment_spread", mutates_args=())
def segment_spread(x: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    """Gives every row the value of its segment, ``[N, C]`` to ``[E, C]``. Adjoint of ``segment_total``."""
    return x.index_select(0, index)


@torch.library.custom_op("geomeq::segment_amax", mutates_args=())
def segment_amax(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    """Segment maximum of ``src`` ``[E, C]``: ``[N, C]``, zeros where a segment is empty."""
    num_segments, num_channels = ptr.numel() - 1, src.size(1)
    if src.numel() == 0:
        return src.new_zeros(num_segments, num_channels)
    if src.device.type == "cpu" and num_channels <= _NARROW:
        out = torch.segment_reduce(src.contiguous(), "max", offsets=ptr.long(), axis=0, unsafe=True)
    else:
        lowest = src.new_full((num_segments, num_channels), -math.inf)
        out = lowest.scatter_reduce_(0, index.long().unsqueeze(1).expand_as(src), src, "amax")
    return out.masked_fill_((ptr.diff() == 0).unsqueeze(1), 0.0)


@torch.library.custom_op("geomeq::segment_soft", mutates_args=())
def segment_soft(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    """Segment softmax of ``src`` ``[E, C]``, in slices: no temporary of the size of ``src`` but the result."""
    out = torch.empty_like(src, memory_format=torch.contiguous_format)
    if src.numel() == 0:
        return out
    step = src.size(0) if src.device.type != "cpu" else max(1, _SLICE // src.size(1))
    slices = [slice(start, start + step) for start in range(0, src.size(0), step)]
    largest = segment_amax(src, index, ptr)
    for s in slices:
        torch.sub(src[s], largest.index_select(0, index[s]), out=out[s]).exp_()
    total = segment_total(out, index, ptr)
    for s in slices:
        out[s].div_(total.index_select(0, index[s]))
    return out


def _per_segment(src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    return src.new_empty(ptr.size(0) - 1, src.size(1))


def _per_row(x: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    return x.new_empty(index.size(0), x.size(1))


def _keep_segments(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _keep_output(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[1:])


def _keep_all(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs, output)


def _total_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return segment_spread(grad, *ctx.saved_tensors), None, None


def _spread_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return segment_total(grad, *ctx.saved_tensors), None, None


def _amax_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    src, index, ptr, out = ctx.saved_tensors
    is_largest = (src == segment_spread(out, index, ptr)).to(grad.dtype).detach()  # piecewise constant in src
    ties = segment_total(is_largest, index, ptr)
    ties = ties + (ptr.diff() == 0).unsqueeze(1)  # an empty segment reads nothing; keep its 0 / 0 out of sight
    return is_largest * segment_spread(grad / ties, index, ptr), None, None


def _soft_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    out, index, ptr = ctx.saved_tensors
    weighted = out * grad
    return weighted - out * segment_spread(segment_total(weighted, index, ptr), index, ptr), None, None


segment_total.register_fake(_per_segment)
segment_spread.register_fake(_per_row)
segment_amax.register_fake(_per_segment)
segment_soft.register_fake(_per_row)
segment_total.register_autograd(_total_backward, setup_context=_keep_segments)
segment_spread.register_autograd(_spread_backward, setup_context=_keep_segments)
segment_amax.register_autograd(_amax_backward, setup_context=_keep_all)
segment_soft.register_autograd(_soft_backward, setup_context=_keep_output)
for _operator in (segment_total, segment_spread, segment_amax, segment_soft):
    for _device in ("cpu", "cuda"):  # autocast would cast the products inside down
        _operator.register_autocast(_device, torch.float32)

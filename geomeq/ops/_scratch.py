"""Memory that is used again from call to call: pages taken anew cost more than the arithmetic done in them."""

import math
import threading

import torch
from torch import Tensor

_LIMIT = 48 * 2**20  # bytes of one buffer; larger ones are taken anew, and given back


class _Pool(threading.local):
    """Buffers of one thread by name and dtype."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[str, torch.dtype], Tensor] = {}


_pool = _Pool()


def scratch(name: str, like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised memory, until the next call with this name in this thread.

    For the inside of an operator only: what it returns, or saves for the backward pass, must be memory of its own. On
    GPUs the allocator of torch does the same and better, so that there it is asked.

    Args:
        name: Of the use; buffers that are alive together need different names.
        like: Device, and dtype unless given.
        shape: Of the result.
        dtype: Of the result.
    """
    dtype = like.dtype if dtype is None else dtype
    numel = math.prod(shape)
    if like.device.type != "cpu" or numel * dtype.itemsize > _LIMIT:
        return torch.empty(shape, dtype=dtype, device=like.device)
    buffer = _pool.buffers.get((name, dtype))
    if buffer is None or buffer.numel() < numel:
        with torch.inference_mode(False):  # what is first used there must serve in training too
            buffer = torch.empty(numel, dtype=dtype)
        _pool.buffers[name, dtype] = buffer
    return buffer[:numel].view(shape)

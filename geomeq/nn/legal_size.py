"""Which sizes of a grid a stride leaves symmetric."""

import warnings
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import torch
from torch import nn

from geomeq.groups import PointGroup

ON_ILLEGAL = ("warn", "error", "ignore")
Window = tuple[int, int, int]


def is_legal_stride(
    size: tuple[int, int], kernel_size: int, stride: int, padding: int, point_group: str | PointGroup
) -> bool:
    """Whether the windows taken lie symmetrically on the grid, so that turns and mirrors map them onto each other.

    That is ``(Y + 2 padding - k) % stride == 0``, and the same for X, unless the group leaves that axis alone.

    Args:
        size: (Y, X).
        kernel_size: Width k of the window.
        stride: Step between windows.
        padding: On each side.
        point_group: As for :class:`GroupConv2d`.
    """
    group = PointGroup.parse(point_group)
    if group.order == 1:
        return True
    moved = size[1:] if group.n == 1 else size  # D1 mirrors x only
    return all((n + 2 * padding - kernel_size) % stride == 0 for n in moved)


def check_stride(
    size: tuple[int, int],
    kernel_size: int,
    stride: int,
    padding: int,
    point_group: str | PointGroup,
    on_illegal: str = "error",
) -> None:
    """Warns, or raises a ``ValueError``, or does nothing (``"ignore"``), unless :func:`is_legal_stride`."""
    if on_illegal == "ignore" or stride == 1 or is_legal_stride(size, kernel_size, stride, padding, point_group):
        return
    bad = next(n for n in reversed(size) if (n + 2 * padding - kernel_size) % stride)
    rest = (bad + 2 * padding - kernel_size) % stride
    message = (
        f"a grid of {size[0]} x {size[1]} with kernel_size={kernel_size}, padding={padding}, stride={stride} breaks "
        f"the symmetry of {PointGroup.parse(point_group).name}: ({bad} + 2 * {padding} - {kernel_size}) % {stride} = "
        f"{rest}, not 0; use size {bad - rest} or {bad + stride - rest}, or AntiAliasedPool2d"
    )
    if on_illegal == "error":
        raise ValueError(message)
    if not torch.compiler.is_compiling():
        warnings.warn(message, stacklevel=4)


def legal_size(n: int, layers: Iterable[nn.Module | Window] | nn.Module) -> int:
    """The smallest size, at least ``n``, at which every stride of a network keeps turns and mirrors.

    Args:
        n: Size wanted.
        layers: Layers in the order in which they run, one after the other: modules with ``kernel_size``, ``stride``
            and ``padding`` (containers are searched), or triples ``(kernel_size, stride, padding)``.
            ``AntiAliasedPool2d`` is legal at every size; what has no window (norms, activations) is passed over.

    Example:
        >>> legal_size(28, [(3, 1, 1), (3, 2, 1), (3, 2, 1)])
        29

    Raises:
        ValueError: If ``n`` or a stride is not positive, or a window is not square or moves backwards
            (a transposed convolution).
    """
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be a positive integer, got {n!r}")
    windows = list(_windows([layers] if isinstance(layers, nn.Module) else layers))
    if any(isinstance(w, tuple) and (not all(isinstance(v, int) for v in w) or min(w[:2]) < 1) for w in windows):
        raise ValueError(f"kernel sizes and strides must be positive integers, got {windows}")
    # There always is one: any last size has a size before each window that leads to it.
    return next(size for size in count(n) if _legal(size, windows))


def _legal(size: int, windows: list[nn.Module | Window]) -> bool:
    for window in windows:
        if isinstance(window, tuple):
            kernel, stride, padding = window
            if size + 2 * padding < kernel or (size + 2 * padding - kernel) % stride:
                return False
            size = (size + 2 * padding - kernel) // stride + 1
        else:
            size = -(-size // window.stride)  # type: ignore[operator, assignment]
    return True


def _windows(layers: Iterable[nn.Module | Window]) -> Iterator[nn.Module | Window]:
    for layer in layers:
        if not isinstance(layer, nn.Module):
            yield layer
            continue
        for module in layer.modules():
            if getattr(module, "any_size", False):
                yield module
            elif hasattr(module, "kernel_size") and hasattr(module, "stride"):
                yield _window_of(module)


def _window_of(module: Any) -> Window:
    """Width (of a dilated window: all of it), step and padding of a layer, also of torch's own."""
    kernel, dilation = _one(module, "kernel_size"), _one(module, "dilation") if hasattr(module, "dilation") else 1
    stride = _one(module, "stride") if module.stride else kernel
    if getattr(module, "transposed", False) or getattr(module, "ceil_mode", False):
        raise ValueError(f"legal_size does not know the sizes of {module}; give the layers before and after it apart")
    kernel = dilation * (kernel - 1) + 1
    padding = getattr(module, "padding", 0)
    if isinstance(padding, str):  # "same", which torch allows with stride 1 only, or "valid"
        return (1, 1, 0) if padding == "same" else (kernel, stride, 0)
    return kernel, stride, _one(module, "padding") if padding else 0


def _one(module: Any, name: str) -> int:
    """One number where torch's own modules hold two."""
    value = getattr(module, name)
    numbers = {value} if isinstance(value, int) else set(value)
    if len(numbers) > 1:
        raise ValueError(f"windows must be square to keep turns, got {name}={value} of {module}")
    return int(numbers.pop())

"""Input checks shared by the whole package. Imports only torch."""

import torch
from torch import Tensor


def check_shape(name: str, tensor: Tensor, *shape: int | str | None, hint: str = "") -> None:
    """Raises unless ``tensor`` has the given shape.

    Args:
        name: How the caller's user knows the tensor.
        tensor: The tensor to check.
        shape: One entry per axis: an ``int`` must match, a ``str`` or ``None`` matches any size
            (the string only names the axis in the message). A leading ``...`` string accepts any
            number of leading axes.
        hint: What to do about it, appended to the message.

    Raises:
        TypeError: If ``tensor`` is not a tensor.
        ValueError: If the shape differs.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    wanted = shape[1:] if shape and shape[0] == "..." else shape
    got = tuple(tensor.shape)
    if wanted is not shape:
        got = got[len(got) - len(wanted) :] if len(got) >= len(wanted) else got
    if len(got) != len(wanted) or any(isinstance(w, int) and w != g for w, g in zip(wanted, got, strict=True)):
        pretty = ", ".join("?" if s is None else str(s) for s in shape)
        message = f"{name} must have shape [{pretty}], got {list(tensor.shape)}"
        raise ValueError(f"{message}; {hint}" if hint else message)


def check_edge_index(edge_index: Tensor, num_sources: int | None = None, num_targets: int | None = None) -> None:
    """Raises unless ``edge_index`` is an integer tensor ``[2, E]`` (with indices in range, if sizes are given)."""
    check_shape("edge_index", edge_index, 2, "E")
    if edge_index.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"edge_index must hold integers (torch.long), got {edge_index.dtype}")
    if edge_index.size(1) == 0 or torch.compiler.is_compiling():  # a compiled graph cannot branch on values
        return
    for row, size, what in ((0, num_sources, "source"), (1, num_targets, "target")):
        if size is not None:
            low, high = int(edge_index[row].min()), int(edge_index[row].max())
            if low < 0 or high >= size:
                raise ValueError(
                    f"edge_index names {what} nodes {low}..{high}, but there are only {size} nodes (0..{size - 1})"
                )


def check_finite(name: str, tensor: Tensor, hint: str = "") -> None:
    """Raises if ``tensor`` holds NaN or infinity, naming the first bad row."""
    if torch.compiler.is_compiling():  # a compiled graph cannot branch on values
        return
    bad = ~torch.isfinite(tensor)
    if bool(bad.any()):
        row = int(bad.reshape(bad.size(0), -1).any(dim=1).nonzero()[0]) if tensor.dim() > 0 else 0
        message = (
            f"{name} must be finite, but row {row} holds {tensor[row].tolist() if tensor.dim() else tensor.item()}"
        )
        raise ValueError(f"{message}; {hint}" if hint else message)

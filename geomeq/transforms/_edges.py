"""What the transforms that write edges share: input checks, and replacing old edges."""

import math
from typing import Any

from torch import Tensor
from torch_geometric.data import Data

from ..neighbors import tie_tolerance
from ..neighbors._write_edges import EDGE_LEVEL, graph_of_nodes, reject_coincident, write_edges

__all__ = [
    "EDGE_LEVEL",
    "graph_of_nodes",
    "reject_coincident",
    "require_data",
    "require_pos",
    "store_area",
    "write_edges",
]


def require_data(data: Any, transform: str) -> None:
    """Raises unless ``data`` is a homogeneous ``Data`` or ``Batch``."""
    if not isinstance(data, Data):
        raise TypeError(f"{transform} needs a torch_geometric Data or Batch, got {type(data).__name__}")


def require_pos(data: Data, transform: str) -> Tensor:
    """The positions ``[N, d]`` of ``data``.

    Raises:
        ValueError: If there are none, or their number differs from ``data.num_nodes``.
        TypeError: If they are not floating-point numbers.
    """
    pos = data.pos
    if pos is None:
        raise ValueError(f"{transform} reads pos, but the data has only {sorted(data.keys())}; set data.pos = [N, d]")
    if not isinstance(pos, Tensor) or pos.dim() != 2:
        got = list(pos.shape) if isinstance(pos, Tensor) else type(pos).__name__
        raise ValueError(f"pos must be a tensor of shape [N, d], got {got}")
    tie_tolerance(pos.dtype)
    return pos


def store_area(area: Tensor, pos: Tensor) -> Tensor:
    """Areas ``[N]`` in the dtype and on the device of ``pos``.

    Raises:
        ValueError: If they are too large or too small for that dtype: layers that weigh by them would give NaN.
    """
    stored, total = area.to(pos), float(area.sum())
    kept = float(stored.sum())
    if math.isfinite(total) and (not math.isfinite(kept) or (total > 0 and kept == 0)):
        raise ValueError(
            f"the areas of the nodes sum to {total:.3g} (the unit of pos, squared), which {stored.dtype} cannot hold; "
            "scale pos to another unit, or use .double()"
        )
    return stored

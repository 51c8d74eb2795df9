"""A fixed operator inside a module."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from geomeq.groups._lasting import lasting
from geomeq.ops import SparseOperator


class OperatorHolder(nn.Module):
    """Holds a :class:`SparseOperator` so that ``.to(device)`` of the model moves it.

    It is geometry, not a parameter: it is not in the ``state_dict``, and a cast of the model leaves the original as
    precise as it was given; each precision that is asked for is cast once.

    Args:
        operator: What to hold.

    Example:
        >>> holder = OperatorHolder(SparseOperator.from_edges(torch.tensor([[0], [1]]), torch.ones(1).double(), 2))
        >>> holder.float().like(torch.zeros(2)).dtype, holder.operator.dtype
        (torch.float32, torch.float64)
    """

    def __init__(self, operator: SparseOperator) -> None:
        super().__init__()
        if not isinstance(operator, SparseOperator):
            raise TypeError(f"operator must be a SparseOperator, got {type(operator).__name__}")
        self.operator = operator
        self._cast: dict[torch.dtype, SparseOperator] = {}

    def like(self, x: Tensor) -> SparseOperator:
        """The operator in the precision of ``x``; float32 for half precision."""
        dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        if dtype == self.operator.dtype:
            return self.operator
        if torch.compiler.is_compiling():
            return self.operator.to(dtype=dtype)
        if dtype not in self._cast:
            with torch.inference_mode(False):  # it serves training later
                self._cast[dtype] = lasting(self.operator.to)(dtype=dtype)
        return self._cast[dtype]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.operator = self.operator.to(fn(self.operator.ptr.new_zeros(0)).device)  # its own dtype stays
        self._cast = {}
        return self

    def extra_repr(self) -> str:
        """Of the operator."""
        return f"size={self.operator.size}, entries={self.operator.num_entries}"

"""Keeps the operator that was built from a graph, for as long as the same graph comes back unchanged."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geomeq.groups._lasting import lasting
from geomeq.ops import SparseOperator


class OperatorCache:
    """One operator, remembered by the identity and the version of the tensors it was built from.

    Identity, not content: comparing 100,000 edges in every call would cost as much as some layers. A tensor that was
    written into has a new version and counts as another. A copy or a pickle of the cache is empty.
    """

    def __init__(self) -> None:
        self._key: tuple[tuple[Any, int], ...] | None = None
        self._operator: SparseOperator | None = None

    def get(self, sources: tuple[Any, ...], build: Callable[[], SparseOperator]) -> SparseOperator:
        """The operator of these ``sources`` (tensors, sparse matrices or ``None``)."""
        if torch.compiler.is_compiling() or not all(map(_can_be_watched, sources)):
            return build()
        if self._operator is None or self._key is None or not all(map(_same, self._key, sources)):
            self._operator = lasting(build)()
            self._key = tuple((None if s is None else weakref.ref(s), _version(s)) for s in sources)
        return self._operator

    def __deepcopy__(self, memo: dict[int, Any]) -> "OperatorCache":
        return OperatorCache()

    def __reduce__(self) -> tuple[type["OperatorCache"], tuple[()]]:
        return OperatorCache, ()


def _can_be_watched(source: Any) -> bool:
    """Learned weights change from call to call; sparse matrices and inference tensors do not count their writes."""
    if source is None:
        return True
    if not isinstance(source, Tensor) or source.layout != torch.strided:
        return False
    return not source.requires_grad and not source.is_inference()


def _version(source: Tensor | None) -> int:
    return 0 if source is None else source._version


def _same(entry: tuple[Any, int], source: Tensor | None) -> bool:
    reference, version = entry
    if reference is None or source is None:
        return reference is None and source is None
    return reference() is source and version == source._version

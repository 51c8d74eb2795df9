"""Pickled graphs read without running what the pickle says.

A pickle is a program: unpickled blindly, a file of somebody else's runs what it likes. The reader here knows tensors,
arrays, numbers, containers and the graph class of PyG in its old form (attributes in ``__dict__``) and new one (in a
storage), and refuses every other name. Graphs come back as plain dicts; no method of PyG is called.
"""

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_GRAPHS = {
    ("torch_geometric.data.data", name) for name in ("Data", "DataEdgeAttr", "DataTensorAttr", "TensorAttr", "EdgeAttr")
} | {
    ("torch_geometric.data.storage", name) for name in ("BaseStorage", "NodeStorage", "EdgeStorage", "GlobalStorage")
}  # fmt: skip
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")


def load_graph(content: bytes) -> dict[str, Any]:
    """The attributes of one pickled graph.

    Args:
        content: A pickle of a PyG ``Data``, or of a dict.

    Raises:
        ValueError: If the pickle is damaged, asks for anything but data, or holds no graph.
    """
    try:
        found = _attributes(load_plain(content))
    except RecursionError:
        raise ValueError("damaged pickle: it holds itself") from None
    if not isinstance(found, dict):
        raise ValueError(f"expected a pickled graph, got {type(found).__name__}")
    return found


def load_plain(content: bytes) -> Any:
    """What a pickle of tensors, arrays, numbers, containers and PyG graphs holds.

    Raises:
        ValueError: If the pickle is damaged, or asks for anything but data.
    """
    try:
        return _real(_Reader(io.BytesIO(content)).load())
    except _RefusedError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # a damaged pickle raises whatever its wrong bytes lead to
        raise ValueError(f"damaged pickle ({type(error).__name__}: {error})") from error


class _RefusedError(Exception):
    """The pickle asks for something that is not data."""


class _Reader(pickle.Unpickler):
    """Finds only what is in its table. The table is made anew for each pickle, which can therefore change nothing."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known = _table()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise _RefusedError(
                f"refused to unpickle: the file asks for {module}.{name}, which is not data and could run anything. "
                "Only tensors, numpy arrays, numbers and PyG graphs are read; write the file anew with those, or "
                "convert it to extxyz in an environment that you would trust with it"
            )
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("refused to unpickle: the file refers to objects outside of itself")


def _table() -> dict[tuple[str, str], Any]:
    class Graph:
        """Whatever class the pickle names, only its state is kept."""

        def __setstate__(self, state: Any) -> None:
            self.__dict__["state"] = state

    def tensor(storage: Any, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
        if not isinstance(storage, Tensor):
            raise _RefusedError("refused to unpickle: a tensor without a storage")
        reach = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else -1
        short = reach >= storage.numel() or math.prod(size) > storage.numel()
        if min((offset, *size, *stride), default=0) < 0 or short:
            raise _RefusedError(f"refused to unpickle: a tensor of size {list(size)} reaches beyond its storage")
        return torch.as_strided(storage, tuple(size), tuple(stride), offset).clone()

    def storage(content: bytes) -> Tensor:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        if isinstance(found, torch.storage.TypedStorage):
            return torch.empty(0, dtype=found.dtype).set_(found)  # type: ignore[call-overload]
        raise _RefusedError(f"refused to unpickle: a storage that is a {type(found).__name__}")

    def frombuffer(buffer: Any, dtype: _DType, shape: tuple, order: str) -> np.ndarray:
        return _native(np.frombuffer(buffer, dtype=dtype.real()).reshape(shape, order=order))  # type: ignore[call-overload]

    def scalar(dtype: _DType, content: bytes) -> Any:
        return _native(np.frombuffer(content, dtype=dtype.real()))[0]

    def encode(text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise _RefusedError(f"refused to unpickle: bytes in the encoding {encoding!r}")
        return text.encode("latin1")

    def ordered(*items: Any) -> dict:
        return dict(*items)

    table: dict[tuple[str, str], Any] = dict.fromkeys(_GRAPHS, Graph)
    tensors: dict[str, Callable] = {"_rebuild_tensor_v2": tensor, "_rebuild_tensor": tensor}
    table |= {("torch._utils", name): maker for name, maker in tensors.items()}
    table |= {("torch.storage", "_load_from_bytes"): storage, ("torch", "Size"): tuple}
    table |= {(module, "_reconstruct"): _Array for module in _NUMPY}
    table |= {(module, "scalar"): scalar for module in _NUMPY}
    table |= {(f"{module.rsplit('.', 1)[0]}.numeric", "_frombuffer"): frombuffer for module in _NUMPY}
    table |= {("numpy", "ndarray"): _Array, ("numpy", "dtype"): _DType, ("_codecs", "encode"): encode}
    table |= {("collections", "OrderedDict"): ordered}
    return table


class _DType:
    """A type of numbers. numpy's own would believe any state that the pickle gives it."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]
        if any(part is not None for part in state[2:5]):
            raise _RefusedError("refused to unpickle: an array of records, which is no array of numbers")

    def real(self) -> np.dtype:
        dtype = np.dtype(str(self.code))
        if dtype.kind not in "biufcSU":
            raise _RefusedError(f"refused to unpickle: an array of {dtype}, which is no array of numbers")
        return dtype.newbyteorder(">") if self.order == ">" else dtype


def _native(array: np.ndarray) -> np.ndarray:
    """The same numbers in the order of bytes of this machine, the only one that torch reads."""
    return array.astype(array.dtype.newbyteorder("="))


class _Array:
    """An array whose numbers follow as its state."""

    value: np.ndarray | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_columns, content = state
        flat = np.frombuffer(content, dtype=dtype.real())
        self.value = _native(flat.reshape(shape, order="F" if by_columns else "C"))


def _real(found: Any) -> Any:
    """Arrays in place of what stood for them, inside of containers too."""
    if isinstance(found, _Array):
        return found.value
    if isinstance(found, dict):
        return {key: _real(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return type(found)(_real(value) for value in found)
    return found


def _attributes(found: Any) -> Any:
    """The attributes of a graph in either form, without those that are ``None``."""
    state: Any = found
    if not isinstance(found, dict):
        state = getattr(found, "state", None)
        if isinstance(state, tuple):
            state = state[0]
        if not isinstance(state, dict):
            return found
    if "_store" in state:  # the form since PyG 2.0: one storage with a mapping
        inner = getattr(state["_store"], "state", None)
        if not isinstance(inner, dict) or not isinstance(inner.get("_mapping"), dict):
            raise ValueError("a pickled PyG graph without its mapping of attributes")
        state = inner["_mapping"]
    named = {str(name): value for name, value in _real(state).items() if value is not None}
    return {name: value for name, value in named.items() if not name.startswith("_")}

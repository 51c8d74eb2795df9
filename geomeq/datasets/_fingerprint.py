"""A short name for whatever determines the content of a processed file."""

import functools
import hashlib
import re
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def fingerprint(*objects: Any) -> str:
    """Names a combination of settings and transforms with 12 hexadecimal digits.

    Equal settings give equal names in every process, on every machine. Unlike the ``repr`` that PyG
    compares, two lambdas with different bodies get different names, and so do two transforms whose
    ``repr`` hides an argument: the attributes of an object are part of its name, arrays and tensors
    enter by content, functions by their compiled code, defaults and closure. What a function reads from
    its module does not enter: change such a constant and ``force_reload`` is yours to give.

    Args:
        objects: Anything: numbers, strings, containers, tensors, functions, transforms.

    Returns:
        12 hexadecimal digits of a sha256.

    Example:
        >>> fingerprint(1, "a") == fingerprint(1, "a"), fingerprint(1) == fingerprint(2)
        (True, False)
    """
    digest = hashlib.sha256()
    for item in objects:
        digest.update(_describe(item, frozenset()).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def _describe(item: Any, seen: frozenset[int]) -> str:
    """One line that says what ``item`` is, free of memory addresses."""
    if item is None or isinstance(item, bool | int | float | complex | str | bytes):
        return f"{type(item).__name__}:{item!r}"
    if id(item) in seen:  # an object that holds itself has been described already
        return "<again>"
    seen = seen | {id(item)}
    if isinstance(item, Tensor | np.ndarray | np.generic):
        return _describe_array(item)
    if isinstance(item, type | types.BuiltinFunctionType | types.ModuleType):
        return f"{getattr(item, '__module__', '')}.{getattr(item, '__qualname__', item.__name__)}"
    if isinstance(item, types.FunctionType):
        return _describe_function(item, seen)
    if isinstance(item, types.MethodType):
        return f"method({_describe(item.__func__, seen)},{_describe(item.__self__, seen)})"
    if isinstance(item, types.CodeType):
        return _describe_code(item, seen)
    if isinstance(item, functools.partial):
        return f"partial({_describe([item.func, item.args, item.keywords], seen)})"
    if isinstance(item, Mapping):
        pairs = sorted((_describe(k, seen), _describe(v, seen)) for k, v in item.items())
        return f"{type(item).__name__}{{{pairs}}}"
    if isinstance(item, list | tuple):
        return f"{type(item).__name__}[{','.join(_describe(part, seen) for part in item)}]"
    if isinstance(item, set | frozenset):
        return f"set{sorted(_describe(part, seen) for part in item)}"
    return _describe_object(item, seen)


def _describe_array(item: Tensor | np.ndarray | np.generic) -> str:
    array = np.ascontiguousarray(item.detach().cpu().numpy() if isinstance(item, Tensor) else item)
    return f"array({array.dtype},{array.shape},{hashlib.sha256(array.tobytes()).hexdigest()})"


def _describe_function(item: types.FunctionType, seen: frozenset[int]) -> str:
    held = [_held(cell) for cell in item.__closure__ or ()]
    parts = [item.__code__, item.__defaults__, item.__kwdefaults__, held]
    return f"{item.__module__}.{item.__qualname__}({_describe(parts, seen)})"


def _held(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return None


def _describe_code(item: types.CodeType, seen: frozenset[int]) -> str:
    code = hashlib.sha256(item.co_code).hexdigest()
    return f"code({code},{item.co_names},{item.co_varnames},{_describe(item.co_consts, seen)})"


def _describe_object(item: Any, seen: frozenset[int]) -> str:
    kind = f"{type(item).__module__}.{type(item).__qualname__}"
    state = vars(item) if hasattr(item, "__dict__") else {}
    return f"{kind}({_ADDRESS.sub('', repr(item))},{_describe(dict(state), seen)})"

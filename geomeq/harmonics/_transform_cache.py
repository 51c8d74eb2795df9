"""Transforms are made once for each sampling, degree and spin, and shared by all that use them."""

from collections import deque
from collections.abc import Callable
from threading import RLock
from typing import Protocol, TypeVar, cast
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from geomeq.groups._lasting import lasting
from geomeq.spheres import Sampling

Key = tuple[str, int, int]


class SphereTransform(Protocol):
    r"""The two linear maps between fields and coefficients: synthesis S and weighted analysis :math:`S^T W`.

    Fields are ``[B, N, C]``, coefficients ``[B, (lmax + 1)^2, C]``; with a spin ``C`` is channels times two, the real
    and the imaginary part.
    """

    entries: int  #: numbers in its tables
    kept: dict[tuple[str, torch.dtype, torch.device], list[Tensor]]  #: what :meth:`make` has made

    def analyse(self, x: Tensor, weighted: bool = True) -> Tensor:
        """The integral of the field with each harmonic by the weights of the sampling, or the bare sum over nodes."""

    def weigh(self, x: Tensor) -> Tensor:
        """The field times the weights."""

    def synthesise(self, c: Tensor) -> Tensor:
        """The field of coefficients at the nodes."""

    def make(self, name: str, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """Tensors of a name: tables, indices, weights."""


_alive: "WeakValueDictionary[Key, SphereTransform]" = WeakValueDictionary()
_recent: "deque[SphereTransform]" = deque(maxlen=4)  # functions that need a transform for one call find it again
_making = RLock()

T = TypeVar("T", bound=SphereTransform)


def shared_transform(build: Callable[[Sampling, int, int], T], s: Sampling, lmax: int, spin: int) -> T:
    """The transform of a sampling: the same object as long as anybody holds it."""
    key = s.key, lmax, spin
    with _making:  # threads that ask at once get one object: of two, that of the key would die with its holder
        transform = cast(T | None, _alive.get(key))
        if transform is None:
            transform = lasting(build)(s, lmax, spin)
            _alive[key] = transform
        if transform.entries < 1 << 24 and not any(transform is one for one in _recent):
            _recent.append(transform)
    return transform


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def kept_tensors(key: Key, name: str, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Tensors of a living transform, made once for each precision and device; to a compiler, constants."""
    transform = _alive[key]
    kept = transform.kept
    if (name, dtype, device) not in kept:
        kept[name, dtype, device] = lasting(transform.make)(name, dtype, device)
    return kept[name, dtype, device]

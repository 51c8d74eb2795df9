"""Filters on a disc of the sphere: functions of the distance from its centre and of the azimuth there."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_shape
from ..groups._lasting import lasting

KernelShape = int | tuple[int, ...]


class FilterBasis(ABC):
    r"""Functions :math:`\psi_k(r, a)` on the disc :math:`r \le` ``cutoff``, zero outside; ``K`` of them.

    A convolution learns a linear combination of them. They are functions, not taps: they can be evaluated anywhere,
    which is what makes a convolution work on any sampling. Call :func:`filter_basis` to make one by name.

    Args:
        kernel_shape: How many functions, see the subclass; one number or two.
        cutoff: Radius of the disc, radians.

    Attributes:
        name: Of the basis.
        kernel_shape: As completed from the argument.
        cutoff: Radius of the disc, radians.

    Raises:
        ValueError: If ``kernel_shape`` or ``cutoff`` makes no sense.
    """

    name: str

    def __init__(self, kernel_shape: KernelShape | Sequence[int], cutoff: float) -> None:
        if not 0 < cutoff < math.inf:
            raise ValueError(f"cutoff is the radius of the filters in radians, more than 0, got {cutoff}")
        given = tuple(kernel_shape) if isinstance(kernel_shape, Sequence) else (kernel_shape,)
        if not given or not all(isinstance(n, int) and not isinstance(n, bool) for n in given):
            raise ValueError(f"kernel_shape must be an integer or a tuple of integers, got {kernel_shape!r}")
        self.kernel_shape = self._complete(given)
        self.cutoff = float(cutoff)

    def _complete(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """The shape with what was left out; a single number stands for ``(n, 1)``."""
        return self._two(given, missing=1)

    def _two(self, given: tuple[int, ...], missing: int) -> tuple[int, ...]:
        shape = (*given, missing) if len(given) == 1 else given
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"kernel_shape of {self.name} must be one or two integers of at least 1, got {given}")
        return shape

    @property
    @abstractmethod
    def isotropic(self) -> Tensor:
        """Which functions do not depend on the azimuth, bool ``[K]``."""

    @property
    def size(self) -> int:
        """``K``."""
        return len(self.isotropic)

    def __call__(self, r: Tensor, angle: Tensor) -> Tensor:
        """The values.

        Args:
            r: Distance from the centre, radians, not negative, ``[...]``.
            angle: Azimuth, radians, any multiple of a turn, ``[...]``.

        Returns:
            ``[..., K]``, in the dtype of ``r``.

        Raises:
            TypeError: If ``r`` holds no floating-point numbers.
            ValueError: If the shapes differ.
        """
        check_shape("angle", angle, *r.shape)
        if not r.dtype.is_floating_point:
            raise TypeError(f"r must be floating point, got {r.dtype}; call .double() on it")
        values = self._values(r, _positive(angle))
        return torch.where((r <= self.cutoff)[..., None], values, 0.0)

    @abstractmethod
    def _values(self, r: Tensor, angle: Tensor) -> Tensor:
        """The values inside the disc, ``[..., K]``, for angles in [0, 2 pi)."""

    def support(self, r: Tensor, angle: Tensor) -> Tensor:
        """Where each function is not zero by construction, bool ``[..., K]``; by default on the whole disc."""
        return (r <= self.cutoff)[..., None].expand(*r.shape, self.size)

    def __repr__(self) -> str:
        shape = self.kernel_shape[0] if len(self.kernel_shape) == 1 else self.kernel_shape
        return f"{type(self).__name__}(kernel_shape={shape}, cutoff={self.cutoff:.6g})"


def _positive(angle: Tensor) -> Tensor:
    return angle - 2 * math.pi * torch.floor(angle / (2 * math.pi))


def filter_basis(name: str, kernel_shape: KernelShape | Sequence[int], cutoff: float) -> FilterBasis:
    """A basis of filters by its name.

    ==================== ============== ====================== =====================================================
    name                 kernel_shape   functions K            what they are
    ==================== ============== ====================== =====================================================
    ``hann``             (n_r, n_a)     (n_r//2) n_a + n_r%2   cosine bumps on rings times angular harmonics
    ``hann2``            (n_r, n_a)     (n_r//2) n_a + n_r%2   the same with squared, smoother bumps
    ``steerable``        (n_r, n_m)     n_r (2 n_m - 1)        cosine bumps times r^m times cos(m a), sin(m a)
    ``piecewise_linear`` (n_r, n_a)     (n_r//2) n_a + n_r%2   hats on rings times hats in the azimuth
    ``harmonic``         (m, n)         m n                    sines and cosines in x and y under a Hann window
    ``morlet``           (m, n)         m n                    the same, not normalised
    ``zernike``          n              n (n + 1) / 2          Zernike polynomials of degree below n
    ``fourier_bessel``   (n_r, m_max)   see the class          eigenfunctions of the Laplacian of the disc
    ==================== ============== ====================== =====================================================

    Args:
        name: From the first column.
        kernel_shape: From the second.
        cutoff: Radius of the disc, radians.

    Raises:
        ValueError: If there is no such basis or an argument makes no sense.

    Example:
        >>> filter_basis("hann", (3, 3), cutoff=0.2).size
        4
    """
    from ._disc_bases import FILTER_BASES

    if name not in FILTER_BASES:
        raise ValueError(f"basis must be one of {', '.join(FILTER_BASES)}, got {name!r}")
    return lasting(FILTER_BASES[name])(kernel_shape, cutoff)

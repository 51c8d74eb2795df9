r"""Spherical harmonic transforms of scalar and spin fields on every sampling of the sphere."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from geomeq._checks import check_finite, check_shape
from geomeq.spheres import Sampling

from ._adjoint import synthesise
from ._dense_transform import DenseTransform
from ._iterate import conjugate_gradients, jacobi
from ._ring_transform import RingTransform
from ._transform_cache import shared_transform

_METHODS = ("auto", "quadrature", "jacobi", "cg", "least_squares")
_ITERATIONS = {"jacobi": 3, "cg": 20}
_NEARLY_EXACT = ("healpix", "reduced_gauss_legendre")  # three turns bring digits; on the rows of an image they do not


def largest_lmax(s: Sampling) -> int:
    r"""The highest degree for which :class:`SHT` takes a sampling by default.

    - Rings with exact weights: half their ``exact_degree``, since analysis integrates products of two harmonics.
    - HEALPix: ``3 nside - 1``; reduced Gauss grids: one less than there are rings. Both iterate.
    - Others: as many coefficients as nodes, :math:`\lfloor \sqrt N \rfloor - 1`.
    """
    if s.rings is None:
        return math.isqrt(s.num_nodes) - 1
    if s.nside is not None:
        return max(3 * s.nside - 1, (s.exact_degree or 0) // 2)
    if s.exact_degree is not None:
        return s.exact_degree // 2
    return min(len(s.rings.count), math.isqrt(s.num_nodes)) - 1


class _Transform(nn.Module):
    """What both directions share: the sampling, the degree, the spin and the tables."""

    def __init__(self, s: Sampling, lmax: int, spin: int = 0) -> None:
        super().__init__()
        if not isinstance(s, Sampling):
            raise TypeError(f"s must be a geomeq.spheres.Sampling, got {type(s).__name__}")
        for name, value in (("lmax", lmax), ("spin", spin)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, got {value!r}")
        if lmax < 0:
            raise ValueError(f"lmax must be at least 0, got {lmax}")
        if abs(spin) > lmax:
            raise ValueError(f"fields of spin {spin} have no degree below {abs(spin)}, got lmax={lmax}")
        self.s, self.lmax, self.spin = s, lmax, spin
        self.transform: RingTransform | DenseTransform
        if s.rings is None:
            self.transform = shared_transform(DenseTransform, s, lmax, spin)
        else:
            self.transform = shared_transform(RingTransform, s, lmax, spin)

    def extra_repr(self) -> str:
        """Sampling, degree and spin."""
        spin = f", spin={self.spin}" if self.spin else ""
        return f"{self.s!r}, lmax={self.lmax}{spin}"


class SHT(_Transform):
    r"""From a field on the sphere to its coefficients, :math:`c_{lm} = \int f(x) \, \overline{{}_sY_{lm}(x)} \, dx`.

    .. math::
        Y_{lm}(\theta, \phi) = N_{lm} P_l^{|m|}(\cos\theta) \cdot \begin{cases} \sqrt 2 \cos m\phi & m > 0 \\ 1 & m = 0
        \\ \sqrt 2 \sin |m|\phi & m < 0 \end{cases}

    real and orthonormal, without the sign :math:`(-1)^m`. A field of spin s is complex; it turns by
    :math:`e^{-is\psi}` when its frames turn by :math:`\psi` from south to east (a tangent vector
    :math:`v_\theta + i v_\phi` has spin 1). Its harmonics belong to the same real basis, and its coefficients are
    complex: the real part is the gradient-like (E) and the imaginary part the curl-like (B) part. Coefficients of any
    spin turn under rotations by the same real matrices (:func:`rotate`).

    On rings the transform is an FFT of each and one matrix for each order, of one hemisphere. The matrices are kept,
    in the precision of the field, and shared by all transforms of one sampling, degree and spin.

    - ``"quadrature"``: one weighted sum. Exact if the weights integrate polynomials of degree ``2 lmax``.
    - ``"jacobi"``: the same again of what is left, ``iterations`` times.
    - ``"cg"``: least squares by conjugate gradients.
    - ``"least_squares"``: least squares by a matrix, for points without rings.
    - ``"auto"``: quadrature where it is exact, Jacobi on HEALPix (to ``2 nside``) and reduced Gauss grids, conjugate
      gradients on other rings (the rows of an image) and for higher degrees on HEALPix, a matrix where there are no
      rings. It refuses degrees above :func:`largest_lmax`; the others alias without a word.

    Linear, and differentiable to any order. Half precision is computed in float32.

    Args:
        s: The sampling.
        lmax: Highest degree, included.
        spin: s.
        method: See above.
        iterations: Of ``"jacobi"`` (default 3) or ``"cg"`` (default 20).

    Raises:
        ValueError: If the sampling cannot hold so high a degree; the message names the largest.

    Example:
        >>> from geomeq import spheres
        >>> s = spheres.gauss_legendre(9, 17)
        >>> sht, back = SHT(s, lmax=8), InverseSHT(s, lmax=8)
        >>> c = torch.randn(81, 3)
        >>> torch.allclose(sht(back(c)), c, atol=1e-5)
        True

    Source: the recursion and the folding of hemispheres are in Schaeffer (2013), https://doi.org/10.1002/ggge.20071.
    """

    def __init__(
        self,
        s: Sampling,
        lmax: int,
        spin: int = 0,
        method: Literal["auto", "quadrature", "jacobi", "cg", "least_squares"] = "auto",
        iterations: int | None = None,
    ) -> None:
        super().__init__(s, lmax, spin)
        if method not in _METHODS:
            raise ValueError(f"method must be one of {_METHODS}, got {method!r}")
        self.method = self._chosen() if method == "auto" else method
        if self.method == "least_squares":
            if not isinstance(self.transform, DenseTransform):
                raise ValueError("method='least_squares' is for points without rings; on rings take method='cg'")
            self.transform.check_solvable()
        if iterations is not None and self.method not in _ITERATIONS:
            raise ValueError(f"method={self.method!r} does not iterate, got iterations={iterations}")
        if iterations is not None and (not isinstance(iterations, int) or iterations < 0):
            raise ValueError(f"iterations must be an integer of at least 0, got {iterations!r}")
        self.iterations = _ITERATIONS.get(self.method, 0) if iterations is None else iterations

    def _chosen(self) -> str:
        s = self.s
        if s.rings is None:
            return "least_squares"
        most = largest_lmax(s)
        if self.lmax > most:
            why = f"(its weights are exact to degree {s.exact_degree})" if s.exact_degree is not None else ""
            raise ValueError(
                f"the largest lmax of {s!r} is {most} {why}, got {self.lmax}; take more nodes, or choose a method "
                "yourself and expect aliasing"
            )
        if s.exact_degree is not None and s.exact_degree >= 2 * self.lmax:
            return "quadrature"
        nearly = s.kind in _NEARLY_EXACT and (s.nside is None or self.lmax <= 2 * s.nside)
        return "jacobi" if nearly else "cg"

    def forward(self, x: Tensor) -> Tensor:
        r"""Coefficients of a field.

        Args:
            x: ``[N]``, ``[N, C]`` or ``[B, N, C]``; with a spin a last axis of 2 more, real and imaginary part.

        Returns:
            ``(lmax + 1)^2`` in place of N. Place :math:`l^2 + l + m`; degrees below the spin are 0.

        Raises:
            TypeError: If the field holds no floating-point numbers.
            ValueError: If it has another shape, or holds NaN or infinity.
        """
        field = _as_batch("x", x, self.s.num_nodes, self.spin)
        if field.numel() == 0:
            return _like(_nothing(field, (self.lmax + 1) ** 2), x, self.spin)
        with torch.autocast(x.device.type, enabled=False):
            c = self._coefficients(field)
        if _may_look(c) and not bool(torch.isfinite(c[:, 0]).all()):  # one bad node spoils every coefficient
            check_finite("x", field.transpose(0, 1), hint="fill gaps: with 0, if their nodes have zero area")
        return _like(c, x, self.spin)

    def _coefficients(self, x: Tensor) -> Tensor:
        if self.method == "least_squares":
            assert isinstance(self.transform, DenseTransform)
            return self.transform.invert(x)
        if self.method == "cg":
            return conjugate_gradients(self.transform, x, self.iterations, self.spin)
        return jacobi(self.transform, x, self.iterations)

    def extra_repr(self) -> str:
        """Sampling, degree, spin and method."""
        return f"{super().extra_repr()}, method={self.method!r}"


class InverseSHT(_Transform):
    r"""From coefficients to the field, :math:`f(x) = \sum_{lm} c_{lm} \, {}_sY_{lm}(x)`.

    Exact on every sampling and for every degree: a sum, evaluated. (Whether :class:`SHT` finds the coefficients again
    is a matter of the sampling.) On points without rings it is one matrix, made anew a few points at a time if it is
    large.

    Args:
        s: The sampling.
        lmax: Highest degree, included.
        spin: Of the field.

    Example:
        >>> from geomeq import spheres
        >>> c = torch.zeros(4)
        >>> c[2] = (4 * math.pi / 3) ** 0.5
        >>> s = spheres.fibonacci(50)
        >>> torch.allclose(InverseSHT(s, lmax=1)(c), s.pos[:, 2].float())
        True
    """

    def forward(self, c: Tensor) -> Tensor:
        """Field of coefficients.

        Args:
            c: ``[(lmax + 1)^2]``, ``[(lmax + 1)^2, C]`` or ``[B, (lmax + 1)^2, C]``; with a spin a last axis of 2 more.
                Degrees below the spin are not read.

        Returns:
            N in place of ``(lmax + 1)^2``.

        Raises:
            TypeError: If there are no floating-point numbers.
            ValueError: If the shape is another, or something is NaN or infinite.
        """
        count = (self.lmax + 1) ** 2
        coefficients = _as_batch("c", c, count, self.spin)
        if coefficients.numel() == 0:
            return _like(_nothing(coefficients, self.s.num_nodes), c, self.spin)
        with torch.autocast(c.device.type, enabled=False):
            x = synthesise(self.transform, coefficients)
        if _may_look(x) and not bool(torch.isfinite(x[:, 0]).all()):
            check_finite("c", coefficients.transpose(0, 1))
        return _like(x, c, self.spin)


def _as_batch(name: str, x: Tensor, count: int, spin: int) -> Tensor:
    """``[B, count, C]`` in at least float32, with parts of complex numbers as channels."""
    hint = "see the docstring for layouts"
    if isinstance(x, Tensor) and not x.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers, got {x.dtype}; a spin field has a last axis of 2")
    tail: tuple[int | str, ...] = (2,) if spin else ()
    dims = x.dim() - len(tail) if isinstance(x, Tensor) else 1
    if dims == 1:
        check_shape(name, x, count, *tail, hint=hint)
        x = x[None, :, None]
    elif dims == 2:
        check_shape(name, x, count, "C", *tail, hint=hint)
        x = x[None]
    else:
        check_shape(name, x, "B", count, "C", *tail, hint=hint)
    x = x.flatten(2) if spin else x
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _nothing(x: Tensor, count: int) -> Tensor:
    """The transform of no field or no channel, which a backward pass may go through; FFTs refuse them."""
    return x.new_zeros(x.size(0), count, x.size(2)) * x.sum()


def _like(y: Tensor, x: Tensor, spin: int) -> Tensor:
    """``[B, count, C]`` in the layout and precision of ``x``."""
    y = y.unflatten(2, (-1, 2)) if spin else y
    dims = x.dim() - bool(spin)
    y = y[0] if dims < 3 else y
    y = y[:, 0] if dims < 2 else y
    return y.to(x.dtype)


def _may_look(x: Tensor) -> bool:
    """Whether values may decide: not where torch traces or transforms functions, nor where a GPU would have to wait."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    return not torch._C._are_functorch_transforms_active() and x.numel() > 0

"""The bases of filters on a disc; see ``filter_basis``."""

import math

import numpy as np
import torch
from scipy.special import jn_zeros, jv
from torch import Tensor

from .filter_basis import FilterBasis

_FOOT = 1e-9  # relative: whether a node counts as under the foot of a hat must not hang on the last digit


def _circle_distance(a: Tensor, b: Tensor) -> Tensor:
    """Of angles at most three half turns apart."""
    apart = (a - b).abs()
    return torch.minimum(apart, (2 * math.pi - apart).abs())


class _Rings(FilterBasis):
    """Rings of functions: ring p of n_r // 2 holds n_a of them, and an odd n_r adds one at the centre."""

    def __init__(self, kernel_shape: int | tuple[int, ...], cutoff: float) -> None:
        super().__init__(kernel_shape, cutoff)
        radii, angular = self.kernel_shape
        centre = radii % 2
        number = torch.arange((radii // 2) * angular + centre) - centre
        self._step = 2 * self.cutoff / (radii + 1)
        self._ring = number.div(angular, rounding_mode="floor") + centre  # the centre itself: -1 + 1
        self._place = torch.where(number < 0, 0, number % angular)
        self._radius = (self._ring.double() + (0.0 if centre else 0.5)) * self._step
        self._central = number < 0

    def _hat_distance(self, r: Tensor) -> Tensor:
        """Distance from the middle of each ring in steps, ``[..., K]``."""
        return (r[..., None] - self._radius.to(r)).abs() / self._step


class PiecewiseLinearBasis(_Rings):
    r"""Hats in the radius times hats in the azimuth.

    Rings are :math:`2\,` ``cutoff`` :math:`/ (n_r + 1)` apart, hats on a ring a turn over :math:`n_a`. For an even
    :math:`n_r` the innermost hats reach over the centre: what lies at :math:`(r, a)` is seen at :math:`(-r, a + \pi)`
    too. One number ``n`` as ``kernel_shape``, or :math:`n_a = 1`: rings that do not depend on the azimuth.
    """

    name = "piecewise_linear"

    @property
    def isotropic(self) -> Tensor:
        """Rings of one function, and the one at the centre."""
        return self._central | (self.kernel_shape[1] == 1)

    def _values(self, r: Tensor, angle: Tensor) -> Tensor:
        values = self._hats(r, angle)
        if self.kernel_shape[0] % 2 == 0 and self.kernel_shape[1] > 1:
            values = values + self._hats(-r, _opposite(angle))
        return values

    def _hats(self, r: Tensor, angle: Tensor) -> Tensor:
        radial = (1 - self._hat_distance(r)).clamp(min=0)
        round_about = (1 - self._around(angle) / self._width).clamp(min=0)
        return torch.where(self.isotropic, radial, radial * round_about)

    @property
    def _width(self) -> float:
        return 2 * math.pi / self.kernel_shape[1]

    def _around(self, angle: Tensor) -> Tensor:
        return _circle_distance(angle[..., None], self._place.to(angle) * self._width - math.pi)

    def support(self, r: Tensor, angle: Tensor) -> Tensor:
        """Where the hats stand, their feet included, bool ``[..., K]``."""
        angle = torch.where(angle < 0, angle + 2 * math.pi, angle)
        inside = self._feet(r, angle)
        if self.kernel_shape[0] % 2 == 0 and self.kernel_shape[1] > 1:
            inside = inside | self._feet(-r, _opposite(angle))
        return inside & (r <= self.cutoff)[..., None]

    def _feet(self, r: Tensor, angle: Tensor) -> Tensor:
        near = self._hat_distance(r) <= 1 + _FOOT
        return near & (self.isotropic | (self._around(angle) <= self._width * (1 + _FOOT)))


def _opposite(angle: Tensor) -> Tensor:
    """The azimuth across the centre, in [-pi, pi), of one in [0, 2 pi)."""
    return angle - math.pi


class HannBasis(_Rings):
    r"""Cosine bumps on rings, times angular harmonics: smooth wherever :class:`PiecewiseLinearBasis` has kinks.

    .. math:: \psi = \cos^2\!\left(\frac{\pi}{2} \frac{r - r_p}{d}\right) \{1, \cos a, \sin a, \cos 2a, \dots\},
              \qquad |r - r_p| \le d = \frac{2\,\mathrm{cutoff}}{n_r + 1}

    The rings :math:`r_p` and the number of functions are those of the piecewise linear basis; the ``n_a`` functions of
    a ring are the first ones of the list, so that an odd ``n_a`` gives whole pairs and a space that turns into itself.
    Value and slope vanish at the rim, and at the centre every function has one value and one slope (for an even
    :math:`n_r` the innermost ring is folded over the centre for order 0, and flattened there for the others).
    ``(1, 1)`` is the single bump :math:`\cos^2(\pi r / 2\,\mathrm{cutoff})`. The error of the convolution as an
    integral falls much faster with the resolution than that of hats (``docs/disco.md``).
    """

    name = "hann"

    @property
    def order(self) -> Tensor:
        """Angular order of each function, negative for sines, ``[K]``."""
        size = (self._place + 1) // 2
        return torch.where(self._place % 2 == 0, -size, size)

    @property
    def isotropic(self) -> Tensor:
        """Those of order 0."""
        return self._place == 0

    @staticmethod
    def _bump(distance: Tensor) -> Tensor:
        return _bump(distance)

    def _values(self, r: Tensor, angle: Tensor) -> Tensor:
        radial = self._bump(self._hat_distance(r))
        innermost = (self._radius < self._step) & ~self._central
        if bool(innermost.any()):
            folded = radial + self._bump(self._hat_distance(-r))
            rise = (0.5 * math.pi * (r[..., None] / self._radius.to(r).clamp(min=1e-300)).clamp(max=1)).sin().square()
            radial = torch.where(innermost, torch.where(self.isotropic, folded, radial * rise), radial)
        return radial * _harmonics(self.order, angle)

    def support(self, r: Tensor, angle: Tensor) -> Tensor:
        """Within a step of the ring, bool ``[..., K]``."""
        return (self._hat_distance(r) <= 1 + _FOOT) & (r <= self.cutoff)[..., None]


class HannSquaredBasis(HannBasis):
    r""":class:`HannBasis` with bumps :math:`\cos^4`: three continuous derivatives at the rim in place of one.

    A bump is 0.73 times as wide at half its height, and its spectrum falls faster by two powers of the degree: with the
    same nodes in the disc, the quadrature is ten times as exact.
    """

    name = "hann2"

    @staticmethod
    def _bump(distance: Tensor) -> Tensor:
        return _bump(distance).square()


def _bump(distance: Tensor) -> Tensor:
    """A squared cosine, 1 at 0, and 0 from 1 on with its slope."""
    return torch.where(distance < 1, (0.5 * math.pi * distance).cos().square(), 0.0)


def _harmonics(order: Tensor, angle: Tensor) -> Tensor:
    """``cos(m a)`` for orders from 0, ``sin(|m| a)`` for negative ones, ``[..., K]``."""
    turned = order.abs().to(angle) * angle[..., None]
    return torch.where(order < 0, turned.sin(), turned.cos())


class SteerableBasis(FilterBasis):
    r"""Real and imaginary parts of :math:`\rho_n(r)\, u^{m} e^{i m a}`, :math:`u = r / \mathrm{cutoff}`.

    The radial functions :math:`\rho_n` are ``n_r`` cosine bumps at :math:`0, d, 2 d, \dots`, :math:`d =
    \mathrm{cutoff} / n_r`, the orders :math:`0 \le m < n_m`. Function ``n (2 n_m - 1) + p`` has the phase ``p`` of
    :math:`1, \cos a, \sin a, \cos 2a, \dots`. Smooth at the centre, and :meth:`turn` takes each filter to itself turned
    by any angle: the frame a filter is seen from costs no more than a phase. In a ``DiscoConv`` that phase is still
    read in the frame of the meridian; :class:`geomeq.nn.SteerableDiscoConv` carries it along.
    """

    name = "steerable"

    @property
    def order(self) -> Tensor:
        """Angular order of each function, negative for sines, ``[K]``."""
        radial, orders = self.kernel_shape
        m = torch.arange(1, orders)
        return torch.cat([torch.zeros(1, dtype=torch.long), torch.stack([m, -m], dim=1).flatten()]).repeat(radial)

    @property
    def isotropic(self) -> Tensor:
        """Those of order 0."""
        return self.order == 0

    def radial(self, r: Tensor) -> Tensor:
        """The bumps, ``[..., n_r]``."""
        count = self.kernel_shape[0]
        middle = torch.arange(count, dtype=r.dtype, device=r.device)
        return _bump((r[..., None] * (count / self.cutoff) - middle).abs())

    def turn(self, angle: float) -> Tensor:
        """``[K, K]``, float64: ``turn(t) @ basis(r, a)`` is ``basis(r, a - t)``, the filters turned by ``t``."""
        order = self.order.double()
        matrix = torch.diag((order.abs() * angle).cos())
        places = (order > 0).nonzero().flatten()
        sin = (order[places] * angle).sin()
        matrix[places, places + 1] = sin  # cos(m (a - t)) = cos(m a) cos(m t) + sin(m a) sin(m t)
        matrix[places + 1, places] = -sin
        return matrix

    def _values(self, r: Tensor, angle: Tensor) -> Tensor:
        order = self.order
        radial = self.radial(r).repeat_interleave(2 * self.kernel_shape[1] - 1, dim=-1)
        growth = (r[..., None] / self.cutoff) ** order.abs().to(r)
        return radial * growth * _harmonics(order, angle)


class HarmonicBasis(FilterBasis):
    r"""Sines and cosines of the plane under a Hann window, each of norm 1 on the unit disc.

    .. math:: \psi_{mn} \propto \cos^2(\tfrac{\pi}{2} u)\; T_n(\pi \lceil n/2 \rceil x)\, T_m(\pi \lceil m/2 \rceil y)

    with :math:`x = u \sin a`, :math:`y = u \cos a`, :math:`u = r / \mathrm{cutoff}`, and :math:`T` the sine for odd and
    the cosine for even indices; ``k = m N + n`` for ``kernel_shape = (M, N)``. The norm is a sum over 50 radii
    (midpoints) and 200 angles, as in torch-harmonics.
    """

    name = "harmonic"

    def __init__(self, kernel_shape: int | tuple[int, ...], cutoff: float) -> None:
        super().__init__(kernel_shape, cutoff)
        self._norm = self._norms()

    def _complete(self, given: tuple[int, ...]) -> tuple[int, ...]:
        return self._two(given, missing=given[0])

    @property
    def isotropic(self) -> Tensor:
        """The first: the window itself."""
        return torch.arange(self.kernel_shape[0] * self.kernel_shape[1]) == 0

    def _norms(self) -> Tensor:
        u = (torch.arange(50, dtype=torch.float64) + 0.5) / 50
        angle = torch.arange(200, dtype=torch.float64) * (2 * math.pi / 200)
        square = self._windowed(u[:, None].expand(50, 200), angle.expand(50, 200)).square()
        return ((square * u[:, None, None]).sum(dim=(0, 1)) * (1 / 50) * (2 * math.pi / 200)).sqrt()

    def _windowed(self, u: Tensor, angle: Tensor) -> Tensor:
        rows, columns = self.kernel_shape
        m = torch.arange(rows).repeat_interleave(columns).to(u.device)
        n = torch.arange(columns).repeat(rows).to(u.device)
        x, y = (u * angle.sin())[..., None], (u * angle.cos())[..., None]
        return (0.5 * math.pi * u).cos().square()[..., None] * _wave(n, x) * _wave(m, y)

    def _values(self, r: Tensor, angle: Tensor) -> Tensor:
        return self._windowed(r / self.cutoff, angle) / self._norm.to(r)


def _wave(index: Tensor, x: Tensor) -> Tensor:
    turned = math.pi * index.to(x).div(2).ceil() * x
    return torch.where(index % 2 == 1, turned.sin(), turned.cos())


class MorletBasis(HarmonicBasis):
    """:class:`HarmonicBasis` without its normalisation, as it was called and used before that had one."""

    name = "morlet"

    def _norms(self) -> Tensor:
        return torch.ones(self.size, dtype=torch.float64)


class ZernikeBasis(FilterBasis):
    r"""Zernike polynomials of degree below ``kernel_shape``, orthonormal on the unit disc.

    .. math:: \psi_{nl} \propto R_n^{|m|}(u) \{\cos(m a) \;(m \ge 0),\ \sin(m a) \;(m < 0)\}, \qquad m = 2 l - n

    with ``k = n (n + 1) / 2 + l``, :math:`0 \le l \le n`. They do not vanish at the rim.
    """

    name = "zernike"

    def _complete(self, given: tuple[int, ...]) -> tuple[int, ...]:
        if given[0] < 1 or len(given) > 2 or (len(given) == 2 and given[1] != given[0]):
            raise ValueError(f"kernel_shape of zernike is one integer of at least 1 (degrees), got {given}")
        return given[:1]

    @property
    def _orders(self) -> list[tuple[int, int]]:
        return [(n, 2 * i - n) for n in range(self.kernel_shape[0]) for i in range(n + 1)]

    @property
    def isotropic(self) -> Tensor:
        """Those with m = 0."""
        return torch.tensor([m == 0 for _, m in self._orders])

    def _values(self, r: Tensor, angle: Tensor) -> Tensor:
        u = r / self.cutoff
        functions = []
        for n, m in self._orders:
            phase = (m * angle).sin() if m < 0 else (m * angle).cos()
            norm = math.sqrt(math.pi * (2 if m == 0 else 1) / (2 * (n + 1)))
            functions.append(_zernike_radial(n, abs(m), u) * phase / norm)
        return torch.stack(functions, dim=-1)


def _zernike_radial(n: int, m: int, u: Tensor) -> Tensor:
    out = torch.zeros_like(u)
    for k in range((n - m) // 2 + 1):
        below = math.factorial(k) * math.factorial((n + m) // 2 - k) * math.factorial((n - m) // 2 - k)
        out = out + (-1) ** k * (math.factorial(n - k) // below) * u ** (n - 2 * k)
    return out


class FourierBesselBasis(FilterBasis):
    r"""Eigenfunctions of the Laplacian on the disc, zero at the rim, of norm 1 on the unit disc.

    .. math:: \psi \propto J_m(\alpha_{mn} u) \{\cos(m a), \sin(m a)\}

    with :math:`\alpha_{mn}` the n-th zero of :math:`J_m`. ``kernel_shape = (n_r, m_max)``: all of them with
    :math:`m \le m_{max}` and :math:`\alpha_{mn} \le \alpha_{0 n_r}`, in the order of :math:`\alpha`.
    """

    name = "fourier_bessel"

    def __init__(self, kernel_shape: int | tuple[int, ...], cutoff: float) -> None:
        super().__init__(kernel_shape, cutoff)
        radial, highest = self.kernel_shape
        last = float(jn_zeros(0, radial)[-1])
        found = [
            (float(alpha), order)
            for m in range(highest + 1)
            for alpha in jn_zeros(m, radial)
            if alpha <= last
            for order in ((m,) if m == 0 else (m, -m))
        ]
        found.sort(key=lambda entry: entry[0])  # stable: the cosine stays before the sine
        self._alpha, self._order = [alpha for alpha, _ in found], torch.tensor([order for _, order in found])

    def _complete(self, given: tuple[int, ...]) -> tuple[int, ...]:
        if len(given) == 2 and given[0] >= 1 and given[1] == 0:
            return given  # radial functions only
        return self._two(given, missing=given[0])

    @property
    def isotropic(self) -> Tensor:
        """Those with m = 0."""
        return self._order == 0

    def _values(self, r: Tensor, angle: Tensor) -> Tensor:
        u = (r / self.cutoff).clamp(max=1).double().cpu().numpy()
        values = [self._radial(abs(m), alpha, u) for m, alpha in zip(self._order.tolist(), self._alpha, strict=True)]
        radial = torch.from_numpy(np.stack(values, axis=-1)).to(r)
        return radial * _harmonics(self._order.to(r.device), angle)

    @staticmethod
    def _radial(m: int, alpha: float, u: np.ndarray) -> np.ndarray:
        norm = abs(jv(m + 1, alpha)) / math.sqrt(2) * math.sqrt(2 * math.pi if m == 0 else math.pi)
        return np.asarray(jv(m, alpha * u) / norm)


_ALL = (
    HannBasis,
    HannSquaredBasis,
    SteerableBasis,
    PiecewiseLinearBasis,
    HarmonicBasis,
    MorletBasis,
    ZernikeBasis,
    FourierBesselBasis,
)
FILTER_BASES: dict[str, type[FilterBasis]] = {basis.name: basis for basis in _ALL}

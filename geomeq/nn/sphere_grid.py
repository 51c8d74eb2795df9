"""Functions on the sphere between coefficients and samples: where channels meet a pointwise function."""

import math

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.harmonics.spherical import spherical_harmonics
from geomeq.spheres._gauss import gauss_rule

from ._paths import Constant
from ._rows import check_degrees, primary_rows, signed_orders

_NORMALIZATIONS = ("component", "integral", "unit")


class SphereGrid(nn.Module):
    r"""Samples channels of spherical harmonics on Gauss-Legendre rings about the axis y, and integrates them back.

    .. math::
        f(\theta_a, \varphi_b) = \sum_m T_m(\varphi_b) \sum_{l \geq |m|} P_{lm}(\theta_a) \, x_{lm}, \qquad
        x_{lm} = \sum_a w_a P_{lm}(\theta_a) \sum_b \tfrac{2 \pi}{n_\varphi} T_m(\varphi_b) f(\theta_a, \varphi_b)

    Separable: one product per order along the meridians, one along the rings. The weights are a true quadrature, exact
    for polynomials of degree ``2 nlat - 1`` and orders below ``nlon``: a function of degree ``lmax`` comes back to
    rounding. Without parameters.

    A pointwise function between both ways commutes with rotations up to what it creates beyond the reach of the grid.
    That falls geometrically in the resolution where the function is smooth (SiLU on functions of unit variance:
    2e-3 with ``2 (lmax + 1)`` rings and twice as many longitudes), and like ``nlat ** -2`` only where it has a kink
    (ReLU).

    Args:
        lmax: Highest degree that is sampled.
        mmax: If given, rows are those of an edge frame in m-primary order: order 0 with degrees ``0..lmax``, then for
            ``m = 1..mmax`` the degrees ``m..lmax`` of order ``+m``, then of ``-m``. If not, all coefficients, row
            ``l * l + l + m``.
        nlat: Number of rings, at least ``lmax + 1``; by default ``2 (max(lmax, lmax_out) + 1)``.
        nlon: Points of each ring, at least twice the highest order plus one. By default ``2 nlat + 1``; with ``mmax``
            the same oversampling for fewer orders, ``4 (mmax + 1) + 1`` if ``nlat`` is the default.
        lmax_out: Highest degree of the way back, by default ``lmax``.
        normalization: Of the harmonics: ``"component"`` (mean square 1 on the sphere, as everywhere in this package),
            ``"integral"`` (square integral 1) or ``"unit"`` (``"component"`` divided by the root of the number of rows:
            coefficients of unit variance give samples of unit variance). Round trips are exact in each.

    Raises:
        ValueError: If degrees or resolutions make no sense.

    Example:
        >>> grid = SphereGrid(lmax=2)
        >>> x = torch.randn(5, 9, 4)
        >>> grid.to_grid(x).shape, torch.allclose(grid.from_grid(grid.to_grid(x)), x, atol=1e-5)
        (torch.Size([5, 6, 13, 4]), True)
    """

    def __init__(
        self,
        lmax: int,
        mmax: int | None = None,
        nlat: int | None = None,
        nlon: int | None = None,
        lmax_out: int | None = None,
        normalization: str = "component",
    ) -> None:
        super().__init__()
        lmax_out = lmax if lmax_out is None else lmax_out
        check_degrees(lmax, mmax)
        check_degrees(lmax_out)
        if normalization not in _NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {_NORMALIZATIONS}, got {normalization!r}")
        highest = max(lmax, lmax_out)
        order = highest if mmax is None else min(mmax, highest)
        self.nlat = 2 * (highest + 1) if nlat is None else nlat
        self.nlon = _default_nlon(self.nlat, highest, order) if nlon is None else nlon
        if self.nlat < highest + 1 or self.nlon < 2 * order + 1:
            raise ValueError(
                f"degree {highest} and order {order} need nlat >= {highest + 1} and nlon >= {2 * order + 1} for a "
                f"round trip, got nlat={self.nlat} and nlon={self.nlon}"
            )
        self.lmax, self.mmax, self.lmax_out, self.normalization = lmax, mmax, lmax_out, normalization
        self._in, self._out = _Rows(lmax, mmax), _Rows(lmax_out, mmax)
        self.num_rows, self.num_rows_out = self._in.count, self._out.count
        theta, weight = (torch.from_numpy(a) for a in gauss_rule(self.nlat))
        scale = {"component": 1.0, "integral": (4 * math.pi) ** -0.5, "unit": self.num_rows**-0.5}[normalization]
        tables = _meridians(theta, highest)
        # component harmonics have mean square 1: the way back is a mean, with weights w / 2 and 1 / nlon
        self._up = [Constant(scale * tables[m][:, : lmax + 1 - m].contiguous()) for m in range(self._in.mmax + 1)]
        self._down = [
            Constant(((weight / (2 * scale))[:, None] * tables[m][:, : lmax_out + 1 - m]).T.contiguous())
            for m in range(self._out.mmax + 1)
        ]
        rings = _rings(self.nlon, order)
        self._ring_up = Constant(rings[:, : 2 * self._in.mmax + 1].contiguous())
        self._ring_down = Constant((rings / self.nlon)[:, : 2 * self._out.mmax + 1].T.contiguous())
        self._theta, self._weight = theta, weight

    def points(self) -> Tensor:
        """Unit vectors of the samples, ``[nlat, nlon, 3]``, float64: from y to -y, around from z to x."""
        phi = 2 * math.pi * torch.arange(self.nlon, dtype=torch.float64) / self.nlon
        sin, cos = self._theta.sin()[:, None], self._theta.cos()[:, None]
        return torch.stack([sin * phi.sin(), cos.expand(-1, self.nlon), sin * phi.cos()], dim=-1)

    def area(self) -> Tensor:
        """Quadrature weight of each sample, ``[nlat, nlon]``, float64, sum 4 pi."""
        return (self._weight * (2 * math.pi / self.nlon))[:, None].expand(-1, self.nlon).contiguous()

    def to_grid(self, x: Tensor) -> Tensor:
        """Samples.

        Args:
            x: Coefficients, ``[..., R, C]``, rows as chosen by ``mmax``.

        Returns:
            ``[..., nlat, nlon, C]``.
        """
        check_shape("x", x, "...", self.num_rows, None, hint=f"the grid was built for lmax={self.lmax}")
        lead, channels = x.shape[:-2], x.size(-1)
        x = x.reshape(math.prod(lead), self.num_rows, channels)
        order = self._in.order.on(x.device)
        if self.mmax is None and self.lmax > 0:
            x = x.index_select(1, order)
        rows = []
        # one split: the gradient of each slice alone would be as large as x
        sizes = [(2 if m else 1, self.lmax + 1 - m) for m in range(self._in.mmax + 1)]
        for table, (signs, degrees), part in zip(self._up, sizes, x.split([a * b for a, b in sizes], 1), strict=True):
            part = part.reshape(x.size(0) * signs, degrees, channels)
            rows.append((table.like(x) @ part).view(x.size(0), signs, self.nlat * channels))
        ring = self._ring_up.like(x) @ torch.cat(rows, dim=1)  # [N, nlon, nlat * C]
        return ring.view(*lead, self.nlon, self.nlat, channels).transpose(-2, -3)

    def from_grid(self, samples: Tensor) -> Tensor:
        """Integrates against the harmonics.

        Args:
            samples: ``[..., nlat, nlon, C]``.

        Returns:
            Coefficients up to ``lmax_out``, ``[..., R, C]``, rows as chosen by ``mmax``.
        """
        check_shape("samples", samples, "...", self.nlat, self.nlon, None)
        lead, channels = samples.shape[:-3], samples.size(-1)
        rings = samples.transpose(-2, -3).reshape(math.prod(lead), self.nlon, self.nlat * channels)
        count = rings.size(0)
        orders = (self._ring_down.like(rings) @ rings).view(count, 2 * self._out.mmax + 1, self.nlat, channels)
        rows = []
        signs = [2 if m else 1 for m in range(self._out.mmax + 1)]
        for m, (table, part) in enumerate(zip(self._down, orders.split(signs, dim=1), strict=True)):
            part = part.reshape(count * signs[m], self.nlat, channels)
            size = signs[m] * (self.lmax_out + 1 - m)
            rows.append((table.like(rings) @ part).view(count, size, channels))
        x = torch.cat(rows, dim=1)
        if self.mmax is None and self.lmax_out > 0:
            x = x.index_select(1, self._out.back.on(x.device))
        return x.view(*lead, self.num_rows_out, channels)

    def extra_repr(self) -> str:
        """Degrees and resolution."""
        return f"lmax={self.lmax}, mmax={self.mmax}, nlat={self.nlat}, nlon={self.nlon}, lmax_out={self.lmax_out}"


class _Rows:
    """The coefficients of degrees up to ``lmax`` in m-primary order."""

    def __init__(self, lmax: int, mmax: int | None) -> None:
        self.mmax = lmax if mmax is None else min(lmax, mmax)
        order = torch.tensor(primary_rows(lmax, mmax))
        self.count = len(order)
        self.order, self.back = Constant(order), Constant(order.argsort())


def _default_nlon(nlat: int, lmax: int, mmax: int) -> int:
    """As many points per wave along a ring as along a meridian, and an odd number."""
    return 2 * math.ceil(nlat * (mmax + 1) / (lmax + 1)) + 1


def _meridians(theta: Tensor, lmax: int) -> list[Tensor]:
    """Harmonics on the meridian of longitude 0, ``[nlat, lmax + 1 - m]`` for each order m, without ``sqrt(2)`` cos."""
    zero = torch.zeros_like(theta)
    y = spherical_harmonics(torch.stack([zero, theta.cos(), theta.sin()], dim=-1), lmax)
    return [
        torch.stack([y[:, degree * degree + degree + m] for degree in range(m, lmax + 1)], dim=1)
        for m in range(lmax + 1)
    ]


def _rings(nlon: int, mmax: int) -> Tensor:
    """Cosines of orders 0, 1, .. and sines, ``[nlon, 2 mmax + 1]``, in the order 0, 1, -1, 2, -2."""
    phi = 2 * math.pi * torch.arange(nlon, dtype=torch.float64) / nlon
    return torch.stack([(m * phi).cos() if m >= 0 else (-m * phi).sin() for m in signed_orders(mmax)], dim=1)

"""Non-linear functions of spherical channels, at the nodes and in the frame of an edge."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq._checks import check_shape

from ._gate import SIGMOID_FACTOR, SILU_FACTOR
from ._paths import Constant
from ._rows import check_degrees, row_degrees
from .sphere_grid import SphereGrid


class SphericalGate(nn.Module):
    r"""SiLU on degree 0; every higher degree of every channel times the sigmoid of its own gate.

    .. math:: x'_{00,c} = a \, \mathrm{SiLU}(x_{00,c}), \qquad x'_{lm,c} = b \, \sigma(g_{l,c}) \, x_{lm,c}

    Exactly equivariant; :math:`a, b` keep unit variance.

    Args:
        lmax: Highest degree.
        mmax: If given, rows are those of an edge frame, m-primary, see :class:`SphereGrid`.

    Example:
        >>> SphericalGate(lmax=2)(torch.randn(5, 9, 4), torch.randn(5, 2 * 4)).shape
        torch.Size([5, 9, 4])
    """

    def __init__(self, lmax: int, mmax: int | None = None) -> None:
        super().__init__()
        check_degrees(lmax, mmax)
        self.lmax, self.mmax = lmax, mmax
        degree = torch.tensor(row_degrees(lmax, mmax))
        self.num_rows = len(degree)
        self._gate = Constant(degree[1:] - 1)

    def num_gates(self, channels: int) -> int:
        """Gates per row of input: ``lmax * channels``."""
        return self.lmax * channels

    def forward(self, x: Tensor, gates: Tensor | None) -> Tensor:
        """Activates.

        Args:
            x: Coefficients, ``[..., R, C]``.
            gates: Invariants, ``[..., lmax * C]``: the channels of degree 1, of degree 2, ...; ``None`` or empty if
                there is only degree 0.

        Returns:
            ``[..., R, C]``.
        """
        check_shape("x", x, "...", self.num_rows, None, hint=f"built for lmax={self.lmax}, mmax={self.mmax}")
        scalars = F.silu(x[..., :1, :]) * SILU_FACTOR
        if gates is None:
            if self.lmax:
                raise ValueError(f"gates are missing: degrees above 0 need {self.num_gates(x.size(-1))}")
            return scalars
        check_shape("gates", gates, "...", self.num_gates(x.size(-1)), hint="one gate per degree above 0 and channel")
        if self.lmax == 0:
            return scalars
        factor = (torch.sigmoid(gates) * SIGMOID_FACTOR).unflatten(-1, (self.lmax, x.size(-1)))
        factor = factor.index_select(-2, self._gate.on(x.device))
        return torch.cat([scalars, x[..., 1:, :] * factor], dim=-2)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"lmax={self.lmax}, mmax={self.mmax}"


class S2Activation(nn.Module):
    r"""A pointwise function of the signals on the sphere whose coefficients the channels are.

    .. math:: x' = a \cdot \text{coefficients of } \mathrm{SiLU}(f_x), \qquad f_x(p) = R^{-1/2} \sum_{r} x_r Y_r(p)

    on the points of a :class:`SphereGrid`; coefficients of unit variance give samples of unit variance. All degrees
    mix, to any order of their product, which a gate cannot do. Equivariant up to what the grid does not resolve: see
    the table there (2e-3 at the default resolution, and 1e-5 with 3 (lmax + 1) rings). In the frame of an edge,
    turns about the axis are turns about the axis of the grid: exact for multiples of ``360 / nlon`` degrees, and to
    the same precision otherwise.

    With ``separable=True`` the output of degree 0 is SiLU of invariants given beside, as in EquiformerV2: what matters
    most then passes no grid.

    Args:
        lmax: Highest degree.
        mmax: If given, rows are those of an edge frame, m-primary.
        separable: Whether degree 0 has a path of its own.
        nlat: Rings of the grid, by default ``2 (lmax + 1)``.
        nlon: Points of a ring, see :class:`SphereGrid`.

    Example:
        >>> S2Activation(lmax=2)(torch.randn(5, 9, 4)).shape
        torch.Size([5, 9, 4])
    """

    def __init__(
        self,
        lmax: int,
        mmax: int | None = None,
        separable: bool = False,
        nlat: int | None = None,
        nlon: int | None = None,
    ) -> None:
        super().__init__()
        self.grid = SphereGrid(lmax, mmax, nlat, nlon, normalization="unit")
        self.separable = separable

    def forward(self, x: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Activates.

        Args:
            x: Coefficients, ``[..., R, C]``.
            scalars: Invariants for degree 0, ``[..., C]``, if ``separable``.

        Returns:
            ``[..., R, C]``.
        """
        if self.separable != (scalars is not None):
            raise ValueError(f"scalars must be given if and only if separable, which is {self.separable}")
        out = self.grid.from_grid(F.silu(self.grid.to_grid(x)) * SILU_FACTOR)
        if scalars is None:
            return out
        check_shape("scalars", scalars, "...", x.size(-1))
        return torch.cat([(F.silu(scalars) * SILU_FACTOR).unsqueeze(-2), out[..., 1:, :]], dim=-2)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"separable={self.separable}"


class SphericalActivation(nn.Module):
    """One of the activations with the invariants it needs beside its input, as layers use it.

    Args:
        channels: Number of channels.
        lmax: Highest degree.
        mmax: If given, rows are those of an edge frame.
        kind: ``"gate"`` (:class:`SphericalGate`), ``"s2"`` or ``"separable_s2"`` (:class:`S2Activation`).
        nlat: Rings of the grid, if there is one.
        nlon: Points of a ring.
    """

    def __init__(
        self,
        channels: int,
        lmax: int,
        mmax: int | None = None,
        kind: Literal["gate", "s2", "separable_s2"] = "gate",
        nlat: int | None = None,
        nlon: int | None = None,
    ) -> None:
        super().__init__()
        kinds = {"gate": lmax * channels, "s2": 0, "separable_s2": channels}
        if kind not in kinds:
            raise ValueError(f"activation must be one of {tuple(kinds)}, got {kind!r}")
        self.kind, self.num_scalars = kind, kinds[kind]
        self.function = (
            SphericalGate(lmax, mmax) if kind == "gate" else S2Activation(lmax, mmax, kind != "s2", nlat, nlon)
        )

    def forward(self, x: Tensor, scalars: Tensor | None) -> Tensor:
        """Activates ``x`` ``[..., R, C]`` with ``num_scalars`` invariants beside (``None`` if 0 are needed)."""
        return self.function(x, scalars)

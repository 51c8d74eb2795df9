"""Networks that act on the spherical channels of each node by itself."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geomeq._checks import check_shape
from geomeq.ops._product import Linear

from ._gate import SILU_FACTOR
from ._paths import Constant
from ._rows import row_degrees
from .sphere_grid import SphereGrid
from .spherical_activations import SphericalGate
from .spherical_linear import SphericalLinear, unit_variance_

_SAMPLES = 1 << 21  # numbers of one slice of the grid: 8 MiB in float32


class GatedMLP(nn.Module):
    r"""Linear, gate, linear: :math:`x' = V \, \mathrm{gate}(U x, G \, x_{00})`, exactly equivariant.

    A gate alone never makes an invariant of a higher degree. With ``invariants=True`` the mean squares of every degree
    and channel of :math:`h = U x` join the input of the gates and add to degree 0,

    .. math:: q_{lc} = \frac{1}{2l+1} \sum_m h_{lm,c}^2, \qquad
        x' = V \, \mathrm{gate}(h + \delta_{l0} A q, \; G \, [x_{00}, q]),

    which tells an atom about angles between its neighbours within one layer.

    Args:
        channels: Channels of the input.
        hidden_channels: Channels in between.
        lmax: Highest degree.
        out_channels: Channels of the output, by default ``channels``.
        invariants: See above.

    Example:
        >>> GatedMLP(8, 16, lmax=2)(torch.randn(5, 9, 8)).shape
        torch.Size([5, 9, 8])

    Source: Fu et al. (2025), https://arxiv.org/abs/2502.12147 (the node-wise network of eSEN, without the mean
    squares).
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        lmax: int,
        out_channels: int | None = None,
        invariants: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.hidden_channels, self.lmax = channels, hidden_channels, lmax
        self.invariants = invariants and lmax > 0
        self.first = SphericalLinear(channels, hidden_channels, lmax)
        self.act = SphericalGate(lmax)
        self.second = SphericalLinear(hidden_channels, channels if out_channels is None else out_channels, lmax)
        squares, gates = lmax * hidden_channels * self.invariants, lmax * hidden_channels
        self.gates = Linear(channels + squares, gates + hidden_channels * self.invariants) if lmax else None
        degree = torch.tensor(row_degrees(lmax))
        self._mean = Constant((F.one_hot(degree, lmax + 1)[:, 1:] / (2 * degree[:, None] + 1).double()).T)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights again; unit variance stays."""
        if self.gates is not None:
            unit_variance_(self.gates)
        self.first.reset_parameters()
        self.second.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``x`` ``[N, (lmax + 1)^2, channels]`` to ``[N, (lmax + 1)^2, out_channels]``."""
        h = self.first(x)
        if self.gates is None:
            return self.second(self.act(h, h.new_zeros(h.size(0), 0)))
        if not self.invariants:
            return self.second(self.act(h, self.gates(x[:, 0])))
        squares = (self._mean.like(h) @ h.square()).flatten(1)
        made = self.gates(torch.cat([x[:, 0], squares], dim=1))
        gates, scalars = made.split([self.lmax * self.hidden_channels, self.hidden_channels], dim=1)
        h = torch.cat([(h[:, 0] + scalars)[:, None] * 0.5**0.5, h[:, 1:]], dim=1)
        return self.second(self.act(h, gates))


class GridMLP(nn.Module):
    r"""A network on the values of the signals at the points of a grid, the same at every point.

    .. math:: x' = W_n \, \text{from grid} \bigl( a(\dots a(W_2 \, a(\text{to grid}(W_1 x)))) \bigr), \quad
        a = \mathrm{SiLU}

    Mixes all degrees to any order of their product. Equivariant up to what the grid does not resolve, see
    :class:`SphereGrid`. First and last product commute with the transforms and act on coefficients, which are fewer
    than points. Nodes go through in slices, computed again in the backward pass: the grid never lives in memory as a
    whole.

    Args:
        channels: Widths from input to output, at least ``(in, hidden, out)``; with ``(in, hidden, hidden, out)`` the
            function at each point is a network with one linear layer between two activations.
        lmax: Highest degree.
        separable: Whether degree 0 goes through a network of its own, ``in -> hidden -> out``, instead.
        nlat: Rings of the grid, by default ``2 (lmax + 1)``.
        nlon: Points of a ring.
        chunk: Nodes per slice; by default so many that a slice has 2 million samples.

    Example:
        >>> GridMLP((8, 16, 16, 8), lmax=2)(torch.randn(5, 9, 8)).shape
        torch.Size([5, 9, 8])

    Source: Zitnick et al. (2022), https://arxiv.org/abs/2206.14331 (pointwise on a grid); Liao et al. (2023),
    https://arxiv.org/abs/2306.12059 (separable).
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        lmax: int,
        separable: bool = False,
        nlat: int | None = None,
        nlon: int | None = None,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if len(channels) < 3:
            raise ValueError(f"channels must name at least (in, hidden, out), got {tuple(channels)}")
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}")
        self.grid = SphereGrid(lmax, nlat=nlat, nlon=nlon, normalization="unit")
        self.channels, self.lmax = tuple(channels), lmax
        self.layers = nn.ModuleList(Linear(a, b, bias=False) for a, b in pairwise(channels))
        self.scalar = None
        if separable:
            self.scalar = nn.ModuleList([nn.Linear(channels[0], channels[1]), nn.Linear(channels[1], channels[-1])])
        self.chunk = chunk
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights again; unit variance of samples stays."""
        for layer in [*self.layers, *(self.scalar or ())]:
            unit_variance_(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``x`` ``[N, (lmax + 1)^2, in]`` to ``[N, (lmax + 1)^2, out]``."""
        check_shape("x", x, "N", (self.lmax + 1) ** 2, self.channels[0], hint=f"built for lmax={self.lmax}")
        chunk = self.chunk or max(1, _SAMPLES // (self.grid.nlat * self.grid.nlon * max(self.channels[1:-1])))
        out = in_slices(self._pointwise, x, chunk)
        if self.scalar is None:
            return out
        scalar = self.scalar[1](F.silu(self.scalar[0](x[:, 0])) * SILU_FACTOR)
        return torch.cat([scalar[:, None], out[:, 1:]], dim=1)

    def _pointwise(self, x: Tensor) -> Tensor:
        samples = self.grid.to_grid(self.layers[0](x)).transpose(1, 2)  # as the grid lays them out
        for layer in self.layers[1:-1]:
            samples = layer(F.silu(samples) * SILU_FACTOR)
        samples = F.silu(samples) * SILU_FACTOR
        return self.layers[-1](self.grid.from_grid(samples.transpose(1, 2)))

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"channels={self.channels}, separable={self.scalar is not None}, chunk={self.chunk}"


def in_slices(function: Callable[[Tensor], Tensor], x: Tensor, chunk: int) -> Tensor:
    """``function(x)`` over slices of the first axis; where there are several, each is computed again in backward."""
    if x.size(0) <= chunk:
        return function(x)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(function, part, use_reentrant=False) for part in x.split(chunk)])
    return torch.cat([function(part) for part in x.split(chunk)])

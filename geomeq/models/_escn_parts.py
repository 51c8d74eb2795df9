"""The parts of an ESCN: what edges know, one block, and how energies and forces are read."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq.harmonics import bessel_basis, gaussian_basis
from geomeq.nn import GatedMLP, GridMLP, SO2Conv, SphericalLinear, SphericalNorm
from geomeq.nn._gate import SILU_FACTOR
from geomeq.nn._paths import Constant
from geomeq.nn.spherical_linear import unit_variance_
from geomeq.ops import EdgeRotation
from geomeq.ops._product import Linear

from ._escn_config import ESCNConfig


class EdgeScalars(nn.Module):
    r"""Invariants of an edge: :math:`a_{ij} = \mathrm{SiLU}(W b(d_{ij}) + s(z_j) + t(z_i))`.

    The basis is scaled to unit variance over a ball of uniform density.
    """

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        self.radial, self.cutoff, self.num_radial = config.radial, config.cutoff, config.num_radial
        self.length = Linear(config.num_radial, config.edge_channels)
        self.source = nn.Embedding(config.num_elements, config.edge_channels)
        self.target = nn.Embedding(config.num_elements, config.edge_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        unit_variance_(self.length)
        for table in (self.source, self.target):
            nn.init.normal_(table.weight, std=0.5**0.5)

    def forward(self, dist: Tensor, z: Tensor, edge_index: Tensor) -> Tensor:
        """Maps lengths ``[E]`` and element numbers (from 0) ``[N]`` to ``[E, edge_channels]``."""
        if self.radial == "bessel":
            basis = bessel_basis(dist, self.cutoff, self.num_radial) * math.sqrt(self.cutoff**3 / 3)
        else:
            # neighbouring Gaussians overlap: the mean square of each over the ball is about sqrt(pi) / their number
            basis = gaussian_basis(dist, self.cutoff, self.num_radial) * (self.num_radial / math.sqrt(math.pi)) ** 0.5
        own = self.source(z).index_select(0, edge_index[0]) + self.target(z).index_select(0, edge_index[1])
        return F.silu((self.length(basis) + own) * 0.5**0.5) * SILU_FACTOR


class DegreeEmbedding(nn.Module):
    r"""What an atom sees of its surroundings before any message: :math:`\sum_j u(d) \, R_l(a_{ij}) \, Y_{lm}(r_{ij})`.

    In the frame of the edge that is a message of order 0 alone.
    """

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        self.lmax, self.channels = config.lmax, config.channels
        self.scale = config.average_degree**-0.5
        self.first = Linear(config.edge_channels, config.edge_channels)
        self.second = Linear(config.edge_channels, (config.lmax + 1) * config.channels)
        degree = torch.arange(config.lmax + 1, dtype=torch.float64)
        self._factor = Constant((2 * degree[:, None] + 1).sqrt())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        unit_variance_(self.first)
        unit_variance_(self.second)

    def forward(self, edge_scalars: Tensor, rotation: EdgeRotation, envelope: Tensor | None) -> Tensor:
        """Coefficients at the nodes, ``[N, (lmax + 1)^2, C]``; ``rotation`` has order 0 only."""
        radial = self.second(F.silu(self.first(edge_scalars)) * SILU_FACTOR)
        radial = radial.view(-1, self.lmax + 1, self.channels) * self._factor.like(radial)
        if envelope is None:
            return rotation.out_of_frame(radial * self.scale)
        return rotation.out_of_frame(radial, envelope * self.scale)


def message_layer(config: ESCNConfig, out_channels: int | None = None) -> SO2Conv:
    """The messages of a block, or of a head with its own number of channels."""
    value = config.value_channels or max(1, config.channels // max(1, config.attention_heads))
    return SO2Conv(
        config.channels,
        config.channels if out_channels is None else out_channels,
        config.lmax,
        config.mmax,
        config.edge_channels,
        hidden_channels=config.hidden_channels,
        activation=config.activation,
        attention_heads=config.attention_heads,
        form=config.form,
        attention_channels=config.attention_channels,
        value_channels=value,
        average_degree=config.average_degree,
        reflections=config.mirrored,
        radial_hidden=config.radial_hidden,
        nlat=config.nlat,
        nlon=config.nlon,
        chunk_size=config.chunk_size,
    )


class ESCNBlock(nn.Module):
    """Messages, then a network at each atom; each adds to what was there."""

    def __init__(self, config: ESCNConfig) -> None:
        super().__init__()
        channels, lmax = config.channels, config.lmax
        self.published = config.form == "escn"
        self.norms = None
        if config.norm is not None and not self.published:
            self.norms = nn.ModuleList(SphericalNorm(channels, lmax, config.norm) for _ in range(2))
        self.conv = message_layer(config)
        self.mlp = _node_network(config)

    def forward(self, x: Tensor, rotation: EdgeRotation, edge_scalars: Tensor, envelope: Tensor | None) -> Tensor:
        """Changes the functions at the atoms, ``[N, (lmax + 1)^2, C]``."""
        if self.published:
            message = self.conv(x, rotation, edge_scalars, envelope)
            return x + self.mlp(torch.cat([x, message], dim=2))
        x = x + self.conv(self._norm(0, x), rotation, edge_scalars, envelope)
        return x + self.mlp(self._norm(1, x))

    def _norm(self, k: int, x: Tensor) -> Tensor:
        return x if self.norms is None else self.norms[k](x)


def _node_network(config: ESCNConfig) -> nn.Module:
    channels, lmax = config.channels, config.lmax
    hidden = channels if config.mlp_channels is None else config.mlp_channels
    if config.form == "escn":
        return GridMLP((2 * channels, channels, channels, channels), lmax, nlat=config.nlat, nlon=config.nlon)
    if config.mlp == "gate":
        return GatedMLP(channels, hidden, lmax, invariants=config.invariants)
    separable, widths = config.mlp == "separable_grid", (channels, hidden, hidden, channels)
    return GridMLP(widths, lmax, separable=separable, nlat=config.nlat, nlon=config.nlon)


class Readout(nn.Module):
    """A number per atom from degree 0 (``"scalar"``), or from a network at the points of a sphere (``"grid"``).

    Args:
        config: Of the model.
        degrees: Highest degree of the result: 0 for energies, 1 for forces, 2 for stress.
    """

    def __init__(self, config: ESCNConfig, degrees: int = 0) -> None:
        super().__init__()
        channels, self.rows = config.channels, (degrees + 1) ** 2
        self.grid: nn.Module | None = None
        self.mlp: nn.Module | None = None
        if config.readout == "grid":
            self.grid = GridMLP((channels, channels, channels, 1), config.lmax, nlat=config.nlat, nlon=config.nlon)
        elif degrees:
            hidden = GatedMLP(channels, channels, config.lmax, invariants=config.invariants)
            self.mlp = nn.Sequential(hidden, SphericalLinear(channels, 1, config.lmax))
        else:
            self.layers = nn.ModuleList([nn.Linear(channels, channels), nn.Linear(channels, 1)])
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights of the scalar network again."""
        if self.grid is None and self.mlp is None:
            for layer in self.layers:
                unit_variance_(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, (lmax + 1)^2, C]`` to the coefficients of the degrees, ``[N, rows]``."""
        if self.grid is not None:
            return self.grid(x)[:, : self.rows, 0]
        if self.mlp is not None:
            return self.mlp(x)[:, : self.rows, 0]
        return self.layers[1](F.silu(self.layers[0](x[:, 0])) * SILU_FACTOR)

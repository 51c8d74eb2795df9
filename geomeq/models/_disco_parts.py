"""What a DISCO U-Net is put together from: for scalars, and for spin fields."""

from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from geomeq.groups import SO2Irreps
from geomeq.nn import (
    DiscoConv,
    DiscoConvTranspose,
    FourierNonlinearity,
    GaugeLinear,
    NormGate,
    SO2BatchNorm,
    SteerableDiscoConv,
)
from geomeq.spheres import Resampler, Sampling

if TYPE_CHECKING:
    from .disco_unet import DiscoUNetConfig

ACTS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh, "elu": nn.ELU}


class Parts(Protocol):
    """Layers between levels; widths are numbers of channels, or of fields of every spin."""

    def conv(self, width_in: int, width_out: int, level_in: int, level_out: int) -> nn.Module:
        """A convolution on one level, or from one to another."""

    def up(self, width_in: int, width_out: int, level: int) -> nn.Module:
        """From ``level`` to the finer one before it."""

    def linear(self, width_in: int, width_out: int) -> nn.Module:
        """A map of each node by itself."""

    def activation(self, width: int) -> nn.Module:
        """Norm and non-linearity."""

    def stem(self, width: int) -> nn.Module:
        """From the input."""

    def head(self, width: int) -> nn.Module:
        """To the output."""


class ScalarParts:
    """Layers of scalar features.

    Args:
        config: Of the network.
        samplings: Of its levels.
    """

    def __init__(self, config: "DiscoUNetConfig", samplings: list[Sampling]) -> None:
        self.config, self.samplings = config, samplings
        shape = config.kernel_shape
        self.shape = shape if config.filters == "directional" else (shape[0], 1)

    def conv(self, width_in: int, width_out: int, level_in: int, level_out: int) -> nn.Module:
        """A DISCO convolution."""
        return self._layer(DiscoConv, width_in, width_out, level_in, level_out)

    def up(self, width_in: int, width_out: int, level: int) -> nn.Module:
        """The transpose, or linear interpolation."""
        if self.config.upsampling == "interpolation":
            fine, coarse = self.samplings[level - 1], self.samplings[level]
            return nn.Sequential(nn.Linear(width_in, width_out), Interpolate(coarse, fine))
        return self._layer(DiscoConvTranspose, width_in, width_out, level, level - 1)

    def _layer(
        self,
        kind: type[DiscoConv] | type[DiscoConvTranspose],
        width_in: int,
        width_out: int,
        level_in: int,
        level_out: int,
    ) -> nn.Module:
        s_in, s_out, config = self.samplings[level_in], self.samplings[level_out], self.config
        return kind(
            width_in,
            width_out,
            s_in,
            s_out,
            basis=config.basis,
            kernel_shape=self.shape,
            cutoff=config.radius(s_in, s_out),
            norm=config.filter_norm,
        )

    def linear(self, width_in: int, width_out: int) -> nn.Module:
        """Without a bias: a norm follows."""
        return nn.Linear(width_in, width_out, bias=False)

    def activation(self, width: int) -> nn.Module:
        """Batch norm over samples and nodes alike, and the function."""
        norm = [NodeNorm(width)] if self.config.norm == "batch" else []
        return nn.Sequential(*norm, ACTS[self.config.act]())

    def stem(self, width: int) -> nn.Module:
        """A convolution."""
        return self.conv(self.config.in_channels, width, 0, 0)

    def head(self, width: int) -> nn.Module:
        """A convolution."""
        return self.conv(width, self.config.out_channels, 0, 0)


class SpinParts:
    """Layers of spin fields, equivariant in the frames of the nodes.

    Args:
        config: Of the network.
        samplings: Of its levels.
    """

    def __init__(self, config: "DiscoUNetConfig", samplings: list[Sampling]) -> None:
        self.config, self.samplings = config, samplings

    def _types(self, width: int) -> str:
        return str(SO2Irreps([(width, spin) for spin in self.config.spins]))

    def _conv(self, types_in: str, types_out: str, level_in: int, level_out: int) -> nn.Module:
        s_in, s_out = self.samplings[level_in], self.samplings[level_out]
        return SteerableDiscoConv(
            types_in,
            types_out,
            s_in,
            self.config.radius(s_in, s_out),
            s_out,
            rings=self.config.kernel_shape[0],
            self_interaction=level_in == level_out,
        )

    def conv(self, width_in: int, width_out: int, level_in: int, level_out: int) -> nn.Module:
        """A steerable convolution."""
        return self._conv(self._types(width_in), self._types(width_out), level_in, level_out)

    def up(self, width_in: int, width_out: int, level: int) -> nn.Module:
        """A steerable convolution from the coarse nodes to the fine ones."""
        return self.conv(width_in, width_out, level, level - 1)

    def linear(self, width_in: int, width_out: int) -> nn.Module:
        """Each order by itself."""
        return GaugeLinear(self._types(width_in), self._types(width_out))

    def activation(self, width: int) -> nn.Module:
        """Norm of lengths, and the non-linearity."""
        types, config = self._types(width), self.config
        norm = [SO2BatchNorm(types)] if config.norm == "batch" else []
        if config.nonlinearity == "fourier":
            return nn.Sequential(*norm, FourierNonlinearity(types, config.act))
        return nn.Sequential(*norm, NormGate(types, "scalars" if config.nonlinearity == "gate" else "norm", config.act))

    def stem(self, width: int) -> nn.Module:
        """From scalars."""
        return self._conv(f"{self.config.in_channels}x0", self._types(width), 0, 0)

    def head(self, width: int) -> nn.Module:
        """To scalars, from all orders."""
        return self._conv(self._types(width), f"{self.config.out_channels}x0", 0, 0)


class NodeNorm(nn.BatchNorm1d):
    """Batch norm of ``[B, N, C]`` over samples and nodes alike, so that no node is special."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises."""
        return super().forward(x.flatten(0, 1)).view(x.shape)


class Interpolate(nn.Module):
    """Linear interpolation from one sampling to another."""

    def __init__(self, s_in: Sampling, s_out: Sampling) -> None:
        super().__init__()
        self.resampler = Resampler(s_in, s_out, method="linear")

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N_in, C]`` to ``[B, N_out, C]``."""
        return self.resampler(x)  # type: ignore[no-any-return]

"""The linear map of spherical channels: one matrix per degree."""

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape

from ._paths import Constant
from ._rows import check_degrees, row_degrees


class SphericalLinear(nn.Module):
    r"""Mixes the channels of each degree with a matrix of its own, :math:`x'_{lm} = x_{lm} W_l + \delta_{l0} b`.

    Commutes with rotations and reflections, and is the most general linear map that does. Weights are drawn such that
    unit variance stays.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        lmax: Highest degree.
        bias: Whether a shift of degree 0 is learned.

    Example:
        >>> SphericalLinear(4, 8, lmax=2)(torch.randn(5, 9, 4)).shape
        torch.Size([5, 9, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, lmax: int, bias: bool = True) -> None:
        super().__init__()
        check_degrees(lmax)
        self.in_channels, self.out_channels, self.lmax = in_channels, out_channels, lmax
        self.weight = nn.Parameter(torch.empty(lmax + 1, in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._degree = Constant(torch.tensor(row_degrees(lmax)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of variance ``1 / in_channels``, no shift."""
        nn.init.normal_(self.weight, std=self.in_channels**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``x`` ``[N, (lmax + 1)^2, in_channels]`` to ``[N, (lmax + 1)^2, out_channels]``."""
        rows = (self.lmax + 1) ** 2
        check_shape("x", x, "N", rows, self.in_channels, hint=f"the layer was built for lmax={self.lmax}")
        weight = self.weight.index_select(0, self._degree.on(x.device))
        out = torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)  # one product per row: no copy of a degree
        if self.bias is None:
            return out
        return torch.cat([out[:, :1] + self.bias, out[:, 1:]], dim=1)

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"{self.in_channels}, {self.out_channels}, lmax={self.lmax}, bias={self.bias is not None}"


def unit_variance_(layer: nn.Module) -> None:
    """Normal weights that keep the variance of independent inputs, no shift."""
    assert isinstance(layer, nn.Linear)
    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)

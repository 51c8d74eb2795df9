"""The SO(2) block of the published eSCN: two thin matrices per order with gates of the edge in between."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops._product import Linear, matmul

from ._gate import SILU_FACTOR
from .spherical_linear import unit_variance_


class LowRankSO2(nn.Module):
    r"""Sum of separate blocks for both ends of an edge; for each end

    .. math::
        y_0 = V_0 (U_0 x_0 \odot g_0), \qquad
        p = V_r (U_r x_m \odot g_r), \; q = V_i (U_i x_m \odot g_i), \qquad
        y_{+m} = p_{+m} - q_{-m}, \; y_{-m} = p_{-m} + q_{+m}

    with gates :math:`g = \mathrm{SiLU}(A_m a_{ij})`. Commutes with turns about the axis.

    Args:
        in_channels: Channels of each end.
        hidden_channels: Width in between.
        out_channels: Channels of the output.
        lmax: Highest degree.
        mmax: Highest order.
        edge_channels: Number of invariants of an edge.

    Source: Passaro and Zitnick (2023), https://arxiv.org/abs/2302.03655.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, lmax: int, mmax: int, edge_channels: int
    ) -> None:
        super().__init__()
        self.in_channels, self.hidden_channels, self.out_channels = in_channels, hidden_channels, out_channels
        self.lmax, self.mmax, self.edge_channels = lmax, mmax, edge_channels
        down, up, gates = [], [], []
        for m in range(mmax + 1):
            parts, rows = (2 if m else 1), lmax + 1 - m
            # both ends, and for m > 0 real and imaginary part, lie on the first axis
            down.append(nn.Parameter(torch.empty(2 * parts, rows * in_channels, hidden_channels)))
            up.append(nn.Parameter(torch.empty(2 * parts, hidden_channels, rows * out_channels)))
            gates.append(Linear(edge_channels, 2 * parts * hidden_channels))
        self.down, self.up, self.gates = nn.ParameterList(down), nn.ParameterList(up), nn.ModuleList(gates)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights; unit variance stays."""
        for down, up, gate in zip(self.down, self.up, self.gates, strict=True):
            nn.init.normal_(down, std=down.size(1) ** -0.5)
            nn.init.normal_(up, std=(up.size(0) * up.size(1)) ** -0.5)  # all parts add up
            unit_variance_(gate)

    def forward(self, h: Tensor, edge_scalars: Tensor) -> Tensor:
        """Maps ``[E, B, 2 * in_channels]`` (source, target) to ``[E, B, out_channels]``."""
        check_shape("edge_scalars", edge_scalars, h.size(0), self.edge_channels)
        edges, out, at = h.size(0), [], 0
        for m in range(self.mmax + 1):
            parts, rows = (2 if m else 1), self.lmax + 1 - m
            block = h[:, at : at + parts * rows].unflatten(2, (2, self.in_channels))
            # [ends, E * signs, rows * C]
            x = (
                block.unflatten(1, (parts, rows))
                .permute(3, 0, 1, 2, 4)
                .reshape(2, edges * parts, rows * self.in_channels)
            )
            gates = (F.silu(self.gates[m](edge_scalars)) * SILU_FACTOR).view(edges, 1, 2 * parts, self.hidden_channels)
            made: list[Tensor] = []
            for k, (down, up, gate) in enumerate(zip(self.down[m], self.up[m], gates.unbind(2), strict=True)):
                hidden = matmul(x[k // parts], down).view(edges, parts, self.hidden_channels) * gate
                y = matmul(hidden.view(edges * parts, self.hidden_channels), up).view(
                    edges, parts, rows, self.out_channels
                )
                if k < parts:
                    made.append(y)
                else:
                    made[k - parts] = made[k - parts] + y  # of the other end
            if m == 0:
                out.append(made[0][:, 0])
            else:
                (p, q), (r, s) = (own.unbind(1) for own in made)
                out.append(torch.cat([p - s, q + r], dim=1))
            at += parts * rows
        return torch.cat(out, dim=1)

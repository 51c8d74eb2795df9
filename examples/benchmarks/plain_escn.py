"""The block of eSEN as published codes write it: what the case ``escn_block`` compares with.

Written from the formulas, in the manner of the published implementations: dense Wigner matrices ``[E, (L+1)^2,
(L+1)^2]``, a product with a permutation matrix to order coefficients by m and drop those beyond mmax, gathered and
concatenated features of both ends, real and imaginary parts as two products that are added afterwards, ``index_add``.
"""

import torch
from torch import Tensor, nn

from geomeq.nn import GatedMLP, SO2Conv, SO2Linear, SphericalNorm
from geomeq.nn._gate import SIGMOID_FACTOR, SILU_FACTOR
from geomeq.ops import EdgeLayout


def dense_wigner(flat: Tensor, layout: EdgeLayout) -> Tensor:
    """Wigner matrices of all degrees as one ``[E, (L+1)^2, (L+1)^2]``; ``layout`` keeps all orders."""
    out = flat.new_zeros(flat.size(0), layout.num_coefficients, layout.num_coefficients)
    rows = zip(layout.degrees, layout.signed_orders, layout.starts, strict=True)
    for degree, m, start in rows:
        columns = slice(degree**2, (degree + 1) ** 2)
        out[:, degree**2 + degree + m, columns] = flat[:, start : start + 2 * degree + 1]
    return out


def permutation(layout: EdgeLayout) -> Tensor:
    """The matrix ``[B, (L+1)^2]`` that orders coefficients by m."""
    out = torch.zeros(layout.num_rows, layout.num_coefficients)
    for row, (degree, m) in enumerate(zip(layout.degrees, layout.signed_orders, strict=True)):
        out[row, degree**2 + degree + m] = 1
    return out


class PlainSO2(nn.Module):
    """An SO2Linear of two products per order: of real and of imaginary weights with both parts at once."""

    def __init__(self, layer: SO2Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor, edge_scalars: Tensor | None = None) -> tuple[Tensor, Tensor]:
        layer, edges = self.layer, h.size(0)
        if layer.scale is not None:
            h = h * layer.scale(edge_scalars)
        zero, *others = layer.layout.orders
        y = h[:, zero.rows].flatten(1) @ layer.weights[0][0]
        y, extra = y.split([y.size(1) - layer.extra_scalars, layer.extra_scalars], dim=1)
        if layer.bias is not None:
            own, rest = layer.bias.split([layer.out_channels, layer.extra_scalars])
            y, extra = torch.cat([y[:, : layer.out_channels] + own, y[:, layer.out_channels :]], dim=1), extra + rest
        out = [y.view(edges, -1, layer.out_channels)]
        for order, weight in zip(others, list(layer.weights)[1:], strict=True):
            pair = h[:, order.rows].reshape(edges, 2, -1)
            real, imaginary = pair @ weight[0], pair @ weight[1]
            plus, minus = real[:, 0] + imaginary[:, 1], real[:, 1] - imaginary[:, 0]
            out += [part.view(edges, -1, layer.out_channels) for part in (plus, minus)]
        return torch.cat(out, dim=1), extra


class PlainBlock(nn.Module):
    """Norm, message, norm, network at the nodes, with the weights of the package's layers."""

    def __init__(self, norms: nn.ModuleList, conv: SO2Conv, mlp: GatedMLP) -> None:
        super().__init__()
        layout = EdgeLayout(conv.lmax, conv.mmax)
        self.norms, self.conv, self.mlp = norms, conv, mlp
        self.first, self.second = PlainSO2(conv.first), PlainSO2(conv.second)
        self.register_buffer("to_m", permutation(layout))
        self.register_buffer("degree", torch.tensor(layout.degrees))

    def forward(self, x: Tensor, wigner: Tensor, edge_index: Tensor, scalars: Tensor, envelope: Tensor) -> Tensor:
        x = x + self.message(self.norms[0](x), wigner, edge_index, scalars, envelope)
        return x + self.mlp(self.norms[1](x))

    def message(self, x: Tensor, wigner: Tensor, edge_index: Tensor, scalars: Tensor, envelope: Tensor) -> Tensor:
        source, target = edge_index
        both = torch.cat([x[source], x[target]], dim=2)
        h = torch.einsum("ba,eac->ebc", self.to_m, torch.bmm(wigner, both))
        h, gates = self.first(h, scalars)
        gate = torch.sigmoid(gates.view(len(h), self.conv.lmax, -1)) * SIGMOID_FACTOR
        h = torch.cat([nn.functional.silu(h[:, :1]) * SILU_FACTOR, h[:, 1:] * gate[:, self.degree[1:] - 1]], dim=1)
        h, _ = self.second(h)
        h = torch.einsum("ba,ebc->eac", self.to_m, h * envelope[:, None, None])
        h = torch.bmm(wigner.transpose(1, 2), h)
        return torch.zeros_like(x).index_add(0, target, h) * self.conv.scale


def norms(channels: int, lmax: int) -> nn.ModuleList:
    return nn.ModuleList(SphericalNorm(channels, lmax, "rms") for _ in range(2))

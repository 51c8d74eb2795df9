"""Mixes channels at a node without looking at its frame."""

import torch
from torch import Tensor, nn

from geomeq.groups import SO2Irreps

from ._so2 import check_features, layout, of_order


class GaugeLinear(nn.Module):
    r"""All linear maps at a node that commute with rotations of its frame.

    By Schur's lemma only equal orders mix: with real weights for order 0 and complex ones for every other,

    .. math:: y_{m,c} = \sum_{c'} w_{m,c,c'}\, x_{m,c'} + [m = 0]\, b_c .

    A complex weight is a scale and a turn, so orders :math:`m \geq 1` have two reals per pair of channels. A bias
    exists on order 0 only: a constant vector in every frame is a different vector in every frame. Orders of the output
    that the input does not have are zero; orders that only the input has are dropped. This makes it the skip
    connection of :class:`GaugeResBlock`. Message form: none (nodes only).

    Args:
        types_in: Type of the input.
        types_out: Type of the output.
        bias: Whether order 0 has a bias.

    Example:
        >>> layer = GaugeLinear("3x0+2x1", "4x0+4x1+1x2")
        >>> layer(torch.randn(5, 7)).shape
        torch.Size([5, 14])

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425, the self interaction.
    """

    def __init__(self, types_in: SO2Irreps | str, types_out: SO2Irreps | str, bias: bool = True) -> None:
        super().__init__()
        self.types_in, self.types_out = SO2Irreps(types_in), SO2Irreps(types_out)
        self._in, self._out = layout(self.types_in), layout(self.types_out)
        self._dims = (self.types_in.dim, self.types_out.dim)
        self._hint = f"the layer was built for types_in={self.types_in}"
        self._orders = sorted({b.order for b in self._in} & {b.order for b in self._out})
        shapes = {m: (self.types_in.count(m), self.types_out.count(m)) for m in self._orders}
        self.weights = nn.ParameterDict(
            {str(m): nn.Parameter(torch.empty(shape if m == 0 else (2, *shape))) for m, shape in shapes.items()}
        )
        scalars = self.types_out.count(0)
        self.bias = nn.Parameter(torch.empty(scalars)) if bias and scalars else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights uniformly from plus/minus 1/sqrt(fan-in), both parts of a pair counted; the bias alike."""
        with torch.no_grad():
            for key, weight in self.weights.items():
                bound = (weight.size(-2) * (2 if key != "0" else 1)) ** -0.5
                weight.uniform_(-bound, bound)
            if self.bias is not None:
                bound = max(self.types_in.count(0), 1) ** -0.5
                self.bias.uniform_(-bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the map.

        Args:
            x: Features, ``[..., types_in.dim]``.

        Returns:
            ``[..., types_out.dim]``.

        Raises:
            ValueError: If the last axis of ``x`` differs from ``types_in``.
        """
        check_features(x, self._dims[0], self._hint)
        # The equivariant core stays in the precision of the weights under autocast.
        with torch.autocast(x.device.type, enabled=False):
            if len(self.weights):
                x = x.to(self.weights[str(self._orders[0])].dtype)
            mixed = {m: self._mix(x, m) for m in self._orders}
            parts, used = [], dict.fromkeys(self._orders, 0)
            for b in self._out:
                if b.order in mixed:
                    at = used[b.order]
                    used[b.order] = at + b.end - b.begin
                    parts.append(mixed[b.order][..., at : at + b.end - b.begin])
                elif b.order == 0 and self.bias is not None:
                    at = sum(o.mul for o in self._out[: self._out.index(b)] if o.order == 0)
                    parts.append(self.bias[at : at + b.mul].to(x.dtype).expand(*x.shape[:-1], b.mul))
                else:
                    parts.append(x.new_zeros(*x.shape[:-1], b.end - b.begin))
            if not parts:
                return x.new_zeros(*x.shape[:-1], 0)
            return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]

    def _mix(self, x: Tensor, order: int) -> Tensor:
        """Output channels of one order, ``[..., count * components]``."""
        columns = [x[..., b.begin : b.end] for b in of_order(self._in, order)]
        features = torch.cat(columns, dim=-1) if len(columns) > 1 else columns[0]
        weight = self.weights[str(order)]
        if order == 0:
            return (
                features @ weight
                if self.bias is None
                else torch.addmm(self.bias, features.reshape(-1, weight.size(0)), weight).view(
                    *x.shape[:-1], weight.size(1)
                )
            )
        a, b = weight.unbind(0)
        # Rows (re, im) of the input, columns (re, im) of the output: (a + ib)(re + i im).
        real = torch.stack([torch.stack([a, b], dim=-1), torch.stack([-b, a], dim=-1)], dim=1)
        return features @ real.flatten(2).flatten(0, 1)

    def extra_repr(self) -> str:
        """The types."""
        return f"{self.types_in} -> {self.types_out}, bias={self.bias is not None}"

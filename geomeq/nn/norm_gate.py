"""Non-linearities that look at lengths only: exact under every turn of the frame."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq.groups import SO2Irreps

from ._so2 import check_features, join, layout, length, split

_ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "tanh": torch.tanh,
    "elu": F.elu,
    "relu": F.relu,
}


def _act(act: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    if not isinstance(act, str) and callable(act):
        return act
    if not isinstance(act, str) or act not in _ACTS:
        raise ValueError(f"act must be one of {', '.join(_ACTS)} or a function of a tensor, got {act!r}")
    return _ACTS[act]


class NormGate(nn.Module):
    r"""Scales every field by a gate in (0, 1); order 0 goes through an ordinary activation.

    .. math:: z' = z \, \sigma(w |z| + b) \qquad \text{or} \qquad z' = z \, \sigma(W x_0 + b)

    The gate sees the length of the field itself, or all scalars of its node. Either is invariant, so the layer
    commutes with turns exactly, at every size of the features and in every precision.

    Args:
        types: Type of input and output.
        gate: ``"norm"`` or ``"scalars"``.
        act: Activation of order 0, a name as in :class:`FourierNonlinearity` or a function.

    Raises:
        ValueError: If ``gate`` or ``act`` is unknown, or there are no scalars to gate with.

    Example:
        >>> NormGate("4x0+4x1")(torch.randn(5, 12)).shape
        torch.Size([5, 12])
    """

    def __init__(
        self, types: SO2Irreps | str, gate: str = "norm", act: str | Callable[[Tensor], Tensor] = "silu"
    ) -> None:
        super().__init__()
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        if gate not in ("norm", "scalars"):
            raise ValueError(f"gate must be 'norm' or 'scalars', got {gate!r}")
        scalars = self.types.count(0)
        gates = self.types.num_fields - scalars
        if gate == "scalars" and gates and not scalars:
            raise ValueError(f"gate='scalars' needs fields of order 0, but types={self.types} has none; use 'norm'")
        self.gate, self.act = gate, act
        self._function = _act(act)
        self._blocks, self._dim = layout(self.types), self.types.dim
        self._hint = f"the layer was built for types={self.types}"
        self.weight = nn.Parameter(torch.empty(gates, scalars) if gate == "scalars" else torch.empty(gates))
        self.bias = nn.Parameter(torch.empty(gates))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Norm gates start at ``w = 1, b = 0``; those of scalars as ``nn.Linear`` does, with ``b = 0``."""
        with torch.no_grad():
            self.bias.zero_()
            if self.weight.dim() == 1:
                self.weight.fill_(1.0)
            else:
                bound = max(self.weight.size(1), 1) ** -0.5
                self.weight.uniform_(-bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the gates to features ``[..., types.dim]``."""
        check_features(x, self._dim, self._hint)
        parts = split(x, self._blocks)
        gates = None
        if self.gate == "scalars" and self.bias.numel():
            scalars = [part.squeeze(-1) for b, part in zip(self._blocks, parts, strict=True) if b.order == 0]
            gates = F.linear(torch.cat(scalars, dim=-1), self.weight, self.bias).sigmoid().unsqueeze(-1)
        out, at = [], 0
        for b, part in zip(self._blocks, parts, strict=True):
            if b.order == 0:
                out.append(self._function(part))
                continue
            own = slice(at, at + b.mul)
            at += b.mul
            if gates is None:
                factor = (self.weight[own, None] * length(part) + self.bias[own, None]).sigmoid()
            else:
                factor = gates[..., own, :]
            out.append(part * factor)
        return join(out, x)

    def extra_repr(self) -> str:
        """Type and kind of gate."""
        return f"{self.types}, gate={self.gate!r}"


class NormReLU(nn.Module):
    r"""The non-linearity of harmonic networks (C-ReLU): an activation of the length, the direction stays.

    .. math:: z' = f(|z| + b) \, \frac{z}{\sqrt{|z|^2 + \epsilon^2}}, \qquad x'_0 = f(x_0 + b)

    With a positive bias the published form jumps where :math:`z` changes sign; :math:`\epsilon` joins the two sides,
    so that the gradient at zero is finite (at most :math:`f(b) / \epsilon`).

    Args:
        types: Type of input and output.
        act: ``f``, a name as in :class:`FourierNonlinearity` or a function.
        eps: Length below which the layer is linear, in the unit of the features.

    Example:
        >>> NormReLU("4x0+4x1")(torch.zeros(5, 12)).abs().max()
        tensor(0., grad_fn=<MaxBackward1>)

    Source: Worrall et al. (2017), https://arxiv.org/abs/1612.04642, sec. 4.2.
    """

    def __init__(
        self, types: SO2Irreps | str, act: str | Callable[[Tensor], Tensor] = "relu", eps: float = 1e-2
    ) -> None:
        super().__init__()
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        if not eps > 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.act, self.eps = act, eps
        self._function = _act(act)
        self._blocks, self._dim = layout(self.types), self.types.dim
        self._hint = f"the layer was built for types={self.types}"
        self.bias = nn.Parameter(torch.zeros(self.types.num_fields))

    def reset_parameters(self) -> None:
        """Bias 0."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the function to features ``[..., types.dim]``."""
        check_features(x, self._dim, self._hint)
        out, at = [], 0
        for b, part in zip(self._blocks, split(x, self._blocks), strict=True):
            bias = self.bias[at : at + b.mul, None]
            at += b.mul
            if b.order == 0:
                out.append(self._function(part + bias))
            else:
                smooth = (part.square().sum(-1, keepdim=True) + self.eps**2).sqrt()
                out.append(part * (self._function(length(part) + bias) / smooth))
        return join(out, x)

    def extra_repr(self) -> str:
        """Type and function."""
        name = self.act if isinstance(self.act, str) else type(self.act).__name__
        return f"{self.types}, act={name}, eps={self.eps}"

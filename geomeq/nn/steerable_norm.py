"""Normalisations that commute with rotations, reflections and translations."""

import torch
from e3nn import o3
from torch import Tensor, nn

from geomeq._checks import check_shape

from ._paths import layout

_SCALAR = o3.Irrep("0e")


class SteerableNorm(nn.Module):
    """Shared part of the three norms: learned scale per channel, learned shift of even scalars.

    Args:
        irreps: Type of the features.
        eps: Added to every mean square.
        affine: Whether scale and shift are learned.
    """

    def __init__(self, irreps: o3.Irreps | str, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.irreps = self.irreps_in = self.irreps_out = o3.Irreps(irreps)
        self.eps, self.affine = eps, affine
        self._layout, self._dim = layout(self.irreps), self.irreps.dim
        self._hint = f"the norm was built for irreps={self.irreps}"
        num_channels, num_scalars = self.irreps.num_irreps, sum(mul for mul, ir in self.irreps if ir == _SCALAR)
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_scalars)) if affine else None

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def _slices(self, x: Tensor) -> list[tuple[Tensor, bool]]:
        check_shape("x", x, "N", self._dim, hint=self._hint)
        return [(x[:, p.begin : p.end].view(x.size(0), p.mul, p.dim), p.kind == "0e") for p in self._layout]

    def _finish(self, parts: list[tuple[Tensor, bool]]) -> Tensor:
        out, channel, scalar = [], 0, 0
        for part, is_scalar in parts:
            mul = part.size(1)
            if self.weight is not None and self.bias is not None:
                part = part * self.weight[channel : channel + mul, None]
                if is_scalar:
                    part = part + self.bias[scalar : scalar + mul, None]
            channel, scalar = channel + mul, scalar + mul * is_scalar
            out.append(part.flatten(1))
        return torch.cat(out, dim=1)

    def extra_repr(self) -> str:
        """The type and the options."""
        return f"{self.irreps}, eps={self.eps}, affine={self.affine}"


class SteerableInstanceNorm(SteerableNorm):
    """Normalises each channel over the nodes of each graph: the norm of the published SEGNN.

    Even scalars lose their mean over the graph; then every channel is divided by the root of its mean square over
    nodes and components.

    Args:
        irreps: Type of the features.
        eps: Added to every mean square.
        affine: Whether scale and shift are learned.
    """

    def forward(self, x: Tensor, batch: Tensor | None = None, num_graphs: int | None = None) -> Tensor:
        """Normalises.

        Args:
            x: Features, ``[N, irreps.dim]``.
            batch: Graph of each node, ``[N]``; all one graph if missing.
            num_graphs: Number of graphs, ``batch.max() + 1`` if missing.
        """
        if batch is None:
            batch, num_graphs = torch.zeros(x.size(0), dtype=torch.long, device=x.device), 1
        elif num_graphs is None:
            num_graphs = int(batch.max()) + 1 if batch.numel() else 0
        count = x.new_zeros(num_graphs).index_add(0, batch, x.new_ones(x.size(0))).clamp(min=1)

        def mean(values: Tensor) -> Tensor:
            total = values.new_zeros(num_graphs, values.size(1)).index_add(0, batch, values)
            return (total / count[:, None])[batch]

        parts = []
        for part, is_scalar in self._slices(x):
            if is_scalar:
                part = part - mean(part.squeeze(2))[:, :, None]
            parts.append((part * (mean(part.square().mean(dim=2)) + self.eps).rsqrt()[:, :, None], is_scalar))
        return self._finish(parts)


class SteerableLayerNorm(SteerableNorm):
    """Normalises each node by itself: even scalars lose their mean over channels, each slice is scaled to unit RMS.

    Depends on nothing but the node, so a batch equals its graphs one by one, also in training.

    Args:
        irreps: Type of the features.
        eps: Added to every mean square.
        affine: Whether scale and shift are learned.
    """

    def forward(self, x: Tensor, batch: Tensor | None = None, num_graphs: int | None = None) -> Tensor:
        """Normalises ``x`` ``[N, irreps.dim]``; the other arguments are accepted for symmetry and not used."""
        parts = []
        for part, is_scalar in self._slices(x):
            if part.size(1):
                if is_scalar:
                    part = part - part.mean(dim=1, keepdim=True)
                part = part * (part.square().mean(dim=(1, 2), keepdim=True) + self.eps).rsqrt()
            parts.append((part, is_scalar))
        return self._finish(parts)


class SteerableBatchNorm(SteerableNorm):
    """Normalises each channel over all nodes of the batch in training, by running averages in evaluation.

    Args:
        irreps: Type of the features.
        eps: Added to every mean square.
        affine: Whether scale and shift are learned.
        momentum: Weight of the newest batch in the running averages.
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(self, irreps: o3.Irreps | str, eps: float = 1e-5, affine: bool = True, momentum: float = 0.1) -> None:
        super().__init__(irreps, eps, affine)
        self.momentum = momentum
        scalars = sum(mul for mul, ir in self.irreps if ir == _SCALAR)
        self.register_buffer("running_mean", torch.zeros(scalars))
        self.register_buffer("running_square", torch.ones(self.irreps.num_irreps))

    def forward(self, x: Tensor, batch: Tensor | None = None, num_graphs: int | None = None) -> Tensor:
        """Normalises ``x`` ``[N, irreps.dim]``; the other arguments are accepted for symmetry and not used."""
        parts, means, squares, channel, scalar = [], [], [], 0, 0
        learning = self.training and x.size(0) > 0
        for part, is_scalar in self._slices(x):
            mul = part.size(1)
            if is_scalar:
                mean = part.mean(dim=0).squeeze(1) if learning else self.running_mean[scalar : scalar + mul]
                means.append(mean.detach())
                part = part - mean[:, None]
            square = part.square().mean(dim=(0, 2)) if learning else self.running_square[channel : channel + mul]
            squares.append(square.detach())
            parts.append((part * (square + self.eps).rsqrt()[:, None], is_scalar))
            channel, scalar = channel + mul, scalar + mul * is_scalar
        if learning:
            with torch.no_grad():
                self.running_square.lerp_(torch.cat(squares).to(self.running_square), self.momentum)
                if means:
                    self.running_mean.lerp_(torch.cat(means).to(self.running_mean), self.momentum)
        return self._finish(parts)

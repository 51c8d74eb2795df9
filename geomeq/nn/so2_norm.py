"""Batch norm and dropout of SO(2) types: whole fields, never their components."""

import torch
from torch import Tensor, nn

from geomeq.groups import SO2Irreps

from ._so2 import check_features, join, layout, split


class SO2BatchNorm(nn.Module):
    r"""Normalises each field over all nodes of the batch in training, by running averages in evaluation.

    Order 0 as usual: :math:`(x - \mu) / \sqrt{\sigma^2 + \epsilon} \cdot w + b`. Order :math:`m \geq 1` by its length
    alone, :math:`z / \sqrt{\langle |z|^2 \rangle / 2 + \epsilon} \cdot w`: the mean of components written in
    different frames means nothing, so none is subtracted, and no bias is added.

    Args:
        types: Type of input and output.
        eps: Added to every mean square.
        affine: Whether scale and shift are learned.
        momentum: Weight of the newest batch in the running averages.

    Example:
        >>> SO2BatchNorm("4x0+4x1")(torch.randn(5, 12)).shape
        torch.Size([5, 12])
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(self, types: SO2Irreps | str, eps: float = 1e-5, affine: bool = True, momentum: float = 0.1) -> None:
        super().__init__()
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        self.eps, self.affine, self.momentum = eps, affine, momentum
        self._blocks, self._dim = layout(self.types), self.types.dim
        self._hint = f"the norm was built for types={self.types}"
        fields, scalars = self.types.num_fields, self.types.count(0)
        self.weight = nn.Parameter(torch.ones(fields)) if affine else None
        self.bias = nn.Parameter(torch.zeros(scalars)) if affine else None
        self.register_buffer("running_mean", torch.zeros(scalars))
        self.register_buffer("running_square", torch.ones(fields))

    def reset_parameters(self) -> None:
        """Scale 1, shift 0; the running averages too."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_square.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises features ``[..., types.dim]``; all leading axes are the batch."""
        check_features(x, self._dim, self._hint)
        learning = self.training and x.numel() > 0
        out, means, squares, field, scalar = [], [], [], 0, 0
        for b, part in zip(self._blocks, split(x, self._blocks), strict=True):
            own = slice(field, field + b.mul)
            if b.order == 0:
                mean = self.running_mean[scalar : scalar + b.mul]
                if learning:
                    mean = part.reshape(-1, b.mul).mean(0)
                    means.append(mean.detach())
                part = part - mean[:, None]
            square = self.running_square[own]
            if learning:
                square = part.square().mean(-1).reshape(-1, b.mul).mean(0)
                squares.append(square.detach())
            factor = (square + self.eps).rsqrt()
            factor = factor if self.weight is None else factor * self.weight[own]
            part = part * factor[:, None]
            if b.order == 0 and self.bias is not None:
                part = part + self.bias[scalar : scalar + b.mul, None]
            field, scalar = field + b.mul, scalar + (b.mul if b.order == 0 else 0)
            out.append(part)
        if squares:
            self._remember(means, squares)
        return join(out, x)

    @torch.no_grad()
    def _remember(self, means: list[Tensor], squares: list[Tensor]) -> None:
        self.running_square.lerp_(torch.cat(squares).to(self.running_square), self.momentum)
        if means:
            self.running_mean.lerp_(torch.cat(means).to(self.running_mean), self.momentum)

    def extra_repr(self) -> str:
        """The type and the options."""
        return f"{self.types}, eps={self.eps}, affine={self.affine}, momentum={self.momentum}"


class GaugeDropout(nn.Module):
    """Drops whole fields: all components of one (channel, order) at a node, or none.

    What is left grows by ``1 / (1 - p)``. Dropping one of two components would depend on the frame.

    Args:
        types: Type of input and output.
        p: Probability of each field at each node.

    Raises:
        ValueError: If ``p`` lies outside of [0, 1).

    Example:
        >>> GaugeDropout("4x0+4x1", p=0.5).eval()(torch.ones(1, 12)).sum()
        tensor(12.)
    """

    def __init__(self, types: SO2Irreps | str, p: float = 0.5) -> None:
        super().__init__()
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        if not 0 <= p < 1:
            raise ValueError(f"p must lie in [0, 1), got {p}")
        self.p = p
        self._blocks, self._dim = layout(self.types), self.types.dim
        self._hint = f"the layer was built for types={self.types}"

    def forward(self, x: Tensor) -> Tensor:
        """Drops fields of ``x`` ``[..., types.dim]`` while training."""
        check_features(x, self._dim, self._hint)
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        parts = [
            part * (torch.rand(part.shape[:-1], device=x.device) < keep).to(x.dtype).div(keep).unsqueeze(-1)
            for part in split(x, self._blocks)
        ]
        return join(parts, x)

    def extra_repr(self) -> str:
        """Type and probability."""
        return f"{self.types}, p={self.p}"

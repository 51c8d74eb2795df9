"""Batch normalisation of signals on a group: one mean and one scale per channel, shared by all group elements."""

from typing import Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from geomeq._checks import check_shape

LAYOUTS = ("nodes", "grid")


class GroupBatchNorm(_BatchNorm):
    """Batch normalisation that commutes with the group.

    The group permutes the places of a signal. Statistics and affine parameters per place would be permuted with them;
    so they are taken over the batch and all places, group elements included, and belong to channels alone. (A plain
    ``BatchNorm2d`` over channels times orientations is not equivariant.)

    Args:
        num_channels: C.
        layout: ``"nodes"`` for ``[B, N, C]`` or ``[N, C]`` (group convolutions, graphs), ``"grid"`` for
            ``[B, C, |H|, Y, X]`` (convolutions on images; any axes after the second).
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics.
        affine: Whether scale and shift are learned.

    Raises:
        ValueError: If the layout is unknown.

    Example:
        >>> import torch
        >>> GroupBatchNorm(16, layout="grid")(torch.randn(2, 16, 4, 8, 8)).shape
        torch.Size([2, 16, 4, 8, 8])

    Source: Cohen and Welling (2016), https://arxiv.org/abs/1602.07576, section 6.
    """

    def __init__(
        self, num_channels: int, layout: str = "nodes", eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        super().__init__(num_channels, eps=eps, momentum=momentum, affine=affine)
        self.layout = layout

    def _check_input_dim(self, input: Tensor) -> None:  # called by torch's forward; ours has checked
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Normalises.

        Args:
            x: ``[..., N, C]`` or ``[B, C, |H|, ...]``, by layout.

        Returns:
            The same shape.

        Raises:
            ValueError: If ``x`` has another number of channels, or one value per channel only while training.
        """
        if self.layout == "nodes":
            check_shape("x", x, "...", "N", self.num_features, hint="layout='nodes' has channels last")
            return super().forward(x.reshape(-1, self.num_features)).view_as(x)  # type: ignore[no-any-return]
        if x.dim() < 3 or x.size(1) != self.num_features:
            raise ValueError(
                f"x must have shape [B, {self.num_features}, |H|, ...], got {list(x.shape)}; layout='grid' has "
                "channels second"
            )
        return super().forward(x)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Channels and layout."""
        options: list[Any] = [self.num_features, f"layout={self.layout!r}", f"eps={self.eps}"]
        return ", ".join(map(str, [*options, f"momentum={self.momentum}", f"affine={self.affine}"]))

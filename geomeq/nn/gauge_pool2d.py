"""Halves images of typed features: linear averages, the only pooling that every order allows."""

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps

from .group_pool2d import AntiAliasedPool2d, SpatialPool2d

_KINDS = ("antialiased", "mean", "max")


class GaugePool2d(nn.Module):
    """Pools images of typed features, all components alike, so that quarter turns are kept.

    ``"antialiased"`` blurs with a binomial filter and keeps every ``stride``-th pixel, symmetrically at every size
    (:class:`AntiAliasedPool2d`); ``"mean"`` takes means of windows, as published, symmetrically only if the windows
    cover the image exactly (:class:`SpatialPool2d` warns). The largest entry of each component means nothing for
    orders of 1 and more, where components turn into each other: ``"max"`` is refused unless all fields are scalars.

    Args:
        types: Type of input and output.
        stride: Step between the pixels kept.
        kind: ``"antialiased"``, ``"mean"`` or ``"max"``.
        on_illegal: What ``"mean"`` and ``"max"`` do at sizes that break the symmetry: ``"warn"``, ``"error"`` or
            ``"ignore"``.

    Raises:
        ValueError: If the kind does not exist or is not linear and the type holds more than scalars.

    Example:
        >>> GaugePool2d("4x0+4x1")(torch.randn(2, 12, 28, 28)).shape
        torch.Size([2, 12, 14, 14])
    """

    def __init__(
        self, types: SO2Irreps | str, stride: int = 2, kind: str = "antialiased", on_illegal: str = "warn"
    ) -> None:
        super().__init__()
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {_KINDS}, got {kind!r}")
        self.types = self.types_in = self.types_out = SO2Irreps(types)
        if kind == "max" and self.types.max_order > 0:
            raise ValueError(
                f"the largest entry of a component depends on the frame, and {self.types} has orders above 0; use "
                "kind='antialiased' or 'mean'"
            )
        self.kind, self._dim, self._hint = kind, self.types.dim, f"the layer was built for types={self.types}"
        self.pool = (
            AntiAliasedPool2d(stride)
            if kind == "antialiased"
            else SpatialPool2d(stride, reduce=kind, on_illegal=on_illegal)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Pools ``[B, types.dim, H, W]``: sides are divided by the stride and rounded up (means of windows: down)."""
        check_shape("x", x, "B", self._dim, "H", "W", hint=self._hint)
        pooled: Tensor = self.pool(x)
        return pooled.contiguous(memory_format=torch.channels_last)

    def extra_repr(self) -> str:
        """Type and kind."""
        return f"{self.types}, kind={self.kind!r}"

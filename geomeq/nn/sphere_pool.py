"""Pooling over the children of a pixel, and back."""

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape

from .sphere_shuffle import check_siblings

_MODES = ("mean", "max", "sum")


class SpherePool(nn.Module):
    r"""Merges the :math:`4^L` descendants of every pixel, which are consecutive in nested order.

    .. math:: y_p = \frac{\sum_q A_q x_q}{\sum_q A_q}

    with equal areas unless others are given; or the maximum, or the sum.

    Args:
        mode: ``"mean"``, ``"max"`` or ``"sum"``.
        levels: L, how many times the side is halved.

    Raises:
        ValueError: If the mode does not exist or ``levels`` is not positive.

    Example:
        >>> SpherePool("mean", levels=2)(torch.randn(2, 768, 5)).shape
        torch.Size([2, 48, 5])

    Source: Mahmoudian Bidgoli et al. (2022), https://arxiv.org/abs/2107.09179.
    """

    def __init__(self, mode: str = "mean", levels: int = 1) -> None:
        super().__init__()
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}")
        self.mode, self.levels = mode, _check_levels(levels)

    def forward(self, x: Tensor, area: Tensor | None = None) -> Tensor:
        """Pools.

        Args:
            x: ``[N, C]`` or ``[B, N, C]``, nested order.
            area: Weights ``[N]``, such as a mask or quadrature weights, for ``"mean"`` and ``"sum"``. Where those of a
                family are all zero, so is the mean.

        Returns:
            ``[N / 4^L, C]`` or ``[B, N / 4^L, C]``.

        Raises:
            ValueError: If pixels do not come in whole families, or a maximum is to be weighted.
        """
        check_shape("x", x, "...", "N", "C")
        factor = 4**self.levels
        check_siblings(x, factor)
        family = x.unflatten(-2, (x.size(-2) // factor, factor))
        if self.mode == "max":
            if area is not None:
                raise ValueError("mode='max' takes no area: a maximum has no weights")
            return family.amax(dim=-2)
        if area is None:
            return family.mean(dim=-2) if self.mode == "mean" else family.sum(dim=-2)
        check_shape("area", area, x.size(-2))
        weight = area.to(x.dtype).view(-1, factor)
        total = (family * weight[..., None]).sum(dim=-2)
        if self.mode == "sum":
            return total
        size = weight.sum(dim=-1, keepdim=True)
        return total / torch.where(size == 0, torch.ones_like(size), size)

    def extra_repr(self) -> str:
        """Mode and levels."""
        return f"{self.mode!r}, levels={self.levels}"


class SphereUnpool(nn.Module):
    r"""Copies every pixel to its :math:`4^L` descendants: the nearest value at a finer resolution.

    The right inverse of the mean and the maximum of :class:`SpherePool`: pooling what was unpooled changes nothing.

    Args:
        levels: L, how many times the side is doubled.

    Raises:
        ValueError: If ``levels`` is not positive.

    Example:
        >>> SphereUnpool()(torch.randn(2, 48, 5)).shape
        torch.Size([2, 192, 5])
    """

    def __init__(self, levels: int = 1) -> None:
        super().__init__()
        self.levels = _check_levels(levels)

    def forward(self, x: Tensor) -> Tensor:
        """Unpools.

        Args:
            x: ``[N, C]`` or ``[B, N, C]``, nested order.

        Returns:
            ``[4^L N, C]`` or ``[B, 4^L N, C]``.
        """
        check_shape("x", x, "...", "N", "C")
        return x.unsqueeze(-2).expand(*x.shape[:-1], 4**self.levels, x.size(-1)).flatten(-3, -2)

    def extra_repr(self) -> str:
        """Levels."""
        return f"levels={self.levels}"


def _check_levels(levels: int) -> int:
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
        raise ValueError(f"levels must be a positive integer, got {levels!r}")
    return levels

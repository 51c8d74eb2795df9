"""Several convolutions in a row whose results are merged: a wide view at the price of narrow filters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .ordered_conv import OrderedConv

_MERGES = ("sum", "max", "concat")


class SphereAggregation(nn.Module):
    r"""Applies n convolutions one after the other and merges what each of them gives.

    .. math:: h_1 = A_1 x, \quad h_{m+1} = A_{m+1} \sigma(h_m), \quad y = h_1 + \dots + h_n

    The last one sees n hops, with :math:`9 n` matrices in place of the :math:`(2 n + 1)^2` of one wide window.
    Published networks take two hops and the sum, without a non-linearity inside.

    Args:
        in_channels: C.
        out_channels: C' of every convolution.
        nside: As for :class:`OrderedConv`.
        hops: Number of convolutions n.
        merge: ``"sum"``, ``"max"``, or ``"concat"``, which gives ``hops * out_channels`` channels.
        activation: Between convolutions, such as ``torch.relu``; by default none.
        stride: 1, or 4: of all results the southern children are kept; the last convolution computes no others.
        **options: Of every convolution, as for :class:`OrderedConv`.

    Raises:
        ValueError: If ``merge`` does not exist or ``hops`` is not positive.

    Example:
        >>> SphereAggregation(3, 8, nside=8, stride=4)(torch.randn(2, 768, 3)).shape
        torch.Size([2, 192, 8])

    Source: Mahmoudian Bidgoli et al. (2022), https://arxiv.org/abs/2107.09179.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int | None = None,
        *,
        hops: int = 2,
        merge: str = "sum",
        activation: Callable[[Tensor], Tensor] | None = None,
        stride: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(hops, bool) or not isinstance(hops, int) or hops < 1:
            raise ValueError(f"hops must be a positive integer, got {hops!r}")
        if merge not in _MERGES:
            raise ValueError(f"merge must be one of {', '.join(_MERGES)}, got {merge!r}")
        self.in_channels, self.merge, self.activation, self.stride = in_channels, merge, activation, stride
        self.out_channels = out_channels * (hops if merge == "concat" else 1)
        channels = [in_channels] + [out_channels] * (hops - 1)
        self.convs = nn.ModuleList(
            OrderedConv(c, out_channels, nside, stride=stride if m == hops - 1 else 1, **options)
            for m, c in enumerate(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolves and merges.

        Args:
            x: ``[N, C]`` or ``[B, N, C]``, nested order.

        Returns:
            ``[N / stride, out_channels]`` or ``[B, N / stride, out_channels]``.
        """
        found = []
        for m, conv in enumerate(self.convs):
            last = m == len(self.convs) - 1
            x = conv(x)
            found.append(x if last or self.stride == 1 else x[..., :: self.stride, :])
            if not last and self.activation is not None:
                x = self.activation(x)
        if self.merge == "concat":
            return torch.cat(found, dim=-1)
        out = found[0]
        for other in found[1:]:
            out = out + other if self.merge == "sum" else torch.maximum(out, other)
        return out

    def extra_repr(self) -> str:
        """How results are merged."""
        return f"merge={self.merge!r}"

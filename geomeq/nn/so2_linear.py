"""Linear maps in the frame of an edge that commute with turns about it: SO(2) layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops._product import matmul
from geomeq.ops.edge_rotation import EdgeLayout

from ._edge_scalars import InputScale
from .so2_weights import signed_matrix


class SO2Linear(nn.Module):
    r"""Mixes degrees and channels of each order m in the frame of an edge.

    .. math::
        y_0 = W_0 x_0 + b, \qquad
        \begin{pmatrix} y_{+m} \\ y_{-m} \end{pmatrix} =
        \begin{pmatrix} W_m^r & W_m^i \\ -W_m^i & W_m^r \end{pmatrix}
        \begin{pmatrix} x_{+m} \\ x_{-m} \end{pmatrix}

    which is every linear map that commutes with turns about the edge: complex numbers
    :math:`W_m^r - i W_m^i` acting on :math:`x_{+m} + i x_{-m}`. One matrix product per order, on a contiguous slice of
    the rows of an :class:`~geomeq.ops.EdgeLayout`; nothing is sorted or permuted. Rotated in and out by
    :class:`~geomeq.ops.EdgeRotation` it is the Clebsch-Gordan product with the harmonics of the edge, see
    :func:`so2_from_paths`.

    With ``edge_channels`` a network of the invariants of the edge multiplies the *input* of each order (eSEN), one
    factor per degree, order ``|m|`` and channel: cheaper than factors on a hidden layer. Message form: tensor, in the
    edge's frame.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        lmax: Highest degree of the input.
        mmax: Highest order, at most ``min(lmax, lmax_out)``.
        edge_channels: Number of invariants of an edge that scale the input; 0 for none.
        extra_scalars: Further invariants to compute from order 0 (gates, logits).
        bias: Whether degree 0 of the output (and the extra scalars) have a bias.
        reflections: Whether mirror images are respected too (features of parity :math:`(-1)^l`): no imaginary weights,
            and matrices of half the size.
        lmax_out: Highest degree of the output, ``lmax`` by default.
        hidden: Widths of the network of the invariants.

    Example:
        >>> layer = SO2Linear(8, 16, lmax=2, mmax=1)
        >>> layer(torch.randn(10, layer.layout.num_rows, 8)).shape
        torch.Size([10, 7, 16])

    Source: Passaro and Zitnick (2023), https://arxiv.org/abs/2302.03655, sec. 3; Fu et al. (2025),
    https://arxiv.org/abs/2502.12147.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        lmax: int,
        mmax: int,
        edge_channels: int = 0,
        extra_scalars: int = 0,
        bias: bool = True,
        reflections: bool = False,
        lmax_out: int | None = None,
        hidden: Sequence[int] = (64,),
    ) -> None:
        super().__init__()
        lmax_out = lmax if lmax_out is None else lmax_out
        for name, value, least in (
            ("in_channels", in_channels, 1),
            ("out_channels", out_channels, 1),
            ("edge_channels", edge_channels, 0),
            ("extra_scalars", extra_scalars, 0),
        ):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.layout, self.layout_out = EdgeLayout(lmax, mmax), EdgeLayout(lmax_out, mmax)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.extra_scalars, self.reflections = extra_scalars, reflections
        parts = []
        for m in range(mmax + 1):
            fan_in, fan_out = (lmax + 1 - m) * in_channels, (lmax_out + 1 - m) * out_channels
            kinds = 1 if m == 0 or reflections else 2
            parts.append(nn.Parameter(torch.empty(kinds, fan_in, fan_out + (extra_scalars if m == 0 else 0))))
        self.weights = nn.ParameterList(parts)
        """Per order ``[1 or 2, (L+1-m) C_in, (L'+1-m) C_out]``, real and imaginary part; extra scalars are the last
        columns of order 0."""
        self.bias = nn.Parameter(torch.empty(out_channels + extra_scalars)) if bias else None
        self.scale = InputScale(edge_channels, in_channels, self.layout, hidden) if edge_channels else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of variance one over the number of terms, so that unit variance stays; bias 0.

        Factors of the edge, where there are any, leave about a third of it.
        """
        for weight in self.weights:
            nn.init.normal_(weight, std=(weight.size(0) * weight.size(1)) ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.scale is not None:
            self.scale.reset_parameters()

    def forward(self, h: Tensor, edge_scalars: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Mixes.

        Args:
            h: Features in the frames of the edges, ``[E, B, C_in]``, rows as ``self.layout``.
            edge_scalars: Invariants of the edges, ``[E, edge_channels]``.

        Returns:
            ``[E, B', C_out]``, rows as ``self.layout_out``; with extra scalars also these, ``[E, extra_scalars]``.

        Raises:
            ValueError: If a shape is wrong, or invariants are missing or not expected.
        """
        check_shape("h", h, "E", self.layout.num_rows, self.in_channels, hint=f"rows in the order of {self.layout}")
        if self.scale is not None:
            if edge_scalars is None:
                raise ValueError("edge_scalars are missing: the layer was built with edge_channels > 0")
            h = h * self.scale(edge_scalars)
        elif edge_scalars is not None:
            raise ValueError("the layer was built without edge_channels but got edge_scalars; set edge_channels=")
        edges, parts = h.size(0), []
        extra = h.new_empty(edges, 0)
        # one split: the gradient of each slice alone would be as large as h
        blocks = h.split([order.rows.stop - order.rows.start for order in self.layout.orders], dim=1)
        for order, rows, own in zip(self.layout.orders, blocks, self.weights, strict=True):
            if order.m == 0:
                made = matmul(rows.flatten(1), own[0])
                made, extra = self._split(made)
                parts.append(made)
            elif self.reflections:
                parts.append(matmul(rows.reshape(2 * edges, own.size(1)), own[0]).view(edges, 2 * own.size(2)))
            else:
                parts.append(matmul(rows.flatten(1), signed_matrix(own)))
        out = torch.cat(parts, dim=1).view(edges, self.layout_out.num_rows, self.out_channels)
        return (out, extra) if self.extra_scalars else out

    def _split(self, made: Tensor) -> tuple[Tensor, Tensor]:
        """Order 0 with its bias, and the extra scalars with theirs."""
        main = made.size(1) - self.extra_scalars
        if self.bias is not None:
            own, extra = self.bias.split([self.out_channels, self.extra_scalars])
            made = made + torch.cat([own, own.new_zeros(main - self.out_channels), extra])
        return made[:, :main], made[:, main:]

    def extra_repr(self) -> str:
        """Sizes."""
        text = f"{self.in_channels}, {self.out_channels}, {self.layout}"
        text += f", lmax_out={self.layout_out.lmax}" if self.layout_out != self.layout else ""
        text += f", extra_scalars={self.extra_scalars}" if self.extra_scalars else ""
        return text + (", reflections=True" if self.reflections else "")

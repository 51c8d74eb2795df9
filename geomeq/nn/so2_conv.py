r"""Messages of spherical channels in the frame of the edge: eSCN, EquiformerV2 and eSEN."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops import EdgeRotation, edge_message

from ._low_rank_so2 import LowRankSO2
from ._rows import check_degrees
from ._smooth_attention import AttentionLogits, smooth_attention
from .so2_linear import SO2Linear
from .spherical_activations import SphericalActivation
from .spherical_linear import SphericalLinear


class SO2Conv(nn.Module):
    r"""Sums messages that are made in the frames of the edges.

    Both ends of an edge are turned into its frame, where only turns about the axis are left of all rotations. Linear
    maps that commute with those, SO(2) layers, are one small matrix per order m:

    .. math::
        h_{ij} = \mathrm{act}\bigl(S_1 (R(a_{ij}) \odot D_{ij} [x_j | x_i])\bigr), \qquad
        x_i' = \frac{1}{\sqrt{\bar n}} \sum_j w_{ij} \, u(d_{ij}) \, D_{ij}^T \, S_2 \, h_{ij}

    with the Wigner blocks :math:`D_{ij}` of the edge, a network :math:`R` of the edge's invariants :math:`a_{ij}`, the
    envelope :math:`u`, and :math:`w = 1` or weights of attention. Equivariant under rotations and smooth in the
    positions, also where an edge enters or leaves at the cut-off if an envelope is given: exactly with the gate, up to
    the grid with the activations on the sphere (they notice the roll of the frame, which jumps where an edge crosses
    the plane z = 0).

    - ``form="esen"``: as above.
    - ``form="escn"``: the published eSCN: separate low-rank SO(2) blocks for source and target, gated by the edge,
      without bias, and the activation on the sphere at the end; no :math:`S_2`.
    - ``attention_heads > 0`` (with the first form): EquiformerV2. The first SO(2) layer also makes invariants of each
      edge, from which a small network makes a logit per head; values are the output of :math:`S_2`. Weights are a
      softmax over the edges of a target in which each edge counts by its envelope, see
      :func:`~geomeq.nn._smooth_attention.smooth_attention`.

    Message form: tensor, in the edge's frame.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        lmax: Highest degree.
        mmax: Highest order kept in the frames.
        edge_channels: Number of invariants of each edge.
        hidden_channels: Channels between both SO(2) layers, by default ``in_channels``.
        activation: ``"gate"``, ``"s2"`` or ``"separable_s2"``, see :class:`SphericalActivation`.
        attention_heads: Number of heads, 0 for a plain sum.
        form: See above.
        attention_channels: Invariants per head that its logit is made of.
        value_channels: Channels of each head, by default ``out_channels / attention_heads``.
        average_degree: Mean number of neighbours :math:`\bar n`; a plain sum is divided by its root.
        reflections: Whether mirror images are respected too (with the first form): every degree l then has the parity
            :math:`(-1)^l` of the harmonics, and the SO(2) layers have no imaginary weights.
        radial_hidden: Widths of the network of the edge's invariants.
        nlat: Rings of the grid of an activation on the sphere.
        nlon: Points of each ring.
        chunk_size: If given, edges go through in slices of this many, computed again in the backward pass, so that
            memory does not grow with the number of edges (:func:`~geomeq.ops.edge_message`). Not with attention, which
            compares all edges of a target.

    Example:
        >>> import torch
        >>> from geomeq.harmonics import edge_wigner
        >>> from geomeq.ops import EdgeLayout, EdgeRotation
        >>> edge_index = torch.tensor([[1, 2, 0], [0, 0, 1]])
        >>> wigner = edge_wigner(torch.randn(3, 3), lmax=2, mmax=1)
        >>> rotation = EdgeRotation(wigner, edge_index, 3, EdgeLayout(2, 1))
        >>> conv = SO2Conv(4, 8, lmax=2, mmax=1, edge_channels=5)
        >>> conv(torch.randn(3, 9, 4), rotation, torch.randn(3, 5)).shape
        torch.Size([3, 9, 8])

    Source: Passaro and Zitnick (2023), https://arxiv.org/abs/2302.03655; Liao et al. (2023),
    https://arxiv.org/abs/2306.12059; Fu et al. (2025), https://arxiv.org/abs/2502.12147.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        lmax: int,
        mmax: int,
        edge_channels: int,
        hidden_channels: int | None = None,
        activation: Literal["gate", "s2", "separable_s2"] = "gate",
        attention_heads: int = 0,
        form: Literal["esen", "escn"] = "esen",
        attention_channels: int = 32,
        value_channels: int | None = None,
        average_degree: float = 1.0,
        reflections: bool = False,
        radial_hidden: Sequence[int] = (64,),
        nlat: int | None = None,
        nlon: int | None = None,
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        check_degrees(lmax, mmax)
        _check_options(form, activation, attention_heads, average_degree, chunk_size, reflections, edge_channels)
        hidden = in_channels if hidden_channels is None else hidden_channels
        self.in_channels, self.out_channels, self.lmax, self.mmax = in_channels, out_channels, lmax, mmax
        self.form, self.attention_heads, self.chunk_size = form, attention_heads, chunk_size
        self.scale = float(average_degree) ** -0.5
        width = out_channels if form == "escn" else hidden
        self.act = SphericalActivation(width, lmax, mmax, activation, nlat, nlon)
        self.logits: AttentionLogits | None = None
        self.projection: SphericalLinear | None = None
        self.second: SO2Linear | None = None
        if form == "escn":
            self.first: nn.Module = LowRankSO2(in_channels, hidden, out_channels, lmax, mmax, edge_channels)
            return
        extra = self.act.num_scalars
        if attention_heads:
            value = max(1, out_channels // attention_heads) if value_channels is None else value_channels
            self.logits = AttentionLogits(attention_heads, attention_channels)
            self.projection = SphericalLinear(attention_heads * value, out_channels, lmax)
            extra += attention_heads * attention_channels
        self.first = SO2Linear(
            2 * in_channels,
            hidden,
            lmax,
            mmax,
            edge_channels=edge_channels,
            extra_scalars=extra,
            reflections=reflections,
            hidden=radial_hidden,
        )
        made = attention_heads * value if attention_heads else out_channels
        self.second = SO2Linear(hidden, made, lmax, mmax, reflections=reflections)

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        for part in (self.first, self.second, self.logits, self.projection):
            if part is not None:
                part.reset_parameters()  # type: ignore[operator]

    def forward(
        self, x: Tensor, rotation: EdgeRotation, edge_scalars: Tensor | None, envelope: Tensor | None = None
    ) -> Tensor:
        """Sums messages.

        Args:
            x: Coefficients at the nodes, ``[N, (lmax + 1)^2, in_channels]``.
            rotation: Frames of the edges, with the layout of ``lmax`` and ``mmax``.
            edge_scalars: Invariants of the edges, ``[E, edge_channels]``.
            envelope: Weight of each edge, ``[E]``, zero at the cut-off; by default 1.

        Returns:
            ``[N, (lmax + 1)^2, out_channels]``; zeros at a node without edges.
        """
        check_shape("x", x, "N", (self.lmax + 1) ** 2, self.in_channels, hint=f"built for lmax={self.lmax}")
        num_edges = rotation.num_edges
        if edge_scalars is not None:
            check_shape("edge_scalars", edge_scalars, num_edges, None)
        if envelope is not None:
            check_shape("envelope", envelope, num_edges)
        if self.logits is None or self.projection is None:
            weight = None if envelope is None else envelope * self.scale
            out = edge_message(
                x, rotation, self._mix, edge_scalars, weight=weight, side="both", chunk_size=self.chunk_size
            )
            return out if envelope is not None else out * self.scale
        message, logits = self._message(rotation.into_frame(x, side="both"), edge_scalars)
        assert logits is not None
        attention = smooth_attention(logits, rotation.target, x.size(0), envelope)
        heads = message.unflatten(2, (self.attention_heads, -1)) * attention[:, None, :, None]
        return self.projection(rotation.out_of_frame(heads.flatten(2), envelope))

    def _mix(self, h: Tensor, scalars: Tensor | None) -> Tensor:
        return self._message(h, scalars)[0]

    def _message(self, h: Tensor, scalars: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Messages in the frames ``[E, B, C]``, and logits ``[E, heads]``."""
        if self.second is None:
            return self.act(self.first(h, scalars), None), None
        made = self.first(h, scalars)
        if not isinstance(made, tuple):
            return self.second(self.act(made, None)), None
        h, extra = made
        own = self.act.num_scalars
        logits = None if self.logits is None else self.logits(extra[:, own:])
        return self.second(self.act(h, extra[:, :own] if own else None)), logits

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"{self.in_channels}, {self.out_channels}, lmax={self.lmax}, mmax={self.mmax}, form={self.form!r}"


def _check_options(
    form: str,
    activation: str,
    attention_heads: int,
    average_degree: float,
    chunk_size: int | None,
    reflections: bool,
    edge_channels: int,
) -> None:
    if form not in ("esen", "escn"):
        raise ValueError(f"form must be 'esen' or 'escn', got {form!r}")
    if form == "escn" and (activation != "s2" or attention_heads or reflections):
        raise ValueError(
            "form='escn' has an activation on the sphere, no attention and does not respect mirror images, got "
            f"activation={activation!r}, attention_heads={attention_heads}, reflections={reflections}; "
            "write activation='s2', attention_heads=0, reflections=False"
        )
    if form == "escn" and edge_channels < 1:
        raise ValueError(
            f"form='escn' gates by invariants of the edge: edge_channels must be >= 1, got {edge_channels}"
        )
    if attention_heads < 0:
        raise ValueError(f"attention_heads must not be negative, got {attention_heads}")
    if not average_degree > 0:
        raise ValueError(f"average_degree must be positive, got {average_degree}")
    if chunk_size is not None and (chunk_size < 1 or attention_heads):
        raise ValueError(
            f"chunk_size must be at least 1 and attention compares all edges of a target at once, got {chunk_size} "
            f"and attention_heads={attention_heads}"
        )

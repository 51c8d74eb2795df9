r"""Spherical channels: functions on the sphere at every atom, exchanged in the frames of the edges."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geomeq._checks import check_edge_index, check_finite, check_shape
from geomeq.harmonics import edge_wigner, polynomial_envelope
from geomeq.harmonics.attributes import edge_length
from geomeq.harmonics.radial import normal_curve
from geomeq.ops._product import Linear
from geomeq.ops.edge_rotation import EdgeLayout

from ._channel_graph import ChannelPart, nearest, random_angles, rolled
from ._channel_grid import GridAggregation
from ._channel_message import FEWEST_EDGES, LEAST_FILLED, ChannelMessage

_ROLLS, _PATHS = ("fixed", "random"), ("auto", "nodes", "edges")


class ChannelGeometry:
    """What the blocks of one network share about one graph: made by :meth:`SphericalChannelBlock.geometry`.

    Attributes:
        basis: Lengths of the edges in Gaussians, ``[E, num_basis]``.
        weight: Factor on the message of each edge, ``[E]``, or ``None``.
        parts: Edges and frames of each resolution.
    """

    def __init__(self, edge_index: Tensor, basis: Tensor, weight: Tensor | None, parts: list[ChannelPart]) -> None:
        self.edge_index, self.basis, self.weight, self.parts = edge_index, basis, weight, parts


class EdgeScalars(nn.Module):
    r"""Invariants of an edge, :math:`\text{SiLU}(W_2 \, \text{SiLU}(s(Z_j) + t(Z_i) + W_1 g(d_{ij})))`.

    Args:
        num_basis: Functions of the length.
        channels: Width.
        num_elements: Elements 1 .. ``num_elements``.
    """

    def __init__(self, num_basis: int, channels: int, num_elements: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(num_elements, channels), nn.Embedding(num_elements, channels)
        self.distance, self.last = Linear(num_basis, channels), Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights; elements start almost equal."""
        nn.init.uniform_(self.source.weight, -1e-3, 1e-3)
        nn.init.uniform_(self.target.weight, -1e-3, 1e-3)
        self.distance.reset_parameters()
        self.last.reset_parameters()

    def forward(self, z: Tensor, edge_index: Tensor, basis: Tensor) -> Tensor:
        """``[E, channels]`` from atomic numbers ``[N]`` and lengths in a basis ``[E, num_basis]``."""
        ends = self.source(z - 1).index_select(0, edge_index[0]) + self.target(z - 1).index_select(0, edge_index[1])
        return F.silu(self.last(F.silu(ends + self.distance(basis))))


class SphericalChannelBlock(nn.Module):
    r"""One layer of a spherical channel network.

    Each node holds functions on the sphere, C channels of coefficients :math:`x_{lm}`. For every edge both ends are
    turned into its frame (rows of order :math:`|m| \le m_{max}` only), an unconstrained network makes a message of
    them, and the sum of messages, turned back, meets the node on a grid on the sphere:

    .. math::
        u = [D_{ij} x_j, D_{ij} x_i], \quad
        m_{ij} = D_{ij}^T \, \frac{1}{K} \sum_k Z(\theta_k)^T \, \text{MLP}(Z(\theta_k) u, a_{ij}), \quad
        x_i' = \text{MLP}_\text{grid}\Big(x_i, \sum_j w_{ij} m_{ij}\Big)

    with rolls :math:`\theta_k = 2 \pi k / K` about the edge (``taps`` K = 1 or 4) and invariants :math:`a_{ij}` of
    elements and length. The turn of a frame about its edge is arbitrary. With ``mmax=0`` nothing depends on it: the
    messages are exactly equivariant. Otherwise an unconstrained network breaks that symmetry, strongly with one tap
    and slightly with four. Where exactness matters and ``mmax > 0`` is wanted, take :class:`~geomeq.nn.SO2Conv`.

    Args:
        channels: ``C``.
        lmax: Highest degree, ``L``.
        mmax: Highest order kept in the frame.
        hidden_channels: Width of the message network, ``H``.
        taps: 1 or 4.
        bands: Of the grid network: band k repeats the functions truncated to degrees ``l <= L - k``.
        num_resolutions: 2 sends the ``near`` nearest edges of each target, and all as long as the last of these,
            through (L, H) and the others through (max(4, L - 2), H / 4). Cheaper, but the message jumps when two
            neighbours change places in that order.
        near: How many are near.
        grid: Whether messages meet the node on the grid; otherwise their sum is the result.
        reduced_channels: Width within the messages, if they shall work on fewer channels.
        edge_channels: Width of the edge scalars.
        num_elements: Elements 1 .. ``num_elements``.
        num_basis: Gaussians on ``[0, cutoff]``.
        basis_width: Their width in units of their spacing.
        cutoff: Length at which messages end, in the unit of positions.
        envelope: Order of the :func:`~geomeq.harmonics.polynomial_envelope` on messages. ``None``, as published, lets
            the result jump when a neighbour enters or leaves.
        average_degree: Messages are divided by its root; 1, as published, sums them.
        roll: ``"fixed"``: a function of the edge alone. ``"random"``, as published: in training drawn anew from the
            generator that :meth:`forward` is given; in evaluation fixed.
        chunk_size: Edges whose messages are made at a time, to be made again in the backward pass; ``None`` for all.
        path: Where the first map acts: on ``"nodes"``, before the rotation, on ``"edges"``, after it, or ``"auto"``.
            Equal to rounding.

    Example:
        >>> block = SphericalChannelBlock(8, lmax=2, hidden_channels=16, num_basis=16)
        >>> edge_index, vec = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[0.0, 0, 1], [0, 0, -1]])
        >>> block(torch.randn(2, 9, 8), torch.tensor([6, 8]), edge_index, vec).shape
        torch.Size([2, 9, 8])

    Source: Zitnick et al. (2022), https://arxiv.org/abs/2206.14331.
    """

    def __init__(
        self,
        channels: int,
        lmax: int,
        mmax: int = 1,
        hidden_channels: int = 64,
        *,
        taps: int = 4,
        bands: int = 1,
        num_resolutions: int = 1,
        near: int = 12,
        grid: bool = True,
        reduced_channels: int | None = None,
        edge_channels: int = 128,
        num_elements: int = 90,
        num_basis: int = 64,
        basis_width: float = 1.0,
        cutoff: float = 6.0,
        envelope: int | None = 5,
        average_degree: float = 1.0,
        roll: Literal["fixed", "random"] = "fixed",
        chunk_size: int | None = None,
        path: Literal["auto", "nodes", "edges"] = "auto",
    ) -> None:
        super().__init__()
        _check_choices(taps=(taps, (1, 4)), roll=(roll, _ROLLS), path=(path, _PATHS))
        _check_choices(num_resolutions=(num_resolutions, (1, 2)))
        if not 0 <= mmax <= lmax:
            raise ValueError(f"mmax must lie between 0 and lmax={lmax}, got {mmax}")
        inner = channels if reduced_channels is None else reduced_channels
        widths = {"channels": channels, "hidden_channels": hidden_channels, "reduced_channels": inner, "near": near}
        widths |= {"edge_channels": edge_channels, "num_elements": num_elements, "num_basis": num_basis}
        for name, value in widths.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not cutoff > 0 or not average_degree > 0:
            raise ValueError(f"cutoff and average_degree must be positive, got {cutoff} and {average_degree}")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size}")
        self.channels, self.lmax, self.mmax, self.roll, self.path = channels, lmax, mmax, roll, path
        self.taps, self.near, self.chunk_size, self.num_elements = taps, near, chunk_size, num_elements
        self.cutoff, self.num_basis, self.basis_width = float(cutoff), num_basis, basis_width
        self.envelope, self.average_degree = envelope, average_degree
        self.scalars = EdgeScalars(num_basis, edge_channels, num_elements)
        sizes = [(lmax, hidden_channels), (min(lmax, max(4, lmax - 2)), max(1, hidden_channels // 4))]
        # the rolls of rows of order 0 are all the same
        self.messages = nn.ModuleList(
            ChannelMessage(inner, width, edge_channels, top, min(mmax, top), taps if mmax else 1)
            for top, width in sizes[:num_resolutions]
        )
        self.down = self.up = None
        if reduced_channels is not None:
            self.down = Linear(channels, inner, bias=False)
            self.up = Linear(inner, channels, bias=False)
        self.aggregate = GridAggregation(channels, lmax, bands) if grid else None

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, EdgeScalars, ChannelMessage)):
                module.reset_parameters()

    def geometry(
        self,
        edge_index: Tensor,
        edge_vec: Tensor,
        num_nodes: int,
        *,
        wigner: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> ChannelGeometry:
        """What blocks of the same settings can share about a graph.

        Args:
            edge_index: Source and target, ``[2, E]``, sorted by target.
            edge_vec: From target to source, ``[E, 3]``, differentiable.
            num_nodes: ``N``.
            wigner: Wigner rows of the edges, if they are there already, as :func:`~geomeq.harmonics.edge_wigner` or
                the transform ``EdgeFrames`` makes them, ``[E, T]``.
            generator: From which ``roll="random"`` draws, in training.

        Raises:
            ValueError: If edges are not sorted by target, a vector is zero or not finite, or a shape does not fit.
        """
        check_edge_index(edge_index, num_nodes, num_nodes)
        check_shape("edge_vec", edge_vec, edge_index.size(1), 3)
        length = edge_length(edge_vec)[:, 0]
        _check_edges(edge_index, edge_vec, length)
        layout = EdgeLayout(self.lmax, self.mmax)
        if wigner is None:
            wigner = edge_wigner(edge_vec, self.lmax, self.mmax)
        check_shape("wigner", wigner, edge_index.size(1), layout.num_values, hint="as EdgeFrames writes it")
        blocks = layout.blocks(wigner)
        if self.roll == "random" and self.training:
            blocks = rolled(blocks, random_angles(length.numel(), generator, length))
        weight = None if self.envelope is None else polynomial_envelope(length, self.cutoff, self.envelope)
        if self.average_degree != 1.0:
            weight = (torch.ones_like(length) if weight is None else weight) / self.average_degree**0.5
        basis = _gaussians(length, self.cutoff, self.num_basis, self.basis_width)
        parts = self._parts(edge_index, length, blocks, num_nodes)
        return ChannelGeometry(edge_index, basis, weight, parts)

    def _parts(self, edge_index: Tensor, length: Tensor, blocks: Sequence[Tensor], num_nodes: int) -> list[ChannelPart]:
        """The edges of each resolution with their frames."""
        if len(self.messages) == 1:
            return [self._part(self.messages[0], edge_index, blocks, num_nodes, None)]
        near = nearest(edge_index, length, num_nodes, self.near)
        parts = []
        for message, chosen in zip(self.messages, (near, ~near), strict=True):
            assert isinstance(message, ChannelMessage)
            rows = chosen.nonzero().squeeze(1)
            own = [block.index_select(0, rows) for block in blocks[: message.lmax + 1]]
            parts.append(self._part(message, edge_index.index_select(1, rows), own, num_nodes, rows))
        return parts

    def _part(
        self, message: nn.Module, edge_index: Tensor, blocks: Sequence[Tensor], num_nodes: int, rows: Tensor | None
    ) -> ChannelPart:
        assert isinstance(message, ChannelMessage)
        slots = self.path == "nodes"
        if self.path == "auto" and self.chunk_size is None and not torch.compiler.is_compiling():
            slots = edge_index.size(1) >= FEWEST_EDGES * num_nodes
        part = ChannelPart(edge_index, blocks, num_nodes, message.mmax, message.taps, rows, slots)
        if self.path == "auto" and part.sides is not None and min(s.filled for s in part.sides) < LEAST_FILLED:
            part = ChannelPart(edge_index, blocks, num_nodes, message.mmax, message.taps, rows, False)
        return part

    def forward(
        self,
        x: Tensor,
        z: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor | None = None,
        *,
        geometry: ChannelGeometry | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Exchanges messages.

        Args:
            x: Coefficients, ``[N, (lmax + 1)^2, C]``.
            z: Atomic numbers, ``[N]``.
            edge_index: Source and target, ``[2, E]``, sorted by target.
            edge_vec: From target to source, ``[E, 3]``; needed without ``geometry``.
            geometry: Of :meth:`geometry`, where several blocks share it.
            generator: From which ``roll="random"`` draws, in training; unless drawn in ``geometry``.

        Returns:
            ``[N, (lmax + 1)^2, C]``.

        Raises:
            ValueError: If a shape does not fit, or see :meth:`geometry`.
        """
        check_shape("x", x, "N", (self.lmax + 1) ** 2, self.channels, hint=f"lmax={self.lmax}")
        check_shape("z", z, x.size(0))
        if geometry is None:
            if edge_vec is None:
                raise ValueError("the block needs edge_vec [E, 3], or the geometry it shares with other blocks")
            geometry = self.geometry(edge_index, edge_vec, x.size(0), generator=generator)
        scalars = self.scalars(z, edge_index, geometry.basis.to(x.dtype))
        inner = x if self.down is None else self.down(x)
        total = None
        for message, part in zip(self.messages, geometry.parts, strict=True):
            own = self._messages(message, inner, scalars, geometry.weight, part)
            if own.size(1) < x.size(1):
                own = F.pad(own, (0, 0, 0, x.size(1) - own.size(1)))
            total = own if total is None else total + own
        assert total is not None
        total = total if self.up is None else self.up(total)
        return total if self.aggregate is None else self.aggregate(x, total)

    def _messages(
        self, message: nn.Module, x: Tensor, scalars: Tensor, weight: Tensor | None, part: ChannelPart
    ) -> Tensor:
        """Summed messages of one resolution, in chunks where asked for."""
        scalars, weight = part.of_edges(scalars), None if weight is None else part.of_edges(weight)
        x = x[:, : (part.lmax + 1) ** 2]
        if self.chunk_size is None or part.num_edges <= self.chunk_size:
            return message(x, scalars, weight, part)
        total = torch.zeros_like(x)
        for start in range(0, part.num_edges, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, part.num_edges))
            piece = part.chunk(rows)
            own = checkpoint(
                message, x, scalars[rows], None if weight is None else weight[rows], piece, use_reentrant=False
            )
            total = total + own
        return total

    def extra_repr(self) -> str:
        """Sizes and kind."""
        return (
            f"{self.channels}, lmax={self.lmax}, mmax={self.mmax}, taps={self.taps}, "
            f"num_resolutions={len(self.messages)}, roll={self.roll!r}, envelope={self.envelope}"
        )


def _check_choices(**options: tuple[object, tuple[object, ...]]) -> None:
    for name, (value, known) in options.items():
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")


def _check_edges(edge_index: Tensor, edge_vec: Tensor, length: Tensor) -> None:
    """Raises for edges that have no frame, or are out of order."""
    if torch.compiler.is_compiling() or edge_index.size(1) == 0:  # a compiled graph cannot branch on values
        return
    check_finite("edge_vec", edge_vec, "drop or repair that structure")
    if bool((edge_index[1][1:] < edge_index[1][:-1]).any()):
        raise ValueError("edges must be sorted by target; sort them, or make them by CutoffGraph or PeriodicGraph")
    if bool((length == 0).any()):
        edge = int((length == 0).nonzero()[0])
        source, target = edge_index[:, edge].tolist()
        raise ValueError(
            f"edge {edge} from node {source} to node {target} has no direction: the atoms lie at the same place; "
            "remove one of them"
        )


def _gaussians(length: Tensor, cutoff: float, count: int, width: float) -> Tensor:
    """Gaussians on ``[0, cutoff]``, ``width`` spacings wide, ``[E, count]``."""
    centre = torch.linspace(0, cutoff, count, dtype=length.dtype, device=length.device)
    step = cutoff / max(1, count - 1) * width
    return normal_curve((length[:, None] - centre) / step)

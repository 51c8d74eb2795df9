r"""Messages between spherical channels: an unconstrained network in the frame of the edge, averaged over rolls.

The first linear map meets the rotated features of both ends. Rotation mixes the orders of one degree and the map mixes
channels, so that their order is free, and a node has many edges: the map is applied to the nodes once,
:math:`Y_n = W^{l m} x_n^l`, and each edge contracts with its own Wigner rows, :math:`\sum_{l m m'} D^l_{m m'} Y_n^{l m
m'}`, which is one small matrix product per node. Rolls by quarter turns permute rows with signs, so four taps need
three such contractions and not four maps.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomeq.ops._product import Linear, matmul
from geomeq.ops.tap_message import tap_message

from ._channel_graph import ChannelPart, frame_rows, rows_of_kind, turn_rows

FEWEST_EDGES = 6.0  # per node, from which mapping nodes and then rotating beats rotating and then mapping edges
LEAST_FILLED = 0.5  # of the slots: below, the padding of a few nodes with very many edges would cost more


class ChannelMessage(nn.Module):
    """Summed messages of one resolution.

    Args:
        channels: ``C``.
        hidden: ``H``.
        edge_channels: Edge scalars per edge.
        lmax: Highest degree.
        mmax: Highest order of the rows in the frame.
        taps: 1, or 4: mean over rolls by quarter turns.
    """

    def __init__(self, channels: int, hidden: int, edge_channels: int, lmax: int, mmax: int, taps: int) -> None:
        super().__init__()
        self.channels, self.hidden, self.lmax, self.mmax, self.taps = channels, hidden, lmax, mmax, taps
        self.rows = frame_rows(lmax, mmax)
        num_rows = sum(self.rows)
        # [channel, end (source, target), row (by degree, then order), hidden]
        self.weight_in = nn.Parameter(torch.empty(channels, 2, num_rows, hidden))
        self.bias_in = nn.Parameter(torch.empty(hidden))
        self.edge = Linear(edge_channels, hidden)
        self.middle = Linear(hidden, hidden)
        self.weight_out = nn.Parameter(torch.empty(hidden, num_rows * channels))
        self.bias_out = nn.Parameter(torch.empty(num_rows * channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights as :class:`torch.nn.Linear` does."""
        bound = 1 / math.sqrt(2 * sum(self.rows) * self.channels)
        nn.init.uniform_(self.weight_in, -bound, bound)
        nn.init.uniform_(self.bias_in, -bound, bound)
        bound = 1 / math.sqrt(self.hidden)
        nn.init.uniform_(self.weight_out, -bound, bound)
        nn.init.uniform_(self.bias_out, -bound, bound)
        self.edge.reset_parameters()
        self.middle.reset_parameters()

    def forward(self, x: Tensor, scalars: Tensor, weight: Tensor | None, part: ChannelPart) -> Tensor:
        """Sums messages at their targets.

        Args:
            x: ``[N, (lmax + 1)^2, C]``.
            scalars: Of the edges of this part, ``[E, edge_channels]``.
            weight: Factor on each message, ``[E]``, or ``None``.
            part: Edges and frames.

        Returns:
            ``[N, (lmax + 1)^2, C]``.
        """
        first = self._from_nodes(x, part) if part.sides is not None else self._from_edges(x, part)
        weights = (self.middle.weight.T, self.middle.bias, self.weight_out, self.bias_out)
        messages = tap_message(first, F.silu(self.edge(scalars)), weights, self.rows, self.taps)
        return self._sum(messages, weight, part)

    def _from_nodes(self, x: Tensor, part: ChannelPart) -> Tensor:
        """The first linear map, on nodes, then rotation: ``[E, R, H]`` for the parts that taps tell apart."""
        assert part.sides is not None
        assert part.turned is not None
        num_nodes = x.size(0)
        # split and unbind: their gradients are put together once, those of slices would each fill a whole tensor
        weights = self.weight_in.split(self.rows, dim=2)
        mapped: dict[tuple[str, int], list[Tensor]] = {(kind, end): [] for kind in part.kinds for end in range(2)}
        for degree, (own, weight) in enumerate(zip(x.split(_widths(self.lmax), dim=1), weights, strict=True)):
            count = self.rows[degree]
            made = matmul(own.reshape(-1, self.channels), weight.reshape(self.channels, -1))
            rows = made.view(num_nodes, 2 * degree + 1, 2 * count, self.hidden).unbind(2)
            if degree == 0:  # the same for every frame and every roll
                rows = (rows[0] + self.bias_in, rows[1])
            for kind, end in mapped:
                mapped[kind, end] += [rows[end * count + row] for row in rows_of_kind(count, kind)]
        of_end = []
        for end, (slots, turned) in enumerate(zip(part.sides, part.turned, strict=True)):
            sums = []
            for (kind, count), own in zip(part.kinds.items(), turned, strict=True):
                made = torch.bmm(own, torch.cat(mapped[kind, end], dim=1))
                sums.append(made.view(num_nodes, slots.width, count, self.hidden))
            of_end.append(slots.scatter(torch.cat(sums, dim=2)))
        return of_end[0] + of_end[1]

    def _from_edges(self, x: Tensor, part: ChannelPart) -> Tensor:
        """Rotation of both ends with one gather, then the first linear map: equal to :meth:`_from_nodes`."""
        ends = torch.stack([part.source, part.target], dim=1).flatten()
        both = x.index_select(0, ends).view(part.num_edges, 2, x.size(1), self.channels)
        both = both.transpose(1, 2).reshape(part.num_edges, x.size(1), 2 * self.channels)
        rotated = [block @ own for block, own in zip(part.blocks, both.split(_widths(self.lmax), 1), strict=True)]
        weights = self.weight_in.transpose(0, 1).split(self.rows, dim=2)  # [2, C, M_l, H]
        parts = []
        for k in range(len(part.parts)):
            columns, matrices = [], []
            for own, weight in zip(rotated, weights, strict=True):
                index, sign = turn_rows(own.size(1), part.parts) if self.taps > 1 else (None, None)
                for row in range(own.size(1)):
                    at = k * own.size(1) + row
                    if sign is None or sign[at] != 0:
                        source = own[:, row if index is None else index[at]]
                        columns.append(source if sign is None or sign[at] > 0 else -source)
                        matrices.append(weight[:, :, row].flatten(0, 1))
            mapped = matmul(torch.cat(columns, dim=1), torch.cat(matrices))
            parts.append(mapped if k else mapped + self.bias_in)
        return torch.stack(parts, dim=1)

    def _sum(self, messages: Tensor, weight: Tensor | None, part: ChannelPart) -> Tensor:
        """``sum_e D_e^T m_e`` at the targets, degree by degree, ``[N, (lmax + 1)^2, C]``."""
        out = []
        for own, block in zip(messages.split(self.rows, dim=1), part.blocks, strict=True):
            turn = block if weight is None else block * weight[:, None, None]
            if part.sides is None:
                back = turn.mT @ own
                out.append(back.new_zeros(part.num_nodes, *back.shape[1:]).index_add(0, part.target, back))
            else:
                slots = part.sides[1]
                out.append(torch.bmm(slots.gather(turn).flatten(1, 2).mT, slots.gather(own).flatten(1, 2)))
        return torch.cat(out, dim=1)


def _widths(lmax: int) -> list[int]:
    return [2 * degree + 1 for degree in range(lmax + 1)]

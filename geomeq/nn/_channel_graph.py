"""Geometry that all layers of a spherical channel network share: frames of the edges, lengths, who is near."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def frame_rows(lmax: int, mmax: int) -> list[int]:
    """How many rows of each degree the frame keeps: ``2 min(l, mmax) + 1`` for l = 0..lmax."""
    return [2 * min(degree, mmax) + 1 for degree in range(lmax + 1)]


def tap_turns(mmax: int, taps: int) -> list[tuple[str, int]]:
    """The parts of a row that taps tell apart, by ``m`` modulo 4: what is constant, turns (two parts), alternates."""
    if taps == 1:
        return [("all", 0)]
    parts = [("constant", 0)]
    if mmax >= 1:
        parts += [("turning", 0), ("turning", 1)]
    if mmax >= 2:
        parts += [("alternating", 0)]
    return parts


class Slots:
    """Edges of each node side by side, ``[N, S]`` with ``S`` the largest degree, so that one product serves a node.

    Args:
        index: Node of each edge, ``[E]``.
        num_nodes: ``N``.
    """

    def __init__(self, index: Tensor, num_nodes: int) -> None:
        count = torch.bincount(index, minlength=num_nodes)
        self.num_nodes, self.num_edges = num_nodes, index.numel()
        self.width = int(count.max()) if index.numel() else 0
        order = torch.argsort(index, stable=True)
        owner = index[order]
        rank = torch.arange(index.numel(), device=index.device) - (count.cumsum(0) - count)[owner]
        slot = torch.empty_like(index)
        slot[order] = owner * self.width + rank
        edge = torch.full((num_nodes * self.width,), index.numel(), device=index.device, dtype=index.dtype)
        edge[slot] = torch.arange(index.numel(), device=index.device)
        self.slot, self.edge = slot, edge
        #: slots in the order of the edges and none empty: nothing has to be moved
        self.trivial = bool(edge.numel() == index.numel()) and bool((slot[1:] > slot[:-1]).all())

    @property
    def filled(self) -> float:
        """The part of the slots that holds an edge."""
        return self.num_edges / max(1, self.num_nodes * self.width)

    def gather(self, values: Tensor) -> Tensor:
        """Values of edges ``[E, ...]`` in slots ``[N, S, ...]``, zero where there is no edge."""
        if not self.trivial:
            if self.edge.numel() != self.num_edges:
                values = torch.cat([values, values.new_zeros(1, *values.shape[1:])])
            values = values.index_select(0, self.edge)
        return values.view(self.num_nodes, self.width, *values.shape[1:])

    def scatter(self, values: Tensor) -> Tensor:
        """Values in slots ``[N, S, ...]`` back to edges ``[E, ...]``."""
        values = values.reshape(self.num_nodes * self.width, *values.shape[2:])
        return values if self.trivial else values.index_select(0, self.slot)


class ChannelPart:
    """The edges of one resolution, and the rotations into their frames.

    Args:
        edge_index: Source and target, ``[2, E]``, sorted by target.
        blocks: Wigner rows of each degree, ``[E, M_l, 2l+1]``, orders ``-min(l, mmax)..min(l, mmax)``.
        num_nodes: ``N``.
        taps: Rolls that messages are averaged over.
        rows: All edges of this part in the graph, ``[E]``, or ``None`` if it has every edge.
        slots: Whether edges are also arranged by node, which needs the largest degree as a number.
    """

    def __init__(
        self,
        edge_index: Tensor,
        blocks: Sequence[Tensor],
        num_nodes: int,
        mmax: int,
        taps: int,
        rows: Tensor | None,
        slots: bool,
    ) -> None:
        self.source, self.target = edge_index
        self.num_nodes, self.num_edges, self.rows = num_nodes, edge_index.size(1), rows
        self.lmax, self.mmax, self.taps = len(blocks) - 1, mmax, taps
        self.blocks = list(blocks)
        self.parts = tap_turns(mmax, taps)
        #: how many parts each kind of rows has
        self.kinds = dict(Counter(kind for kind, _ in self.parts))
        self.sides: tuple[Slots, Slots] | None = None
        self.turned: tuple[list[Tensor], list[Tensor]] | None = None
        if slots:
            self.sides = (Slots(self.source, num_nodes), Slots(self.target, num_nodes))
            turned = [self._turned(kind) for kind in self.kinds]
            of_side = [[side.gather(t).flatten(1, 2) for t in turned] for side in self.sides]
            self.turned = (of_side[0], of_side[1])

    def of_edges(self, values: Tensor) -> Tensor:
        """What belongs to the edges of this part, ``[E_part, ...]``."""
        return values if self.rows is None else values.index_select(0, self.rows)

    def chunk(self, rows: slice) -> "ChannelPart":
        """Some of the edges, without slots."""
        edge_index = torch.stack([self.source[rows], self.target[rows]])
        blocks = [block[rows] for block in self.blocks]
        return ChannelPart(edge_index, blocks, self.num_nodes, self.mmax, self.taps, None, slots=False)

    def _turned(self, kind: str) -> Tensor:
        """All rows of one kind in each of its parts, ``[E, R_kind, K]``, one degree after the other, row major."""
        parts = []
        for part in (p for p in self.parts if p[0] == kind):
            of_degree = []
            for block in self.blocks:
                index, sign = turn_rows(block.size(1), [part])
                kept = rows_of_kind(block.size(1), kind)
                if kept:
                    rows = block.index_select(1, torch.tensor([index[row] for row in kept], device=block.device))
                    of_degree.append((rows * rows.new_tensor([[sign[row]] for row in kept])).flatten(1))
            parts.append(torch.cat(of_degree, dim=1))
        return torch.stack(parts, dim=1)


def rows_of_kind(count: int, kind: str) -> list[int]:
    """Which of the rows of a degree with ``count`` of them a kind of parts reads, see :func:`tap_turns`."""
    return [row for row in range(count) if kind in ("all", _kind(row - (count - 1) // 2))]


def _kind(m: int) -> str:
    return {0: "constant", 2: "alternating"}.get(m % 4, "turning")


def turn_rows(count: int, parts: list[tuple[str, int]]) -> tuple[list[int], list[float]]:
    r"""Where each row of each part comes from, and with which sign (0: not in this part).

    A roll by the angle :math:`\theta` is :math:`x_{\pm m} \mapsto \cos(m \theta) x_{\pm m} \pm \sin(m \theta)
    x_{\mp m}`. At quarter turns it permutes rows with signs. Row m belongs to the constant part for m = 0 modulo 4, to
    the alternating one for 2, and turns for odd m; the second turning part is the first after a quarter turn.
    """
    largest = (count - 1) // 2
    index, sign = [], []
    for name, step in parts:
        for m in range(-largest, largest + 1):
            if name not in ("all", _kind(m)):
                index.append(m + largest)
                sign.append(0.0)
            elif step == 0:
                index.append(m + largest)
                sign.append(1.0)
            else:  # sin(|m| pi / 2) is +1 for 1, 5, .. and -1 for 3, 7, ..
                index.append(largest - m)
                sign.append((1.0 if abs(m) % 4 == 1 else -1.0) * (1.0 if m > 0 else -1.0))
    return index, sign


def rolled(blocks: Sequence[Tensor], angle: Tensor) -> list[Tensor]:
    r"""Wigner rows in frames that are turned further about the axis.

    Args:
        blocks: ``[E, M_l, 2l+1]``.
        angle: Radians, ``[E]``.
    """
    out = []
    for block in blocks:
        largest = (block.size(1) - 1) // 2
        m = torch.arange(-largest, largest + 1, device=block.device, dtype=block.dtype)
        # row m: cos(m a) x_m + sin(m a) x_{-m}, where sin is odd in m: that is the sign of both partners
        turn = angle[:, None] * m
        out.append(turn.cos()[..., None] * block + turn.sin()[..., None] * block.flip(1))
    return out


def nearest(edge_index: Tensor, length: Tensor, num_nodes: int, most: int) -> Tensor:
    """Which edges are among the ``most`` shortest of their target, or as long as the last of these, ``[E]``.

    With its ties, so that neither the order of the edges nor rounding decides: crystals are full of equal lengths.
    """
    length = length.detach()
    order = torch.argsort(length)
    order = order[torch.argsort(edge_index[1][order], stable=True)]
    target = edge_index[1][order]
    count = torch.bincount(target, minlength=num_nodes)
    rank = torch.arange(target.numel(), device=target.device) - (count.cumsum(0) - count)[target]
    last = torch.where(rank == most - 1, length[order], torch.inf)  # nobody is far where there are fewer
    limit = length.new_full((num_nodes,), torch.inf).scatter_reduce(0, target, last, "amin")
    return length <= limit[edge_index[1]] * (1 + (1e-9 if length.dtype == torch.float64 else 1e-5))


def random_angles(count: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Uniform rolls ``[E]``, drawn on the generator's device."""
    if generator is None:
        raise ValueError(
            "roll='random' draws in training: pass the generator it shall draw from, "
            "generator=torch.Generator().manual_seed(0), so that the run can be repeated"
        )
    drawn = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    return (2 * math.pi * drawn).to(like)

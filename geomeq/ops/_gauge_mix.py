"""From moments over neighbours to outputs: which products with which parts of the matrices."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Layout = tuple[tuple[int, int], ...]  # (order, number of fields), orders rising
Piece = Callable[[Tensor], Tensor]


def components(order: int) -> int:
    """Real numbers per field."""
    return 2 if order else 1


def read_layout(flat: Sequence[int]) -> Layout:
    """Operators take lists of numbers, (order, count, order, count, ...); this reads them."""
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def layout_dim(layout: Layout) -> int:
    """Real numbers of a feature."""
    return sum(count * components(order) for order, count in layout)


def layout_slices(layout: Layout) -> dict[int, slice]:
    """Where each order lies."""
    found, start = {}, 0
    for order, count in layout:
        found[order] = slice(start, start + count * components(order))
        start = found[order].stop
    return found


def harmonics(orders_in: tuple[int, ...], orders_out: tuple[int, ...], powers: bool) -> tuple[int, ...]:
    """The multiples of the angle in whose cosine and sine the moments are taken."""
    if not powers:
        return tuple(sorted(orders_out))
    return tuple(sorted({q for m in orders_out for n in orders_in for q in (abs(m - n), m + n)}))


def times_i(x: Tensor) -> Tensor:
    """``i z`` for pairs (Re, Im) that alternate along the last axis."""
    real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([-imaginary, real], dim=-1).flatten(-2)


def commuting_part(block: Tensor) -> Tensor:
    """The part of ``[..., 2 C', 2 C]`` that commutes with ``i``; the rest anticommutes."""
    turned = times_i(times_i(block).transpose(-1, -2)).transpose(-1, -2)  # -i B i
    return (block + turned) / 2


@dataclass(frozen=True)
class Mixer:
    r"""Mixes moments into features of the layout ``out``.

    Moments ``[n, K, F]``: for each harmonic :math:`q` its cosine and, above 0, its sine; for each of these the rings;
    for each of those the features, of the layout ``into``, that were summed.

    Here they were turned into the frame of their edge, :math:`u`, and :math:`y_m = \sum e^{i m \varphi} (B u)_m`: one
    product per order, with the rows of ``B`` for the cosine and of ``i B`` for the sine.
    """

    into: Layout
    out: Layout
    rings: int

    @property
    def harmonics(self) -> tuple[int, ...]:
        """Multiples of the angle."""
        return harmonics((), tuple(order for order, _ in self.out), False)

    @property
    def num_rows(self) -> int:
        """``K``."""
        return self.rings * sum(components(q) for q in self.harmonics)

    def inputs(self, sums: Tensor) -> list[Tensor]:
        """What each output order needs, ``[n, rows]``; views where possible."""
        flat, width, start, found = sums.flatten(1), self.rings * sums.size(2), 0, []
        for order, _ in self.out:
            stop = start + components(order) * width
            found.append(flat[:, start:stop])
            start = stop
        return found

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """What multiplies that, ``[rows, dim]`` each; ``weight`` is ``[R, F_out, F]``."""
        made = []
        for order, columns in layout_slices(self.out).items():
            part = weight[:, columns].transpose(1, 2)  # [R, F, dim]
            made.append((torch.stack([part, times_i(part)]) if order else part).reshape(-1, part.size(-1)))
        return made

    def fold(self, grads: Sequence[Tensor]) -> Tensor:
        """The adjoint of ``matrices``: from gradients for these one for ``weight``."""
        parts = []
        for (order, _), grad in zip(self.out, grads, strict=True):
            both = grad.view(components(order), self.rings, layout_dim(self.into), -1)
            parts.append((both[0] - times_i(both[1]) if order else both[0]).transpose(1, 2))
        return torch.cat(parts, dim=1)


class PowerMixer(Mixer):
    r"""The same where each term carries its own power of the radius, :math:`r^{|q|}` with :math:`e^{i q \varphi}`.

    Features were transported only. With :math:`P_q = \sum r^{|q|} e^{i q \varphi} t` the part of ``B`` between orders
    :math:`n \to m` that commutes with ``i`` multiplies :math:`P_{m-n}` and the rest :math:`P_{-(m+n)}`.
    """

    @property
    def harmonics(self) -> tuple[int, ...]:
        """Multiples of the angle."""
        return harmonics(tuple(n for n, _ in self.into), tuple(m for m, _ in self.out), True)

    def inputs(self, sums: Tensor) -> list[Tensor]:
        """What each output order needs, ``[n, rows]``."""
        starts, start = {}, 0
        for q in self.harmonics:
            starts[q] = start
            start += self.rings * components(q)
        columns = layout_slices(self.into)

        def moment(q: int, n: int) -> list[Tensor]:
            cosine = sums[:, starts[abs(q)] : starts[abs(q)] + self.rings, columns[n]]
            if q == 0:
                return [cosine]
            first = starts[abs(q)] + self.rings
            sine = sums[:, first : first + self.rings, columns[n]]
            if n == 0:
                return [cosine, sine]
            return [cosine + times_i(sine) if q > 0 else cosine - times_i(sine)]

        return [
            torch.cat([part.flatten(1) for q, n in self._terms(m) for part in moment(q, n)], dim=1) for m, _ in self.out
        ]

    def _terms(self, m: int) -> Iterator[tuple[int, int]]:
        """The moments (q, n) of an output order, in sequence."""
        for n, _ in self.into:
            if m and n:
                yield m - n, n
                yield -(m + n), n
            else:
                yield m - n, n

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """What multiplies that, ``[rows, dim]`` each."""
        made, columns = [], layout_slices(self.into)
        for m, rows in layout_slices(self.out).items():
            parts: list[Tensor] = []
            for n, place in columns.items():
                block = weight[:, rows, place]
                if m and n:
                    commuting = commuting_part(block)
                    parts += [commuting.transpose(1, 2), (block - commuting).transpose(1, 2)]
                else:
                    block = block.transpose(1, 2)
                    parts += [block, times_i(block)] if m else [block]
            made.append(torch.cat([part.reshape(-1, part.size(-1)) for part in parts]))
        return made

    def fold(self, grads: Sequence[Tensor]) -> Tensor:
        """The adjoint of ``matrices``."""
        rows = []
        for (m, _), grad in zip(self.out, grads, strict=True):
            parts, start = [], 0

            def take(width: int, start: int, grad: Tensor = grad) -> Tensor:
                return grad[start : start + self.rings * width].view(self.rings, width, -1)

            for n, count in self.into:
                width = count * components(n)
                block = take(width, start)
                start += self.rings * width
                if m:
                    other = take(width, start)
                    start += self.rings * width
                    # of the adjoints, both projections are their own
                    block = other + commuting_part(block - other) if n else block - times_i(other)
                parts.append(block)
            rows.append(torch.cat(parts, dim=1).transpose(1, 2))
        return torch.cat(rows, dim=1)


def make_mixer(into: Sequence[int], out: Sequence[int], rings: int, powers: bool) -> Mixer:
    """The mixer of two layouts, given as flat lists."""
    return (PowerMixer if powers else Mixer)(read_layout(into), read_layout(out), rings)

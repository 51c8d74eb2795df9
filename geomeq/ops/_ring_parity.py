"""Filters on rings, turned into ones that are even or odd along the rings."""

import torch
from torch import Tensor

from geomeq.ops._ring_plan import RingTable

_TOLERANCE = 1e-12  # of the largest coefficient: what differs by less is the same but for rounding


def parities(table: RingTable, columns: int) -> tuple[Tensor | None, int | None]:
    """An orthogonal matrix that turns filters into even ones followed by odd ones, and the number of even ones.

    Works where every filter is, up to its sign, the mirror image of itself or of another one, ``p`` and ``q``: then
    ``(p + q) / sqrt(2)`` is even and ``(p - q) / sqrt(2)`` odd.

    Returns:
        The matrix ``[K, K]``, from given to turned filters, float64 (``None`` for the identity), and the number
        (``None`` where filters are no such mirror images: then there is no matrix either).
    """
    here, mirrored = _mirrored(table, columns)
    taps = here.size(1)
    images = _images(here, mirrored)
    if images is None:
        return None, None
    even: list[Tensor] = []
    odd: list[Tensor] = []
    for k, (other, sign) in images.items():
        if other == k:
            (even if sign > 0 else odd).append(_row(taps, {k: 1.0}))
        elif other > k:
            even.append(_row(taps, {k: 0.5**0.5, other: sign * 0.5**0.5}))
            odd.append(_row(taps, {k: 0.5**0.5, other: -sign * 0.5**0.5}))
    turn = torch.stack(even + odd)
    return None if turn.equal(torch.eye(taps, dtype=turn.dtype)) else turn, len(even)


def _row(taps: int, values: dict[int, float]) -> Tensor:
    row = torch.zeros(taps, dtype=torch.float64)
    for k, value in values.items():
        row[k] = value
    return row


def _mirrored(table: RingTable, columns: int) -> tuple[Tensor, Tensor]:
    """All filters at every place where one of them is given, and their mirror images there, ``[M, K]``."""
    rows = int(table.row_in.max()) + 1
    pair = table.row_out * rows + table.row_in
    place, inverse = (pair * columns + table.shift % columns).unique(return_inverse=True)
    here = table.coef.new_zeros(len(place), table.coef.size(1)).index_add_(0, inverse, table.coef)
    mirror = place - place % columns + (-place) % columns
    at = torch.searchsorted(place, mirror).clamp(max=len(place) - 1)
    return here, here[at] * (place[at] == mirror)[:, None]


def _images(here: Tensor, mirrored: Tensor) -> dict[int, tuple[int, int]] | None:
    """The filter that each one is the image of, and the sign; ``None`` if one is of none."""
    limit = _TOLERANCE * float(here.abs().max())
    images: dict[int, tuple[int, int]] = {}
    for k in range(here.size(1)):
        if k in images:
            continue
        for other, sign in ((o, s) for o in range(k, here.size(1)) if o not in images for s in (1, -1)):
            there = (mirrored[:, k] - sign * here[:, other]).abs().max()
            back = (mirrored[:, other] - sign * here[:, k]).abs().max()
            if max(float(there), float(back)) <= limit:
                images[k], images[other] = (other, sign), (k, sign)
                break
        if k not in images:
            return None
    return images

r"""Graphs on groups whose places form a grid: the same few steps everywhere, no search.

A shift of the grid is a left translation, which no left-invariant distance sees. So the neighbours of a vertex depend
only on its orientation ``k``: they are pairs (orientation ``l``, offset ``o`` in whole steps of the grid). For products
of translations with anything that acts linearly on them (SE(2), SE(3), dilations, R^n itself) the logarithm of
:math:`h_k^{-1} T_o h_l` is moreover linear in the offset, :math:`f_{kl} + M_{kl} o`, so a squared distance is a
quadratic form, and how far one has to look follows from its inverse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..groups.group import GroupSample
from ._group_metric import Metric
from ._group_table import TIE, Array

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass
class Edges:
    """Edges sorted by target, then source; ``log`` is that of ``g_target^-1 g_source``."""

    source: Index
    target: Index
    log: Array
    sqdist: Array


class Lattice:
    """Logarithms between the orientations over a place and over all places of an unbounded grid.

    Attributes:
        grid: Places along each axis.
        fibre: Logarithms over the same place, ``[U, K, L, dim]``: from orientation k to l times symmetry u.
        slope: Their change per step of the grid, ``[U, K, L, dim, n]``.
        broken: Pairs whose logarithm is not linear, ``[U, K, L]``: half turns, whose axis has two signs.
        adjoint: Of the elements of the symmetry, ``[U, dim, dim]``.
    """

    def __init__(self, grid: tuple[int, ...], fibre: Array, slope: Array, broken: Mask, adjoint: Array) -> None:
        self.grid, self.fibre, self.slope, self.broken, self.adjoint = grid, fibre, slope, broken, adjoint

    @classmethod
    def read(cls, group: Any, sample: GroupSample) -> Self | None:
        """The lattice of a sample, or ``None`` if its places form no grid that left translations shift into itself."""
        if sample.grid is None or not all(hasattr(group, name) for name in ("compose", "inverse", "adjoint")):
            return None
        element = sample.element.unflatten(0, (sample.num_orientations, sample.num_spatial))
        steps = _steps(group, element[0], sample.grid)
        places = _offsets([range(n) for n in sample.grid])
        if not _is_shifted(group, element, steps, places):
            return None
        far = np.array([[1 - n if axis % 2 else n - 1 for axis, n in enumerate(sample.grid)]])
        offsets = torch.from_numpy(np.concatenate([0 * far, np.eye(len(sample.grid)), far]))
        logs = _relative_logs(group, element[:, 0], group.exp(offsets @ steps))
        fibre, slope = logs[..., 0, :], np.moveaxis(logs[..., 1:-1, :] - logs[..., :1, :], -2, -1)
        error = np.abs(fibre + (slope @ far[0].astype(float)) - logs[..., -1, :]).max(axis=-1)
        broken = error > 1e-9 * (1 + np.abs(logs).max(axis=(-1, -2)))
        adjoint = group.adjoint(group.symmetry).numpy()
        whole = np.round(adjoint)
        adjoint = np.where(np.abs(adjoint - whole) < 1e-12, whole, adjoint)  # cos(pi), not nearly it
        return cls(sample.grid, fibre, slope, broken, adjoint)

    def table(self, half: int, metric: Metric) -> "LatticeTable":
        """Distances to all offsets up to ``half`` steps along each axis."""
        axes = [range(-half, half + 1) if n > 1 else range(1) for n in self.grid]
        return LatticeTable(self, _offsets(axes), half, metric)


def _steps(group: Any, places: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Logarithms of the translations by one step along each axis, ``[n, dim]``."""
    strides = np.cumprod([1, *grid[:-1]]).tolist()
    ahead = places[[stride if n > 1 else 0 for stride, n in zip(strides, grid, strict=True)]]
    first = places[:1].expand_as(ahead)
    return group.log(group.compose(ahead, group.inverse(first)))


def _offsets(axes: Sequence[range]) -> Index:
    """All combinations, ``[B, n]``, the first axis running fastest."""
    mesh = np.meshgrid(*[np.asarray(axis, dtype=np.int64) for axis in reversed(axes)], indexing="ij")
    return np.stack([part.ravel() for part in reversed(mesh)], axis=-1)


def _is_shifted(group: Any, element: Tensor, steps: Tensor, places: Index) -> bool:
    """Whether every place is the first one shifted by whole steps, in all orientations alike."""
    shifts = group.exp(torch.from_numpy(places).double() @ steps)
    moved = group.compose(shifts.expand_as(element), element[:, :1].expand_as(element))
    return float(group.local_log(moved, element).abs().max()) < 1e-9


def _relative_logs(group: Any, fibre: Tensor, shifts: Tensor) -> Array:
    """``log(h_k^-1 T_o h_l u)``, ``[U, K, L, O, dim]``."""
    symmetry = group.symmetry
    shape = (len(symmetry), len(fibre), len(fibre), len(shifts))
    u = symmetry.view(-1, 1, 1, 1, *fibre.shape[1:]).expand(*shape, *fibre.shape[1:])
    h_k = fibre.view(1, -1, 1, 1, *fibre.shape[1:]).expand_as(u)
    h_l = fibre.view(1, 1, -1, 1, *fibre.shape[1:]).expand_as(u)
    shift = shifts.view(1, 1, 1, -1, *fibre.shape[1:]).expand_as(u)
    return group.local_log(h_k, group.compose(shift, group.compose(h_l, u))).numpy()


@dataclass
class LatticeTable:
    """Squared distances from each orientation to all others over a box of offsets."""

    lattice: Lattice
    offsets: Index  # [B, n], B odd, its middle the origin
    half: int
    metric: Metric

    def __post_init__(self) -> None:
        base, turn, free = self.metric.base, self.metric.turn, self.lattice
        root = np.linalg.cholesky(base + turn).T  # base and turn share no axis, or turn is zero
        moving = root if not turn.any() else root * (np.diag(turn) == 0)
        shape = (*free.fibre.shape[:3], len(self.offsets))
        self.base = np.zeros(shape)
        for row in moving:
            part = (free.fibre @ row)[..., None] + np.einsum("d,ukldn->ukln", row, free.slope) @ self.offsets.T
            self.base += part * part
        self.base[free.broken] = np.inf
        self.turn = np.einsum("ukld,de,ukle->ukl", free.fibre, turn, free.fibre)
        self._hide_self()

    def _hide_self(self) -> None:
        orientation = np.arange(self.base.shape[1])
        self.base[:, orientation, orientation, len(self.offsets) // 2] = np.inf

    @cached_property
    def same(self) -> Mask:
        """Whether the orientation is the same, ``[K, L * B]``."""
        return np.repeat(np.eye(self.base.shape[1], dtype=bool), len(self.offsets), axis=1)

    def by_symmetry(self, xi: float) -> Array:
        """Squared distances ``[U, K, L, B]``."""
        return self.base + xi**2 * self.turn[..., None]

    def sqdist(self, xi: float) -> Array:
        """The least over the symmetry, ``[K, L * B]``."""
        least = self.base[0] + xi**2 * self.turn[0][..., None]
        for base, turn in zip(self.base[1:], self.turn[1:], strict=True):
            np.minimum(least, base + xi**2 * turn[..., None], out=least)
        return least.reshape(len(least), -1)

    def reach(self, xi: float) -> float:
        """Lower bound of all squared distances to offsets outside the box."""
        slack, inverse, least = self._outside
        walls = slack**2 / inverse + (least + xi**2 * self.turn)[..., None]
        walls = walls[~self.lattice.broken][..., [n > 1 for n in self.lattice.grid]]
        return float(walls.min()) if walls.size else np.inf

    def balance(self) -> float:
        """The price at which the shortest turn costs as much as the shortest step without one."""
        orientation = np.arange(self.base.shape[1])
        step, turns = self.base[0, orientation, orientation].min(), self.turn[self.turn > 0]
        return float(np.sqrt(step / turns.min())) if turns.size and np.isfinite(step) else 1.0

    def broken_cost(self, xi: float) -> float:
        """Lower bound of the squared distances of pairs that the table leaves out; infinite if there are none."""
        broken = self.lattice.broken
        if not broken.any():
            return np.inf
        return float(xi**2 * self.turn[broken].min())

    @cached_property
    def _outside(self) -> tuple[Array, Array, Array]:
        r"""Of each quadratic form: distance of its centre to the walls, diagonal of its inverse, least value.

        :math:`q(o) = q_0 + (o - o_0)^T A (o - o_0) \ge q_0 + (o_a - o_{0a})^2 / (A^{-1})_{aa}` for each axis a.
        """
        free = self.lattice
        metric = self.metric.base if self.metric.turn.any() else self.metric.at(0.0)
        active = np.array([n > 1 for n in free.grid])
        form = np.swapaxes(free.slope, -1, -2) @ metric @ free.slope
        form[..., ~active, ~active] = 1.0  # an axis without steps has no slope
        inverse = np.linalg.inv(form)
        pull = np.swapaxes(free.slope, -1, -2) @ (metric @ free.fibre[..., None])
        centre = -(inverse @ pull)
        least = (
            np.einsum("ukld,de,ukle->ukl", free.fibre, metric, free.fibre)
            + (np.swapaxes(pull, -1, -2) @ centre)[..., 0, 0]
        )
        slack = np.maximum(self.half + 1 - np.abs(centre[..., 0]), 0)
        return slack, np.diagonal(inverse, axis1=-2, axis2=-1), least


@dataclass
class Stencil:
    """The neighbours of each orientation: rows sorted by orientation k, then l, then offset."""

    k: Index
    l: Index  # noqa: E741 - the formula's letter
    offset: Index  # [S, n]
    log: Array  # [S, dim]
    sqdist: Array


def select(table: LatticeTable, xi: float, square: float) -> Stencil:
    """All steps not longer than the radius, exactly as many back as forth.

    The distances of a step and of its reverse differ by rounding; only one of the two is looked at.
    """
    every = table.by_symmetry(xi)
    which = every.argmin(axis=0)
    # at a tie the first element of the symmetry, the identity, whatever rounding says
    sqdist = np.take_along_axis(every, which[None], axis=0)[0]
    for u in range(len(every) - 1, -1, -1):
        which[every[u] <= sqdist * (1 + TIE)] = u
    k, l, b = np.nonzero(_forward(sqdist.shape) & (sqdist <= square * (1 + TIE)))  # noqa: E741
    u, sqdist = which[k, l, b], sqdist[k, l, b]
    free, offset = table.lattice, table.offsets[b]
    log = free.fibre[u, k, l] + (free.slope[u, k, l] @ offset[..., None].astype(float))[..., 0]
    back = -(free.adjoint[u] @ log[..., None])[..., 0]
    k, l = np.concatenate([k, l]), np.concatenate([l, k])  # noqa: E741
    offset = np.concatenate([offset, -offset])
    log, sqdist = np.concatenate([log, back]), np.concatenate([sqdist, sqdist])
    order = np.lexsort((*offset.T, l, k))
    return Stencil(k[order], l[order], offset[order], log[order] + 0.0, sqdist[order])


def _forward(shape: tuple[int, ...]) -> Mask:
    """One of each step and its reverse: to a later orientation, or to a later place in the same one."""
    k, l, b = np.ogrid[: shape[0], : shape[1], : shape[2]]  # noqa: E741
    return (k < l) | ((k == l) & (b > shape[2] // 2))


def wrap(stencil: Stencil, grid: tuple[int, ...]) -> Stencil:
    """The stencil on a torus: offsets modulo the grid, of several images the nearest, no vertex its own neighbour."""
    offset = stencil.offset % np.array(grid)
    place = offset @ np.cumprod([1, *grid[:-1]])
    order = np.lexsort((stencil.sqdist, place, stencil.l, stencil.k))
    key = np.stack([stencil.k, stencil.l, place])[:, order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (key[:, 1:] != key[:, :-1]).any(axis=0)
    first &= (key[0] != key[1]) | (key[2] != 0)
    kept = order[first]
    return Stencil(stencil.k[kept], stencil.l[kept], offset[kept], stencil.log[kept], stencil.sqdist[kept])


def lay(stencil: Stencil, grid: tuple[int, ...], orientations: int, torus: bool) -> Edges:
    """The stencil at every vertex of the grid."""
    if torus:
        stencil = wrap(stencil, grid)
    size = np.array(grid)
    strides = np.cumprod([1, *grid[:-1]])
    places = _offsets([range(n) for n in grid])
    bounds = np.searchsorted(stencil.k, np.arange(orientations + 1))
    sources, targets, entries = [], [], []
    for k, (start, end) in enumerate(pairwise(bounds.tolist())):
        offset, base = stencil.offset[start:end], stencil.l[start:end] * len(places)
        if torus:
            source = ((places[:, None] + offset) % size) @ strides + base
            entry = np.argsort(source, axis=1)
            source = np.take_along_axis(source, entry, axis=1).ravel()
            place, entry = np.repeat(np.arange(len(places)), end - start), entry.ravel()
        else:
            inside = np.ones((len(places), end - start), dtype=bool)
            for axis, n in enumerate(grid):
                inside &= _inside(n, offset[:, axis])[places[:, axis]]
            place, entry = np.nonzero(inside)
            source = place + (offset @ strides + base)[entry]
        sources.append(source)
        targets.append(place + k * len(places))
        entries.append(entry + start)
    entry = np.concatenate(entries)
    return Edges(np.concatenate(sources), np.concatenate(targets), stencil.log[entry], stencil.sqdist[entry])


def _inside(n: int, offset: Index) -> Mask:
    """Whether a place plus an offset lies on an axis of ``n`` places, ``[n, S]``."""
    reached = np.arange(n)[:, None] + offset
    return (reached >= 0) & (reached < n)

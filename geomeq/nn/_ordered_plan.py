"""Where ordered neighbours lie: as images with borders for conv2d, as a table, or as typed edges."""

from dataclasses import dataclass
from itertools import pairwise
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from geomeq.groups._lasting import lasting
from geomeq.ops import RowMap, TypedPattern
from geomeq.spheres import (
    face_order,
    face_place,
    healpix,
    healpix_faces,
    healpix_halo,
    healpix_nested,
    healpix_taps,
)
from geomeq.spheres.healpix_tables import healpix_around

from ._ordered_compass import CompassPlan, compass_plan

MISSING = ("zero", "renormalise", "average")


def tap_steps(hops: int) -> list[tuple[int, int]]:
    """Steps (dx, dy) of the taps: the pixel itself, then ring by ring, each from SW over W, NW, N ... to S.

    Of one hop these are the eight neighbours in their order.
    """
    steps = [(0, 0)]
    for r in range(1, hops + 1):
        corners = ((-r, 0), (-r, r), (r, r), (r, -r), (-r, -r), (-r, 0))
        for (x, y), (u, v) in pairwise(corners):
            length = max(abs(u - x), abs(v - y))
            steps += [(x + (u - x) * i // length, y + (v - y) * i // length) for i in range(length)]
    return steps


@dataclass(frozen=True)
class Window:
    """Which pixels of HEALPix a layer reads around each pixel that it keeps."""

    hops: int
    dilation: int
    stride: int
    """Square of the step between outputs, 1 or 4."""
    missing: str
    distance: bool
    oriented: bool = False

    @property
    def reach(self) -> int:
        """Pixels from the middle to the border."""
        return self.hops * self.dilation

    def steps(self) -> tuple[Tensor, Tensor]:
        """Steps dx and dy of the taps, ``[T]``."""
        dx, dy = torch.tensor(tap_steps(self.hops)).T * self.dilation
        return dx, dy


@dataclass(frozen=True)
class Domain:
    """A whole sphere, or one square of consecutive pixels of a face without its surroundings."""

    side: int
    whole: bool

    @property
    def num_nodes(self) -> int:
        """Number of pixels."""
        return (12 if self.whole else 1) * self.side**2

    @classmethod
    def of(cls, num_nodes: int) -> "Domain":
        """The one with so many pixels.

        Raises:
            ValueError: If there is none.
        """
        for count, whole in ((num_nodes // 12, True), (num_nodes, False)):
            power = count > 0 and count & (count - 1) == 0 and count.bit_length() % 2 == 1
            if power and count * (12 if whole else 1) == num_nodes:
                return cls(1 << (count.bit_length() - 1) // 2, whole)
        raise ValueError(
            f"x must have 12 * 4^k pixels (a sphere) or 4^k (a square patch), got {num_nodes}; other sets of "
            "pixels are given as pixels"
        )


class FacePlan:
    """Faces with borders: one conv2d for all."""

    def __init__(self, halo: RowMap, nested: RowMap, order: RowMap, images: int, window: Window) -> None:
        self.halo, self.nested, self.order, self.images = halo, nested, order, images
        self.step = 1 if window.stride == 1 else 2
        self.dilation, self.width, self.reach = window.dilation, 2 * window.hops + 1, window.reach
        self.padded = round((halo.size[1] / images) ** 0.5)
        self.side = round((nested.size[0] / images) ** 0.5)
        self.bias_after = window.missing == "renormalise"
        self.num_nodes = halo.size[0]

    def to(self, device: torch.device) -> "FacePlan":
        """On another device."""
        new = object.__new__(FacePlan)
        new.__dict__.update(self.__dict__)
        new.halo, new.nested, new.order = self.halo.to(device), self.nested.to(device), self.order.to(device)
        return new


class TablePlan:
    """A table of neighbours; what is missing reads a row of zeros, or one of means, behind those of x."""

    def __init__(
        self, table: Tensor, extend: RowMap | None, num_nodes: int, scale: Tensor | None, factor: Tensor | None
    ) -> None:
        self.table, self.extend, self.num_nodes, self.scale, self.factor = table, extend, num_nodes, scale, factor
        self.num_rows = num_nodes if extend is None else extend.size[1]

    def to(self, device: torch.device) -> "TablePlan":
        """On another device."""
        return TablePlan(
            self.table.to(device),
            None if self.extend is None else self.extend.to(device),
            self.num_nodes,
            None if self.scale is None else self.scale.to(device),
            None if self.factor is None else self.factor.to(device),
        )


class EdgePlan:
    """The same as edges with types; several edges of one type may meet in a node."""

    def __init__(
        self,
        pattern: TypedPattern,
        extend: RowMap | None,
        num_nodes: int,
        scale: Tensor | None,
        factor: Tensor | None,
    ) -> None:
        self.pattern, self.extend, self.num_nodes, self.scale, self.factor = pattern, extend, num_nodes, scale, factor
        self.num_rows = num_nodes if extend is None else extend.size[1]
        self.back = TypedPattern(pattern.edge_index.flip(0), pattern.edge_type, pattern.num_types, pattern.size[::-1])
        self.by_type = [(pattern.edge_type == t).nonzero()[:, 0] for t in range(pattern.num_types)]

    def to(self, device: torch.device) -> "EdgePlan":
        """On another device."""
        pattern = TypedPattern(
            self.pattern.edge_index.to(device),
            self.pattern.edge_type.to(device),
            self.pattern.num_types,
            self.pattern.size,
        )
        return EdgePlan(
            pattern,
            None if self.extend is None else self.extend.to(device),
            self.num_nodes,
            None if self.scale is None else self.scale.to(device),
            None if self.factor is None else self.factor.to(device),
        )


Plan = FacePlan | TablePlan | EdgePlan | CompassPlan

# Layers on one grid share its tables; they go when the last layer does.
_SHARED: WeakValueDictionary[tuple[object, ...], Plan] = WeakValueDictionary()


def shared_plan(path: str, domain: Domain, window: Window, device: torch.device) -> Plan:
    """The plan of a grid on a device."""
    key = (path, domain, window, str(device))
    plan = _SHARED.get(key)
    if plan is None:
        if device.type != "cpu":
            plan = shared_plan(path, domain, window, torch.device("cpu")).to(device)
        elif path == "face":
            plan = lasting(face_plan)(domain, window)
        elif path == "compass":
            plan = lasting(compass_plan)(domain.side, window.stride)
        elif path == "edge":
            table = shared_plan("gather", domain, window, device)
            assert isinstance(table, TablePlan)
            plan = lasting(edge_plan)(table)
        else:
            plan = lasting(healpix_table_plan)(domain, window)
        _SHARED[key] = plan
    return plan


def face_plan(domain: Domain, window: Window) -> FacePlan:
    """Borders around the faces, and the way back to nested order."""
    side, reach, step = domain.side, window.reach, (1 if window.stride == 1 else 2)
    images = 12 if domain.whole else 1
    if domain.whole:
        cells = healpix_halo(side, reach)
    else:
        cells = torch.full((1, side + 2 * reach, side + 2 * reach), -1)
        cells[0, reach : reach + side, reach : reach + side] = face_order(side)[: side**2].view(side, side)
    rows = sources = weight = None
    if window.missing == "average" and domain.whole:
        face, y, x = (cells < 0).nonzero().T
        pair = torch.stack(healpix_around(side, face, x - reach, y - reach))
        rows, sources = (cells.flatten() < 0).nonzero()[:, 0].repeat(2), pair.flatten()
        weight = torch.full((len(rows),), 0.5, dtype=torch.float64)
    halo = RowMap(cells.flatten(), domain.num_nodes, rows, sources, weight)
    place = face_place(side // step)[: domain.num_nodes // step**2]
    factor = _face_factor(cells, window, step).flatten()[place] if window.missing == "renormalise" else None
    nested = RowMap(place, len(place)) if factor is None else _scaled(place, factor)
    dx, dy = window.steps()
    width = 2 * window.hops + 1
    order = ((dy // window.dilation + window.hops) * width + dx // window.dilation + window.hops).argsort()
    return FacePlan(halo, nested, RowMap(order, width**2), images, window)


def _face_factor(cells: Tensor, window: Window, step: int) -> Tensor:
    """Taps over taps that are there, on faces."""
    width = 2 * window.hops + 1
    there, ones = (cells >= 0).double()[:, None], torch.ones(1, 1, width, width, dtype=torch.float64)
    return width**2 / torch.nn.functional.conv2d(there, ones, stride=step, dilation=window.dilation)


def _scaled(place: Tensor, factor: Tensor) -> RowMap:
    """A change of order which multiplies a few rows."""
    few = (factor != 1).nonzero()[:, 0]
    return RowMap(place.index_fill(0, few, -1), len(place), few, place[few], factor[few])


def healpix_table_plan(domain: Domain, window: Window) -> TablePlan:
    """Windows of a whole sphere or of a square."""
    dx, dy = window.steps()
    if domain.whole:
        pixel = torch.arange(0, domain.num_nodes, window.stride)
        table = _taps(domain.side, window, None if window.stride == 1 else pixel)
        pairs = _means(domain.side, window, table, pixel)
    else:
        _, x, y = healpix_faces(domain.side, torch.arange(0, domain.num_nodes, window.stride))
        u, v = x[:, None] + dx, y[:, None] + dy
        inside = (u >= 0) & (u < domain.side) & (v >= 0) & (v < domain.side)
        table = healpix_nested(domain.side, u.new_zeros(()), u.clamp(0, domain.side - 1), v.clamp(0, domain.side - 1))
        table, pairs = torch.where(inside, table, -1), None
    scale = None
    if window.distance:
        if not domain.whole:
            raise ValueError(
                "weights by distance differ from patch to patch; give nside and pixels, so that the place is known"
            )
        scale = _distance_weights(domain.side, torch.arange(0, domain.num_nodes, window.stride), table)
    return table_plan(table, domain.num_nodes, window.missing == "renormalise", scale, pairs)


def pixel_table_plan(nside: int, pixels: Tensor, window: Window) -> TablePlan:
    """Windows of some pixels of a sphere; what lies outside is missing."""
    kept = pixels
    if window.stride == 4:
        kept = pixels[::4]
        if len(pixels) % 4 or not torch.equal(pixels.view(-1, 4), kept[:, None] // 4 * 4 + torch.arange(4)):
            raise ValueError("stride=4 keeps one of four siblings: pixels must hold all of 4 p, ..., 4 p + 3 or none")
    table = _taps(nside, window, kept)
    scale = _distance_weights(nside, kept, table) if window.distance else None
    pairs = _means(nside, window, table, kept)
    if pairs is not None:
        pairs = pairs[0], pairs[1], _local(pairs[2], pixels)
    plan = table_plan(_local(table, pixels), len(pixels), window.missing == "renormalise", scale, pairs)
    return plan


def table_plan(
    table: Tensor,
    num_nodes: int,
    renormalise: bool,
    scale: Tensor | None,
    pairs: tuple[Tensor, Tensor, Tensor] | None,
) -> TablePlan:
    """Completes a table ``[M, T]`` with -1 where there is none.

    Args:
        table: Rows of x.
        num_nodes: Number of these rows.
        renormalise: Whether sums are multiplied by taps over taps that are there.
        scale: Factors ``[M, T]``.
        pairs: Row and tap of missing ones ``[Q]``, and what they are means of, ``[2, Q]``, -1 for none.
    """
    lacking = table < 0
    factor = None
    if renormalise:
        factor = table.size(1) / (~lacking).sum(dim=1).clamp(min=1).double()
    if not bool(lacking.any()):
        return TablePlan(table, None, num_nodes, scale, factor)
    index = torch.cat([torch.arange(num_nodes), torch.tensor([-1])])
    table = torch.where(lacking, num_nodes, table)
    rows = sources = weight = None
    if pairs is not None:
        row, tap, pair = pairs
        some = (pair >= 0).any(dim=0)
        row, tap, pair = row[some], tap[some], pair[:, some]
        table[row, tap] = num_nodes + 1 + torch.arange(len(row))
        index = torch.cat([index, torch.full((len(row),), -1)])
        which, column = (pair.T >= 0).nonzero().T
        rows, sources = num_nodes + 1 + which, pair.T[which, column]
        weight = 1 / (pair >= 0).sum(dim=0).double()[which]
    return TablePlan(table, RowMap(index, num_nodes, rows, sources, weight), num_nodes, scale, factor)


def edge_plan(plan: TablePlan) -> EdgePlan:
    """The edges of a table: without those to the row of zeros."""
    there = (plan.table != plan.num_nodes) if plan.extend is not None else torch.ones_like(plan.table, dtype=torch.bool)
    target, tap = there.nonzero().T
    edge_index = torch.stack([plan.table[target, tap], target])
    pattern = TypedPattern(edge_index, tap, plan.table.size(1), (plan.num_rows, plan.table.size(0)))
    scale = None if plan.scale is None else plan.scale[target, tap]
    return EdgePlan(pattern, plan.extend, plan.num_nodes, scale, plan.factor)


def _taps(nside: int, window: Window, pixel: Tensor | None) -> Tensor:
    """``[M, T]`` in the order of the taps."""
    (dx, dy), reach = window.steps(), window.reach
    return healpix_taps(nside, reach, pixel)[:, (dy + reach) * (2 * reach + 1) + dx + reach]


def _means(nside: int, window: Window, table: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    if window.missing != "average":
        return None
    row, tap = (table < 0).nonzero().T
    face, x, y = healpix_faces(nside, pixel[row])
    dx, dy = window.steps()
    return row, tap, torch.stack(healpix_around(nside, face, x + dx[tap], y + dy[tap]))


def _local(table: Tensor, pixels: Tensor) -> Tensor:
    """Numbers of pixels to their places in a sorted list; -1 where they are not in it."""
    place = torch.searchsorted(pixels, table).clamp(max=len(pixels) - 1)
    return torch.where(pixels[place] == table, place, -1)


def _distance_weights(nside: int, kept: Tensor, table: Tensor) -> Tensor:
    """Side of a pixel over distance, 1 for the pixel itself."""
    pos = healpix(nside).pos
    away = (pos[table.clamp(min=0)] - pos[kept][:, None]).norm(dim=-1)
    angle = 2 * torch.asin(away.clamp(max=2) / 2)
    spacing = (torch.pi / 3) ** 0.5 / nside
    return torch.where((angle > 0) & (table >= 0), spacing / angle.clamp(min=1e-12), 1.0)

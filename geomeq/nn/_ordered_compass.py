"""Taps by compass: neighbours of a pixel interpolated to directions that are the same everywhere on the sphere."""

from math import pi

import torch
from torch import Tensor

from geomeq.ops._functorch import transforms_functions
from geomeq.ops.stencil_linear import stencil_mix
from geomeq.spheres import healpix, healpix_neighbours

# Where SW, W, NW, ... lie on average in the belt, degrees from south towards east.
DIRECTIONS = (-41.5, -90.0, -138.5, 180.0, 138.5, 90.0, 41.5, 0.0)


class CompassPlan:
    """Sparse rows (pixel, tap) over pixels, and rows (pixel, tap) of the transpose."""

    def __init__(self, there: list[Tensor], back: list[Tensor], num_nodes: int) -> None:
        self.there, self.back, self.num_nodes = there, back, num_nodes

    def to(self, device: torch.device) -> "CompassPlan":
        """On another device."""
        there, back = ([t.to(device) for t in rows] for rows in (self.there, self.back))
        return CompassPlan(there, back, self.num_nodes)


def compass_plan(nside: int, stride: int) -> CompassPlan:
    """Each tap is the linear interpolation, by direction, between the two neighbours beside it.

    A missing neighbour leaves a gap between the two next to it, which is interpolated as any other: nothing is missing.
    """
    pos, pixel = healpix(nside).pos, torch.arange(0, 12 * nside**2, stride)
    near = healpix_neighbours(nside, pixel)
    angle = _directions(pos, pixel, near)
    order = angle.argsort(dim=1)  # missing ones last
    angle, near = angle.gather(1, order), near.gather(1, order)
    have = angle.isfinite().sum(dim=1)
    rows, columns, values = [pixel // stride * 9], [pixel], [torch.ones(len(pixel), dtype=torch.float64)]
    for k, degrees in enumerate(DIRECTIONS):
        wanted = (degrees / 180 * pi) % (2 * pi)
        after = (angle < wanted).sum(dim=1)  # number of neighbours before this direction
        low, high = ((after + step) % have for step in (-1, 0))
        first, second = angle.gather(1, low[:, None])[:, 0], angle.gather(1, high[:, None])[:, 0]
        gap, part = (second - first) % (2 * pi), (wanted - first) % (2 * pi)
        share = torch.where(gap > 0, part / gap.clamp(min=1e-12), 0.0)
        for index, value in ((low, 1 - share), (high, share)):
            rows.append(pixel // stride * 9 + k + 1)
            columns.append(near.gather(1, index[:, None])[:, 0])
            values.append(value)
    row, column, value = torch.cat(rows), torch.cat(columns), torch.cat(values)
    keep = value > 1e-12
    row, column, value = row[keep], column[keep], value[keep]
    there = _rows(row, column, value, 9 * len(pixel))
    back = _rows(column * 9 + row % 9, row // 9, value, 9 * len(pos))
    return CompassPlan(there, back, len(pos))


def _directions(pos: Tensor, pixel: Tensor, near: Tensor) -> Tensor:
    """Of every neighbour, radians from south towards east in [0, 2 pi); infinite where there is none."""
    here = pos[pixel]
    east = torch.stack([-here[:, 1], here[:, 0], torch.zeros(len(here), dtype=pos.dtype)], dim=1)
    east = east / east.norm(dim=1, keepdim=True)  # no pixel's centre is a pole
    south = torch.linalg.cross(east, here)
    away = pos[near.clamp(min=0)]
    angle = torch.atan2((away * east[:, None]).sum(-1), (away * south[:, None]).sum(-1)) % (2 * pi)
    return torch.where(near < 0, torch.inf, angle)


def _rows(row: Tensor, column: Tensor, value: Tensor, num_rows: int) -> list[Tensor]:
    """CSR: pointers, columns, values."""
    order = row.argsort(stable=True)
    ptr = torch.searchsorted(row[order], torch.arange(num_rows + 1))
    dtype = torch.int32 if max(num_rows, len(row)) < 2**31 else torch.int64
    return [ptr.to(dtype), column[order].to(dtype), value[order]]


def compass_mix(x: Tensor, weight: Tensor, there: list[Tensor], back: list[Tensor]) -> Tensor:
    """``x`` ``[B, N, C]``, ``weight`` ``[9, C, O]`` to ``[B, M, O]``."""
    wide = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
    one, matrix = x.to(wide), weight.to(wide)
    with torch.autocast(x.device.type, enabled=False):
        if transforms_functions():
            ptr, column, value = there
            row = torch.repeat_interleave(torch.arange(len(ptr) - 1, device=ptr.device), ptr.diff().long())
            taps = one.new_zeros(one.size(0), len(ptr) - 1, one.size(2))
            taps = taps.index_add(1, row, one.index_select(1, column) * value.to(wide)[:, None])
            return (taps.unflatten(1, (-1, 9)).flatten(-2) @ matrix.flatten(0, 1)).to(x.dtype)
        rows = ([ptr, column, value.to(wide)] for ptr, column, value in (there, back))
        return stencil_mix(one.transpose(0, 1).contiguous(), matrix, *rows, "auto").transpose(0, 1).to(x.dtype)

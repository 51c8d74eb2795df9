"""Which points of a sampling lie in which cap, and where, seen from the middle of the cap; in float64."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import check_shape
from ..groups.so3 import sphere_frame
from ..neighbors import radius_edges
from ..spheres import Sampling
from ._disco_norm import CHUNK

_SAME = 1e-9  # radians: nearer points are one place, and see no direction to each other


class Caps(NamedTuple):
    """Pairs of a point and a cap that holds it, sorted by cap and then point, with polar coordinates in the cap.

    Attributes:
        edge_index: Number of the point and of the cap, ``[2, E]``.
        r: Great-circle distance from the middle of the cap, radians, ``[E]``.
        angle: Azimuth in the frame of the cap, from e1 towards e2, radians in (-pi, pi], ``[E]``; 0 where r is 0.
    """

    edge_index: Tensor
    r: Tensor
    angle: Tensor


class Meridian(NamedTuple):
    """The caps of one meridian of a grid, over the nodes of another; all other caps are these, shifted in longitude.

    Attributes:
        cap_row: Row of the cap, ``[M]``, sorted.
        row: Row of the point, ``[M]``.
        offset: Column of the point, for the cap in column 0, in [0, columns), ``[M]``.
        r: As in :class:`Caps`, ``[M]``.
        angle: As in :class:`Caps`, ``[M]``.
    """

    cap_row: Tensor
    row: Tensor
    offset: Tensor
    r: Tensor
    angle: Tensor


def meridian_frames(sampling: Sampling) -> Tensor:
    """Rows south, east and the point, ``[N, 3, 3]``.

    Where the nodes lie on rings, those at a pole have the south of their own longitude, so that a turn about the axis
    by one column moves the frames of a grid onto each other. Elsewhere south at a pole is along longitude 0.
    """
    if sampling.rings is None:
        return sphere_frame(sampling.pos).transpose(1, 2)
    rings = sampling.rings
    theta = rings.colatitude.repeat_interleave(rings.count)
    phi = rings.longitude
    sin_t, cos_t, sin_p, cos_p = theta.sin(), theta.cos(), phi.sin(), phi.cos()
    south = torch.stack([cos_t * cos_p, cos_t * sin_p, -sin_t], dim=1)
    east = torch.stack([-sin_p, cos_p, torch.zeros_like(phi)], dim=1)
    frame = torch.empty(sampling.num_nodes, 3, 3, dtype=torch.float64)
    frame[rings.node, 0], frame[rings.node, 1] = south, east
    frame[:, 2] = sampling.pos
    return frame


def find_caps(pos: Tensor, frame: Tensor, points: Tensor, radius: float) -> Caps:
    """The points within ``radius`` of each given place; any places, any frames, any points.

    Args:
        pos: Middles of the caps, unit vectors ``[M, 3]``, float64.
        frame: Their frames, rows e1, e2 and the normal, ``[M, 3, 3]``, float64.
        points: Unit vectors ``[N, 3]``, float64.
        radius: Of the caps, radians, in (0, pi]; a point on the rim counts.

    Raises:
        ValueError: If a shape is wrong or the radius is out of range.
    """
    check_shape("frame", frame, pos.size(0), 3, 3)
    check_radius(radius)
    chord = 2 * math.sin(min(radius, math.pi) / 2) * (1 + 1e-12)
    edges = radius_edges(points, chord, query=pos, rtol=0.0)
    parts = [_polar(pos, frame, points, part, radius) for part in edges.split(CHUNK, dim=1)]
    return Caps(*(torch.cat(found, dim=-1) for found in zip(*parts, strict=True)))


def _polar(pos: Tensor, frame: Tensor, points: Tensor, edges: Tensor, radius: float) -> Caps:
    """Those of the edges (point, cap) that are within the radius, with distance and azimuth."""
    j, i = edges
    apart = points[j] - pos[i]  # its tangent part is that of the point, without the digits a far origin would cost
    r = 2 * torch.atan2(apart.norm(dim=1), (points[j] + pos[i]).norm(dim=1))  # accurate from 0 to pi
    x, y = torch.einsum("eak,ek->ae", frame[i, :2], apart)
    keep = r <= radius
    return Caps(edges[:, keep], r[keep], _azimuth(x, y, r)[keep])


def check_radius(radius: float) -> None:
    """Raises unless a cap of this radius exists; a rim tolerance beyond pi is let through."""
    if not 0 < radius <= math.pi * 1.01:
        raise ValueError(f"cutoff is an angle in radians, more than 0 and at most pi, got {radius}")


def _azimuth(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    angle = torch.atan2(y, x)
    angle = torch.where(angle <= -math.pi, math.pi, angle)
    return torch.where(r < _SAME, 0.0, angle)


def shares_meridian(caps: Sampling, points: Sampling) -> bool:
    """Whether the caps of one meridian, shifted in longitude, are all caps, with the same weights."""
    if caps.grid is None or points.grid is None or points.grid[1] % caps.grid[1] != 0:
        return False
    return _has_equal_rows(caps) and _has_equal_rows(points)


def _has_equal_rows(sampling: Sampling) -> bool:
    """Whether all nodes of a row of a grid have one weight; not so where a user has masked some."""
    assert sampling.grid is not None
    area = sampling.area.view(sampling.grid)
    return bool(((area - area[:, :1]).abs() <= 1e-12 * area.abs().max()).all())


def find_meridian(caps: Sampling, points: Sampling, radius: float) -> Meridian:
    """The points of a grid in the caps of one meridian of another grid, without looking at any other cap.

    Args:
        caps: The grid whose nodes are the middles.
        points: The other grid; its number of columns is a multiple of that of ``caps``.
        radius: Of the caps, radians.

    Raises:
        ValueError: If the samplings are no such grids or the radius is out of range.
    """
    check_radius(radius)
    if caps.rings is None or points.rings is None or points.grid is None or not shares_meridian(caps, points):
        raise ValueError(
            f"one meridian stands for all where both samplings are grids and the columns of one are a multiple of "
            f"those of the other, with one weight in each row, got {caps} with {_columns(caps)} and {points} with "
            f"{_columns(points)}"
        )
    columns = points.grid[1]
    step = 2 * math.pi / columns
    shift = float(points.rings.start[0] - caps.rings.start[0])
    theta, other = caps.rings.colatitude, points.rings.colatitude
    cap_row, row = ((theta[:, None] - other).abs() <= radius).nonzero().unbind(1)
    reach = _longitude_reach(theta[cap_row], other[row], radius)
    first = torch.ceil((-reach - shift) / step).long() - 1  # one more on either side: the exact test follows
    count = (torch.floor(2 * reach / step).long() + 4).clamp(max=columns)
    place = torch.arange(int(count.sum())) - (count.cumsum(0) - count).repeat_interleave(count)
    column = first.repeat_interleave(count) + place
    cap_row, row = cap_row.repeat_interleave(count), row.repeat_interleave(count)
    r, angle = _seen_from(theta[cap_row], other[row], shift + column.double() * step)
    keep = r <= radius
    return Meridian(cap_row[keep], row[keep], column[keep] % columns, r[keep], angle[keep])


def _columns(sampling: Sampling) -> str:
    return "no grid" if sampling.grid is None else f"{sampling.grid[1]} columns"


def _longitude_reach(theta: Tensor, other: Tensor, radius: float) -> Tensor:
    """How far in longitude, at colatitude ``other``, a cap around colatitude ``theta`` reaches; at most pi."""
    scale = theta.sin() * other.sin()
    cos = (math.cos(min(radius, math.pi)) - theta.cos() * other.cos()) / scale.clamp(min=1e-300)
    return torch.where(scale < 1e-14, math.pi, cos.clamp(-1, 1).acos()) + 1e-7


def _seen_from(theta: Tensor, other: Tensor, longitude: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and azimuth of points ``longitude`` further east, without cancellation where they are near."""
    sin_half = (longitude / 2).sin().square()
    x = (other - theta).sin() - 2 * theta.cos() * other.sin() * sin_half
    y = other.sin() * longitude.sin()
    z = (other - theta).cos() - 2 * theta.sin() * other.sin() * sin_half
    r = torch.atan2(torch.hypot(x, y), z)
    return r, _azimuth(x, y, r)


def spread_meridian(meridian: Meridian, caps: tuple[int, int], points: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """All caps from those of one meridian.

    Args:
        meridian: Of the pair of grids.
        caps: Rows and columns of the caps.
        points: Rows and columns of the points.

    Returns:
        ``edge_index [2, E]``, point and cap, sorted by cap and then point; and the entry of the meridian that each
        edge is a copy of, ``[E]``.
    """
    column = torch.arange(caps[1])
    ratio = points[1] // caps[1]
    point = meridian.row[:, None] * points[1] + (meridian.offset[:, None] + column * ratio) % points[1]
    cap = meridian.cap_row[:, None] * caps[1] + column
    order = (cap * (points[0] * points[1]) + point).flatten().argsort()
    edges = torch.stack([point.flatten()[order], cap.flatten()[order]])
    return edges, order.div(caps[1], rounding_mode="floor")

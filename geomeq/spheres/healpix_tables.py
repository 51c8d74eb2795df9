r"""Tables of HEALPix: neighbours, the pyramid, faces, both numberings, and the pixel that holds a point.

A pixel of the nested numbering is ``face nside^2 + z``, where the even bits of ``z`` are ``x``, which grows to the
north-east, and the odd bits ``y``, to the north-west. Everything follows from where the 12 faces touch; nothing is
looked up in files and no other package is needed.
"""

import math

import torch
from torch import Tensor

from .._checks import check_finite, check_shape
from .healpix import _even_bits, check_nside
from .sampling import check_count

#: Steps (dx, dy) to the neighbours in their fixed order: SW, W, NW, N, NE, E, SE, S.
NEIGHBOUR_STEPS = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))

# Which face lies beyond each side of a face, for the first face of each row of faces (north, equator, south), as
# (row, places eastward): index 3 sy + sx with sx, sy = 0 below, 1 within, 2 beyond. None: three faces meet there.
_BEYOND = (
    ((2, 0), (1, 1), None, (1, 0), (0, 0), (0, 1), None, (0, -1), (0, 2)),
    (None, (2, 0), (1, 1), (2, -1), (1, 0), (0, 0), (1, -1), (0, -1), None),
    ((2, 2), (2, 1), None, (2, -1), (2, 0), (1, 1), None, (1, 0), (0, 0)),
)
# Quarter turns of that face's (x, y) against ours: around the poles only.
_TURNS = ((0, 0, 0, 0, 0, 1, 0, 3, 2), (0,) * 9, (2, 3, 0, 1, 0, 0, 0, 0, 0))


def healpix_faces(nside: int, pixel: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Face, x and y of nested pixels.

    Args:
        nside: Pixels along the side of a face, a power of 2.
        pixel: Nested numbers; by default all.

    Returns:
        Face in 0..11, x and y in 0..nside - 1, of the shape of ``pixel``.

    Raises:
        ValueError: If ``nside`` is not a power of 2 or a number is not one of a pixel.

    Example:
        >>> healpix_faces(2, torch.tensor([0, 1, 2, 47]))
        (tensor([ 0,  0,  0, 11]), tensor([0, 1, 0, 1]), tensor([0, 0, 1, 1]))
    """
    pixel = _pixels(nside, pixel)
    within = pixel % nside**2
    return pixel // nside**2, _even_bits(within, nside), _even_bits(within >> 1, nside)


def healpix_nested(nside: int, face: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The nested number of a pixel on a face: the inverse of :func:`healpix_faces`.

    Args:
        nside: Pixels along the side of a face, a power of 2.
        face: 0..11.
        x: Column, to the north-east, 0..nside - 1.
        y: Row, to the north-west, 0..nside - 1.
    """
    check_nside(nside)
    return face * nside**2 + _spread_bits(x, nside) + 2 * _spread_bits(y, nside)


def healpix_beyond(nside: int, face: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The pixel at (x, y) of a face whose grid is continued over its sides, nested number; -1 where there is none.

    Over each of its sides a face goes on as the next one, turned as it touches. Beyond a corner where four faces meet
    the opposite face follows; beyond one where three meet, there is nothing.

    Args:
        nside: Pixels along the side of a face, a power of 2.
        face: 0..11.
        x: ``-nside <= x < 2 nside``.
        y: ``-nside <= y < 2 nside``.

    Raises:
        ValueError: If ``nside`` is not a power of 2, or x or y is farther than one face away.
    """
    check_nside(nside)
    face, x, y = torch.broadcast_tensors(face, x, y)
    for name, value in (("x", x), ("y", y)):
        if value.numel() and (int(value.min()) < -nside or int(value.max()) >= 2 * nside):
            raise ValueError(
                f"{name} must lie in {-nside}..{2 * nside - 1}, at most one face away, got "
                f"{int(value.min())}..{int(value.max())}"
            )
    face, x, y = _cross(nside, face, x, y)
    pixel = healpix_nested(nside, face.clamp(min=0), x, y)
    return torch.where(face < 0, -1, pixel)


def healpix_around(nside: int, face: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`healpix_beyond`, but first over a side in x, then in y, and the other way round: ``[2]`` pixels.

    The two agree except beyond the eight corners where three faces meet: there each is a pixel of one of the other two
    faces, and their mean a fair value for what is missing.
    """
    found = []
    for first in (0, 1):
        one = (x, y.clamp(0, nside - 1)) if first == 0 else (x.clamp(0, nside - 1), y)
        rest = torch.zeros_like(x), y - one[1]
        if first == 1:
            rest = x - one[0], torch.zeros_like(y)
        at, u, v = _cross(nside, face, *one)
        turn = _turn(nside, face, *one)
        du, dv = rest
        for quarter in (1, 2, 3):
            more = turn >= quarter
            du, dv = torch.where(more, dv, du), torch.where(more, -du, dv)
        at, u, v = _cross(nside, at, u + du, v + dv)
        found.append(healpix_nested(nside, at, u, v))
    return found[0], found[1]


def healpix_halo(nside: int, hops: int = 1) -> Tensor:
    """Twelve faces, each continued by some pixels on every side.

    Args:
        nside: Pixels along the side of a face, a power of 2.
        hops: Width of the border, at most ``nside``.

    Returns:
        Nested numbers, ``[12, nside + 2 hops, nside + 2 hops]`` (face, y, x); -1 in 24 corners
        (E and W of the faces at the poles, N and S of those at the equator), beyond which there is nothing.

    Raises:
        ValueError: If ``nside`` is not a power of 2 or the border is wider than a face.
    """
    check_nside(nside)
    check_count("hops", hops, 0)
    if hops > nside:
        raise ValueError(f"a window of {hops} hops is larger than a face with nside={nside}; use hops <= {nside}")
    side, inside = nside + 2 * hops, slice(hops, hops + nside)
    out = torch.empty(12, side, side, dtype=torch.int64, device="cpu")
    out[:, inside, inside] = face_order(nside).view(12, nside, nside)
    edge = torch.ones(side, side, dtype=torch.bool, device="cpu")
    edge[inside, inside] = False
    y, x = edge.nonzero().T  # the formulas are run on the border only
    out[:, y, x] = healpix_beyond(nside, torch.arange(12, device="cpu")[:, None], x - hops, y - hops)
    return out


def healpix_taps(nside: int, hops: int = 1, pixel: Tensor | None = None) -> Tensor:
    """Every pixel's window of ``(2 hops + 1)^2`` pixels on the continued grid of its face.

    Args:
        nside: Pixels along the side of a face, a power of 2.
        hops: Rings around the pixel, at most ``nside``.
        pixel: Nested numbers; by default all.

    Returns:
        ``[M, (2 hops + 1)^2]``, nested numbers, -1 where there is none. Tap ``(dy + hops) (2 hops + 1) + dx + hops``
        is the step (dx, dy), so that the middle one is the pixel itself.

    Raises:
        ValueError: If ``nside`` is not a power of 2 or the window is larger than a face.
    """
    check_nside(nside)
    check_count("hops", hops, 0)
    if hops > nside:
        raise ValueError(f"a window of {hops} hops is larger than a face with nside={nside}; use hops <= {nside}")
    step = torch.arange(-hops, hops + 1, device="cpu" if pixel is None else pixel.device)
    dy, dx = (d.flatten() for d in torch.meshgrid(step, step, indexing="ij"))
    return _window(nside, pixel, dx, dy, hops)


def healpix_neighbours(nside: int, pixel: Tensor | None = None) -> Tensor:
    """The eight neighbours of every pixel, in the order SW, W, NW, N, NE, E, SE, S.

    From ``nside=2`` on 24 pixels lack one: eight lack W, eight E, four N and four S. At ``nside=1`` all 12 lack two.

    Args:
        nside: Pixels along the side of a face, a power of 2.
        pixel: Nested numbers; by default all.

    Returns:
        ``[M, 8]``, int64; -1 where there is none.

    Raises:
        ValueError: If ``nside`` is not a power of 2 or a number is not one of a pixel.

    Example:
        >>> healpix_neighbours(2)[0]
        tensor([17, 19,  2,  3,  1, 23, 22, 35])
    """
    check_nside(nside)
    dx, dy = torch.tensor(NEIGHBOUR_STEPS, device="cpu" if pixel is None else pixel.device).T
    return _window(nside, pixel, dx, dy, 1)


def healpix_parent(pixel: Tensor, levels: int = 1) -> Tensor:
    """The pixel that holds this one at ``nside / 2^levels``.

    Args:
        pixel: Nested numbers.
        levels: How far up.
    """
    check_count("levels", levels, 0)
    return pixel >> (2 * levels)


def healpix_children(pixel: Tensor, levels: int = 1) -> Tensor:
    """The pixels within this one at ``2^levels nside``: its southern, eastern, western and northern quarter.

    Args:
        pixel: Nested numbers, ``[...]``.
        levels: How far down.

    Returns:
        ``[..., 4^levels]``, consecutive numbers.
    """
    check_count("levels", levels, 0)
    return pixel.long()[..., None] * 4**levels + torch.arange(4**levels, device=pixel.device)


def nest_to_ring(nside: int) -> Tensor:
    """The number in the RING order of each nested pixel, ``[12 nside^2]``.

    ``x_nested = x_ring[nest_to_ring(nside)]`` brings a signal that comes in RING order into the order of this package.

    Example:
        >>> nest_to_ring(1)
        tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11])
        >>> nest_to_ring(2)[:4]
        tensor([13,  5,  4,  0])
    """
    face, x, y = healpix_faces(nside)
    row, place = face // 4, face % 4
    ring = (row + 2) * nside - x - y - 1  # 1 to 4 nside - 1, from the north
    south = 4 * nside - ring
    quarter = torch.minimum(ring, south).clamp(max=nside)
    first = torch.where(
        ring < nside,
        2 * ring * (ring - 1),
        torch.where(
            south < nside, 12 * nside**2 - 2 * south * (south + 1), 2 * nside * (nside - 1) + 4 * nside * (ring - nside)
        ),
    )
    shift = torch.where(quarter < nside, 0, (ring - nside) % 2)  # every other ring of the belt starts at longitude 0
    eighths = 2 * place + torch.where(row == 1, 0, 1)
    return first + ((eighths * quarter + x - y + 1 + shift) // 2 - 1) % (4 * quarter)


def ring_to_nest(nside: int) -> Tensor:
    """The nested number of each pixel of the RING order, ``[12 nside^2]``: the inverse of :func:`nest_to_ring`."""
    return _inverse(nest_to_ring(nside))


def face_order(nside: int) -> Tensor:
    """Nested number of the pixel at (face, y, x), row by row, ``[12 nside^2]``.

    ``x[face_order(nside)].view(12, nside, nside)`` are twelve images.

    Example:
        >>> face_order(2)[:4]
        tensor([0, 1, 2, 3])
        >>> face_order(4)[:8]
        tensor([0, 1, 4, 5, 2, 3, 6, 7])
    """
    check_nside(nside)
    side = torch.arange(nside, device="cpu")
    return healpix_nested(nside, torch.arange(12, device="cpu")[:, None, None], side, side[:, None]).flatten()


def face_place(nside: int) -> Tensor:
    """Place (face, y, x), row by row, of each nested pixel, ``[12 nside^2]``: the inverse of :func:`face_order`."""
    return _inverse(face_order(nside))


def healpix_pixel(points: Tensor, nside: int) -> Tensor:
    r"""The pixel that holds each point.

    The sphere is spread out so that faces are squares on their corners: with longitude
    :math:`t = 2 \phi / \pi` and, in the belt :math:`|z| < 2/3`, height :math:`h = 3 z / 4`; in the caps the meridians
    close towards the pole, :math:`h = 1 - \sigma / 2`, :math:`\sigma = \sqrt{3 (1 - |z|)}`.

    Args:
        points: Vectors ``[M, 3]``, not zero; only their directions count.
        nside: Pixels along the side of a face, a power of 2.

    Returns:
        Nested numbers, ``[M]``.

    Raises:
        ValueError: If ``nside`` is not a power of 2, or a point is zero or not finite.

    Example:
        >>> healpix_pixel(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), 1)
        tensor([0, 4])

    Source: Gorski et al. (2005), https://doi.org/10.1086/427976; Calabretta and Roukema (2007).
    """
    check_nside(nside)
    check_shape("points", points, "M", 3)
    check_finite("points", points)
    points = points.double()
    length = points.norm(dim=1)
    if bool((length == 0).any()):
        raise ValueError(f"points must not be zero, but row {int((length == 0).nonzero()[0])} is")
    z = points[:, 2] / length
    t = torch.atan2(points[:, 1], points[:, 0]) * 2 / math.pi
    t = torch.where(t < 0, t + 4, t)
    face, u, v = _cap(z, t, points[:, :2].norm(dim=1) / length)
    belt = z.abs() < 2 / 3
    face, u, v = (torch.where(belt, b, c) for b, c in zip(_belt(z, t), (face, u, v), strict=True))
    x, y = ((side * nside).floor().long().clamp(0, nside - 1) for side in (u, v))
    return healpix_nested(nside, face, x, y)


def _belt(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Face and place in it, 0 to 1, between the caps."""
    height = 3 / 4 * z
    u, v = height + t + 0.5, height - t + 0.5  # across the diagonals; faces have integer corners in these
    a, b = u.floor(), v.floor()
    a = a - torch.where(a + b > 1, 1.0, 0.0) + torch.where(a + b < -1, 1.0, 0.0)  # rounding at a face's corner
    row = 1 - (a + b).long()  # 0: north, 1: equator, 2: south
    place = ((a - b) / 2).floor().long() % 4
    return 4 * row + place, u - a, v - b


def _cap(z: Tensor, t: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Face and place in it, 0 to 1, around the poles."""
    place = t.floor().clamp(0, 3)
    sigma = (3 / (1 + z.abs())).sqrt() * sin  # sqrt(3 (1 - |z|)), no digits lost near the pole
    east, west = (t - place) * sigma, (1 - (t - place)) * sigma
    north = z > 0
    face = place.long() + torch.where(north, 0, 8)
    return face, torch.where(north, 1 - west, east), torch.where(north, 1 - east, west)


def _cross(nside: int, face: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Face, x and y where the continued grid of a face leads; face -1 where it leads nowhere."""
    side = _side(nside, x, y)
    row, place = face // 4, face % 4
    beyond = torch.tensor([[-1 if b is None else b[0] for b in r] for r in _BEYOND], device=x.device)[row, side]
    east = torch.tensor([[0 if b is None else b[1] for b in r] for r in _BEYOND], device=x.device)[row, side]
    turn = torch.tensor(_TURNS, device=x.device)[row, side]
    x, y, last = x % nside, y % nside, nside - 1
    for quarter in (1, 2, 3):
        more = turn >= quarter
        x, y = torch.where(more, y, x), torch.where(more, last - x, y)
    return torch.where(beyond < 0, -1, 4 * beyond + (place + east) % 4), x, y


def _window(nside: int, pixel: Tensor | None, dx: Tensor, dy: Tensor, hops: int) -> Tensor:
    """Pixels at the steps (dx, dy) from each pixel, ``[M, T]``."""
    face, x, y = healpix_faces(nside, pixel)
    if hops > nside or 8 * len(x) < 12 * nside**2:  # few pixels: no table of all of them
        return healpix_beyond(nside, face[:, None], x[:, None] + dx, y[:, None] + dy)
    halo, side = healpix_halo(nside, hops).to(x.device), nside + 2 * hops
    middle = (face * side + y + hops) * side + x + hops
    return halo.flatten()[middle[:, None] + dy * side + dx]


def _turn(nside: int, face: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Quarter turns from the face's own axes to those of the face at (x, y)."""
    return torch.tensor(_TURNS, device=x.device)[face // 4, _side(nside, x, y)]


def _side(nside: int, x: Tensor, y: Tensor) -> Tensor:
    sx, sy = (torch.div(c, nside, rounding_mode="floor").clamp(-1, 1) + 1 for c in (x, y))
    return 3 * sy + sx


def _pixels(nside: int, pixel: Tensor | None) -> Tensor:
    check_nside(nside)
    if pixel is None:
        return torch.arange(12 * nside**2, device="cpu")
    if pixel.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"pixel must hold integers (torch.long), got {pixel.dtype}")
    if pixel.numel() and not (int(pixel.min()) >= 0 and int(pixel.max()) < 12 * nside**2):
        raise ValueError(
            f"pixel must lie in 0..{12 * nside**2 - 1} for nside={nside}, got {int(pixel.min())}..{int(pixel.max())}"
        )
    return pixel.long()


def _spread_bits(number: Tensor, nside: int) -> Tensor:
    """Bits of a number below ``nside`` moved to the places 0, 2, 4, ...: the inverse of ``_even_bits``."""
    out = torch.zeros_like(number)
    for bit in range(nside.bit_length() - 1):
        out |= ((number >> bit) & 1) << (2 * bit)
    return out


def _inverse(order: Tensor) -> Tensor:
    out = torch.empty_like(order)
    out[order] = torch.arange(len(order), device=order.device)
    return out

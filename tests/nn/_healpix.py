"""What the tests on HEALPix share: the layer written out, and the symmetries of the grid."""

import math

import torch
from torch import Tensor

from geomeq.nn._ordered_plan import tap_steps
from geomeq.spheres import healpix, healpix_faces, healpix_nested, healpix_pixel
from geomeq.spheres.healpix_tables import healpix_around, healpix_beyond


def written_out(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    nside: int,
    missing: str = "zero",
    dilation: int = 1,
    stride: int = 1,
) -> Tensor:
    """The formula, pixel by pixel and tap by tap: ``x [N, C]``, ``weight [T, C, O]``."""
    hops = (round(len(weight) ** 0.5) - 1) // 2
    dx, dy = (torch.tensor(c) * dilation for c in zip(*tap_steps(hops), strict=True))
    rows = []
    for pixel in range(0, len(x), stride):
        face, u, v = healpix_faces(nside, torch.tensor(pixel))
        at = face.expand(len(weight)), u + dx, v + dy
        total, found = x.new_zeros(weight.size(2)), 0
        for source, one, other, matrix in zip(
            healpix_beyond(nside, *at), *healpix_around(nside, *at), weight, strict=True
        ):
            if source >= 0:
                total, found = total + x[source] @ matrix, found + 1
            elif missing == "average":
                total = total + (x[one] + x[other]) / 2 @ matrix
        rows.append(total * (len(weight) / found if missing == "renormalise" else 1))
    out = torch.stack(rows)
    return out if bias is None else out + bias


def quarter_turn(nside: int) -> Tensor:
    """Where every pixel goes when the sphere turns by 90 degrees eastward: ``pos[new] = R pos``."""
    face, x, y = healpix_faces(nside)
    return healpix_nested(nside, face // 4 * 4 + (face + 1) % 4, x, y)


def moved_to(nside: int, matrix: Tensor) -> Tensor:
    """Where every pixel goes under an orthogonal matrix that maps the grid to itself."""
    pos = healpix(nside).pos @ matrix.T
    pixel = healpix_pixel(pos, nside)
    assert float((healpix(nside).pos[pixel] - pos).abs().max()) < 1e-9
    return pixel


def about_z(angle: float) -> Tensor:
    """Turns about the polar axis."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)


def moved(x: Tensor, to: Tensor) -> Tensor:
    """The signal ``[..., N, C]`` carried along: ``out[to] = x``."""
    out = torch.empty_like(x)
    out[..., to, :] = x
    return out

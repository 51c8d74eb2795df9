"""HEALPix: equal areas on rings of latitude."""

import math

import torch
from torch import Tensor

from .sampling import Rings, Sampling, check_count

_RING_OF_FACE = (2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4)  # southern corner, in units of nside rings
_LONGITUDE_OF_FACE = (1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7)  # centre, in units of 45 degrees


def healpix(nside: int) -> Sampling:
    r"""The ``12 nside^2`` pixel centres of HEALPix, nested order.

    Each of the 12 faces holds ``nside^2`` consecutive nodes, ordered along a Z curve: node ``n`` at ``nside`` has the
    four children ``4 n``, ..., ``4 n + 3`` at ``2 nside``. All areas are equal; polynomials are integrated
    approximately.

    Args:
        nside: Pixels along the side of a face, a power of 2.

    Raises:
        ValueError: If ``nside`` is not a power of 2.

    Example:
        >>> healpix(8)
        Sampling('healpix', num_nodes=768)

    Source: Gorski et al. (2005), https://doi.org/10.1086/427976
    """
    check_count("nside", nside, 1)
    if nside & (nside - 1):
        raise ValueError(
            f"nested HEALPix needs a power of 2 as nside, got {nside}; the next ones are "
            f"{1 << nside.bit_length() - 1} and {1 << nside.bit_length()}"
        )
    pixel = torch.arange(12 * nside**2)
    face, within = pixel // nside**2, pixel % nside**2
    x, y = _even_bits(within, nside), _even_bits(within >> 1, nside)  # towards north-east and north-west
    ring = torch.tensor(_RING_OF_FACE)[face] * nside - x - y - 1  # 1 to 4 nside - 1, from the north
    quarter = torch.minimum(ring, 4 * nside - ring).clamp(max=nside).double()  # of the pixels of a ring
    phi = math.pi / 4 * (torch.tensor(_LONGITUDE_OF_FACE)[face] + (x - y) / quarter)
    cap = quarter**2 / (3 * nside**2)  # 1 - |z| in the polar caps
    polar = quarter < nside
    z = torch.where(
        polar, torch.where(ring < 2 * nside, 1 - cap, cap - 1), (2 * nside - ring).double() * 2 / (3 * nside)
    )
    sin = torch.where(polar, cap * (2 - cap), 1 - z.square()).sqrt()  # no digits lost near the poles
    pos = torch.stack([sin * phi.cos(), sin * phi.sin(), z], dim=-1)
    area = torch.full((len(pixel),), 4 * math.pi / len(pixel), dtype=torch.float64)
    return Sampling("healpix", pos, area, None, _rings(ring, phi, pos))


def _even_bits(number: Tensor, nside: int) -> Tensor:
    """Bits 0, 2, 4, ... of a number below ``nside^2``, moved together."""
    out = torch.zeros_like(number)
    for bit in range(nside.bit_length() - 1):
        out |= ((number >> (2 * bit)) & 1) << bit
    return out


def _rings(ring: Tensor, phi: Tensor, pos: Tensor) -> Rings:
    phi = phi % (2 * math.pi)
    node = phi.argsort(stable=True)
    node = node[ring[node].argsort(stable=True)]
    count = torch.bincount(ring)[1:]
    first = node[count.cumsum(0) - count]
    colatitude = torch.atan2(pos[first, :2].norm(dim=1), pos[first, 2])
    return Rings(colatitude, count, phi[first], node)

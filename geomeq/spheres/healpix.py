"""HEALPix: equal areas on rings of latitude."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.polynomial.legendre import legvander
from torch import Tensor

from .sampling import Rings, Sampling, check_count

_RING_OF_FACE = (2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4)  # southern corner, in units of nside rings
_LONGITUDE_OF_FACE = (1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7)  # centre, in units of 45 degrees


def healpix(nside: int, weights: Literal["equal", "ring"] = "equal") -> Sampling:
    r"""The ``12 nside^2`` pixel centres of HEALPix, nested order.

    Each of the 12 faces holds ``nside^2`` consecutive nodes, ordered along a Z curve: node ``n`` at ``nside`` has the
    four children ``4 n``, ..., ``4 n + 3`` at ``2 nside``. All pixels have equal areas, but as quadrature weights these
    integrate polynomials only to some digits (an error of 3e-3 at degree 4 for ``nside=16``).

    Args:
        nside: Pixels along the side of a face, a power of 2.
        weights: ``"equal"``: the area of a pixel. ``"ring"``: one weight per ring, at most a fifth from that (a
            quarter for ``nside=1``), such that polynomials in z are integrated exactly to degree ``3 nside``; so are
            others unless their order is a multiple of 4. Errors of smooth kernels become about ten times smaller.

    Raises:
        ValueError: If ``nside`` is not a power of 2, or there are no such weights.

    Example:
        >>> healpix(8)
        Sampling('healpix', num_nodes=768)

    Source: Gorski et al. (2005), https://doi.org/10.1086/427976
    """
    check_nside(nside)
    if weights not in ("equal", "ring"):
        raise ValueError(f"weights must be 'equal' or 'ring', got {weights!r}")
    with torch.device("cpu"):  # whatever the default is
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
        rings = _rings(ring, phi, pos)
        area = torch.full((len(pixel),), 4 * math.pi / len(pixel), dtype=torch.float64)
        if weights == "ring":
            area[rings.node] *= _ring_weights(rings, 3 * nside).repeat_interleave(rings.count)
        return Sampling("healpix", pos, area, None, rings)


def check_nside(nside: int) -> None:
    """Raises unless ``nside`` is a power of 2."""
    check_count("nside", nside, 1)
    if nside & (nside - 1):
        below = 1 << nside.bit_length() - 1
        raise ValueError(
            f"nested HEALPix needs a power of 2 as nside, got {nside}; the next ones are {below} and {2 * below}"
        )


def _even_bits(number: Tensor, nside: int) -> Tensor:
    """Bits 0, 2, 4, ... of a number below ``nside^2``, moved together."""
    out = torch.zeros_like(number)
    for bit in range(nside.bit_length() - 1):
        out |= ((number >> (2 * bit)) & 1) << bit
    return out


def _ring_weights(rings: Rings, degree: int) -> Tensor:
    """Factors of the pixel areas on each ring, nearest to 1 among those exact for Legendre polynomials."""
    count = rings.count.double().numpy()
    even = legvander(np.cos(rings.colatitude.numpy()), degree)[:, ::2].T  # odd ones vanish by symmetry
    wanted = -(even * count).sum(axis=1)
    wanted[0] = 0.0
    change = np.linalg.lstsq(even * np.sqrt(count), wanted, rcond=1e-12)[0]
    return torch.from_numpy(1 + change / np.sqrt(count))


def _rings(ring: Tensor, phi: Tensor, pos: Tensor) -> Rings:
    phi = phi % (2 * math.pi)
    node = phi.argsort(stable=True)
    node = node[ring[node].argsort(stable=True)]
    count = torch.bincount(ring)[1:]
    first = node[count.cumsum(0) - count]
    colatitude = torch.atan2(pos[first, :2].norm(dim=1), pos[first, 2])
    return Rings(colatitude, count, phi[first], node)

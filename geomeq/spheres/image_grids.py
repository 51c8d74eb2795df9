"""The pixels of spherical images as samplings."""

import math

import torch
from torch import Tensor

from .cubed import FACES, _solid_angle
from .sampling import Rings, Sampling, check_count


def equirectangular(height: int, width: int | None = None, lon_start: float = -math.pi) -> Sampling:
    r"""The pixels of an equirectangular image, with their exact solid angles.

    Node ``row * width + column`` is the centre of a pixel: colatitude :math:`(i + \tfrac12) \pi / H`, longitude
    :math:`\lambda_0 + (j + \tfrac12) 2 \pi / W`, rows from north to south, columns eastward. With the default
    :math:`\lambda_0 = -\pi` the middle of the image is longitude 0, the direction of x.

    Args:
        height: Rows.
        width: Columns; default ``2 height``.
        lon_start: Longitude of the left edge of the image, radians.

    Raises:
        ValueError: If a number is too small, or ``lon_start`` is not finite.

    Example:
        >>> equirectangular(8)
        Sampling('equirectangular', num_nodes=128)
    """
    check_count("height", height, 1)
    width = 2 * height if width is None else width
    check_count("width", width, 1)
    if not math.isfinite(lon_start):
        raise ValueError(f"lon_start is a longitude in radians, got {lon_start}")
    with torch.device("cpu"):  # whatever the default is
        theta = math.pi / height * (torch.arange(height, dtype=torch.float64) + 0.5)
        step = 2 * math.pi / width
        phi = lon_start + step * (torch.arange(width, dtype=torch.float64) + 0.5)
        sin = theta.sin()[:, None]
        pos = torch.stack([sin * phi.cos(), sin * phi.sin(), theta.cos()[:, None].expand(height, width)], dim=-1)
        band = (
            2 * theta.sin() * math.sin(math.pi / (2 * height))
        )  # cosine at the upper minus at the lower edge of a row
        area = (band * (4 * math.pi / band.sum() / width)).repeat_interleave(width)
        start = torch.full((height,), float(phi[0]), dtype=torch.float64)
        rings = Rings(theta, torch.full((height,), width), start, torch.arange(height * width))
        return Sampling("equirectangular", pos.flatten(0, 1), area, None, rings)


def cubemap(size: int) -> Sampling:
    """The pixels of a cube map, equal squares on six planes, with their exact solid angles.

    Node ``(face * size + row) * size + column``. Faces 0 to 3 look towards longitudes 0, 90, 180 and 270 degrees (x, y,
    -x, -y), rows from north to south, columns eastward. Face 4 looks north: its last row lies beside the first row of
    face 0; face 5 looks south: its first row lies beside the last row of face 0; the columns of both run east as those
    of face 0. (:func:`cubed` has the same faces, with lines at equal angles.)

    Args:
        size: Pixels along the side of a face.

    Raises:
        ValueError: If ``size`` is no positive integer.

    Example:
        >>> cubemap(16)
        Sampling('cubemap', num_nodes=1536)
    """
    check_count("size", size, 1)
    with torch.device("cpu"):  # whatever the default is
        edge = 2 * torch.arange(size + 1, dtype=torch.float64) / size - 1
        corner = _solid_angle(edge[:, None], edge[None])
        area = corner[1:, 1:] - corner[1:, :-1] - corner[:-1, 1:] + corner[:-1, :-1]
        return Sampling("cubemap", _cube_directions(size), area.flatten().repeat(6))


def _cube_directions(size: int) -> Tensor:
    """Unit vectors to the pixels, ``[6 size^2, 3]``."""
    with torch.device("cpu"):  # whatever the default is
        middle = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
        down, right = torch.meshgrid(middle, middle, indexing="ij")
        local = torch.stack([torch.ones_like(down), right, down], dim=-1).flatten(0, 1)
        local = local / local.norm(dim=1, keepdim=True)
        return torch.einsum("pa,fad->fpd", local, FACES).flatten(0, 1)

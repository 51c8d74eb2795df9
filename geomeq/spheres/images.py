"""Spherical images and signals on samplings: equirectangular panoramas and cube maps."""

import math

from torch import Tensor

from .._checks import check_shape
from .image_grids import cubemap, equirectangular
from .resampling import Method, Missing, Resampler, kept
from .sampling import Sampling, check_count


def from_equirectangular(
    image: Tensor,
    s: Sampling,
    method: Method = "linear",
    lon_start: float = -math.pi,
    missing: Missing = "propagate",
) -> Tensor:
    r"""A panorama as a signal on a sampling.

    The value of pixel (i, j) belongs to its centre, colatitude :math:`(i + \tfrac12) \pi / H` and longitude
    :math:`\lambda_0 + (j + \tfrac12) 2 \pi / W`: rows from north to south, columns eastward, as on a map. (A panorama
    seen from inside shows the sky with east on the left: it is a map of directions after ``image.flip(-1)``. Codecs and
    scores do not care.)

    Args:
        image: ``[C, H, 2 H]`` or ``[B, C, H, 2 H]``, floating point; NaN where a pixel is missing.
        s: Where the signal is wanted.
        method: ``"linear"``, ``"nearest"``, or ``"conservative"`` to average over the cells of a coarser sampling.
        lon_start: Longitude of the left edge of the image, radians; by default longitude 0 is in the middle.
        missing: As for :meth:`Resampler.__call__`.

    Returns:
        ``[N, C]`` or ``[B, N, C]``.

    Raises:
        TypeError: If the image is not floating point.
        ValueError: If the image is not twice as wide as high.

    Example:
        >>> import torch
        >>> from geomeq import spheres
        >>> from_equirectangular(torch.rand(3, 64, 128), spheres.healpix(16)).shape
        torch.Size([3072, 3])
    """
    height, width = _check_panorama(image)
    parts = ("equirectangular", height, float(lon_start), s, method)
    resampler = kept(parts, lambda: Resampler(equirectangular(height, width, lon_start), s, method))
    return resampler(_to_nodes(image, 2), missing)


def to_equirectangular(
    x: Tensor,
    s: Sampling,
    height: int,
    width: int | None = None,
    method: Method = "linear",
    lon_start: float = -math.pi,
    missing: Missing = "propagate",
) -> Tensor:
    """A signal as a panorama; the inverse of :func:`from_equirectangular` up to interpolation.

    Args:
        x: ``[N, C]`` or ``[B, N, C]``, floating point.
        s: Where it is.
        height: Rows of the image.
        width: Columns; must be ``2 height`` if given.
        method: As for :class:`Resampler`.
        lon_start: Longitude of the left edge of the image, radians.
        missing: As for :meth:`Resampler.__call__`.

    Returns:
        ``[C, H, W]`` or ``[B, C, H, W]``; NaN outside a partial sky.

    Raises:
        TypeError: If ``x`` is not floating point.
        ValueError: If a shape is wrong.
    """
    check_count("height", height, 1)
    width = 2 * height if width is None else width
    if width != 2 * height:
        raise ValueError(_aspect(height, width))
    _check_signal(x, s)
    parts = (s, "equirectangular", height, float(lon_start), method)
    y = kept(parts, lambda: Resampler(s, equirectangular(height, width, lon_start), method))(x, missing)
    return _to_pixels(y, height, width)


def from_cubemap(faces: Tensor, s: Sampling, method: Method = "linear", missing: Missing = "propagate") -> Tensor:
    """A cube map as a signal on a sampling; order and orientation of the faces as in :func:`cubemap`.

    Args:
        faces: ``[6, C, S, S]`` or ``[B, 6, C, S, S]``, floating point.
        s: Where the signal is wanted.
        method: As for :class:`Resampler`.
        missing: As for :meth:`Resampler.__call__`.

    Returns:
        ``[N, C]`` or ``[B, N, C]``.

    Raises:
        TypeError: If the faces are not floating point.
        ValueError: If there are not six square faces.
    """
    if faces.dim() not in (4, 5) or faces.size(-4) != 6 or faces.size(-1) != faces.size(-2):
        raise ValueError(f"faces must have shape [6, C, S, S] or [B, 6, C, S, S], got {list(faces.shape)}")
    size = faces.size(-1)
    resampler = kept(("cubemap", size, s, method), lambda: Resampler(cubemap(size), s, method))
    nodes = faces.movedim(-3, -1).flatten(-4, -2)  # [..., 6 S S, C]
    return resampler(nodes, missing)


def to_cubemap(x: Tensor, s: Sampling, size: int, method: Method = "linear", missing: Missing = "propagate") -> Tensor:
    """A signal as a cube map; the inverse of :func:`from_cubemap` up to interpolation.

    Args:
        x: ``[N, C]`` or ``[B, N, C]``, floating point.
        s: Where it is.
        size: Pixels along the side of a face.
        method: As for :class:`Resampler`.
        missing: As for :meth:`Resampler.__call__`.

    Returns:
        ``[6, C, S, S]`` or ``[B, 6, C, S, S]``.

    Raises:
        TypeError: If ``x`` is not floating point.
        ValueError: If a shape is wrong.
    """
    check_count("size", size, 1)
    _check_signal(x, s)
    y = kept((s, "cubemap", size, method), lambda: Resampler(s, cubemap(size), method))(x, missing)
    return y.unflatten(-2, (6, size, size)).movedim(-1, -3)


def _check_panorama(image: Tensor) -> tuple[int, int]:
    if not isinstance(image, Tensor) or not image.is_floating_point():
        raise TypeError(
            f"image must be a floating-point tensor, got {getattr(image, 'dtype', type(image).__name__)}; "
            "bytes become numbers from 0 to 1 by image.float() / 255"
        )
    if image.dim() not in (3, 4):
        raise ValueError(f"image must have shape [C, H, W] or [B, C, H, W], got {list(image.shape)}")
    height, width = image.shape[-2:]
    if width != 2 * height:
        raise ValueError(_aspect(height, width))
    return height, width


def _aspect(height: int, width: int) -> str:
    return (
        f"an equirectangular image is twice as wide as high, got {height} x {width} (H x W); crop or transpose it, "
        "or take Resampler with a sampling of your own, such as equirectangular(height, width)"
    )


def _check_signal(x: Tensor, s: Sampling) -> None:
    check_shape("x", x, *(("N", "C") if x.dim() < 3 else ("B", "N", "C")))
    if x.size(-2) != s.num_nodes:
        raise ValueError(f"x must have {s.num_nodes} rows, one for each node of {s}, got {list(x.shape)}")


def _to_nodes(image: Tensor, spatial: int) -> Tensor:
    """``[..., C, H, W]`` as ``[..., H W, C]``."""
    return image.flatten(-spatial).transpose(-1, -2)


def _to_pixels(x: Tensor, height: int, width: int) -> Tensor:
    """``[..., H W, C]`` as ``[..., C, H, W]``."""
    return x.transpose(-1, -2).unflatten(-1, (height, width)).contiguous()

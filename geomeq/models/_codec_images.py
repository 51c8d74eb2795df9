"""Kinds of images a codec takes: HEALPix or equirectangular, floats or bytes."""

import math
from typing import Any

import torch
from torch import Tensor

from geomeq import spheres
from geomeq._checks import check_finite

from ._codec_file import CodecFile


def as_signal(image: Tensor, config: Any, nside: int | None) -> tuple[Tensor, CodecFile]:
    """Values 0 to 1 on the codec's grid, ``[N, 3]``, and what a file must say of the image.

    Raises:
        ValueError: If the image has another shape or values outside 0 to 1.
    """
    values, dtype = _values(image)
    plane = config.conv == "plane"
    if image.dim() == 2 and image.size(1) == 3 and not plane:
        resolution = _nside_of(image.size(0), config)
        if nside not in (None, resolution):
            raise ValueError(f"nside is that of the image, {resolution}, got {nside}; resample the image first")
        return values, _file("healpix", dtype, "healpix", resolution, (0, 0))
    if image.dim() == 3 and image.size(0) == 3 and image.size(2) == 2 * image.size(1):
        height, width = image.shape[1:]
        if plane:
            config.check_resolution(height)
            signal, resolution = values.flatten(1).T, height
        else:
            resolution = _nside_for(height, config) if nside is None else nside
            config.check_resolution(resolution)
            signal = spheres.from_equirectangular(values, spheres.healpix(resolution)).clamp(0, 1)
        grid = "equirectangular" if plane else "healpix"
        return signal, _file("equirectangular", dtype, grid, resolution, (height, width))
    wanted = "[3, H, 2 H]" if plane else "[12 nside^2, 3] (HEALPix, nested) or [3, H, 2 H] (equirectangular)"
    raise ValueError(f"image must have shape {wanted}, got {list(image.shape)}")


def from_signal(signal: Tensor, file: CodecFile) -> Tensor:
    """The image a file stands for.

    Args:
        signal: Decoded values 0 to 1, ``[N, 3]``.
        file: What it says of the image.
    """
    image = signal
    if file.kind == "equirectangular":
        height, width = file.size
        if file.grid == "equirectangular":
            image = signal.T.unflatten(1, (height, width))
        else:
            image = spheres.to_equirectangular(signal, spheres.healpix(file.resolution), height, width).clamp(0, 1)
    return (image * 255).round().to(torch.uint8) if file.dtype == "uint8" else image


def _values(image: Tensor) -> tuple[Tensor, str]:
    if not isinstance(image, Tensor):
        raise TypeError(f"image must be a torch.Tensor, got {type(image).__name__}")
    if image.dtype == torch.uint8:
        return image.float() / 255, "uint8"
    if not image.is_floating_point():
        raise TypeError(f"image must be floating point (0 to 1) or uint8, got {image.dtype}")
    check_finite("image", image)
    low, high = (float(v) for v in image.aminmax()) if image.numel() else (0.0, 0.0)
    if low < 0 or high > 1:
        raise ValueError(f"image must have values 0 to 1, got {low:g} to {high:g}; scale, clip or tone-map it")
    return image, "float"


def _nside_of(pixels: int, config: Any) -> int:
    nside = math.isqrt(pixels // 12)
    if 12 * nside**2 != pixels or nside & (nside - 1) or not nside:
        raise ValueError(f"a HEALPix image has 12 nside^2 pixels with nside a power of 2, got {pixels}")
    config.check_resolution(nside)
    return nside


def _nside_for(height: int, config: Any) -> int:
    """The least with pixels no larger than those on the equator, of angle ``pi / height``."""
    nside = 1 << config.steps
    while 12 * nside**2 < 4 / math.pi * height**2:
        nside *= 2
    return nside


def _file(kind: str, dtype: str, grid: str, resolution: int, size: tuple[int, int]) -> CodecFile:
    return CodecFile(kind, dtype, grid, resolution, size, (0, 0), bytes(8), b"")

"""Resizing, padding and rotating square images ``[S, C, H, W]``."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 2_000  # images turned at once: keeps the sampling grid of a large set out of memory


def resize_images(images: Tensor, size: int) -> Tensor:
    """Bilinear interpolation to ``[S, C, size, size]``; commutes with quarter turns."""
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


def pad_images(images: Tensor, pad: int) -> Tensor:
    """``pad`` pixels of zeros on each side."""
    return F.pad(images, (pad, pad, pad, pad)) if pad else images


def rotate_images(images: Tensor, degrees: Tensor) -> Tensor:
    r"""Turns square images counter-clockwise about their centre.

    The value at a pixel :math:`p` is that of the image at :math:`R^{-1} p`, interpolated bilinearly, and zero outside.
    Multiples of 90 degrees are moves of pixels, exact to the last bit.

    Args:
        images: ``[S, C, H, H]``.
        degrees: The angle of each image, ``[S]``, float64.

    Raises:
        ValueError: If the images are not square.
    """
    if images.size(-1) != images.size(-2):
        raise ValueError(
            f"images must be square to be rotated, got {images.size(-1)} x {images.size(-2)} pixels; pad them first"
        )
    out = torch.empty_like(images)
    quarter = torch.remainder(degrees, 90.0) == 0
    turns = torch.remainder(torch.round(degrees / 90.0), 4).long()
    for k in range(4):
        chosen = quarter & (turns == k)
        if bool(chosen.any()):
            out[chosen] = torch.rot90(images[chosen], k, (-2, -1))
    others = (~quarter).nonzero().flatten()
    for part in others.split(_CHUNK) if len(others) else ():
        out[part] = _bilinear(images[part], degrees[part])
    return out


def _bilinear(images: Tensor, degrees: Tensor) -> Tensor:
    """Samples each image at the places that its rotation brings to the pixels."""
    size = images.size(-1)
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    zero = torch.zeros_like(angle)
    # Rows count downwards, so the inverse of a counter-clockwise turn is [[cos, -sin], [sin, cos]] on (right, down).
    inverse = torch.stack([cos, -sin, zero, sin, cos, zero], dim=-1).view(-1, 2, 3)
    grid = F.affine_grid(inverse, [len(images), 1, size, size], align_corners=False).to(images)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

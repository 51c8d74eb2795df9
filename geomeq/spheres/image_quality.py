"""How much of a spherical image a codec lost: peak signal-to-noise ratios that do not count the poles many times."""

import math

import torch
from torch import Tensor

from .._checks import check_shape
from .images import _check_panorama, from_equirectangular
from .resampling import Method
from .sampling import Sampling
from .spread import fibonacci

POINTS = 655_362  # of the scores as published: an icosahedron subdivided eight times


def s_psnr(
    image: Tensor,
    reference: Tensor,
    peak: float | None = None,
    points: int | Sampling = POINTS,
    method: Method = "nearest",
    lon_start: float = -math.pi,
) -> Tensor:
    r"""Peak signal-to-noise ratio at points that are uniform on the sphere, dB.

    .. math:: 10 \log_{10} \frac{\text{peak}^2}{\sum_i A_i \, |I(x_i) - R(x_i)|^2 / (4 \pi)}

    The points are those of :func:`fibonacci`, each of the same area. (The vertices of an icosahedron subdivided eight
    times, ``points=icosphere(8)``, are weighted by their areas here, which differ by a third.)

    Args:
        image: Equirectangular, ``[C, H, 2 H]`` or ``[B, C, H, 2 H]``: numbers, or bytes (uint8).
        reference: Likewise, of any height.
        peak: Largest value of a pixel; default 255 for bytes, else 1.
        points: How many, or a sampling.
        method: How an image is read between its pixels: ``"nearest"`` (known as S-PSNR-NN) or ``"linear"``, which
            averages noise of single pixels away and so gives higher numbers. Say which you report.
        lon_start: Longitude of the left edge of both images, radians.

    Returns:
        One number, or one for each image of the batch, ``[B]``, float64; infinite if nothing was lost.

    Raises:
        TypeError: If one image holds bytes and the other does not.
        ValueError: If an image has the wrong shape, or a NaN, or there is no such method.

    Under ``torch.compile`` it breaks the graph, as :func:`resample` does; with ``fullgraph=True`` take :func:`ws_psnr`,
    or make a ``Resampler(equirectangular(H), fibonacci(points), "nearest")`` and give both results to it with ``area``.

    Source: Yu, Lakshman and Girod (2015), https://doi.org/10.1109/ISMAR.2015.12
    """
    if method not in ("nearest", "linear"):
        raise ValueError(f"method must be 'nearest' or 'linear', got {method!r}")
    peak = _peak(image, reference, peak)
    s = points if isinstance(points, Sampling) else torch.compiler.disable(fibonacci)(points)
    first, second = (_numbers(v) for v in (image, reference))
    if first.shape[:-2] != second.shape[:-2]:
        raise ValueError(
            f"both images must have the same channels and batch, got {list(image.shape)} and {list(reference.shape)}"
        )
    for v in (first, second):
        _check_panorama(v)
    if first.shape == second.shape:  # resampling is linear: once instead of twice
        error = from_equirectangular(first - second, s, method, lon_start)
    else:
        error = from_equirectangular(first, s, method, lon_start) - from_equirectangular(second, s, method, lon_start)
    return _decibel(error, s.area, peak)


def ws_psnr(
    image: Tensor, reference: Tensor, peak: float | None = None, area: Tensor | Sampling | None = None
) -> Tensor:
    r"""Peak signal-to-noise ratio with every pixel counted by its area on the sphere, dB.

    .. math:: 10 \log_{10} \frac{\text{peak}^2}{\sum_i w_i \, |I_i - R_i|^2 / \sum_i w_i}

    Args:
        image: Equirectangular, ``[C, H, 2 H]`` or ``[B, C, H, 2 H]``, weights the cosine of the latitude of a row; or,
            with ``area``, a signal on any sampling, ``[N, C]`` or ``[B, N, C]``. Numbers, or bytes (uint8).
        reference: Likewise, of the same shape.
        peak: Largest value of a pixel; default 255 for bytes, else 1.
        area: The sampling, or weights of its nodes ``[N]``.

    Returns:
        One number, or one for each image of the batch, ``[B]``, float64; infinite if nothing was lost.

    Raises:
        TypeError: If one image holds bytes and the other does not.
        ValueError: If shapes do not fit, or there is a NaN.

    Under ``torch.compile`` values are not looked at: weights that make no sense, and NaN, give NaN and no error.

    Example:
        >>> image = torch.zeros(3, 8, 16)
        >>> print(f"{float(ws_psnr(image, image + 0.1)):.2f} dB")
        20.00 dB

    Source: Sun, Lu and Yu (2017), https://doi.org/10.1109/LSP.2017.2720693
    """
    check_shape("reference", reference, *image.shape)
    peak = _peak(image, reference, peak)
    error = _numbers(image) - _numbers(reference)
    if area is None:
        height, width = _check_panorama(error)
        error = error.flatten(-2).transpose(-1, -2)
        row = torch.arange(height, dtype=torch.float64, device=error.device) + 0.5
        weight = (row * math.pi / height).sin().repeat_interleave(width)
    else:
        weight = area.area if isinstance(area, Sampling) else area
        check_shape("image", image, *(("N", "C") if image.dim() < 3 else ("B", "N", "C")))
        check_shape("area", weight, image.size(-2))
    return _decibel(error, weight, peak)


def _peak(image: Tensor, reference: Tensor, peak: float | None) -> float:
    if (image.dtype == torch.uint8) != (reference.dtype == torch.uint8):
        raise TypeError(
            f"image and reference must both hold bytes or both numbers, got {image.dtype} and {reference.dtype}"
        )
    if peak is None:
        return 255.0 if image.dtype == torch.uint8 else 1.0
    if not (peak > 0 and math.isfinite(peak)):
        raise ValueError(f"peak is the largest value of a pixel and must be positive, got {peak}")
    return float(peak)


def _numbers(image: Tensor) -> Tensor:
    """Bytes as float32, which holds their differences exactly."""
    return image.float() if image.dtype == torch.uint8 else image


def _decibel(error: Tensor, area: Tensor, peak: float) -> Tensor:
    """Of errors ``[..., N, C]``, summed in float64."""
    weight = area.to(device=error.device, dtype=torch.float64)
    watching = not torch.compiler.is_compiling()  # a compiled graph cannot look at values
    if watching and (not bool((weight >= 0).all()) or not float(weight.sum()) > 0):
        raise ValueError("area must hold weights of at least 0, not all of them 0")
    mean = torch.einsum("...nc,n->...", error.double().square(), weight / weight.sum()) / error.size(-1)
    if watching and bool(mean.isnan().any()):
        raise ValueError("the images hold NaN, so that their difference has no size; fill or crop them first")
    return 10 * torch.log10(peak**2 / mean)

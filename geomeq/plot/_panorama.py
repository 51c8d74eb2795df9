"""An original panorama, what a codec made of it, and where they differ."""

from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import GREY, new_figure, to_array
from geomeq.plot._projection import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDEST = 1600  # pixels of a panorama that are drawn; more do not fit the page


def panorama_comparison(
    original: Any,
    decoded: Any,
    bits_per_pixel: Any = None,
    psnr: Any = None,
    *,
    peak: float = 1.0,
    detail: tuple[float, float, float] | None = None,
    error_limit: float | None = None,
    title: str = "",
) -> "Figure":
    """Draws a panorama beside decoded ones, with their bit rates, and the size of the error in every pixel.

    Args:
        original: Equirectangular, ``[3, H, W]`` or ``[1, H, W]``: numbers from 0 to ``peak``, or bytes.
        decoded: Likewise; or several by name, ``{"0.2 bit": ..., "OSLO": ...}``, one row each.
        bits_per_pixel: Of the decoded image, or of each by name.
        psnr: Quality in dB, or of each by name (:func:`geomeq.spheres.ws_psnr` says which; name it in ``title``).
        peak: Largest value of a pixel that is no byte.
        detail: Longitude, latitude and width, degrees, of a window that is drawn enlarged beside each image (the middle
            of the image is longitude 0).
        error_limit: Error at which the scale ends, in units of ``peak``; by default the 99.5th percentile of all.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If shapes differ, an image is not finite, there is none, or the window is not on the image.
    """
    if not peak > 0:
        raise ValueError(f"peak is the largest value of a pixel and must be positive, got {peak}")
    first = _image("original", original, peak)
    named = {str(k): v for k, v in decoded.items()} if isinstance(decoded, dict) else {"decoded": decoded}
    if not named:
        raise ValueError("decoded must hold at least one image, got none")
    images = {name: _image(name, entry, peak) for name, entry in named.items()}
    for name, image in images.items():
        if image.shape != first.shape:
            raise ValueError(f"{name} must be as large as the original, {list(first.shape)}, got {list(image.shape)}")
    window = None if detail is None else _window(detail, first.shape)
    errors = {name: np.abs(image - first).mean(axis=-1) for name, image in images.items()}
    limit = error_limit or max(float(np.percentile(np.concatenate(list(errors.values())), 99.5)), 1e-6)

    columns = 2 if window is None else 3
    ratios = [2.0, 2.0, 1.0][:columns]
    width = 7.4 if columns == 2 else 8.6
    height = (width - 0.4) / sum(ratios) + 0.32  # an image is twice as wide as high, with its caption
    figure = new_figure(width, height * (1 + len(images)) + (0.3 if title else 0.0))
    grid = figure.subplots(1 + len(images), columns, squeeze=False, width_ratios=ratios)
    _show(grid[0, 0], first, "original", window)
    grid[0, 1].set_axis_off()
    if window is not None:
        _show(grid[0, 2], first[window], "", None)
    for (name, image), row in zip(images.items(), grid[1:], strict=True):
        _show(row[0], image, _caption(name, _of(bits_per_pixel, name), _of(psnr, name)), window)
        picture = _show(row[1], errors[name], "absolute error", None, vmax=limit)
        if window is not None:
            _show(row[2], image[window], "", None)
    bar = figure.colorbar(picture, cax=grid[0, 1].inset_axes((0.08, 0.16, 0.84, 0.07)), orientation="horizontal")
    bar.ax.set_title("absolute error, share of the largest value", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _image(name: str, image: Any, peak: float) -> Array:
    """``[H, W, C]``, 0 to 1, clipped for showing."""
    array = to_array(name, image)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise ValueError(f"{name} must have shape [3, H, W] or [1, H, W], got {list(array.shape)}")
    kind = str(getattr(image, "dtype", ""))
    scale = 255.0 if kind.endswith("uint8") else peak
    return np.clip(np.moveaxis(array, 0, -1) / scale, 0.0, 1.0)


def _of(values: Any, name: str) -> float | None:
    value = values.get(name) if isinstance(values, dict) else values
    return None if value is None else float(value)


def _caption(name: str, bits: float | None, psnr: float | None) -> str:
    parts = [name]
    if bits is not None:
        parts.append(f"{bits:.3g} bit per pixel")
    if psnr is not None:
        parts.append(f"{psnr:.2f} dB")
    return ", ".join(parts)


def _window(detail: tuple[float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    longitude, latitude, width = detail
    rows, columns = shape[:2]
    half = width / 360 * columns / 2
    x, y = (longitude / 360 + 0.5) * columns, (0.5 - latitude / 180) * rows
    if width <= 0 or x - half < 0 or x + half > columns or y - half < 0 or y + half > rows:
        raise ValueError(f"detail must be a window on the image: (longitude, latitude, width) in degrees, got {detail}")
    return slice(int(y - half), int(np.ceil(y + half))), slice(int(x - half), int(np.ceil(x + half)))


def _show(axes: "Axes", image: Array, caption: str, window: tuple[slice, slice] | None, vmax: float = 1.0) -> Any:
    from matplotlib.patches import Rectangle

    step = -(-image.shape[1] // _WIDEST)
    small = image[: len(image) // step * step, : image.shape[1] // step * step]
    shape = (len(small) // step, step, small.shape[1] // step, step, *small.shape[2:])
    small = small.reshape(shape).mean(axis=(1, 3))
    rows, columns = image.shape[:2]
    colours: dict[str, Any] = {"cmap": "magma", "vmin": 0.0, "vmax": vmax} if image.ndim == 2 else {}
    if image.ndim == 3 and image.shape[2] == 1:
        small, colours = small[..., 0], {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
    picture = axes.imshow(small, extent=(0, columns, rows, 0), **colours)
    if window is not None:
        (top, left), size = (window[0].start, window[1].start), window[1].stop - window[1].start
        axes.add_patch(Rectangle((left, top), size, size, fill=False, ec="white", lw=1.6))
        axes.add_patch(Rectangle((left, top), size, size, fill=False, ec="black", lw=0.7))
    axes.set_title(caption, loc="left", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(GREY)
    return picture

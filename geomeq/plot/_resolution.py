"""An error that falls as the resolution grows, on logarithmic axes, with its slope."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import GREY, MARKERS, SERIES, new_figure, plain, to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def error_by_resolution(
    resolution: Any,
    errors: Any,
    *,
    xlabel: str = "resolution",
    ylabel: str = "relative equivariance error",
    slopes: bool = True,
    target: float | None = None,
    title: str = "",
) -> "Figure":
    """Draws errors against the resolution, one curve for each sampling, filter or method.

    The slope written behind a name is that of the straight line nearest to its points on these axes: -2 means that
    twice the resolution leaves a quarter of the error.

    Args:
        resolution: Band limit, rows or nodes, positive, ``[K]``; or one array for each curve, by name.
        errors: Positive, ``[K]``, or several by name. Exact zeros are left out.
        xlabel: What the resolution is.
        ylabel: What the error is.
        slopes: Whether to write the slopes.
        target: An error to reach, drawn as a dashed line.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If a curve does not fit its resolutions, or holds negative numbers, or all errors are zero.
    """
    curves = dict(errors) if isinstance(errors, Mapping) else {"": errors}
    figure = new_figure(6.2, 4.4)
    axes = figure.add_subplot()
    for k, (name, entry) in enumerate(curves.items()):
        if isinstance(resolution, Mapping) and name not in resolution:
            raise ValueError(f"resolution must name every curve, got {sorted(map(str, resolution))} without {name}")
        x = to_array("resolution", resolution[name] if isinstance(resolution, Mapping) else resolution)
        y = to_array(f"errors {name}".rstrip(), entry)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(f"errors {name} must have one number for each resolution, got {y.shape} and {x.shape}")
        if (x <= 0).any() or (y < 0).any():
            raise ValueError(f"resolutions must be positive and errors {name} not negative")
        x, y = x[y > 0], y[y > 0]
        slope = _slope(x, y) if slopes else None
        text = str(name) if slope is None else f"{name}  (slope {slope:.1f})".strip()
        axes.plot(
            x,
            y,
            color=SERIES[k % len(SERIES)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=5,
            linewidth=1.6,
            label=text,
        )
    if not any(np.size(line.get_xdata()) for line in axes.get_lines()):
        raise ValueError("there is nothing to draw: no error is above zero")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    plain(axes, xlabel, ylabel, title)
    _ticks(axes)
    if target is not None:
        axes.axhline(target, color=GREY, linewidth=1.2, linestyle=(0, (5, 3)), label=f"aim {target:.1g}")
    if any(text for text in axes.get_legend_handles_labels()[1]):
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def _slope(x: np.ndarray, y: np.ndarray) -> float | None:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(np.unique(x)) > 1 else None


def _ticks(axes: "Axes") -> None:
    """The resolutions that were measured, as plain numbers, or powers of two where they are many."""
    values = sorted({float(x) for line in axes.get_lines() for x in np.asarray(line.get_xdata(), dtype=float)})
    if 0 < len(values) <= 8:
        axes.set_xticks(values, [f"{v:,.0f}" if v >= 10 else f"{v:g}" for v in values])
    axes.minorticks_off()

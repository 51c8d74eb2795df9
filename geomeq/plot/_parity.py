"""Predicted against true values."""

from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import BLACK, BLUE, GREY, VERMILION, new_figure, plain, to_array, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DENSE = 4000  # more points than this would hide each other


def parity(y_true: Any, y_pred: Any, unit: str = "", *, quantity: str = "value", title: str = "") -> "Figure":
    """Draws predictions against true values, and the distribution of the errors beside it.

    Args:
        y_true: True values, any shape (forces ``[N, 3]`` are drawn by component).
        y_pred: Predictions, same shape.
        unit: Unit of both.
        quantity: What they are, for the axes.
        title: Title.

    Returns:
        The figure. Mean absolute error, root mean square error and R^2 are written into it.

    Raises:
        ValueError: If the shapes differ, or there is nothing to draw.
    """
    true, pred = to_array("y_true", y_true), to_array("y_pred", y_pred)
    if true.shape != pred.shape:
        raise ValueError(f"y_true and y_pred must have the same shape, got {list(true.shape)} and {list(pred.shape)}")
    true, pred = true.ravel(), pred.ravel()
    figure = new_figure(7.6, 4.1 if true.size <= _DENSE else 4.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    scatter_parity(left, true, pred)
    plain(left, with_unit(f"true {quantity}", unit), with_unit(f"predicted {quantity}", unit), title)
    left.text(
        0.04, 0.96, statistics_text(true, pred, unit), transform=left.transAxes, va="top", fontsize=9, color=BLACK
    )
    _histogram(right, pred - true)
    plain(right, with_unit("predicted - true", unit), "number of predictions")
    return figure


def scatter_parity(axes: "Axes", true: np.ndarray, pred: np.ndarray) -> None:
    """Draws points about the diagonal, or cells shaded by their number where points would hide each other."""
    low, high = float(min(true.min(), pred.min())), float(max(true.max(), pred.max()))
    pad = 0.04 * (high - low or 1.0)
    limits = (low - pad, high + pad)
    axes.plot(limits, limits, color=GREY, linewidth=1, zorder=1)
    if true.size > _DENSE:
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("blues", ["#c3dcec", BLUE, "#002036"])  # lightness carries it
        cells = axes.hexbin(
            true, pred, gridsize=70, bins="log", cmap=shades, extent=(*limits, *limits), mincnt=1, zorder=2
        )
        bar = axes.figure.colorbar(cells, ax=axes, location="bottom", shrink=0.75, aspect=40)
        bar.set_label("predictions in a cell", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    else:
        size = float(np.clip(2500 / true.size, 4, 30))
        axes.scatter(true, pred, s=size, color=BLUE, alpha=0.55, linewidths=0, zorder=2)
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_aspect("equal")


def _histogram(axes: "Axes", error: np.ndarray) -> None:
    spread = float(np.quantile(np.abs(error), 0.995)) or 1.0  # a few outliers must not flatten the rest
    bins = int(np.clip(np.sqrt(error.size), 8, 50))
    axes.hist(np.clip(error, -spread, spread), bins=bins, range=(-spread, spread), color=BLUE, alpha=0.8)
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])  # room for the label
    axes.axvline(0, color=GREY, linewidth=1)
    axes.axvline(float(error.mean()), color=VERMILION, linewidth=1.5, linestyle=(0, (5, 3)))
    axes.annotate(
        f"mean {error.mean():.2g}",
        (float(error.mean()), 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        fontsize=9,
        color=VERMILION,
    )


def statistics_text(true: np.ndarray, pred: np.ndarray, unit: str) -> str:
    """Mean absolute error, root mean square error, R^2 and the number of values, a line each."""
    error = pred - true
    variance = float(((true - true.mean()) ** 2).sum())
    lines = [
        f"MAE {np.abs(error).mean():.3g} {unit}".rstrip(),
        f"RMSE {np.sqrt((error**2).mean()):.3g} {unit}".rstrip(),
    ]
    if variance > 0:
        lines.append(f"R² {1 - float((error**2).sum()) / variance:.4f}")
    return "\n".join([*lines, f"n = {true.size:,}"])

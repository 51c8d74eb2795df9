"""Equivariance errors of a model's submodules over the resolution of its grid."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import BLACK, GREY, VERMILION, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def equivariance_by_resolution(
    reports: Mapping[Any, Any], *, symmetry: str = "rotation", xlabel: str = "resolution", title: str = ""
) -> "Figure":
    """Draws the error of each submodule, first executed at the top, for several resolutions of a model's grid.

    A cell holds the error's power of ten; darker is worse. Exact layers stay light in every column, layers that go
    through a grid grow lighter to the right; what is beyond rounding is framed in red. Left out is what fits no known
    type although the model's answer is right, such as features in the frames of edges, which turn about the edge.

    Args:
        reports: An :class:`geomeq.testing.EquivarianceReport` for each resolution (a number or a name), of models with
            the same submodules.
        symmetry: Which of the symmetries tested.
        xlabel: What the resolution is.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no report, one did not test the symmetry, or no submodule is in all of them.

    Example:
        ``equivariance_by_resolution({n: equivariance_report(build(n), batch) for n in (6, 8, 12)})``
    """
    if not reports:
        raise ValueError("there is nothing to draw: reports is empty")
    for key, report in reports.items():
        if symmetry not in report.symmetries:
            raise ValueError(f"report {key} did not test {symmetry!r}; it has {', '.join(report.symmetries)}")
    errors = {key: {m.name: m.errors.get(symmetry, 0.0) for m in r.modules} for key, r in reports.items()}
    kinds = {m.name: m.kind for r in reports.values() for m in r.modules}
    rows = [name for name in kinds if all(name in column for column in errors.values())]
    rows = [name for name in rows if not any(_is_unknown(name, r, symmetry) for r in reports.values())]
    if not rows:
        raise ValueError("the reports have no submodule in common, so they are not of one model at several resolutions")
    table = np.array([[errors[key][name] for key in errors] for name in rows])
    limits = [report.tol for report in reports.values()]
    figure = _draw(table, limits, rows, [str(key) for key in errors], kinds)
    axes = figure.axes[0]
    axes.set_xlabel(xlabel)
    axes.set_title(title or f"Error under {symmetry}, powers of ten", loc="left", fontsize=11)
    return figure


def _is_unknown(name: str, report: Any, symmetry: str) -> bool:
    """Whether a submodule seems broken in a report whose whole model (the last line) is not."""
    error = {m.name: m.errors.get(symmetry, 0.0) for m in report.modules}
    return error[report.modules[-1].name] <= report.tol < error.get(name, 0.0)


def _draw(
    table: np.ndarray, limits: list[float], rows: list[str], columns: list[str], kinds: Mapping[str, str]
) -> "Figure":
    from matplotlib.patches import Rectangle

    figure = new_figure(3.6 + 0.62 * len(columns), 1.1 + 0.3 * len(rows))
    axes = figure.add_subplot()
    with np.errstate(divide="ignore"):
        power = np.where(table > 0, np.log10(np.where(table > 0, table, 1.0)), -math.inf)
    low, high = _range(power[(table > limits) & np.isfinite(table)])
    shown = np.clip(np.nan_to_num(power, neginf=low, posinf=high), low, high)
    axes.imshow(shown, cmap="Blues", vmin=low, vmax=high + 0.4 * (high - low), aspect="auto")
    for row, column in np.ndindex(table.shape):
        value, light = power[row, column], shown[row, column] < low + 0.8 * (high - low)
        text = "exact" if value == -math.inf else "∞" if value == math.inf else f"{value:.1f}"
        broken = table[row, column] > limits[column]
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=BLACK if light else "white",
                  fontweight="bold" if broken else "normal")  # fmt: skip
        if broken:
            axes.add_patch(
                Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, fill=False, edgecolor=VERMILION, linewidth=1.2)
            )
    axes.set_xticks(range(len(columns)), columns, fontsize=9)
    axes.set_yticks(range(len(rows)), [f"{name}  {kinds[name]}" for name in rows], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(set(limits)) == 1:
        axes.annotate(f"framed: above {limits[0]:.0e}", (1, 0), xycoords="axes fraction", xytext=(0, -32), ha="right",
                      textcoords="offset points", va="top", fontsize=8, color=GREY)  # fmt: skip
    return figure


def _range(power: np.ndarray) -> tuple[float, float]:
    """Shades belong to what is broken; all that is exact up to rounding is as light as can be."""
    return (float(power.min()) - 0.7, max(float(power.max()), float(power.min()) + 0.7)) if power.size else (0.0, 1.0)

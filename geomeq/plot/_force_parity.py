"""Predicted against true forces: components, elements, angles."""

from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import BLACK, BLUE, GREY, ORANGE, VERMILION, new_figure, plain, to_array, with_unit
from geomeq.plot._molecule import element_symbol
from geomeq.plot._parity import scatter_parity, statistics_text
from geomeq.plot._projection import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def force_parity(
    force_true: Any,
    force_pred: Any,
    z: Any = None,
    *,
    unit: str = "eV/Å",
    title: str = "",
) -> "Figure":
    """Draws predicted against true forces: their components, the errors by element, and the angles between.

    The angle between a small force and its prediction is large even where the error is small, so the third picture has
    the size of the true force along its axis; the line is the median, the band holds the middle half.

    Args:
        force_true: True forces, ``[N, 3]``.
        force_pred: Predictions, ``[N, 3]``.
        z: Atomic numbers, ``[N]``; without them there is one bar for all atoms.
        unit: Unit of both.
        title: Title.

    Returns:
        The figure. Mean absolute errors are over components.

    Raises:
        ValueError: If shapes do not fit, or a number is not finite.
    """
    true, pred = to_array("force_true", force_true), to_array("force_pred", force_pred)
    if true.ndim != 2 or true.shape[1] != 3 or true.shape != pred.shape:
        raise ValueError(f"forces must be [N, 3], got {list(true.shape)} true ones and {list(pred.shape)} predicted")
    numbers = None if z is None else to_array("z", z).astype(int).ravel()
    if numbers is not None and numbers.size != len(true):
        raise ValueError(f"z must have one atomic number for each of the {len(true)} forces, got {numbers.size}")
    figure = new_figure(11.2, 4.5)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 0.85, 1))
    scatter_parity(left, true.ravel(), pred.ravel())
    plain(left, with_unit("true component", unit), with_unit("predicted component", unit), title)
    text = statistics_text(true.ravel(), pred.ravel(), unit)
    left.text(0.04, 0.96, text, transform=left.transAxes, va="top", fontsize=9, color=BLACK)
    _elements(middle, true, pred, numbers, unit)
    _angles(right, true, pred, unit)
    return figure


def _elements(axes: "Axes", true: Array, pred: Array, numbers: np.ndarray | None, unit: str) -> None:
    groups = {"all": np.ones(len(true), dtype=bool)}
    if numbers is not None:
        groups |= {element_symbol(int(k)): numbers == k for k in np.unique(numbers)}
    errors = {name: float(np.abs(pred - true)[rows].mean()) for name, rows in groups.items()}
    colours = [GREY] + [BLUE] * (len(groups) - 1)
    axes.bar(range(len(errors)), list(errors.values()), color=colours, alpha=0.85, width=0.7)
    axes.set_xticks(range(len(errors)), list(errors))
    for k, (name, rows) in enumerate(groups.items()):
        share = errors[name] / max(float(np.abs(true[rows]).mean()), 1e-300)
        axes.annotate(f"{errors[name]:.2g}\n{100 * share:.2g} %", (k, errors[name]), xytext=(0, 2), ha="center",
                      textcoords="offset points", va="bottom", fontsize=8, color=GREY)  # fmt: skip
    axes.margins(y=0.16)
    plain(axes, "element", with_unit("mean absolute error", unit))
    axes.set_title("%: of the mean |component|", loc="left", fontsize=9, color=GREY)
    axes.grid(False, axis="x")


def _angles(axes: "Axes", true: Array, pred: Array, unit: str) -> None:
    sizes = np.linalg.norm(true, axis=1), np.linalg.norm(pred, axis=1)
    seen = (sizes[0] > 0) & (sizes[1] > 0)
    plain(axes, with_unit("size of the true force", unit), "angle between true and predicted (degrees)")
    if not seen.any():
        axes.text(0.5, 0.5, "no force has a direction", transform=axes.transAxes, ha="center", color=GREY)
        return
    size, a, b = sizes[0][seen], true[seen] / sizes[0][seen, None], pred[seen] / sizes[1][seen, None]
    angle = np.degrees(2 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1)))  # exact near 0
    angle = np.maximum(angle, 1e-3)
    some = np.random.default_rng(0).permutation(size.size)[:4000]
    dots = float(np.clip(2500 / some.size, 2, 20))
    axes.scatter(size[some], angle[some], s=dots, color=BLUE, alpha=0.25, linewidths=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    edges = np.unique(np.quantile(size, np.linspace(0, 1, int(np.clip(size.size // 30, 1, 16)) + 1)))
    if edges.size > 2:
        inside = np.clip(np.searchsorted(edges, size, side="right") - 1, 0, edges.size - 2)
        parts = [np.quantile(angle[inside == k], (0.25, 0.5, 0.75)) for k in range(edges.size - 1)]
        low, median, high = np.array(parts).T
        centre = np.sqrt(np.maximum(edges[:-1], size[size > 0].min()) * edges[1:])
        axes.fill_between(centre, low, high, color=ORANGE, alpha=0.35, linewidth=0)
        axes.plot(centre, median, color=VERMILION, linewidth=1.8)
    axes.text(0.97, 0.97, f"median {np.median(angle):.2g}°", transform=axes.transAxes, ha="right", va="top",
              fontsize=9, color=VERMILION)  # fmt: skip

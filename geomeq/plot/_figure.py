"""What all pictures share: a figure without global state, colours, plain axes."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's palette, told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, YELLOW, BLACK = "#CC79A7", "#56B4E9", "#F0E442", "#222222"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"


def new_figure(width: float, height: float) -> "Figure":
    """Returns an empty figure of the given size in inches.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'geomeq[plot]'") from error
    return Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")


def plain(axes: "Axes", xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Labels the axes and takes away what carries no information."""
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def with_unit(name: str, unit: str) -> str:
    """Joins a quantity and its unit: ``energy (eV)``."""
    return f"{name} ({unit})" if unit else name


def to_array(name: str, values: Any) -> np.ndarray:
    """Converts a tensor, on any device, or a sequence to a float64 array.

    Raises:
        ValueError: If it is empty or holds NaN or infinity.
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().double().cpu().numpy()
    elif isinstance(values, (list, tuple)):
        values = [float(v) for v in values]
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError(f"{name} is empty, so there is nothing to draw")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite, but {int((~np.isfinite(array)).sum())} of its values are NaN or infinite"
        )
    return array

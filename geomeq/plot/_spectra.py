"""Singular values by depth: what gradient descent leaves of a linear network."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import BLACK, GREY, MARKERS, new_figure, plain, to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def spectra(
    by_depth: Mapping[str, Any], *, relative: bool = True, floor: float = 1e-8, xlabel: str = "rank", title: str = ""
) -> "Figure":
    """Draws singular values of several solutions, sorted, on a logarithmic axis.

    Args:
        by_depth: Singular values by name (such as the depth): ``[n]``, or ``[seeds, n]``, of which the median is drawn
            and the range between the smallest and the largest shaded. Sorted here. Names are drawn from light to
            dark in their order.
        relative: Whether to divide each spectrum by its largest value.
        floor: Smaller values are drawn at this height, which is marked.
        xlabel: Label of the horizontal axis.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no spectrum, or one is empty, negative, not finite, or all zero.
    """
    if not by_depth:
        raise ValueError("by_depth holds no spectrum, so there is nothing to draw")
    if not floor > 0:
        raise ValueError(f"floor must be positive, got {floor}")
    values = {name: _sorted(name, entry, relative) for name, entry in by_depth.items()}
    figure = new_figure(6.4, 4.0)
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    colours = _ramp(len(values))
    at_floor = False
    for k, (name, spectrum) in enumerate(values.items()):
        at_floor |= bool((spectrum < floor).any())
        _draw(axes, str(name), np.maximum(spectrum, floor), colours[k], MARKERS[k % len(MARKERS)])
    plain(axes, xlabel, "singular value / largest" if relative else "singular value", title)
    axes.set_yscale("log")
    longest = max(spectrum.shape[1] for spectrum in values.values())
    axes.set_xlim(0.5, longest + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if at_floor:
        axes.axhline(floor, color=GREY, lw=0.8, ls=(0, (2, 3)), zorder=1)
        axes.annotate(
            f"{floor:.0e} and below", (0.0, floor), (2, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=8, color=GREY,
        )  # fmt: skip
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _sorted(name: str, entry: Any, relative: bool) -> np.ndarray:
    if _is_nested(entry):
        array = np.stack([to_array(f"spectrum {name!r}", row) for row in entry])
    else:
        array = np.atleast_2d(to_array(f"spectrum {name!r}", entry))
    if array.ndim != 2 or (array < 0).any() or not (array.max(axis=1) > 0).all():
        raise ValueError(
            f"spectrum {name!r} must be [n] or [seeds, n], not negative and not all zero, "
            f"got shape {list(array.shape)}, smallest {array.min():.3g}, largest {array.max():.3g}"
        )
    array = -np.sort(-array, axis=1)
    return array / array[:, :1] if relative else array


def _is_nested(entry: Any) -> bool:
    return isinstance(entry, (list, tuple)) and len(entry) > 0 and np.ndim(entry[0]) == 1


def _ramp(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis_r"](0.15 + 0.8 * k / max(count - 1, 1)) for k in range(count)]


def _draw(axes: "Axes", name: str, spectrum: np.ndarray, colour: Any, marker: str) -> None:
    rank = np.arange(1, spectrum.shape[1] + 1)
    middle = np.median(spectrum, axis=0)
    style: dict[str, Any] = {"marker": marker, "ms": 4.5, "mec": BLACK, "mew": 0.4} if len(rank) <= 60 else {}
    axes.plot(rank, middle, color=colour, lw=1.6, label=name, zorder=3, **style)
    if len(spectrum) > 1:
        axes.fill_between(rank, spectrum.min(axis=0), spectrum.max(axis=0), color=colour, alpha=0.22, lw=0, zorder=2)

"""Numbers, classes and vectors on points: checked, and turned into colours."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geomeq.neighbors import farthest_points
from geomeq.plot._figure import GREY, SERIES, to_array
from geomeq.plot._projection import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def read_mesh(pos: Any, face: Any) -> tuple[Array, np.ndarray]:
    """Points ``[V, 3]`` and corners ``[3, F]``.

    Raises:
        ValueError: If shapes or indices do not fit, or a position is not finite.
    """
    points, corners = to_array("pos", pos), to_array("face", face).astype(int)
    if points.ndim != 2 or points.shape[1] != 3 or corners.ndim != 2 or len(corners) != 3:
        raise ValueError(f"pos must be [V, 3] and face [3, F], got {list(points.shape)} and {list(corners.shape)}")
    if corners.min() < 0 or corners.max() >= len(points):
        raise ValueError(f"face names vertices {corners.min()}..{corners.max()}, but pos has {len(points)}")
    return points, corners


def read_rows(value: Any, count: int, classes: Sequence[str] | None) -> dict[str, Array]:
    """One array ``[count]`` or several by name, as a mapping."""
    rows = dict(value) if isinstance(value, Mapping) else {"": value}
    return {str(name): read_values(str(name), entry, count, classes) for name, entry in rows.items()}


def read_values(name: str, entry: Any, count: int, classes: Sequence[str] | None) -> Array:
    """Numbers, or numbers of classes, one for each point."""
    named = f"value {name}".rstrip()
    array = to_array(named, entry)
    if array.shape != (count,):
        raise ValueError(f"{named} must have shape [{count}], one for each vertex, got {list(array.shape)}")
    if classes is not None and not np.isin(array, np.arange(len(classes))).all():
        raise ValueError(f"classes {list(classes)} name the numbers 0..{len(classes) - 1}, but values hold others")
    return array


def read_vectors(name: str, entry: Any, count: int) -> Array:
    """Vectors of space, one for each point, ``[count, 3]``."""
    array = to_array(name, entry)
    if array.shape != (count, 3):
        raise ValueError(
            f"{name} must be vectors of space, [{count}, 3], got {list(array.shape)}; "
            "geomeq.groups.to_ambient writes features of order 1 that way"
        )
    return array


def spread_out(points: Array, most: int) -> np.ndarray:
    """Up to ``most`` of the points, spread evenly, ``[k]``."""
    if most < 1:
        raise ValueError(f"the number of arrows must be at least 1, got {most}")
    if len(points) <= most:
        return np.arange(len(points))
    return farthest_points(torch.from_numpy(points), most).numpy()


def colour_scale(values: Array, classes: Sequence[str] | None, colours: Sequence[str] | None) -> Any:
    """A ``ScalarMappable``: diverging about zero where signs mix, else sequential; or one colour per class."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    if classes is None:
        low, high = float(values.min()), float(values.max())
        if low < 0 < high:  # a sign means something: zero is white
            return ScalarMappable(Normalize(-max(-low, high), max(-low, high)), "RdBu_r")
        return ScalarMappable(Normalize(low, high), "viridis")
    names = class_colours(classes, colours)
    return ScalarMappable(Normalize(-0.5, len(classes) - 0.5), ListedColormap(names))


def class_colours(classes: Sequence[str], colours: Sequence[str] | None) -> list[str]:
    """A colour for each class: those given, the palette of the package, or a longer one for many classes."""
    if colours is not None:
        if len(colours) != len(classes):
            raise ValueError(f"colours must name one for each of the {len(classes)} classes, got {len(colours)}")
        return list(colours)
    if len(classes) <= len(SERIES):
        return list(SERIES[: len(classes)])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["tab20"](k % 20)) for k in range(len(classes))]


def add_key(figure: "Figure", axes: Any, scale: Any, classes: Sequence[str] | None, label: str) -> None:
    """A colour bar, or a legend of classes."""
    if classes is None:
        bar = figure.colorbar(scale, ax=axes, shrink=0.7, pad=0.02, label=label)
        bar.ax.tick_params(labelsize=8)
        return
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], linestyle="", marker="s", markersize=9, markerfacecolor=scale.to_rgba(k), markeredgecolor=GREY,
               label=name)
        for k, name in enumerate(classes)
    ]  # fmt: skip
    width = 0.5 + 0.085 * max(len(name) for name in classes)  # inches of an entry
    columns = max(1, min(len(marks), 5, int(figure.get_figwidth() / width)))
    figure.legend(handles=marks, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)

"""Filters on the sphere: functions of distance and azimuth around a point, flat and where they lie."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geomeq.plot._figure import GREY, new_figure, to_array
from geomeq.plot._projection import Array, looking_from
from geomeq.plot._sphere_views import Nearest, Orthographic, net

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS = 220


def sphere_filters(
    basis: Any,
    weight: Any = None,
    *,
    pos: Any = None,
    cutoff: float | None = None,
    columns: int = 6,
    most: int = 24,
    names: Sequence[str] | None = None,
    title: str = "",
) -> "Figure":
    """Draws filters on the sphere as seen from above their centre, north up and east to the right.

    All pictures share one scale: white is zero, red positive, blue negative. The dashed circle is the cut-off.

    Args:
        basis: A :class:`geomeq.harmonics.FilterBasis` (or any function of distance and azimuth ``(r, angle)``, radians,
            that returns ``[..., K]``; the azimuth runs from south to east), or values at nodes, ``[N, K]`` or ``[N]``.
        weight: Learned weights ``[..., K]``, such as ``conv.weight``: draws the filters that they make of a basis
            instead of the basis itself.
        pos: Where values at nodes are, unit vectors ``[N, 3]``; they are drawn as cells, seen from the mean of the
            nodes that are not zero.
        cutoff: Radius that is drawn, radians; by default the basis's own.
        columns: Pictures in a row.
        most: Pictures at most.
        names: A name for each picture.
        title: Title.

    Returns:
        The figure.

    Raises:
        TypeError: If ``basis`` is neither a function nor values.
        ValueError: If values come without ``pos``, a function without a cut-off, or numbers do not fit.
    """
    if columns < 1 or most < 1:
        raise ValueError(f"columns and most must be at least 1, got {columns} and {most}")
    if callable(basis):
        images, radius = _of_basis(basis, cutoff)
    elif isinstance(basis, (torch.Tensor, np.ndarray)):
        images, radius = _of_nodes(basis, pos, cutoff)
    else:
        raise TypeError(f"basis must be a FilterBasis, a function of (r, angle) or values, got {type(basis).__name__}")
    if weight is not None:
        images = _combined(images, to_array("weight", weight))
    count = min(len(images), most)
    if names is not None and len(names) < count:
        raise ValueError(f"names must have one entry for each of the {count} pictures, got {len(names)}")
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = new_figure(1.25 * columns + 1.0, 1.25 * rows + (0.75 if title or count < len(images) else 0.45))
    grid = figure.subplots(rows, columns, squeeze=False)
    limit = max(float(np.nanmax(np.abs(images[:count]))), 1e-30)
    view = Orthographic(0.0, 0.0)
    for k, axes in enumerate(grid.ravel()):
        axes.set_axis_off()
        if k < count:
            picture = _disc(axes, images[k], radius, limit, view)
            axes.set_title(names[k] if names is not None else str(k), fontsize=8, color=GREY, pad=2)
    bar = figure.colorbar(picture, ax=grid, shrink=min(1.0, 2.0 / rows + 0.3), pad=0.02, aspect=20)
    bar.ax.tick_params(labelsize=8)
    left = f"{count} of {len(images)}" if count < len(images) else ""
    heading = ", ".join(text for text in (title, left) if text)
    if heading:
        figure.suptitle(heading, x=0.02, ha="left", fontsize=10)
    return figure


def _half_width(cutoff: float) -> float:
    """Of the picture, on the plane of an orthographic view of radius 1: a little more than the filter."""
    return min(1.12 * float(np.sin(min(cutoff, np.pi / 2))), 1.0)


def _directions(cutoff: float) -> tuple[Array, np.ndarray]:
    """Points seen by the pixels around (1, 0, 0), ``[H, W, 3]`` with axes out, east, north, and which exist."""
    half = _half_width(cutoff)
    line = half * ((np.arange(_PIXELS) + 0.5) * 2 / _PIXELS - 1)
    east, north = np.meshgrid(line, -line)
    square = 1 - east**2 - north**2
    return np.stack([np.sqrt(np.maximum(square, 0)), east, north], axis=-1), square > 0


def _of_basis(basis: Any, cutoff: float | None) -> tuple[Array, float]:
    radius = getattr(basis, "cutoff", None) if cutoff is None else cutoff
    if radius is None or not 0 < radius <= np.pi:
        raise ValueError(f"cutoff is the radius to draw, from 0 to pi radians, got {radius}")
    points, seen = _directions(radius)
    r = np.arctan2(np.hypot(points[..., 1], points[..., 2]), points[..., 0])
    angle = np.arctan2(points[..., 1], -points[..., 2])  # from south towards east
    with torch.no_grad():
        values = basis(torch.from_numpy(r), torch.from_numpy(angle))
    values = to_array("the filters", values)
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[:2] != r.shape:
        raise ValueError(f"basis(r, angle) must return [..., K] for r of shape [...], got {list(values.shape)}")
    return np.where(seen, np.moveaxis(values, -1, 0), np.nan), float(radius)


def _of_nodes(values: Any, pos: Any, cutoff: float | None) -> tuple[Array, float]:
    if pos is None:
        raise ValueError("values at nodes need pos, the places of the nodes, [N, 3]")
    pos = getattr(pos, "pos", pos)
    points, array = to_array("pos", pos), to_array("the filters", values)
    array = array[:, None] if array.ndim == 1 else array
    if points.ndim != 2 or points.shape[1] != 3 or array.ndim != 2 or len(array) != len(points):
        raise ValueError(f"values must be [N, K] and pos [N, 3], got {list(array.shape)} and {list(points.shape)}")
    support = points[(np.abs(array) > 0).any(axis=1)]
    if len(support) == 0:
        raise ValueError("the filters are zero at every node, so there is nothing to draw")
    middle = support.mean(axis=0) / np.linalg.norm(support.mean(axis=0))
    if cutoff is None:
        spacing = float(np.median(Nearest(points, 1.0).tree.query(support, k=min(2, len(points)))[0][:, -1]))
        cutoff = float(np.arccos(np.clip(support @ middle, -1, 1)).max()) + 0.5 * spacing
    seen, inside = _directions(cutoff)
    right, up, out = looking_from(np.degrees(np.arctan2(middle[1], middle[0])), np.degrees(np.arcsin(middle[2])))
    node = Nearest(points, np.pi).at(seen @ np.stack([out, right, up]))
    return np.where(inside, np.moveaxis(array[node], -1, 0), np.nan), cutoff


def _combined(images: Array, weight: Array) -> Array:
    if weight.shape[-1] != len(images):
        raise ValueError(
            f"weight must have one number for each of the {len(images)} functions on its last axis, "
            f"got {list(weight.shape)}"
        )
    return np.tensordot(weight.reshape(-1, len(images)), images, axes=1)


def _disc(axes: "Axes", image: Array, cutoff: float, limit: float, view: Orthographic) -> Any:
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Circle

    half = _half_width(cutoff)
    picture = axes.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(-half, half, -half, half))
    if cutoff < np.pi / 2:
        rim = Circle((0, 0), np.sin(cutoff), fill=False, ls=(0, (4, 3)), lw=0.7, ec=GREY)
        axes.add_patch(rim)
    if half == 1.0:  # wide enough for meridians to orient by
        axes.add_collection(
            LineCollection([run for line in net() for run in view.runs(line)], colors="k", lw=0.3, alpha=0.3)
        )
    axes.set_xlim(-half, half)
    axes.set_ylim(-half, half)
    return picture

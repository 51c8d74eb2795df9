"""Filters of a network on a plane group: every filter with its copies under turns and mirrors."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geomeq.plot._figure import GREY, new_figure, to_array
from geomeq.plot._projection import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def filters(conv: Any, *, rows: int = 8, names: list[str] | None = None, title: str = "") -> "Figure":
    """Draws filters and their copies under a point group as a grid of images.

    One column for each element of the group. A lifting layer has one row for each filter (output and input channel);
    a layer on the group one row for each orientation that a filter reads, so that its copies turn and change places.
    All images share one scale: white is zero, red positive, blue negative.

    Args:
        conv: A :class:`geomeq.nn.LiftingConv2d` or :class:`geomeq.nn.GroupConv2d`, or filters ``[..., |H|, k, k]``
            that are expanded already.
        rows: Rows at most.
        names: Names of the elements, for the columns; by default those of turns R and mirrors M for a layer.
        title: Title; by default the layer.

    Returns:
        The figure.

    Raises:
        TypeError: If ``conv`` is neither.
        ValueError: If the tensor has fewer than three axes, or the number of names differs.
    """
    images, named, readers = _images(conv)
    columns = images.shape[1]
    names = named if names is None else names
    if len(names) != columns:
        raise ValueError(f"names must have one entry for each of the {columns} elements, got {len(names)}")
    shown = images[: max(rows, 1)]
    count = len(shown)
    limit = max(float(np.abs(shown).max()), 1e-30)
    figure = new_figure(0.78 * columns + 1.3, 0.78 * count + (0.9 if title or readers else 0.7))
    grid = figure.subplots(count, columns, squeeze=False)
    for r in range(count):
        for h in range(columns):
            axes = grid[r, h]
            picture = axes.imshow(shown[r, h], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color("#bbbbbb")
        grid[r, 0].set_ylabel(readers[r] if readers else "", fontsize=8, rotation=0, ha="right", va="center")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9, color=GREY)
    bar = figure.colorbar(picture, ax=grid, shrink=min(1.0, 3.0 / count + 0.3), pad=0.015, aspect=25)
    bar.ax.tick_params(labelsize=8)
    left = f"{count} of {len(images)} rows" if count < len(images) else ""
    heading = ", ".join(text for text in (title, left) if text)
    if heading:
        figure.suptitle(heading, x=0.02, ha="left", fontsize=10)
    return figure


def _images(conv: Any) -> tuple[Array, list[str], list[str]]:
    """Images ``[rows, |H|, k, k]``, names of the columns, names of the rows."""
    if isinstance(conv, (Tensor, np.ndarray)):
        images = to_array("conv", conv)
        if images.ndim < 3:
            raise ValueError(f"filters must have shape [..., |H|, k, k], got {list(images.shape)}")
        images = images.reshape(-1, *images.shape[-3:])
        return images, [str(h) for h in range(images.shape[1])], []
    if not hasattr(conv, "expanded") or not hasattr(conv, "group"):
        raise TypeError(f"conv must be LiftingConv2d, GroupConv2d or a tensor of filters, got {type(conv).__name__}")
    order = conv.group.order
    with torch.no_grad():
        weight = torch.as_tensor(to_array("filters", conv.expanded()))
    weight = weight.unflatten(0, (-1, order)).unflatten(2, (conv.in_channels, -1))  # [O, H, C, G, k, k]
    images = weight.permute(0, 2, 3, 1, 4, 5)  # [O, C, G, H, k, k]
    outs, ins, read = images.shape[:3]
    names = _element_names(conv.group.name, order)
    readers = [
        f"{o}←{c}" + (f"  {names[g]}" if read > 1 else "") for o in range(outs) for c in range(ins) for g in range(read)
    ]
    return np.asarray(images.flatten(0, 2)), names, readers


def _element_names(group: str, order: int) -> list[str]:
    """``R^r M^m`` in the order of the layers: turns first, then turns after the mirror."""
    turns = order // 2 if group.startswith("D") else order
    return [
        (f"$R^{{{h % turns}}}$" if h % turns > 1 else ("R" if h % turns else ("" if h >= turns else "1")))
        + ("M" if h >= turns else "")
        for h in range(order)
    ]

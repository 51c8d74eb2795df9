"""What a left-invariant metric finds near, at several orientations."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from geomeq.groups import SE2, SO3, metric_matrix
from geomeq.plot._figure import BLACK, GREEN, GREY, new_figure
from geomeq.plot._projection import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SLICES, _STEP = 61, 6  # slices of the ball, and of how many one outline is drawn


def metric_ellipses(
    group: Any, metric: Any = None, *, orientations: int = 6, radius: float = 0.4, title: str = ""
) -> "Figure":
    r"""Draws the neighbourhoods :math:`c^T R c \le r^2` of a metric on SE(2) or SO(3), over the plane or the sphere.

    Around elements of different orientation, which the arrow shows. Black: the places reached without turning, an
    ellipse with an axis along the arrow. In colour: those reached with some turn. Grey: all of them. The picture of
    SO(3) is the sphere seen from above each point.

    Args:
        group: :class:`geomeq.groups.SE2` or :class:`geomeq.groups.SO3`.
        metric: A metric as for :func:`geomeq.groups.metric_matrix`, or several by name, one row each.
        orientations: Number of elements in a row.
        radius: The r above, in the unit in which a step along a local axis of price 1 counts its length.
        title: Title.

    Returns:
        The figure.

    Raises:
        TypeError: If the group is another one.
        ValueError: If the metric is not one of the group, or a number is not positive.

    Example:
        >>> from geomeq.groups import SE2
        >>> figure = metric_ellipses(SE2(), {"isotropic": None, "anisotropic": (1.0, 10.0, 0.1)})
    """
    if not isinstance(group, (SE2, SO3)):
        raise TypeError(f"metric_ellipses draws SE2 and SO3, which have a place and an orientation, got {group!r}")
    if not radius > 0 or orientations < 1:
        raise ValueError(f"radius and orientations must be positive, got {radius} and {orientations}")
    rows = dict(metric) if isinstance(metric, Mapping) else {"": metric}
    matrices = [metric_matrix(group, entry).detach().double() for entry in rows.values()]
    angles = -group.period / 2 + group.period / orientations * np.arange(orientations)
    balls = [_ball(group, matrix, radius) for matrix in matrices]
    figure = new_figure(1.55 * orientations + 0.9, 1.58 * len(rows) + (0.7 if title else 0.4))
    grid = figure.subplots(len(rows), orientations, squeeze=False)
    turn = _turn_colours(max(float(np.abs(height).max()) for _, height in balls))
    for axes_row, name, (outlines, heights) in zip(grid, rows, balls, strict=True):
        for axes, angle in zip(axes_row, angles, strict=True):
            rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            _draw_one(axes, outlines @ rotation.T, heights, rotation, turn)
            axes.set_xlim(-1.15 * radius, 1.15 * radius)
            axes.set_ylim(-1.15 * radius, 1.15 * radius)
        axes_row[0].set_ylabel(name, fontsize=9, color=BLACK)
    for axes, angle in zip(grid[0], angles, strict=True):
        axes.set_title(f"{np.degrees(angle):.0f}°", fontsize=9, color=GREY)
    bar = figure.colorbar(turn, ax=grid, shrink=0.8, pad=0.01, aspect=18)
    bar.set_label("turn $c_3$ (degrees)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _ball(group: Any, matrix: Tensor, radius: float) -> tuple[Array, Array]:
    """Outlines ``[S, P, 2]`` of the places in slices of equal turn, seen by the element, and the turns ``[S]``."""
    steepest = float(torch.linalg.inv(matrix)[2, 2].sqrt()) * radius
    heights = np.linspace(-1, 1, _SLICES) * min(steepest * (1 - 1e-6), group.period / 2)
    block, mixed = matrix[:2, :2].numpy(), matrix[:2, 2].numpy()
    values, vectors = np.linalg.eigh(block)
    root = vectors / np.sqrt(values) @ vectors.T
    phi = np.linspace(0, 2 * np.pi, 97)
    circle = root @ np.stack([np.cos(phi), np.sin(phi)])
    outlines = []
    for height in heights:
        shift = -np.linalg.solve(block, mixed) * height
        left = radius**2 - float(matrix[2, 2]) * height**2 + shift @ block @ shift
        c = shift[:, None] + np.sqrt(max(left, 0.0)) * circle
        outlines.append(_places(group, np.concatenate([c, np.full((1, len(phi)), height)]).T))
    return np.stack(outlines), heights


def _places(group: Any, c: Array) -> Array:
    """Where elements ``exp(c)`` lie, in the plane with the first local axis to the right, ``[P, 2]``."""
    element = group.exp(torch.from_numpy(c))
    if isinstance(group, SE2):
        return np.asarray(element[:, :2])
    x, y = element[:, 0, 2], element[:, 1, 2]  # turning about the first axis moves the pole along -y
    return np.asarray(torch.stack([-y, x], dim=1))


def _turn_colours(reach: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    ramp = LinearSegmentedColormap.from_list("turn", ["#0b4f8a", "#4fa3d8", "#9a9a9a", "#eda23c", "#b04a00"])
    return ScalarMappable(Normalize(-np.degrees(reach), np.degrees(reach)), ramp)


def _draw_one(axes: "Axes", outlines: Array, heights: Array, rotation: Array, turn: Any) -> None:
    from matplotlib.patches import Polygon

    for outline in outlines:
        axes.add_patch(Polygon(outline, facecolor="#ededed", edgecolor="#ededed", lw=0.8))
    half = len(heights) // 2
    for s in range(half % _STEP, len(heights), _STEP):
        colour = turn.to_rgba(np.degrees(heights[s]))
        axes.add_patch(Polygon(outlines[s], facecolor="none", edgecolor=colour, lw=1.1))
    middle = outlines[half]
    axes.add_patch(Polygon(middle, facecolor="none", edgecolor=BLACK, lw=1.6))
    ahead = np.abs((middle - middle.mean(axis=0)) @ rotation[:, 0]).max() * 0.8
    tip = rotation[:, 0] * ahead
    axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": GREEN, "lw": 1.4, "shrinkA": 0})
    axes.plot(0, 0, marker="o", ms=2.5, color=GREEN)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("#dddddd")

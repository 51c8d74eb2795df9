"""Energies of trajectories at constant total energy, and their drift."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import BLACK, BLUE, GREY, ORANGE, VERMILION, new_figure, plain, to_array, with_unit
from geomeq.plot._projection import Array
from geomeq.testing import NVEDrift, nve_drift

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NEEDED = ("time", "kinetic", "potential")


def energy_conservation(
    runs: Mapping[str, Any],
    *,
    limit: float | None = 1e-3,
    time_unit: str = "ps",
    unit: str = "eV",
    title: str = "",
) -> "Figure":
    """Draws kinetic, potential and total energy of runs at constant energy (NVE), and how the total drifts.

    Above, energies since the start: what the potential energy loses, the kinetic energy gains. Below, the change of the
    total energy in units of the mean kinetic energy, with its linear trend; see :func:`geomeq.testing.nve_drift` for
    the numbers. Each run has its own scale.

    Args:
        runs: ``{"time": ..., "kinetic": ..., "potential": ...}``, arrays ``[K]`` each, or several of these by name.
        limit: A drift to keep below, drawn as a band around zero; ``None`` for none.
        time_unit: Unit of time.
        unit: Unit of energy.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If a run lacks one of the three, lengths differ, or a number is not finite (cut a run that blew up
            before that).
    """
    named = {"": runs} if "time" in runs else dict(runs)
    if not named:
        raise ValueError("there is nothing to draw: runs is empty")
    figure = new_figure(0.8 + 3.9 * len(named), 5.0)
    grid = figure.subplots(2, len(named), squeeze=False, sharex="col", height_ratios=(1.25, 1))
    for column, (name, run) in enumerate(named.items()):
        time, kinetic, potential = _read(str(name), run)
        drift = nve_drift(time, kinetic + potential, kinetic)
        _energies(grid[0, column], time, kinetic, potential)
        _total(grid[1, column], time, kinetic + potential, drift, limit)
        plain(grid[0, column], "", with_unit("energy since the start", unit) if column == 0 else "", str(name))
        label = "change of the total energy\n/ mean kinetic energy" if column == 0 else ""
        plain(grid[1, column], with_unit("time", time_unit), label)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return figure


def _read(name: str, run: Any) -> tuple[Array, Array, Array]:
    if not isinstance(run, Mapping) or any(key not in run for key in _NEEDED):
        got = sorted(map(str, run)) if isinstance(run, Mapping) else type(run).__name__
        raise ValueError(f"run {name!r} must hold {', '.join(_NEEDED)}, got {got}")
    time, kinetic, potential = (to_array(f"{key} of run {name!r}", run[key]) for key in _NEEDED)
    return time, kinetic, potential


def _energies(axes: "Axes", time: Array, kinetic: Array, potential: Array) -> None:
    total = kinetic + potential
    thin = float(np.clip(600 / time.size, 0.25, 1.2))
    for series, colour, label, width in (
        (potential, ORANGE, "potential", thin),
        (kinetic, BLUE, "kinetic", thin),
        (total, BLACK, "total", 1.8),
    ):
        axes.plot(time, series - series[0], color=colour, linewidth=width, label=label)
    axes.axhline(0, color=GREY, linewidth=0.6, zorder=0)
    axes.set_xlim(float(time[0]), float(time[-1]))


def _total(axes: "Axes", time: Array, total: Array, drift: NVEDrift, limit: float | None) -> None:
    change = (total - total[0]) / drift.kinetic
    trend = change.mean() + drift.slope / drift.kinetic * (time - time.mean())
    axes.plot(time, change, color=BLACK, linewidth=float(np.clip(600 / time.size, 0.25, 1.2)), alpha=0.8)
    axes.plot(time, trend, color=VERMILION, linewidth=1.8, linestyle=(0, (5, 3)))
    reach = max(float(np.abs(change).max()), 1e-300)
    if limit is not None and reach < 50 * limit:  # a band that would be a hairline says nothing
        axes.axhspan(-limit, limit, color=BLUE, alpha=0.08, linewidth=0, zorder=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.set_ylim(*_room_above(axes.get_ylim()))
    axes.annotate(
        f"drift {drift.drift:.1e}, largest change {drift.deviation:.1e}",
        (0.98, 0.97),
        xycoords="axes fraction",
        ha="right",
        va="top",
        fontsize=9,
        color=VERMILION,
    )


def _room_above(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return low, high + 0.22 * (high - low)

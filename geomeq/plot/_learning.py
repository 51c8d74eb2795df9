"""Loss and error over training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geomeq.plot._figure import GREY, SERIES, new_figure, plain, to_array, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_STEPS = ("epoch", "step", "iteration", "time", "seconds", "minutes", "hours", "frames")
_TIMES = {"seconds": "time (s)", "minutes": "time (min)", "hours": "time (h)"}
_Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def learning_curve(
    history: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    quantity: str = "loss",
    unit: str = "",
    against: str | None = None,
    log_steps: bool = False,
    baselines: Mapping[str, float] | None = None,
    title: str = "",
) -> "Figure":
    """Draws training curves on a logarithmic axis, each labelled at its end with its last value.

    Args:
        history: Curves by name, ``{"train": [...], "validation": [...]}``, or one record an epoch,
            ``[{"epoch": 1, "train": ..., "validation": ...}, ...]`` (a missing value is skipped), or several runs by
            name, each in one of these forms and with steps of its own. A curve named ``epoch``, ``step``,
            ``iteration``, ``time``, ``seconds``, ``minutes``, ``hours`` or ``frames`` (that were seen) is the
            horizontal axis; without one, epochs count from 1.
        quantity: What is drawn, for the vertical axis.
        unit: Its unit.
        against: Which of several such curves is the horizontal axis, by default the first; the others are not drawn.
        log_steps: Whether the horizontal axis is logarithmic, for runs whose lengths differ much; steps at 0 are left
            out.
        baselines: Values to compare with, by name, drawn as dashed lines.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no curve, a curve and the horizontal axis differ in length, runs have different
            horizontal axes, or ``against`` is not there.
    """
    step_name, curves = _read(history, against)
    if log_steps:
        curves = {name: (x[x > 0], y[x > 0]) for name, (x, y) in curves.items() if (x > 0).any()}
        if not curves:
            raise ValueError("log_steps needs steps above 0, and no curve has one")
    figure = new_figure(6.4, 3.9)
    axes = figure.add_subplot()
    ends = []
    for (name, (x, y)), colour in zip(curves.items(), SERIES * (1 + len(curves) // len(SERIES)), strict=False):
        axes.plot(x, y, color=colour, linewidth=1.8, marker="o" if len(x) < 25 else "", markersize=3.5)
        ends.append((float(y[-1]), f"{name} {y[-1]:.3g}", colour))
    for name, value in (baselines or {}).items():
        axes.axhline(value, color=GREY, linewidth=1.2, linestyle=(0, (5, 3)))
        ends.append((float(value), f"{name} {value:.3g}", GREY))
    if all(bool((y > 0).all()) for _, y in curves.values()) and all(v > 0 for v in (baselines or {}).values()):
        axes.set_yscale("log")
        _decimal_ticks(axes.yaxis)
    plain(axes, _TIMES.get(step_name, step_name), with_unit(quantity, unit), title)
    axes.set_xlim(min(float(x.min()) for x, _ in curves.values()), max(float(x.max()) for x, _ in curves.values()))
    if log_steps:
        axes.set_xscale("log")
        _decimal_ticks(axes.xaxis)
    axes.margins(y=0.08)
    _label_ends(axes, ends)
    return figure


def _read(history: Any, against: str | None) -> tuple[str, _Curves]:
    """The name of the horizontal axis, and every curve with its own steps."""
    if not _holds_runs(history):
        step_name, curves = _read_run(history, against)
        if not curves:
            raise ValueError("history holds no curve; give {'train': [...], 'validation': [...]}")
        return step_name or "epoch", curves
    names, curves = set(), {}
    for run, part in history.items():
        step_name, own = _read_run(part, against)
        names.add(step_name or "epoch")
        curves |= {str(run) if len(own) == 1 else f"{run} {name}": curve for name, curve in own.items()}
    if len(names) > 1:
        raise ValueError(f"runs must share one horizontal axis, got {sorted(names)}; say which with against")
    if not curves:
        raise ValueError("history holds no curve in any of its runs")
    return names.pop(), curves


def _holds_runs(history: Any) -> bool:
    def is_run(part: Any) -> bool:
        return isinstance(part, Mapping) or (
            isinstance(part, (list, tuple)) and len(part) > 0 and isinstance(part[0], Mapping)
        )

    return isinstance(history, Mapping) and len(history) > 0 and all(is_run(part) for part in history.values())


def _read_run(history: Any, against: str | None) -> tuple[str | None, _Curves]:
    if isinstance(history, Mapping):
        columns = {name: to_array(name, values) for name, values in history.items()}
        step_name = _step_name(columns, against)
        steps = columns[step_name] if step_name is not None else None
        columns = {n: y for n, y in columns.items() if n.lower() not in _STEPS and n != step_name}
        for name, y in columns.items():
            if y.ndim != 1 or (steps is not None and y.size != steps.size):
                raise ValueError(f"curve {name!r} must have one value for each {step_name or 'epoch'}, got {y.shape}")
        return step_name, {n: (steps if steps is not None else np.arange(1, y.size + 1), y) for n, y in columns.items()}
    return _read_records(list(history), against)


def _step_name(names: Iterable[str], against: str | None) -> str | None:
    if against is None:
        return next((name for name in names if name.lower() in _STEPS), None)
    if against not in names:
        raise ValueError(f"against must name a curve of the history, got {against!r}; there are {sorted(names)}")
    return against


def _read_records(records: list[Mapping[str, Any]], against: str | None) -> tuple[str | None, _Curves]:
    names = list(dict.fromkeys(name for record in records for name in record))
    step_name = _step_name(names, against)
    curves = {}
    for name in names:
        if name.lower() in _STEPS or name == step_name:
            continue
        present = [(k, record) for k, record in enumerate(records, start=1) if record.get(name) is not None]
        if present:
            steps = [record[step_name] if step_name else k for k, record in present]
            curves[name] = (
                to_array(step_name or "epoch", steps),
                to_array(name, [record[name] for _, record in present]),
            )
    return step_name, curves


def _decimal_ticks(axis: "Axis") -> None:
    """Writes 0.02 rather than 2 x 10^-2, and labels 2 and 5 as well where the range is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _label_ends(axes: "Axes", ends: list[tuple[float, str, str]]) -> None:
    """Writes each label beside the end of its line, moved apart where two would touch."""
    axes.set_ylim(axes.get_ylim())  # settles the limits, which matplotlib computes late
    scale, inverse = axes.transData, axes.transAxes.inverted()
    heights = [float(inverse.transform(scale.transform((0, y)))[1]) for y, _, _ in ends]
    order = np.argsort(heights)
    gap, placed = 0.065, dict[int, float]()
    for k in order:
        placed[int(k)] = max(heights[k], max(placed.values(), default=-1.0) + gap)
    over = max(placed.values(), default=0.0) - 1.0
    for k in reversed(order):  # push back down what ran out at the top
        placed[int(k)] -= max(over, 0.0)
        over = over - (placed[int(k)] - heights[k]) if over > 0 else 0.0
    for k, (_, text, colour) in enumerate(ends):
        axes.annotate(
            text,
            (1.0, placed[k]),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour,
            annotation_clip=False,
        )

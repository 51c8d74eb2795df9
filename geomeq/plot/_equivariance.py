"""The errors of an equivariance report, one line a submodule."""

import math
from typing import TYPE_CHECKING, Any

from geomeq.plot._figure import BLACK, GREY, MARKERS, SERIES, VERMILION, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def equivariance_by_layer(report: Any, *, title: str = "") -> "Figure":
    """Draws the relative error of each submodule, first executed at the top, one mark a symmetry.

    Marks right of the dashed line are beyond rounding; submodules that break a symmetry are written
    in bold with its name.

    Args:
        report: An :class:`geomeq.testing.EquivarianceReport`.
        title: Title; by default it says what the report found.

    Returns:
        The figure.
    """
    modules, symmetries = report.modules, report.symmetries
    figure = new_figure(7.4, 1.7 + 0.38 * len(modules))
    axes = figure.add_subplot()
    zero = 10.0 ** (_lowest_decade(report) - 2)  # where an exact zero is drawn on the logarithmic axis
    spread = 0.27 if len(symmetries) > 1 else 0.0
    for k, symmetry in enumerate(symmetries):
        offset = spread * (2 * k / max(len(symmetries) - 1, 1) - 1)  # equal errors stay visible side by side
        axes.plot(
            [max(m.errors.get(symmetry, 0.0), zero) for m in modules],
            [row + offset for row in range(len(modules))],
            linestyle="",
            marker=MARKERS[k % len(MARKERS)],
            markersize=6,
            color=SERIES[k % len(SERIES)],
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=symmetry,
            zorder=3,
        )
    axes.axvline(report.tol, color=GREY, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    axes.set_xscale("log")
    axes.set_xlim(zero / 4, 30)
    decades = range(_lowest_decade(report), 1, 2)
    axes.set_xticks([zero, *(10.0**d for d in decades)], ["exact", *(f"$10^{{{d}}}$" for d in decades)])
    axes.minorticks_off()
    axes.set_ylim(len(modules) - 0.5, -0.5)
    axes.annotate(
        f"tolerance {report.tol:.0e}",
        (report.tol, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        color=GREY,
    )
    plain(axes, "relative equivariance error")
    axes.axvspan(report.tol, 30, color=VERMILION, alpha=0.06, linewidth=0, zorder=0)
    _name_rows(axes, report)
    figure.legend(loc="outside lower center", ncols=min(len(symmetries), 5), frameon=False, fontsize=9)
    figure.suptitle(title or _headline(report), fontsize=11, x=0.02, ha="left")
    return figure


def _lowest_decade(report: Any) -> int:
    errors = [e for m in report.modules for e in m.errors.values() if e > 0] or [report.tol]
    return 2 * math.floor(math.log10(min(errors)) / 2)


def _name_rows(axes: "Axes", report: Any) -> None:
    axes.set_yticks(range(len(report.modules)), [f"{m.name}  {m.kind}" for m in report.modules], fontsize=9)
    for row, (label, module) in enumerate(zip(axes.get_yticklabels(), report.modules, strict=True)):
        broken = [symmetry for symmetry, name in report.culprits.items() if name == module.name]
        label.set_color(VERMILION if broken else BLACK)
        if broken:
            label.set_fontweight("bold")
            axes.annotate(
                f"breaks {', '.join(broken)}",
                (report.tol, row),
                xytext=(-6, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8,
                color=VERMILION,
            )


def _headline(report: Any) -> str:
    if report.passed:
        return f"Equivariant under {', '.join(report.symmetries)}"
    return f"First broken by {report.first_broken}"

"""Spherical channels of atoms: functions on the sphere, each drawn where it lies."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from geomeq.harmonics import spherical_harmonics
from geomeq.plot._figure import BLACK, GREY, new_figure, to_array
from geomeq.plot._projection import Array, looking_from
from geomeq.plot._scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXELS = 140
_AROUND, _DOWN = 64, 32  # pieces of a drawn surface
_TO_Z_UP = [2, 0, 1]  # columns (x, y, z) of e3nn, polar axis y, as (z, x, y), whose last one points upwards


def spherical_channels(
    x: Any,
    *,
    style: Literal["radius", "colour"] = "radius",
    channels: Sequence[int] | None = None,
    neighbours: Any = None,
    shared_scale: bool = False,
    columns: int = 6,
    most: int = 24,
    names: Sequence[str] | None = None,
    view: tuple[float, float] = (30.0, 20.0),
    title: str = "",
) -> "Figure":
    """Draws the channels of an atom, :math:`f_c(r) = sum_lm x_lmc Y_lm(r)`, as functions on the sphere.

    Red is positive, blue negative. The axes in the first picture are those of ``pos``; y, the polar axis of e3nn's
    harmonics, points upwards.

    Args:
        x: Coefficients of one atom, ``[(L + 1)^2, C]`` in e3nn's order, or of several by name, a row of pictures each.
        style: ``"radius"`` draws the surface at distance ``|f(r)|`` from the middle, ``"colour"`` a ball painted with
            ``f``.
        channels: Which channels; by default the first ones.
        neighbours: Vectors to neighbours, ``[K, 3]``, such as the ``edge_vec`` of the atom's edges (or several by the
            names of ``x``); drawn as lines from the middle, or as dots on the ball. Only directions count.
        shared_scale: Whether all pictures share one scale; by default each channel has its own, which is written above
            it.
        columns: Pictures in a row, for one atom.
        most: Channels at most.
        names: A name for each channel that is drawn.
        view: Angle of the eye about y, from z towards x, and its elevation, degrees.
        title: Title.

    Returns:
        The figure.

    Raises:
        ValueError: If the number of coefficients is no square, atoms differ in their channels, a channel does not
            exist, or a number is not finite.

    Example:
        >>> figure = spherical_channels(torch.randn(25, 8), neighbours=torch.randn(4, 3))
    """
    if columns < 1 or most < 1:
        raise ValueError(f"columns and most must be at least 1, got {columns} and {most}")
    if style not in ("radius", "colour"):
        raise ValueError(f"style must be 'radius' or 'colour', got {style!r}")
    atoms = _read_atoms(x)
    chosen = _choose(next(iter(atoms.values())).shape[1], channels, most)
    labels = [str(name) for name in names] if names is not None else [str(k) for k in chosen]
    if len(labels) < len(chosen):
        raise ValueError(f"names must have one entry for each of the {len(chosen)} channels, got {len(labels)}")
    lines = _read_neighbours(neighbours, atoms)

    figure, grid = _frame(len(atoms), len(chosen), columns, bool(title))
    for axes in grid.ravel():
        axes.set_axis_off()
    painter = _paint if style == "colour" else _surface
    places = iter(grid.ravel()) if len(atoms) == 1 else None
    for row, (atom, coefficients) in enumerate(atoms.items()):
        values, points = _evaluate(coefficients[:, chosen], style, view)
        sizes = np.nanmax(np.abs(values), axis=(0, 1))
        scale = np.full(len(chosen), sizes.max()) if shared_scale and len(atoms) == 1 else sizes
        if shared_scale and len(atoms) > 1:
            scale = np.full(len(chosen), _largest(atoms, chosen, style, view))
        for k, label in enumerate(labels[: len(chosen)]):
            axes = next(places) if places is not None else grid[row, k]
            painter(axes, values[..., k] / (scale[k] or 1.0), points, view)
            _rays(axes, lines[atom], view, whole=style == "radius")
            if row == k == 0:
                _triad(axes, view)
            _write(axes, label if row == 0 or len(atoms) == 1 else "", sizes[k], atom if k == 0 else "")
    count = next(iter(atoms.values())).shape[1]
    left = f"{len(chosen)} of {count} channels" if len(chosen) < count else ""
    heading = ", ".join(text for text in (title, left) if text)
    if heading:
        figure.suptitle(heading, x=0.02, ha="left", fontsize=10)
    return figure


def _read_atoms(x: Any) -> dict[str, Array]:
    atoms = {str(k): v for k, v in x.items()} if isinstance(x, Mapping) else {"": x}
    if not atoms:
        raise ValueError("there is nothing to draw: x is empty")
    arrays = {name: to_array(f"x {name}".rstrip(), value) for name, value in atoms.items()}
    for name, array in arrays.items():
        degrees = round(array.shape[0] ** 0.5) if array.ndim == 2 else 0
        if array.ndim != 2 or degrees**2 != array.shape[0]:
            raise ValueError(
                f"{f'x {name}'.rstrip()} must be [(L + 1)^2, C], the channels of one atom, got {list(array.shape)}; "
                "give several atoms by name"
            )
    if len({array.shape for array in arrays.values()}) > 1:
        raise ValueError(f"all atoms must have the same channels, got {[list(a.shape) for a in arrays.values()]}")
    return arrays


def _choose(count: int, channels: Sequence[int] | None, most: int) -> list[int]:
    if channels is None:
        return list(range(min(count, most)))
    chosen = [int(k) for k in channels]
    if not chosen or min(chosen) < 0 or max(chosen) >= count:
        raise ValueError(f"channels must be numbers from 0 to {count - 1}, got {chosen}")
    return chosen


def _read_neighbours(neighbours: Any, atoms: Mapping[str, Array]) -> dict[str, Array]:
    if neighbours is None:
        return dict.fromkeys(atoms, np.zeros((0, 3)))
    given = neighbours if isinstance(neighbours, Mapping) else dict.fromkeys(atoms, neighbours)
    found = {}
    for name in atoms:
        if name not in given:
            raise ValueError(f"neighbours must name every atom, got {sorted(map(str, given))} without {name}")
        vectors = to_array("neighbours", given[name])
        if vectors.ndim != 2 or vectors.shape[1] != 3:
            raise ValueError(f"neighbours must be vectors [K, 3], got {list(vectors.shape)}")
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        found[name] = vectors / np.where(length > 0, length, 1.0)
    return found


def _frame(atoms: int, channels: int, columns: int, titled: bool) -> tuple["Figure", Any]:
    rows, columns = (atoms, channels) if atoms > 1 else (-(-channels // columns), min(columns, channels))
    figure = new_figure(max(1.25 * columns + 0.3, 2.2), 1.42 * rows + 0.35)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _matrix(view: tuple[float, float]) -> Array:
    """Rows right, up, towards the eye; columns are (x, y, z) with y upwards."""
    matrix = np.empty((3, 3))
    matrix[:, _TO_Z_UP] = looking_from(*view)
    return matrix


def _evaluate(x: Array, style: str, view: tuple[float, float]) -> tuple[Array, Array]:
    """Values ``[H, W, C]`` and the directions ``[H, W, 3]`` they belong to; NaN beside the ball."""
    if style == "colour":
        line = (np.arange(_PIXELS) + 0.5) * 2 / _PIXELS - 1
        right, up = np.meshgrid(line, -line)
        square = 1 - right**2 - up**2
        points = np.stack([right, up, np.sqrt(np.maximum(square, 0))], axis=-1) @ _matrix(view)
        hidden = square <= 0
    else:
        angle, polar = np.meshgrid(np.linspace(0, 2 * np.pi, _AROUND + 1), np.linspace(0, np.pi, _DOWN + 1))
        points = np.stack([np.sin(polar) * np.sin(angle), np.cos(polar), np.sin(polar) * np.cos(angle)], axis=-1)
        hidden = np.zeros(angle.shape, dtype=bool)
    harmonics = spherical_harmonics(torch.from_numpy(points), round(len(x) ** 0.5) - 1).numpy()
    return np.where(hidden[..., None], np.nan, harmonics @ x), points


def _largest(atoms: Mapping[str, Array], chosen: list[int], style: str, view: tuple[float, float]) -> float:
    return max(float(np.nanmax(np.abs(_evaluate(x[:, chosen], style, view)[0]))) for x in atoms.values())


def _paint(axes: "Axes", values: Array, points: Array, view: tuple[float, float]) -> None:
    from matplotlib.patches import Circle

    axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, extent=(-1, 1, -1, 1), interpolation="bilinear")
    axes.add_patch(Circle((0, 0), 1, fill=False, ec=GREY, lw=0.7))
    _limits(axes)


def _surface(axes: "Axes", values: Array, points: Array, view: tuple[float, float]) -> None:
    from matplotlib import colormaps

    scene = Scene(view)
    place = (points * np.abs(values)[..., None])[..., _TO_Z_UP]
    corners = np.stack([place[:-1, :-1], place[1:, :-1], place[1:, 1:], place[:-1, 1:]], axis=2).reshape(-1, 4, 3)
    middle = (values[:-1, :-1] + values[1:, :-1] + values[1:, 1:] + values[:-1, 1:]).ravel() / 4
    # the sign is what counts: even small lobes get a colour that is seen
    shade = colormaps["RdBu_r"](0.5 + 0.5 * np.sign(middle) * (0.45 + 0.4 * np.abs(middle)))
    corners, shade = _triangles(corners, shade)
    scene.add_faces(corners, shade)
    if np.abs(values).max() > 0:
        scene.draw(axes)
    _limits(axes)


def _triangles(quads: Array, shade: Array) -> tuple[Array, Array]:
    """Two triangles for each quadrilateral: those at the poles have one side of length zero."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]), np.concatenate([shade, shade])


def _limits(axes: "Axes") -> None:
    axes.set_xlim(-1.12, 1.12)
    axes.set_ylim(-1.12, 1.12)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _rays(axes: "Axes", directions: Array, view: tuple[float, float], whole: bool) -> None:
    """Lines towards neighbours from the middle, behind the surface where they point away; on a ball their ends."""
    for right, up, out in directions @ _matrix(view).T:
        if whole:
            axes.plot([0, 1.1 * right], [0, 1.1 * up], color=BLACK, lw=0.8, zorder=3 if out > 0 else 0, alpha=0.8,
                      marker="o", markevery=[1], markersize=2.2)  # fmt: skip
        elif out > 0:
            axes.plot(right, up, linestyle="", color=BLACK, marker="o", markersize=3, zorder=3)


def _triad(axes: "Axes", view: tuple[float, float]) -> None:
    corner = np.array([-0.98, -0.98])
    for name, (right, up, _) in zip("xyz", _matrix(view).T, strict=True):
        tip, label = (corner + length * np.array([right, up]) for length in (0.24, 0.38))
        axes.plot([corner[0], tip[0]], [corner[1], tip[1]], color=GREY, lw=0.9, zorder=5)
        axes.text(float(label[0]), float(label[1]), name, fontsize=6, color=GREY, ha="center", va="center", zorder=5)


def _write(axes: "Axes", label: str, size: float, atom: str) -> None:
    axes.set_title(label, fontsize=8, color=GREY, pad=1)
    axes.text(0.97, 0.02, f"±{size:.2g}", transform=axes.transAxes, fontsize=6, color=GREY, ha="right", va="bottom")
    if atom:
        axes.text(-0.03, 0.5, atom, transform=axes.transAxes, fontsize=9, ha="right", va="center", rotation=90)

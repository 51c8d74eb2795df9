"""A molecule as balls and sticks, with an arrow at each atom where a vector belongs to it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch_geometric.data import Data

from geomeq.plot._figure import BLACK, GREY, ORANGE, new_figure, to_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SYMBOLS = re.findall(
    "[A-Z][a-z]?",  # by atomic number; X stands for what is unknown
    "XHHeLiBeBCNOFNeNaMgAlSiPSClArKCaScTiVCrMnFeCoNiCuZnGaGeAsSeBrKrRbSrYZrNbMoTcRuRhPdAgCdInSnSbTeIXeCsBa"
    "LaCePrNdPmSmEuGdTbDyHoErTmYbLuHfTaWReOsIrPtAuHgTlPbBiPoAtRn",
)
#: Corey-Pauling-Koltun colours. Red and green are made to differ in lightness, and the symbol stands on each ball.
_COLOURS = {
    "H": "#f4f4f4", "B": "#ffb5b5", "C": "#5a5a5a", "N": "#3050f8", "O": "#e02020", "F": "#8fe070", "Na": "#ab5cf2",
    "Mg": "#8aff00", "Al": "#bfa6a6", "Si": "#f0c8a0", "P": "#ff8000", "S": "#f5dc32", "Cl": "#7be85f", "K": "#8f40d4",
    "Ca": "#61d04f", "Fe": "#e06633", "Cu": "#c88033", "Zn": "#7d80b0", "Br": "#a62929", "I": "#940094",
}  # fmt: skip
_OTHER = "#d9a6d9"
#: Covalent radii in Angstrom: Cordero et al. (2008), https://doi.org/10.1039/b801115j
_RADII = {
    "H": 0.31, "He": 0.28, "Li": 1.28, "Be": 0.96, "B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "Ne": 0.58,
    "Na": 1.66, "Mg": 1.41, "Al": 1.21, "Si": 1.11, "P": 1.07, "S": 1.05, "Cl": 1.02, "Ar": 1.06, "K": 2.03,
    "Ca": 1.76, "Ti": 1.60, "Cr": 1.39, "Mn": 1.39, "Fe": 1.32, "Co": 1.26, "Ni": 1.24, "Cu": 1.32, "Zn": 1.22,
    "Se": 1.20, "Br": 1.20, "I": 1.39,
}  # fmt: skip
_STICK = 0.09  # half the width of a bond, Angstrom


@dataclass(frozen=True)
class _Item:
    depth: float
    draw: Callable[["Axes"], None]


def molecule(
    data: Data,
    vectors: Any = None,
    *,
    unit: str = "",
    bonds: str = "radii",
    scale: float | None = None,
    labels: bool = True,
    view: tuple[float, float] | None = None,
    title: str = "",
) -> "Figure":
    """Draws a molecule as balls and sticks, seen from afar, with arrows for a vector at each atom.

    Args:
        data: One molecule: ``pos`` (``[N, 3]``, Angstrom) and atomic numbers ``z`` (``[N]``).
        vectors: Name of an attribute (``"force"``) or a tensor, ``[N, 3]``; ``None`` draws no arrow.
        unit: Unit of the vectors, for the key.
        bonds: ``"radii"`` connects atoms closer than 1.25 times the sum of their covalent radii, ``"edges"``
            takes ``data.edge_index``, ``"none"`` draws none.
        scale: Length of an arrow, in Angstrom, for a vector of size 1. By default the longest arrow is 1.3
            Angstrom long.
        labels: Whether to write the symbol of the element on each atom but hydrogen.
        view: Azimuth (about z) and elevation of the eye, degrees. By default the eye looks along the direction in
            which the molecule is thinnest, a little from the side.
        title: Title; by default the formula.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no ``pos`` or ``z``, if a shape is wrong, or if ``data`` holds several graphs.
    """
    pos, z = _atoms(data)
    arrows = _vectors(data, vectors, len(pos))
    name = vectors if isinstance(vectors, str) else "vector"
    turn = _view_matrix(pos, view)
    screen = (pos - pos.mean(axis=0)) @ turn.T
    symbols = [element_symbol(k) for k in z]
    radii = np.array([_ball(s) for s in symbols])
    items = [_atom(screen[k], radii[k], symbols[k], labels) for k in range(len(z))]
    items += [_bond(screen[i], screen[j], radii[i], radii[j]) for i, j in _bonds(data, pos, symbols, bonds)]
    reach = [screen[:, :2] - radii[:, None], screen[:, :2] + radii[:, None]]
    factor = 0.0
    if arrows is not None and arrows.any():
        factor = scale if scale is not None else 1.3 / float(np.linalg.norm(arrows, axis=1).max())
        shown = arrows @ turn.T * factor
        starts = screen + radii[:, None] * shown / np.maximum(np.linalg.norm(shown, axis=1, keepdims=True), 1e-12)
        items += [_arrow(a, v) for a, v in zip(starts, shown, strict=True) if np.linalg.norm(v) > 0.02]
        reach.append((starts + shown)[:, :2])
    return _compose(items, np.concatenate(reach), symbols, title, _key(arrows, factor, name, unit))


def element_symbol(z: int) -> str:
    """The symbol of an element by its atomic number; X where there is none."""
    return _SYMBOLS[z] if 0 < z < len(_SYMBOLS) else "X"


def _atoms(data: Data) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(data, Data):
        raise TypeError(f"data must be a torch_geometric Data, got {type(data).__name__}")
    if data.get("pos") is None or data.get("z") is None:
        raise ValueError("a molecule needs data.pos [N, 3] and atomic numbers data.z [N]; one of them is missing")
    if data.get("batch") is not None and int(data.batch.max()) > 0:
        raise ValueError("data holds several graphs; draw one of them, batch[0]")
    pos, z = to_array("data.pos", data.pos), to_array("data.z", data.z).astype(int).ravel()
    if pos.ndim != 2 or pos.shape[1] != 3 or z.shape != pos.shape[:1]:
        raise ValueError(f"data.pos must be [N, 3] and data.z [N], got {list(pos.shape)} and {list(z.shape)}")
    return pos, z


def _vectors(data: Data, vectors: Any, atoms: int) -> np.ndarray | None:
    if vectors is None:
        return None
    if isinstance(vectors, str):
        if data.get(vectors) is None:
            raise ValueError(f"data has no attribute {vectors!r} to draw; it has {sorted(data.keys())}")
        vectors = data[vectors]
    arrows = to_array("vectors", vectors)
    if arrows.shape != (atoms, 3):
        raise ValueError(f"vectors must have shape [{atoms}, 3], got {list(arrows.shape)}")
    return arrows


def _view_matrix(pos: np.ndarray, view: tuple[float, float] | None) -> np.ndarray:
    """Rows: right, up, towards the eye."""
    if view is not None:
        azimuth, elevation = np.radians(view)
        out = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        return np.stack([right, np.cross(out, right), out])
    _, _, axes = np.linalg.svd(pos - pos.mean(axis=0), full_matrices=True)
    axes[2] = np.cross(axes[0], axes[1])  # no mirror image: a picture shows the right enantiomer
    # A little from the side and from above: seen exactly along an axis, atoms would hide each other.
    a, b = np.radians(20.0), np.radians(16.0)
    about_up = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_right = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return np.asarray(about_right @ about_up @ axes)


def _ball(symbol: str) -> float:
    return 0.14 + 0.32 * _RADII.get(symbol, 1.4)


def _bonds(data: Data, pos: np.ndarray, symbols: list[str], bonds: str) -> list[tuple[int, int]]:
    if bonds == "none":
        return []
    if bonds == "edges":
        if data.edge_index is None:
            raise ValueError("bonds='edges' needs data.edge_index; use bonds='radii'")
        return sorted({(min(i, j), max(i, j)) for i, j in data.edge_index.T.tolist() if i != j})
    if bonds != "radii":
        raise ValueError(f"bonds must be 'radii', 'edges' or 'none', got {bonds!r}")
    covalent = np.array([_RADII.get(s, 1.4) for s in symbols])
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=-1)
    near = distance < 1.25 * (covalent[:, None] + covalent[None])
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(near, k=1))]


def _atom(centre: np.ndarray, radius: float, symbol: str, labels: bool) -> _Item:
    def draw(axes: "Axes") -> None:
        from matplotlib.colors import to_rgb
        from matplotlib.patches import Circle

        base = np.array(to_rgb(_COLOURS.get(symbol, _OTHER)))
        edge = 0.45 * base
        axes.add_patch(
            Circle((centre[0], centre[1]), radius, facecolor=tuple(0.8 * base), edgecolor=tuple(edge), lw=0.9)
        )
        # Light from the upper left: ever smaller and lighter discs.
        steps = 14
        for k in range(1, steps + 1):
            t = k / steps
            shade = base * (0.8 + 0.2 * min(1.0, 2 * t)) + (1 - base) * 0.75 * max(0.0, 2 * t - 1) ** 2
            spot = (centre[0] - 0.3 * radius * t, centre[1] + 0.34 * radius * t)
            axes.add_patch(Circle(spot, 0.97 * radius * (1 - 0.92 * t), facecolor=tuple(shade.clip(0, 1)), lw=0))
        if labels and symbol != "H":
            dark = float(base @ (0.299, 0.587, 0.114)) < 0.55
            axes.text(
                centre[0], centre[1] - 0.02, symbol, ha="center", va="center", fontsize=8, fontweight="bold",
                color="white" if dark else BLACK, zorder=1, clip_on=True,
            )  # fmt: skip

    return _Item(float(centre[2]), draw)


def _bond(a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float) -> _Item:
    direction = (b - a) / max(float(np.linalg.norm(b - a)), 1e-12)
    start, end = a + 0.9 * radius_a * direction, b - 0.9 * radius_b * direction  # from surface to surface

    def draw(axes: "Axes") -> None:
        for width, colour in ((1.0, "#6e6e6e"), (0.78, "#a4a4a4"), (0.4, "#d2d2d2")):
            _strip(axes, start[:2], end[:2], width * _STICK, colour)

    return _Item(float((a[2] + b[2]) / 2), draw)


def _strip(axes: "Axes", start: np.ndarray, end: np.ndarray, half: float, colour: str) -> None:
    from matplotlib.patches import Polygon

    along = end - start
    length = float(np.linalg.norm(along))
    if length < 1e-6:
        return
    side = half * np.array([-along[1], along[0]]) / length
    axes.add_patch(Polygon([start + side, end + side, end - side, start - side], facecolor=colour, lw=0))


def _arrow(start: np.ndarray, vector: np.ndarray) -> _Item:
    def draw(axes: "Axes") -> None:
        from matplotlib.patches import Polygon

        axes.add_patch(Polygon(_arrow_outline(start[:2], vector), facecolor=ORANGE, edgecolor="#5c4000", lw=0.7))

    return _Item(float(start[2] + vector[2] / 2), draw)


def _arrow_outline(start: np.ndarray, vector: np.ndarray) -> np.ndarray:
    flat = vector[:2]
    length, full = float(np.linalg.norm(flat)), float(np.linalg.norm(vector))
    along = flat / max(length, 1e-9)
    side = np.array([-along[1], along[0]])
    head = min(0.3, 0.55 * full) * length / max(full, 1e-9)  # foreshortened with the shaft
    half, wide = min(0.05, 0.11 * full), min(0.14, 0.28 * full)
    neck, tip = start + (length - head) * along, start + flat
    shaft = [start + half * side, neck + half * side, neck + wide * side, tip]
    return np.array([*shaft, neck - wide * side, neck - half * side, start - half * side])


def _key(arrows: np.ndarray | None, factor: float, name: str, unit: str) -> tuple[float, str] | None:
    """Length, in Angstrom on the page, and text of the arrow in the key."""
    if arrows is None or factor == 0:
        return None
    longest = float(np.linalg.norm(arrows, axis=1).max())
    size = float(f"{longest:.1g}")
    size = size if size <= 1.2 * longest else size / 2
    return size * factor, f"{name} {size:g} {unit}".rstrip()


def _compose(
    items: list[_Item], reach: np.ndarray, symbols: list[str], title: str, key: tuple[float, str] | None
) -> "Figure":
    low, high = reach.min(axis=0) - 0.35, reach.max(axis=0) + 0.35
    low[1] -= 0.75  # the scale stands below
    if key is not None:
        high[0] = max(high[0], low[0] + 2.2 + key[0] + 1.6)
    width, height = high - low
    figure = new_figure(*_size(width, height))
    axes = figure.add_subplot()
    for item in sorted(items, key=lambda item: item.depth):  # the nearest is drawn last
        item.draw(axes)
    _scale_bar(axes, low + np.array([0.3, 0.35]), key)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title or _formula(symbols), loc="left", fontsize=11)
    _legend(axes, symbols)
    return figure


def _size(width: float, height: float) -> tuple[float, float]:
    scale = min(0.75, 7.0 / width, 6.0 / height)
    return max(3.2, width * scale + 0.9), max(2.2, height * scale + 0.4)


def _scale_bar(axes: "Axes", corner: np.ndarray, key: tuple[float, str] | None) -> None:
    from matplotlib.patches import Polygon

    axes.plot([corner[0], corner[0] + 1], [corner[1], corner[1]], color=BLACK, lw=2, solid_capstyle="butt")
    axes.text(corner[0] + 0.5, corner[1] - 0.1, "1 Å", ha="center", va="top", fontsize=8, color=BLACK)
    if key is not None:
        start = corner + np.array([1.6, 0.0])
        axes.add_patch(
            Polygon(_arrow_outline(start, np.array([key[0], 0.0, 0.0])), facecolor=ORANGE, edgecolor="#5c4000", lw=0.7)
        )
        axes.text(start[0] + key[0] + 0.12, start[1], key[1], va="center", fontsize=8, color=BLACK)


def _legend(axes: "Axes", symbols: list[str]) -> None:
    from matplotlib.lines import Line2D

    present = sorted(set(symbols), key=_SYMBOLS.index)
    marks = [
        Line2D([], [], linestyle="", marker="o", markersize=8, markerfacecolor=_COLOURS.get(s, _OTHER),
               markeredgecolor=GREY, label=s)
        for s in present
    ]  # fmt: skip
    axes.legend(handles=marks, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)


def _formula(symbols: list[str]) -> str:
    """Carbon, hydrogen, then the rest by the alphabet (Hill's order); without carbon all by the alphabet."""
    rest = sorted(set(symbols) - {"C", "H"}) if "C" in symbols else sorted(set(symbols))
    order = ([s for s in ("C", "H") if s in symbols] if "C" in symbols else []) + rest
    count = {s: symbols.count(s) for s in order}
    return "".join(s + (f"$_{{{n}}}$" if n > 1 else "") for s, n in count.items())

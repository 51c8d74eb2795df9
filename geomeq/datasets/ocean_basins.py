"""Which ocean is it? A semantic segmentation of the whole earth from what is to be seen there."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch_geometric.data import Data

from geomeq.datasets import _earth
from geomeq.datasets._external import ExternalFile
from geomeq.datasets._globe import Domain, GlobeDataset, draw_rotations, read_domain, shown_places
from geomeq.datasets._images import check_split
from geomeq.datasets._latlon import LatLon
from geomeq.datasets.monthly_climate import check_months, climate_at

FILE = ExternalFile(
    "ocean_basins",
    "ocean_basins_1deg.npz",
    {"basin": (33, 180, 360)},
    "uint8",
    "b5f98fd36b32ab2e6b660ab2e2d363963078ad34a3efc2f9cc026f89d3166a0b",
    "It is basin_mask.nc, which xarray.tutorial.load_dataset('basin_mask') fetches (NOAA World Ocean Atlas 2009, "
    "public domain): array basin, depth by depth, south first, from longitude 0, with 0 where there is no water.",
)
_GRID = LatLon.cells(180, 360, west=0.0)
_OCEANS = {1: "Atlantic Ocean", 2: "Pacific Ocean", 3: "Indian Ocean", 10: "Southern Ocean", 11: "Arctic Ocean"}
_SEAS = {
    4: "Mediterranean Sea", 5: "Baltic Sea", 6: "Black Sea", 7: "Red Sea", 8: "Persian Gulf", 9: "Hudson Bay",
    12: "Sea of Japan", 53: "Caspian Sea", 56: "Bay of Bengal",
}  # fmt: skip
_MONTHS = {"train": (0, 1, 3, 4, 6, 7, 9, 10), "test": (2, 5, 8, 11)}
_DEFAULT_ROTATIONS = {"train": 8, "test": 4}


class OceanBasins(GlobeDataset):
    """Name the ocean at every place of a turned earth, by relief, coasts and climate: nothing says where a node is.

    A sample is a month on a turned earth. Input ``x`` ``[S, N, 8]``: the height in units of 2 km, 1 on land and 0 at
    sea, the six climate channels of :class:`MonthlyClimate` (temperature of sea and air, pressure, and where each is
    known); noise is added to all but the flags. Target ``y`` ``[S, N]``: the class of the place at the surface, -1
    where it does not count.

    There is one earth, and a basin is its place on it: a network has to recognise the map, under rotation, noise and in
    months that it was not trained on. Training uses eight months, testing March, June, September and December. Whether
    it would read another planet is not what this measures; to measure equivariance, train with ``rotation="none"`` and
    test with ``"random"``.

    Attributes:
        graph: The domain, with ``pos`` and ``area``, and edges if it was given with them.
        classes: ``"land"``, ``"Atlantic Ocean"``, ...; land is the background in :meth:`miou`.
        month: Of the samples, 0 to 11, ``[S]``.
        rotation: ``[S, 3, 3]``, float64: node ``p`` shows the place ``rotation^T p`` of the earth.

    Args:
        sampling: Points with areas: a :class:`geomeq.spheres.Sampling`, whole or a part, or a graph (``Data`` with
            ``pos`` and ``area``); default: HEALPix with 3,072 nodes.
        split: ``"train"`` or ``"test"``.
        seas: Whether smaller basins (Mediterranean, Hudson Bay, ...) are classes of their own; else they do not count.
        months: Which, from 0; default: those of the split.
        rotation: Of the globe: ``"none"``, ``"z"`` (about the poles) or ``"random"``.
        rotations: How many; each is used for every month; default: 8 for training, 4 for testing.
        noise: Standard deviation of the noise.
        seed: Of rotations and noise; training and test differ.
        root: Folder with ``raw/``, where the file is looked for after ``GEOMEQ_DATA``.
        transform: Applied to a sample ``Data(x=[N, 8], y=[N])`` at every access.

    Raises:
        FileNotFoundError: If the file is not to be found; the message says how to get it.
        TypeError: If ``sampling`` is no sampling and no graph.
        ValueError: If an argument is out of range, or a file is damaged.

    Licence: public domain (NOAA, World Ocean Atlas 2009). The file does not come with geomeq.
    """

    def __init__(
        self,
        sampling: Domain = None,
        split: Literal["train", "test"] = "train",
        seas: bool = False,
        months: Sequence[int] | None = None,
        rotation: Literal["none", "z", "random"] = "random",
        rotations: int | None = None,
        noise: float = 0.1,
        seed: int = 0,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_MONTHS)
        chosen = check_months(_MONTHS[split] if months is None else months)
        if not (noise >= 0 and math.isfinite(noise)):
            raise ValueError(f"noise must be finite and not negative, got {noise}")
        label, classes = _classes(FILE.read(root)["basin"], seas)
        graph, points = read_domain(sampling)
        turn = draw_rotations(rotation, _DEFAULT_ROTATIONS[split] if rotations is None else rotations, seed, split)
        place = shown_places(points, turn)
        land, height = _earth.read_earth()
        fixed = np.stack([_earth.GRID.bilinear(height / 2000, place), _earth.GRID.nearest(land, place)], axis=-1)
        climate = climate_at(place, chosen)[1]  # [R, M, N, 6]
        fixed_x = torch.from_numpy(fixed)[:, None].expand(-1, len(chosen), -1, -1)
        x = torch.cat([fixed_x, climate], dim=-1).flatten(0, 1)
        random = torch.Generator().manual_seed(2 * seed + (split == "test") + 1_000_003)
        shaken = torch.tensor([1.0, 0, 1, 1, 1, 0, 0, 0], dtype=x.dtype)
        x = x + noise * shaken * torch.randn(x.shape, generator=random, dtype=x.dtype)
        y = torch.from_numpy(_GRID.nearest(label, place)).repeat_interleave(len(chosen), 0)
        self.split, self.month = split, torch.tensor(chosen).repeat(len(turn))
        turn = turn.repeat_interleave(len(chosen), 0)
        super().__init__(graph, x.to(graph.pos), y, turn, None, classes, transform)


def _classes(basin: np.ndarray, seas: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class of each cell at the surface, ``[180, 360]``, north first, int64, and the names."""
    kept = _OCEANS | (_SEAS if seas else {})
    table = np.full(256, -1, dtype=np.int64)
    table[[0, *kept]] = np.arange(len(kept) + 1)
    return table[basin[0, ::-1]], ("land", *kept.values())

"""Tropical cyclones and atmospheric rivers: the user's own copy of ClimateNet."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geomeq.datasets._cached import cache_root
from geomeq.datasets._globe import Domain, read_domain
from geomeq.datasets._images import check_split
from geomeq.datasets._latlon import LatLon, Lookup
from geomeq.datasets._netcdf import read_variables

#: The variables of the published files and their units.
VARIABLES = {
    "TMQ": "kg/m^2", "U850": "m/s", "V850": "m/s", "UBOT": "m/s", "VBOT": "m/s", "QREFHT": "kg/kg", "PS": "Pa",
    "PSL": "Pa", "T200": "K", "T500": "K", "PRECT": "m/s", "TS": "K", "TREFHT": "K", "Z1000": "m", "Z200": "m",
    "ZBOT": "m",
}  # fmt: skip
_GET = (
    "ClimateNet is published at https://portal.nersc.gov/project/ClimateNet/ (folders train and test, a file for each "
    "labelled map)"
)
_CLASSES = ("background", "tropical cyclone", "atmospheric river")


class ClimateNet(Dataset[Data]):
    """Maps of the atmosphere in which experts outlined tropical cyclones and atmospheric rivers.

    A reader for your own copy of the published files: netCDF, one map each, on 768 x 1152 latitudes and longitudes, 16
    variables of the climate model CAM5.1 and ``LABELS`` (0 background, 1 tropical cyclone, 2 atmospheric river). It was
    tested on files of that format made for the purpose, never on the published ones. Any other regular grid of
    latitude and longitude over the whole globe does as well. A file is read when its sample is asked for; nothing is
    kept.

    Sample: ``x`` ``[N, C]``, bilinear between grid points, ``y`` ``[N]``, that of the nearest grid point, int64.
    Components of wind (U850, V850, ...) stay eastward and northward, each interpolated by itself, which is wrong within
    a grid step of the poles. A gap is NaN.

    Attributes:
        graph: The domain, with ``pos`` and ``area``, and edges if it was given with them.
        files: One for each sample, sorted by name; several may be labels of one map by different experts.
        classes: Names of the labels.

    Args:
        sampling: Points with areas: a :class:`geomeq.spheres.Sampling`, whole or a part, or a graph (``Data`` with
            ``pos`` and ``area``); default: HEALPix with 3,072 nodes.
        split: ``"train"`` or ``"test"``: the folder below ``raw/``.
        variables: The channels; see :data:`VARIABLES` for names and units.
        statistics: Mean and standard deviation of each variable, which is subtracted and divided by: the
            :meth:`statistics` of the training set, for both splits. ``None``: values in their units.
        labelled: Whether files have ``LABELS``.
        root: Folder with ``raw/train`` and ``raw/test``; default: ``climatenet`` in ``$GEOMEQ_CACHE`` or
            ``~/.cache/geomeq``.
        transform: Applied to a sample ``Data(x=[N, C], y=[N])`` at every access.

    Raises:
        FileNotFoundError: If there is no file; the message says where to put them.
        TypeError: If ``sampling`` is no sampling and no graph.
        ValueError: If an argument is out of range. On access: if a file is damaged, lacks a variable, has another
            grid than the first, or labels that are none.
        ImportError: On access, if files are netCDF-4 and the package netCDF4 is not installed.

    Source: Prabhat et al. (2021), https://doi.org/10.5194/gmd-14-107-2021 (see there for the licence of the data)
    """

    def __init__(
        self,
        sampling: Domain = None,
        split: str = "train",
        variables: Sequence[str] = ("TMQ", "U850", "V850", "PSL"),
        statistics: Mapping[str, tuple[float, float]] | None = None,
        labelled: bool = True,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, "train", "test")
        self.split, self.variables, self.labelled = split, _check_variables(variables), labelled
        self.folder = (Path(root) if root is not None else cache_root() / "climatenet") / "raw" / split
        self.files = tuple(sorted(self.folder.glob("*.nc"))) if self.folder.is_dir() else ()
        if not self.files:
            found = "has no file *.nc" if self.folder.is_dir() else "is not there"
            raise FileNotFoundError(f"{self.folder} {found}. {_GET}; put them there, or give another root")
        self._scale = _check_statistics(statistics, self.variables)
        self.graph, points = read_domain(sampling)
        self._points, self.classes, self.transform = points.numpy(), _CLASSES, transform
        self._grid: tuple[np.ndarray, np.ndarray, LatLon] | None = None
        self._lookup: Lookup | None = None

    @property
    def area(self) -> Tensor:
        """Solid angle of each node, ``[N]``, float64: for :func:`weighted_iou` and :func:`weighted_f1`."""
        return self.graph.area.double()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be within {len(self)} samples, got {index}")
        grid, fields, labels = self.read(self.files[index])
        if self._lookup is None or self._lookup.grid is not grid:
            self._lookup = Lookup(grid, self._points)
        x = torch.from_numpy(self._lookup.bilinear(fields).T)
        if self._scale is not None:
            x = (x - self._scale[0]) / self._scale[1]
        sample = Data(x=x.to(self.graph.pos))
        if labels is not None:
            sample.y = torch.from_numpy(self._lookup.nearest(labels))
        return sample if self.transform is None else self.transform(sample)

    def __iter__(self) -> Iterator[Data]:
        return (self[index] for index in range(len(self)))

    def statistics(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation of each variable over the sphere (by area) and all files; reads every file.

        Gaps do not count. Take those of the training set for both splits.

        Raises:
            ValueError: If a variable is constant.
        """
        total = np.zeros((3, len(self.variables)))
        first: np.ndarray | None = None
        for path in self.files:
            grid, fields, _ = self.read(path, labels=False)
            weight = np.isfinite(fields) * grid.row_area[:, None]
            if first is None:  # moments about a value near the mean: those about 0 would lose pressure's digits
                first = np.nanmean(fields.astype(np.float64), axis=(1, 2))
            off = np.nan_to_num(fields - first[:, None, None])
            total += np.stack([weight.sum((1, 2)), (off * weight).sum((1, 2)), (off**2 * weight).sum((1, 2))])
        mean = total[1] / total[0]
        spread = np.sqrt(np.maximum(total[2] / total[0] - mean**2, 0))
        flat = [name for name, value in zip(self.variables, spread, strict=True) if not value > 0]
        if flat:
            raise ValueError(f"{', '.join(flat)} must vary to be normalised, but is constant in {self.folder}")
        moments = zip(self.variables, mean + first, spread, strict=True)
        return {name: (float(m), float(s)) for name, m, s in moments}

    def read(self, path: Path, labels: bool | None = None) -> tuple[LatLon, np.ndarray, np.ndarray | None]:
        """One file: its grid, its variables ``[C, R, W]``, north first, and its labels ``[R, W]``, int64.

        Args:
            path: The file.
            labels: Whether to read labels; default: if this set has them.

        Raises:
            ValueError: If the file is damaged, lacks a variable, or has another grid than the first one.
            ImportError: If the file is netCDF-4 and the package netCDF4 is not installed.
        """
        wanted = self.labelled if labels is None else labels
        names = ("lat", "lon", *self.variables, *(("LABELS",) if wanted else ()))
        stored = read_variables(path, names)
        north, grid = self._check_grid(path, stored["lat"], stored["lon"])
        shape = (len(stored["lat"]), len(stored["lon"]))
        maps = {name: _map(path, name, stored[name], shape)[:: 1 if north else -1] for name in names[2:]}
        fields = np.stack([maps[name] for name in self.variables])
        return grid, fields, _check_labels(path, maps["LABELS"]) if wanted else None

    def _check_grid(self, path: Path, lat: np.ndarray, lon: np.ndarray) -> tuple[bool, LatLon]:
        """Whether north is first, and the grid with north first."""
        lat, lon = lat.astype(np.float64), lon.astype(np.float64)
        if self._grid is None:
            self._grid = lat, lon, _global_grid(path, lat, lon)
        elif not (np.array_equal(lat, self._grid[0]) and np.array_equal(lon, self._grid[1])):
            raise ValueError(
                f"{path} must have the grid of the file that was read first, {len(self._grid[0])} x "
                f"{len(self._grid[1])} latitudes and longitudes, got {len(lat)} x {len(lon)} or other values"
            )
        return bool(lat[0] > lat[-1]), self._grid[2]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)}, split={self.split!r}, nodes={len(self._points)})"


def _check_variables(variables: Sequence[str]) -> tuple[str, ...]:
    chosen = (variables,) if isinstance(variables, str) else tuple(variables)
    if not chosen or len(set(chosen)) < len(chosen) or not all(isinstance(name, str) for name in chosen):
        raise ValueError(f"variables must be different names, at least one, such as 'TMQ', got {variables!r}")
    return chosen


def _check_statistics(
    statistics: Mapping[str, tuple[float, float]] | None, variables: tuple[str, ...]
) -> tuple[Tensor, Tensor] | None:
    """Means and standard deviations in the order of the variables, float64, ``[C]`` each."""
    if statistics is None:
        return None
    missing = [name for name in variables if name not in statistics]
    if missing:
        raise ValueError(
            f"statistics must name every variable, {', '.join(missing)} missing; take those of a training set with the "
            "same variables: train.statistics()"
        )
    mean, spread = torch.tensor([statistics[name] for name in variables], dtype=torch.float64).unbind(1)
    if not bool(mean.isfinite().all() and spread.isfinite().all() and (spread > 0).all()):
        raise ValueError(f"statistics must be finite, standard deviations positive, got {dict(statistics)}")
    return mean, spread


def _global_grid(path: Path, lat: np.ndarray, lon: np.ndarray) -> LatLon:
    """The grid of a file, north first, from its coordinates in degrees."""
    step = 360 / max(len(lon), 1)
    regular = lat.ndim == lon.ndim == 1 and len(lat) > 1 and len(lon) > 2
    regular = regular and np.abs(lat).max() <= 90 + 1e-6 and np.allclose(np.diff(lon), step, atol=1e-3 * step)
    if not regular or not (np.all(np.diff(lat) > 0) or np.all(np.diff(lat) < 0)):
        raise ValueError(
            f"lat and lon in {path} must be degrees of a grid over the whole globe: latitudes in order, longitudes "
            "in equal steps eastward all the way round, without the first repeated"
        )
    colatitude = np.radians(90 - np.sort(lat)[::-1])
    return LatLon(np.clip(colatitude, 0, np.pi), math.radians(float(lon[0])), len(lon))


def _map(path: Path, name: str, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """One map ``[R, W]``; a leading axis of length 1 (time) is dropped."""
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.shape != shape:
        raise ValueError(
            f"{name} in {path} must have shape [{shape[0]}, {shape[1]}] (lat, lon), or that behind one time, got "
            f"{list(values.shape)}; split files of several times"
        )
    return values


def _check_labels(path: Path, labels: np.ndarray) -> np.ndarray:
    known = np.isin(labels, (0, 1, 2))
    if not known.all():
        raise ValueError(f"LABELS in {path} must be 0, 1 or 2, got {np.unique(labels[~known])[:5].tolist()}")
    return np.ascontiguousarray(labels).astype(np.int64)

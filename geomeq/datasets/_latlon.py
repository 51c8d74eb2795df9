"""Maps of latitude and longitude: values between their points, near the poles, and beside gaps."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from geomeq.spheres import Resampler, Rings, Sampling

_Missing = Literal["propagate", "renormalise"]
_Method = Literal["linear", "nearest"]
_CHUNK = 1 << 20  # points resampled at once


@dataclass(frozen=True, eq=False)
class LatLon:
    """Where the values of a map ``[..., R, C]`` belong: rows from north to south, columns eastward all the way round.

    Args:
        colatitude: Of the rows, radians, increasing, ``[R]``.
        west: Longitude of column 0, radians.
        columns: ``C``.
    """

    colatitude: np.ndarray
    west: float
    columns: int

    @classmethod
    def cells(cls, rows: int, columns: int, west: float = -math.pi) -> "LatLon":
        """Centres of equal cells of angle, the western edge of column 0 at ``west``."""
        return cls(np.pi * (np.arange(rows) + 0.5) / rows, west + math.pi / columns, columns)

    @cached_property
    def longitude(self) -> np.ndarray:
        """Of the columns, radians, ``[C]``."""
        return self.west + 2 * math.pi / self.columns * np.arange(self.columns)

    @cached_property
    def row_area(self) -> np.ndarray:
        """Solid angle of a point of each row, whose cell ends half-way to its neighbours, ``[R]``."""
        edges = np.concatenate([[0.0], (self.colatitude[1:] + self.colatitude[:-1]) / 2, [np.pi]])
        return np.asarray(-np.diff(np.cos(edges)) * 2 * np.pi / self.columns)

    @cached_property
    def sampling(self) -> Sampling:
        """The points as a sampling, node ``row * C + column``."""
        theta, phi = np.broadcast_arrays(self.colatitude[:, None], self.longitude)
        pole = (theta < 1e-9) | (theta > np.pi - 1e-9)
        sin = np.where(pole, 0.0, np.sin(theta))
        pos = np.stack([sin * np.cos(phi), sin * np.sin(phi), np.cos(theta)], axis=-1).reshape(-1, 3)
        rows = len(self.colatitude)
        rings = Rings(
            torch.from_numpy(self.colatitude.copy()),
            torch.full((rows,), self.columns),
            torch.full((rows,), self.west, dtype=torch.float64),
            torch.arange(rows * self.columns),
        )
        return Sampling(
            "latlon", torch.from_numpy(pos), torch.from_numpy(self.row_area.repeat(self.columns)), None, rings
        )

    def bilinear(self, fields: np.ndarray, points: np.ndarray) -> np.ndarray:
        """See :meth:`Lookup.bilinear`."""
        return Lookup(self, points, keep=False).bilinear(fields)

    def beside_gaps(self, fields: np.ndarray, points: np.ndarray) -> np.ndarray:
        """See :meth:`Lookup.beside_gaps`."""
        return Lookup(self, points, keep=False).beside_gaps(fields)

    def nearest(self, fields: np.ndarray, points: np.ndarray) -> np.ndarray:
        """See :meth:`Lookup.nearest`."""
        return Lookup(self, points, keep=False).nearest(fields)

    def vectors(self, east: np.ndarray, north: np.ndarray) -> np.ndarray:
        """Tangent vectors of space from components, ``[..., 3, R, C]``: near a pole only these can be interpolated."""
        up, lon = np.pi / 2 - self.colatitude[:, None], self.longitude[None]
        zero = np.zeros((len(self.colatitude), self.columns))
        e = np.stack([-np.sin(lon) + zero, np.cos(lon) + zero, zero])
        n = np.stack([-np.sin(up) * np.cos(lon), -np.sin(up) * np.sin(lon), np.cos(up) + zero])
        return np.asarray(east[..., None, :, :] * e + north[..., None, :, :] * n)


class Lookup:
    """Points whose values are looked up in maps of one kind.

    Args:
        grid: Of the maps.
        points: Unit vectors ``[*P, 3]``.
        keep: Whether what is computed about the points is kept for the next map.
    """

    def __init__(self, grid: LatLon, points: np.ndarray, keep: bool = True) -> None:
        self.grid, self.shape = grid, points.shape[:-1]
        self._points = torch.from_numpy(np.ascontiguousarray(points, dtype=np.float64)).reshape(-1, 3)
        self._kept: dict[str, list[Resampler]] | None = {} if keep else None

    def bilinear(self, fields: np.ndarray) -> np.ndarray:
        """As ``method="linear"`` of :class:`geomeq.spheres.Resampler`: across the seam and the poles, too.

        A pole has the mean of the row there or beside it.

        Args:
            fields: ``[..., R, C]``.

        Returns:
            ``[..., *P]``, float64; NaN where a NaN is read.
        """
        return self._resample(fields, "propagate")

    def beside_gaps(self, fields: np.ndarray) -> np.ndarray:
        """As :meth:`bilinear`, from the known values alone; NaN where these have less than half of the weight.

        Args:
            fields: ``[..., R, C]``, NaN in gaps.
        """
        return self._resample(fields, "renormalise")

    def nearest(self, fields: np.ndarray) -> np.ndarray:
        """The value of the nearest point of the map, ``[..., *P]``, in the dtype of ``fields``."""
        flat = fields.reshape(*fields.shape[:-2], -1)
        found = [r.matrix().indices for r in self._resamplers("nearest")]
        return np.asarray(flat[..., np.concatenate(found)]).reshape(*fields.shape[:-2], *self.shape)

    def _resample(self, fields: np.ndarray, missing: _Missing) -> np.ndarray:
        columns = torch.from_numpy(fields.astype(np.float64)).reshape(-1, self.grid.sampling.num_nodes).T
        found = [r(columns, missing) for r in self._resamplers("linear")]
        return torch.cat(found).T.numpy().reshape(*fields.shape[:-2], *self.shape)

    def _resamplers(self, method: _Method) -> Iterable[Resampler]:
        if self._kept is None:
            return self._make(method)
        if method not in self._kept:
            self._kept[method] = list(self._make(method))
        return self._kept[method]

    def _make(self, method: _Method) -> Iterator[Resampler]:
        for part in self._points.split(_CHUNK):
            target = Sampling("scattered", part, torch.ones(len(part), dtype=torch.float64))
            yield Resampler(self.grid.sampling, target, method)

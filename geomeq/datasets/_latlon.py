"""Maps of latitude and longitude: values between their points, near the poles, and beside gaps."""

import math
from dataclasses import dataclass

import numpy as np


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

    def bilinear(self, fields: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Bilinear in latitude and longitude, continuous across the seam and at the poles.

        A pole that is no row has the mean of the row beside it.

        Args:
            fields: ``[..., R, C]``.
            points: Unit vectors ``[*P, 3]``.

        Returns:
            ``[..., *P]``, float64.
        """
        rows, padded = self._with_poles(fields)
        down, across = self._place(points)
        row = np.clip(np.searchsorted(rows, down, side="right") - 1, 0, len(rows) - 2)
        v = np.clip((down - rows[row]) / (rows[row + 1] - rows[row]), 0, 1)
        column = np.floor(across).astype(np.int64)
        u, low, high = across - column, column % self.columns, (column + 1) % self.columns
        top = padded[..., row, low] * (1 - u) + padded[..., row, high] * u
        bottom = padded[..., row + 1, low] * (1 - u) + padded[..., row + 1, high] * u
        return np.asarray(top * (1 - v) + bottom * v)

    def beside_gaps(self, fields: np.ndarray, points: np.ndarray) -> np.ndarray:
        """As :meth:`bilinear`, from the known values alone; NaN where these have less than half of the weight.

        Args:
            fields: ``[..., R, C]``, NaN in gaps.
            points: Unit vectors ``[*P, 3]``.
        """
        known = np.isfinite(fields)
        weight = self.bilinear(known.astype(np.float64), points)
        total = self.bilinear(np.where(known, fields, 0.0), points)
        return np.where(weight >= 0.5, total / np.maximum(weight, 0.5), np.nan)

    def nearest(self, fields: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The value of the nearest row and, in it, the nearest column, ``[..., *P]``, in the dtype of ``fields``."""
        down, across = self._place(points)
        middle = (self.colatitude[1:] + self.colatitude[:-1]) / 2
        row, column = np.searchsorted(middle, down), np.round(across).astype(np.int64) % self.columns
        return np.asarray(fields[..., row, column])

    def vectors(self, east: np.ndarray, north: np.ndarray) -> np.ndarray:
        """Tangent vectors of space from components, ``[..., 3, R, C]``: near a pole only these can be interpolated."""
        up = np.pi / 2 - self.colatitude[:, None]
        lon = (self.west + 2 * math.pi / self.columns * np.arange(self.columns))[None]
        zero = np.zeros((len(self.colatitude), self.columns))
        e = np.stack([-np.sin(lon) + zero, np.cos(lon) + zero, zero])
        n = np.stack([-np.sin(up) * np.cos(lon), -np.sin(up) * np.sin(lon), np.cos(up) + zero])
        return np.asarray(east[..., None, :, :] * e + north[..., None, :, :] * n)

    def _with_poles(self, fields: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colatitudes and values of the rows, a constant row added at a pole that is none."""
        rows, parts = self.colatitude, [fields]
        if rows[0] > 1e-9:
            rows, parts = np.append(0.0, rows), [_constant(fields, 0), *parts]
        if rows[-1] < np.pi - 1e-9:
            rows, parts = np.append(rows, np.pi), [*parts, _constant(fields, -1)]
        return rows, np.concatenate(parts, axis=-2)

    def _place(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colatitude in radians, and longitude in columns from the first."""
        x, y, z = np.moveaxis(points, -1, 0)
        across = (np.arctan2(y, x) - self.west) * (self.columns / (2 * math.pi))
        return np.arctan2(np.hypot(x, y), z), across


def _constant(fields: np.ndarray, row: int) -> np.ndarray:
    return np.broadcast_to(fields[..., row, :].mean(-1)[..., None, None], (*fields.shape[:-2], 1, fields.shape[-1]))

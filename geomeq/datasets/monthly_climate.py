"""Sea surface temperature, air temperature and pressure of each month: fields with gaps, and the relief behind them."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets import _earth
from geomeq.datasets._globe import Domain, GlobeDataset, counted_places, draw_rotations, read_domain, shown_places
from geomeq.datasets._images import check_split
from geomeq.datasets._latlon import LatLon
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled

_GRID = LatLon.cells(90, 180)
_GAP = -32_768
_UNITS = {"sea": (0.0, 0.01), "air": (0.0, 0.01), "pressure": (1000.0, 0.1)}
_DEFAULT_SAMPLES = {"train": 8, "test": 4}


class MonthlyClimate(GlobeDataset):
    """Means of each calendar month over the sea, with gaps: guess the height of land and sea floor behind them.

    A sample is a month on a turned earth (or, with ``stack``, all months on it). Like depth from pictures, the task is
    a regression on incomplete inputs. Input ``x`` ``[S, N, 6]``: temperature of the sea surface, of the air and
    pressure, each less its mean and divided by its standard deviation over the sea and the year, 0 in gaps; then for
    each of the three 1 where it is known and 0 in gaps. With ``stack`` ``[S, N, 6 * months]``: first all values, month
    by month, then all flags. Target ``y`` ``[S, N, 1]``: the height in km.

    Gaps are land, and sea where no ships went; so they tell most of the coast. Splits are those of
    :class:`EarthTopography`: ``holdout`` keeps every third sector of 30 degrees of longitude for testing, inputs are
    seen everywhere.

    Attributes:
        graph: The domain, with ``pos`` and ``area``, and edges if it was given with them.
        fields: Temperatures in degrees Celsius and pressure in hPa, NaN in gaps, ``[S, N, 3]``; with ``stack``
            ``[S, N, 3 * months]``.
        month: Of the samples, 0 to 11, ``[S]``; with ``stack`` -1.
        counted: Where targets count, ``[S, N]``, bool.
        rotation: ``[S, 3, 3]``, float64: node ``p`` shows the place ``rotation^T p`` of the earth.

    Args:
        sampling: Points with areas: a :class:`geomeq.spheres.Sampling`, whole or a part, or a graph (``Data`` with
            ``pos`` and ``area``); default: HEALPix with 3,072 nodes.
        split: ``"train"`` or ``"test"``.
        months: Which, from 0; default: all.
        stack: Whether the months are channels of one sample.
        rotation: Of the globe: ``"none"``, ``"z"`` (about the poles) or ``"random"``.
        rotations: How many; each is used for every month; default: 8 for training, 4 for testing.
        holdout: Whether training and test count different places.
        seed: Of the rotations; training and test differ.
        transform: Applied to a sample ``Data(x=[N, C], y=[N, 1], counted=[N])`` at every access.

    Raises:
        TypeError: If ``sampling`` is no sampling and no graph.
        ValueError: If an argument is out of range, or the bundled file is damaged.

    Licence: public domain (COADS and ETOPO, NOAA); see ``datasets/climate``.

    Example:
        >>> from geomeq import spheres
        >>> MonthlyClimate(spheres.gauss_legendre(16), months=(0, 6), rotations=2)
        MonthlyClimate(4, nodes=512)
    """

    def __init__(
        self,
        sampling: Domain = None,
        split: Literal["train", "test"] = "train",
        months: Sequence[int] = tuple(range(12)),
        stack: bool = False,
        rotation: Literal["none", "z", "random"] = "random",
        rotations: int | None = None,
        holdout: bool = True,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_DEFAULT_SAMPLES)
        chosen = check_months(months)
        graph, points = read_domain(sampling)
        turn = draw_rotations(rotation, _DEFAULT_SAMPLES[split] if rotations is None else rotations, seed, split)
        place = shown_places(points, turn)
        fields, x = climate_at(place, chosen)  # [R, M, N, 3] and [R, M, N, 6]
        height = torch.from_numpy(_earth.GRID.bilinear(_earth.read_earth()[1] / 1000, place))[..., None]
        counted = counted_places(place, split, holdout)
        if stack:
            fields = fields.transpose(1, 2).flatten(2)
            x = x.unflatten(-1, (2, 3)).permute(0, 2, 3, 1, 4).flatten(2)
            self.month = torch.full((len(turn),), -1)
        else:
            fields, x = fields.flatten(0, 1), x.flatten(0, 1)
            self.month = torch.tensor(chosen).repeat(len(turn))
            turn, height, counted = (t.repeat_interleave(len(chosen), 0) for t in (turn, height, counted))
        self.split, self.fields = split, fields.to(graph.pos)
        super().__init__(graph, x.to(graph.pos), height.to(graph.pos), turn, counted, (), transform)

    def baselines(self) -> dict[str, float]:
        """Errors in km of guesses: the best constant, and the best two heights, one for gaps and one for the sea."""
        assert self.y is not None
        assert self.counted is not None
        half = self.signals.size(-1) // 2
        gap = (self.signals[..., half:] == 0).all(-1, keepdim=True)
        found = {}
        for name, groups in {"constant": [torch.ones_like(gap)], "gaps": [gap, ~gap]}.items():
            guess = torch.zeros_like(self.y)
            for group in groups:
                weight = self.area[:, None] * group * self.counted[..., None]
                guess = guess + group * ((self.y * weight).sum() / weight.sum().clamp_min(1e-12)).to(self.y)
            found[name] = self.rmse(guess)
        return found


@cache
def read_climate() -> np.ndarray:
    """Sea and air temperature in degrees Celsius, pressure in hPa; NaN in gaps, ``[12, 3, 90, 180]``."""
    arrays = load_npz(bundled("climate/climate.npz"), None, "install geomeq again")
    fields = [np.where(arrays[k] == _GAP, np.nan, offset + step * arrays[k]) for k, (offset, step) in _UNITS.items()]
    return np.stack(fields, axis=1)


@cache
def _mean_and_spread() -> tuple[np.ndarray, np.ndarray]:
    """Of each field over the sea and the year, by area, ``[3]``."""
    fields = read_climate()
    weight = np.isfinite(fields) * np.sin(_GRID.colatitude)[:, None]
    total = weight.sum((0, 2, 3))
    mean = (np.nan_to_num(fields) * weight).sum((0, 2, 3)) / total
    square = (np.nan_to_num(fields - mean[:, None, None]) ** 2 * weight).sum((0, 2, 3)) / total
    return mean, np.sqrt(square)


def climate_at(place: np.ndarray, months: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Fields with gaps ``[R, M, N, 3]``, and as inputs, normalised and with flags, ``[R, M, N, 6]``.

    Args:
        place: Unit vectors ``[R, N, 3]``.
        months: Numbers from 0.
    """
    fields = _GRID.beside_gaps(read_climate()[list(months)], place)  # [M, 3, R, N]
    fields = fields.transpose(2, 0, 3, 1)
    mean, spread = _mean_and_spread()
    inputs = np.concatenate([np.nan_to_num((fields - mean) / spread), np.isfinite(fields)], axis=-1)
    return torch.from_numpy(fields.copy()), torch.from_numpy(inputs)


def check_months(months: Sequence[int]) -> tuple[int, ...]:
    """The months as a tuple.

    Raises:
        ValueError: If there is none, one comes twice, or is no number from 0 to 11.
    """
    chosen = tuple(months)
    if not chosen or len(set(chosen)) < len(chosen) or not all(isinstance(m, int) and 0 <= m < 12 for m in chosen):
        raise ValueError(f"months must be different numbers from 0 (January) to 11, at least one, got {months}")
    return chosen

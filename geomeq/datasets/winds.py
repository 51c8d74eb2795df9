"""Monthly winds over the earth: forecasting a real tangent vector field."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq._checks import check_finite, check_shape
from geomeq.datasets import _wind_grid
from geomeq.datasets._images import check_split
from geomeq.datasets.shared_graph import SharedGraphDataset
from geomeq.spheres import healpix
from geomeq.spheres.scattered import unit_vectors
from geomeq.transforms import SphereGauge

_FIRST_YEAR, _TRAIN_MONTHS, _VAL_MONTHS = 1982, 96, 12
_SPLITS = {"train": 0, "val": _TRAIN_MONTHS, "test": _TRAIN_MONTHS + _VAL_MONTHS}
_DEFAULT_CUTOFF, _DEFAULT_NSIDE = 0.45, 8


class Winds(SharedGraphDataset):
    r"""Forecast next month's wind from the last months: monthly means, 1982 to 1992, on any graph of the sphere.

    A sample is a month to be forecast. Winds are features of order 1 in the frames of the nodes, interpolated from a
    grid of 5 degrees. Splits follow time: targets of training are in 1982 to 1989, of validation in 1990, of testing in
    1991 and 1992; the months before a target may belong to the split before.

    Input ``x`` ``[S, N, types_in.dim]``, in this order,

    - scalars: cosine and sine of the time of year of the target (January is 0); with ``places`` also the sine of the
      latitude and the share of land around the node, without which an equivariant network knows no place from another;
    - vectors: the winds of the last ``history`` months, latest first; with ``places`` the direction north times the
      cosine of the latitude; with ``climatology`` the mean winds of the target's month and of the months of the
      history.

    Target ``y`` ``[S, N, 2]``, the wind of the month. Winds in x and y are in units of ``unit`` m/s.

    The climatology of a month of the year is its mean over the training years. For months in those years it leaves
    their own year out, or a network would learn to trust it more than it may; the climatology of the history leaves
    the target out as well.

    Attributes:
        graph: The domain, with ``pos``, ``frame``, ``area`` and the edges.
        types_in: Type of ``x``.
        types_out: Type of ``y``, ``"1x1"``.
        month: Of the targets, 0 to 11, ``[S]``.
        year: Of the targets, ``[S]``.

    Args:
        graph: Made by ``transforms.SphereGauge``, in any frames; default: 768 nodes of HEALPix, cut-off 0.45.
        split: ``"train"``, ``"val"`` or ``"test"``.
        history: Number of past months.
        places: Whether inputs tell where a node is.
        climatology: Whether inputs hold mean winds.
        rotation: Of the globe, ``[3, 3]``: node ``p`` shows the place ``rotation^T p``, its winds turned along.
        unit: m/s; the default is about the root mean square of the wind.
        transform: Applied to a sample ``Data(x=[N, types_in.dim], y=[N, 2])`` at every access.

    Raises:
        ValueError: If an argument is out of range, the graph has no frames, or the bundled file is damaged.

    Licence: public domain (US Navy FNOC analyses, NOAA PMEL); see ``datasets/winds``.

    Example:
        >>> Winds(split="test", history=2)
        Winds(24, split='test', history=2, nodes=768)
    """

    def __init__(
        self,
        graph: Data | None = None,
        split: Literal["train", "val", "test"] = "train",
        history: int = 3,
        places: bool = True,
        climatology: bool = False,
        rotation: Tensor | None = None,
        unit: float = 5.0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_SPLITS)
        if not isinstance(history, int) or isinstance(history, bool) or not 1 <= history <= 36:
            raise ValueError(f"history must be from 1 to 36 months, got {history!r}")
        if not 0 < unit < float("inf"):
            raise ValueError(f"unit must be a positive speed in m/s, got {unit}")
        graph = SphereGauge(cutoff=_DEFAULT_CUTOFF)(healpix(_DEFAULT_NSIDE)) if graph is None else graph
        self.split, self.history, self.unit = split, history, unit
        pos, frame, turn = _read_graph(graph, rotation)
        places_of = pos @ turn  # rotation^T p
        wind = torch.from_numpy(_wind_grid.wind_at(places_of.numpy())) @ turn.T
        wind = _in_frames(wind, frame) / unit
        target = _targets(split, history)
        self.month, self.year = target % 12, _FIRST_YEAR + target // 12
        normal = _climatology(wind)
        past = target[:, None] - 1 - torch.arange(history)
        vectors = [wind[past]]
        if places:
            vectors.append(_in_frames(turn[:, 2].expand(len(pos), 3), frame).expand(len(target), 1, -1, -1))
        if climatology:
            vectors.append(torch.cat([normal[target][:, None], _past_climatology(wind, normal, target, past)], dim=1))
        scalars = _scalars(target, places_of, places)
        v = torch.cat(vectors, dim=1)  # [S, V, N, 2]
        x = torch.cat([scalars, v.transpose(1, 2).flatten(2)], dim=-1)
        self.types_in, self.types_out = f"{scalars.size(-1)}x0+{v.size(1)}x1", "1x1"
        self._climatology, self._anomaly = normal[target].to(graph.pos), (wind - normal)[target - 1].to(graph.pos)
        self._last = wind[target - 1].to(graph.pos)
        super().__init__(graph, x.to(graph.pos), wind[target].to(graph.pos), transform)

    def persistence(self) -> Tensor:
        """The forecast "as last month", ``[S, N, 2]``, in units of ``unit``."""
        return self._last

    def climatology(self) -> Tensor:
        """The forecast "as usual in this month": the mean over the training years, ``[S, N, 2]``."""
        return self._climatology

    def anomaly_persistence(self, damping: float = 1.0) -> Tensor:
        """The climatology plus what was unusual last month, times ``damping``, ``[S, N, 2]``."""
        return self._climatology + damping * self._anomaly

    def rmse(self, forecast: Tensor) -> float:
        """Root mean square of the length of the error, over the sphere and all months, m/s.

        Args:
            forecast: ``[S, N, 2]``, in units of ``unit``.
        """
        assert self.y is not None
        check_shape("forecast", forecast, *self.y.shape)
        area = self.graph.area.double()
        square = (forecast - self.y).double().square().sum(dim=-1).mean(dim=0)
        return self.unit * float((square @ area / area.sum()).sqrt())

    def baselines(self) -> dict[str, float]:
        """Errors of the simple forecasts, m/s."""
        made = {"persistence": self.persistence(), "climatology": self.climatology()}
        return {name: self.rmse(forecast) for name, forecast in made.items()}

    def __repr__(self) -> str:
        nodes = self.signals.size(1)
        return f"{type(self).__name__}({len(self)}, split={self.split!r}, history={self.history}, nodes={nodes})"


def _read_graph(graph: Data, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, frames and rotation, checked, float64 on the CPU."""
    if not isinstance(graph, Data):
        raise TypeError(f"graph must be a Data made by transforms.SphereGauge, got {type(graph).__name__}")
    for name in ("pos", "frame", "area"):
        if graph.get(name) is None:
            raise ValueError(
                f"the graph has no {name}, only {sorted(graph.keys())}; make it with transforms.SphereGauge(cutoff)"
            )
    check_shape("pos", graph.pos, "N", 3)
    pos, frame = unit_vectors(graph.pos), graph.frame.detach().double().cpu()
    check_shape("frame", frame, len(pos), 3, 3)
    rotation = torch.eye(3) if rotation is None else rotation
    check_shape("rotation", rotation, 3, 3)
    turn = rotation.detach().double().cpu()
    check_finite("rotation", turn)
    if float((turn @ turn.T - torch.eye(3)).abs().max()) > 1e-5 or float(torch.linalg.det(turn)) < 0:
        raise ValueError(f"rotation must be a rotation matrix, got {turn.tolist()}; see groups.SO3.random")
    return pos, frame, turn


def _targets(split: str, history: int) -> Tensor:
    """Numbers of the months to be forecast, from January 1982."""
    ends = [*list(_SPLITS.values())[1:], _wind_grid.MONTHS]
    end = ends[list(_SPLITS).index(split)]
    return torch.arange(max(_SPLITS[split], history), end)


def _in_frames(v: Tensor, frame: Tensor) -> Tensor:
    """Components along e1 and e2 of vectors ``[..., N, 3]``, ``[..., N, 2]``."""
    return torch.einsum("nak,...nk->...na", frame[:, :2], v)


def _climatology(wind: Tensor) -> Tensor:
    """For each month the mean over the training years, its own left out, ``[132, N, 2]``."""
    month = torch.arange(len(wind)) % 12
    known = torch.arange(len(wind)) < _TRAIN_MONTHS
    total = wind.new_zeros(12, *wind.shape[1:]).index_add(0, month[known], wind[known])
    count = torch.bincount(month[known], minlength=12)
    own = known.to(wind.dtype)[:, None, None]
    return (total[month] - own * wind) / (count[month].to(wind.dtype)[:, None, None] - own)


def _past_climatology(wind: Tensor, normal: Tensor, target: Tensor, past: Tensor) -> Tensor:
    """Climatology of past months ``[S, H]``, the wind of the target left out as well, ``[S, H, N, 2]``.

    A year back is the month of the target: its mean holds the target, which a network would subtract out.
    """
    out, years = normal[past], _TRAIN_MONTHS // 12 - 1
    sample, back = ((past % 12 == target[:, None] % 12) & (target[:, None] < _TRAIN_MONTHS)).nonzero(as_tuple=True)
    out[sample, back] = (years * out[sample, back] - wind[target[sample]]) / (years - 1)
    return out


def _scalars(target: Tensor, place: Tensor, places: bool) -> Tensor:
    """Time of year and, if wanted, latitude and land, ``[S, N, 2 or 4]``."""
    season = 2 * np.pi / 12 * (target % 12).to(place)
    parts = [torch.stack([season.cos(), season.sin()], dim=-1)[:, None].expand(-1, len(place), -1)]
    if places:
        fixed = torch.stack([place[:, 2], torch.from_numpy(_wind_grid.land_at(place.numpy()))], dim=-1)
        parts.append(fixed.expand(len(target), -1, -1))
    return torch.cat(parts, dim=-1)

"""Winds and geopotential heights of January and July: which wind blows in a field of pressure?"""

import os
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.datasets._external import ExternalFile
from geomeq.datasets._globe import Domain, GlobeDataset, counted_places, draw_rotations, read_domain, shown_places
from geomeq.datasets._images import check_split
from geomeq.datasets._latlon import LatLon
from geomeq.spheres.graph import tangent_frames

FILE = ExternalFile(
    "era_interim_uvz",
    "era_interim_uvz_1p5deg.npz",
    dict.fromkeys(("geopotential", "u", "v"), (2, 3, 121, 240)),
    "float32",
    "070f3ffadb288eff968de64d10db563a757cdd572987bec03ac1fe4be6f411c1",
    "It is every second point of eraint_uvz.nc, which xarray.tutorial.load_dataset('eraint_uvz') fetches (ERA-Interim, "
    "ECMWF, CC BY 4.0): arrays geopotential (there z), u, v, north first, from longitude -180.",
)
_GRID = LatLon(np.pi / 120 * np.arange(121), -np.pi, 240)
_LEVELS, _MONTHS = (200, 500, 850), (1, 7)
_GRAVITY = 9.80665  # m/s^2, to turn geopotential into height
_DEFAULT_SAMPLES = {"train": 32, "test": 16}


class EraInterim(GlobeDataset):
    """Winds from heights of pressure surfaces, January and July: a tangent vector field from scalar fields.

    Winds far from the ground nearly follow the contours of the height (the geostrophic balance), faster where these
    are dense, to the other side south of the equator. So a network needs gradients, and the latitude.

    A sample is a month on a turned earth. Input ``x`` ``[S, N, 4]``: heights of the surfaces of 200, 500 and 850 hPa,
    each less its mean and divided by its standard deviation over the sphere and both months; the sine of the latitude
    of the place (the axis of the earth turns along). Target ``y`` ``[S, N, 2]``: the wind at ``level``, components
    along e1 and e2 of the frame of the node, in units of ``unit`` m/s. Splits are those of :class:`EarthTopography`.

    Attributes:
        graph: The domain, with ``pos``, ``area`` and ``frame``, and edges if it was given with them.
        height: Of the three surfaces, metres, ``[S, N, 3]``.
        wind: At the three levels, in the frames of the nodes, m/s, ``[S, N, 3, 2]``.
        month: 1 or 7, ``[S]``.
        counted: Where targets count, ``[S, N]``, bool.
        rotation: ``[S, 3, 3]``, float64: node ``p`` shows the place ``rotation^T p``, its winds turned along.

    Args:
        sampling: Points with areas: a :class:`geomeq.spheres.Sampling`, whole or a part, or a graph (``Data`` with
            ``pos``, ``area``, and ``frame`` if frames other than south and east are wanted); default: HEALPix with
            3,072 nodes.
        split: ``"train"`` or ``"test"``.
        level: Of the wind to be found: 200, 500 or 850 hPa.
        rotation: Of the globe: ``"none"``, ``"z"`` (about the poles) or ``"random"``.
        rotations: How many; each is used for both months; default: 16 for training, 8 for testing.
        holdout: Whether training and test count different sectors of longitude.
        unit: m/s.
        seed: Of the rotations; training and test differ.
        root: Folder with ``raw/``, where the file is looked for after ``GEOMEQ_DATA``.
        transform: Applied to a sample ``Data(x=[N, 4], y=[N, 2], counted=[N])`` at every access.

    Raises:
        FileNotFoundError: If the file is not to be found; the message says how to get it.
        TypeError: If ``sampling`` is no sampling and no graph.
        ValueError: If an argument is out of range, or the file is damaged.

    Licence: CC BY 4.0; contains ERA-Interim data, ECMWF. The file does not come with geomeq.
    """

    def __init__(
        self,
        sampling: Domain = None,
        split: Literal["train", "test"] = "train",
        level: int = 500,
        rotation: Literal["none", "z", "random"] = "random",
        rotations: int | None = None,
        holdout: bool = True,
        unit: float = 10.0,
        seed: int = 0,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_DEFAULT_SAMPLES)
        if level not in _LEVELS:
            raise ValueError(f"level must be 200, 500 or 850 hPa, got {level!r}")
        if not 0 < unit < float("inf"):
            raise ValueError(f"unit must be a positive speed in m/s, got {unit}")
        arrays = FILE.read(root)
        graph, points = read_domain(sampling)
        graph, frame = _framed(graph, points)
        count = _DEFAULT_SAMPLES[split] // 2 if rotations is None else rotations
        turn = draw_rotations(rotation, count, seed, split)
        place = shown_places(points, turn)
        height, wind = _height_at(arrays, place), _wind_at(arrays, place, turn, frame)
        known = torch.from_numpy(arrays["geopotential"].astype(np.float64) / _GRAVITY)
        mean, spread = _moments(known)
        latitude = torch.from_numpy(place[..., 2]).repeat_interleave(2, 0)[..., None]
        x = torch.cat([(height - mean) / spread, latitude], dim=-1)
        self.split, self.level, self.unit = split, level, unit
        self.height, self.wind = height.to(graph.pos), wind.to(graph.pos)
        self.month = torch.tensor(_MONTHS).repeat(count)
        y = wind[:, :, _LEVELS.index(level)] / unit
        counted = counted_places(place, split, holdout).repeat_interleave(2, 0)
        turn = turn.repeat_interleave(2, 0)
        super().__init__(graph, x.to(graph.pos), y.to(graph.pos), turn, counted, (), transform)

    def rmse(self, prediction: Tensor) -> float:
        """Root mean square of the length of the error, by area, where targets count, m/s.

        Args:
            prediction: ``[S, N, 2]``, in units of ``unit``.
        """
        return self.unit * super().rmse(prediction)


def _framed(graph: Data, points: Tensor) -> tuple[Data, Tensor]:
    """The graph with frames, and these in float64 on the CPU."""
    if graph.get("frame") is None:
        graph = graph.clone()
        graph.frame = tangent_frames(points, "meridian").to(graph.pos)
    check_shape("frame", graph.frame, len(points), 3, 3)
    return graph, graph.frame.detach().double().cpu()


def _moments(height: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each level by area, over both months, ``[3]``; from ``[2, 3, 121, 240]``."""
    weight = torch.from_numpy(np.sin(_GRID.colatitude))[:, None].expand(height.shape[2:])
    weight = weight / (2 * weight.sum())
    mean = (height * weight).sum((0, 2, 3))
    return mean, ((height - mean[:, None, None]).square() * weight).sum((0, 2, 3)).sqrt()


def _height_at(arrays: dict[str, np.ndarray], place: np.ndarray) -> Tensor:
    """Metres, ``[2 R, N, 3]``, both months of a rotation side by side."""
    found = _GRID.bilinear(arrays["geopotential"].astype(np.float64) / _GRAVITY, place)  # [month, level, R, N]
    return torch.from_numpy(found).permute(2, 0, 3, 1).flatten(0, 1)


def _wind_at(arrays: dict[str, np.ndarray], place: np.ndarray, rotation: Tensor, frame: Tensor) -> Tensor:
    """Components in the frames of the nodes, m/s, ``[2 R, N, 3, 2]``."""
    vectors = _GRID.vectors(arrays["u"].astype(np.float64), arrays["v"].astype(np.float64))
    there = torch.from_numpy(_GRID.bilinear(vectors, place))  # [month, level, 3, R, N], of the earth
    here = torch.einsum("rij,mljrn->rmnli", rotation, there)  # turned along with the globe
    return torch.einsum("nai,rmnli->rmnla", frame[:, :2], here).flatten(0, 1)

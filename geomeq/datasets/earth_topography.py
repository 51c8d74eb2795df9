"""Land, sea and heights of the earth on any sampling of the sphere."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch_geometric.data import Data

from geomeq.datasets import _earth
from geomeq.datasets._globe import Domain, GlobeDataset, counted_places, draw_rotations, read_domain, shown_places
from geomeq.datasets._images import check_split
from geomeq.datasets._relief import relief_fields

_DEFAULT_SAMPLES = {"train": 64, "test": 32}
_TASKS = ("segmentation", "regression")


class EarthTopography(GlobeDataset):
    r"""The earth, turned at random: tell land from sea, or the height, from relief that has lost its height.

    :class:`LandSea` on any sampling or graph of the sphere, and with a second task. A made task on real data. A sample
    is a turned earth. Inputs ``x`` ``[S, N, 2]``, smoothed for the spacing of the nodes (by no less than 1 degree):

    - channel 0, relief: the height minus its mean over a wider surrounding, divided by its standard deviation there;
    - channel 1, roughness: the logarithm of the standard deviation of what the smoothing took away, minus its mean
      around. Noise is added to both.

    Targets ``y``: ``"segmentation"``: 1 land, 0 sea, -1 not counted, ``[S, N]``, int64. ``"regression"``: the height in
    km, smoothed as the relief, ``[S, N, 1]``, to be counted where :attr:`counted` says so.

    There is one earth. So that a network cannot simply learn the map, ``holdout`` keeps every third sector of 30
    degrees of longitude for testing: training counts the others only, testing these only. Inputs are seen everywhere.

    Attributes:
        graph: The domain, with ``pos`` and ``area``, and edges if it was given with them.
        height: Metres above sea level, not smoothed, ``[S, N]``.
        land: Where there is land, ``[S, N]``, bool.
        counted: Where targets count, ``[S, N]``, bool.
        rotation: ``[S, 3, 3]``, float64: node ``p`` shows the place ``rotation^T p`` of the earth.

    Args:
        sampling: Points with areas: a :class:`geomeq.spheres.Sampling`, whole or a part, or a graph (``Data`` with
            ``pos`` and ``area``); default: HEALPix with 3,072 nodes.
        split: ``"train"`` or ``"test"``.
        task: ``"segmentation"`` or ``"regression"``.
        rotation: Of the globe, for every sample its own: ``"none"``, ``"z"`` (about the poles) or ``"random"``.
        samples: Number of samples; default: 64 for training, 32 for testing.
        noise: Standard deviation of the noise on both channels, whose own is about 1 and 0.5.
        holdout: Whether training and test count different places.
        seed: Of rotations and noise; training and test differ.
        transform: Applied to a sample ``Data(x=[N, 2], y=[N], counted=[N])`` at every access.

    Raises:
        TypeError: If ``sampling`` is no sampling and no graph.
        ValueError: If an argument is out of range, or the bundled file is damaged.

    Licence: mask MIT (global-land-mask), topography public domain (NOAA); see ``datasets/earth``.

    Example:
        >>> from geomeq import spheres
        >>> EarthTopography(spheres.fibonacci(500), task="regression", samples=3)
        EarthTopography(3, nodes=500)
    """

    def __init__(
        self,
        sampling: Domain = None,
        split: Literal["train", "test"] = "train",
        task: Literal["segmentation", "regression"] = "segmentation",
        rotation: Literal["none", "z", "random"] = "random",
        samples: int | None = None,
        noise: float = 0.3,
        holdout: bool = True,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_DEFAULT_SAMPLES)
        if task not in _TASKS:
            raise ValueError(f"task must be one of {', '.join(map(repr, _TASKS))}, got {task!r}")
        if not (noise >= 0 and math.isfinite(noise)):
            raise ValueError(f"noise must be finite and not negative, got {noise}")
        graph, points = read_domain(sampling)
        turn = draw_rotations(rotation, _DEFAULT_SAMPLES[split] if samples is None else samples, seed, split)
        place = shown_places(points, turn)
        spacing = math.sqrt(float(graph.area.double().sum()) / len(points))
        land, height = _earth.read_earth()
        fields = np.concatenate([relief_fields(spacing), height[None]])
        relief, roughness, share, smooth, exact = _earth.sample(fields, place)
        random = torch.Generator().manual_seed(2 * seed + (split == "test") + 1_000_003)
        clean = torch.from_numpy(np.stack([relief, roughness], axis=-1))
        x = clean + noise * torch.randn(clean.shape, generator=random, dtype=clean.dtype)
        self.land = torch.from_numpy(_earth.GRID.nearest(land, place))
        self.height = torch.from_numpy(exact).to(graph.pos)
        counted = counted_places(place, split, holdout)
        if task == "segmentation":
            y = torch.from_numpy(share >= 0.5).long().masked_fill(~counted, -1)
        else:
            y = torch.from_numpy(smooth / 1000)[..., None].to(graph.pos)
        self.split, self.task = split, task
        classes = ("sea", "land") if task == "segmentation" else ()
        super().__init__(graph, x.to(graph.pos), y, turn, counted, classes, transform)

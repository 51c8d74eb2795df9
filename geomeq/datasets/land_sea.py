"""Land or sea? A segmentation task on the sphere, made from the relief of the earth."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geomeq.datasets import _earth
from geomeq.datasets._globe import kept_for_test
from geomeq.datasets._images import check_split
from geomeq.datasets._relief import relief_fields
from geomeq.datasets.shared_graph import SharedGraphDataset
from geomeq.groups import SO3, icosphere

_DEFAULT_SAMPLES = {"train": 64, "test": 32}


class LandSea(Dataset[Data]):
    r"""Tell land from sea on an icosphere, from relief that has lost its height.

    A made task on real data, not a benchmark of climate science. The earth is turned by a random rotation (Haar), and
    each node gets two numbers that do not name the height above sea level, plus noise:

    - channel 0, relief: the smoothed height minus its mean over a wider surrounding, divided by its own standard
      deviation there;
    - channel 1, roughness: the logarithm of the standard deviation of what the smoothing took away, minus its mean
      over the surrounding.

    So a node by itself says little (area-weighted F1 on the test places: 0.34 if everything is called land, 0.6 for
    boosted trees on one node, 0.9 for the height itself), and the surroundings must help.

    There is one earth. So that a network cannot simply learn the map, ``holdout`` keeps a third of the longitudes (each
    third sector of 30 degrees) for testing: training labels there are -1, and test labels are -1 everywhere else.
    Inputs are seen everywhere.

    Attributes:
        x: Inputs ``[S, N, 2]``, float32, with ``N = 10 * 4^level + 2`` nodes in the order of ``groups.icosphere``.
        y: 1 land, 0 sea, -1 not counted, ``[S, N]``, int64.
        area: Solid angle of each node, ``[N]``, float64, sum 4 pi: for :func:`weighted_f1` and :func:`weighted_iou`.
        rotation: ``[S, 3, 3]``, float64: node ``p`` shows the place ``rotation^T p`` of the earth.

    Args:
        level: Of the icosphere: 3 has 642 nodes. Both smoothings are in proportion to its mesh.
        split: ``"train"`` or ``"test"``.
        samples: Number of rotations; default: 64 for training, 32 for testing.
        noise: Standard deviation of the noise on both channels, whose own is about 1 and 0.5.
        holdout: Whether training and test count different places.
        seed: Of rotations and noise; training and test differ.
        transform: Applied to a sample ``Data(x=[N, 2], y=[N])`` at every access.

    Raises:
        ValueError: If an argument is out of range, or the bundled file is damaged.

    Licence: mask MIT (global-land-mask), topography public domain (NOAA); see ``datasets/earth``.

    Example:
        >>> from geomeq.datasets import LandSea
        >>> LandSea(level=2, samples=3)
        LandSea(3, level=2, nodes=162)
    """

    def __init__(
        self,
        level: int = 3,
        split: str = "train",
        samples: int | None = None,
        noise: float = 0.3,
        holdout: bool = True,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_DEFAULT_SAMPLES)
        samples = _DEFAULT_SAMPLES[split] if samples is None else samples
        if not isinstance(level, int) or not 1 <= level <= 6:
            raise ValueError(f"level must be from 1 (42 nodes) to 6 (40,962 nodes), got {level!r}")
        if samples < 1 or not (noise >= 0 and math.isfinite(noise)):
            raise ValueError(f"samples must be positive and noise finite and not negative, got {samples} and {noise}")
        sphere = icosphere(level)
        random = torch.Generator().manual_seed(2 * seed + (split == "test"))
        self.level, self.split, self.seed, self.transform = level, split, seed, transform
        self.area, self.rotation = sphere.area, SO3.random(samples, seed=random)
        place = torch.einsum("nj,sji->sni", sphere.pos, self.rotation).numpy()  # rotation^T p
        relief, roughness, land, _ = _earth.sample(relief_fields(sphere.mean_edge, finest=0.0), place)
        clean = torch.from_numpy(np.stack([relief, roughness], axis=-1))
        self.x = (clean + noise * torch.randn(clean.shape, generator=random, dtype=clean.dtype)).float()
        self.y = torch.from_numpy(land >= 0.5).long()
        if holdout:
            self.y[torch.from_numpy(kept_for_test(place)) != (split == "test")] = -1

    def __len__(self) -> int:
        return self.x.size(0)

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be within {len(self)} samples, got {index}")
        sample = Data(x=self.x[index], y=self.y[index])
        return sample if self.transform is None else self.transform(sample)

    def __iter__(self) -> Iterator[Data]:
        return (self[index] for index in range(len(self)))

    def on(self, graph: Data, transform: Callable[[Data], Data] | None = None) -> SharedGraphDataset:
        """The samples as signals on a graph over this icosphere, lifted by repetition over its orientations.

        Args:
            graph: Made by ``transforms.GroupGraph`` for ``S2()`` or ``SO3()`` of the same level.
            transform: Applied to a sample ``Data(x=[num_nodes, 2], y=[N])`` at every access.

        Raises:
            ValueError: If the graph has another number of places.
        """
        orientations = int(graph.num_orientations) if "num_orientations" in graph else 1
        places = (graph.num_nodes or 0) // orientations
        if places != self.x.size(1):
            raise ValueError(
                f"the graph must have the {self.x.size(1)} places of an icosphere of level {self.level}, got {places} "
                f"with {orientations} orientations; build it with GroupGraph(SO3(), size=({self.level}, n)) or "
                f"GroupGraph(S2(), size={self.level})"
            )
        return SharedGraphDataset(graph, self.x, self.y, transform, num_orientations=orientations)

    def __repr__(self) -> str:
        return f"LandSea({len(self)}, level={self.level}, nodes={self.x.size(1)})"


def land_mask() -> Tensor:
    """Where at least half of a cell of one degree is land, bool, ``[180, 360]``.

    Rows run from north to south, columns eastward from longitude -180; cell centres are at 89.5, 88.5, ... and
    -179.5, -178.5, .... Licence: MIT (global-land-mask).
    """
    return torch.from_numpy(_earth.read_earth()[0].copy())


def topography() -> Tensor:
    """Height above sea level in metres, negative below the sea, float32, ``[180, 360]``; cells of :func:`land_mask`.

    ETOPO at 1 degree, NOAA; public domain.
    """
    return torch.from_numpy(_earth.read_earth()[1].astype(np.float32))

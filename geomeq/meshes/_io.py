"""Mesh files, by trimesh."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from torch_geometric.data import Data

from ._read import read_mesh

FORMATS = ("glb", "obj", "off", "ply", "stl")
# what keeps trimesh from dropping vertices and from copying them for the sake of textures
_LITERAL: dict[str, dict[str, Any]] = {"obj": {"maintain_order": True}, "ply": {"fix_texture": False}}


def load(path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Data:
    """Reads a triangle mesh.

    Vertices and faces keep the numbers they have in the file: nothing is merged, dropped or turned. Polygons are cut
    into triangles. Several bodies in one file (GLB) are put one after the other, in the order in which the file lists
    them, each where the scene puts it. An STL file lists triangles without saying which corners are the same point:
    corners with exactly equal coordinates become one vertex, in order of first appearance. In OBJ files a vertex is a
    ``v`` line; objects, materials and the seams of texture and normals are not followed.

    Args:
        path: A PLY, OBJ, OFF, STL or GLB file, told by its suffix.
        dtype: Of ``pos``.

    Returns:
        ``Data(pos=[N, 3], face=[3, F])``.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: For another dtype than float32 and float64.
        ValueError: For an unknown suffix, a file that cannot be read, or one without faces.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> mesh = Data(pos=torch.eye(3), face=torch.tensor([[0], [1], [2]]))
        >>> with TemporaryDirectory() as folder:
        ...     save(mesh, folder + "/triangle.ply")
        ...     load(folder + "/triangle.ply")
        Data(pos=[3, 3], face=[3, 1])
    """
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype!r}")
    path = Path(path)
    suffix = _suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no mesh file {path}")
    try:
        scene = trimesh.load_scene(_open(path, suffix), file_type=suffix, **_LITERAL.get(suffix, {}), process=False)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as {suffix.upper()}: {error}") from error
    pos, face = _gather(scene)
    if face.shape[1] == 0:
        raise ValueError(f"{path} holds {len(pos)} points and no faces; a mesh needs triangles")
    if face.min() < 0 or face.max() >= len(pos):
        raise ValueError(f"{path} names vertices {face.min()}..{face.max()}, but has {len(pos)}; the file is damaged")
    if suffix == "stl":
        pos, face = _merge_soup(pos, face)
    return Data(pos=torch.from_numpy(pos).to(dtype), face=torch.from_numpy(face))


def save(data: Data, path: str | os.PathLike[str]) -> None:
    """Writes a triangle mesh; vertices and faces keep their numbers (except in STL, which stores none).

    OBJ and OFF keep float64 positions; PLY, STL and GLB store float32.

    Args:
        data: Holds ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``.
        path: A PLY, OBJ, OFF, STL or GLB file, told by its suffix. An old file is overwritten.

    Raises:
        FileNotFoundError: If its folder does not exist.
        TypeError: If ``data`` is no ``Data``, or a dtype is wrong.
        ValueError: For an unknown suffix, a missing attribute, a wrong shape.
    """
    path = Path(path)
    suffix = _suffix(path)
    mesh = to_trimesh(data)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    if suffix in ("obj", "off"):
        _write_text(mesh, path, suffix)
    else:
        mesh.export(path, file_type=suffix)


def from_trimesh(mesh: trimesh.Trimesh, dtype: torch.dtype = torch.float32) -> Data:
    """Takes positions and faces of a trimesh mesh; the same vertices in the same order.

    Args:
        mesh: A ``trimesh.Trimesh``.
        dtype: Of ``pos``.

    Returns:
        ``Data(pos=[N, 3], face=[3, F])``.

    Raises:
        TypeError: If it is anything else.
    """
    if not isinstance(mesh, trimesh.Trimesh):
        raise TypeError(f"expected a trimesh.Trimesh, got {type(mesh).__name__}; a Scene has .to_mesh()")
    pos, face = np.array(mesh.vertices, dtype=np.float64), np.array(mesh.faces.T, dtype=np.int64, order="C")
    return Data(pos=torch.from_numpy(pos).to(dtype), face=torch.from_numpy(face))


def to_trimesh(data: Data) -> trimesh.Trimesh:
    """The mesh as trimesh knows it, unprocessed: the same vertices and faces in the same order.

    Args:
        data: Holds ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``.

    Raises:
        TypeError: If ``data`` is no ``Data``, or a dtype is wrong.
        ValueError: If an attribute is missing or misshapen.
    """
    pos, face = read_mesh(data)
    return trimesh.Trimesh(pos.detach().cpu().double().numpy(), face.t().cpu().numpy(), process=False)


def _suffix(path: Path) -> str:
    suffix = path.suffix[1:].lower()
    if suffix not in FORMATS:
        raise ValueError(f"the suffix of a mesh file must be one of {', '.join(FORMATS)}, got {path.name!r}")
    return suffix


def _write_text(mesh: trimesh.Trimesh, path: Path, suffix: str) -> None:
    """Writes OBJ or OFF with all digits; trimesh counts decimals, which loses those of small numbers."""
    with path.open("w") as file:
        if suffix == "off":
            file.write(f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0\n")
        np.savetxt(file, mesh.vertices, fmt="%.17g" if suffix == "off" else "v %.17g %.17g %.17g")
        np.savetxt(file, mesh.faces + (suffix == "obj"), fmt="3 %d %d %d" if suffix == "off" else "f %d %d %d")


def _open(path: Path, suffix: str) -> BytesIO:
    content = path.read_bytes()
    return BytesIO(_bare_obj(content.decode(errors="replace")).encode() if suffix == "obj" else content)


def _bare_obj(text: str) -> str:
    """The ``v`` and ``f`` lines of an OBJ file, without textures and normals, negative numbers resolved.

    Otherwise trimesh copies vertices at seams, reorders faces by material, and reads -1 as the last vertex of the file.
    """
    lines, count = [], 0
    for line in text.replace("\\\n", " ").splitlines():
        key, *words = line.split() or [""]
        if key == "v":
            count += 1
            lines.append(" ".join(["v", *words[:3]]))
        elif key == "f":
            corners = [int(word.split("/", 1)[0]) for word in words]
            if 0 in corners:
                raise ValueError(f"the face {line.strip()!r} names vertex 0, but OBJ counts from 1")
            lines.append(" ".join(["f", *(str(c if c > 0 else count + 1 + c) for c in corners)]))
    return "\n".join(lines)


def _gather(scene: trimesh.Scene) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``[N, 3]`` and faces ``[3, F]`` of all bodies of a scene, placed, one after the other."""
    rank = {name: number for number, name in enumerate(scene.geometry)}
    parts: Sequence = sorted(scene.dump(), key=lambda part: rank[part.metadata["name"]]) if rank else []
    meshes = [part for part in parts if isinstance(part, trimesh.Trimesh)]
    others = [part for part in parts if not isinstance(part, trimesh.Trimesh) and not meshes]
    pos = [np.asarray(part.vertices, dtype=np.float64).reshape(-1, 3) for part in meshes or others]
    first = np.cumsum([0, *(len(p) for p in pos)])
    face = [np.asarray(part.faces, dtype=np.int64).T + start for part, start in zip(meshes, first, strict=False)]
    return (
        np.concatenate([np.empty((0, 3)), *pos]),
        np.ascontiguousarray(np.concatenate([np.empty((3, 0), dtype=np.int64), *face], axis=1)),
    )


def _merge_soup(pos: np.ndarray, face: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Makes exactly equal points one, numbered by first appearance."""
    _, first, inverse = np.unique(pos, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return pos[first[order]], number[inverse.reshape(-1)][face]

"""Checks of what the functions on meshes are given."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from .._checks import check_finite, check_shape

LARGEST = 1e150  # the square of a larger coordinate overflows float64
_CLEAN = "apply geomeq.meshes.clean first"


def read_face(face: Tensor, num_vertices: int | None = None) -> Tensor:
    """Checks faces ``[3, F]`` and gives them as int64.

    Args:
        face: To check.
        num_vertices: Bound of its numbers, if known.

    Raises:
        TypeError: If ``face`` is no tensor of integers.
        ValueError: For another shape or a number out of range.
    """
    check_shape("face", face, 3, "F", hint="faces are columns; transpose an [F, 3] array")
    if face.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"face must hold integers (torch.long), got {face.dtype}")
    if num_vertices is not None and num_vertices < 0:
        raise ValueError(f"num_vertices must not be negative, got {num_vertices}")
    if face.numel():
        low, high = int(face.amin()), int(face.amax())
        if low < 0 or (num_vertices is not None and high >= num_vertices):
            known = "" if num_vertices is None else f", but there are only {num_vertices}"
            raise ValueError(f"face names vertices {low}..{high}{known}; numbers run from 0")
    return face.long()


def read_simple_face(face: Tensor, num_vertices: int) -> Tensor:
    """As :func:`read_face`, and no face may name a vertex twice.

    Raises:
        ValueError: If one does, naming the first.
    """
    face = read_face(face, num_vertices)
    twice = degenerate(face)
    if bool(twice.any()):
        first = int(twice.nonzero()[0])
        raise ValueError(
            f"{int(twice.sum())} faces name a vertex twice, the first is face {first}: {face[:, first].tolist()}; "
            f"{_CLEAN}"
        )
    return face


def degenerate(face: Tensor) -> Tensor:
    """Which faces name a vertex twice, bool ``[F]``."""
    return (face == face.roll(-1, dims=0)).any(dim=0)


def read_pos(pos: Tensor, name: str = "pos") -> Tensor:
    """Checks positions ``[N, 3]``, float32 or float64.

    Raises:
        TypeError: For another dtype.
        ValueError: For another shape, NaN or infinity.
    """
    check_shape(name, pos, "N", 3)
    if pos.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {pos.dtype}; convert it with .float() or .double()")
    if pos.numel() and not float(pos.detach().abs().amax()) < LARGEST:  # NaN fails the comparison too
        check_finite(name, pos.detach(), hint="geomeq.meshes.clean takes such vertices and their faces away")
        raise ValueError(f"{name} has coordinates beyond {LARGEST:g}, their squares overflow; use a larger unit")
    return pos


def read_length(length: Tensor, num_faces: int | None = None) -> Tensor:
    """Checks lengths of half-edges ``[3 F]``, in float64 if they were float32.

    Raises:
        TypeError: If they are not floating point.
        ValueError: For another shape, negative or non-finite lengths.
    """
    check_shape("length", length, "3F" if num_faces is None else 3 * num_faces, hint="one entry for every half-edge")
    if length.size(0) % 3:
        raise ValueError(f"length must hold three entries per face, got {length.size(0)}")
    if not length.is_floating_point():
        raise TypeError(f"length must be floating point, got {length.dtype}")
    check_finite("length", length.detach(), hint="check pos")
    if length.numel() and float(length.detach().amin()) < 0:
        raise ValueError(f"length must not be negative, got {float(length.detach().amin())}")
    return length.double()


def read_mesh(data: Data) -> tuple[Tensor, Tensor]:
    """``pos`` ``[N, 3]`` and ``face`` ``[3, F]`` (int64) of a mesh; positions may still be NaN.

    Raises:
        TypeError: If ``data`` is no ``Data``, or a dtype is wrong.
        ValueError: If an attribute is missing or misshapen.
    """
    if not isinstance(data, Data):
        raise TypeError(f"a mesh is a torch_geometric Data with pos and face, got {type(data).__name__}")
    pos, face = data.get("pos"), data.get("face")
    for name, value in (("pos", pos), ("face", face)):
        if value is None:
            raise ValueError(f"the mesh has no {name}; load one with geomeq.meshes.load or give Data(pos=, face=)")
    check_shape("pos", pos, "N", 3)
    if pos.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"pos must be float32 or float64, got {pos.dtype}; convert it with .float() or .double()")
    return pos, read_face(face, pos.size(0))

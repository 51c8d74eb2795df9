"""Repair: what can be mended without inventing geometry."""

from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import Data

from ._connect import fans
from ._half_edges import half_edges
from ._orient import orient
from ._read import LARGEST, degenerate, read_mesh
from ._report import MeshReport, first_points, inspect, repeated_faces


def clean(
    data: Data,
    merge_duplicates: bool = False,
    *,
    drop_isolated: bool = False,
    split_nonmanifold: bool = False,
    reorient: bool = True,
) -> tuple[Data, MeshReport]:
    """Takes away what is no surface, and turns the triangles so that they agree.

    Removed are faces that name a vertex twice or a point that is not finite, faces whose three vertices an earlier
    face has (in any order), and vertices that are not finite. Triangles without an area stay, because taking one away
    tears a hole; :func:`geomeq.meshes.mollify` deals with them. Attributes with a row for every vertex follow,
    except those with ``face`` in their name.

    Args:
        data: Holds ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``.
        merge_duplicates: Whether vertices at exactly the same position become one (the first).
        drop_isolated: Whether to remove vertices of no face. Left in, they keep the numbers of the others.
        split_nonmanifold: Whether sheets that touch in a vertex, or meet more than two at an edge, get vertices of
            their own; the new ones come last.
        reorient: Whether to turn triangles as :func:`geomeq.meshes.orient` does, closed parts outward.

    Returns:
        A new mesh. ``vertex_origin`` ``[N']``, the old number of every vertex, is written if numbers changed. And the
        report of the mesh as it was given, with the counts of what was done.

    Raises:
        TypeError: If ``data`` is no ``Data``, or a dtype is wrong.
        ValueError: If an attribute is missing or misshapen, a vertex is out of range, or vertices would be renumbered
            under an ``edge_index``.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, torch.nan, 1]])
        >>> mesh, report = clean(Data(pos=pos, face=torch.tensor([[0, 0, 1], [1, 1, 2], [2, 1, 3]])))
        >>> mesh, report.removed_faces, report.nonfinite_vertices
        (Data(pos=[3, 3], face=[3, 1], vertex_origin=[3]), 2, 1)
    """
    report = inspect(data)
    pos, face = read_mesh(data)
    lost = ~(pos.detach().double().abs() < LARGEST).all(dim=1)
    if merge_duplicates:
        same = first_points(pos.detach().double().masked_fill(lost[:, None], torch.inf))
        same = torch.where(lost, torch.arange(len(pos), device=pos.device), same)
        merged = same != torch.arange(len(pos), device=pos.device)
        report, face, lost = replace(report, merged_vertices=int(merged.sum())), same[face], lost | merged
    face = face[:, ~degenerate(face) & ~lost[face].any(dim=0)]
    face = face[:, ~repeated_faces(face)]
    report = replace(report, removed_faces=report.faces - face.size(1))
    if drop_isolated:
        lost = torch.ones_like(lost).index_fill(0, face.flatten(), False)
    origin = (~lost).nonzero().flatten()
    number = torch.full((len(pos),), -1, dtype=torch.int64, device=pos.device)
    number[origin] = torch.arange(origin.numel(), device=pos.device)
    face = number[face]
    report = replace(report, removed_vertices=len(pos) - origin.numel() - report.merged_vertices)
    if split_nonmanifold:
        face, copied = _split(face, origin.numel())
        origin, report = torch.cat([origin, origin[copied]]), replace(report, split_vertices=copied.numel())
    if reorient:
        turned, _ = orient(face, pos[origin])
        report = replace(report, turned_faces=int((turned != face).any(dim=0).sum()))
        face = turned
    return _renumber(data, face, origin), report


def _split(face: Tensor, num_vertices: int) -> tuple[Tensor, Tensor]:
    """Gives every fan a vertex of its own; the faces, and the vertices that were copied."""
    he = half_edges(face, num_vertices)
    fan = fans(he)
    count = int(fan.amax()) + 1 if fan.numel() else 0
    owner = torch.empty(count, dtype=torch.int64, device=face.device)
    owner[fan] = he.source
    lowest = torch.full((num_vertices,), count, dtype=torch.int64, device=face.device)
    lowest.scatter_reduce_(0, owner, torch.arange(count, device=face.device), "amin")
    extra = (lowest[owner] != torch.arange(count, device=face.device)).nonzero().flatten()
    vertex = owner.clone()
    vertex[extra] = num_vertices + torch.arange(extra.numel(), device=face.device)
    return vertex[fan].view(-1, 3).t().contiguous(), owner[extra]


def _renumber(data: Data, face: Tensor, origin: Tensor) -> Data:
    """A copy with these faces, rows of vertices taken from ``origin``."""
    out = data.clone()
    out.face = face
    if origin.numel() == data.pos.size(0) and bool(
        (origin == torch.arange(origin.numel(), device=origin.device)).all()
    ):
        return out
    if "edge_index" in data:
        raise ValueError("vertices change their numbers, but the mesh already has an edge_index; clean it first")
    for key, value in data.items():
        if isinstance(value, Tensor) and value.dim() and value.size(0) == data.pos.size(0) and "face" not in key:
            out[key] = value[origin]
    out.vertex_origin = origin
    return out

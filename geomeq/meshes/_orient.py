"""Turning triangles so that neighbours agree which side is outside."""

import torch
from torch import Tensor

from ._connect import beside, labels
from ._half_edges import HalfEdges, half_edges
from ._read import read_face, read_pos


def orient(face: Tensor, pos: Tensor | None = None) -> tuple[Tensor, bool]:
    """Turns triangles so that both run along their common edge in opposite directions.

    Triangles are followed across edges of exactly two triangles. In each part that hangs together by those, the
    direction that most triangles have is kept; with ``pos`` a closed part is turned outward, so that it encloses a
    positive volume. (The wall of a cavity is such a part too, and comes out facing the cavity's outside.)

    Args:
        face: Corners of the triangles ``[3, F]``; none may name a vertex twice.
        pos: Vertices ``[N, 3]``; without them closed parts are treated as open ones.

    Returns:
        The faces, ``[3, F]``, in the same order, the second and third corner exchanged where turned; and whether all
        neighbours agree now. They cannot on a one-sided part (Moebius strip, Klein bottle), which is left as it is.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, a vertex out of range, a face that names a vertex twice, NaN.

    Example:
        >>> orient(torch.tensor([[0, 0, 0], [1, 2, 3], [2, 3, 1]]))[1]
        True
        >>> face, ok = orient(torch.tensor([[0, 0, 0], [1, 2, 1], [2, 3, 3]]))  # the last runs along 0-1 as the first
        >>> face[:, 2].tolist(), ok
        ([0, 3, 1], True)
    """
    face = read_face(face)
    num = int(face.amax()) + 1 if face.numel() else 0
    if pos is not None:
        num = read_pos(pos).size(0)
    he = half_edges(face, num)
    if he.num_faces == 0:
        return face, True
    turn, part, one_sided = _turns(he)
    votes = torch.zeros(int(part.amax()) + 1, dtype=torch.int64, device=face.device)
    votes.index_add_(0, part, 2 * turn.long() - 1)
    turn ^= (votes > 0)[part]  # turn the fewer
    if pos is not None:
        turn ^= _inside_out(pos, _turned(face, turn), he, part)[part]
    turn &= ~one_sided[part]
    return _turned(face, turn), not bool(one_sided.any())


def _turns(he: HalfEdges) -> tuple[Tensor, Tensor, Tensor]:
    """Which triangles differ from the first of their part ``[F]``, the parts ``[F]``, and which are one-sided.

    Every triangle has two copies, one for each side; copies of neighbours on the same side of the surface are linked.
    A part is one-sided exactly if its two layers of copies hang together.
    """
    a, b = beside(he)
    f, g, num = he.face[a], he.face[b], he.num_faces
    part = labels(f, g, num)
    differ = (he.source[a] == he.source[b]).long() * num
    layer = labels(torch.cat([f, f + num]), torch.cat([g + differ, g + num - differ]), 2 * num)
    first = torch.full((int(part.amax()) + 1,), num, dtype=torch.int64, device=f.device)
    first.scatter_reduce_(0, part, torch.arange(num, device=f.device), "amin")
    one_sided = layer[first] == layer[first + num]
    return layer[:num] != layer[first][part], part, one_sided


def _inside_out(pos: Tensor, face: Tensor, he: HalfEdges, part: Tensor) -> Tensor:
    """Which parts are closed and enclose a negative volume."""
    corner = pos.detach().double()[face]
    count = int(part.amax()) + 1
    at = corner.mean(dim=0)
    centre = at.new_zeros(count, 3).index_add_(0, part, at) / torch.bincount(part, minlength=count)[:, None]
    a, b, c = corner - centre[part]
    volume = at.new_zeros(count).index_add_(0, part, (a * torch.linalg.cross(b, c)).sum(dim=1))
    open_ = torch.zeros(count, dtype=torch.bool, device=face.device)
    open_[part[he.face[(he.edge_count != 2)[he.edge]]]] = True
    return ~open_ & (volume < 0)


def _turned(face: Tensor, turn: Tensor) -> Tensor:
    return torch.where(turn, face[[0, 2, 1]], face)

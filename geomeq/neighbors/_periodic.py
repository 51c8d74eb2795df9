"""All pairs of points and periodic images closer than a cutoff, in any cell."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import check_finite, check_shape
from ._pairs import SLACK, pairs_within
from ._points import Points, read_cutoff, read_points, read_tolerance, sort_rows

_FLAT = 1e-9  # volume over the product of the edges, below which periodic cell vectors count as dependent
_MOST_IMAGES = 2**28  # a few times 10 GB: surely a wrong unit, better an error than a killed process


def periodic_radius_edges(
    pos: Tensor,
    cutoff: float,
    cell: Tensor,
    pbc: bool | Sequence[bool] | Tensor = True,
    batch: Tensor | None = None,
    *,
    loop: bool = False,
    rtol: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Edges between all points and periodic images at most ``cutoff`` apart.

    .. math:: \{(j, i, s) : \|x_j - x_i + s\,C\| \le r_c\}, \qquad s \in \mathbb{Z}^3

    The cell :math:`C` may be skewed and smaller than the cutoff (a point then meets several images of its neighbours
    and of itself), points may lie outside of it, and only some directions may be periodic. A pair exactly at the
    cutoff is connected, up to ``rtol``; see :func:`radius_edges`.

    Args:
        pos: Positions, float32 or float64, ``[N, 3]``.
        cutoff: Largest distance, in the unit of ``pos``.
        cell: Cell vectors as rows, ``[3, 3]`` or ``[1, 3, 3]``, or one cell per graph, ``[B, 3, 3]``. Rows of
            directions that are not periodic are ignored and may be zero.
        pbc: Whether the structure repeats: one bool, three (per cell vector), or ``[B, 3]``.
        batch: Graph of each point, in any order, ``[N]``.
        loop: Whether each point is also connected with itself (shift zero). Its images always are.
        rtol: Relative tolerance at the cutoff; default :func:`geomeq.neighbors.tie_tolerance`.

    Returns:
        ``edge_index [2, E]``, sorted by target, source, and shift; and ``shift [E, 3]``, integers, with
        ``edge_vec = pos[j] - pos[i] + shift @ cell``.

    Raises:
        TypeError: If ``pos`` or ``cell`` is neither float32 nor float64.
        ValueError: For a wrong shape, NaN, a cutoff that is not positive, or periodic cell vectors without volume.

    Example:
        >>> edges, shift = periodic_radius_edges(torch.zeros(1, 3), 1.0, torch.eye(3), pbc=(True, False, False))
        >>> edges.tolist(), shift.tolist()
        ([[0, 0], [0, 0]], [[-1, 0, 0], [1, 0, 0]])
    """
    check_shape("pos", pos, "N", 3)
    points = read_points(pos, batch)
    tolerance = read_tolerance(rtol, pos, cell if isinstance(cell, Tensor) else None)
    radius = read_cutoff(cutoff, tolerance)
    num_graphs = 1 if points.batch is None or points.num == 0 else int(points.batch.amax()) + 1
    cells = _read_cells(pos, cell, num_graphs, points.batch is not None)
    periodic = _read_pbc(pbc, max(num_graphs, cells.size(0)), pos.device)
    if cells.size(0) != periodic.size(0):
        num_cells = max(cells.size(0), periodic.size(0))
        cells, periodic = cells.expand(num_cells, 3, 3), periodic.expand(num_cells, 3)
    cells = complete_cells(cells, periodic)
    if points.num == 0:
        return (torch.empty(2, 0, dtype=torch.long, device=pos.device),
                torch.empty(0, 3, dtype=torch.long, device=pos.device))  # fmt: skip
    j, i, shift = _search(points, cells, periodic, radius)
    if loop:
        own = torch.arange(points.num, device=pos.device)
        j, i = torch.cat([j, own]), torch.cat([i, own])
        shift = torch.cat([shift, shift.new_zeros(points.num, 3)])
    return _sort(j, i, shift)


def _read_cells(pos: Tensor, cell: Tensor, num_graphs: int, batched: bool) -> Tensor:
    """Cells in float64, ``[B, 3, 3]``."""
    if not isinstance(cell, Tensor):
        raise TypeError(f"cell must be a torch.Tensor [3, 3] or [B, 3, 3], got {type(cell).__name__}")
    if cell.dim() == 2:
        check_shape("cell", cell, 3, 3)
        cell = cell[None]
    check_shape("cell", cell, "B", 3, 3)
    if cell.device != pos.device:
        raise ValueError(f"cell is on {cell.device} but pos on {pos.device}; move one of them")
    check_finite("cell", cell)
    if cell.size(0) != 1 and not batched:
        raise ValueError(f"cell holds {cell.size(0)} cells, but without batch there is one graph; pass batch")
    if cell.size(0) not in (1, num_graphs) and cell.size(0) < num_graphs:
        raise ValueError(
            f"batch names {num_graphs} graphs, but cell holds {cell.size(0)}; give one for each, or one for all"
        )
    return cell.detach().to(torch.float64)


def _read_pbc(pbc: bool | Sequence[bool] | Tensor, num_graphs: int, device: torch.device) -> Tensor:
    """Periodic directions, ``[1, 3]`` or of each graph ``[B, 3]``."""
    flags = torch.as_tensor(pbc, device=device)
    if flags.dtype != torch.bool:
        if not bool(((flags == 0) | (flags == 1)).all()):
            raise ValueError(f"pbc must hold booleans, got {flags.tolist()}")
        flags = flags.bool()
    if flags.numel() == 1:
        flags = flags.reshape(1, 1).expand(1, 3)
    elif flags.dim() == 1:
        check_shape("pbc", flags, 3)
        flags = flags[None]
    check_shape("pbc", flags, "B", 3)
    if flags.size(0) not in (1, num_graphs):
        raise ValueError(f"pbc must have shape [3] or [{num_graphs}, 3] (one row per graph), got {list(flags.shape)}")
    return flags


def complete_cells(cells: Tensor, periodic: Tensor) -> Tensor:
    """Replaces the rows that are not periodic by unit vectors at right angles to the periodic ones."""
    rows = torch.where(periodic[..., None], cells, 0.0)
    lengths = rows.norm(dim=2)
    unit = rows / torch.where(lengths > 0, lengths, 1.0)[..., None]
    # The null space of the periodic rows: right singular vectors, largest singular value first.
    _, singular, right = torch.linalg.svd(unit)
    count = periodic.sum(dim=1)
    least = singular.gather(1, (count - 1).clamp(min=0)[:, None]).squeeze(1)
    flat = (count > 0) & ~(least > _FLAT)
    if bool(flat.any()):
        number = int(flat.nonzero()[0])
        raise ValueError(
            f"cell {number} has no volume: its periodic vectors {cells[number][periodic[number]].tolist()} are zero or "
            "linearly dependent; set pbc=False along directions that do not repeat"
        )
    # the n-th free row takes the n-th vector of the null space
    place = ((~periodic).long().cumsum(dim=1) - 1 + count[:, None]).clamp(max=2)
    free = right.gather(1, place[..., None].expand(-1, -1, 3))
    return torch.where(periodic[..., None], cells, free)


def _search(points: Points, cells: Tensor, periodic: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs within the radius and their shifts: candidates from wrapped points, decided on the given positions."""
    owner = torch.zeros_like(points.graph()) if cells.size(0) == 1 else points.graph()
    inverse = torch.linalg.inv(cells)
    fraction = (points.columns.t()[:, None, :] @ inverse[owner]).squeeze(1)
    home = torch.where(periodic[owner], fraction.floor(), 0.0)
    fraction -= home
    wrapped = Points(points.columns - lattice_columns(home, cells, owner), points.batch)

    largest = float(points.columns.abs().amax())
    reach = radius * SLACK + 64 * torch.finfo(torch.float64).eps * largest  # wrapping has rounded
    margin = reach * inverse.norm(dim=1) + 1e-9  # the cutoff as a part of the distance between opposite faces
    image, step = _images(fraction, margin[owner], periodic[owner])
    ghosts = Points(
        wrapped.columns[:, image] + lattice_columns(step, cells, owner[image]),
        None if points.batch is None else points.batch[image],
    )
    inner_j, inner_i = pairs_within(wrapped, None, reach)
    outer_j, i_outer = pairs_within(ghosts, wrapped, reach)
    j = torch.cat([inner_j, image[outer_j]])
    i = torch.cat([inner_i, i_outer])
    moved = torch.cat([step.new_zeros(inner_j.numel(), 3), step[outer_j]])
    shift = moved - home[j] + home[i] if bool(home.any()) else moved
    inside = periodic_squares(points, cells, owner, j, i, shift) <= radius * radius
    if bool(inside.all()):
        return j, i, shift.long()
    return j[inside], i[inside], shift[inside].long()


def lattice_columns(shift: Tensor, cells: Tensor, owner: Tensor) -> Tensor:
    """``shift @ cell`` as columns ``[3, P]``, summed in a fixed order: the opposite shift gives the exact opposite."""
    one = cells.size(0) == 1
    columns = []
    for axis in range(3):
        rows = [cells[0, r, axis] if one else cells[owner, r, axis] for r in range(3)]
        columns.append((shift[:, 0] * rows[0] + shift[:, 1] * rows[1]) + shift[:, 2] * rows[2])
    return torch.stack(columns)


def periodic_squares(points: Points, cells: Tensor, owner: Tensor, j: Tensor, i: Tensor, shift: Tensor) -> Tensor:
    """Squared distances of the pairs ``(j, i)`` with their shifts, ``[P]``; the one formula that decides."""
    total = torch.zeros(j.numel(), dtype=torch.float64, device=j.device)
    for column, move in zip(points.columns, lattice_columns(shift, cells, owner[i]), strict=True):
        step = column[j] - column[i]
        step += move
        total += step.square_()
    return total


def _images(fraction: Tensor, margin: Tensor, periodic: Tensor) -> tuple[Tensor, Tensor]:
    """Images of the wrapped points close enough to the cell to matter: the point of each, and its step ``[G, 3]``."""
    low = torch.where(periodic, (-margin - fraction).ceil(), 0.0)
    high = torch.where(periodic, (1 + margin - fraction).floor(), 0.0)
    count = high - low + 1
    total = float(count.prod(dim=1).sum())
    if total > _MOST_IMAGES:
        raise ValueError(
            f"the cutoff reaches {total:.3g} periodic images, too many to list; check the units of cutoff and cell, "
            "or give an equivalent cell that is less skewed"
        )
    point = torch.arange(fraction.size(0), device=fraction.device)
    step = fraction.new_empty(point.numel(), 0)
    for axis in range(3):
        repeats = count[point, axis].long()
        row = torch.repeat_interleave(repeats)
        place = torch.arange(row.numel(), device=row.device) - (repeats.cumsum(0) - repeats)[row]
        point, step = point[row], torch.cat([step[row], (low[point[row], axis] + place)[:, None]], dim=1)
    ghost = (step != 0).any(dim=1)
    return point[ghost], step[ghost]


def _sort(j: Tensor, i: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """By target, then source, then shift."""
    if j.numel() == 0:
        return torch.stack([j, i]), shift
    low, high = shift.amin(dim=0), shift.amax(dim=0)
    spans = [int(h) - int(a) + 1 for a, h in zip(low, high, strict=True)]
    columns = [i, j, *(shift - low).unbind(1)]
    i, j, *steps = sort_rows(columns, [int(i.amax()) + 1, int(j.amax()) + 1, *spans])
    return torch.stack([j, i]), torch.stack(steps, dim=1) + low

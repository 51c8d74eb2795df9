"""Points and pixels of the plane as a graph with polar coordinates: harmonic networks by the gauge layers."""

import math

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..neighbors import radius_edges, tie_tolerance
from ._edges import graph_of_nodes, require_data, require_pos, store_area, write_edges
from ._voronoi import voronoi_areas

_AREAS = ("voronoi", "given")


@functional_transform("plane_gauge")
class PlaneGauge(BaseTransform):
    r"""Connects points of the plane, or pixels, at most a cut-off apart, with polar coordinates of each neighbour.

    The plane is flat and has one frame for all points, so ``transport`` is zero and a gauge layer on this graph is a
    layer of a harmonic network. When the points turn by :math:`\theta` about any place, angles become
    :math:`\varphi + \theta` and features of order m become :math:`e^{i m \theta} x_m`: exactly, for any angle. On
    pixels that holds for quarter turns.

    Reads ``pos`` (``[N, 2]``, or ``[N, 3]`` with z = 0; any unit) and on a batch ``batch``; or, without ``pos``, the
    attribute ``grid`` = (nx, ny), as ``GroupGraph`` writes it. Writes ``edge_index`` (``[2, E]``, both ways, sorted by
    target, then source, no loops), ``polar`` ``[E, 2]`` (length and angle of the source seen from the target, from x
    towards y, in (-pi, pi]), ``transport`` ``[E]`` (zeros), ``area`` ``[N]``, ``frame`` ``[N, 3, 3]`` (identity: x, y,
    z), computed in float64 and stored in the dtype of ``pos``. Removes the attributes of former edges.

    Pixels: node ``iy * nx + ix`` is the pixel in row iy from the top, column ix from the left, as in images
    ``[B, C, ny, nx]`` flattened; ``pos`` is ``(ix - (nx - 1) / 2, (ny - 1) / 2 - iy)``: x to the right, **y up**, unit
    one pixel, origin in the centre. So ``torch.rot90(image, 1, (-2, -1))``, counter-clockwise to the eye, turns points
    by +90 degrees. ``area`` is 1. ``nn.GaugeConv2d`` computes on images what ``nn.GaugeConv`` computes on this graph.

    Args:
        cutoff: Largest distance of neighbours, in the unit of ``pos``. Pairs exactly at it are connected.
        grid: Pixels along each side, n or (nx, ny), for data without points.
        area: ``"voronoi"``: the part of the Voronoi cell of each point closer than ``cutoff / 2`` (without this, cells
            at the border would be as large as they like); ``"given"``: keep ``data.area``. Pixels always have area 1.
        dtype: Of the attributes of a grid; default torch's default. Points keep theirs.

    Raises:
        ValueError: If the cut-off is not positive, there are neither points nor a grid, a point is not finite, lies
            off the plane z = 0 or on another point, or ``area="given"`` without a valid area.

    Example:
        >>> pixels = PlaneGauge(cutoff=1.5, grid=3)(Data())
        >>> pixels.num_nodes, pixels.num_edges
        (9, 40)
        >>> PlaneGauge(cutoff=2.0)(Data(pos=torch.tensor([[0.0, 0.0], [0.0, 1.0]]))).polar
        tensor([[ 1.0000,  1.5708],
                [ 1.0000, -1.5708]])

    Source: Worrall et al. (2017), https://arxiv.org/abs/1612.04642, on points as on pixels.
    """

    def __init__(
        self,
        cutoff: float,
        grid: int | tuple[int, int] | None = None,
        area: str = "voronoi",
        dtype: torch.dtype | None = None,
    ) -> None:
        if not (cutoff > 0 and math.isfinite(cutoff)):
            raise ValueError(f"cutoff must be positive and finite, got {cutoff}")
        if area not in _AREAS:
            raise ValueError(f"area must be one of {_AREAS}, got {area!r}")
        self.cutoff, self.area, self.dtype = float(cutoff), area, dtype
        if dtype not in (None, torch.float32, torch.float64):
            raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype!r}")
        self.grid = None if grid is None else _read_grid(grid)

    def forward(self, data: Data) -> Data:
        """Writes the graph to ``data`` and returns it."""
        require_data(data, "PlaneGauge")
        if self.grid is not None:
            return self._on_grid(data, self.grid)
        if data.pos is None and data.get("grid") is not None:
            _reject_batch(data)
            return self._on_grid(data, _read_grid(data.grid))
        return self._on_points(data)

    def _on_points(self, data: Data) -> Data:
        pos = require_pos(data, "PlaneGauge")
        plane = _in_plane(pos.detach())
        batch = graph_of_nodes(data, pos.size(0))
        edge_index = radius_edges(plane, self.cutoff, batch)
        source, target = edge_index
        offset = plane.double()[source] - plane.double()[target]
        _reject_coincident(pos, edge_index, offset)
        area = self._area_of(data, edge_index, offset)
        return self._write(data, edge_index, offset, area, pos.dtype, batch)

    def _area_of(self, data: Data, edge_index: Tensor, offset: Tensor) -> Tensor:
        count = data.pos.size(0)
        if self.area == "voronoi":
            return voronoi_areas(edge_index, offset, count, self.cutoff / 2)
        area = data.get("area")
        if not isinstance(area, Tensor) or area.shape != (count,) or not _sound(area):
            got = f"shape {list(area.shape)}" if isinstance(area, Tensor) and area.shape != (count,) else area
            raise ValueError(
                f"area='given' needs data.area [{count}], none of them negative, infinite or NaN, got {got}"
            )
        return area

    def _on_grid(self, data: Data, grid: tuple[int, int]) -> Data:
        _reject_batch(data)
        width, height = grid
        dtype = self.dtype or torch.get_default_dtype()
        edge_index, offset = grid_edges(height, width, self.cutoff)
        row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        x, y = column.flatten() - (width - 1) / 2, (height - 1) / 2 - row.flatten()
        data.pos = torch.stack([x, y], 1).to(dtype)
        data.grid = grid
        return self._write(data, edge_index, offset, torch.ones(width * height), dtype, None)

    def _write(
        self, data: Data, edge_index: Tensor, offset: Tensor, area: Tensor, dtype: torch.dtype, batch: Tensor | None
    ) -> Data:
        angle = torch.atan2(offset[:, 1], offset[:, 0])
        polar = torch.stack([torch.linalg.vector_norm(offset, dim=1), angle], dim=1).to(dtype)
        flat = polar.new_tensor(-math.pi)  # atan2 gives -pi left of the point if y is -0.0
        polar[:, 1] = torch.where(polar[:, 1] <= flat, -flat, polar[:, 1])
        write_edges(data, edge_index, batch, polar=polar, transport=polar.new_zeros(edge_index.size(1)))
        data.area = store_area(area, polar)
        data.frame = torch.eye(3, dtype=dtype, device=polar.device).repeat(area.size(0), 1, 1)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cutoff={self.cutoff}, grid={self.grid}, area={self.area!r}, dtype={self.dtype})"


def grid_edges(height: int, width: int, cutoff: float) -> tuple[Tensor, Tensor]:
    """Edges between pixels at most ``cutoff`` apart, ``[2, E]``, and source minus target ``[E, 2]``, y up, float64."""
    reach = math.floor(cutoff * (1 + tie_tolerance(torch.float64)))
    line = torch.arange(-reach, reach + 1)
    down, right = torch.meshgrid(line, line, indexing="ij")
    near = down**2 + right**2 <= (cutoff * (1 + tie_tolerance(torch.float64))) ** 2
    near &= (down != 0) | (right != 0)
    down, right = down[near], right[near]  # row by row, so sources come in order
    iy, ix = torch.arange(height * width) // width, torch.arange(height * width) % width
    inside = ((iy[:, None] + down) >= 0) & ((iy[:, None] + down) < height)
    inside &= ((ix[:, None] + right) >= 0) & ((ix[:, None] + right) < width)
    target, which = inside.nonzero().unbind(1)
    source = target + down[which] * width + right[which]
    return torch.stack([source, target]), torch.stack([right[which], -down[which]], dim=1).double()


def _reject_batch(data: Data) -> None:
    if isinstance(data, Batch):
        raise ValueError("a grid is one graph for all images; give x [B, N, C] to the layers instead of a Batch")


def _sound(area: Tensor) -> bool:
    return bool(((area >= 0) & (area < math.inf)).all())


def _is_count(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and n > 0


def _reject_coincident(pos: Tensor, edge_index: Tensor, offset: Tensor) -> None:
    zero = (offset == 0).all(dim=1).nonzero().flatten()
    if zero.numel():
        j, i = sorted(edge_index[:, zero[0]].tolist())
        raise ValueError(
            f"points {j} and {i} coincide at {pos[j].tolist()}: the edge between them has no direction; merge them"
        )


def _in_plane(pos: Tensor) -> Tensor:
    """The first two coordinates, ``[N, 2]``."""
    if pos.size(1) == 2:
        return pos
    if pos.size(1) != 3:
        raise ValueError(f"pos must be [N, 2], or [N, 3] with z = 0, got {list(pos.shape)}")
    off = pos[:, 2].nonzero().flatten()
    if off.numel():
        i = int(off[0])
        raise ValueError(
            f"points must lie in the plane z = 0, but point {i} is at {pos[i].tolist()}; use MeshGauge for surfaces, "
            "or drop the third coordinate"
        )
    return pos[:, :2]


def _read_grid(grid: object) -> tuple[int, int]:
    """(nx, ny) of a number or a pair."""
    pair: object = (grid, grid) if isinstance(grid, int) else tuple(grid) if isinstance(grid, tuple | list) else grid
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(_is_count(n) for n in pair):
        raise ValueError(f"grid must be a positive integer n or a pair (nx, ny), got {grid!r}")
    return pair

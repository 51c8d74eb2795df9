"""The geometry of discrete-continuous convolutions: which node sees which, through which filter, with what weight."""

import math
import weakref
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from ..groups._lasting import lasting
from ..spheres import Sampling
from ._disco_norm import CHUNK, NORMS, Groups, normalised
from .caps import Meridian, find_caps, find_meridian, meridian_frames, shares_meridian, spread_meridian
from .filter_basis import FilterBasis, KernelShape, filter_basis

RIM = 1e-3  # relative: nodes that lie on the rim must not come and go with the last digit


class RingEntries(NamedTuple):
    """The filters of one meridian of caps, quadrature included.

    Attributes:
        cap_row: Row of the middle of the cap, ``[M]``.
        row: Row of the node in it, ``[M]``.
        offset: Column of that node for the cap in column 0, ``[M]``.
        coef: Coefficients, float64, ``[M, K]``.
    """

    cap_row: Tensor
    row: Tensor
    offset: Tensor
    coef: Tensor


class DiscoGeometry:
    r"""Coefficients :math:`\Psi_{ek}` with which the value at a source goes into that at a target.

    Forward, caps are around targets and :math:`\Psi_{ek} = q_j \, \psi_k(r_{ij}, a_{ij}) / s_k`; transposed, caps are
    around sources and :math:`\Psi_{ek} = q_j \, \psi_k(r_{ji}, a_{ji}) / s_k`: the source j is the middle. In both,
    :math:`q_j = A_j / 4 \pi` is the weight of the source, and :math:`s_k` the normalisation. Where both samplings are
    grids with matching columns, one meridian of caps is computed and stands for all; the full list of edges is built
    when it is first asked for. Take one from :func:`disco_geometry`, which keeps them.

    Args:
        source: Sampling of the input.
        target: Sampling of the output.
        basis: Filters; its cut-off is the radius of the caps.
        norm: See :func:`disco_geometry`.
        transposed: Whether caps are around sources.
        cutoff: Nominal radius, which the norm ``"geometric"`` divides by; default that of the basis.

    Raises:
        ValueError: If an option does not exist or a node of the output is in no cap, or its cap holds no node.
    """

    def __init__(
        self,
        source: Sampling,
        target: Sampling,
        basis: FilterBasis,
        norm: str = "mean",
        transposed: bool = False,
        cutoff: float | None = None,
    ) -> None:
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
        self.source, self.target, self.basis, self.norm, self.transposed = source, target, basis, norm, transposed
        self.cutoff = basis.cutoff if cutoff is None else cutoff
        self._caps, self._points = (source, target) if transposed else (target, source)
        self.on_rings = shares_meridian(self._caps, self._points)
        if self.on_rings:
            self._check_rows(self._meridian)
        else:
            self._check_nodes(self._edges[0])

    @property
    def size(self) -> tuple[int, int]:
        """Nodes of the input and of the output."""
        return self.source.num_nodes, self.target.num_nodes

    @property
    def num_edges(self) -> int:
        """Pairs of a source and a target that sees it, without listing them."""
        return self._meridian.r.numel() * self._grids()[0][1] if self.on_rings else self._edges[0].size(1)

    @cached_property
    def _meridian(self) -> Meridian:
        return lasting(find_meridian)(self._caps, self._points, self.basis.cutoff)

    @cached_property
    def entries(self) -> RingEntries:
        """One meridian of caps, for grids with matching columns.

        Raises:
            ValueError: If the samplings are no such grids.
        """
        return lasting(self._make_entries)()

    def _make_entries(self) -> RingEntries:
        meridian = self._meridian if self.on_rings else find_meridian(self._caps, self._points, self.basis.cutoff)
        (rows, columns), (point_rows, point_columns) = self._grids()
        cap_weight = self._caps.area.view(rows, columns)[:, 0] / (4 * math.pi)
        point_weight = self._points.area.view(point_rows, point_columns)[:, 0] / (4 * math.pi)
        if self.transposed:
            groups = Groups(meridian.row, point_rows, columns / point_columns, None)
            weight = cap_weight[meridian.cap_row]
        else:
            groups = Groups(meridian.cap_row, rows, 1.0, None)
            weight = point_weight[meridian.row]
        coef = self._coefficients(meridian.r, meridian.angle, weight, groups)
        return RingEntries(meridian.cap_row, meridian.row, meridian.offset, coef)

    @cached_property
    def _edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """Edges (source, target), distance and azimuth, where no meridian stands for all caps."""
        caps = lasting(find_caps)(self._caps.pos, meridian_frames(self._caps), self._points.pos, self.basis.cutoff)
        edges, r, angle = caps
        if self.transposed:  # from (point, cap) = (target, source), sorted by cap
            order = (edges[0] * self._caps.num_nodes + edges[1]).argsort()
            edges, r, angle = edges.flip(0)[:, order], r[order], angle[order]
        return edges, r, angle

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """``edge_index [2, E]`` (source, target), sorted by target and then source, and ``coef [E, K]``, float64.

        Made anew each time: what layers derive from it is what is worth keeping.
        """
        return lasting(self._spread if self.on_rings else self._make_edges)()

    def _make_edges(self) -> tuple[Tensor, Tensor]:
        edges, r, angle = self._edges
        area = self.target.area
        groups = Groups(edges[1], self.target.num_nodes, 1.0, area / area.sum())
        weight = self.source.area[edges[0]] / (4 * math.pi)
        return edges, self._coefficients(r, angle, weight, groups)

    def _spread(self) -> tuple[Tensor, Tensor]:
        edges, entry = self._spread_edges()
        return edges, self.entries.coef[entry]

    def _spread_edges(self) -> tuple[Tensor, Tensor]:
        edges, entry = spread_meridian(self._meridian, *self._grids())
        if self.transposed:
            order = (edges[0] * self._caps.num_nodes + edges[1]).argsort()
            edges, entry = edges.flip(0)[:, order], entry[order]
        return edges, entry

    def polar(self) -> tuple[Tensor, Tensor, Tensor]:
        """``edge_index [2, E]``, distance and azimuth ``[E]`` of every edge, in the order of :attr:`edges`."""
        if not self.on_rings:
            return self._edges
        edges, entry = self._spread_edges()
        return edges, self._meridian.r[entry], self._meridian.angle[entry]

    def _coefficients(self, r: Tensor, angle: Tensor, weight: Tensor, groups: Groups) -> Tensor:
        psi = _by_parts(self.basis, r, angle)
        inside = _by_parts(self.basis.support, r, angle) if self.norm in ("support", "modal") else psi
        made = normalised(psi, inside, weight, groups, self.norm, self.basis.isotropic, self.cutoff)
        return made.mul_(weight[:, None])

    def _grids(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the caps and of the points in them."""
        caps, points = self._caps.grid, self._points.grid
        assert caps is not None
        assert points is not None
        return caps, points

    def _check_rows(self, meridian: Meridian) -> None:
        (rows, columns), (point_rows, point_columns) = self._grids()
        if not self.transposed:
            empty = (torch.bincount(meridian.cap_row, minlength=rows) == 0).nonzero().flatten()
            self._complain(empty * columns, columns)
            return
        ratio = point_columns // columns  # columns of the finer grid that one cap after the other sees in the same way
        place = meridian.row * ratio + meridian.offset % ratio
        empty = (torch.bincount(place, minlength=point_rows * ratio) == 0).nonzero().flatten()
        self._complain(empty.div(ratio, rounding_mode="floor") * point_columns + empty % ratio, columns)

    def _check_nodes(self, edges: Tensor) -> None:
        empty = (torch.bincount(edges[1], minlength=self.target.num_nodes) == 0).nonzero().flatten()
        self._complain(empty, 1)

    def _complain(self, empty: Tensor, copies: int) -> None:
        """Raises if there are nodes of the output without any of the input; each stands for some."""
        if not empty.numel():
            return
        node, count = int(empty[0]), copies * len(empty)
        apart, together = (self.source.pos - self.target.pos[node]), (self.source.pos + self.target.pos[node])
        nearest = float((2 * torch.atan2(apart.norm(dim=1), together.norm(dim=1))).min())
        raise ValueError(
            f"{count} of {self.target.num_nodes} nodes of {self.target} have no node of {self.source} within "
            f"cutoff={self.cutoff:.6g}: the nearest to node {node} is {nearest:.6g} radians away; take a larger "
            "cutoff, or leave those nodes out with target.part(index)"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "DiscoGeometry":
        return self  # it never changes

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        shape = self.basis.kernel_shape
        given = (self.source, self.target, self.cutoff, self.basis.name, shape, self.norm, self.transposed)
        return disco_geometry, given

    def __repr__(self) -> str:
        way = ", transposed=True" if self.transposed else ""
        return f"{type(self).__name__}({self.source}, {self.target}, {self.basis}, norm={self.norm!r}{way})"


_KEPT: "weakref.WeakValueDictionary[tuple[Any, ...], DiscoGeometry]" = weakref.WeakValueDictionary()


def disco_geometry(
    source: Sampling,
    target: Sampling,
    cutoff: float | None = None,
    basis: str = "hann",
    kernel_shape: KernelShape = (3, 3),
    norm: str = "mean",
    transposed: bool = False,
) -> DiscoGeometry:
    r"""The :class:`DiscoGeometry` of these arguments, the same object for equal ones as long as somebody holds it.

    Normalisations, with :math:`S_{ik} = \sum_j |\psi_k(r_{ij}, a_{ij})| \, q_j` over the cap of the output node i, or,
    for grids whose columns match, its mean over the row of i:

    - ``"none"``: :math:`s = 1`, plain quadrature of total weight 1.
    - ``"mean"``: :math:`s_k` is the mean of :math:`S_{ik}` over rows (over the sphere, by area, without them). One
      number per filter, so that the convolution stays the quadrature it is.
    - ``"nodal"``: :math:`S_{ik}` itself.
    - ``"modal"``: filters that depend on the azimuth first lose their mean over each cap, then as ``"nodal"``.
    - ``"support"``: the weight :math:`\sum_j q_j` where the filter lives.
    - ``"geometric"``: :math:`(1 - \cos \mathrm{cutoff}) / 4`, one number.

    On grids these are those of torch-harmonics, number by number, but for ``"modal"`` and ``"support"`` with
    ``"piecewise_linear"``, which ask on how many nodes a hat stands: those on its feet count here always, there by the
    last digit of an arc tangent, and outputs differ by 2 to 40 %.

    Args:
        source: Sampling of the input.
        target: Sampling of the output.
        cutoff: Radius of the filters, radians, in (0, pi]; by default :func:`default_cutoff`. Nodes up to a thousandth
            beyond count as on the rim, and the filters are stretched by as much.
        basis: Name, see :func:`filter_basis`.
        kernel_shape: See there.
        norm: As above.
        transposed: Whether caps are around the nodes of the input.

    Raises:
        ValueError: If a name or number makes no sense, or a node of the output sees no node of the input.
    """
    if cutoff is None:
        cutoff = default_cutoff(source, target, kernel_shape)
    if not isinstance(cutoff, int | float) or not 0 < cutoff <= math.pi:
        raise ValueError(f"cutoff is an angle in radians, more than 0 and at most pi, got {cutoff!r}")
    filters = filter_basis(basis, kernel_shape, (1 + RIM) * cutoff)
    key = (source.key, target.key, float(cutoff), basis, filters.kernel_shape, norm, transposed)
    found = _KEPT.get(key)
    if found is None:
        found = lasting(DiscoGeometry)(source, target, filters, norm, transposed, cutoff)
        _KEPT[key] = found
    return found


def default_cutoff(source: Sampling, target: Sampling, kernel_shape: KernelShape = (3, 3)) -> float:
    """Rings of filters one step of the coarser sampling apart: ``(n_r + 1) / 2`` steps, radians, at most pi.

    A step is :attr:`Sampling.step <geomeq.spheres.Sampling.step>`: the side of a mean cell, or the widest gap between
    rows where a grid has a wider one. A rotated grid has the step of the grid that was rotated.
    """
    radial = kernel_shape if isinstance(kernel_shape, int) else kernel_shape[0]
    return min((radial + 1) / 2 * max(source.step, target.step), math.pi)


def _by_parts(function: Callable[[Tensor, Tensor], Tensor], r: Tensor, angle: Tensor) -> Tensor:
    """A function of many edges, whose intermediate results are those of some of them at a time."""
    parts = [function(*part) for part in zip(r.split(CHUNK), angle.split(CHUNK), strict=True)]
    return torch.cat(parts)


def disco_graph(
    src: Sampling,
    dst: Sampling,
    cutoff: float | None = None,
    basis: str = "hann",
    kernel_shape: KernelShape = (3, 3),
    norm: str = "mean",
) -> Data:
    """The graph of a DISCO convolution from one sampling to another, for layers and message passing of your own.

    Args:
        src: Sampling of the input.
        dst: Sampling of the output.
        cutoff: Radius of the filters, radians; by default :func:`default_cutoff`.
        basis: Name, see :func:`filter_basis`.
        kernel_shape: See there.
        norm: See :func:`disco_geometry`.

    Returns:
        ``edge_index`` ``[2, E]`` from ``src`` to ``dst``, sorted by target and then source; ``polar`` ``[E, 2]``, the
        distance and azimuth of the source seen from the target; ``psi`` ``[E, K]``, the filters there times the
        quadrature weight; ``pos`` and ``area`` of ``src`` and ``pos_dst``, ``area_dst`` of ``dst``; float64.

    Raises:
        ValueError: As for :func:`disco_geometry`.

    Example:
        >>> from geomeq import spheres
        >>> graph = disco_graph(spheres.healpix(4), spheres.healpix(2), cutoff=0.4)
        >>> graph.edge_index.shape, graph.psi.shape
        (torch.Size([2, 352]), torch.Size([352, 4]))
    """
    geometry = disco_geometry(src, dst, cutoff, basis, kernel_shape, norm)
    edges, r, angle = geometry.polar()
    return Data(
        pos=src.pos,
        edge_index=edges,
        polar=torch.stack([r, angle], dim=1),
        psi=geometry.edges[1],
        area=src.area,
        pos_dst=dst.pos,
        area_dst=dst.area,
    )

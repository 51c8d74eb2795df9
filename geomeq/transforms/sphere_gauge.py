"""Relative geometry on the sphere: great circles, azimuths and parallel transport between tangent frames."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from .._checks import check_finite, check_shape
from ..groups import wrap_angle
from ..groups.so3 import sphere_frame
from ..neighbors import tie_tolerance
from ..spheres import Sampling, voronoi_area
from ..spheres._edges import edges_of_rings, edges_within, great_circles
from ..spheres.scattered import unit_vectors
from ._edges import graph_of_nodes, require_data, require_pos, write_edges

_FRAMES = ("meridian", "random", "given")


@functional_transform("sphere_gauge")
class SphereGauge(BaseTransform):
    r"""Connects near points of the unit sphere and writes what gauge-equivariant layers read.

    With :math:`a_{ij}` the azimuth at which the source j is seen from the target i, in the frame of i, and
    :math:`a_{ji}` the azimuth of i in the frame of j:

    .. math:: \mathrm{polar} = (r_{ij}, a_{ij}), \qquad \mathrm{transport} = a_{ij} - a_{ji} - \pi \pmod{2 \pi},

    the great-circle log map and parallel transport along the great circle. It works on any points: the samplings of
    :mod:`geomeq.spheres`, or a ``Data`` of your own.

    Reads a :class:`geomeq.spheres.Sampling` (the result then has torch's default dtype), or ``pos`` ``[N, 3]``, unit
    vectors, and ``area``, ``face``, ``frame`` where there are any. Writes ``edge_index`` (both ways, sorted by target
    and then source, no loops), ``polar`` ``[E, 2]`` and ``transport`` ``[E]`` in radians, ``frame`` ``[N, 3, 3]`` (rows
    e1, e2 and the normal, which is the point itself), and ``area`` ``[N]`` if there was none (Voronoi cells). Computed
    in float64, stored in the dtype of ``pos``.

    Two places see no direction to each other, and have no edge: a point and itself, and so **coincident** nodes (the
    pole rows of an equiangular grid), and **antipodes** (only if the cut-off is pi). ``loops=True`` adds edges of
    length 0 between a node and itself and between coincident nodes, with angle 0 and the exact transport: the term
    :math:`j = i` of a quadrature. Only kernels that vanish at :math:`r = 0` wherever they depend on the angle may use
    them (``GaugeConv(basis="smooth")``).

    Args:
        cutoff: Connect points at most this far apart, radians, up to pi. A pair exactly at the cut-off is connected.
        rings: Instead: connect points at most so many edges apart on ``face``, or on the convex hull of the points.
        frames: ``"meridian"``: south, east, and the point; at a pole, south along longitude 0 (any pair would do).
            ``"random"``: these turned by random angles. ``"given"``: those in ``data.frame``.
        loops: Whether nodes have edges of length 0 to themselves and to coincident nodes.
        allow_isolated: Whether a node may be without a neighbour.
        seed: Of random frames.

    Raises:
        TypeError: If ``pos`` holds no floating-point numbers.
        ValueError: If a point is not on the sphere, a frame is not orthonormal or not tangent, or a node has no
            neighbour.

    Example:
        >>> from geomeq import spheres
        >>> SphereGauge(cutoff=0.5)(spheres.healpix(4))
        Data(pos=[192, 3], area=[192], edge_index=[2, 1672], polar=[1672, 2], transport=[1672], frame=[192, 3, 3])
    """

    def __init__(
        self,
        cutoff: float | None = None,
        rings: int | None = None,
        frames: Literal["meridian", "random", "given"] = "meridian",
        loops: bool = False,
        allow_isolated: bool = False,
        seed: int = 0,
    ) -> None:
        if (cutoff is None) == (rings is None):
            raise ValueError(f"give either cutoff or rings, got cutoff={cutoff} and rings={rings}")
        if cutoff is not None and not 0 < cutoff <= math.pi:
            raise ValueError(f"cutoff is an angle in radians, more than 0 and at most pi, got {cutoff}")
        if rings is not None and (not isinstance(rings, int) or isinstance(rings, bool) or rings < 1):
            raise ValueError(f"rings must be an integer of at least 1, got {rings!r}")
        if frames not in _FRAMES:
            raise ValueError(f"frames must be one of {_FRAMES}, got {frames!r}; set data.frame for frames='given'")
        if not isinstance(seed, int) or isinstance(seed, bool):
            raise TypeError(f"seed must be an integer, got {seed!r}")
        self.cutoff, self.rings, self.frames = cutoff, rings, frames
        self.loops, self.allow_isolated, self.seed = loops, allow_isolated, seed

    def forward(self, data: Data | Sampling) -> Data:
        """Writes the graph to ``data`` and returns it."""
        exact = data.pos if isinstance(data, Sampling) else None
        data = data.to_data(torch.get_default_dtype()) if isinstance(data, Sampling) else data
        require_data(data, "SphereGauge")
        given = require_pos(data, "SphereGauge")
        pos = unit_vectors(given) if exact is None else exact
        same = 1e-9 if exact is not None or given.dtype == torch.float64 else 1e-6
        batch = graph_of_nodes(data, len(pos))
        frame = self._frame(data, pos)
        edges = self._edges(data, pos, batch, same)
        length, azimuth, back = great_circles(pos, frame, edges)
        seen = (length > same) & (length < math.pi - same)
        if not self.allow_isolated:
            self._check_neighbours(pos, edges[:, seen], batch)
        polar, transport = torch.stack([length, azimuth], dim=1), wrap_angle(azimuth - back - math.pi)
        edges, polar, transport = edges[:, seen], polar[seen], transport[seen]
        if self.loops:
            edges, polar, transport = _add_loops(edges, polar, transport, _coincident(pos, batch, same), frame)
        if data.get("area") is None:
            data.area = _areas(pos, batch).to(given)
        check_shape("area", data.area, len(pos))
        check_finite("area", data.area, hint="delete it to have Voronoi cells")
        out = {"polar": polar.to(given), "transport": transport.to(given)}
        write_edges(data, edges.to(given.device), batch, **out)
        data.frame = frame.to(given)
        return data

    def _edges(self, data: Data, pos: Tensor, batch: Tensor | None, same: float) -> Tensor:
        if self.cutoff is not None:
            rtol = tie_tolerance(torch.float64 if same < 1e-8 else torch.float32)
            return edges_within(pos, self.cutoff, None if batch is None else batch.cpu(), rtol)
        assert self.rings is not None
        if batch is not None and int(batch.max()) > 0:
            raise ValueError("rings are those of one sphere; apply SphereGauge(rings=...) before batching")
        return edges_of_rings(pos, self.rings, data.get("face"), same)

    def _frame(self, data: Data, pos: Tensor) -> Tensor:
        if self.frames == "given":
            return _given_frame(data, pos)
        frame = sphere_frame(pos).transpose(1, 2)
        if self.frames == "meridian":
            return frame
        turn = torch.rand(len(pos), generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64)
        cos, sin = (2 * math.pi * turn).cos()[:, None], (2 * math.pi * turn).sin()[:, None]
        e1, e2, normal = frame.unbind(1)
        return torch.stack([cos * e1 + sin * e2, cos * e2 - sin * e1, normal], dim=1)

    def _check_neighbours(self, pos: Tensor, edge_index: Tensor, batch: Tensor | None) -> None:
        alone = (torch.bincount(edge_index[1], minlength=len(pos)) == 0).nonzero().flatten()
        if alone.numel() == 0:
            return
        node = int(alone[0])
        others = torch.ones(len(pos), dtype=torch.bool) if batch is None else batch.cpu() == batch.cpu()[node]
        distance = 2 * torch.asin(((pos[others] - pos[node]).norm(dim=1) / 2).clamp(max=1))
        nearest = float(distance[distance > 1e-6].min()) if bool((distance > 1e-6).any()) else math.inf
        raise ValueError(
            f"{alone.numel()} of {len(pos)} nodes have no neighbour within cutoff={self.cutoff}: the nearest of node "
            f"{node} is {nearest:.4g} radians away; take a larger cutoff or allow_isolated=True"
        )

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(cutoff={self.cutoff}, rings={self.rings}, frames={self.frames!r}, "
            f"loops={self.loops}, allow_isolated={self.allow_isolated}, seed={self.seed})"
        )


def _given_frame(data: Data, pos: Tensor) -> Tensor:
    """The frames of ``data``, made orthonormal to the last digit.

    Raises:
        ValueError: If there are none, or one is not orthonormal, or its third row is not the point.
    """
    frame = data.get("frame")
    if frame is None:
        raise ValueError(f"frames='given' reads data.frame [N, 3, 3], but the data has only {sorted(data.keys())}")
    check_shape("frame", frame, len(pos), 3, 3)
    check_finite("frame", frame)
    frame = frame.detach().double().cpu()
    off = (frame @ frame.transpose(1, 2) - torch.eye(3, dtype=frame.dtype)).abs().amax(dim=(1, 2))
    off = torch.maximum(off, (frame[:, 2] - pos).abs().amax(dim=1))
    if bool((off > 1e-4).any()):
        node = int(off.argmax())
        raise ValueError(
            f"the rows of frame must be e1, e2 and the point itself, orthonormal; that of node {node} is off by "
            f"{float(off[node]):.2g}"
        )
    turned = torch.linalg.det(frame)
    if bool((turned > 0).any()) and bool((turned < 0).any()):
        raise ValueError("frames must be all right-handed (or, after a reflection, all left-handed), got some of each")
    e1 = frame[:, 0] - (frame[:, 0] * pos).sum(dim=1, keepdim=True) * pos
    e1 = e1 / e1.norm(dim=1, keepdim=True)
    return torch.stack([e1, torch.linalg.cross(pos, e1) * turned.sign()[:, None], pos], dim=1)


def _coincident(pos: Tensor, batch: Tensor | None, same: float) -> Tensor:
    """Pairs at the same place, ``[2, P]``: each node with itself and with its copies."""
    loop = torch.arange(len(pos)).expand(2, -1)
    return torch.cat([edges_within(pos, same, None if batch is None else batch.cpu(), 0.0), loop], dim=1)


def _add_loops(
    edges: Tensor, polar: Tensor, transport: Tensor, pairs: Tensor, frame: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Edges with those of length 0 among them, sorted by target and then source."""
    j, i = pairs
    x, y = torch.einsum("eak,ek->ae", frame[i, :2], frame[j, 0])  # e1 of j in the frame of i
    turn = torch.where(i == j, 0.0, wrap_angle(torch.atan2(y, x)))
    edges = torch.cat([edges, pairs], dim=1)
    order = (edges[1] * len(frame) + edges[0]).argsort()
    polar = torch.cat([polar, polar.new_zeros(len(j), 2)])
    transport = torch.cat([transport, turn])
    return edges[:, order], polar[order], transport[order]


def _areas(pos: Tensor, batch: Tensor | None) -> Tensor:
    """Voronoi areas of the points of each sphere."""
    if batch is None:
        return voronoi_area(pos)
    area, owner = torch.empty(len(pos), dtype=torch.float64), batch.cpu()
    for graph in owner.unique():
        area[owner == graph] = voronoi_area(pos[owner == graph])
    return area

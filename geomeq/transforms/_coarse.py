"""How the coarser graphs of ``MultiScale`` are made: along a mesh, in space, or by another gauge."""

import copy
import math
from typing import Protocol

import torch
from scipy.spatial import cKDTree
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from .. import meshes
from ..meshes import LogMap
from ..meshes._connect import labels
from ..meshes._fans import NotManifold
from ..neighbors import radius_edges
from ._gauge import turn_angles
from .mesh_gauge import MeshGauge
from .plane_gauge import PlaneGauge
from .sphere_gauge import SphereGauge

_REACH = 1.7  # radius over spacing: about nine neighbours


class Coarse(Protocol):
    """Makes one coarser level after the other.

    Attributes:
        piece: Connected piece of each node of the finest level, ``[N]``, if pieces must not mix.
    """

    piece: Tensor | None

    def radius(self, nodes: Tensor) -> float:
        """Up to where the nodes of a level are connected by default."""

    def level(self, before: Tensor, nodes: Tensor, radius: float) -> dict[str, Tensor]:
        """``edge_index``, ``polar``, ``transport``, ``radius``, ``pool_index`` and ``pool_transport`` of a level.

        Args:
            before: Nodes of the finer level, by their numbers on the finest, ``[N_{k-1}]``.
            nodes: Those of this level, some of them, ``[N_k]``.
            radius: Up to where to connect them.
        """


def coarsening(gauge: BaseTransform, fine: Data) -> Coarse:
    """What fits a gauge, given the graph it wrote."""
    if not isinstance(gauge, MeshGauge):
        return ByGauge(gauge, fine)
    if gauge.method != "projected" and fine.get("face") is not None:
        try:
            return AlongSurface(gauge, fine)
        except NotManifold:  # then the gauge itself has fallen back to projection
            pass
    return InSpace(gauge, fine)


class _OnMesh:
    """What both methods for meshes share: assignment along the edges of the finest graph."""

    def __init__(self, gauge: MeshGauge, fine: Data, log: LogMap) -> None:
        self.gauge, self.log = gauge, log
        self.pos = fine.pos.detach().cpu().double()
        self.frame = fine.frame.detach().cpu().double()
        self.area = fine.get("area")
        self.piece: Tensor | None = labels(log.edge_index[0], log.edge_index[1], self.pos.size(0))

    def radius(self, nodes: Tensor) -> float:
        """That of the gauge, scaled, or so that a node has about nine neighbours."""
        count = max(nodes.numel(), 1)
        if self.gauge.radius is not None:
            return self.gauge.radius * math.sqrt(self.pos.size(0) / count)
        rings = self.gauge.rings or 1
        if self.area is not None and float(self.area.sum()) > 0:
            return rings * _REACH * math.sqrt(float(self.area.sum()) / count)
        return rings * _REACH * spacing(self.pos[nodes])

    def assign(self, before: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The place in ``nodes`` of the nearest for each of ``before``, and the transport along the way."""
        index, transport, _ = meshes.nearest_nodes(self.log, self.pos.size(0), nodes)
        return index[before], transport[before]


class AlongSurface(_OnMesh):
    """Log maps and transport along the finest surface."""

    def __init__(self, gauge: MeshGauge, fine: Data) -> None:
        ring, _, self.surface = gauge.ring(fine)
        super().__init__(gauge, fine, ring)

    def level(self, before: Tensor, nodes: Tensor, radius: float) -> dict[str, Tensor]:
        """One level; see :class:`Coarse`."""
        index, transport = self.assign(before, nodes)
        log = meshes.path_log(self.log, self.pos.size(0), radius=radius, nodes=nodes, pos=self.pos)
        if self.gauge.method == "vector_heat":
            log = meshes.vector_heat_log(self.pos, self.surface.face, self.frame, self.log, log.edge_index)
        number = torch.full((self.pos.size(0),), -1)
        number[nodes] = torch.arange(nodes.numel())
        return _as_level(number[log.edge_index], log.polar, log.transport, index, transport, radius)


class InSpace(_OnMesh):
    """Steps projected onto the tangent planes."""

    def __init__(self, gauge: MeshGauge, fine: Data) -> None:
        polar, transport = fine.polar.detach().cpu().double(), fine.transport.detach().cpu().double()
        super().__init__(gauge, fine, LogMap(fine.edge_index.cpu(), polar, transport))

    def level(self, before: Tensor, nodes: Tensor, radius: float) -> dict[str, Tensor]:
        """One level; see :class:`Coarse`."""
        index, _ = self.assign(before, nodes)
        transport = meshes.projected_transport(self.frame[before], self.frame[nodes[index]])
        edges = radius_edges(self.pos[nodes], radius)
        log = meshes.project(self.pos[nodes], self.frame[nodes], edges)
        return _as_level(log.edge_index, log.polar, log.transport, index, transport, radius)


class ByGauge:
    """Points of a plane, a sphere, or whatever another gauge knows: nearest in space, and the gauge once more."""

    piece: Tensor | None = None

    def __init__(self, gauge: BaseTransform, fine: Data) -> None:
        self.gauge, self.fine = gauge, fine
        self.pos = fine.pos.detach().cpu().double()
        self.frame = fine.frame.detach().cpu().double()
        self.scale = next((key for key in ("cutoff", "radius") if hasattr(gauge, key)), None)
        if self.scale is None:
            raise ValueError(f"MultiScale needs a gauge with a cutoff or radius to make larger, got {gauge!r}")

    def radius(self, nodes: Tensor) -> float:
        """The cut-off of the gauge, scaled."""
        count = max(nodes.numel(), 1)
        given = getattr(self.gauge, self.scale or "")
        if given is None:
            return (getattr(self.gauge, "rings", None) or 1) * _REACH * spacing(self.pos[nodes])
        return float(given) * math.sqrt(self.pos.size(0) / count)

    def level(self, before: Tensor, nodes: Tensor, radius: float) -> dict[str, Tensor]:
        """One level; see :class:`Coarse`."""
        index = torch.from_numpy(cKDTree(self.pos[nodes].numpy()).query(self.pos[before].numpy())[1]).long()
        transport = meshes.projected_transport(self.frame[before], self.frame[nodes[index]])
        graph = self._at(radius)(
            Data(pos=self.pos[nodes], frame=self.frame[nodes], area=self.pos.new_ones(nodes.numel()))
        )
        polar, moved = graph.polar.double(), graph.transport.double()
        # frames of the gauge's own choice, on the same planes: turn them into those of the finest level
        x, y = torch.einsum("nij,nj->in", graph.frame[:, :2].double(), self.frame[nodes, 0])
        turn = torch.atan2(y, x)
        if bool((turn != 0).any()):
            polar, moved = turn_angles(polar, moved, graph.edge_index, turn)
        return _as_level(graph.edge_index, polar, moved, index, transport, radius)

    def _at(self, radius: float) -> BaseTransform:
        """The gauge at another scale."""
        gauge = copy.copy(self.gauge)
        setattr(gauge, self.scale or "", min(radius, math.pi) if isinstance(gauge, SphereGauge) else radius)
        if isinstance(gauge, SphereGauge):
            gauge.rings, gauge.frames, gauge.allow_isolated = None, "given", True
        if isinstance(gauge, PlaneGauge):
            gauge.grid, gauge.area = None, "given"
        return gauge


def spacing(pos: Tensor) -> float:
    """Mean distance of a point to its nearest other."""
    if pos.size(0) < 2:
        return 1.0
    return float(cKDTree(pos.numpy()).query(pos.numpy(), k=2)[0][:, 1].mean()) or 1.0


def _as_level(
    edge_index: Tensor, polar: Tensor, transport: Tensor, index: Tensor, pool_transport: Tensor, radius: float
) -> dict[str, Tensor]:
    return {
        "edge_index": edge_index,
        "polar": polar,
        "transport": transport,
        "radius": torch.tensor([radius], dtype=torch.float64),
        "pool_index": index,
        "pool_transport": pool_transport,
    }

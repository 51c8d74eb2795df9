"""A surface as a graph with polar coordinates and parallel transport: meshes and points with normals."""

import copy
import math
from dataclasses import replace

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from .. import meshes
from .._checks import check_finite, check_shape
from ..meshes import LogMap, MeshReport
from ..meshes._fans import BOUNDARIES, NotManifold
from ..meshes._log_map import store_angle
from ..meshes._read import read_pos
from ..meshes._surface import Surface, both_ways, ring_pairs, surface
from ..neighbors import knn_edges, radius_edges, tie_tolerance
from ._edges import require_data, require_pos, store_area, write_edges

METHODS = ("intrinsic", "projected", "vector_heat")


@functional_transform("mesh_gauge")
class MeshGauge(BaseTransform):
    r"""Writes frames of the tangent planes of a surface, and its neighbours in polar coordinates in them.

    .. math:: \text{polar}_{ij} = (r_{ij}, \varphi_{ij}), \qquad g_{ij} = \varphi_{ij} - \varphi_{ji} - \pi

    - ``"intrinsic"``: angles of the triangles around each vertex, rescaled to a full turn, and lengths of edges.
      Bending the surface changes nothing. Beyond one ring the shortest paths are unfolded
      (:func:`geomeq.meshes.path_log`). Needs an orientable manifold.
    - ``"vector_heat"``: as before, but pairs beyond one ring by diffusion of vectors, through potpourri3d: best over
      long distances, slow. Needs the extra ``mesh``.
    - ``"projected"``: steps in space projected onto the tangent planes, lengths of chords, and the smallest rotation
      between normals. Needs only normals: any mesh, also non-manifold, and points with normals.

    Reads ``pos`` ``[N, 3]`` and ``face`` ``[3, F]``. Points without ``face`` need ``normal`` (or ``norm``) ``[N, 3]``,
    and ``edge_index`` unless ``radius`` or ``knn`` is given. Writes ``edge_index`` (``[2, E]``, both ways, sorted by
    target, then source, no loops), ``polar`` ``[E, 2]``, ``transport`` ``[E]``, ``frame`` ``[N, 3, 3]`` (rows e1, e2
    and the normal, outward on closed meshes), and for meshes ``area`` ``[N]``; computed in float64, stored in the
    dtype of ``pos``. Where triangles are turned over or taken away (they name a vertex twice or repeat another),
    ``face`` is replaced. Removes the attributes of former edges. Graphs of a ``Batch`` are treated one by one.

    Frames follow the surface: a rigid motion leaves ``polar`` and ``transport`` as they are, a mirror image negates
    all angles. Angle 0 is the neighbour of the lowest number (at a boundary, the first edge), so another order of the
    vertices is a change of frames. A vertex of no triangle gets no edges, area 0 and some frame.

    Args:
        method: ``"intrinsic"``, ``"projected"`` or ``"vector_heat"``.
        rings: Neighbours at most so many edges apart. Default: 1, or any number if ``radius`` is given.
        radius: Neighbours at most so far apart along the surface (``"projected"``: in space), in the unit of ``pos``.
        delaunay: Whether to flip edges to an intrinsic Delaunay triangulation first: better neighbours of bad meshes.
        mollify: Whether to lengthen all edges a little if triangles are flat (:func:`geomeq.meshes.mollify`).
        boundary: ``"plain"``: angles at boundary vertices as they are. ``"flat"``: scaled to half a turn.
        fallback: ``"projected"``: use that method for meshes that ``method`` cannot do, instead of an error.
        knn: ``"projected"``: connect each point with so many nearest ones, in both directions.

    Raises:
        TypeError: For something that is no ``Data``, or a wrong dtype.
        ValueError: For NaN, or a mesh that the method cannot do, saying what was found.

    Example:
        >>> from geomeq.groups import icosphere
        >>> sphere = icosphere(2)
        >>> MeshGauge()(Data(pos=sphere.pos.float(), face=sphere.face))
        Data(pos=[162, 3], face=[3, 320], edge_index=[2, 960], polar=[960, 2], transport=[960], area=[162],
             frame=[162, 3, 3])

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425; Knoeppel et al. (2013),
        https://doi.org/10.1145/2461912.2462005
    """

    def __init__(
        self,
        method: str = "intrinsic",
        rings: int | None = None,
        radius: float | None = None,
        *,
        delaunay: bool = False,
        mollify: bool = True,
        boundary: str = "plain",
        fallback: str | None = None,
        knn: int | None = None,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {method!r}")
        if boundary not in BOUNDARIES:
            raise ValueError(f"boundary must be one of {BOUNDARIES}, got {boundary!r}")
        if fallback not in (None, "projected"):
            raise ValueError(f"fallback must be None or 'projected', got {fallback!r}")
        for name, count in (("rings", rings), ("knn", knn)):
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
                raise ValueError(f"{name} must be a positive integer, got {count!r}")
        if radius is not None and not (radius > 0 and math.isfinite(radius)):
            raise ValueError(f"radius must be positive and finite, got {radius}")
        if knn is not None and (method != "projected" or radius is not None or rings is not None):
            raise ValueError("knn goes with method='projected', without rings and radius")
        self.method, self.rings, self.radius, self.knn = method, rings, radius, knn
        self.delaunay, self.mollify, self.boundary, self.fallback = delaunay, mollify, boundary, fallback

    def forward(self, data: Data) -> Data:
        """Writes the graph to ``data`` and returns it."""
        require_data(data, "MeshGauge")
        if isinstance(data, Batch):
            return Batch.from_data_list([self(graph) for graph in data.to_data_list()])
        return self._write(data)[0]

    def with_report(self, mesh: Data) -> tuple[Data, MeshReport]:
        """The transformed mesh and a report of what was found and done.

        Args:
            mesh: One mesh, with ``face``.
        """
        report = meshes.inspect(mesh)
        out, made = self._write(copy.copy(mesh))
        if made is None:
            return out, report
        report = replace(report, removed_faces=made.removed, turned_faces=made.turned)
        return out, replace(report, flipped_edges=made.flipped, mollified=made.mollified)

    def ring(self, mesh: Data) -> tuple[LogMap, Tensor, Surface]:
        """One ring, frames ``[N, 3, 3]`` and surface of a mesh by the intrinsic method, in float64.

        Raises:
            ValueError: If it is no orientable manifold.
        """
        pos, face = _positions(mesh), mesh.face.cpu()
        made = surface(pos, face, mollified=self.mollify, delaunay=self.delaunay)
        try:
            log = meshes.one_ring(made.half_edges, made.length, self.boundary)
        except NotManifold as error:
            side = "" if made.two_sided else "the mesh has only one side; "
            raise NotManifold(f"MeshGauge(method={self.method!r}) cannot use this mesh: {side}{error}") from None
        return log, meshes.tangent_frames(pos, meshes.vertex_normals(pos, made.face), log), made

    def _write(self, data: Data) -> tuple[Data, Surface | None]:
        require_pos(data, "MeshGauge")
        log, frame, made = self._on_surface(data) if self.method != "projected" else self._projected(data)
        pos = data.pos
        angles = {"transport": store_angle(log.transport, pos.dtype).to(pos.device)}
        polar = torch.stack([log.polar[:, 0].to(pos.dtype), store_angle(log.polar[:, 1], pos.dtype)], dim=1)
        write_edges(data, log.edge_index.to(pos.device), None, polar=polar.to(pos.device), **angles)
        if made is not None:
            data.area = store_area(made.area, pos)
            if made.removed or made.turned:
                data.face = made.face.to(pos.device)
        data.frame = frame.to(pos)
        return data, made

    def _on_surface(self, data: Data) -> tuple[LogMap, Tensor, Surface | None]:
        if data.get("face") is None:
            raise ValueError(
                f"MeshGauge(method={self.method!r}) reads face, but the data has only {sorted(data.keys())}; "
                "use method='projected' for points with normals"
            )
        try:
            ring, frame, made = self.ring(data)
        except NotManifold:
            if self.fallback is None:
                raise
            return self._projected(data)
        # a pair exactly at the radius is connected, also after a rotation
        radius = None if self.radius is None else self.radius * (1 + tie_tolerance(data.pos.dtype))
        if self.rings == 1 or (self.rings is None and radius is None):
            return (ring if radius is None else ring.take(ring.polar[:, 0] <= radius)), frame, made
        pos = _positions(data)
        log = meshes.path_log(ring, pos.size(0), rings=self.rings, radius=radius, pos=pos)
        if self.method == "vector_heat":
            log = meshes.vector_heat_log(pos, made.face, frame, ring, log.edge_index)
        return log, frame, made

    def _projected(self, data: Data) -> tuple[LogMap, Tensor, Surface | None]:
        pos = _positions(data)
        made, normal = None, None
        if data.get("face") is not None:
            made = surface(pos, data.face.cpu(), mollified=False)
            normal = meshes.vertex_normals(pos, made.face)
        else:
            normal = _normals(data)
        edge_index = self._edges(data, pos, made)
        frame = meshes.projected_frames(pos, normal, edge_index)
        return meshes.project(pos, frame, edge_index), frame, made

    def _edges(self, data: Data, pos: Tensor, made: Surface | None) -> Tensor:
        """Neighbours of the projected method."""
        count = pos.size(0)
        if self.knn is not None:
            return both_ways(knn_edges(pos, self.knn), count)
        within = None if self.radius is None else radius_edges(pos, self.radius)
        if within is not None and self.rings is None:
            return within
        if made is not None:
            one = both_ways(made.half_edges.edges, count)
        elif data.edge_index is not None:
            one = both_ways(data.edge_index.cpu().long(), count)
        else:
            raise ValueError(
                "points without face and edge_index need MeshGauge(method='projected', radius=... or knn=...)"
            )
        near = ring_pairs(one, count, self.rings or 1)
        if within is None:
            return near
        key = near[1] * count + near[0]
        return near[:, torch.isin(key, within[1] * count + within[0])]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(method={self.method!r}, rings={self.rings}, radius={self.radius}, "
            f"delaunay={self.delaunay}, mollify={self.mollify}, boundary={self.boundary!r}, "
            f"fallback={self.fallback!r}, knn={self.knn})"
        )


def _positions(data: Data) -> Tensor:
    """``pos`` in float64 on the CPU."""
    return read_pos(data.pos).detach().cpu().double()


def _normals(data: Data) -> Tensor:
    """Unit normals of points, ``[N, 3]``."""
    normal = next((data[key] for key in ("normal", "norm") if data.get(key) is not None), None)
    if normal is None:
        raise ValueError(
            "points without face need normals, [N, 3]: set data.normal, or give faces (data.face) to compute them from"
        )
    check_shape("normal", normal, data.pos.size(0), 3)
    check_finite("normal", normal)
    normal = normal.detach().cpu().double()
    size = normal.norm(dim=1, keepdim=True)
    if bool((size == 0).any()):
        raise ValueError(f"normals must not be zero, but that of point {int((size == 0).nonzero()[0, 0])} is")
    return normal / size

"""Relative geometry on the sphere: great circles, azimuths and parallel transport between tangent frames."""

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from .._checks import check_finite, check_shape
from ..spheres import Sampling, voronoi_area
from ..spheres.graph import SAME, check_reach, gauge_edges, tangent_frames
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
        check_reach(cutoff, rings)
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
        same = SAME if exact is not None or given.dtype == torch.float64 else 1e-6
        batch = graph_of_nodes(data, len(pos))
        frame = self._frame(data, pos)
        edges, polar, transport = gauge_edges(
            pos, frame, self.cutoff, self.rings, data.get("face"), batch, same, self.loops, self.allow_isolated
        )
        if data.get("area") is None:
            data.area = _areas(pos, batch).to(given)
        check_shape("area", data.area, len(pos))
        check_finite("area", data.area, hint="delete it to have Voronoi cells")
        out = {"polar": polar.to(given), "transport": transport.to(given)}
        write_edges(data, edges.to(given.device), batch, **out)
        data.frame = frame.to(given)
        return data

    def _frame(self, data: Data, pos: Tensor) -> Tensor:
        if self.frames == "given":
            return _given_frame(data, pos)
        return tangent_frames(pos, "random" if self.frames == "random" else "meridian", self.seed)

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


def _areas(pos: Tensor, batch: Tensor | None) -> Tensor:
    """Voronoi areas of the points of each sphere."""
    if batch is None:
        return voronoi_area(pos)
    area, owner = torch.empty(len(pos), dtype=torch.float64), batch.cpu()
    for graph in owner.unique():
        area[owner == graph] = voronoi_area(pos[owner == graph])
    return area

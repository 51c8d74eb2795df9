"""Graphs of points on the sphere: great circles, azimuths and parallel transport, as the contract names them."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from ..groups import wrap_angle
from ..groups.so3 import sphere_frame
from ..neighbors import tie_tolerance
from ._edges import edges_of_rings, edges_within, great_circles
from .kinds import sampling
from .sampling import Sampling

SAME = 1e-9  # radians: nearer points coincide, in float64
_STEPS = 2.0  # default cut-off in units of the spacing: about a dozen neighbours


class GaugeEdges(NamedTuple):
    """Edges with their relative geometry.

    Attributes:
        edge_index: Source and target, ``[2, E]``, sorted by target and then source.
        polar: Distance and azimuth of the source, seen from the target, ``[E, 2]``, radians.
        transport: Angle that turns components in the source's frame into components in the target's, ``[E]``.
    """

    edge_index: Tensor
    polar: Tensor
    transport: Tensor


def sphere_graph(
    s: Sampling | str,
    resolution: int | None = None,
    cutoff: float | None = None,
    rings: int | None = None,
    frames: Literal["meridian", "random"] = "meridian",
    loops: bool = False,
    allow_isolated: bool = False,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Data:
    """A sampling of the sphere as a graph of the attribute contract.

    The same graph as :class:`geomeq.transforms.SphereGauge` writes into a ``Data`` of your own.

    Args:
        s: A sampling, or the name of a kind, such as ``"healpix"``.
        resolution: With a name: the number that :func:`sampling` takes, such as ``nside``.
        cutoff: Connect points at most this far apart, radians, up to pi. Default, without ``rings``: twice the
            spacing of the sampling, about a dozen neighbours.
        rings: Instead: connect points at most so many edges apart on the triangles or the convex hull.
        frames: ``"meridian"``: south, east, up. ``"random"``: these turned by random angles.
        loops: Whether nodes have edges of length 0 to themselves and to coincident nodes.
        allow_isolated: Whether a node may be without a neighbour.
        seed: Of random frames.
        dtype: Of the floating-point attributes; default: torch's default.

    Returns:
        ``Data`` with ``pos`` ``[N, 3]``, ``area`` ``[N]``, ``edge_index`` ``[2, E]``, ``polar`` ``[E, 2]``,
        ``transport`` ``[E]``, ``frame`` ``[N, 3, 3]`` and, where the sampling has triangles, ``face`` ``[3, F]``.

    Raises:
        TypeError: If ``s`` is neither a sampling nor a name.
        ValueError: If an argument is out of range, or a node has no neighbour.

    Example:
        >>> from geomeq import spheres
        >>> spheres.sphere_graph(spheres.healpix(nside=16), cutoff=0.2).num_edges
        93528
    """
    s = _as_sampling(s, resolution)
    if cutoff is None and rings is None:
        cutoff = min(_STEPS * s.spacing, math.pi)
    check_reach(cutoff, rings)
    if frames not in ("meridian", "random"):
        raise ValueError(f"frames must be 'meridian' or 'random', got {frames!r}")
    frame = tangent_frames(s.pos, frames, seed)
    edges = gauge_edges(s.pos, frame, cutoff, rings, s.face, loops=loops, allow_isolated=allow_isolated)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    data = s.to_data(dtype)
    data.edge_index = edges.edge_index
    data.polar, data.transport, data.frame = edges.polar.to(dtype), edges.transport.to(dtype), frame.to(dtype)
    return data


def check_reach(cutoff: float | None, rings: int | None) -> None:
    """Raises unless exactly one of ``cutoff`` and ``rings`` is given and in range."""
    if (cutoff is None) == (rings is None):
        raise ValueError(f"give either cutoff or rings, got cutoff={cutoff} and rings={rings}")
    if cutoff is not None and not 0 < cutoff <= math.pi:
        raise ValueError(f"cutoff is an angle in radians, more than 0 and at most pi, got {cutoff}")
    if rings is not None and (not isinstance(rings, int) or isinstance(rings, bool) or rings < 1):
        raise ValueError(f"rings must be an integer of at least 1, got {rings!r}")


def tangent_frames(pos: Tensor, frames: Literal["meridian", "random"], seed: int = 0) -> Tensor:
    """Rows south, east and the point, ``[N, 3, 3]``; ``"random"`` turns them by random angles."""
    frame = sphere_frame(pos).transpose(1, 2)
    if frames == "meridian":
        return frame
    turn = torch.rand(len(pos), generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu")
    cos, sin = (2 * math.pi * turn).cos()[:, None], (2 * math.pi * turn).sin()[:, None]
    e1, e2, normal = frame.unbind(1)
    return torch.stack([cos * e1 + sin * e2, cos * e2 - sin * e1, normal], dim=1)


def gauge_edges(
    pos: Tensor,
    frame: Tensor,
    cutoff: float | None,
    rings: int | None,
    face: Tensor | None = None,
    batch: Tensor | None = None,
    same: float = SAME,
    loops: bool = False,
    allow_isolated: bool = False,
) -> GaugeEdges:
    """Edges of near points with polar coordinates and transport, in float64 on the CPU.

    Two places see no direction to each other, and have no edge: coincident nodes, and antipodes.

    Args:
        pos: Unit vectors ``[N, 3]``, float64.
        frame: Rows e1, e2 and the point, ``[N, 3, 3]``.
        cutoff: Largest distance, radians; or
        rings: largest number of steps on ``face`` or on the convex hull.
        face: Triangles ``[3, F]``, if there are any.
        batch: Sphere of each node ``[N]``, if there are several.
        same: Distance below which points coincide.
        loops: Whether to add edges of length 0 between each node and itself and between coincident nodes.
        allow_isolated: Whether a node may be without a neighbour.

    Raises:
        ValueError: If a node has no neighbour and must have one.
    """
    batch = None if batch is None else batch.cpu()
    edges = _find(pos, cutoff, rings, face, batch, same)
    length, azimuth, back = great_circles(pos, frame, edges)
    seen = (length > same) & (length < math.pi - same)
    if not allow_isolated:
        _check_neighbours(pos, edges[:, seen], batch, cutoff)
    found = GaugeEdges(edges, torch.stack([length, azimuth], dim=1), wrap_angle(azimuth - back - math.pi))
    found = GaugeEdges(found.edge_index[:, seen], found.polar[seen], found.transport[seen])
    return _add_loops(found, _coincident(pos, batch, same), frame) if loops else found


def _as_sampling(s: Sampling | str, resolution: int | None) -> Sampling:
    if isinstance(s, Sampling):
        if resolution is not None:
            raise ValueError(f"{s!r} has its resolution; leave out resolution={resolution}")
        return s
    if not isinstance(s, str):
        raise TypeError(f"s must be a Sampling or the name of a kind, got {type(s).__name__}")
    if resolution is None:
        raise ValueError(f"{s!r} needs a resolution, such as sphere_graph({s!r}, 16)")
    return sampling(s, resolution)


def _find(
    pos: Tensor, cutoff: float | None, rings: int | None, face: Tensor | None, batch: Tensor | None, same: float
) -> Tensor:
    if cutoff is not None:
        return edges_within(pos, cutoff, batch, tie_tolerance(torch.float64 if same < 1e-8 else torch.float32))
    assert rings is not None
    if batch is not None and int(batch.max()) > 0:
        raise ValueError("rings are those of one sphere; make the graph before batching")
    return edges_of_rings(pos, rings, face, same)


def _check_neighbours(pos: Tensor, edge_index: Tensor, batch: Tensor | None, cutoff: float | None) -> None:
    alone = (torch.bincount(edge_index[1], minlength=len(pos)) == 0).nonzero().flatten()
    if alone.numel() == 0:
        return
    node = int(alone[0])
    others = torch.ones(len(pos), dtype=torch.bool, device=pos.device) if batch is None else batch == batch[node]
    distance = 2 * torch.asin(((pos[others] - pos[node]).norm(dim=1) / 2).clamp(max=1))
    nearest = float(distance[distance > 1e-6].min()) if bool((distance > 1e-6).any()) else math.inf
    raise ValueError(
        f"{alone.numel()} of {len(pos)} nodes have no neighbour within cutoff={cutoff}: the nearest of node "
        f"{node} is {nearest:.4g} radians away; take a larger cutoff or allow_isolated=True"
    )


def _coincident(pos: Tensor, batch: Tensor | None, same: float) -> Tensor:
    """Pairs at the same place, ``[2, P]``: each node with itself and with its copies."""
    loop = torch.arange(len(pos), device=pos.device).expand(2, -1)
    return torch.cat([edges_within(pos, same, batch, 0.0), loop], dim=1)


def _add_loops(found: GaugeEdges, pairs: Tensor, frame: Tensor) -> GaugeEdges:
    """Edges with those of length 0 among them, sorted by target and then source."""
    j, i = pairs
    x, y = torch.einsum("eak,ek->ae", frame[i, :2], frame[j, 0])  # e1 of j in the frame of i
    turn = torch.where(i == j, 0.0, wrap_angle(torch.atan2(y, x)))
    edges = torch.cat([found.edge_index, pairs], dim=1)
    order = (edges[1] * len(frame) + edges[0]).argsort()
    polar = torch.cat([found.polar, found.polar.new_zeros(len(j), 2)])
    transport = torch.cat([found.transport, turn])
    return GaugeEdges(edges[:, order], polar[order], transport[order])

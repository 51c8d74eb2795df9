"""Edges from the nodes of one sampling of the sphere to those of another, in float64."""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from geomeq.groups import wrap_angle
from geomeq.spheres import Sampling
from geomeq.spheres._edges import great_circles
from geomeq.spheres.graph import SAME, tangent_frames

RIM = 1e-3  #: A source farther than the cut-off by this share of it still counts: no flicker of nodes on the rim.


def check_cutoff(cutoff: float) -> float:
    """Raises unless it is an angle."""
    if isinstance(cutoff, bool) or not isinstance(cutoff, int | float) or not 0 < cutoff <= math.pi:
        raise ValueError(f"cutoff is an angle in radians, more than 0 and at most pi, got {cutoff!r}")
    return float(cutoff)


def edges_between(s_in: Sampling, s_out: Sampling, cutoff: float, rim: float = RIM) -> Tensor:
    """Every source in the cap around every target, sorted by target and then source; a node is its own neighbour.

    Sources of area 0 receive and do not send, so they have no edges.

    Args:
        s_in: Sources.
        s_out: Targets.
        cutoff: Radius of the caps, radians.
        rim: By what share of it a source may be farther.

    Returns:
        ``edge_index`` ``[2, E]``, int64.

    Raises:
        ValueError: If a cap holds no source.
    """
    reach = 2 * math.sin(min(check_cutoff(cutoff) * (1 + rim), math.pi) / 2)
    sending = (s_in.area > 0).nonzero().squeeze(1).numpy()
    sources, targets = cKDTree(s_in.pos.numpy()[sending]), cKDTree(s_out.pos.numpy())
    pairs = targets.sparse_distance_matrix(sources, reach * (1 + 1e-12), output_type="ndarray")
    target, source = pairs["i"].astype(np.int64), sending[pairs["j"]].astype(np.int64)
    order = np.lexsort((source, target))
    edge_index = torch.from_numpy(np.stack([source[order], target[order]]))
    _check_caps(edge_index, s_in, s_out, cutoff)
    return edge_index


def _check_caps(edge_index: Tensor, s_in: Sampling, s_out: Sampling, cutoff: float) -> None:
    empty = (torch.bincount(edge_index[1], minlength=s_out.num_nodes) == 0).nonzero().flatten()
    if empty.numel():
        tree = cKDTree(s_in.pos[s_in.area > 0].numpy())
        nearest = float(np.arcsin(np.minimum(tree.query(s_out.pos[empty].numpy())[0] / 2, 1)).max()) * 2
        raise ValueError(
            f"{empty.numel()} of {s_out.num_nodes} caps of radius cutoff={cutoff:.4g} hold no node of {s_in!r}, the "
            f"first is that of node {int(empty[0])}; take a cutoff of more than {nearest:.4g} radians"
        )


def first_edges(edge_index: Tensor, num_targets: int) -> Tensor:
    """Where the edges of each target begin, ``[num_targets + 1]``, for edges sorted by target."""
    count = torch.bincount(edge_index[1], minlength=num_targets)
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


def spin_edges(s_in: Sampling, s_out: Sampling | None, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """``edge_index``, ``polar`` and ``transport`` of ``spheres.sphere_graph(loops=True)``, from sampling to sampling.

    Frames are those of the meridian. Antipodes see no direction to each other and have no edge.

    Args:
        s_in: Sources.
        s_out: Targets, numbered from 0 on their own; ``None``: the nodes of ``s_in``.
        cutoff: Radius of the caps, radians.

    Returns:
        ``[2, E]``, ``[E, 2]`` and ``[E]``, sorted by target and then source.

    Raises:
        ValueError: If a cap holds no source or, on one sampling, nothing but its own place.
    """
    edges = edges_between(s_in, s_in if s_out is None else s_out, cutoff, rim=0.0)
    pos = s_in.pos if s_out is None else torch.cat([s_in.pos, s_out.pos])
    frame, ends = tangent_frames(pos, "meridian"), edges
    if s_out is not None:
        ends = torch.stack([edges[0], edges[1] + s_in.num_nodes])
    length, azimuth, back = great_circles(pos, frame, ends)
    keep = length < math.pi - SAME
    edges, ends, length, azimuth, back = edges[:, keep], ends[:, keep], length[keep], azimuth[keep], back[keep]
    same = length < SAME
    if s_out is None:
        _check_company(edges[1][~same], s_in, cutoff)
    source, target = ends
    x, y = torch.einsum("eak,ek->ae", frame[target, :2], frame[source, 0])  # e1 of the source, seen by the target
    transport = wrap_angle(torch.where(same, torch.atan2(y, x), azimuth - back - math.pi))
    polar = torch.stack([length, azimuth], dim=1).where(~same[:, None], 0.0)
    return edges, polar, transport.where(source != target, 0.0)


def _check_company(target: Tensor, s: Sampling, cutoff: float) -> None:
    alone = (torch.bincount(target, minlength=s.num_nodes) == 0).nonzero().flatten()
    if alone.numel():
        node = int(alone[0])
        distance = 2 * torch.atan2((s.pos - s.pos[node]).norm(dim=1), (s.pos + s.pos[node]).norm(dim=1))
        others = distance[distance > SAME]
        nearest = float(others.min()) if others.numel() else math.inf
        raise ValueError(
            f"{alone.numel()} of {s.num_nodes} nodes of {s!r} have no neighbour within cutoff={cutoff:.4g}: the "
            f"nearest to node {node} is {nearest:.4g} radians away; take a larger cutoff"
        )

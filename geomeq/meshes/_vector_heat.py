"""Log maps of large neighbourhoods by the vector heat method, through potpourri3d."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._geodesic import reconcile
from ._log_map import LogMap


def vector_heat_log(
    pos: Tensor, face: Tensor, frame: Tensor, ring: LogMap, edge_index: Tensor, t_coef: float = 1.0
) -> LogMap:
    r"""Polar coordinates and transport of given pairs by short-time diffusion of vectors.

    More accurate than :func:`geomeq.meshes.path_log` over long distances on a curved surface, since it follows
    geodesics and not edges, but slow: a solve or two for every vertex, one after the other, as potpourri3d offers it.
    Neighbours by an edge keep the values of ``ring``. Needs the extra ``mesh``.

    Args:
        pos: Vertices of an oriented manifold mesh, ``[N, 3]``.
        face: Corners of the triangles, ``[3, F]``.
        frame: Frames to write the result in, ``[N, 3, 3]``; those of :func:`geomeq.meshes.tangent_frames` agree with
            potpourri3d's up to a turn at each vertex.
        ring: One ring in the same frames.
        edge_index: The pairs, both directions, ``[2, E]``.
        t_coef: Time of the diffusion, in squares of the mean edge length.

    Returns:
        The log map of those pairs, float64.

    Raises:
        ImportError: If potpourri3d is not installed.
        ValueError: If potpourri3d finds no solution.

    Source: Sharp, Soliman and Crane (2019), The vector heat method, https://arxiv.org/abs/1805.09170
    """
    num = pos.size(0)
    used = torch.unique(face)
    local = torch.full((num,), -1, dtype=torch.long)
    local[used] = torch.arange(used.numel())
    centred = pos[used].double()
    centred = centred - centred.mean(dim=0)
    size = float(centred.abs().amax()) if used.numel() else 0.0
    size = size if size > 0 else 1.0  # on meshes of size 1e12 the solver is wrong, and silent
    solver = _solver((centred / size).numpy(), local[face].t().contiguous().numpy(), t_coef)
    basis = torch.from_numpy(np.asarray(solver.get_tangent_frames()[0]))
    x, y = torch.einsum("nij,nj->in", frame[used, :2].double(), basis)
    gauge = np.exp(1j * torch.atan2(y, x).numpy())  # components in their frame -> in ours
    source, target = (local[row].numpy() for row in edge_index)
    step, turn = np.zeros(source.size, dtype=complex), np.ones(source.size, dtype=complex)
    by_target, by_source = np.argsort(target, kind="stable"), np.argsort(source, kind="stable")
    ends = np.searchsorted(target[by_target], np.arange(used.numel() + 1))
    begins = np.searchsorted(source[by_source], np.arange(used.numel() + 1))
    for i in range(used.numel()):
        seen = by_target[ends[i] : ends[i + 1]]
        if seen.size == 0:
            continue
        place = _complex(solver.compute_log_map(i))
        step[seen] = gauge[i] * place[source[seen]] * size
        sent = by_source[begins[i] : begins[i + 1]]
        there = _complex(solver.transport_tangent_vector(i, [1.0, 0.0]))[target[sent]]
        turn[sent] = gauge[target[sent]] * there / gauge[i]
    if not (np.isfinite(step).all() and np.isfinite(turn).all()):
        raise ValueError("the vector heat method gave NaN, often for tiny or flat triangles; use method='intrinsic'")
    return _keep_ring(reconcile(edge_index.numpy(), step, turn, num), ring, num)


def _keep_ring(log: LogMap, ring: LogMap, num: int) -> LogMap:
    """Neighbours by an edge get the values of the edge."""
    key = ring.edge_index[1] * num + ring.edge_index[0]
    wanted = log.edge_index[1] * num + log.edge_index[0]
    at = torch.searchsorted(key, wanted).clamp(max=max(key.numel() - 1, 0))
    same = key[at] == wanted if key.numel() else torch.zeros_like(wanted, dtype=torch.bool)
    polar, transport = log.polar.clone(), log.transport.clone()
    polar[same], transport[same] = ring.polar[at[same]], ring.transport[at[same]]
    return LogMap(log.edge_index, polar, transport)


def _complex(pairs: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(pairs, dtype=np.float64)).view(np.complex128)[:, 0]


def _solver(pos: np.ndarray, face: np.ndarray, t_coef: float) -> Any:
    try:
        import potpourri3d
    except ImportError as error:
        raise ImportError("vector heat log maps need potpourri3d: pip install 'geomeq[mesh]'") from error
    try:
        return potpourri3d.MeshVectorHeatSolver(pos, face, t_coef=t_coef)
    except RuntimeError as error:
        raise ValueError(f"potpourri3d cannot use this mesh: {error}") from error

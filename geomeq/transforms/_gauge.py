"""A change of gauge: what becomes of a graph when the frames of its nodes turn."""

import torch
from torch import Tensor

from ..groups import wrap_angle
from ..meshes import turn_frames
from ..meshes._log_map import store_angle

GAUGE_KEYS = ("polar", "transport", "frame")


def turn_angles(polar: Tensor, transport: Tensor, edge_index: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    r"""``polar`` and ``transport`` after frame ``i`` has turned by ``turn[i]``, counter-clockwise.

    .. math:: \varphi_{ij}' = \varphi_{ij} - a_i, \qquad g_{ij}' = g_{ij} - a_i + a_j

    An edge of length zero has no direction; its angle stays 0.

    Args:
        polar: ``[E, 2]``.
        transport: ``[E]``.
        edge_index: ``[2, E]``.
        turn: Radians, float64, ``[N]``.

    Returns:
        Both in their dtype, angles in (-pi, pi].
    """
    source, target = edge_index
    angle = wrap_angle(polar[:, 1].double() - turn[target])
    angle = torch.where(polar[:, 0] > 0, angle, polar[:, 1].double())
    moved = wrap_angle(transport.double() - turn[target] + turn[source])
    polar = torch.stack([polar[:, 0], store_angle(angle, polar.dtype)], dim=1)
    return polar, store_angle(moved, transport.dtype)


def turn_frame(frame: Tensor, turn: Tensor) -> Tensor:
    """Frames ``[N, 3, 3]`` turned about their normals by ``turn`` ``[N]``, in their dtype."""
    return turn_frames(frame.double(), turn).to(frame.dtype)

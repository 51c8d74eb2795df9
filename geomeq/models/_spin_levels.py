"""Spin fields on one sampling of the sphere or from one to another: geometry, and a convolution on it."""

import copy
import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from geomeq.groups import wrap_angle
from geomeq.groups._lasting import lasting
from geomeq.groups.so3 import sphere_frame
from geomeq.nn import GaugeConv, GaugePlan
from geomeq.nn._sphere_edges import edges_between
from geomeq.spheres import Sampling
from geomeq.spheres._edges import great_circles

_SAME = 1e-9  # radians: nearer points are one place


class SpinGeometry(nn.Module):
    """A :class:`GaugePlan` from the nodes of one sampling to those of another, exact in every precision.

    Between two samplings the plan has the nodes of both, sources first; targets have area zero, so that they receive
    and do not send. Held in float64 and rounded once for each precision that is asked for; not in the ``state_dict``.

    Args:
        s_in: Sources.
        s_out: Targets; the same object for a convolution on one sampling.
        cutoff: Radius of the kernels, radians, less than pi.
        rings: Radial profiles.

    Raises:
        ValueError: If a cap holds no node.
    """

    def __init__(self, s_in: Sampling, s_out: Sampling, cutoff: float, rings: int) -> None:
        super().__init__()
        self.cutoff, self.rings = cutoff, rings
        self.num_in, self.num_out, self.is_square = s_in.num_nodes, s_out.num_nodes, s_in is s_out
        edge_index, polar, transport = spin_edges(s_in, s_out, cutoff)
        area = s_in.area if self.is_square else torch.cat([s_in.area, torch.zeros_like(s_out.area)])
        plan = GaugePlan(
            edge_index, polar, transport, area, rings=rings, cutoff=cutoff, weight="integral", basis="smooth"
        )
        self._exact = (plan,)  # no submodule: it keeps its precision when the model is cast
        self._made: dict[tuple[torch.device, torch.dtype], GaugePlan] = {}
        self._prepare(torch.zeros(0, dtype=torch.get_default_dtype()))

    def like(self, x: Tensor) -> GaugePlan:
        """The plan in the precision (float32 for half precision) and on the device of ``x``."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        return self._made[(x.device, dtype)] if (x.device, dtype) in self._made else self._prepare(x)

    def _prepare(self, x: Tensor) -> GaugePlan:
        dtype = torch.promote_types(x.dtype, torch.float32)
        plan = lasting(self._converted)(x.device, dtype)
        self._made[(x.device, dtype)] = plan
        return plan

    def _converted(self, device: torch.device, dtype: torch.dtype) -> GaugePlan:
        return copy.deepcopy(self._exact[0]).to(device, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._made = {}
        self._prepare(fn(torch.zeros(0, dtype=torch.get_default_dtype())))
        return self

    def extra_repr(self) -> str:
        """Sizes."""
        return f"nodes={self.num_in} -> {self.num_out}, edges={self._exact[0].num_edges}, cutoff={self.cutoff:.4g}"


class SpinConv(nn.Module):
    """:class:`GaugeConv` with smooth profiles and the quadrature of the sphere, on one sampling or between two.

    Args:
        types_in: Type of the input, such as ``"8x0+8x1"``.
        types_out: Type of the output.
        geometry: Where from and where to, and the radius; may be shared.
    """

    def __init__(self, types_in: str, types_out: str, geometry: SpinGeometry) -> None:
        super().__init__()
        self.conv = GaugeConv(
            types_in,
            types_out,
            rings=geometry.rings,
            cutoff=geometry.cutoff,
            weight="integral",
            basis="smooth",
            self_interaction=geometry.is_square,
        )
        self.geometry, self._num_in, self._num_out = geometry, geometry.num_in, geometry.num_out
        self._is_square = geometry.is_square

    def forward(self, x: Tensor) -> Tensor:
        """Convolves ``[B, N_in, types_in.dim]`` to ``[B, N_out, types_out.dim]``."""
        plan = self.geometry.like(self.conv.weight)
        if self._is_square:
            return self.conv(x, plan)  # type: ignore[no-any-return]
        padded = torch.cat([x, x.new_zeros(x.size(0), self._num_out, x.size(2))], dim=1)
        return self.conv(padded, plan)[:, self._num_in :]  # type: ignore[no-any-return]


def spin_edges(s_in: Sampling, s_out: Sampling, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """``edge_index``, ``polar`` and ``transport`` of ``transforms.SphereGauge(loops=True)`` between two samplings.

    Where the samplings are two objects, targets are numbered after all sources.
    """
    edge_index, pos = edges_between(s_in, s_out, cutoff, rim=0.0), s_in.pos
    if s_in is not s_out:
        edge_index = edge_index + torch.tensor([[0], [s_in.num_nodes]])
        pos = torch.cat([pos, s_out.pos])
    frame = sphere_frame(pos).transpose(1, 2)
    length, azimuth, back = great_circles(pos, frame, edge_index)
    keep = length < math.pi - _SAME  # antipodes see no direction to each other
    edge_index, length, azimuth, back = edge_index[:, keep], length[keep], azimuth[keep], back[keep]
    source, target = edge_index
    x, y = torch.einsum("eak,ek->ae", frame[target, :2], frame[source, 0])  # e1 of the source, seen by the target
    same = length < _SAME
    transport = wrap_angle(torch.where(same, torch.atan2(y, x), azimuth - back - math.pi))
    polar = torch.stack([length.where(~same, 0.0), azimuth.where(~same, 0.0)], dim=1)
    return edge_index, polar, transport.where(source != target, 0.0)

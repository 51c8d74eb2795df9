"""The few kernels that decide the speed: stencils over neighbours and reductions over segments."""

from geomeq.ops.segment import segment_max, segment_mean, segment_softmax, segment_sum
from geomeq.ops.stencil import Stencil, StencilPattern, stencil

__all__ = ["Stencil", "StencilPattern", "segment_max", "segment_mean", "segment_softmax", "segment_sum", "stencil"]

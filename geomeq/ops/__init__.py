"""The few kernels that decide the speed: stencils over neighbours and reductions over segments."""

from geomeq.ops.stencil import Stencil, StencilPattern, stencil

__all__ = ["Stencil", "StencilPattern", "stencil"]

"""DISCO with filters that have a direction and commute with every rotation: fields carry a spin."""

import math
import weakref
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups._lasting import lasting
from geomeq.spheres import Sampling

from ._sphere_edges import spin_edges
from .gauge_conv import GaugeConv, Types
from .gauge_plan import GaugePlan, wide_dtype

_STEPS = 4.0  # default cut-off in node spacings


class SteerableDiscoConv(nn.Module):
    r"""Discrete-continuous convolution of spin fields on the sphere, from any sampling to any other.

    .. math:: y_i = \sum_j \frac{A_j}{\pi r_c^2} \sum_k B_k\, \phi_k(r_{ij})\, u_{ij}^{|m - n|}\,
              e^{i m a_{ij}}\, e^{-i n (a_{ji} + \pi)}\, x_j

    for input of spin n and output of spin m (and the conjugate term that real fields allow), with :math:`a_{ij}` the
    azimuth of j seen from i, :math:`a_{ji}` that of i seen from j, and :math:`u = r / r_c`. Where the filters of
    :class:`DiscoConv` are read in the frame of the meridian, here both ends count: turning the frames turns the
    features, and nothing else. So filters may point somewhere (spin 0 to 1 is a gradient) and the layer still commutes
    with every rotation, up to the error of the quadrature.

    This *is* :class:`GaugeConv` with ``basis="smooth"`` and ``weight="integral"`` on the graph
    ``spheres.sphere_graph(s, cutoff, loops=True)``; this class owns that graph, shares it between layers, keeps it out
    of the ``state_dict``, and adds a second sampling for the output. Between layers use non-linearities that know
    spins: :class:`NormGate`, :class:`NormReLU`, :class:`FourierNonlinearity`.

    Args:
        spins_in: Type of the input, such as ``"8x0+4x1"``: eight scalars and four fields of spin 1.
        spins_out: Type of the output.
        s: Sampling of the input.
        cutoff: Radius of the filters, radians; default four node spacings of the coarser sampling.
        s_out: Sampling of the output; default ``s``. The frames at its nodes are those of the meridian, south and east.
        rings: Number of radial profiles.
        self_interaction: Whether there is a term of the node itself; only where input and output have one sampling.
        bias: Whether outputs of spin 0 have a bias.

    Attributes:
        conv: The :class:`GaugeConv`, with all parameters.

    Raises:
        TypeError: If a sampling is none.
        ValueError: If the cut-off is out of range or a node of the output has no node of the input within it.

    Example:
        >>> import torch
        >>> from geomeq import spheres
        >>> conv = SteerableDiscoConv("3x0", "8x0+4x1", spheres.healpix(8), s_out=spheres.healpix(4))
        >>> conv(torch.randn(2, 768, 3)).shape
        torch.Size([2, 192, 16])
    """

    def __init__(
        self,
        spins_in: Types,
        spins_out: Types,
        s: Sampling,
        cutoff: float | None = None,
        s_out: Sampling | None = None,
        rings: int = 3,
        self_interaction: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for name, sampling in (("s", s), ("s_out", s if s_out is None else s_out)):
            if not isinstance(sampling, Sampling):
                raise TypeError(f"{name} must be a spheres.Sampling, got {type(sampling).__name__}")
        if s_out is not None and s_out.key == s.key:
            s_out = None
        if cutoff is None:
            cutoff = min(_STEPS * max(t.spacing for t in (s, s_out) if t is not None), math.pi)
        if not isinstance(cutoff, int | float) or not 0 < cutoff <= math.pi:
            raise ValueError(f"cutoff is an angle in radians, more than 0 and at most pi, got {cutoff!r}")
        if s_out is not None and self_interaction:
            raise ValueError("self_interaction needs the nodes of the input at the output: leave out s_out or it")
        self.s, self.s_out, self.cutoff = s, s_out, float(cutoff)
        self.conv = GaugeConv(
            spins_in,
            spins_out,
            rings=rings,
            cutoff=self.cutoff,
            weight="integral",
            basis="smooth",
            self_interaction=self_interaction,
            bias=bias,
        )
        self._geometry: _Geometry | None = None
        self._plan: tuple[GaugePlan, ...] = ()
        self._prepare()

    @property
    def plan(self) -> GaugePlan:
        """The geometry, in the precision and on the device of the weights."""
        return self._plan[0]

    def reset_parameters(self) -> None:
        """Those of :class:`GaugeConv`."""
        self.conv.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Convolves.

        Args:
            x: Features in the frames of the nodes of ``s``, ``[N_in, dim]`` or ``[..., N_in, dim]``.

        Returns:
            Features in the frames of the nodes of ``s_out``, ``[..., N_out, dim']``.

        Raises:
            TypeError: If ``x`` holds no floating-point numbers.
            ValueError: If ``x`` has another shape.
        """
        nodes = self.s.num_nodes
        check_shape("x", x, "...", nodes, self.conv.types_in.dim, hint=f"one row for each node of {self.s.kind}")
        return self.conv(x, self.plan)  # type: ignore[no-any-return]

    def _prepare(self) -> None:
        weight = self.conv.weight
        if weight.device.type == "meta":
            self._geometry = None
            return
        self._geometry = _geometry(self.s, self.s_out, self.cutoff)
        plan = self._geometry.plan(self.conv.rings, wide_dtype(weight), weight.device)
        orders_in, orders_out = (tuple(layout[::2]) for layout in self.conv._layouts)
        plan.tables(orders_in, orders_out)  # not first in a traced call
        self._plan = (plan,)  # hidden from .to(), which would move it under other layers

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._prepare()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_geometry": None, "_plan": ()}  # geometry is made again, or shared

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def extra_repr(self) -> str:
        """Samplings and radius."""
        out = self.s if self.s_out is None else self.s_out
        return f"{self.s.kind}[{self.s.num_nodes}] -> {out.kind}[{out.num_nodes}], cutoff={self.cutoff:.6g}"


class _Geometry:
    """Edges between two samplings in float64, and the plans made of them so far."""

    def __init__(self, s: Sampling, s_out: Sampling | None, cutoff: float) -> None:
        self.cutoff, self.area = cutoff, s.area
        self.num_targets = None if s_out is None else s_out.num_nodes
        self.edges = spin_edges(s, s_out, cutoff)
        self._made: dict[tuple[int, torch.dtype, torch.device], GaugePlan] = {}

    def plan(self, rings: int, dtype: torch.dtype, device: torch.device) -> GaugePlan:
        """The plan with so many radial profiles in one precision."""
        key = (rings, dtype, device)
        if key not in self._made:
            plan = lasting(GaugePlan)(
                *self.edges,
                self.area,
                rings=rings,
                cutoff=self.cutoff,
                weight="integral",
                basis="smooth",
                num_targets=self.num_targets,
            )
            self._made[key] = plan.to(device, dtype)
        return self._made[key]


_KEPT: "weakref.WeakValueDictionary[tuple[str, str | None, float], _Geometry]" = weakref.WeakValueDictionary()


def _geometry(s: Sampling, s_out: Sampling | None, cutoff: float) -> _Geometry:
    """One geometry for all layers between these samplings, as long as one of them lives."""
    key = (s.key, None if s_out is None else s_out.key, cutoff)
    found = _KEPT.get(key)
    if found is None:
        found = _KEPT[key] = lasting(_Geometry)(s, s_out, cutoff)
    return found

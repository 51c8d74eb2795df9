"""Gauge-equivariant convolution on meshes, the plane and the sphere."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._gauge_sum import gauge_mix

from ._gauge_kernel import KernelPowers, SelfWeights, column_orders, edge_messages
from ._gauge_radial import check_rings
from .gauge_plan import WEIGHTS, GaugePlan, cached_plan, out_dtype, wide_dtype

PATHS = ("auto", "edge", "moments", "fused")
Types = SO2Irreps | str | Iterable[tuple[int, int]]


class GaugeConv(nn.Module):
    r"""Convolution of fields of tangent vectors and tensors on a surface, the most general that commutes with frames.

    .. math:: y_i = K_{self}\, x_i + \sum_{e = (j \to i)} w_e\, \rho_{out}(\varphi_e)
        \Big[\sum_k \phi_k(r_e)\, B_k\Big] \rho_{in}(-\varphi_e)\, \rho_{in}(\theta_e)\, x_j + b

    Every entry of :math:`B_k` is free: between orders :math:`n \to m` the kernel is
    :math:`a\, e^{i(m-n)\varphi} z + b\, e^{i(m+n)\varphi} \bar z` with :math:`z = e^{in\theta} x_j`, both terms. With
    ``transport`` 0 it is the layer of harmonic networks on the plane; on the sphere it is a spin convolution.
    :math:`K_{self}` and the bias (on order 0) commute with every rotation.

    ``basis="hat"`` (piecewise linear rings, the kernel need not vanish at the cut-off; longer edges are clipped to it)
    is the published mesh layer. ``basis="smooth"`` (cosine bumps that vanish there; longer edges count as absent) also
    multiplies each term by :math:`(r / r_c)^{|m \mp n|}`, so that the kernel has one value at :math:`r = 0`: for the
    sphere, pixel grids and dense points.

    Paths, all equal to rounding: ``"moments"`` sums turned neighbours over a few cosines and sines of the angle first,
    in blocks that are not kept, and multiplies nodes by matrices afterwards; ``"fused"`` does the same on a GPU from
    the angles themselves (Triton), without coefficients in memory; ``"edge"`` builds a message per edge and
    differentiates through geometry. ``"auto"`` is ``"edge"`` where ``polar``, ``transport`` or ``area`` need gradients,
    else ``"moments"``.

    Args:
        types_in: Type of the input, such as ``"16x0+8x1+4x2"``.
        types_out: Type of the output.
        rings: Number of radial profiles :math:`R`.
        cutoff: Radius of the kernel :math:`r_c`, in the unit of ``polar[:, 0]``; ``None`` only for one constant ring.
        weight: Weights of neighbours, see :class:`GaugePlan`.
        basis: ``"hat"`` or ``"smooth"``.
        self_interaction: Whether there is :math:`K_{self}` (none where no order occurs on both sides).
        edge_bias: Whether messages have a bias: the same as one more scalar input that is 1 everywhere.
        bias: Whether outputs of order 0, if any, have a bias.
        path: As above.

    Attributes:
        weight: :math:`B`, ``[R, types_out.dim, types_in.dim]``.
        self_weight: Real numbers of :math:`K_{self}`: per pair of equal blocks ``(mul_out, mul_in)`` for order 0 and
            ``(mul_out, mul_in, 2)``, real and imaginary part, above.
        bias: ``[types_out.count(0)]`` or ``None``.
        edge_bias: ``[R, types_out.dim]`` or ``None``.

    Raises:
        ValueError: If an option does not exist or the rings lack a cut-off.

    Example:
        >>> conv = GaugeConv("16x0+8x1", "4x0+4x1+4x2", rings=2, cutoff=0.5)
        >>> conv
        GaugeConv(16x0+8x1 -> 4x0+4x1+4x2, rings=2, cutoff=0.5, weight='auto', basis='hat', path='auto')

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425
    """

    _scalars: Tensor
    _sorted_in: Tensor | None
    _sorted_out: Tensor | None
    _restore_out: Tensor | None

    def __init__(
        self,
        types_in: Types,
        types_out: Types,
        rings: int = 2,
        cutoff: float | None = None,
        weight: str = "auto",
        basis: str = "hat",
        self_interaction: bool = True,
        edge_bias: bool = False,
        bias: bool = True,
        path: str = "auto",
    ) -> None:
        super().__init__()
        check_rings(rings, cutoff, basis)
        for name, value, known in (("weight", weight, WEIGHTS), ("path", path, PATHS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.types_in, self.types_out = SO2Irreps(types_in), SO2Irreps(types_out)
        self.rings, self.cutoff, self.weighting, self.basis, self.path = rings, cutoff, weight, basis, path
        self._types = (self.types_in + "1x0" if edge_bias else self.types_in, self.types_out)
        self._has_kernel = all(types.dim for types in self._types)  # a plain value: compile cannot trace types
        self._powers = KernelPowers(*self._types)
        self._self = SelfWeights(self.types_in, self.types_out)
        scalars = (column_orders(self.types_out) == 0).nonzero().squeeze(1)
        self.register_buffer("_scalars", scalars, persistent=False)
        self._layouts = [[n for mul, order in types.regroup() for n in (order, mul)] for types in self._types]
        sorted_in, sorted_out = (_sorting(types) for types in self._types)
        self.register_buffer("_sorted_in", sorted_in, persistent=False)
        self.register_buffer("_sorted_out", sorted_out, persistent=False)
        restore = None if sorted_out is None else sorted_out.argsort()
        self.register_buffer("_restore_out", restore, persistent=False)
        self.weight = nn.Parameter(torch.empty(rings, self.types_out.dim, self.types_in.dim))
        self.self_weight = (
            nn.Parameter(torch.empty(self._self.numel)) if self_interaction and self._self.numel else None
        )
        self.bias = nn.Parameter(torch.empty(len(scalars))) if bias and len(scalars) else None
        self.edge_bias = nn.Parameter(torch.empty(rings, self.types_out.dim)) if edge_bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights, zero biases.

        One message of independent features of unit variance, together with the self interaction, has unit variance in
        every order: half from each where both reach an order. With ``weight="sum"`` variances add up over neighbours.
        """
        gain = torch.ones(self.types_out.dim)
        if self.self_weight is not None:
            gain = torch.where(self._self.has_source, 0.5, 1.0)
            std = self._self.fan_in.clamp(min=1).rsqrt() * 0.5**0.5
            with torch.no_grad():
                self.self_weight.copy_(torch.randn(self._self.numel) * std)
        powers = KernelPowers(self.types_in, self.types_out)
        powers.init_(self.weight, gain, self.rings, self.cutoff, self.basis)
        for bias in (self.bias, self.edge_bias):
            if bias is not None:
                nn.init.zeros_(bias)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | GaugePlan,
        polar: Tensor | None = None,
        transport: Tensor | None = None,
        area: Tensor | None = None,
    ) -> Tensor:
        """Convolves.

        The geometry is prepared once for all layers of equal settings, as long as the same ``polar`` lives, and again
        when one of the tensors changes in place. Writes through ``.data`` or numpy count as no change: pass a copy.

        Args:
            x: Features in the frames of the nodes, ``[N, types_in.dim]``, or ``[..., N, types_in.dim]`` on one graph.
            edge_index: Source and target of each edge, ``[2, E]``, in any order; or a :class:`GaugePlan` that holds
                this and all that follows.
            polar: ``(r, angle)`` of the source in the frame of the target, ``[E, 2]``.
            transport: Angle from the frame of the source to that of the target, ``[E]``.
            area: Of each node, ``[N]``; needed by weights ``"area"`` and ``"integral"``.

        Returns:
            Features in the same frames, ``[..., N, types_out.dim]``, in the dtype of the weights; of the receivers,
            where the plan is from some nodes to others.

        Raises:
            TypeError: If a dtype is wrong.
            ValueError: If a shape is wrong, a number of the geometry is not finite, or the plan belongs to a layer
                with other settings.
        """
        check_shape(
            "x", x, "...", "N", self.types_in.dim, hint=f"the layer reads {self.types_in}, see SO2Irreps for the layout"
        )
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, got {x.dtype}; call .float() on it")
        plan = self._plan_of(x, edge_index, polar, transport, area)
        dtype = out_dtype(x, self.weight)
        with torch.autocast(x.device.type, enabled=False):
            out = self._aggregate(x.to(wide_dtype(self.weight)), plan)
            if self.bias is not None:
                out = out + self.bias.new_zeros(self.types_out.dim).index_add(0, self._scalars, self.bias)
        return out.to(dtype)

    def plan(
        self,
        edge_index: Tensor,
        polar: Tensor,
        transport: Tensor,
        area: Tensor | None = None,
        num_nodes: int | None = None,
        num_targets: int | None = None,
    ) -> GaugePlan:
        """A :class:`GaugePlan` with the settings of this layer, to share with others or to use under ``compile``."""
        made = GaugePlan(
            edge_index,
            polar,
            transport,
            area,
            rings=self.rings,
            cutoff=self.cutoff,
            weight=self.weighting,
            basis=self.basis,
            num_nodes=num_nodes,
            num_targets=num_targets,
        )
        return made.to(wide_dtype(self.weight))

    def _plan_of(
        self,
        x: Tensor,
        edge_index: Tensor | GaugePlan,
        polar: Tensor | None,
        transport: Tensor | None,
        area: Tensor | None,
    ) -> GaugePlan:
        if isinstance(edge_index, GaugePlan):
            self._check_plan(x, edge_index)
            return edge_index
        if polar is None or transport is None:
            raise ValueError(
                "polar and transport are needed beside edge_index; apply transforms.MeshGauge, PlaneGauge or "
                "SphereGauge to the data, or pass a GaugePlan"
            )
        num_nodes = x.size(-2)
        settings = (self.rings, self.cutoff, self.weighting, self.basis, wide_dtype(self.weight), num_nodes)
        plan = cached_plan(
            (edge_index, polar, transport, area),
            settings,
            lambda: self.plan(edge_index, polar, transport, area, num_nodes),
        )
        self._check_plan(x, plan)
        return plan

    def _check_plan(self, x: Tensor, plan: GaugePlan) -> None:
        ours = {"rings": self.rings, "cutoff": self.cutoff, "basis": self.basis}
        theirs = {name: getattr(plan, name) for name in ours}
        if ours != theirs or self.weighting not in ("auto", plan.weight):
            raise ValueError(
                f"the plan was made with {theirs} and weight={plan.weight!r}, this layer has {ours} and "
                f"weight={self.weighting!r}; make it with layer.plan(edge_index, polar, transport, area)"
            )
        if x.size(-2) != plan.num_nodes:
            raise ValueError(
                f"x has {x.size(-2)} nodes, the geometry {plan.num_nodes}; a plan without areas needs num_nodes where "
                "the last nodes have no edges"
            )
        if plan.is_bipartite and self.self_weight is not None:
            raise ValueError(
                "the plan leads from some nodes to others, which have no features of their own here; make the layer "
                "with self_interaction=False"
            )
        wide = wide_dtype(self.weight)
        if plan.radial.dtype != wide:
            raise TypeError(f"the plan is {plan.radial.dtype}, the layer {self.weight.dtype}; call plan.to({wide})")
        if plan.has_zero_radius and max(self.types_in.max_order, self.types_out.max_order) > 0:
            raise ValueError(
                "an edge has r = 0, where its angle has no meaning: remove self loops and coincident points (self "
                "interaction is separate), or use basis='smooth', whose kernel has one value there"
            )

    def _aggregate(self, x: Tensor, plan: GaugePlan) -> Tensor:
        """Everything but the bias."""
        weight: Tensor = self.weight.to(x.dtype)
        own = None if self.self_weight is None else self._self.matrix(self.self_weight.to(x.dtype))
        if self.edge_bias is not None:  # one more scalar input, 1 everywhere
            x = torch.cat([x, x.new_ones(*x.shape[:-1], 1)], dim=-1)
            weight = torch.cat([weight, self.edge_bias.to(x.dtype).unsqueeze(-1)], dim=-1)
            own = None if own is None else nn.functional.pad(own, (0, 1))
        if self.path in ("moments", "fused") and not plan.is_fixed:
            raise ValueError(f"geometry needs gradients here, which path={self.path!r} does not give; use path='auto'")
        if self.path != "edge" and plan.is_fixed and self._has_kernel and not transforms_functions():
            return self._moments(x, weight, own, plan)
        out = edge_messages(
            x,
            weight,
            plan.edge_index,
            plan.angle,
            plan.transport,
            plan.radial,
            plan.ratio,
            self._types,
            self._powers,
            plan.num_targets,
        )
        return out if own is None else out + x @ own.T

    def _moments(self, x: Tensor, weight: Tensor, own: Tensor | None, plan: GaugePlan) -> Tensor:
        """The fast engine, in the layout of ``SO2Irreps.regroup``."""
        own = weight.new_empty(0, 0) if own is None else own
        if self._sorted_in is not None:
            x, weight = x.index_select(-1, self._sorted_in), weight.index_select(-1, self._sorted_in)
            own = own.index_select(-1, self._sorted_in) if own.numel() else own
        if self._sorted_out is not None:
            weight = weight.index_select(-2, self._sorted_out)
            own = own.index_select(-2, self._sorted_out) if own.numel() else own
        fused = self.path == "fused"
        orders_in, orders_out = (tuple(layout[::2]) for layout in self._layouts)
        there, back = plan.tables(orders_in, orders_out, fused)
        lead, batch = x.shape[:-2], x.shape[:-2].numel()
        by_node = x.reshape(batch, *x.shape[-2:]).transpose(0, 1).contiguous()
        out = gauge_mix(
            by_node, weight, own, there, back, *self._layouts, plan.ratio is not None, "fused" if fused else "auto"
        )
        out = out.transpose(0, 1).reshape(*lead, plan.num_targets, self.types_out.dim)
        return out if self._restore_out is None else out.index_select(-1, self._restore_out)

    def extra_repr(self) -> str:
        """Types and settings."""
        return (
            f"{self.types_in} -> {self.types_out}, rings={self.rings}, cutoff={self.cutoff}, "
            f"weight={self.weighting!r}, basis={self.basis!r}, path={self.path!r}"
        )


def _sorting(types: SO2Irreps) -> Tensor | None:
    """Columns that sort a feature by order; ``None`` where they are sorted."""
    columns = types.permutation()
    return None if torch.equal(columns, torch.arange(types.dim)) else columns

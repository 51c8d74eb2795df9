"""Attention between neighbours on a surface that does not see the frames."""

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps
from geomeq.ops import segment_softmax, segment_sum

from ._gauge_radial import check_rings, mean_square
from ._so2 import Block, layout, rotate, split
from .gauge_linear import GaugeLinear
from .gauge_plan import GaugePlan, cached_plan, out_dtype, wide_dtype


class GaugeAttention(nn.Module):
    r"""Gauge-equivariant attention over neighbours, with as many heads as one likes.

    Queries live at the target, keys and values come from the source through the full gauge-equivariant kernels of
    :class:`GaugeConv`, so all three are features of known types in the frame of the target:

    .. math::
        q_i = Q x_i, \quad k_e = K_k(r, \varphi)\, \rho(\theta)\, x_j, \quad v_e = K_v(r, \varphi)\, \rho(\theta)\, x_j,
        \qquad \alpha_e = \operatorname{softmax}_{e \to i} \Bigl( \frac{q_i \cdot k_e}{\sqrt d} + \log A_j \Bigr),
        \qquad y_i = K_{self}\, x_i + \sum_e \alpha_e v_e + b

    An inner product of two features in one frame is invariant, so the logits are, and a weighted mean of features in
    one frame is a feature. The logarithm of the area makes each neighbour count by the surface it stands for, so that
    two neighbours in place of one large one change nothing. All is computed in the frame of the edge, where the kernels
    are constant matrices. Message form: gauge (2), with weights that depend on the features.

    Args:
        types_in: Type of the input.
        types_out: Type of the output; every multiplicity must be a multiple of ``heads``.
        heads: Number of heads; each has its own logits and its own share of the output fields.
        rings: Number of radial profiles of keys and values (piecewise linear, see :class:`GaugeConv`).
        cutoff: Where they end, in the unit of ``polar[:, 0]``; ``None`` only for one ring.
        weight: ``"auto"`` (area where given), ``"area"``, ``"mean"`` or ``"sum"`` (both without areas).
        types_key: Type of the keys of one head; by default every order up to that of the input, with as many fields
            as the input has, divided by ``heads``.
        self_interaction: Whether there is :math:`K_{self}`.
        bias: Whether outputs of order 0 have a bias.

    Raises:
        ValueError: If a multiplicity cannot be shared among the heads, or the rings lack a cut-off.

    Example:
        >>> attend = GaugeAttention("4x0+4x1", "8x0+4x1", heads=2)
        >>> edge_index = torch.tensor([[1, 0], [0, 1]])
        >>> attend(torch.randn(2, 12), edge_index, torch.ones(2, 2), torch.zeros(2)).shape
        torch.Size([2, 16])

    Source: Basu et al. (2022), https://arxiv.org/abs/2205.10662
    """

    def __init__(
        self,
        types_in: SO2Irreps | str,
        types_out: SO2Irreps | str,
        heads: int = 1,
        rings: int = 1,
        cutoff: float | None = None,
        weight: str = "auto",
        types_key: SO2Irreps | str | None = None,
        self_interaction: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check_rings(rings, cutoff, "hat")
        if weight not in ("auto", "area", "mean", "sum"):
            raise ValueError(f"weight must be 'auto', 'area', 'mean' or 'sum', got {weight!r}")
        self.types_in, self.types_out = SO2Irreps(types_in), SO2Irreps(types_out)
        if heads < 1 or any(block.mul % heads for block in self.types_out):
            raise ValueError(f"heads={heads} must divide every multiplicity of types_out={self.types_out}")
        self.heads, self.rings, self.cutoff, self.weighting, self.basis = heads, rings, cutoff, weight, "hat"
        self.types_key = _key_types(self.types_in, heads) if types_key is None else SO2Irreps(types_key)
        all_keys = SO2Irreps((heads * block.mul, block.order) for block in self.types_key)
        self._in, self._out, self._key = layout(self.types_in), layout(self.types_out), layout(all_keys)
        self._dims = (self.types_in.dim, all_keys.dim, self.types_out.dim)
        self._hint = f"the layer was built for types_in={self.types_in}"
        self._scale = max(self.types_key.dim, 1) ** -0.5
        self._oriented = max(self.types_in.max_order, self.types_out.max_order, all_keys.max_order) > 0
        self.query = GaugeLinear(self.types_in, all_keys)
        self.key_weight = nn.Parameter(torch.empty(rings, all_keys.dim, self.types_in.dim))
        self.value_weight = nn.Parameter(torch.empty(rings, self.types_out.dim, self.types_in.dim))
        self.self_interaction = GaugeLinear(self.types_in, self.types_out, bias=False) if self_interaction else None
        scalars = self.types_out.count(0)
        self.bias = nn.Parameter(torch.empty(scalars)) if bias and scalars else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal weights of keys and values that keep unit variance of a message; zero bias."""
        self.query.reset_parameters()
        if self.self_interaction is not None:
            self.self_interaction.reset_parameters()
        fan_in = max(self._dims[0], 1) * mean_square(0, self.rings, self.cutoff, "hat")
        for weight in (self.key_weight, self.value_weight):
            nn.init.normal_(weight, std=fan_in**-0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | GaugePlan,
        polar: Tensor | None = None,
        transport: Tensor | None = None,
        area: Tensor | None = None,
    ) -> Tensor:
        """Attends.

        Args:
            x: Features in the frames of the nodes, ``[N, types_in.dim]``, or ``[B, N, types_in.dim]`` on one graph.
            edge_index: Source and target of each edge, ``[2, E]``; or a :class:`GaugePlan` that holds all that follows.
            polar: ``(r, angle)`` of the source in the frame of the target, ``[E, 2]``.
            transport: Angle from the frame of the source to that of the target, ``[E]``.
            area: Of each node, ``[N]``.

        Returns:
            ``[..., N, types_out.dim]``. A node without neighbours has its self interaction and the bias.

        Raises:
            TypeError: If a dtype is wrong.
            ValueError: If a shape is wrong, or the plan belongs to a layer with other settings.
        """
        check_shape("x", x, "...", "N", self._dims[0], hint=self._hint)
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, got {x.dtype}; call .float() on it")
        dtype = out_dtype(x, self.key_weight)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(wide_dtype(self.key_weight))
            plan = self._plan_of(x, edge_index, polar, transport, area)
            out = self._attend(x, plan)
            if self.self_interaction is not None:
                out = out + self.self_interaction(x)
            out = out if self.bias is None else self._add_bias(out, self.bias)
        return out.to(dtype)

    def _plan_of(
        self,
        x: Tensor,
        edge_index: Tensor | GaugePlan,
        polar: Tensor | None = None,
        transport: Tensor | None = None,
        area: Tensor | None = None,
    ) -> GaugePlan:
        """The plan of this geometry for this layer, made once per graph and shared by layers of equal settings."""
        if isinstance(edge_index, GaugePlan):
            return self._checked(x, edge_index)
        if polar is None or transport is None:
            raise ValueError(
                "polar and transport are needed beside edge_index; apply transforms.MeshGauge, PlaneGauge or "
                "SphereGauge to the data, or pass a GaugePlan"
            )
        settings = (self.rings, self.cutoff, self.weighting, "hat", wide_dtype(self.key_weight), x.size(-2))
        options = {"rings": self.rings, "cutoff": self.cutoff, "weight": self.weighting, "num_nodes": x.size(-2)}
        plan = cached_plan(
            (edge_index, polar, transport, area),
            settings,
            lambda: GaugePlan(edge_index, polar, transport, area, **options).to(wide_dtype(self.key_weight)),  # type: ignore[arg-type]
        )
        return self._checked(x, plan)

    def _checked(self, x: Tensor, plan: GaugePlan) -> GaugePlan:
        if (plan.rings, plan.cutoff, plan.basis) != (self.rings, self.cutoff, "hat"):
            raise ValueError(
                f"the plan has rings={plan.rings}, cutoff={plan.cutoff}, basis={plan.basis!r}; this layer needs "
                f"rings={self.rings}, cutoff={self.cutoff}, basis='hat'"
            )
        if self.weighting not in ("auto", plan.weight):
            raise ValueError(f"the plan has weight={plan.weight!r}, this layer {self.weighting!r}")
        if plan.is_bipartite:
            raise ValueError("the plan leads from some nodes to others; attention needs one set of nodes at both ends")
        if x.size(-2) != plan.num_nodes:
            raise ValueError(
                f"x has {x.size(-2)} nodes, the geometry {plan.num_nodes}; a plan without areas needs num_nodes where "
                "the last nodes have no edges"
            )
        wide = wide_dtype(self.key_weight)
        if plan.radial.dtype != wide:
            raise TypeError(f"the plan is {plan.radial.dtype}, the layer {self.key_weight.dtype}; call plan.to({wide})")
        if plan.has_zero_radius and self._oriented:
            raise ValueError(
                "an edge has r = 0, where its angle has no meaning: remove self loops and coincident points (self "
                "interaction is separate)"
            )
        return plan

    def _attend(self, x: Tensor, plan: GaugePlan) -> Tensor:
        (source, target), dim_key = plan.edge_index, self._dims[1]
        angle, transport, radial = plan.angle, plan.transport, plan.radial
        if not _is_sorted(target):
            order = target.argsort(stable=True)
            source, target = source[order], target[order]
            angle, transport, radial = angle[order], transport[order], radial[order]
        # A plan holds profiles times the weight of the neighbour. Profiles sum to one, so the sum is the weight: the
        # area up to a factor common to all neighbours of a target, which the softmax does not see.
        share = radial.sum(1, keepdim=True)
        counts = share > 0
        profile = radial / torch.where(counts, share, torch.ones_like(share))
        along = rotate(x.index_select(-2, source), transport - angle, self._in)
        along = (along.unsqueeze(-2) * profile.unsqueeze(-1)).flatten(-2)
        weight = torch.cat([self.key_weight, self.value_weight], dim=1).to(x.dtype).permute(0, 2, 1).flatten(0, 1)
        key, value = (along @ weight).split([dim_key, self._dims[2]], dim=-1)
        query = rotate(self.query(x).to(x.dtype).index_select(-2, target), -angle, self._key)
        logits = self._products(query, key) * self._scale
        logits = logits + torch.where(counts, share, torch.ones_like(share)).log()
        alpha = _softmax(logits.masked_fill(~counts, -1e30), target, x.size(-2)) * counts.to(x.dtype)
        return _sum(rotate(self._weighted(value, alpha), angle, self._out), target, x.size(-2))

    def _products(self, query: Tensor, key: Tensor) -> Tensor:
        """Inner product of each head, ``[..., E, heads]``."""
        product = query * key
        total = product.new_zeros(*product.shape[:-1], self.heads)
        for b in self._key:
            total = total + product[..., b.begin : b.end].unflatten(-1, (self.heads, -1)).sum(-1)
        return total

    def _weighted(self, value: Tensor, alpha: Tensor) -> Tensor:
        """Each head's fields times its weights, ``[..., E, dim]``."""
        parts = [_by_head(value, b, self.heads) * alpha.unsqueeze(-1) for b in self._out]
        return torch.cat([part.flatten(-2) for part in parts], dim=-1) if parts else value

    def _add_bias(self, out: Tensor, bias: Tensor) -> Tensor:
        parts, at = [], 0
        for b, part in zip(self._out, split(out, self._out), strict=True):
            if b.order == 0:
                part = part + bias[at : at + b.mul, None]
                at += b.mul
            parts.append(part.flatten(-2))
        return torch.cat(parts, dim=-1)

    def extra_repr(self) -> str:
        """Types and settings."""
        return (
            f"{self.types_in} -> {self.types_out}, heads={self.heads}, rings={self.rings}, cutoff={self.cutoff}, "
            f"weight={self.weighting!r}"
        )


def _key_types(types: SO2Irreps, heads: int) -> SO2Irreps:
    grouped = types.regroup()
    return SO2Irreps((max(1, round(block.mul / heads)), block.order) for block in grouped)


def _by_head(x: Tensor, block: Block, heads: int) -> Tensor:
    return x[..., block.begin : block.end].unflatten(-1, (heads, -1))


def _is_sorted(target: Tensor) -> bool:
    if torch.compiler.is_compiling():  # a compiled graph cannot branch on values
        return False
    return target.numel() < 2 or not bool((target[1:] < target[:-1]).any())


def _softmax(logits: Tensor, target: Tensor, nodes: int) -> Tensor:
    if logits.dim() == 2:
        return segment_softmax(logits, target, nodes)
    return segment_softmax(logits.movedim(-2, 0), target, nodes).movedim(0, -2)


def _sum(messages: Tensor, target: Tensor, nodes: int) -> Tensor:
    if messages.dim() == 2:
        return segment_sum(messages, target, nodes)
    return segment_sum(messages.movedim(-2, 0), target, nodes).movedim(0, -2)

"""SEGNN: steerable E(3) equivariant message passing, for graphs and for nodes."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from e3nn import o3
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq._checks import check_edge_index, check_finite, check_shape
from geomeq.harmonics import (
    bessel_basis,
    edge_vectors,
    gaussian_basis,
    polynomial_envelope,
    steerable_attributes,
)
from geomeq.nn import (
    SEGNNConv,
    SteerableBatchNorm,
    SteerableGate,
    SteerableInstanceNorm,
    SteerableLayerNorm,
    SteerableLinear,
)
from geomeq.nn._graph import SteerableGraph

_NORMS = {"instance": SteerableInstanceNorm, "layer": SteerableLayerNorm, "batch": SteerableBatchNorm}
_CHOICES = {
    "task": ("graph", "node"),
    "pool": ("mean", "sum", "atoms"),
    "norm": (None, *_NORMS),
    "radial": ("distance", "square", "bessel", "gaussian"),
    "path": ("auto", "frame", "cg"),
}


@dataclass(frozen=True)
class SEGNNConfig:
    """Everything that defines a :class:`SEGNN`; plain values, so it can be saved as JSON.

    Attributes:
        irreps_in: Type of ``data.x``.
        irreps_hidden: Type of the hidden features.
        irreps_out: Type of the output.
        lmax_attributes: Highest degree of the attributes.
        num_layers: Number of message-passing layers.
        task: ``"graph"`` (one output per graph) or ``"node"`` (one per node).
        pool: For graphs: ``"mean"`` or ``"sum"`` of node features followed by a network (as published), or
            ``"atoms"``, the sum of one output per node: extensive, the choice for energies.
        norm: ``None``, ``"instance"`` (published), ``"layer"`` or ``"batch"``, after every layer.
        radial: What each message is told of the length: itself, its square, or a Bessel or Gaussian basis.
        num_radial: Number of basis functions.
        cutoff: If given, messages and node attributes fade out smoothly at this length, in the unit of ``pos``.
            Needed by the bases.
        edge_scalars: Number of further invariants in ``data.edge_scalar``.
        vectors: Names of node attributes of ``data`` (``[N, 3]``: velocities, forces, spins) whose harmonics join the
            node attribute.
        path: How messages are computed, see :class:`~geomeq.nn.SEGNNConv`.
    """

    irreps_in: str
    irreps_hidden: str = "32x0e+32x1o"
    irreps_out: str = "1x0e"
    lmax_attributes: int = 1
    num_layers: int = 4
    task: Literal["graph", "node"] = "graph"
    pool: Literal["mean", "sum", "atoms"] = "mean"
    norm: Literal["instance", "layer", "batch"] | None = None
    radial: Literal["distance", "square", "bessel", "gaussian"] = "distance"
    num_radial: int = 8
    cutoff: float | None = None
    edge_scalars: int = 0
    vectors: tuple[str, ...] = field(default=())
    path: Literal["auto", "frame", "cg"] = "auto"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        for name in ("irreps_in", "irreps_hidden", "irreps_out"):
            try:
                irreps = o3.Irreps(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}={getattr(self, name)!r} is no irreps string such as '8x0e+8x1o'") from error
            object.__setattr__(self, name, str(irreps))
        if self.lmax_attributes < 0 or self.num_layers < 0 or self.edge_scalars < 0:
            raise ValueError("lmax_attributes, num_layers and edge_scalars must not be negative")
        if self.radial in ("bessel", "gaussian") and self.cutoff is None:
            raise ValueError(f"radial={self.radial!r} needs a cutoff: the basis lives between 0 and it")
        if isinstance(self.vectors, str):
            raise TypeError(
                f"vectors must be a tuple of names, got the string {self.vectors!r}; write ({self.vectors!r},)"
            )
        object.__setattr__(self, "vectors", tuple(self.vectors))

    @property
    def num_edge_scalars(self) -> int:
        """Invariants per message: those of the length and those of the data."""
        return (self.num_radial if self.radial in ("bessel", "gaussian") else 1) + self.edge_scalars


def balanced_irreps(channels: int, lmax: int, lmax_attributes: int | None = None) -> str:
    """Hidden irreps with as many weights per product as a linear layer of the given width.

    Args:
        channels: Width of the ordinary linear layer.
        lmax: Highest degree of the hidden irreps, each with the same multiplicity.
        lmax_attributes: Highest degree of the attribute; default ``lmax``.

    Returns:
        ``n`` copies of every degree, with the smallest ``n`` whose product has at least ``channels ** 2`` weights.

    Example:
        >>> balanced_irreps(64, 1), balanced_irreps(64, 2)
        ('32x0e+32x1o', '20x0e+20x1o+20x2e')

    Source: Brandstetter et al. (2022), app. C.
    """
    attr = o3.Irreps.spherical_harmonics(lmax if lmax_attributes is None else lmax_attributes)
    degrees = o3.Irreps.spherical_harmonics(lmax)
    paths = sum(ir_out in ir_in * ir_attr for _, ir_in in degrees for _, ir_attr in attr for _, ir_out in degrees)
    copies = 1
    while paths * copies**2 < channels**2:
        copies += 1
    return str(o3.Irreps([(copies, ir) for _, ir in degrees]))


class SEGNN(nn.Module):
    r"""Steerable E(3) equivariant graph neural network.

    An embedding :math:`h = \text{Lin}_{a_i}(x)`, layers of :class:`~geomeq.nn.SEGNNConv`, a gate and a linear map
    steered by the node attribute, and for graphs a pooling. Equivariant under rotations, reflections and translations:
    positions enter only through differences.

    Reads ``x`` ``[N, irreps_in.dim]``, ``edge_index`` and either the attributes that
    :class:`~geomeq.transforms.SteerableAttributes` wrote (``edge_attr``, ``node_attr``, ``edge_dist``) or ``pos``,
    from which it then computes them, differentiably (with ``shift`` and ``cell`` if periodic). Also ``edge_scalar``
    and the ``vectors`` of its config, ``edge_radial`` where a transform has made it, and ``batch``.

    Example:
        >>> model = SEGNN(SEGNNConfig("1x0e", "4x0e+4x1o", "1x1o", task="node"))
        >>> data = Data(x=torch.ones(3, 1), pos=torch.eye(3), edge_index=torch.tensor([[1, 2, 0], [0, 1, 2]]))
        >>> model(data).shape
        torch.Size([3, 3])

    Source: Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905.
    """

    def __init__(self, config: SEGNNConfig) -> None:
        super().__init__()
        self.config = config
        self.irreps_in, self.irreps_out = o3.Irreps(config.irreps_in), o3.Irreps(config.irreps_out)
        hidden = o3.Irreps(config.irreps_hidden)
        attr = o3.Irreps.spherical_harmonics(config.lmax_attributes)
        self.irreps_attr = attr
        # Plain values: torch.compile cannot guard e3nn's objects.
        self._dims = (self.irreps_in.dim, attr.dim)
        self._hints = (
            f"irreps_in of the config is {config.irreps_in}",
            f"lmax_attributes={config.lmax_attributes} needs SteerableAttributes(lmax={config.lmax_attributes})",
        )
        # Irreps that no product of the input gives (pseudo-vectors from scalars) start at 0; the layers fill them.
        self.embedding = SteerableLinear(self.irreps_in, attr, hidden, unreachable="zero")
        self.layers = nn.ModuleList(
            SEGNNConv(hidden, attr, edge_scalars=config.num_edge_scalars, path=config.path)
            for _ in range(config.num_layers)
        )
        norm = _NORMS.get(config.norm) if config.norm else None
        self.norms = nn.ModuleList(norm(hidden) for _ in range(config.num_layers)) if norm else None
        self.head = SteerableGate(hidden, attr, hidden)
        if config.task == "node" or config.pool == "atoms":
            self.readout = SteerableLinear(hidden, attr, self.irreps_out)
            self.pooled_head = self.pooled_readout = None
        else:
            pooled = o3.Irreps([(mul * hidden.num_irreps, ir) for mul, ir in self.irreps_out])
            self.readout = SteerableLinear(hidden, attr, pooled)
            self.pooled_head = SteerableGate(pooled, "1x0e", pooled)
            self.pooled_readout = SteerableLinear(pooled, "1x0e", self.irreps_out)

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        for module in self.modules():
            if isinstance(module, (SteerableLinear, SteerableInstanceNorm, SteerableLayerNorm, SteerableBatchNorm)):
                module.reset_parameters()

    def forward(self, data: Data) -> Tensor:
        """Predicts.

        Args:
            data: A ``Data`` or ``Batch``, see the class.

        Returns:
            ``[num_graphs, irreps_out.dim]`` or ``[N, irreps_out.dim]``, by the task.

        Raises:
            ValueError: If an attribute is missing or its shape does not fit the config.
        """
        x = self._node_features(data)
        batch, num_graphs = _batch(data, x.size(0))
        graph, scalars = self._geometry(data, x, batch)
        h = self.embedding(x, graph.node)
        for k, layer in enumerate(self.layers):
            h = layer(h, graph.edge_index, graph.edge_attr, graph.node_attr, scalars, graph=graph)
            if self.norms is not None:
                h = self.norms[k](h, batch, num_graphs)
        out = self.readout(self.head(h, graph.node), graph.node)
        if self.config.task == "node":
            return out
        pooled = _sum_graphs(out, batch, num_graphs)
        if self.config.pool == "mean":
            count = _sum_graphs(out.new_ones(out.size(0), 1), batch, num_graphs)
            pooled = pooled / count.clamp(min=1)
        if self.pooled_head is None or self.pooled_readout is None:
            return pooled
        one = pooled.new_ones(num_graphs, 1)
        return self.pooled_readout(self.pooled_head(pooled, one), one)

    def _node_features(self, data: Data) -> Tensor:
        x = data.get("x")
        if x is None:
            raise ValueError(
                f"data has no x [N, {self._dims[0]}]; {self._hints[0]}, and the data has {sorted(data.keys())}"
            )
        check_shape("x", x, "N", self._dims[0], hint=self._hints[0])
        weight = self.embedding.weight
        if x.device != weight.device:
            raise ValueError(
                f"data is on {x.device}, the model on {weight.device}; move one: data.to('{weight.device}')"
            )
        return x.to(weight.dtype)

    def _geometry(self, data: Data, x: Tensor, batch: Tensor) -> tuple[SteerableGraph, Tensor]:
        """Attributes and invariants, as written by a transform or computed here from the positions."""
        config, edge_index = self.config, data.get("edge_index")
        if edge_index is None:
            raise ValueError("data has no edge_index; apply CutoffGraph, NearestGraph or FullyConnected")
        check_edge_index(edge_index, x.size(0), x.size(0))
        edge_attr, node_attr, edge_dist = (data.get(name) for name in ("edge_attr", "node_attr", "edge_dist"))
        if node_attr is None:
            pos = data.get("pos")
            if pos is None:
                raise ValueError("data has neither pos nor edge_attr, node_attr, edge_dist of SteerableAttributes")
            check_finite("pos", pos, "drop or repair that structure")
            pos = pos.to(x.dtype)
            vec = edge_vectors(pos, edge_index, data.get("shift"), data.get("cell"), batch)
            vectors = [self._vector(data, name, x) for name in config.vectors]
            made = steerable_attributes(
                vec, edge_index, x.size(0), config.lmax_attributes, vectors, cutoff=config.cutoff
            )
            edge_attr, node_attr, edge_dist = made.edge_attr, made.node_attr, made.edge_dist
        dim, hint = self._dims[1], self._hints[1]
        if edge_attr is None or edge_dist is None:
            raise ValueError("data has node_attr but not edge_attr and edge_dist; apply SteerableAttributes again")
        check_shape("edge_attr", edge_attr, edge_index.size(1), dim, hint=hint)
        check_shape("node_attr", node_attr, x.size(0), dim, hint=hint)
        check_shape("edge_dist", edge_dist, edge_index.size(1), 1)
        edge_dist = edge_dist.to(x.dtype)
        weight = None if config.cutoff is None else polynomial_envelope(edge_dist[:, 0], config.cutoff)
        graph = SteerableGraph(edge_index, edge_attr.to(x.dtype), node_attr.to(x.dtype), weight)
        return graph, self._scalars(data, edge_dist)

    def _vector(self, data: Data, name: str, x: Tensor) -> Tensor:
        vector = data.get(name)
        if vector is None:
            raise ValueError(f"config.vectors names {name!r}, but data has only {sorted(data.keys())}")
        return vector.to(x.dtype)

    def _scalars(self, data: Data, edge_dist: Tensor) -> Tensor:
        config = self.config
        stored = data.get("edge_radial")
        if config.radial == "distance":
            radial = edge_dist
        elif config.radial == "square":
            radial = edge_dist.square()
        elif stored is not None:
            check_shape("edge_radial", stored, edge_dist.size(0), config.num_radial, hint="see RadialBasis")
            radial = stored.to(edge_dist.dtype)
        else:
            basis = bessel_basis if config.radial == "bessel" else gaussian_basis
            radial = basis(edge_dist[:, 0], float(config.cutoff or 0), config.num_radial)
        if not config.edge_scalars:
            return radial
        extra = data.get("edge_scalar")
        if extra is None:
            raise ValueError(
                f"edge_scalars={config.edge_scalars}, but data has no edge_scalar [E, {config.edge_scalars}]"
            )
        check_shape("edge_scalar", extra, edge_dist.size(0), config.edge_scalars)
        return torch.cat([radial, extra.to(edge_dist.dtype)], dim=1)


def _sum_graphs(values: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
    """Sum over the nodes of each graph, ``[N, C] -> [num_graphs, C]``."""
    if num_graphs == 1:  # also because inductor (torch 2.13) cannot compile a scatter into one row
        return values.sum(dim=0, keepdim=True)
    return values.new_zeros(num_graphs, values.size(1)).index_add(0, batch, values)


def _batch(data: Data, num_nodes: int) -> tuple[Tensor, int]:
    """Graph of each node and the number of graphs; one graph where nothing says otherwise."""
    batch = data.get("batch")
    if batch is None:
        num_graphs = getattr(data, "num_graphs", 1) or 1
        if num_graphs > 1:
            raise ValueError(
                f"a Batch of {num_graphs} graphs without batch: nothing says which node belongs to which; "
                "make it by Batch.from_data_list"
            )
        device = data["edge_index"].device if "edge_index" in data else None
        return torch.zeros(num_nodes, dtype=torch.long, device=device), 1
    check_shape("batch", batch, num_nodes)
    return batch, int(data.num_graphs)  # type: ignore[attr-defined]

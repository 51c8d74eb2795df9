r"""The graph of a sampled group with a left-invariant metric."""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..groups import FiniteGroup
from ..groups.group import GroupSample
from ._edges import require_data, write_edges
from ._group_finite import cayley_edges
from ._group_grid import Edges, Lattice, lay, select
from ._group_metric import Metric, given_metric, priced_metric
from ._group_search import Search, components
from ._group_table import TIE, Growing, calibrate, check_share
from ._group_weights import KERNELS, edge_weights, mean_square

Size = int | Sequence[int] | GroupSample


@functional_transform("group_graph")
class GroupGraph(BaseTransform):
    r"""Samples a group and connects elements that a left-invariant metric finds near.

    .. math:: d(g, h)^2 = \min_u c^T R\, c, \quad c = \log(g^{-1} h u), \qquad
        R = \mathrm{diag}(1, \epsilon^{-2}, \xi^2), \qquad w = e^{-d^2 / 4t}

    with ``u`` from the subgroup by which the group's period divides (``group.symmetry``). The first spatial axis costs
    1, every other spatial axis ``1 / anisotropy``, axes that turn (or change the scale) ``xi^2``.

    Reads nothing. Writes, node ``k * num_spatial + s`` having orientation ``k`` and place ``s``,

    - ``element`` ``[N, ...]``, ``pos`` ``[N, d]`` to draw it at, ``area`` ``[N]`` (Haar weights);
    - ``edge_index`` ``[2, E]``, both ways, no loops, sorted by target i, then source j;
    - ``edge_log`` ``[E, dim]``, the logarithm of :math:`g_i^{-1} g_j u` for the ``u`` that makes it shortest, and
      ``edge_sqdist`` ``[E]``. The reversed edge has ``-Ad_u`` of it: the negative, unless the pair meets across the
      period. On the sphere, which has no left-invariant frames, it is what ``S2().local_log`` gives;
    - ``edge_weight`` ``[E]``, symmetric;
    - ``metric`` ``[1, dim, dim]`` and ``bandwidth`` ``[1]``, the ``R`` and ``t`` used, so that weights of another
      metric can be computed from ``edge_log``;
    - ``num_orientations`` and ``num_spatial``, and if the places form a grid ``grid``, ``(nx, ny[, nz])``.

    On a :class:`geomeq.groups.FiniteGroup` the distance is the word length in the generators. It writes ``edge_type``
    ``[E]``, the number of the element :math:`i^{-1} j`, instead of logarithms and metric.

    Grids (plane, SE(2), SE(3), dilations) are connected by a stencil, in time proportional to the edges; spheres and
    rotations by a tree over their places and exact distances; groups from outside the package by all pairs. No
    neighbour is ever missed. Everything is computed in float64.

    Args:
        group: A group or space with the interface of :class:`geomeq.groups.Space`.
        size: What ``group.sample`` takes, such as (28, 28, 6) for SE(2) or (3, 6) for SO(3), or a sample itself.
            A finite group has no size.
        metric: ``R`` itself, ``[dim, dim]``, or its diagonal, ``[dim]``; then ``anisotropy``, ``xi`` and ``alpha`` are
            left alone.
        k: Number of neighbours; ``None``: 16 on groups, 8 where there is a single orientation, and one generator on
            finite groups.
        anisotropy: :math:`\epsilon^2`, the squared ratio of the cost of moving ahead to that of moving sideways: 1 is
            isotropic, 0.1 is the published choice.
        xi: Price of turning by one radian (one unit of log scale), in units of length, or ``"auto"``: the one with
            which ``share`` of the neighbours come closest to having the vertex's own orientation.
        alpha: Instead of ``xi``: :math:`\xi^2 = \alpha V_o / V_s` for ``Vo`` orientations at ``Vs`` places.
        share: The target of ``xi="auto"``.
        ties: ``"radius"``: all pairs within one radius, the one within which vertices far from a border have ``k``
            neighbours on average (more if some tie), so that every symmetry of the sample is one of the graph, and
            vertices at a border have fewer neighbours. ``"keep"``: of each vertex the k nearest and all that
            tie with the k-th. ``"index"``: exactly the k nearest, lowest numbers first among ties, which breaks
            symmetries. The last two then connect i and j if either chose the other.
        kernel: ``"gaussian"``, ``"rectangular"``, ``"laplace"`` or ``"cauchy"``.
        bandwidth: ``t`` as a share of the mean squared distance of the edges.
        boundary: ``"open"``, or ``"torus"`` for a grid whose opposite sides meet.
        generators: Numbers of elements that generate a finite group; by default its own.
        allow_disconnected: Whether the graph may fall into parts.
        dtype: Of all floating-point attributes.

    Raises:
        ValueError: For arguments that contradict each other, a metric that is not positive definite, more neighbours
            than vertices, or a graph that falls into parts.

    Example:
        >>> from geomeq.groups import SE2
        >>> data = GroupGraph(SE2(), size=(28, 28, 6), k=16, anisotropy=0.1)(Data())
        >>> data.num_nodes, data.num_orientations, list(data.edge_log.shape) == [data.num_edges, 3]
        (4704, 6, True)

    Source: Aguettaz, Bekkers and Defferrard (2021), ChebLieNet, https://arxiv.org/abs/2111.12139
    """

    def __init__(
        self,
        group: Any,
        size: Size | None = None,
        metric: Any = None,
        k: int | None = None,
        *,
        anisotropy: float = 1.0,
        xi: float | str = "auto",
        alpha: float | None = None,
        share: float = 0.4,
        ties: str = "radius",
        kernel: str = "gaussian",
        bandwidth: float = 0.2,
        boundary: str = "open",
        generators: Sequence[int] | Tensor | None = None,
        allow_disconnected: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.group, self.size, self.metric, self.k = group, size, metric, k
        self.anisotropy, self.xi, self.alpha, self.share = anisotropy, xi, alpha, check_share(share)
        self.ties, self.kernel, self.bandwidth, self.boundary = ties, kernel, bandwidth, boundary
        self.generators, self.allow_disconnected, self.dtype = generators, allow_disconnected, dtype
        self._check_choices()
        self._check_numbers()
        self._check_finite_group()

    def _check_choices(self) -> None:
        choices = {"ties": ("radius", "keep", "index"), "kernel": KERNELS, "boundary": ("open", "torus")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {getattr(self, name)!r}")
        if not self.dtype.is_floating_point:
            raise ValueError(f"dtype must be floating point, got {self.dtype}")
        if self.boundary == "torus" and self.ties != "radius":
            raise ValueError(f"boundary='torus' goes with ties='radius' only, got ties={self.ties!r}")

    def _check_numbers(self) -> None:
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise ValueError(f"k must be an integer of at least 1, got {self.k!r}")
        positive: dict[str, Any] = {"anisotropy": self.anisotropy, "bandwidth": self.bandwidth}
        positive |= {name: value for name in ("xi", "alpha") if (value := getattr(self, name)) not in (None, "auto")}
        for name, value in positive.items():
            if isinstance(value, str) or not (value > 0 and math.isfinite(value)):
                either = " or 'auto'" if name == "xi" else ""
                raise ValueError(f"{name} must be positive{either}, got {value!r}")
        if self.alpha is not None and self.xi != "auto":
            raise ValueError(f"xi and alpha both set the price of turning, got xi={self.xi} and alpha={self.alpha}")
        if self.metric is not None and (self.xi != "auto" or self.alpha is not None or self.anisotropy != 1):
            raise ValueError("metric already says what anisotropy, xi and alpha would; give either it or them")

    def _check_finite_group(self) -> None:
        finite = isinstance(self.group, FiniteGroup)
        if isinstance(self.group, type) or not hasattr(self.group, "sample"):
            raise TypeError(f"group must be a group or space of geomeq.groups, such as SE2(), got {self.group!r}")
        if finite and (self.size is not None or self.metric is not None):
            raise ValueError("a finite group is its own sample and has the word metric; leave size and metric out")
        if not finite and self.size is None:
            raise ValueError(f"GroupGraph({self.group!r}) needs a size, as {self.group!r}.sample takes it")
        if not finite and self.generators is not None:
            raise ValueError(f"generators are for finite groups, not for {self.group!r}")

    def forward(self, data: Data) -> Data:
        """Writes the graph to ``data`` and returns it."""
        require_data(data, "GroupGraph")
        if isinstance(data, Batch):
            raise ValueError("GroupGraph makes one graph; apply it to an empty Data() and batch the signals")
        return self._finite_graph(data) if isinstance(self.group, FiniteGroup) else self._lie_graph(data)

    def _lie_graph(self, data: Data) -> Data:
        sample = self.size if isinstance(self.size, GroupSample) else self.group.sample(self.size)
        _check_nodes(data, sample.num_nodes)
        metric = self._metric(sample)
        k = self.k if self.k is not None else 16 if sample.num_orientations > 1 else 8
        edges, xi = self._edges(sample, metric, k)
        others = sample.num_nodes - 1
        # a torus counts all images of a vertex, and a small grid is a piece of a large one
        if k > others and self.boundary == "open" and len(edges.source) == others * sample.num_nodes:
            raise ValueError(f"k must be at most {others}, the number of other vertices, got {k}: all are neighbours")
        if not self.allow_disconnected:
            _check_connected(edges, sample.num_nodes)
        scale = 4 * self.bandwidth * mean_square(edges.sqdist)
        weight = edge_weights(edges.sqdist, self.kernel, scale)
        attributes = {"edge_log": edges.log, "edge_sqdist": edges.sqdist, "edge_weight": weight}
        edge_index = torch.from_numpy(np.stack([edges.source, edges.target]))
        write_edges(data, edge_index, None, **{key: self._tensor(value) for key, value in attributes.items()})
        data.metric, data.bandwidth = self._tensor(metric.at(xi)[None]), self._tensor(np.array([scale / 4]))
        data.element, data.pos = sample.element.to(self.dtype), sample.pos.to(self.dtype)
        data.area = sample.weight.to(self.dtype)
        data.num_orientations, data.num_spatial = sample.num_orientations, sample.num_spatial
        if sample.grid is not None:
            data.grid = sample.grid
        return data

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self.dtype)

    def _metric(self, sample: GroupSample) -> Metric:
        if self.metric is not None:
            return given_metric(self.metric, self.group)
        return priced_metric(float(self.anisotropy), self.group, sample)

    def _price(self, sample: GroupSample, metric: Metric) -> float | None:
        """``xi`` where it is known: ``None`` where it is to be searched for."""
        if self.alpha is not None:
            return math.sqrt(self.alpha * sample.num_orientations / sample.num_spatial)
        if self.xi != "auto":
            return float(self.xi)
        return 1.0 if sample.num_orientations == 1 or not metric.turn.any() else None

    def _edges(self, sample: GroupSample, metric: Metric, k: int) -> tuple[Edges, float]:
        xi = self._price(sample, metric)
        lattice = Lattice.read(self.group, sample)
        if lattice is None and self.boundary == "torus":
            raise ValueError(f"boundary='torus' needs places on a grid, which a sample of {self.group!r} has not")
        if lattice is not None:
            growing = Growing(lambda half: lattice.table(half, metric), 3)
            xi, square = calibrate(growing, k, xi, self.share)
            # unless a pair whose logarithm has two signs might be an edge
            if self.ties == "radius" and growing.table.broken_cost(xi) > square * (1 + TIE):
                stencil = select(growing.table, xi, square)
                return lay(stencil, lattice.grid, sample.num_orientations, self.boundary == "torus"), xi
        return self._search(Search(self.group, sample, metric), k, xi)

    def _search(self, search: Search, k: int, xi: float | None) -> tuple[Edges, float]:
        if self.boundary == "torus":
            raise ValueError("on a torus half turns are too near to tell their two axes apart; take a larger xi")
        if self.ties == "radius" or xi is None:
            xi, square = calibrate(search.growing(search.typical(), k), k, xi, self.share)
        if self.ties == "radius":
            return search.edges(search.within(square), xi, square), xi
        return search.edges(search.nearest_pairs(k, xi, self.ties == "keep"), xi, math.inf), xi

    def _finite_graph(self, data: Data) -> Data:
        group = self.group
        _check_nodes(data, group.order)
        edges = cayley_edges(group, self.generators, self.k)
        sqdist = edges.length.double().square().numpy()
        scale = 4 * self.bandwidth * mean_square(sqdist)
        weight = edge_weights(sqdist, self.kernel, scale)
        attributes = {"edge_sqdist": self._tensor(sqdist), "edge_weight": self._tensor(weight)}
        write_edges(data, edges.edge_index, None, edge_type=edges.kind, **attributes)
        if not self.allow_disconnected:
            source, target = edges.edge_index.numpy()
            _check_connected(Edges(source, target, np.empty((len(source), 0)), sqdist), group.order)
        data.element = torch.arange(group.order)
        data.area = torch.full((group.order,), 1 / group.order, dtype=self.dtype)
        data.bandwidth = self._tensor(np.array([scale / 4]))
        data.num_orientations, data.num_spatial = group.order, 1
        data.num_nodes = group.order
        return data

    def __repr__(self) -> str:
        metric = None if self.metric is None else torch.as_tensor(self.metric).tolist()
        generators = None if self.generators is None else torch.as_tensor(self.generators).tolist()
        size = _digest(self.size) if isinstance(self.size, GroupSample) else self.size
        return (
            f"{type(self).__name__}({self.group!r}, size={size}, metric={metric}, k={self.k}, "
            f"anisotropy={self.anisotropy}, xi={self.xi!r}, alpha={self.alpha}, share={self.share}, "
            f"ties={self.ties!r}, kernel={self.kernel!r}, bandwidth={self.bandwidth}, boundary={self.boundary!r}, "
            f"generators={generators}, allow_disconnected={self.allow_disconnected}, dtype={self.dtype})"
        )


def _digest(sample: GroupSample) -> str:
    """What tells one sample from another; data sets cache by it."""
    digest = hashlib.sha256(sample.element.contiguous().numpy().tobytes()).hexdigest()[:12]
    return f"GroupSample(nodes={sample.num_nodes}, sha256={digest})"


def _check_nodes(data: Data, num_nodes: int) -> None:
    """Raises if the data already holds signals on another number of nodes."""
    for key in ("x", "batch"):
        value = data.get(key)
        if isinstance(value, Tensor) and value.size(0) != num_nodes:
            raise ValueError(
                f"the graph has {num_nodes} nodes, but data.{key} has shape {list(value.shape)}; apply GroupGraph to "
                "an empty Data() and lift the signal to it"
            )


def _check_connected(edges: Edges, num_nodes: int) -> None:
    part = components(edges, num_nodes)
    parts = int(part.max()) + 1
    if parts > 1:
        sizes = np.bincount(part)
        raise ValueError(
            f"the graph falls into {parts} parts, of {int(sizes.max())} vertices and fewer; take a larger k, a smaller "
            "xi (a larger share if orientations crowd out places), an anisotropy nearer to 1 or more generators, "
            "ties='keep' for uneven samples, or allow_disconnected=True"
        )

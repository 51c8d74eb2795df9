"""A surface at several resolutions, with the transport between them: what pooling on frames needs."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..neighbors import farthest_points
from ._coarse import coarsening
from .mesh_gauge import MeshGauge

_LEVEL = re.compile(r"(.+)_(\d+)")
_KEYS = ("pos", "edge_index", "polar", "transport", "area", "frame", "radius", "pool_index", "pool_transport")


class MultiScaleData(Data):
    """A graph and coarser ones above it.

    The finest level, 0, has the usual names. Level ``k >= 1`` has ``pos_k``, ``edge_index_k``, ``polar_k``,
    ``transport_k``, ``frame_k``, ``radius_k`` (``[1]``: up to where its nodes are connected), ``area_k`` if the finest
    has one, ``pool_index_k`` (``[N_{k-1}]``, the node of level k to which each node of level k - 1 belongs) and
    ``pool_transport_k`` (``[N_{k-1}]``, the angle that turns components in the frame of the finer node into components
    in that of the coarser one). Batches as any ``Data`` does.
    """

    @property
    def num_levels(self) -> int:
        """Number of graphs, the finest included."""
        return 1 + sum(key.startswith("pool_index_") for key in self.keys())

    def level(self, k: int) -> Data:
        """One level as a graph under the usual names, on a batch with its ``batch``.

        Args:
            k: 0 for the finest.

        Raises:
            IndexError: If there is no such level.
        """
        if not 0 <= k < self.num_levels:
            raise IndexError(f"levels run from 0 to {self.num_levels - 1}, got {k}")
        if k == 0:
            return Data.from_dict({key: value for key, value in self.to_dict().items() if _level_of(key) is None})
        graph = Data.from_dict({key: self[f"{key}_{k}"] for key in _KEYS if f"{key}_{k}" in self})
        batch = self.get("batch")
        if batch is not None:
            for j in range(1, k + 1):
                index = self[f"pool_index_{j}"]
                batch = batch.new_zeros(self[f"pos_{j}"].size(0)).scatter_(0, index, batch)
            graph.batch = batch
        return graph

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Node numbers of level k grow by the number of its nodes."""
        found = _level_of(key)
        if found is not None and found[0] in ("edge_index", "pool_index"):
            return self[f"pos_{found[1]}"].size(0)
        return super().__inc__(key, value, *args, **kwargs)

    def __cat_dim__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        """Attributes of coarser levels are joined as those of the finest."""
        found = _level_of(key)
        return super().__cat_dim__(key if found is None else found[0], value, *args, **kwargs)


torch.serialization.add_safe_globals([MultiScaleData])  # so that PyG's data sets read what they wrote


def _level_of(key: str) -> tuple[str, int] | None:
    """``("pos", 2)`` for ``"pos_2"``; ``None`` for attributes of the finest level."""
    found = _LEVEL.fullmatch(key)
    return (found[1], int(found[2])) if found is not None and found[1] in _KEYS and int(found[2]) > 0 else None


@functional_transform("multi_scale")
class MultiScale(BaseTransform):
    r"""Applies a gauge and adds coarser graphs, with the transport from each node to the coarser one it belongs to.

    Nodes of a coarser level are farthest points of the finer one and keep their positions and frames. Each finer node
    belongs to the nearest of them, and pooling is :math:`x_c = \operatorname{mean} R(m\, g_{cf})\, x_f`.

    - ``MeshGauge``: nearest along the surface, so that parts that come close in space stay apart; every connected
      piece keeps a node. With ``"intrinsic"`` and ``"vector_heat"`` coarser nodes are connected by log maps and
      transport along the *finest* surface (:func:`geomeq.meshes.path_log`), with ``"projected"`` as points of space.
    - ``PlaneGauge``, ``SphereGauge`` and other gauges with a ``cutoff``: nearest in space, transport by the smallest
      rotation between normals, which on planes and spheres is exact; coarser graphs by the gauge itself at a larger
      cut-off.

    Reads what the gauge reads. Writes what the gauge writes and, for each coarser level, the attributes of
    :class:`MultiScaleData`; ``area_k`` is the area of all nodes that a node stands for. Graphs of a ``Batch`` are
    treated one by one.

    Args:
        ratios: Nodes of each level as a part of those of the finer one, in (0, 1].
        gauge: A transform that writes ``edge_index``, ``polar``, ``transport`` and ``frame``; default ``MeshGauge()``.
        radii: Up to where nodes are connected on each coarser level, in the unit of ``pos``. Default: the radius or
            cut-off of the gauge, larger by the square root of how many nodes became one; without one,
            1.7 times the ``rings`` of the gauge times the root of the mean area of a node. A layer with an absolute
            ``cutoff`` wants radii that are given.

    Raises:
        TypeError: If ``ratios`` is a single number, or ``gauge`` no transform.
        ValueError: If a ratio or radius is out of range, or the gauge has no scale.

    Example:
        >>> from geomeq.groups import icosphere
        >>> sphere = icosphere(2)
        >>> data = MultiScale(ratios=(0.25, 0.25))(Data(pos=sphere.pos.float(), face=sphere.face))
        >>> [data.level(k).num_nodes for k in range(data.num_levels)], data.pool_transport_1.shape
        ([162, 41, 11], torch.Size([162]))

    Source: pooling after Wiersma et al. (2020), https://arxiv.org/abs/2003.08645
    """

    def __init__(
        self,
        ratios: Sequence[float] = (0.25, 0.25),
        gauge: BaseTransform | None = None,
        radii: Sequence[float] | None = None,
    ) -> None:
        if not isinstance(ratios, Sequence) or isinstance(ratios, str):
            raise TypeError(f"ratios must hold one number for each coarser level, such as (0.25,), got {ratios!r}")
        if gauge is not None and not callable(gauge):
            raise TypeError(f"gauge must be a transform such as MeshGauge(), got {gauge!r}")
        ratios = tuple(float(ratio) for ratio in ratios)
        if not ratios or any(not 0 < ratio <= 1 for ratio in ratios):
            raise ValueError(f"ratios must lie in (0, 1], at least one of them, got {ratios}")
        if radii is not None:
            radii = tuple(float(radius) for radius in radii)
            if len(radii) != len(ratios) or any(not (r > 0 and math.isfinite(r)) for r in radii):
                raise ValueError(f"radii must be {len(ratios)} positive lengths, one for each ratio, got {radii}")
        self.ratios, self.radii = ratios, radii
        self.gauge = MeshGauge() if gauge is None else gauge

    def forward(self, data: Data) -> MultiScaleData:
        """The graph with its coarser levels."""
        if isinstance(data, Batch):
            return Batch.from_data_list([self(graph) for graph in data.to_data_list()])
        fine = self.gauge(data)
        missing = [key for key in ("edge_index", "polar", "transport", "frame") if fine.get(key) is None]
        if missing:
            raise ValueError(f"{self.gauge!r} wrote no {' and no '.join(missing)}; MultiScale needs a gauge that does")
        coarsen = coarsening(self.gauge, fine)
        out = MultiScaleData.from_dict(fine.to_dict())
        nodes, area = torch.arange(fine.pos.size(0)), fine.get("area")
        for k, ratio in enumerate(self.ratios, start=1):
            before, nodes = nodes, self._choose(fine.pos.cpu(), nodes, ratio, coarsen.piece)
            radius = coarsen.radius(nodes) if self.radii is None else self.radii[k - 1]
            level = coarsen.level(before, nodes, radius)
            index = level["pool_index"].to(fine.pos.device)
            if area is not None:
                area = area.new_zeros(nodes.numel()).index_add_(0, index, area)
                level["area"] = area
            level["pos"], level["frame"] = fine.pos[nodes], fine.frame[nodes]
            for key in _KEYS:
                if key in level:
                    value = level[key].to(fine.pos.device)
                    out[f"{key}_{k}"] = value.to(fine.pos.dtype) if value.is_floating_point() else value
        return out

    def _choose(self, pos: Tensor, nodes: Tensor, ratio: float, piece: Tensor | None) -> Tensor:
        """Nodes of the next level: farthest points, and one of each piece that got none."""
        chosen = nodes[farthest_points(pos[nodes], ratio, start="outermost")] if nodes.numel() else nodes
        if piece is not None:
            left = nodes[~torch.isin(piece[nodes], piece[chosen])]
            first = np.unique(piece[left].numpy(), return_index=True)[1]
            chosen = torch.cat([chosen, left[torch.from_numpy(first)]])
        return chosen.sort().values

    def __repr__(self) -> str:
        return f"{type(self).__name__}(ratios={self.ratios}, gauge={self.gauge!r}, radii={self.radii})"

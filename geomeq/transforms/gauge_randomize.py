"""Other frames at every node, drawn at random: a test of gauge equivariance, or augmentation."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..groups import SO2Irreps, wrap_angle
from ..meshes._log_map import store_angle
from ._edges import require_data
from ._gauge import GAUGE_KEYS, turn_angles, turn_frame
from .multi_scale import MultiScaleData


@functional_transform("gauge_randomize")
class GaugeRandomize(BaseTransform):
    r"""Turns the frame of every node by a random angle :math:`a_i` and rewrites all that is read in frames.

    .. math:: \varphi_{ij}' = \varphi_{ij} - a_i, \qquad g_{ij}' = g_{ij} - a_i + a_j, \qquad
        z_m' = e^{-i m a_i} z_m

    Nothing that has a meaning changes: a gauge-equivariant network gives the same scalars, and tangent vectors whose
    components turn as those of its input. Reads and writes ``polar``, ``transport``, ``frame`` (if there) and typed
    features; on :class:`MultiScaleData` also those of the coarser levels, drawn anew on each. Works on a ``Batch``.

    Args:
        types: The type of ``x``, such as ``"2x0+4x1"``, or types by attribute, ``{"x": "2x0", "y": "1x1"}``. Default:
            what ``data.types`` says about ``x``.
        seed: Of the angles, the same for every call; ``None``: torch's global generator, new ones for every call.

    Raises:
        ValueError: If the graph has no gauge, or a feature no type.

    Example:
        >>> graph = Data(x=torch.eye(2), types="1x1", edge_index=torch.tensor([[1, 0], [0, 1]]),
        ...              polar=torch.ones(2, 2), transport=torch.zeros(2))
        >>> turned = GaugeRandomize(seed=0)(graph)
        >>> bool(torch.allclose(turned.x.norm(dim=1), graph.x.norm(dim=1))), bool((turned.x == graph.x).any())
        (True, False)
    """

    def __init__(self, types: str | SO2Irreps | Mapping[str, str] | None = None, seed: int | None = None) -> None:
        self.types = dict(types) if isinstance(types, Mapping) else None if types is None else str(SO2Irreps(types))
        self.seed = seed

    def forward(self, data: Data) -> Data:
        """Turns the frames of ``data`` and returns it."""
        require_data(data, "GaugeRandomize")
        if data.get("polar") is None or data.get("transport") is None:
            raise ValueError(
                f"GaugeRandomize needs polar and transport, the data has {sorted(data.keys())}; "
                "apply MeshGauge, PlaneGauge or SphereGauge first"
            )
        generator = None if self.seed is None else torch.Generator().manual_seed(self.seed)
        types = self._types(data)
        turn = self._turn_level(data, "", data.num_nodes or 0, generator)
        for key, kind in types.items():
            data[key] = kind.rotate(data[key], -turn.to(data[key]))
        for k in range(1, data.num_levels if isinstance(data, MultiScaleData) else 1):
            before, turn = turn, self._turn_level(data, f"_{k}", data[f"pos_{k}"].size(0), generator)
            index, transport = data[f"pool_index_{k}"], data[f"pool_transport_{k}"]
            moved = wrap_angle(transport.double() - turn[index] + before)
            data[f"pool_transport_{k}"] = store_angle(moved, transport.dtype)
        return data

    def _types(self, data: Data) -> dict[str, SO2Irreps]:
        if isinstance(self.types, dict):
            missing = [key for key in self.types if data.get(key) is None]
            if missing:
                raise ValueError(f"types names {missing}, but the data has only {sorted(data.keys())}")
            return {key: SO2Irreps(kind) for key, kind in self.types.items()}
        if data.get("x") is None:
            return {}
        kind = self.types or data.get("types")
        if isinstance(kind, list) and len(set(kind)) == 1:  # a batch keeps one for each graph
            kind = kind[0]
        if not isinstance(kind, str | SO2Irreps):
            raise ValueError(
                f"x {list(data.x.shape)} turns with the frames according to its type, which is not known; give "
                "GaugeRandomize(types='...') or set data.types (scalars: '3x0')"
            )
        return {"x": SO2Irreps(kind)}

    def _turn_level(self, data: Data, level: str, num: int, generator: torch.Generator | None) -> Tensor:
        """Draws angles for one level and rewrites its gauge; the angles, float64, ``[N]``."""
        polar, transport, frame = (data.get(key + level) for key in GAUGE_KEYS)
        turn = 2 * math.pi * torch.rand(num, dtype=torch.float64, generator=generator).to(polar.device)
        edges = data["edge_index" + level]
        data["polar" + level], data["transport" + level] = turn_angles(polar, transport, edges, turn)
        if frame is not None:
            data["frame" + level] = turn_frame(frame, turn)
        return turn

    def __repr__(self) -> str:
        return f"{type(self).__name__}(types={self.types!r}, seed={self.seed})"

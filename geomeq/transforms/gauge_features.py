"""Input features of surfaces, read in the frames of the nodes: what gauge-equivariant networks start from."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from ..groups import SO2Irreps, from_ambient
from ._edges import require_data, require_pos
from ._surface_scalars import curvatures, heat_kernel

KINDS = ("matrix", "tangents", "curvature", "heat_kernel", "position")
Feature = tuple[Tensor, SO2Irreps]


@functional_transform("gauge_features")
class GaugeFeatures(BaseTransform):
    r"""Writes features of a surface into ``x``, and their type into ``types``.

    With :math:`d_{ij} = (p_j - p_i) / \ell`, :math:`\ell` the mean length of all edges, :math:`n` the normals, and all
    vectors read in the frame of ``i``:

    - ``"matrix"``, type ``7x0+4x1+3x2``: the orders 0, 1, 2 of the means over neighbours of :math:`d d^T`,
      :math:`n_j n_j^T` and :math:`d n_j^T` (symmetric ones have no antisymmetric part).
    - ``"tangents"``, one ``1x1`` for each power p: relative tangents,
      :math:`v_i = \frac{1}{k\, |N_i|^a} \sum_j |d_{ij}|^{p - 1} \sum_j P_i d_{ij} / |d_{ij}|^p`,
      :math:`P_i = 1 - n_i n_i^T`, which do not depend on scale.
    - ``"curvature"``, ``2x0``: asinh of the mean curvature times the square root of the area of the mesh, and of the
      Gaussian curvature times that area (both are large at sharp tips). Positive on a sphere. Reads ``face``.
    - ``"heat_kernel"``, one ``1x0`` for each of ``times``: heat that is left where it started after times spread
      evenly in their logarithm, each divided by its mean over the mesh. Reads ``face``.
    - ``"position"``, ``3x0``: ``pos`` as scalars. A network that sees them notices rotations and shifts.

    All but the last do not change when the surface moves; the first two turn with the frames as their types say.

    Reads ``pos``, ``edge_index``, ``frame`` and, where said, ``face``. Writes ``x`` ``[N, dim]`` in the dtype of
    ``pos`` and ``types``, a string. Graphs of a ``Batch`` are treated one by one.

    Args:
        kind: One of the above, or several, in that order in ``x``.
        powers: The p of ``"tangents"``.
        times: Number of times of ``"heat_kernel"``.
        eigenpairs: Number of eigenfunctions from which it is computed.

    Raises:
        ValueError: For an unknown kind, or if something to read is missing.

    Example:
        >>> from geomeq.groups import icosphere
        >>> from geomeq.transforms import MeshGauge
        >>> sphere = icosphere(2)
        >>> mesh = MeshGauge()(Data(pos=sphere.pos.float(), face=sphere.face))
        >>> mesh = GaugeFeatures(("curvature", "tangents"))(mesh)
        >>> mesh.x.shape, mesh.types
        (torch.Size([162, 4]), '2x0+1x1')

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425; Basu et al. (2022),
        https://arxiv.org/abs/2205.10662; Sun et al. (2009), https://doi.org/10.1111/j.1467-8659.2009.01515.x
    """

    def __init__(
        self,
        kind: str | Sequence[str] = "matrix",
        powers: Sequence[float] = (0.7,),
        times: int = 8,
        eigenpairs: int = 64,
    ) -> None:
        self.kind = (kind,) if isinstance(kind, str) else tuple(kind)
        unknown = [name for name in self.kind if name not in KINDS]
        if unknown or not self.kind:
            raise ValueError(f"kind must be among {KINDS}, or several of them, got {kind!r}")
        if not isinstance(times, int) or not isinstance(eigenpairs, int) or times < 1 or eigenpairs < 2:
            raise ValueError(f"heat kernels need at least 1 time and 2 eigenpairs, got {times} and {eigenpairs}")
        self.powers, self.times, self.eigenpairs = tuple(float(p) for p in powers), times, eigenpairs
        if not self.powers or not all(math.isfinite(p) for p in self.powers):
            raise ValueError(f"powers must be finite numbers, at least one of them, got {powers}")

    def forward(self, data: Data) -> Data:
        """Writes the features to ``data`` and returns it."""
        require_data(data, "GaugeFeatures")
        if isinstance(data, Batch):
            return Batch.from_data_list([self(graph) for graph in data.to_data_list()])
        pos = require_pos(data, "GaugeFeatures")
        makers: dict[str, Callable[[Data], Feature]] = {
            "matrix": _matrix,
            "tangents": self._tangents,
            "curvature": _curvature,
            "heat_kernel": self._heat_kernel,
            "position": _position,
        }
        features = [makers[name](data) for name in self.kind]
        data.x = torch.cat([x for x, _ in features], dim=1).to(pos)
        data.types = str(sum((types for _, types in features), SO2Irreps()))
        return data

    def _tangents(self, data: Data) -> Feature:
        step, frame, target = _steps(data)
        flat = torch.einsum("eij,ej->ei", frame[target, :2], step)
        return _by_power(flat, step.norm(dim=1), target, frame.size(0), self.powers)

    def _heat_kernel(self, data: Data) -> Feature:
        pos, face = _mesh(data, "heat_kernel")
        return heat_kernel(pos, face, self.times, self.eigenpairs), SO2Irreps([(self.times, 0)])

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(kind={self.kind}, powers={self.powers}, times={self.times}, "
            f"eigenpairs={self.eigenpairs})"
        )


def _need(data: Data, name: str, kind: str) -> Tensor:
    value = data.get(name)
    if value is None:
        raise ValueError(f"GaugeFeatures({kind!r}) reads {name}, but the data has only {sorted(data.keys())}")
    return value.detach().cpu()


def _mesh(data: Data, kind: str) -> tuple[Tensor, Tensor]:
    return _need(data, "pos", kind).double(), _need(data, "face", kind)


def _steps(data: Data) -> tuple[Tensor, Tensor, Tensor]:
    """Steps to the neighbours in mean edge lengths ``[E, 3]``, frames ``[N, 3, 3]``, and the targets ``[E]``."""
    pos, frame = _need(data, "pos", "matrix").double(), _need(data, "frame", "matrix").double()
    source, target = _need(data, "edge_index", "matrix")
    step = pos[source] - pos[target]
    length = float(step.norm(dim=1).mean()) if step.numel() else 1.0
    return step / (length or 1.0), frame, target


def _mean_at(target: Tensor, values: Tensor, num: int) -> Tensor:
    total = values.new_zeros(num, *values.shape[1:]).index_add_(0, target, values)
    count = torch.bincount(target, minlength=num).clamp(min=1)
    return total / count.view(-1, *[1] * (values.dim() - 1))


def _matrix(data: Data) -> Feature:
    step, frame, target = _steps(data)
    normal = frame[data.edge_index[0].cpu(), 2]
    pairs = torch.stack([outer(step, step), outer(normal, normal), outer(step, normal)], dim=1)
    mean = _mean_at(target, pairs, frame.size(0))
    orders = SO2Irreps("9x0+6x1+3x2").split(from_ambient(mean, frame, rank=2))
    scalars = orders[0][:, [0, 1, 3, 4, 6, 7, 8]]  # the antisymmetric part of a symmetric matrix is zero
    vectors = orders[1][:, [0, 2, 4, 5]]  # and its two vectors are equal
    types = SO2Irreps("7x0+4x1+3x2")
    return types.join([scalars, vectors, orders[2]]), types


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Products ``a b^T``, ``[E, 3, 3]``."""
    return a[:, :, None] * b[:, None, :]


def _by_power(flat: Tensor, length: Tensor, target: Tensor, num: int, powers: tuple[float, ...]) -> Feature:
    """Relative tangents of projected steps ``[E, 2]``, one channel for each power."""
    apart = length > 0
    flat, length, target = flat[apart], length[apart], target[apart]
    degree = torch.bincount(target, minlength=num).clamp(min=1).double()
    channels = []
    for p in powers:
        weight = flat.new_zeros(num).index_add_(0, target, length ** (p - 1))
        total = flat.new_zeros(num, 2).index_add_(0, target, flat * length[:, None] ** -p)
        channels.append(total * (weight / (_RELATIVE * degree**_DEGREE_POWER))[:, None])
    return torch.cat(channels, dim=1), SO2Irreps([(len(powers), 1)])


_RELATIVE = 2.45  # constants of Basu et al. (2022): unit scale on their meshes
_DEGREE_POWER = 1.5


def _curvature(data: Data) -> Feature:
    return curvatures(*_mesh(data, "curvature")), SO2Irreps("2x0")


def _position(data: Data) -> Feature:
    return _need(data, "pos", "position").double(), SO2Irreps([(data.pos.size(1), 0)])

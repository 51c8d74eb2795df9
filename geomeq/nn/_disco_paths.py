"""The ways to compute one DISCO convolution; see ``DiscoConv``.

Each is made from a geometry once per precision and device, holds nothing but constant tensors, and is shared by all
layers with that geometry.
"""

import weakref
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from geomeq.groups._lasting import lasting
from geomeq.harmonics import DiscoGeometry
from geomeq.ops._functorch import transforms_functions
from geomeq.ops._kernels import choose_path
from geomeq.ops.neighbor_tables import gather_mix, neighbor_tables
from geomeq.ops.ring_conv import RingFilters, ring_conv, ring_conv_transpose
from geomeq.ops.sparse_operator import sparse_matmul
from geomeq.ops.stencil import sparse_rows
from geomeq.ops.stencil_linear import stencil_mix

PATHS = ("auto", "edge", "csr", "gather", "ring")
_BUNDLE = 64  # channels of several groups in one product: fewer make short rows, more multiply too many zeros


class DiscoPath(Protocol):
    """One way to compute."""

    def __call__(self, x: Tensor, weight: Tensor, groups: int, chunk: int, recompute: bool) -> Tensor:
        """``[B, N_in, C]`` and ``[O, C / groups, K]`` to ``[B, N_out, O]``."""


class RingPath:
    """Fourier transforms along the rows of two grids; see ``ops.ring_conv``."""

    def __init__(self, geometry: DiscoGeometry, dtype: torch.dtype, device: torch.device) -> None:
        entries, self.transposed = geometry.entries, geometry.transposed
        points, caps = geometry.target.grid, geometry.source.grid
        if not self.transposed:
            points, caps = caps, points
        assert points is not None
        assert caps is not None
        self.filters = RingFilters(*entries, points, caps, dtype=dtype).to(device)

    def __call__(self, x: Tensor, weight: Tensor, groups: int, chunk: int, recompute: bool) -> Tensor:
        """See ``DiscoPath``."""
        _check_rows(x)
        call = ring_conv_transpose if self.transposed else ring_conv
        return call(x, self.filters, weight, recompute)


def _check_rows(x: Tensor) -> None:
    """Raises if a transform would smear something that is not a number over whole rows; a GPU is not made to wait.

    Raises:
        ValueError: Naming the first such node.
    """
    if torch.compiler.is_compiling() or transforms_functions() or x.device.type != "cpu":
        return
    x = x.detach()
    if bool(x.sum().isfinite()):
        return
    bad = ~x.isfinite().all(dim=2).all(dim=0)
    if bool(bad.any()):
        raise ValueError(
            f"x is not finite at node {int(bad.nonzero()[0])}; fill it, or take path='csr', where it stays in its caps"
        )


class _NodePath(ABC):
    """A path that takes features node by node, and one group of channels at a time."""

    def __call__(self, x: Tensor, weight: Tensor, groups: int, chunk: int, recompute: bool) -> Tensor:
        """See ``DiscoPath``.

        Small groups are bundled: the sums over neighbours do not care, and the product with a few zeros is faster
        than many short ones.
        """
        x = x.transpose(0, 1).contiguous()
        if groups == 1:
            return self._mix(x, weight.permute(2, 1, 0).contiguous(), chunk, recompute).transpose(0, 1)
        outputs, channels, num_coefs = weight.shape
        bundle = max(b for b in range(1, groups + 1) if groups % b == 0 and (b == 1 or b * channels <= _BUNDLE))
        outputs = outputs // groups
        eye = torch.eye(bundle, dtype=weight.dtype, device=weight.device)
        parts = []
        for features, block in zip(x.split(bundle * channels, dim=2), weight.split(bundle * outputs), strict=True):
            matrix = torch.einsum("pock,pq->kqcpo", block.view(bundle, outputs, channels, num_coefs), eye)
            matrix = matrix.reshape(num_coefs, bundle * channels, bundle * outputs)
            parts.append(self._mix(features.contiguous(), matrix, chunk, recompute))
        return torch.cat(parts, dim=2).transpose(0, 1)

    @abstractmethod
    def _mix(self, x: Tensor, weight: Tensor, chunk: int, recompute: bool) -> Tensor:
        """``[N_in, B, C]`` and ``[K, C, O]`` to ``[N_out, B, O]``."""


class EdgePath(_NodePath):
    """The definition, edge by edge: builds all messages ``[E, K, B, C]``, of ``chunk`` targets at a time."""

    def __init__(self, geometry: DiscoGeometry, dtype: torch.dtype, device: torch.device) -> None:
        edges, coef = geometry.edges
        self.num_targets = geometry.size[1]
        first = torch.searchsorted(edges[1].contiguous(), torch.arange(self.num_targets + 1))
        self.first: list[int] = first.tolist()
        self.source, self.target = edges.to(device)
        self.coef = coef.to(device, dtype)

    def _mix(self, x: Tensor, weight: Tensor, chunk: int, recompute: bool) -> Tensor:
        step = chunk or self.num_targets
        parts = []
        for start in range(0, self.num_targets, step):
            stop = min(start + step, self.num_targets)
            if recompute and torch.is_grad_enabled() and not transforms_functions():
                part = checkpoint(self._part, x, weight, start, stop, use_reentrant=False, preserve_rng_state=False)
            else:
                part = self._part(x, weight, start, stop)
            parts.append(part)
        return torch.cat(parts)

    def _part(self, x: Tensor, weight: Tensor, start: int, stop: int) -> Tensor:
        edges = slice(self.first[start], self.first[stop])
        message = self.coef[edges, :, None, None] * x.index_select(0, self.source[edges])[:, None]
        sums = message.new_zeros(stop - start, *message.shape[1:])
        sums = sums.index_add(0, self.target[edges] - start, message)
        return torch.einsum("nkbc,kco->nbo", sums, weight)


class CsrPath(_NodePath):
    """Sparse rows (target, filter) times features, then the weights, block by block; see ``ops.StencilLinear``."""

    def __init__(self, geometry: DiscoGeometry, dtype: torch.dtype, device: torch.device) -> None:
        edges, coef = geometry.edges
        self.there = _rows(edges, coef, geometry.size, dtype, device)
        self.back = _rows(edges.flip(0), coef, geometry.size[::-1], dtype, device)

    def _mix(self, x: Tensor, weight: Tensor, chunk: int, recompute: bool) -> Tensor:
        return stencil_mix(x, weight, self.there, self.back, "auto")


def _rows(edges: Tensor, coef: Tensor, size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    ptr, col, order = sparse_rows(edges, size, coef.size(1))[:3]
    return [ptr.to(device), col.to(device), coef.reshape(-1)[order.long()].to(device, dtype)]


class CsrProductFirstPath(_NodePath):
    """The weights first, then sparse rows over (source, filter): for fewer channels out than in."""

    def __init__(self, geometry: DiscoGeometry, dtype: torch.dtype, device: torch.device) -> None:
        edges, coef = geometry.edges
        ptr, col, order, _, *there = sparse_rows(edges.flip(0), geometry.size[::-1], coef.size(1))
        values = coef.reshape(-1)[order.long()], coef[there[2].long()].reshape(-1)
        self.back = [ptr.to(device), col.to(device), values[0].to(device, dtype)]
        self.there = [there[0].to(device), there[1].to(device), values[1].to(device, dtype)]

    def _mix(self, x: Tensor, weight: Tensor, chunk: int, recompute: bool) -> Tensor:
        (num_coefs, channels, outputs), (nodes, batch, _) = weight.shape, x.shape
        mixed = x @ weight.transpose(0, 1).reshape(channels, num_coefs * outputs)
        mixed = mixed.view(nodes, batch, num_coefs, outputs).transpose(1, 2)
        mixed = mixed.reshape(nodes * num_coefs, batch * outputs)
        kernel = choose_path(x.device, x.dtype, mixed.size(1))
        targets = self.there[0].numel() - 1
        return sparse_matmul(mixed, self.there, self.back, kernel).view(targets, batch, outputs)


class GatherPath(_NodePath):
    """Tables of neighbours and batched products; see ``ops.neighbor_tables``."""

    def __init__(self, geometry: DiscoGeometry, dtype: torch.dtype, device: torch.device) -> None:
        edges, coef = geometry.edges
        self.num_targets = geometry.size[1]
        edges, coef = edges.to(device), coef.to(device, dtype)
        self.there = neighbor_tables(edges, coef, geometry.size)
        self.back = neighbor_tables(edges.flip(0), coef, geometry.size[::-1])

    def _mix(self, x: Tensor, weight: Tensor, chunk: int, recompute: bool) -> Tensor:
        return gather_mix(x, weight, self.there, self.back, self.num_targets, chunk)


_KINDS: dict[str, type] = {
    "edge": EdgePath,
    "csr": CsrPath,
    "csr_product_first": CsrProductFirstPath,
    "gather": GatherPath,
    "ring": RingPath,
}
_MADE: "weakref.WeakKeyDictionary[DiscoGeometry, dict[tuple[str, torch.dtype, torch.device], DiscoPath]]" = (
    weakref.WeakKeyDictionary()
)


def disco_path(geometry: DiscoGeometry, kind: str, dtype: torch.dtype, device: torch.device) -> DiscoPath:
    """The tensors of one way to compute, made on first use and kept as long as the geometry is."""
    made = _MADE.setdefault(geometry, {})
    key = (kind, dtype, device)
    if key not in made:
        made[key] = lasting(_KINDS[kind])(geometry, dtype, device)
    return made[key]

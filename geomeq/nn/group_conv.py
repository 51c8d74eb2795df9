"""Convolution on finite groups and their homogeneous spaces: the most general equivariant linear layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups.finite import FiniteGroup
from geomeq.groups.homogeneous import HomogeneousSpace
from geomeq.ops.typed import TypedPattern, typed_costs, typed_linear

from ._group_paths import CALL, DensePath, FourierPath
from ._pair_orbits import PairOrbits
from ._torus_path import TorusPath, find_torus

PATHS = ("auto", "graph", "dense", "fourier", "conv2d", "fft", "reference")

_MAX_DENSE = 4096**2 // 4  # numbers of an expanded table that "auto" will hold per channel pair
_MAX_FOURIER = 512  # up to this order "auto" asks a group for its irreps; larger ones take seconds
_BATCHES = (1, 16, 256)  # what is chosen for these is built with the layer, the rest when it is needed


@contextmanager
def _geometry() -> Iterator[None]:
    """For tables that outlive the call: whatever mode or default device the caller has, they serve training later."""
    with torch.inference_mode(False), torch.device("cpu"):
        yield


class GroupConv(nn.Module):
    r"""Group convolution between signals on two homogeneous spaces :math:`X, Y` of a finite group.

    .. math:: y(b) = \sum_{a \in X} x(a)\, W_{\tau(b, a)} + \beta

    where :math:`\tau(b, a)` is the orbit of the pair under :math:`g (b, a) = (g b, g a)`. With one matrix per orbit
    this is every linear map that commutes with the group, and no other: its dimension per pair of channels is the
    number of orbits, that is, of double cosets (``num_orbits``; Burnside's lemma confirms it when the layer is made).
    On the group itself, :math:`X = Y = G`, it is the correlation :math:`y(u) = \sum_v x(v)\, W(u^{-1} v)`, and rows
    of the weight are elements of the group. Message form: stencil (1) with typed edges.

    Paths, all equal to rounding: ``"graph"`` sends typed messages along the pairs of the support; ``"dense"`` expands
    the table once per weight version and multiplies; ``"fourier"`` works in a real symmetry-adapted basis, one small
    product per irrep; ``"conv2d"`` and ``"fft"`` use a torus of commuting elements (translations of a plane group; any
    group has some). ``"auto"`` takes the cheapest for the batch by counting. ``"reference"`` builds a message per edge.

    Args:
        group: A ``FiniteGroup``.
        in_channels: :math:`C`.
        out_channels: :math:`C'`.
        space_in: :math:`X`, a ``HomogeneousSpace`` of the group; by default the group itself.
        space_out: :math:`Y`, likewise.
        support: Orbits that carry weights, as a list or a mask ``[n_orb]``; by default all, the full space. For
            :math:`X = Y = G` these are elements of the group.
        bias: Whether each channel has a bias, the same at every place.
        path: One of the above.

    Raises:
        TypeError: If ``group`` or a space is none.
        ValueError: If a space belongs to another group, the support names no orbit, or a path does not exist here.

    Example:
        >>> from geomeq.groups import icosahedral
        >>> conv = GroupConv(icosahedral(), 16, 16)
        >>> conv
        GroupConv(order 60, 16 -> 16, full space (60), path='auto')
        >>> conv(torch.randn(4, 60, 16)).shape
        torch.Size([4, 60, 16])

    Source: Kondor and Trivedi (2018), https://arxiv.org/abs/1802.03690; Cohen and Welling (2016).
    """

    def __init__(
        self,
        group: FiniteGroup,
        in_channels: int,
        out_channels: int,
        space_in: HomogeneousSpace | None = None,
        space_out: HomogeneousSpace | None = None,
        support: Any = None,
        bias: bool = True,
        path: str = "auto",
    ) -> None:
        super().__init__()
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
        if not (isinstance(in_channels, int) and isinstance(out_channels, int)) or min(in_channels, out_channels) < 1:
            raise ValueError(f"channels must be integers of at least 1, got {in_channels!r} -> {out_channels!r}")
        self.group, self.in_channels, self.out_channels, self.path = group, in_channels, out_channels, path
        with _geometry():
            self.orbits = PairOrbits(group, space_in, space_out)
            self.num_orbits = self.orbits.count
            assert self.orbits.burnside() == self.num_orbits, "orbits of pairs and Burnside's lemma disagree"
            self.chosen = self.orbits.choose(support)
            self._num_edges = self.orbits.num_edges(self.chosen)
        self.weight = nn.Parameter(torch.empty(self.chosen.numel(), in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._made: dict[str, Any] = {}
        self._choice: dict[int, str] = {}
        self.reset_parameters()
        for name in {self.choose_path(batch) for batch in _BATCHES} if path == "auto" else {path}:
            self._prepare(name)

    @property
    def size(self) -> tuple[int, int]:
        """``(|X|, |Y|)``."""
        return self.orbits.size

    @property
    def is_full(self) -> bool:
        """Whether the layer reaches every equivariant linear map."""
        return self.chosen.numel() == self.num_orbits

    def reset_parameters(self) -> None:
        """Weights that keep unit variance, zero bias."""
        fan_in = self.in_channels * max(self._num_edges / max(self.size[1], 1), 1)
        nn.init.normal_(self.weight, std=1 / sqrt(fan_in))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves.

        Args:
            x: Signal on :math:`X`, ``[B, |X|, C]`` or ``[|X|, C]``; more leading axes are fine.

        Returns:
            Signal on :math:`Y`, ``[B, |Y|, C']`` or ``[|Y|, C']``.

        Raises:
            TypeError: If ``x`` is complex.
            ValueError: If ``x`` has another shape.
        """
        check_shape(
            "x", x, "...", self.size[0], self.in_channels, hint="the last axes are places of the space and channels"
        )
        if x.is_complex():
            raise TypeError("x must be real, got a complex tensor; convolve x.real and x.imag as two batches")
        lead = x.shape[:-2]
        with torch.autocast(x.device.type, enabled=False):
            batch = x.reshape(lead.numel(), *x.shape[-2:]).to(self.weight.dtype)
            if batch.size(0) == 0:  # nothing to compute, but zero gradients, as from any layer
                grads = batch.sum() + sum(0 * p.sum() for p in self.parameters())
                return batch.new_zeros(*lead, self.size[1], self.out_channels) + grads
            path = self.choose_path(batch.size(0)) if self.path == "auto" else self.path
            out = self._run(path, batch)
            if self.bias is not None:
                out = out + self.bias
        return out.reshape(*lead, self.size[1], self.out_channels)

    def _run(self, path: str, x: Tensor) -> Tensor:
        made = self._prepare(path)
        if isinstance(made, TypedPattern):
            return typed_linear(x, self.weight, made, "reference" if path == "reference" else "auto")
        return made(x, self.weight)  # type: ignore[no-any-return]

    # --- paths

    def choose_path(self, batch: int) -> str:
        """The cheapest path for a batch of this size, by counting multiplications and moves."""
        if batch not in self._choice:
            with _geometry():
                costs = self.path_costs(batch)
            self._choice[batch] = min(costs, key=lambda name: costs[name])
        return self._choice[batch]

    def path_costs(self, batch: int) -> dict[str, float]:
        """Multiplications that each path takes, or what takes as long; only paths worth a thought."""
        channels = self.in_channels, self.out_channels
        num_types = self.chosen.numel()
        messages = typed_costs(self._num_edges, self.size, num_types, batch, *channels)
        costs = {"graph": min(messages.values()) + 30 * CALL}
        if self.size[0] * self.size[1] <= _MAX_DENSE:
            costs["dense"] = self._prepare("dense").cost(batch, *channels)
        if self.group.order <= _MAX_FOURIER and self._has_fourier():
            costs["fourier"] = self._prepare("fourier").cost(batch, *channels)
        if self.orbits.regular and self._torus() is not None:
            for name in ("conv2d", "fft"):
                costs[name] = self._prepare(name).cost(batch, *channels)
        return costs

    def _has_fourier(self) -> bool:
        return all(s is None or s.is_transitive for s in (self.orbits.space_in, self.orbits.space_out))

    def _torus(self) -> Tensor | None:
        if "torus" not in self._made:
            self._made["torus"] = find_torus(self.group)
        return self._made["torus"]  # type: ignore[no-any-return]

    def _prepare(self, path: str) -> Any:
        """The tables of a path, made when it is first needed."""
        path = "graph" if path == "reference" else path
        if path not in self._made:
            with _geometry():
                self._made[path] = self._make(path)
        return self._made[path]

    def _make(self, path: str) -> Any:
        if path == "graph":
            edge_index, row = self.orbits.edges(self.chosen)
            return TypedPattern(edge_index, row, self.chosen.numel(), self.size).to(self.weight.device)
        if path == "dense":
            return DensePath(self.orbits.rows(self.chosen), self.chosen.numel())
        if path == "fourier":
            if not self._has_fourier():
                raise ValueError("path='fourier' needs spaces of one orbit each; use path='dense' or 'graph'")
            return FourierPath(self.orbits, self.chosen)
        torus = self._torus() if self.orbits.regular else None
        if torus is None:
            raise ValueError(
                f"path={path!r} needs signals on the group itself (and a group with a torus); use path='dense', "
                "'fourier' or 'graph'"
            )
        row = self.orbits.row_of_orbit(self.chosen)
        return TorusPath(self.group, torus, row, self.chosen.numel(), fft=path == "fft")

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._made.pop("graph", None)  # made again where the weight is now
        self.clear_cache()
        return self

    def clear_cache(self) -> None:
        """Forgets the expanded weights; needed only after ``weight.data`` was written to on a GPU."""
        for made in self._made.values():
            if isinstance(made, DensePath | FourierPath | TorusPath):
                made.once.clear()

    def train(self, mode: bool = True) -> "GroupConv":
        """As for any module; a change of mode also forgets the expanded weights."""
        if mode != self.training:
            self.clear_cache()
        return super().train(mode)

    def matrix(self) -> Tensor:
        """The layer without its bias as one matrix, ``[|Y|, C', |X|, C]``."""
        table = self._prepare("dense").expand(self.weight)
        num_in, num_out = self.size
        return table.view(self.in_channels, num_in, num_out, self.out_channels).permute(2, 3, 1, 0)

    def extra_repr(self) -> str:
        """Order, channels, and whether this is the full space."""
        places = "" if self.orbits.regular else f", {self.size[0]} -> {self.size[1]} places"
        space = f"full space ({self.num_orbits})"
        if not self.is_full:
            space = f"restricted support ({self.chosen.numel()} of {self.num_orbits})"
        channels = f"{self.in_channels} -> {self.out_channels}"
        return f"order {self.group.order}{places}, {channels}, {space}, path={self.path!r}"

"""Convolution over neighbours in a fixed order: on HEALPix, or on any graph whose neighbours have one."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomeq._checks import check_edge_index, check_shape
from geomeq.groups._lasting import lasting
from geomeq.ops import TypedPattern
from geomeq.spheres.healpix import check_nside

from ._ordered_paths import apply_plan, apply_transposed
from ._ordered_plan import (
    MISSING,
    Domain,
    EdgePlan,
    Plan,
    TablePlan,
    Window,
    edge_plan,
    pixel_table_plan,
    shared_plan,
    table_plan,
)

PATHS = ("auto", "edge", "gather", "face")


class _Ordered(nn.Module):
    """What :class:`OrderedConv` and its transpose share: weights, where neighbours lie, and the choice of a path."""

    _transposed: bool

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        nside: int | None = None,
        *,
        stride: int = 1,
        hops: int = 1,
        dilation: int = 1,
        groups: int = 1,
        missing: str = "zero",
        distance: bool = False,
        oriented: bool = False,
        bias: bool = True,
        path: str = "auto",
        pixels: Tensor | None = None,
        neighbours: Tensor | None = None,
        edge_index: Tensor | None = None,
        edge_type: Tensor | None = None,
        num_nodes: int | None = None,
    ) -> None:
        super().__init__()
        _check_options(in_channels, out_channels, stride, hops, dilation, groups, missing, path)
        self.in_channels, self.out_channels, self.nside = in_channels, out_channels, nside
        self.groups, self.path = groups, path
        self.window = Window(hops, dilation, stride, missing, bool(distance), bool(oriented))
        self.taps = (2 * hops + 1) ** 2
        self._plans: dict[tuple[int, str], Plan] = {}
        self._fixed: TablePlan | EdgePlan | None = None
        graph = neighbours is not None or edge_index is not None
        if oriented:
            self._check_oriented(graph or pixels is not None)
        if graph:
            self._fixed = self._read_graph(neighbours, edge_index, edge_type, num_nodes)
        elif nside is not None:
            check_nside(nside)
            self._check_size(nside)
        if pixels is not None:
            self._fixed = self._read_pixels(pixels)
        self._check_path()
        rows = (out_channels, in_channels) if self._transposed else (in_channels, out_channels)
        self.weight = nn.Parameter(torch.empty(self.taps, rows[0] // groups, rows[1]))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()
        if nside is not None or self._fixed is not None:
            self._plan(self._num_nodes(), self.weight.device)

    def reset_parameters(self) -> None:
        r"""Uniform in :math:`\pm 1 / \sqrt{\text{fan in}}`; as many numbers enter a sum as taps times channels."""
        fan_in = self.taps * self.in_channels / self.groups
        bound = 1 / math.sqrt(fan_in / self.window.stride if self._transposed else fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def _read_graph(
        self, neighbours: Tensor | None, edge_index: Tensor | None, edge_type: Tensor | None, num_nodes: int | None
    ) -> TablePlan | EdgePlan:
        window = self.window
        if self.nside is not None or (neighbours is not None and edge_index is not None):
            raise ValueError("give one of nside, neighbours, and edge_index with edge_type")
        if window.hops > 1 or window.dilation > 1 or window.stride > 1 or window.distance:
            raise ValueError("hops, dilation, stride and distance need nside: a graph says who its neighbours are")
        if neighbours is not None:
            return self._read_table(neighbours)
        if edge_type is None or edge_index is None:
            raise ValueError("edge_index needs edge_type, the place of each edge in the order, from 1 on")
        return self._read_edges(edge_index, edge_type, num_nodes)

    def _read_table(self, neighbours: Tensor) -> TablePlan:
        check_shape("neighbours", neighbours, "N", "K", hint="one row for each node, -1 where there is none")
        if neighbours.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"neighbours must hold integers (torch.long), got {neighbours.dtype}")
        count = neighbours.size(0)
        if neighbours.numel() and (int(neighbours.min()) < -1 or int(neighbours.max()) >= count):
            raise ValueError(f"neighbours must lie in 0..{count - 1}, or be -1 where there is none")
        self.taps = neighbours.size(1) + 1
        near = neighbours.detach().cpu().long()
        table = torch.cat([torch.arange(count)[:, None], near], dim=1)
        pairs = None
        if self.window.missing == "average":
            row, tap = (table < 0).nonzero().T
            order = self.taps - 1
            beside = [near[row, (tap - 1 + step) % order] for step in (-1, 1)]
            pairs = row, tap, torch.stack(beside)
        return lasting(table_plan)(table, count, self.window.missing == "renormalise", None, pairs)

    def _read_edges(self, edge_index: Tensor, edge_type: Tensor, num_nodes: int | None) -> EdgePlan:
        check_edge_index(edge_index, num_nodes, num_nodes)
        check_shape("edge_type", edge_type, edge_index.size(1), hint="one type per edge")
        if edge_type.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"edge_type must hold integers (torch.long), got {edge_type.dtype}")
        if edge_type.numel() and int(edge_type.min()) < 1:
            raise ValueError("edge_type must be at least 1: type 0 is the node itself, which the layer adds")
        if self.window.missing == "average":
            raise ValueError("missing='average' needs a table of neighbours, which says what lies beside a missing one")
        edge_index, edge_type = edge_index.detach().cpu().long(), edge_type.detach().cpu().long()
        count = num_nodes or (int(edge_index.max()) + 1 if edge_index.numel() else 0)
        self.taps = int(edge_type.max()) + 1 if edge_type.numel() else 1
        itself = torch.arange(count)
        edges = torch.cat([itself.expand(2, -1), edge_index], dim=1)
        pattern = TypedPattern(edges, torch.cat([torch.zeros_like(itself), edge_type]), self.taps, count)
        factor = None
        if self.window.missing == "renormalise":
            factor = self.taps / torch.bincount(edges[1], minlength=count).double()
        return EdgePlan(pattern, None, count, None, factor)

    def _read_pixels(self, pixels: Tensor) -> TablePlan:
        if self.nside is None:
            raise ValueError("pixels are numbers of pixels of a sphere: give its nside")
        check_shape("pixels", pixels, "M", hint="nested numbers, increasing")
        if pixels.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"pixels must hold integers (torch.long), got {pixels.dtype}")
        pixels = pixels.detach().cpu().long()
        if not len(pixels) or int(pixels[0]) < 0 or int(pixels[-1]) >= 12 * self.nside**2:
            raise ValueError(f"pixels must be some of 0..{12 * self.nside**2 - 1} for nside={self.nside}")
        if bool((pixels.diff() <= 0).any()):
            raise ValueError("pixels must increase, each but once; sort them, and the signal with them")
        return lasting(pixel_table_plan)(self.nside, pixels, self.window)

    def _check_oriented(self, fixed: bool) -> None:
        window = self.window
        others = window.hops != 1 or window.dilation > 1 or window.distance or window.missing != "zero"
        if fixed or others or self.path != "auto":
            raise ValueError(
                "oriented=True interpolates between the neighbours of whole spheres, where none is missing: it goes "
                "with hops=1, dilation=1, missing='zero', path='auto', and without distance, pixels or a graph"
            )

    def _check_path(self) -> None:
        if self.path == "face" and (self._fixed is not None or self.window.distance):
            why = "weights by distance" if self.window.distance else "pixels of your own or a graph"
            raise ValueError(f"path='face' is for whole spheres and square patches, not for {why}; use path='auto'")
        if self.path == "gather" and isinstance(self._fixed, EdgePlan):
            raise ValueError("path='gather' needs a table of neighbours; typed edges go by path='edge'")

    def _check_size(self, side: int) -> None:
        if self.window.stride == 4 and side < 2:
            raise ValueError("stride=4 needs nside of at least 2: one face cannot be halved below one pixel")
        if self.window.reach > side:
            raise ValueError(
                f"hops={self.window.hops} with dilation={self.window.dilation} reach over more than a face of "
                f"nside={side}; use at most {side} together"
            )

    def _num_nodes(self) -> int:
        """Pixels on the fine side."""
        if self._fixed is not None:
            return self._fixed.num_nodes
        assert self.nside is not None
        return 12 * self.nside**2

    def _plan(self, num_nodes: int, device: torch.device) -> Plan:
        """The plan for so many pixels on the fine side."""
        key = num_nodes, str(device)
        plan = self._plans.get(key)
        if plan is not None:
            return plan
        if torch.compiler.is_compiling():
            raise RuntimeError("a layer without nside must see the number of pixels once before it is compiled")
        self._plans[key] = plan = self._new_plan(num_nodes, device)
        return plan

    def _new_plan(self, num_nodes: int, device: torch.device) -> Plan:
        if self._fixed is not None:
            plan: TablePlan | EdgePlan = self._fixed
            if self.path == "edge" and isinstance(plan, TablePlan):
                plan = lasting(edge_plan)(plan)
            moved: Plan = plan if device.type == "cpu" else lasting(plan.to)(device)  # type: ignore[assignment]
            return moved
        domain = Domain.of(num_nodes)
        if domain.whole:
            self._check_size(domain.side)
        elif self.window.stride == 4 and domain.side < 2:
            raise ValueError("stride=4 keeps one of four siblings: a patch has at least 4 pixels, got 1")
        path = self.path
        if self.window.oriented:
            if not domain.whole or domain.side < 2:
                raise ValueError(f"oriented=True needs a whole sphere of nside 2 or more, got {num_nodes} pixels")
            path = "compass"
        elif path == "auto":
            path = "gather" if self.window.distance else "face"
        return shared_plan(path, domain, self.window, device)

    def _run(self, x: Tensor, num_nodes: int) -> Tensor:
        plan = self._plan(num_nodes, x.device)
        run = apply_transposed if self._transposed else apply_plan
        out = run(x if x.dim() == 3 else x[None], self.weight, self.bias, plan, self.groups)
        return out if x.dim() == 3 else out[0]

    def _check(self, x: Tensor, num_nodes: int | None, hint: str) -> None:
        check_shape("x", x, "...", "N" if num_nodes is None else num_nodes, self.in_channels, hint=hint)
        if x.dim() not in (2, 3):
            raise ValueError(f"x must have shape [N, C] or [B, N, C], got {list(x.shape)}")
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, got {x.dtype}")

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = self.weight.device
        counts = {count for count, _ in self._plans}
        if device.type != "meta":
            self._plans = {(count, str(device)): self._new_plan(count, device) for count in counts}
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Tables are found again by what they belong to; only those of a user's graph have to go along.
        return {**self.__dict__, "_plans": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.nside is not None or self._fixed is not None:
            self._plan(self._num_nodes(), self.weight.device)

    def extra_repr(self) -> str:
        """Channels, resolution and the options that differ from their defaults."""
        window = self.window
        options = {
            "nside": (self.nside, None),
            "stride": (window.stride, 1),
            "hops": (window.hops, 1),
            "dilation": (window.dilation, 1),
            "groups": (self.groups, 1),
            "missing": (window.missing, "zero"),
            "distance": (window.distance, False),
            "oriented": (window.oriented, False),
            "bias": (self.bias is not None, True),
            "path": (self.path, "auto"),
        }
        text = "".join(f", {name}={value!r}" for name, (value, usual) in options.items() if value != usual)
        more = f", nodes={self._fixed.num_nodes}, taps={self.taps}" if self._fixed is not None else ""
        return f"{self.in_channels}, {self.out_channels}{text}{more}"


class OrderedConv(_Ordered):
    r"""One matrix for a pixel and one for each of its neighbours in their order: SW, W, NW, N, NE, E, SE, S.

    .. math:: y_i = b + W_0 x_i + \sum_{k=1}^{8} g_{ik} W_k x_{n_k(i)}

    Filters know directions (along the meridians, nearly) and have no weights to spare for the radius: the layer of
    OSLO. It is not equivariant to rotations other than quarter turns about the polar axis, and to these exactly.

    A neighbour is a step on the grid of a face, which is continued over its sides onto the faces there. At eight
    corners three faces meet instead of four, so that for every hop there are neighbours that do not exist (one at 24
    pixels, for one hop). ``missing`` says what becomes of them:

    - ``"zero"``: nothing takes their place, as published. Sums are smaller there.
    - ``"renormalise"``: sums are multiplied by the number of taps over those that exist.
    - ``"average"``: the mean of the two pixels which one reaches by going round the corner either way; for one hop
      these are the neighbours on both sides of the missing one.

    Paths give the same result: ``"face"`` continues the twelve faces by a border and runs one conv2d; ``"gather"``
    collects neighbours for some thousand pixels at a time before a matrix product; ``"edge"`` sends typed messages,
    which is the definition. Message form: stencil (1).

    Args:
        in_channels: C.
        out_channels: C'.
        nside: Resolution of HEALPix, nested order. ``None``: whatever comes, whole spheres of ``12 * 4^k`` pixels or
            square patches of ``4^k`` consecutive ones, outside of which neighbours are missing. Weights do not depend
            on it.
        stride: 1, or 4 to keep only the southern child of every four: the result is ordered for ``nside / 2``.
        hops: Rings of neighbours n; there are ``(2 n + 1)^2`` taps.
        dilation: Pixels between taps.
        groups: Groups of channels which do not mix; ``groups=in_channels`` for one filter each.
        missing: As above.
        distance: Whether ``g`` is the side of a pixel over the distance of the neighbour; otherwise 1.
        oriented: Whether taps lie in the same directions of the compass everywhere. In the polar caps the grids of the
            faces, and the filters with them, turn by up to 52 degrees from the meridians; with this option each tap is
            interpolated between the two neighbours beside its direction (two to three times the time). Whole spheres
            and one hop only; then nothing is missing.
        bias: Whether there is one.
        path: ``"auto"`` takes ``"face"`` where it can.
        pixels: Nested numbers of a part of the sphere, increasing, ``[M]``: x then holds these; others are missing.
        neighbours: In place of ``nside``, a table of any graph, ``[N, K]``, -1 where there is none; then there are
            K + 1 taps.
        edge_index: In place of ``nside``, edges of any graph, ``[2, E]``.
        edge_type: Place of each edge in the order, from 1 on, ``[E]``.
        num_nodes: Nodes of that graph; by default the largest index and one.

    Raises:
        ValueError: If ``nside`` is not a power of 2, an option does not exist, or options do not go together.

    Example:
        >>> layer = OrderedConv(3, 8, nside=16, stride=4)
        >>> layer(torch.randn(2, 12 * 16**2, 3)).shape
        torch.Size([2, 768, 8])

    Source: Mahmoudian Bidgoli et al. (2022), https://arxiv.org/abs/2107.09179.
    """

    _transposed = False

    def forward(self, x: Tensor) -> Tensor:
        """Convolves.

        Args:
            x: ``[N, C]`` or ``[B, N, C]``, nested order.

        Returns:
            ``[N / stride, C']`` or ``[B, N / stride, C']``.

        Raises:
            TypeError: If x is not floating point.
            ValueError: If its shape is wrong.
        """
        fixed = self.nside is not None or self._fixed is not None
        num_nodes = self._num_nodes() if fixed else None
        hint = f"{num_nodes} pixels of nside={self.nside}" if fixed else "pixels in nested order, then channels"
        self._check(x, num_nodes, hint)
        return self._run(x, x.size(-2))


class OrderedConvTranspose(_Ordered):
    r"""The transpose of :class:`OrderedConv`: from coarse to fine with ``stride=4``.

    .. math:: x_j = b + \sum_{(i, k): \, n_k(i) = j} g_{ik} W_k^T y_i

    where i runs over the southern children. With the weight of an ``OrderedConv(out_channels, in_channels, ...)`` of
    the same options, and without biases, it is its adjoint: :math:`\langle A x, y \rangle = \langle x, A^T y \rangle`.
    All options are those of :class:`OrderedConv`; ``nside`` and ``pixels`` are those of the fine side.

    Example:
        >>> layer = OrderedConvTranspose(8, 3, nside=16, stride=4)
        >>> layer(torch.randn(2, 12 * 8**2, 8)).shape
        torch.Size([2, 3072, 3])

    Source: the upsampling of Wawerek-Lopez et al. (2025), OSLO-IC.
    """

    _transposed = True

    def forward(self, x: Tensor) -> Tensor:
        """Spreads.

        Args:
            x: ``[M, C]`` or ``[B, M, C]``, nested order.

        Returns:
            ``[M * stride, C']`` or ``[B, M * stride, C']``.

        Raises:
            TypeError: If x is not floating point.
            ValueError: If its shape is wrong.
        """
        stride, fixed = self.window.stride, self.nside is not None or self._fixed is not None
        coarse = self._num_nodes() // stride if fixed else None
        self._check(x, coarse, "a quarter of the pixels that are wanted" if stride == 4 else "as many pixels as wanted")
        return self._run(x, x.size(-2) * stride)


def _check_options(
    in_channels: int, out_channels: int, stride: int, hops: int, dilation: int, groups: int, missing: str, path: str
) -> None:
    counts = {"in_channels": in_channels, "out_channels": out_channels, "dilation": dilation, "groups": groups}
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
    if isinstance(hops, bool) or not isinstance(hops, int) or hops < 0:
        raise ValueError(f"hops must be an integer of at least 0, got {hops!r}")
    if stride not in (1, 4):
        raise ValueError(f"stride must be 1, or 4 to keep one of four siblings, got {stride!r}; apply it twice for 16")
    if in_channels % groups or out_channels % groups:
        raise ValueError(f"groups must divide in_channels={in_channels} and out_channels={out_channels}, got {groups}")
    if missing not in MISSING:
        raise ValueError(f"missing must be one of {', '.join(MISSING)}, got {missing!r}")
    if path not in PATHS:
        raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")

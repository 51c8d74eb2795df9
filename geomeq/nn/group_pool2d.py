"""Pooling of functions on plane groups: over space, over orientations, over both."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import PointGroup

from .legal_size import ON_ILLEGAL, check_stride

_REDUCE = ("max", "mean")
_PADDING_MODES = ("replicate", "zeros", "circular")


def _check_reduce(reduce: str) -> str:
    if reduce not in _REDUCE:
        raise ValueError(f"reduce must be one of {_REDUCE}, got {reduce!r}")
    return reduce


def _check_positive(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _reduced(x: Tensor, dim: int | tuple[int, ...], reduce: str) -> Tensor:
    # amax shares the gradient among equal largest entries; max would pick one of them by its place
    return x.amax(dim) if reduce == "max" else x.mean(dim)


def _check_maps(x: Tensor) -> None:
    if x.dim() not in (4, 5):
        raise ValueError(f"x must have shape [B, C, Y, X] or [B, C, |H|, Y, X], got {list(x.shape)}")


class SpatialPool2d(nn.Module):
    """Largest entry or mean of windows, in each map by itself.

    Turns are kept only where the windows lie symmetrically: ``(Y + 2 padding - k) % stride == 0``, and the same for X.
    The published trap is a window of 2 with stride 2 on an odd size, which leaves out one row on one side only.

    Args:
        kernel_size: Width of the windows.
        stride: Step between them; default ``kernel_size``.
        padding: On each side.
        reduce: ``"max"`` or ``"mean"``.
        point_group: Whose symmetry the sizes must keep.
        on_illegal: ``"warn"``, ``"error"`` or ``"ignore"``.

    Example:
        >>> SpatialPool2d(2)(torch.randn(1, 8, 4, 28, 28)).shape
        torch.Size([1, 8, 4, 14, 14])
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        reduce: str = "max",
        point_group: str | PointGroup = "D4",
        on_illegal: str = "warn",
    ) -> None:
        super().__init__()
        stride = kernel_size if stride is None else stride
        _check_positive("kernel_size", kernel_size)
        _check_positive("stride", stride)
        if not isinstance(padding, int) or not 0 <= padding <= kernel_size // 2:
            most = f"kernel_size // 2 = {kernel_size // 2}"
            raise ValueError(f"padding must be an integer from 0 to {most}, got {padding!r}")
        if on_illegal not in ON_ILLEGAL:
            raise ValueError(f"on_illegal must be one of {ON_ILLEGAL}, got {on_illegal!r}")
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.reduce, self.on_illegal, self.group = _check_reduce(reduce), on_illegal, PointGroup.parse(point_group)

    def forward(self, x: Tensor) -> Tensor:
        """Pools ``[B, C, (|H|,) Y, X]`` to ``[B, C, (|H|,) Y', X']``.

        Raises:
            ValueError: If the shape is wrong, or the size illegal and ``on_illegal="error"``.
        """
        _check_maps(x)
        size = (x.size(-2), x.size(-1))
        check_stride(size, self.kernel_size, self.stride, self.padding, self.group, self.on_illegal)
        pool = nn.functional.max_pool2d if self.reduce == "max" else nn.functional.avg_pool2d
        y = pool(x if x.dim() == 4 else x.flatten(1, 2), self.kernel_size, self.stride, self.padding)
        return y if x.dim() == 4 else y.unflatten(1, x.shape[1:3])

    def extra_repr(self) -> str:
        """The options."""
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, reduce={self.reduce!r}"


class AntiAliasedPool2d(nn.Module):
    r"""Blurs with a binomial filter and keeps every ``stride``-th pixel, symmetrically at every size.

    The number of taps follows the size: for stride 2, ``[1, 3, 3, 1] / 8`` on even and ``[1, 2, 1] / 4`` on odd sizes,
    so that the pixels kept always lie symmetrically about the centre. Hence quarter turns and mirrors are kept exactly
    at every size, and small shifts far better than by a max-pool. Output size: ``ceil(Y / stride)``.

    Args:
        stride: Step between the pixels kept.
        reduce: ``"mean"`` (the blur alone) or ``"max"`` (first the largest entry of 3 x 3 windows, at every pixel).
        padding_mode: What lies outside: ``"replicate"``, ``"zeros"`` or ``"circular"``.

    Example:
        >>> AntiAliasedPool2d()(torch.randn(1, 8, 4, 29, 28)).shape
        torch.Size([1, 8, 4, 15, 14])

    Source: after Zhang (2019), https://arxiv.org/abs/1904.11486.
    """

    any_size = True  #: for :func:`legal_size`

    def __init__(self, stride: int = 2, reduce: str = "mean", padding_mode: str = "replicate") -> None:
        super().__init__()
        _check_positive("stride", stride)
        if padding_mode not in _PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {_PADDING_MODES}, got {padding_mode!r}")
        self.stride, self.reduce, self.padding_mode = stride, _check_reduce(reduce), padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """Pools ``[B, C, (|H|,) Y, X]`` to ``[B, C, (|H|,) ceil(Y / stride), ceil(X / stride)]``."""
        _check_maps(x)
        if self.stride == 1:
            return x
        maps = x if x.dim() == 4 else x.flatten(1, 2)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        if self.reduce == "max":
            if mode == "circular":
                maps = nn.functional.max_pool2d(nn.functional.pad(maps, (1, 1, 1, 1), mode=mode), 3, 1)
            else:
                maps = nn.functional.max_pool2d(maps, 3, 1, 1)
        (taps_y, pad_y), (taps_x, pad_x) = (binomial_window(n, self.stride) for n in x.shape[-2:])
        blur = x.new_tensor(taps_y)[:, None] * x.new_tensor(taps_x)
        padded = nn.functional.pad(maps, (pad_x, pad_x, pad_y, pad_y), mode=mode)
        y = nn.functional.conv2d(padded.reshape(-1, 1, *padded.shape[-2:]), blur[None, None], stride=self.stride)
        return y.view(*x.shape[:-2], *y.shape[-2:])

    def extra_repr(self) -> str:
        """The options."""
        return f"stride={self.stride}, reduce={self.reduce!r}, padding_mode={self.padding_mode!r}"


@lru_cache(maxsize=256)
def binomial_window(n: int, stride: int) -> tuple[tuple[float, ...], int]:
    """Taps of a blur (at least ``stride + 1`` of them) and the padding with which it is symmetric on ``n`` pixels."""
    bare = n - stride * ((n - 1) // stride)  # a window of this width, not padded, steps exactly to the other side
    padding = -(-(stride + 1 - bare) // 2)
    taps = [1.0]
    for _ in range(bare + 2 * padding - 1):
        taps = [a + b for a, b in zip([0.0, *taps], [*taps, 0.0], strict=True)]
    return tuple(tap / sum(taps) for tap in taps), padding


class GroupPool(nn.Module):
    r"""Pools over orientations: over all, or over the cosets :math:`h K` of a subgroup.

    .. math:: z(u, hK) = \max_{k \in K} y(u, h k)

    Over all of H the result is an image. Over a subgroup it has ``|H| / |K|`` maps; element h of H turns them and sends
    the map of gK to that of hgK: equivariance under all of H is kept.

    Args:
        point_group: H.
        subgroup: K; default H itself.
        reduce: ``"max"`` or ``"mean"``.

    Example:
        >>> GroupPool("C4")(torch.randn(2, 8, 4, 9, 9)).shape, GroupPool("C4", "C2")(torch.randn(2, 8, 4, 9, 9)).shape
        (torch.Size([2, 8, 9, 9]), torch.Size([2, 8, 2, 9, 9]))

    Raises:
        ValueError: If K is no subgroup of H.
    """

    def __init__(
        self, point_group: str | PointGroup, subgroup: str | PointGroup | None = None, reduce: str = "max"
    ) -> None:
        super().__init__()
        self.group, self.reduce = PointGroup.parse(point_group), _check_reduce(reduce)
        self.subgroup = None if subgroup is None else PointGroup.parse(subgroup)
        cosets = _left_cosets(self.group, list(range(self.group.order)) if subgroup is None else _members(self))
        self.register_buffer("cosets", torch.tensor(cosets), persistent=False)  #: ``[|H| / |K|, |K|]``

    def forward(self, x: Tensor) -> Tensor:
        """Pools ``[B, C, |H|, Y, X]`` to ``[B, C, Y, X]`` or ``[B, C, |H| / |K|, Y, X]``."""
        check_shape("x", x, "B", "C", self.group.order, "Y", "X", hint=f"the layer was built for {self.group.name}")
        if self.subgroup is None:
            return _reduced(x, 2, self.reduce)
        cosets: Tensor = self.cosets  # type: ignore[assignment]
        return _reduced(x.index_select(2, cosets.flatten()).unflatten(2, tuple(cosets.shape)), 3, self.reduce)

    def extra_repr(self) -> str:
        """Both groups."""
        below = "" if self.subgroup is None else f", {self.subgroup.name}"
        return f"{self.group.name}{below}, reduce={self.reduce!r}"


class RestrictGroup(nn.Module):
    r"""Forgets symmetry but no number: functions on the larger plane group as functions on a smaller one.

    .. math:: z_{(c t)}(u, k) = y_c(u, k t)

    with one representative t of each coset :math:`K t`. What follows (a ``GroupConv2d`` of K) keeps the symmetry of K
    only: deep layers of a network on p4m need not be blind to handedness.

    Args:
        point_group: H.
        subgroup: K.

    Example:
        >>> RestrictGroup("D4", "C4")(torch.randn(2, 8, 8, 9, 9)).shape
        torch.Size([2, 16, 4, 9, 9])

    Raises:
        ValueError: If K is no subgroup of H.
    """

    def __init__(self, point_group: str | PointGroup, subgroup: str | PointGroup) -> None:
        super().__init__()
        self.group, self.subgroup = PointGroup.parse(point_group), PointGroup.parse(subgroup)
        members, seen, rows = _members(self), set[int](), []
        for t in range(self.group.order):
            if t not in seen:
                rows.append([self.group.compose(k, t) for k in members])
                seen.update(rows[-1])
        self.register_buffer("cosets", torch.tensor(rows), persistent=False)  #: ``[|H| / |K|, |K|]``

    def forward(self, x: Tensor) -> Tensor:
        """Sorts ``[B, C, |H|, Y, X]`` into ``[B, C * |H| / |K|, |K|, Y, X]``."""
        check_shape("x", x, "B", "C", self.group.order, "Y", "X", hint=f"the layer was built for {self.group.name}")
        cosets: Tensor = self.cosets  # type: ignore[assignment]
        return x.index_select(2, cosets.flatten()).unflatten(2, tuple(cosets.shape)).flatten(1, 2)

    def extra_repr(self) -> str:
        """Both groups."""
        return f"{self.group.name}, {self.subgroup.name}"


class GlobalGroupPool(nn.Module):
    """Pools over orientations and space: invariants.

    Args:
        reduce: ``"max"`` or ``"mean"``.

    Example:
        >>> GlobalGroupPool("mean")(torch.randn(2, 8, 4, 9, 9)).shape
        torch.Size([2, 8])
    """

    def __init__(self, reduce: str = "max") -> None:
        super().__init__()
        self.reduce = _check_reduce(reduce)

    def forward(self, x: Tensor) -> Tensor:
        """Pools ``[B, C, (|H|,) Y, X]`` to ``[B, C]``."""
        _check_maps(x)
        return _reduced(x.flatten(2), 2, self.reduce)

    def extra_repr(self) -> str:
        """The operation."""
        return f"reduce={self.reduce!r}"


def _members(module: "GroupPool | RestrictGroup") -> list[int]:
    return module.group.subgroup(module.subgroup)  # type: ignore[arg-type]


def _left_cosets(group: PointGroup, members: list[int]) -> list[list[int]]:
    seen, rows = set[int](), []
    for h in range(group.order):
        if h not in seen:
            rows.append([group.compose(h, k) for k in members])
            seen.update(rows[-1])
    return rows

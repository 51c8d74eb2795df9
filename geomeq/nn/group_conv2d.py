"""Convolutions over plane groups of translations, turns and mirrors, computed by one conv2d."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import PointGroup

from ._group_filters import FilterRule, filter_rule
from ._once import ExpandOnce
from .legal_size import ON_ILLEGAL, check_stride

PADDING_MODES = ("zeros", "circular")


class _PlaneGroupConv(nn.Module):
    """What :class:`LiftingConv2d` and :class:`GroupConv2d` share."""

    _lifting: bool

    def __init__(
        self,
        point_group: str | PointGroup,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | str = 0,
        padding_mode: str = "zeros",
        bias: bool = True,
        on_illegal: str = "warn",
    ) -> None:
        super().__init__()
        self.group = PointGroup.parse(point_group)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("stride", stride)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if not isinstance(kernel_size, int) or kernel_size < 1:
            raise ValueError(f"kernel_size must be one positive integer (windows are square), got {kernel_size!r}")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {PADDING_MODES}, got {padding_mode!r}")
        if on_illegal not in ON_ILLEGAL:
            raise ValueError(f"on_illegal must be one of {ON_ILLEGAL}, got {on_illegal!r}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = kernel_size, stride
        self.padding, self.padding_mode = _symmetric_padding(padding, kernel_size), padding_mode
        self.on_illegal = on_illegal
        self.weight = nn.Parameter(torch.empty(self._weight_shape(self._read_rule(torch.device("cpu")))))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._rule = self._read_rule(self.weight.device)
        self._hint = f"functions on the plane group of {self.group.name}; LiftingConv2d takes images to them"
        self._once = ExpandOnce()
        self.reset_parameters()

    def _read_rule(self, device: torch.device) -> FilterRule:
        return filter_rule(self.group, self.kernel_size, self._lifting, self.in_channels, device)

    def _weight_shape(self, rule: FilterRule) -> tuple[int, ...]:
        pixels = (self.kernel_size, self.kernel_size) if rule.basis is None else (rule.num_points,)
        return (self.out_channels, self.in_channels * rule.elements, *pixels)

    def reset_parameters(self) -> None:
        """Weights uniform with variance 2 / (C_in * G * k * k) (He), bias 0."""
        fan_in = self.in_channels * self._rule.elements * self.kernel_size**2
        bound = math.sqrt(6 / fan_in)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def kernel(self) -> Tensor:
        """The weight with its axes apart: ``[C_out, C_in, k, k]`` or ``[C_out, C_in, |H|, k, k]``; no copy.

        Filters that are interpolated have P points on rings instead of k x k pixels.
        """
        if self._lifting:
            return self.weight
        return self.weight.unflatten(1, (self.in_channels, self.group.order))

    def expanded(self) -> Tensor:
        """Filters of all orientations, ``[C_out * |H|, C_in * G, k, k]``: those of the plain conv2d.

        They are built at most once per change of the weight, and serve any number of forward and backward passes.
        """
        return self._once(self.weight, self._rule)

    def _filters_and_bias(self) -> tuple[Tensor, Tensor | None]:
        if self.bias is None:
            return self.expanded(), None
        return self._once.with_bias(self.weight, self.bias, self._rule)

    def clear_cache(self) -> None:
        """Forgets the expanded filters; needed only after ``weight.data`` was written to on a GPU."""
        self._once.clear()

    def forward(self, x: Tensor) -> Tensor:
        """Convolves.

        Args:
            x: ``[B, C_in, Y, X]`` for a lifting layer, else ``[B, C_in, |H|, Y, X]``.

        Returns:
            ``[B, C_out, |H|, Y', X']``, ``Y' = (Y + 2 padding - k) // stride + 1``.

        Raises:
            ValueError: If the shape is wrong, the grid smaller than the filter, or, with ``on_illegal="error"``, the
                stride illegal for the size.
        """
        if self._lifting:
            check_shape("x", x, "B", self.in_channels, "Y", "X", hint="[batch, channels, height, width] of images")
        else:
            check_shape("x", x, "B", self.in_channels, self.group.order, "Y", "X", hint=self._hint)
            x = x.flatten(1, 2)
        self._check_size(x.size(-2), x.size(-1))
        padding = self.padding
        if padding and self.padding_mode == "circular":
            x, padding = nn.functional.pad(x, (padding,) * 4, mode="circular"), 0
        y = nn.functional.conv2d(x, *self._filters_and_bias(), self.stride, padding)
        return y.unflatten(1, (self.out_channels, self.group.order))

    def _check_size(self, height: int, width: int) -> None:
        if min(height, width) + 2 * self.padding < self.kernel_size:
            raise ValueError(
                f"a grid of {height} x {width} with padding={self.padding} is smaller than kernel_size="
                f"{self.kernel_size}; use larger images or more padding"
            )
        if self.padding_mode == "circular" and self.padding > min(height, width):
            raise ValueError(
                f"padding={self.padding} with padding_mode='circular' goes around a grid of {height} x {width} more "
                "than once; use larger images or a smaller filter"
            )
        check_stride((height, width), self.kernel_size, self.stride, self.padding, self.group, self.on_illegal)

    def export(self) -> nn.Conv2d:
        """A plain ``nn.Conv2d`` with the expanded filters: the same numbers on ``x.flatten(1, 2)``, no geomeq."""
        outs, ins = self.out_channels * self.group.order, self.in_channels * self._rule.elements
        conv = nn.Conv2d(
            ins,
            outs,
            self.kernel_size,
            self.stride,
            self.padding,
            padding_mode=self.padding_mode,  # type: ignore[arg-type]
            bias=self.bias is not None,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(self.expanded())
            if self.bias is not None and conv.bias is not None:
                conv.bias.copy_(self.bias.repeat_interleave(self.group.order))
        return conv

    def train(self, mode: bool = True) -> "_PlaneGroupConv":
        """As for any module; a change of mode also forgets the expanded filters."""
        if mode != self.training:
            self.clear_cache()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> "_PlaneGroupConv":
        super()._apply(fn, recurse)
        self.clear_cache()
        self._rule = self._read_rule(self.weight.device)
        return self

    def extra_repr(self) -> str:
        """Group, channels, window, and the options that differ from their defaults."""
        text = f"{self.group.name}, {self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        options = {"stride": (self.stride, 1), "padding": (self.padding, 0), "bias": (self.bias is not None, True)}
        options["padding_mode"] = (self.padding_mode, "zeros")  # type: ignore[assignment]
        return text + "".join(f", {name}={value!r}" for name, (value, usual) in options.items() if value != usual)


class LiftingConv2d(_PlaneGroupConv):
    r"""Correlates images with a filter in every orientation: from the plane to a plane group.

    .. math:: y_o(u, h) = b_o + \sum_{v, c} f_c(v) \, w_{oc}(h^{-1}(v - u))

    Turning the image turns every map of the output and permutes the axis of orientations
    (:meth:`~geomeq.groups.PointGroup.act_on_field`).

    Message form: stencil (1). The arguments are those of :class:`GroupConv2d`.

    Example:
        >>> LiftingConv2d("C4", 3, 8, kernel_size=3)(torch.randn(2, 3, 9, 9)).shape
        torch.Size([2, 8, 4, 7, 7])

    Source: Cohen and Welling (2016), https://arxiv.org/abs/1602.07576, eq. 10.
    """

    _lifting = True


class GroupConv2d(_PlaneGroupConv):
    r"""Correlates functions on a plane group :math:`\mathbb{Z}^2 \rtimes H` with a filter in every orientation.

    .. math:: y_o(u, h) = b_o + \sum_{v, g, c} f_c(v, g) \, w_{oc}(h^{-1}(v - u), h^{-1} g)

    It is one conv2d with filters expanded by an index table. The expansion happens at most once per optimiser step,
    however many forward and backward passes use it (under ``torch.compile``, ``torch.func`` and CUDA graphs it is part
    of the graph). Steps of any ``torch.optim`` optimiser are noticed, fused ones as well. A write through
    ``weight.data``, which torch does not count, is noticed on a CPU; on a GPU call :meth:`clear_cache` after it.

    For C1, C2, C4, D1, D2, D4 the filter is a window of k x k pixels and equivariance is exact: for odd and even k,
    provided the stride is legal. For any other ``C<n>`` or ``D<n>`` (C8, D8, C6) the filter is a sum of Gaussians
    around points on rings; turns by multiples of 90 degrees (180 for C6) remain exact, the others hold as well as the
    pixels resolve the signal, and never exactly.

    Message form: stencil (1). On the graph of ``transforms.GroupGrid`` :meth:`graph_weight` gives the same layer by
    typed messages.

    Args:
        point_group: ``"C<n>"`` or ``"D<n>"``, or a plane group (``"p4m"``).
        in_channels: Fields in.
        out_channels: Fields out; each has ``|H|`` maps and one bias.
        kernel_size: Width k of the window.
        stride: Step between outputs. Turns are kept only if ``(Y + 2 padding - k) % stride == 0``.
        padding: On each side, or ``"same"`` (odd k).
        padding_mode: ``"zeros"`` or ``"circular"``.
        bias: Whether there is one.
        on_illegal: What a stride does that breaks the symmetry: ``"warn"``, ``"error"`` or ``"ignore"``.

    Example:
        >>> layer = GroupConv2d("D4", 8, 16, kernel_size=3, padding=1)
        >>> layer(torch.randn(2, 8, 8, 28, 28)).shape
        torch.Size([2, 16, 8, 28, 28])

    Raises:
        ValueError: If the group is unknown, a number is not positive, or the padding differs between sides.

    Source: Cohen and Welling (2016), https://arxiv.org/abs/1602.07576, eq. 11.
    """

    _lifting = False

    def graph_weight(self) -> Tensor:
        """The weight by relation, ``[|H| * k * k, C_in, C_out]``: number ``g * k * k + vy * k + vx`` is (v, g).

        Differentiable, so the typed layer on ``transforms.GroupGrid`` and this one can share their weight.

        Raises:
            ValueError: If filters are interpolated: no graph of pixels has these relations.
        """
        if self._rule.basis is not None:
            raise ValueError(f"{self.group.name} has interpolated filters, no relations between pixels; use C4 or D4")
        return self.kernel.flatten(2).permute(2, 1, 0)


def _symmetric_padding(padding: int | str, kernel_size: int) -> int:
    if padding == "same":
        if kernel_size % 2 == 0:
            raise ValueError(
                f"padding='same' with kernel_size={kernel_size} would pad one side more than the other, which no turn "
                "leaves alone; give a number, or use an odd kernel_size"
            )
        return kernel_size // 2
    if not isinstance(padding, int) or padding < 0:
        raise ValueError(
            f"padding must be 'same' or one integer >= 0, the same on all four sides, got {padding!r}; padding that "
            "differs between sides breaks the symmetry"
        )
    return padding

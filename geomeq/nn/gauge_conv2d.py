"""The gauge convolution on images: one conv2d with kernels made of circular harmonics."""

from math import isfinite, pi
from typing import Any

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.groups import SO2Irreps

from ._gauge_kernel import SelfWeights
from ._grid_harmonics import GridKernel, Window
from ._once import ExpandOnce
from .gauge_conv import GaugeConv, Types

_WEIGHTS = ("integral", "sum")


class GaugeConv2d(GaugeConv):
    r"""The layer of harmonic networks on images: :class:`GaugeConv` on the pixel grid, as one conv2d.

    .. math:: y(u) = K_{self}\, x(u) + \sum_{v \neq 0} w\, \rho_{out}(\theta_v) \Big[\sum_q \phi_q(r_v)\, B_q\Big]
        \rho_{in}(-\theta_v)\, x(u + v) + b

    with :math:`v = r_v e^{i \theta_v}`, x to the right and **y up**. Between orders :math:`n \to m` that is the
    circular harmonic :math:`e^{i(m-n)\theta}` of harmonic networks, with a learned profile and phase, and its conjugate
    partner :math:`e^{i(m+n)\theta} \bar z`, which they leave out. When the image turns by :math:`\theta`, order m turns
    with it and is multiplied by :math:`e^{i m \theta}`: exactly for quarter turns, nearly for others (pixels).

    Parameters and ``state_dict`` are those of a :class:`GaugeConv` with the same ``rings``, ``cutoff``, ``weight`` and
    ``basis``, and so are the results, on the graph of ``transforms.PlaneGauge(cutoff, grid=(W, H))`` with
    ``padding="same"``. The kernel is made once per optimiser step, whatever the number of passes.

    ``antialias=True`` samples the harmonics on circles and carries them to the pixels by Gaussians, as published: a
    circle holds only frequencies that it can resolve, and turns by any angle are followed better. No graph has these
    kernels; ``basis`` and ``cutoff`` then play no part.

    Message form: gauge (2).

    Args:
        types_in: Type of the input, such as ``"16x0+8x1"``; images of C channels are ``"Cx0"``.
        types_out: Type of the output.
        kernel_size: Width k of the window, odd.
        rings: Number of radial profiles.
        cutoff: Where they end, in pixels; default ``k / 2``. The window must hold all pixels within it.
        padding: Zeros on each side, or ``"same"``.
        weight: ``"integral"``, :math:`w = 1 / (\pi r_c^2)`, or ``"sum"``, :math:`w = 1`.
        basis: ``"hat"`` or ``"smooth"``, see :class:`GaugeConv`.
        self_interaction: Whether there is :math:`K_{self}`.
        edge_bias: Whether messages have a bias.
        bias: Whether outputs of order 0 have a bias.
        antialias: As above; needs ``weight="integral"``.

    Raises:
        ValueError: If an option does not exist, the window is even or too small for the cut-off.

    Example:
        >>> layer = GaugeConv2d("3x0", "8x0+8x1", kernel_size=5)
        >>> layer(torch.randn(2, 3, 28, 28)).shape
        torch.Size([2, 24, 28, 28])

    Source: Worrall et al. (2017), https://arxiv.org/abs/1612.04642; the kernel space of de Haan et al. (2021),
    https://arxiv.org/abs/2003.05425.
    """

    def __init__(
        self,
        types_in: Types,
        types_out: Types,
        kernel_size: int = 5,
        rings: int = 2,
        cutoff: float | None = None,
        padding: int | str = "same",
        weight: str = "integral",
        basis: str = "hat",
        self_interaction: bool = True,
        edge_bias: bool = False,
        bias: bool = True,
        antialias: bool = False,
    ) -> None:
        cutoff = _check_window(kernel_size, cutoff)
        if weight not in _WEIGHTS:
            raise ValueError(
                f"weight must be one of {_WEIGHTS}, got {weight!r}: the others count the neighbours of each pixel, "
                "which differ at the border; use GaugeConv on the graph of PlaneGauge for them"
            )
        if antialias and weight != "integral":
            raise ValueError(f"antialias=True takes means over circles: weight must be 'integral', got {weight!r}")
        types_in, types_out = SO2Irreps(types_in), SO2Irreps(types_out)
        if not types_in.dim or not types_out.dim:
            raise ValueError(f"images have no channels without fields, got types_in={types_in}, types_out={types_out}")
        self.kernel_size, self.padding, self.antialias = kernel_size, _read_padding(padding, kernel_size), antialias
        super().__init__(
            types_in, types_out, rings, cutoff, weight, basis, self_interaction, edge_bias, bias, path="auto"
        )
        self._self_map = SelfMap(self._self)
        self._once, self._once_self = ExpandOnce(), ExpandOnce()

    def _grid_kernel(self, device: torch.device) -> GridKernel:
        scale = 1 / (pi * self.cutoff**2) if self.weighting == "integral" and not self.antialias else 1.0  # type: ignore[operator]
        window = Window(self.kernel_size, self.rings, self.cutoff, self.basis, self.antialias, scale)  # type: ignore[arg-type]
        return GridKernel(window, *self._types, device)

    def reset_parameters(self) -> None:
        """Normal weights, zero biases: independent pixels of unit variance give unit variance in every order.

        Half of it comes from the self interaction where both reach an order. :class:`GaugeConv` begins with the same
        variance for one message instead of all.
        """
        super().reset_parameters()
        self._rule = self._grid_kernel(self.weight.device)
        gain = torch.where(self._self.has_source, 0.5, 1.0) if self.self_weight is not None else None
        whole = torch.cat([self.weight, self.weight[..., :1]], dim=-1) if self.edge_bias is not None else self.weight
        whole = whole.detach().clone()
        self._rule.init_(whole, torch.ones(self.types_out.dim) if gain is None else gain)
        with torch.no_grad():
            self.weight.copy_(whole[..., : self.types_in.dim])

    def kernel(self) -> Tensor:
        """The filters of the plain conv2d, ``[types_out.dim, types_in.dim, k, k]`` (one more input for edge biases)."""
        if self.edge_bias is None:
            kernel = self._once(self.weight, self._rule)
        else:
            kernel = self._rule.expand(torch.cat([self.weight, self.edge_bias.unsqueeze(-1)], dim=-1))
        if self.self_weight is None:
            return kernel
        matrix = self._once_self(self.self_weight, self._self_map)
        side, more = self.kernel_size // 2, kernel.size(1) - matrix.size(1)
        return kernel + nn.functional.pad(matrix[:, :, None, None], (side, side, side, side, 0, more))

    def clear_cache(self) -> None:
        """Forgets the kernel; needed only after ``weight.data`` was written to on a GPU."""
        self._once.clear()
        self._once_self.clear()

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Convolves.

        Args:
            x: Images, ``[B, types_in.dim, H, W]``; channels in the layout of the type.

        Returns:
            ``[B, types_out.dim, H', W']``, ``H' = H + 2 padding - k + 1``.

        Raises:
            ValueError: If the shape is wrong or the images are smaller than the window.
        """
        hint = f"images of the type {self.types_in}; for nodes of a graph use GaugeConv"
        check_shape("x", x, "B", self.types_in.dim, "H", "W", hint=hint)
        if min(x.shape[-2:]) + 2 * self.padding < self.kernel_size:
            raise ValueError(
                f"images of {x.size(-2)} x {x.size(-1)} with padding={self.padding} are smaller than kernel_size="
                f"{self.kernel_size}"
            )
        if self.edge_bias is not None:  # one more scalar input, 1 at every pixel
            x = torch.cat([x, x.new_ones(x.size(0), 1, *x.shape[-2:])], dim=1)
        bias = None
        if self.bias is not None:
            bias = self.bias.new_zeros(self.types_out.dim).index_add(0, self._scalars, self.bias)
        return nn.functional.conv2d(x, self.kernel(), bias, padding=self.padding)

    def graph_layer(self) -> GaugeConv:
        """The same layer for graphs, with copies of the parameters: for ``transforms.PlaneGauge`` and other surfaces.

        Raises:
            ValueError: If the kernel is antialiased.
        """
        if self.antialias:
            raise ValueError("kernels with antialias=True have no values between pixels; use antialias=False")
        layer = GaugeConv(
            self.types_in,
            self.types_out,
            self.rings,
            self.cutoff,
            self.weighting,
            self.basis,
            self.self_weight is not None,
            self.edge_bias is not None,
            self.bias is not None,
        ).to(self.weight)
        layer.load_state_dict(self.state_dict())
        return layer

    def train(self, mode: bool = True) -> "GaugeConv2d":
        """As for any module; a change of mode also forgets the kernel."""
        if mode != self.training:
            self.clear_cache()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> "GaugeConv2d":
        super()._apply(fn, recurse)
        self.clear_cache()
        self._rule = self._grid_kernel(self.weight.device)
        return self

    def extra_repr(self) -> str:
        """Types and settings."""
        return (
            f"{self.types_in} -> {self.types_out}, kernel_size={self.kernel_size}, rings={self.rings}, "
            f"cutoff={self.cutoff}, padding={self.padding}, weight={self.weighting!r}, basis={self.basis!r}, "
            f"antialias={self.antialias}"
        )


class SelfMap:
    """Numbers of the self interaction to its matrix, and back: for :class:`ExpandOnce`."""

    def __init__(self, weights: SelfWeights) -> None:
        self.weights = weights

    def expand(self, weight: Tensor) -> Tensor:
        """``[numel]`` to ``[dim_out, dim_in]``."""
        return self.weights.matrix(weight)

    def fold(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`expand`."""
        index, sign = self.weights.index.to(grad.device).flatten(), self.weights.sign.to(grad).flatten()
        return grad.new_zeros(self.weights.numel).index_add(0, index, grad.flatten() * sign)


def _check_window(kernel_size: int, cutoff: float | None) -> float:
    """The cut-off, after a check that the window holds it."""
    if isinstance(kernel_size, bool) or not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and positive (a pixel is the centre of turns), got {kernel_size!r}")
    cutoff = kernel_size / 2 if cutoff is None else cutoff
    if not (isfinite(cutoff) and cutoff > 0):
        raise ValueError(f"cutoff must be positive and finite, got {cutoff}")
    if cutoff * (1 + 1e-9) >= kernel_size // 2 + 1:
        raise ValueError(
            f"a window of {kernel_size} x {kernel_size} pixels does not hold all pixels within cutoff={cutoff}; use "
            f"kernel_size={2 * int(cutoff) + 1}, or a cutoff below {kernel_size // 2 + 1}"
        )
    return float(cutoff)


def _read_padding(padding: int | str, kernel_size: int) -> int:
    if padding == "same":
        return kernel_size // 2
    if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
        raise ValueError(f"padding must be 'same' or one integer >= 0, the same on all sides, got {padding!r}")
    return padding

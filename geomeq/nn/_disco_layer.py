"""What ``DiscoConv`` and ``DiscoConvTranspose`` have in common."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.harmonics import disco_geometry
from geomeq.harmonics.filter_basis import KernelShape
from geomeq.ops._functorch import transforms_functions
from geomeq.spheres import Sampling

from ._disco_paths import PATHS, DiscoPath, disco_path
from .gauge_plan import out_dtype, wide_dtype


class DiscoLayer(nn.Module):
    """A DISCO convolution, forward or transposed; see the subclasses."""

    transposed: bool

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        s_in: Sampling,
        s_out: Sampling | None = None,
        basis: str = "hann",
        kernel_shape: KernelShape = (3, 3),
        cutoff: float | None = None,
        norm: str = "mean",
        groups: int = 1,
        bias: bool = True,
        path: str = "auto",
        chunk: int | None = None,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        s_out = s_in if s_out is None else s_out
        for name, sampling in (("s_in", s_in), ("s_out", s_out)):
            if not isinstance(sampling, Sampling):
                raise TypeError(f"{name} must be a spheres.Sampling, got {type(sampling).__name__}")
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups must divide in_channels and out_channels, got {groups} for {in_channels} and {out_channels}"
            )
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
        if chunk is not None and (not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1):
            raise ValueError(f"chunk must be an integer of at least 1 or None, got {chunk!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.s_in, self.s_out, self.path, self.chunk, self.recompute = s_in, s_out, path, chunk, recompute
        self.geometry = disco_geometry(s_in, s_out, cutoff, basis, kernel_shape, norm, self.transposed)
        if path == "ring" and not self.geometry.on_rings:
            raise ValueError(
                f"path='ring' needs two grids of equal rows and columns that match, got {s_in} and {s_out}; "
                "take path='auto'"
            )
        filters = self.geometry.basis.size
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, filters))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self._operator: DiscoPath | None = None
        self.reset_parameters()
        self._prepare()

    def reset_parameters(self) -> None:
        """Normal weights of variance ``groups / (in_channels K)``, zero bias."""
        nn.init.normal_(self.weight, std=(self.weight.size(1) * self.weight.size(2)) ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @property
    def kind(self) -> str:
        """The path in use, ``"auto"`` resolved for the device."""
        if self.path == "auto" and self.geometry.on_rings:
            return "ring"
        if self.path not in ("auto", "csr"):
            return self.path
        if self.path == "auto" and self.weight.device.type != "cpu":
            return "gather"
        return "csr_product_first" if self._product_first() else "csr"

    def _product_first(self) -> bool:
        """Whether mixing channels before summing over neighbours moves less."""
        sources, targets = self.geometry.size
        inputs, outputs = self.in_channels, self.out_channels
        if self.groups > 1 or outputs >= inputs:
            return False
        edges = self.geometry.num_edges
        return sources * inputs * outputs + edges * outputs < targets * inputs * outputs + edges * inputs

    def _prepare(self) -> None:
        if self.weight.device.type == "meta":
            self._operator = None
            return
        self._operator = disco_path(self.geometry, self.kind, wide_dtype(self.weight), self.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves.

        Args:
            x: Features of the nodes of ``s_in``, ``[N_in, C]`` or ``[..., N_in, C]``.

        Returns:
            Of the nodes of ``s_out``, ``[..., N_out, out_channels]``, in the dtype of the weights.

        Raises:
            TypeError: If ``x`` holds no floating-point numbers.
            ValueError: If ``x`` has another number of nodes or channels.
        """
        nodes = self.geometry.size[0]
        check_shape("x", x, "...", nodes, self.in_channels, hint=f"one row for each node of {self.s_in.kind}")
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, got {x.dtype}; call .float() on it")
        dtype, wide = out_dtype(x, self.weight), wide_dtype(self.weight)
        lead = x.shape[:-2]
        with torch.autocast(x.device.type, enabled=False):
            out = self._convolve(x.to(wide).reshape(-1, nodes, self.in_channels), self.weight.to(wide))
            out = out.reshape(*lead, *out.shape[-2:])
            if self.bias is not None:
                out = out + self.bias.to(wide)
        return out.to(dtype)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """``[B, N_in, C]`` to ``[B, N_out, O]``."""
        operator = self._operator
        if transforms_functions() and self.kind != "ring":  # the plain formula has all derivatives
            operator = disco_path(self.geometry, "edge", weight.dtype, weight.device)
        assert operator is not None
        return operator(x, weight, self.groups, self.chunk or 0, self.recompute)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._prepare()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_operator": None}  # geometry is made again, or shared

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        geometry = self.geometry
        return (
            f"{self.in_channels}, {self.out_channels}, {self.s_in.kind}[{geometry.size[0]}] -> "
            f"{self.s_out.kind}[{geometry.size[1]}], basis={geometry.basis.name!r}, "
            f"kernel_shape={geometry.basis.kernel_shape}, cutoff={geometry.cutoff:.6g}, norm={geometry.norm!r}, "
            f"groups={self.groups}, path={self.path!r}"
        )

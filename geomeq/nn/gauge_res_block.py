"""Two gauge layers with non-linearities and a skip connection that every change of frames leaves alone."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from geomeq.groups import SO2Irreps

from .fourier_nonlinearity import FourierNonlinearity
from .gauge_attention import GaugeAttention
from .gauge_conv import GaugeConv
from .gauge_linear import GaugeLinear
from .gauge_plan import GaugePlan
from .norm_gate import NormGate, NormReLU
from .so2_norm import GaugeDropout, SO2BatchNorm

NONLINEARITIES = ("fourier", "norm_gate", "scalar_gate", "norm_relu")
NORMS = (None, "batch", "samples")
LAYERS = ("conv", "attention")


class GaugeResBlock(nn.Module):
    r"""Layer, non-linearity, layer, plus skip, non-linearity: the residual block of gauge-equivariant mesh networks.

    The skip is the identity where types agree, else a :class:`GaugeLinear`: each order by itself, with a bias on order
    0 only. (A bias on every component, as in the published code, makes a block of 3 -> 4 channels depend on the frames
    by 44 %.)

    Args:
        types_in: Type of the input.
        types_out: Type of the output.
        types_hidden: Type between the layers; by default that of the output, and every order of the input.
        layer: ``"conv"`` (:class:`GaugeConv`) or ``"attention"`` (:class:`GaugeAttention`).
        rings, cutoff, weight: Of both layers.
        nonlinearity: ``"fourier"``, ``"norm_gate"``, ``"scalar_gate"`` or ``"norm_relu"``.
        act: Its function.
        samples: Of ``"fourier"``.
        norm: Before each non-linearity: ``None``, ``"batch"`` (:class:`SO2BatchNorm`, one scale per field) or
            ``"samples"`` (with ``"fourier"``: one scale per channel).
        dropout: Of whole fields, after the first non-linearity.
        layer_options: Further arguments of both layers, such as ``basis`` or ``heads``.

    Raises:
        ValueError: If an option does not exist.

    Example:
        >>> import torch
        >>> block = GaugeResBlock("3x0", "8x0+8x1")
        >>> edge_index = torch.tensor([[1, 0], [0, 1]])
        >>> block(torch.randn(2, 3), edge_index, torch.ones(2, 2), torch.zeros(2)).shape
        torch.Size([2, 24])

    Source: de Haan et al. (2021), https://arxiv.org/abs/2003.05425
    """

    def __init__(
        self,
        types_in: SO2Irreps | str,
        types_out: SO2Irreps | str,
        types_hidden: SO2Irreps | str | None = None,
        layer: str = "conv",
        rings: int = 1,
        cutoff: float | None = None,
        weight: str = "auto",
        nonlinearity: str = "fourier",
        act: str | Callable[[Tensor], Tensor] = "silu",
        samples: int | None = None,
        norm: str | None = None,
        dropout: float = 0.0,
        layer_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value, known in (("layer", layer, LAYERS), ("norm", norm, NORMS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        self.types_in, self.types_out = SO2Irreps(types_in), SO2Irreps(types_out)
        hidden = self._between() if types_hidden is None else SO2Irreps(types_hidden)
        kind = GaugeConv if layer == "conv" else GaugeAttention
        options = {"rings": rings, "cutoff": cutoff, "weight": weight, **(layer_options or {})}
        self.first = kind(self.types_in, hidden, **options)
        self.second = kind(hidden, self.types_out, **options)
        self.skip = None if self.types_in == self.types_out else GaugeLinear(self.types_in, self.types_out)
        self.norms = nn.ModuleList(
            SO2BatchNorm(types) if norm == "batch" else nn.Identity() for types in (hidden, self.types_out)
        )
        self.acts = nn.ModuleList(
            make_nonlinearity(types, nonlinearity, act, samples, norm == "samples")
            for types in (hidden, self.types_out)
        )
        self.dropout = GaugeDropout(hidden, dropout) if dropout else None

    def _between(self) -> SO2Irreps:
        out = self.types_out.regroup()
        widest = max((block.mul for block in out), default=1)
        missing = [(widest, block.order) for block in self.types_in.regroup() if not out.count(block.order)]
        return (out + SO2Irreps(missing)).regroup()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | GaugePlan,
        polar: Tensor | None = None,
        transport: Tensor | None = None,
        area: Tensor | None = None,
    ) -> Tensor:
        """Applies the block; arguments and errors as in :class:`GaugeConv`.

        Args:
            x: ``[..., N, types_in.dim]``.
            edge_index: ``[2, E]``, or a plan that holds all that follows.
            polar: ``[E, 2]``.
            transport: ``[E]``.
            area: ``[N]``.

        Returns:
            ``[..., N, types_out.dim]``.
        """
        y = self.acts[0](self.norms[0](self.first(x, edge_index, polar, transport, area)))
        y = y if self.dropout is None else self.dropout(y)
        y = self.norms[1](self.second(y, edge_index, polar, transport, area))
        return self.acts[1](y + (x if self.skip is None else self.skip(x)))  # type: ignore[no-any-return]

    def prepare(
        self, x: Tensor, edge_index: Tensor, polar: Tensor, transport: Tensor, area: Tensor | None = None
    ) -> GaugePlan:
        """The plan of a geometry, made once per graph; blocks of equal settings can share it."""
        return self.first._plan_of(x, edge_index, polar, transport, area)

    def extra_repr(self) -> str:
        """The types."""
        return f"{self.types_in} -> {self.types_out}"


def make_nonlinearity(
    types: SO2Irreps, kind: str, act: str | Callable[[Tensor], Tensor], samples: int | None, norm: bool
) -> nn.Module:
    """The non-linearity of a name."""
    if kind not in NONLINEARITIES:
        raise ValueError(f"nonlinearity must be one of {', '.join(NONLINEARITIES)}, got {kind!r}")
    if norm and kind != "fourier":
        raise ValueError(f"norm='samples' goes with nonlinearity='fourier', not {kind!r}; use norm='batch'")
    if kind == "fourier":
        return FourierNonlinearity(types, act, samples, norm=norm)
    if kind == "norm_relu":
        return NormReLU(types, act)
    return NormGate(types, "norm" if kind == "norm_gate" else "scalars", act)

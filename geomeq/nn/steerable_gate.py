"""A steerable linear map followed by a gated activation."""

from e3nn import o3
from torch import Tensor, nn

from ._gate import gate
from ._graph import AttributeCouplings
from ._paths import from_kinds, layout
from .steerable_linear import SteerableLinear

_SCALAR = o3.Irrep("0e")


class SteerableGate(nn.Module):
    r"""Clebsch-Gordan product with an attribute, then SiLU on scalars and sigmoid gates on everything else.

    The product also makes one gate (an even scalar) per channel that is not an even scalar. Activations are scaled to
    unit second moment: :math:`1.677 \, \text{SiLU}` and :math:`1.846 \, \sigma`, so that a standard normal input keeps
    its variance. Message form: tensor (3).

    Args:
        irreps_in: Type of the input.
        irreps_attr: Type of the attribute, component-normalised.
        irreps_out: Type of the output.

    Example:
        >>> import torch
        >>> layer = SteerableGate("8x0e + 8x1o", "1x0e + 1x1o", "4x0e + 4x1o")
        >>> layer(torch.randn(5, 32), torch.randn(5, 4)).shape
        torch.Size([5, 16])

    Source: Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905, sec. 3.
    """

    def __init__(self, irreps_in: o3.Irreps | str, irreps_attr: o3.Irreps | str, irreps_out: o3.Irreps | str) -> None:
        super().__init__()
        self.irreps_in = o3.Irreps(irreps_in)
        self.irreps_attr = o3.Irreps(irreps_attr)
        self.irreps_out = o3.Irreps(irreps_out)
        self.num_scalars = sum(mul for mul, ir in self.irreps_out if ir == _SCALAR)
        # By degree: then the channels that have a component of order m are the last ones (see _frame.py).
        kinds = sorted(dict.fromkeys(ir for mul, ir in self.irreps_out if mul and ir != _SCALAR), key=lambda ir: ir.l)
        rest = [(sum(mul for mul, other in self.irreps_out if other == ir), ir) for ir in kinds]
        self.num_gates = sum(mul for mul, _ in rest)
        self.linear = SteerableLinear(
            self.irreps_in, self.irreps_attr, o3.Irreps([(self.num_scalars + self.num_gates, _SCALAR), *rest])
        )
        self._rest = [(mul, str(ir)) for mul, ir in rest]
        self._out, self._dim_out = layout(self.irreps_out), self.irreps_out.dim

    def forward(self, x: Tensor, attr: Tensor | AttributeCouplings) -> Tensor:
        """Applies the map and the gate.

        Args:
            x: Features, ``[..., irreps_in.dim]``.
            attr: Attribute, ``[..., irreps_attr.dim]``, or its shared couplings.

        Returns:
            ``[..., irreps_out.dim]``.

        Raises:
            ValueError: If the last axis of ``x`` or ``attr`` differs from its irreps.
        """
        return self.finish(self.linear.kinds(x, attr)).reshape(*x.shape[:-1], self._dim_out)

    def finish(self, kinds: dict[str, Tensor]) -> Tensor:
        """Gates the output of the linear map (one ``[N, 2l+1, C]`` per kind of irrep): ``[N, irreps_out.dim]``."""
        first = kinds["0e"].squeeze(1)
        rest, at = [], 0
        for mul, kind in self._rest:
            rest.append((kinds[kind], at))
            at += mul
        scalars, gated = gate(first[:, : self.num_scalars], first[:, self.num_scalars :], rest)
        kinds = {"0e": scalars[:, None], **{kind: t for (_, kind), t in zip(self._rest, gated, strict=True)}}
        return from_kinds(kinds, self._out)

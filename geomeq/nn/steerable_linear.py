"""The linear map of steerable networks: a Clebsch-Gordan product with an attribute."""

from typing import Literal

import torch
from e3nn import o3
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops._product import addmm, matmul

from ._graph import AttributeCouplings
from ._paths import ProductGroup, SteerablePaths, WeightAssembly, from_kinds, layout, product_group, to_table, widths

_SCALAR = o3.Irrep("0e")


class SteerableLinear(nn.Module):
    r"""Every equivariant linear map that an attribute :math:`a` can steer.

    .. math:: y^{l_3}_w = b_w [l_3 = 0e] + \sqrt{2 l_3 + 1} \sum_{(l_1, l_2, l_3)} \sum_{u, v} W_{uvw}
              \; C^{l_1 l_2 l_3}(x^{l_1}_u, a^{l_2}_v)

    with the real 3j symbols :math:`C` of unit norm and one weight per path, shared over all nodes or edges. With the
    constant attribute 1 it is an ordinary linear map on equal irreps. Weights and biases start uniform in
    :math:`\pm 1/\sqrt{\text{fan-in}}`, so unit-variance inputs give outputs of standard deviation
    :math:`1/\sqrt 3`, as ``nn.Linear`` does. Message form: tensor (3).

    Args:
        irreps_in: Type of the input.
        irreps_attr: Type of the attribute, component-normalised.
        irreps_out: Type of the output.
        bias: Whether even scalars get a bias.
        unreachable: What to do about outputs that no product gives: ``"error"``, or ``"zero"`` to leave them 0.

    Example:
        >>> layer = SteerableLinear("8x0e + 8x1o", "1x0e + 1x1o", "4x0e + 4x1o")
        >>> layer(torch.randn(5, 32), torch.randn(5, 4)).shape
        torch.Size([5, 16])

    Source: Brandstetter et al. (2022), https://arxiv.org/abs/2110.02905, eq. 7 and 12.
    """

    def __init__(
        self,
        irreps_in: o3.Irreps | str,
        irreps_attr: o3.Irreps | str,
        irreps_out: o3.Irreps | str,
        bias: bool = True,
        unreachable: Literal["error", "zero"] = "error",
    ) -> None:
        super().__init__()
        self.irreps_in = o3.Irreps(irreps_in)
        self.irreps_attr = o3.Irreps(irreps_attr)
        self.irreps_out = o3.Irreps(irreps_out)
        self.paths = SteerablePaths(self.irreps_in, self.irreps_attr, self.irreps_out)
        for fan_in, slice_out in zip(self.paths.fan_in, self.irreps_out, strict=True):
            if slice_out.dim and not fan_in and unreachable == "error":
                raise ValueError(
                    f"no product of {self.irreps_in} with the attribute {self.irreps_attr} gives {slice_out}; "
                    "raise the degree of the attribute or of the input, or drop that output"
                )
        self.weight = nn.Parameter(torch.empty(self.paths.num_weights))
        scalars = sum(mul for mul, ir in self.irreps_out if ir == _SCALAR)
        self.bias = nn.Parameter(torch.empty(scalars)) if bias and scalars else None

        self._in, self._out = layout(self.irreps_in), layout(self.irreps_out)
        self._dims = (self.irreps_in.dim, self.irreps_attr.dim, self.irreps_out.dim)
        self._hints = (f"the layer was built for irreps_in={self.irreps_in}", f"irreps_attr is {self.irreps_attr}")
        self._widths = widths(self.irreps_in)
        # Output slices of one irrep are the columns of one matrix.
        self._columns: dict[str, int] = {}
        for mul, ir in self.irreps_out:
            if mul:
                self._columns[str(ir)] = self._columns.get(str(ir), 0) + mul
        twins = {(p.source, p.attr, p.target): p for p in self.paths.paths}
        self._groups: list[tuple[int, str, ProductGroup]] = []
        shapes: list[tuple[int, int]] = []
        blocks: list[tuple[int, int, int, float, Tensor]] = []
        for kind, columns in self._columns.items():
            ir = o3.Irrep(kind)
            for w, width in enumerate(self._widths):
                group, members = product_group(self.paths, width, ir)
                if not members:
                    continue
                self._groups.append((w, kind, group))
                for row, (path, copy) in enumerate(members):
                    column = 0
                    for o, (mul, other) in enumerate(self.irreps_out):
                        if other == ir and mul:
                            positions = self.paths.block(twins[path.source, path.attr, o], copy)
                            blocks.append((len(shapes), row * width.mul, column, 1.0, positions))
                            column += mul
                shapes.append((len(members) * width.mul, columns))
        self._assemble = WeightAssembly(shapes, blocks)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights and biases uniformly from plus/minus 1/sqrt(fan-in)."""
        with torch.no_grad():
            self.weight.copy_((2 * torch.rand_like(self.weight) - 1) * self.paths.init_bounds().to(self.weight))
            if self.bias is not None:
                bounds = [
                    torch.full((mul,), max(fan_in, 1) ** -0.5)
                    for (mul, ir), fan_in in zip(self.irreps_out, self.paths.fan_in, strict=True)
                    if ir == _SCALAR and mul
                ]
                self.bias.copy_((2 * torch.rand_like(self.bias) - 1) * torch.cat(bounds).to(self.bias))

    def forward(self, x: Tensor, attr: Tensor | AttributeCouplings) -> Tensor:
        r"""Applies the map.

        Args:
            x: Features, ``[..., irreps_in.dim]``.
            attr: Attribute of each node or edge, ``[..., irreps_attr.dim]``. A
                :class:`~geomeq.nn._graph.AttributeCouplings` shares the work between layers.

        Returns:
            ``[..., irreps_out.dim]``.

        Raises:
            ValueError: If the last axis of ``x`` or ``attr`` differs from its irreps.
        """
        return from_kinds(self.kinds(x, attr), self._out).reshape(*x.shape[:-1], self._dims[2])

    def kinds(self, x: Tensor, attr: Tensor | AttributeCouplings) -> dict[str, Tensor]:
        """The map, with one output ``[N, 2l+1, channels]`` per kind of irrep; all leading axes become ``N``."""
        dim_in, dim_attr, _ = self._dims
        check_shape("x", x, "...", dim_in, hint=self._hints[0])
        if isinstance(attr, Tensor):
            check_shape("attr", attr, *x.shape[:-1], dim_attr, hint=self._hints[1])
            attr = AttributeCouplings(attr.reshape(-1, dim_attr))
        # The equivariant core stays in the precision of the weights under autocast.
        with torch.autocast(x.device.type, enabled=False):
            x = x.reshape(-1, dim_in).to(self.weight.dtype)
            tables = [to_table(x, self._in, width) for width in self._widths]
            matrices = self._assemble(self.weight)
            out: dict[str, Tensor] = {}
            for kind, columns in self._columns.items():
                rows: Tensor | None = self.bias if kind == "0e" else None
                for (w, made, group), matrix in zip(self._groups, matrices, strict=True):
                    if made == kind:
                        coupled = attr.get(group).apply(tables[w])
                        coupled = coupled.view(x.size(0) * (2 * int(kind[:-1]) + 1), matrix.size(0))
                        rows = matmul(coupled, matrix) if rows is None else addmm(rows, coupled, matrix)
                shape = (x.size(0), 2 * int(kind[:-1]) + 1, columns)
                if rows is None:  # unreachable
                    out[kind] = x.new_zeros(shape)
                elif rows.dim() == 1:  # only the bias
                    out[kind] = rows.expand(shape)
                else:
                    out[kind] = rows.view(shape)
            return out

    def extra_repr(self) -> str:
        """The types and the number of weights."""
        return f"{self.irreps_in} x {self.irreps_attr} -> {self.irreps_out}, weights={self.weight.numel()}"

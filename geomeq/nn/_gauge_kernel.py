"""Weights of gauge-equivariant kernels: powers of the radius, the edge formula, and self interaction."""

from math import sqrt

import torch
from torch import Tensor

from geomeq.groups import SO2Irreps
from geomeq.groups._lasting import lasting

from ._gauge_radial import mean_square


def column_orders(types: SO2Irreps) -> Tensor:
    """The order of every component of a feature, ``[dim]``."""
    return torch.tensor([order for mul, order in types for _ in range(mul * (2 if order else 1))], dtype=torch.long)


def quarter_turn(types: SO2Irreps) -> tuple[Tensor, Tensor]:
    """Multiplication by ``i`` as columns and signs: ``(i z) = sign * z[..., column]``; zero on order 0."""
    order = column_orders(types)
    column, sign = torch.arange(types.dim), torch.zeros(types.dim)
    for block, columns in zip(types, types.slices(), strict=True):
        if block.order:
            real = torch.arange(columns.start, columns.stop, 2)
            column[real], column[real + 1] = real + 1, real
            sign[real], sign[real + 1] = -1.0, 1.0
    assert bool(((sign != 0) == (order > 0)).all())
    return column, sign


class KernelPowers:
    r"""Splits a matrix ``B`` into parts that carry different powers of ``r``.

    Between orders :math:`n \to m` the kernel :math:`a e^{i(m-n)\varphi} z + b e^{i(m+n)\varphi} \bar z` has one value
    at :math:`r = 0` only if its terms fall off as :math:`r^{|m-n|}` and :math:`r^{m+n}`. The first is the part of ``B``
    that commutes with :math:`i`, the second the part that anticommutes.
    """

    def __init__(self, types_in: SO2Irreps, types_out: SO2Irreps) -> None:
        self.order_in, self.order_out = column_orders(types_in), column_orders(types_out)
        self.turn_in, self.turn_out = quarter_turn(types_in), quarter_turn(types_out)
        self.powers = sorted({int(p) for table in self.tables() for p in table.unique()})

    def tables(self) -> tuple[Tensor, Tensor]:
        """Powers of the commuting and of the anticommuting part, ``[dim_out, dim_in]`` each."""
        m, n = self.order_out[:, None], self.order_in
        return (m - n).abs(), m + n

    def split(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The commuting and the anticommuting part; where an order is 0 both are half of it and have equal powers."""
        (row, row_sign), (column, column_sign) = self.turn_out, self.turn_in
        device = weight.device
        sign = (row_sign[:, None] * column_sign).to(device, weight.dtype)
        turned = weight.index_select(-2, row.to(device)).index_select(-1, column.to(device)) * sign
        return (weight + turned) / 2, (weight - turned) / 2  # turned = -i B i

    def by_power(self, weight: Tensor) -> dict[int, Tensor]:
        """``B = sum_p B_p`` with the entries of ``B_p`` multiplied by ``(r / cutoff)^p`` in the kernel."""
        parts = list(zip(self.split(weight), self.tables(), strict=True))
        return {p: sum(part * (table == p).to(weight) for part, table in parts) for p in self.powers}  # type: ignore[misc]

    def init_(self, weight: Tensor, gain: Tensor, rings: int, cutoff: float | None, basis: str) -> None:
        """Normal weights: one message of unit-variance features has variance ``gain`` in each row, averaged over r."""
        fan_in = max(self.order_in.numel(), 1)
        share = {p: mean_square(p, rings, cutoff, basis) for p in self.powers}
        drawn = torch.randn_like(weight)
        out = torch.zeros_like(weight)
        for power, part in self.by_power(drawn).items():
            out += part / sqrt(share[power] * fan_in)
        with torch.no_grad():
            weight.copy_(out * gain.to(weight).sqrt()[:, None])


def edge_messages(
    x: Tensor,
    weight: Tensor,
    edge_index: Tensor,
    angle: Tensor,
    transport: Tensor,
    radial: Tensor,
    ratio: Tensor | None,
    types: tuple[SO2Irreps, SO2Irreps],
    powers: KernelPowers,
    num_targets: int,
) -> Tensor:
    r"""The layer as its formula says, one message per edge; differentiable in everything.

    .. math:: y_i = \sum_{e = (j \to i)} \rho_{out}(\varphi_e) \Big[\sum_k \phi_k(r_e) B_k\Big] \rho_{in}(-\varphi_e)
        \, \rho_{in}(\theta_e) \, x_j

    Args:
        x: ``[..., N, dim_in]``.
        weight: :math:`B`, ``[R, dim_out, dim_in]``.
        edge_index: Source and target, ``[2, E]``.
        angle: :math:`\varphi`, ``[E]``.
        transport: :math:`\theta`, ``[E]``.
        radial: Profiles times the weight of the neighbour, ``[E, R]``.
        ratio: ``r / cutoff`` ``[E]`` for kernels that carry powers of it, else ``None``.
        types: Types of ``x`` and of the result.
        powers: Of these types.
        num_targets: Nodes that receive.

    Returns:
        ``[..., num_targets, dim_out]``.
    """
    (source, target), (types_in, types_out) = edge_index, types
    at_target = types_in.rotate(x.index_select(-2, source), transport)
    along = types_in.rotate(at_target, -angle)
    parts = {0: weight} if ratio is None else powers.by_power(weight)
    message = along.new_zeros(*along.shape[:-1], types_out.dim)
    for power, part in parts.items():
        for k, matrix in enumerate(part):
            profile = radial[:, k] if ratio is None or power == 0 else radial[:, k] * ratio**power
            message = message + profile[:, None] * (along @ matrix.T)
    message = types_out.rotate(message, angle)
    return x.new_zeros(*x.shape[:-2], num_targets, types_out.dim).index_add(-2, target, message)


class SelfWeights:
    """The maps that commute with every rotation: a real number per pair of scalars, a complex one per pair above."""

    def __init__(self, types_in: SO2Irreps, types_out: SO2Irreps) -> None:
        self.types_in, self.types_out = types_in, types_out
        order_in, order_out = column_orders(types_in), column_orders(types_out)
        same = order_out[:, None] == order_in
        self.has_source = same.any(dim=1)
        self.index, self.sign, self.fan_in, self.numel = self._table(same)
        self._moved: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def _table(self, same: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """For each entry of the matrix the number it takes and its sign; the fan-in of each number."""
        index, sign = torch.zeros(same.shape, dtype=torch.long), torch.zeros(same.shape)
        fan_in, start = [], 0
        for block_out, rows in zip(self.types_out, self.types_out.slices(), strict=True):
            for block_in, columns in zip(self.types_in, self.types_in.slices(), strict=True):
                if block_out.order != block_in.order:
                    continue
                parts = 2 if block_out.order else 1
                count = block_out.mul * block_in.mul
                number = start + torch.arange(parts * count).view(block_out.mul, block_in.mul, parts)
                if parts == 1:
                    index[rows, columns], sign[rows, columns] = number[..., 0], 1.0
                else:
                    real, imaginary = number.unbind(-1)
                    for (r, c), table, s in (
                        ((0, 0), real, 1.0),
                        ((1, 1), real, 1.0),
                        ((1, 0), imaginary, 1.0),
                        ((0, 1), imaginary, -1.0),
                    ):
                        index[rows, columns][r::2, c::2] = table
                        sign[rows, columns][r::2, c::2] = s
                fan_in.append(torch.full((parts * count,), float(parts * self.types_in.count(block_in.order))))
                start += parts * count
        return index, sign, torch.cat([*fan_in, torch.empty(0)]), start

    def matrix(self, weight: Tensor) -> Tensor:
        """The matrix ``[dim_out, dim_in]`` of the numbers ``[numel]``."""
        index, sign = self._tables(weight)
        return weight.index_select(0, index).view(sign.shape) * sign

    def _tables(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Index and sign where the weights are."""
        key = weight.device, weight.dtype
        if key in self._moved:
            return self._moved[key]
        if torch.compiler.is_compiling():
            return self._move(weight)
        self._moved[key] = lasting(self._move)(weight)
        return self._moved[key]

    def _move(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self.index.flatten().to(weight.device), self.sign.to(weight)

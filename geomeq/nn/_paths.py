"""Which irreps couple to which through an attribute, where their weights lie, and how weights become matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor

from geomeq.groups._lasting import lasting
from geomeq.ops.coupling import CouplingRows


@dataclass(frozen=True)
class Path:
    """One Clebsch-Gordan product: input slice x attribute slice -> output slice."""

    source: int
    attr: int
    target: int
    offset: int
    """First weight of the path in the flat parameter; the weights are ``[mul_in, mul_attr, mul_out]``."""


class SteerablePaths:
    """All products the selection rules allow, with the weight layout of e3nn's fully connected product."""

    def __init__(self, irreps_in: o3.Irreps, irreps_attr: o3.Irreps, irreps_out: o3.Irreps) -> None:
        self.irreps_in, self.irreps_attr, self.irreps_out = irreps_in, irreps_attr, irreps_out
        self.paths: list[Path] = []
        self.fan_in = [0] * len(irreps_out)
        offset = 0
        for i, (mul_in, ir_in) in enumerate(irreps_in):
            for a, (mul_attr, ir_attr) in enumerate(irreps_attr):
                for o, (mul_out, ir_out) in enumerate(irreps_out):
                    if ir_out in ir_in * ir_attr:
                        self.paths.append(Path(i, a, o, offset))
                        self.fan_in[o] += mul_in * mul_attr
                        offset += mul_in * mul_attr * mul_out
        self.num_weights = offset

    def init_bounds(self) -> Tensor:
        """Half width of the uniform distribution of each weight: 1/sqrt(fan-in of its output slice)."""
        bound = torch.empty(self.num_weights)
        for p in self.paths:
            size = self.irreps_in[p.source].mul * self.irreps_attr[p.attr].mul * self.irreps_out[p.target].mul
            bound[p.offset : p.offset + size] = self.fan_in[p.target] ** -0.5
        return bound

    def block(self, path: Path, copy: int = 0) -> Tensor:
        """Positions of the weights of one copy of the attribute, ``[mul_in, mul_out]``."""
        mul_in, mul_attr = self.irreps_in[path.source].mul, self.irreps_attr[path.attr].mul
        mul_out = self.irreps_out[path.target].mul
        index = path.offset + torch.arange(mul_in * mul_attr * mul_out).view(mul_in, mul_attr, mul_out)
        return index[:, copy]


class Constant:
    """A float64 array handed out in the dtype and on the device of its user, each conversion made once.

    A buffer would be rounded by ``module.float()`` and stay rounded after ``module.double()``.
    """

    def __init__(self, value: Tensor) -> None:
        self._made = {(value.device, value.dtype): value}
        self._value = value

    def on(self, device: torch.device) -> Tensor:
        """The array in its own dtype on a device."""
        key = (device, self._value.dtype)
        if key not in self._made:
            self._made[key] = self._converted(*key)
        return self._made[key]

    def like(self, other: Tensor) -> Tensor:
        """The array in the dtype and on the device of ``other``."""
        key = (other.device, other.dtype)
        if key not in self._made:
            self._made[key] = self._converted(*key)
        return self._made[key]

    @lasting
    def _converted(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        return self._value.to(device, dtype)


class WeightAssembly:
    """Builds the matrices of one layer from its flat weight: every entry is a fixed combination of few weights.

    Args:
        shapes: Rows and columns of each matrix.
        blocks: ``(matrix, row, column, coefficient, positions [rows, columns])``: adds coefficient times the weights
            at ``positions`` to a block of a matrix.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], blocks: Sequence[tuple[int, int, int, float, Tensor]]
    ) -> None:
        self.shapes = list(shapes)
        sizes = [rows * cols for rows, cols in shapes]
        start = [sum(sizes[:k]) for k in range(len(sizes))]
        total = sum(sizes)
        terms = torch.zeros(total, dtype=torch.long)
        entries: list[tuple[Tensor, Tensor, float]] = []
        for matrix, row, col, coefficient, positions in blocks:
            cols = self.shapes[matrix][1]
            rows_at = start[matrix] + (row + torch.arange(positions.size(0)))[:, None] * cols
            place = (rows_at + col + torch.arange(positions.size(1))).reshape(-1)
            entries.append((place, positions.reshape(-1), coefficient))
            terms[place] += 1
        depth = max(1, int(terms.max())) if total else 1
        index = torch.zeros(depth, total, dtype=torch.long)
        coefficients = torch.zeros(depth, total, dtype=torch.float64)
        terms.zero_()
        for place, positions, coefficient in entries:
            index[terms[place], place] = positions
            coefficients[terms[place], place] = coefficient
            terms[place] += 1
        self._sizes, self._depth = sizes, depth
        self._index, self._coefficients = index.reshape(-1), Constant(coefficients)
        self._indices = {torch.device("cpu"): self._index}

    def __call__(self, weight: Tensor) -> list[Tensor]:
        """The matrices for the flat weight ``[W]``."""
        if weight.device not in self._indices:
            self._indices[weight.device] = lasting(self._index.to)(weight.device)
        picked = weight.index_select(0, self._indices[weight.device]).view(self._depth, -1)
        mixed = picked * self._coefficients.like(weight)
        flat = mixed[0] if self._depth == 1 else mixed.sum(0)
        return [part.view(shape) for part, shape in zip(flat.split(self._sizes), self.shapes, strict=True)]


@dataclass(frozen=True)
class Slice:
    """One slice of an irreps in plain values: ``torch.compile`` cannot guard e3nn's own objects."""

    mul: int
    dim: int
    """Components of one copy, 2l + 1."""
    degree: int
    kind: str
    begin: int
    end: int


def layout(irreps: o3.Irreps) -> tuple[Slice, ...]:
    """The slices of ``irreps``, empty ones too."""
    return tuple(
        Slice(mul, ir.dim, ir.l, str(ir), span.start, span.stop)
        for (mul, ir), span in zip(irreps, irreps.slices(), strict=True)
    )


@dataclass(frozen=True)
class Width:
    """The slices of an irreps that share one multiplicity: they travel as one table ``[N, rows, mul]``."""

    mul: int
    slices: tuple[int, ...]
    start: tuple[int, ...]
    """First row of each slice in the table."""
    rows: int


def widths(irreps: o3.Irreps) -> list[Width]:
    """Splits the slices of ``irreps`` by multiplicity, in order of first appearance."""
    groups: dict[int, list[int]] = {}
    for s, (mul, ir) in enumerate(irreps):
        if mul * ir.dim:
            groups.setdefault(mul, []).append(s)
    out = []
    for mul, members in groups.items():
        dims = [irreps[s].ir.dim for s in members]
        start = tuple(sum(dims[:k]) for k in range(len(dims)))
        out.append(Width(mul, tuple(members), start, sum(dims)))
    return out


def to_table(x: Tensor, slices: Sequence[Slice], width: Width) -> Tensor:
    """From e3nn's layout ``[N, dim]`` to rows of channels ``[N, rows, mul]``."""
    members = [slices[s] for s in width.slices]
    parts = [x[:, p.begin : p.end].view(x.size(0), p.mul, p.dim).transpose(1, 2) for p in members]
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0].contiguous()


def from_tables(tables: Sequence[Tensor], slices: Sequence[Slice], groups: Sequence[Width]) -> Tensor:
    """The inverse of :func:`to_table` over all widths: ``[N, dim]`` in e3nn's layout."""
    parts: dict[int, Tensor] = {}
    for table, width in zip(tables, groups, strict=True):
        for s, at in zip(width.slices, width.start, strict=True):
            parts[s] = table[:, at : at + slices[s].dim].transpose(1, 2).flatten(1)
    return torch.cat([parts[s] for s in sorted(parts)], dim=1)


def from_kinds(kinds: dict[str, Tensor], slices: Sequence[Slice]) -> Tensor:
    """From one ``[N, 2l+1, channels]`` per kind of irrep to e3nn's layout ``[N, dim]``.

    Slices of one kind take its channels in turn.
    """
    used = dict.fromkeys(kinds, 0)
    parts = []
    for p in slices:
        if p.mul:
            part = kinds[p.kind][:, :, used[p.kind] : used[p.kind] + p.mul]
            parts.append(part.transpose(1, 2).flatten(1))
            used[p.kind] += p.mul
    return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class ProductGroup:
    """All products of one input width into one output irrep: a coupling followed by a matrix."""

    key: str
    rows: CouplingRows
    matrix: Constant
    """Coefficients as a linear function of the attribute, ``[attr dim, T]``."""


def product_group(paths: SteerablePaths, width: Width, ir_out: o3.Irrep) -> tuple[ProductGroup, list[tuple[Path, int]]]:
    """Couples every slice of ``width`` to ``ir_out`` through every copy of the attribute.

    Returns:
        The group, and for each block of ``mul`` columns its path (towards the first slice of that irrep) and copy.
    """
    irreps_in, irreps_attr = paths.irreps_in, paths.irreps_attr
    first = next(o for o, (_, ir) in enumerate(paths.irreps_out) if ir == ir_out)
    members = [
        (p, copy)
        for p in paths.paths
        if p.target == first and p.source in width.slices
        for copy in range(irreps_attr[p.attr].mul)
    ]
    spans = irreps_attr.slices()
    start, length, columns = [], [], []
    for k in range(ir_out.dim):
        for p, copy in members:
            ir_in, ir_attr = irreps_in[p.source].ir, irreps_attr[p.attr].ir
            symbol = o3.wigner_3j(ir_in.l, ir_attr.l, ir_out.l, dtype=torch.float64) * ir_out.dim**0.5
            column = torch.zeros(irreps_attr.dim, ir_in.dim, dtype=torch.float64)
            at = spans[p.attr].start + copy * ir_attr.dim
            column[at : at + ir_attr.dim] = symbol[:, :, k].T
            start.append(width.start[width.slices.index(p.source)])
            length.append(ir_in.dim)
            columns.append(column)
    matrix = torch.cat(columns, dim=1) if columns else torch.zeros(irreps_attr.dim, 0, dtype=torch.float64)
    rows = CouplingRows(width.rows, (0,) * len(start), tuple(start), tuple(length))
    inputs = "+".join(f"{irreps_in[s].ir}@{at}" for s, at in zip(width.slices, width.start, strict=True))
    group = ProductGroup(f"{inputs}|{irreps_attr}|{ir_out}", rows, Constant(matrix))
    return group, members

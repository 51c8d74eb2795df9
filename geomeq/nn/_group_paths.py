"""The fast paths of a group convolution: a dense matrix, Fourier blocks, and a plain convolution on a torus."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geomeq.groups.finite import FiniteGroup
from geomeq.groups.homogeneous import HomogeneousSpace
from geomeq.ops._product import matmul

from ._once import ExpandOnce
from ._pair_orbits import PairOrbits

# What a moved number, a number of an expanded table and a kernel call cost, in multiplications of a matrix product;
# forward and backward by measurement (examples/benchmarks, case group_conv_paths), within a factor of two.
MOVE, EXPAND, CALL = 8, 40, 250_000


# Dimension of the commutant of a real irrep. Its images of every second or fourth row are the rows between.
_COMMUTANT = {"real": 1, "complex": 2, "quaternionic": 4}


class Tables:
    """Tensors fixed by the geometry, copied once to each device and dtype in which they are asked for."""

    def __init__(self, **tensors: Tensor) -> None:
        self._tensors = tensors
        self._copies: dict[Any, Tensor] = {}

    def get(self, name: str, like: Tensor) -> Tensor:
        """The tensor on the device of ``like`` and, if it is floating point, in its dtype."""
        tensor = self._tensors[name]
        dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
        if tensor.device == like.device and tensor.dtype == dtype:
            return tensor
        key = (name, like.device, dtype)
        if key not in self._copies:
            if torch.compiler.is_compiling():
                return tensor.to(like.device, dtype)
            with torch.inference_mode(False):  # it serves training later
                self._copies[key] = tensor.to(like.device, dtype)
        return self._copies[key]


class DensePath:
    """One matrix product with the full table, ``[|X| Ci, |Y| Co]``.

    Args:
        rows: The row of the weight for each pair, ``[|Y|, |X|]``.
        num_rows: Number of rows; pairs without one have this number.
    """

    name = "dense"

    def __init__(self, rows: Tensor, num_rows: int) -> None:
        self.size = (rows.size(1), rows.size(0))
        self.full = int(rows.max()) < num_rows
        self.num_rows = num_rows
        self.tables = Tables(index=rows.T.contiguous().view(-1))
        self.once = ExpandOnce()

    def cost(self, batch: int, channels: int, outputs: int) -> float:
        """Multiplications, or what takes as long."""
        pairs = self.size[0] * self.size[1] * channels * outputs
        return (batch + EXPAND) * pairs + 10 * CALL

    def expand(self, weight: Tensor) -> Tensor:
        """``[R, Ci, Co]`` to ``[Ci |X|, |Y| Co]``."""
        by_channel = weight.transpose(0, 1)
        if not self.full:
            by_channel = F.pad(by_channel, (0, 0, 0, 1))
        return by_channel.index_select(1, self.tables.get("index", weight)).reshape(
            weight.size(1) * self.size[0], self.size[1] * weight.size(2)
        )

    def fold(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`expand`."""
        channels, outputs = grad.size(0) // self.size[0], grad.size(1) // self.size[1]
        pairs = grad.reshape(channels, -1, outputs)
        out = pairs.new_zeros(channels, self.num_rows + 1, outputs)
        out = out.index_add(1, self.tables.get("index", grad), pairs)
        return out[:, : self.num_rows].transpose(0, 1)

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """``x`` ``[B, |X|, Ci]`` to ``[B, |Y|, Co]``."""
        out = matmul(x.transpose(1, 2).reshape(x.size(0), -1), self.once(weight, self))
        return out.view(x.size(0), self.size[1], weight.size(2))


class _Class(NamedTuple):
    """Blocks of one shape, for ``irreps`` of them: ``copies`` rows of data, ``rows`` x ``columns`` of the map."""

    irreps: int
    copies: int
    rows: int
    columns: int


class FourierPath:
    r"""Blocks in a real symmetry-adapted basis: :math:`\hat y_\rho = \hat x_\rho \hat W_\rho`, one small product each.

    Functions on :math:`X = G/H` have the orthonormal coefficients
    :math:`\sqrt{D / |X|} \sum_a f(a)\, v_s^T \rho(g_a) p_b`, where :math:`\rho` runs over the real irreps (of dimension
    D), the :math:`p_b` are a basis of the vectors that H leaves alone, and the :math:`v_s` are one row for each time
    that :math:`\rho` occurs in the group algebra: all D for real type, fewer where :math:`\rho` has a commutant, whose
    images of :math:`v_s` would repeat the same information. An equivariant map acts on b alone.
    """

    name = "fourier"

    def __init__(self, orbits: PairOrbits, chosen: Tensor) -> None:
        base_in, base_out = (_base(orbits.group, s) for s in (orbits.space_in, orbits.space_out))
        rows = orbits.rows(chosen)[:, 0]
        self.size = orbits.size
        blocks: dict[tuple[int, int, int], list[tuple[Tensor, Tensor, Tensor]]] = {}
        for irrep, type_name in zip(orbits.group.real_irreps, orbits.group.real_irrep_types, strict=True):
            irrep = irrep.double()
            p, q = _invariant(irrep[base_in.stabiliser]), _invariant(irrep[base_out.stabiliser])
            if not p.size(1) or not q.size(1):  # no map between the spaces sees this irrep
                continue
            v = torch.eye(irrep.size(1), dtype=irrep.dtype)[:: _COMMUTANT[type_name]]
            shape = v.size(0), p.size(1), q.size(1)
            blocks.setdefault(shape, []).append(_block(irrep, v, p, q, base_in, base_out, rows, chosen.numel()))
        shapes = sorted(blocks)
        self.classes = [_Class(len(blocks[s]), *s) for s in shapes]
        parts = [[torch.cat([b[i].flatten(1) for b in blocks[s]], dim=1) for s in shapes] for i in range(3)]
        self.tables = Tables(
            analysis=torch.cat(parts[0], dim=1).T.contiguous(),
            synthesis=torch.cat(parts[1], dim=1).contiguous(),
            weight=torch.cat(parts[2], dim=1).T.contiguous(),
        )
        analysis = self.tables.get("analysis", parts[0][0])
        gram = analysis @ analysis.T
        assert torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype), atol=1e-9), "irreps in another layout"
        self.once = ExpandOnce()

    def cost(self, batch: int, channels: int, outputs: int) -> float:
        """Multiplications, or what takes as long."""
        num_in, num_out = self.size
        product = sum(c.irreps * c.copies * c.rows * c.columns for c in self.classes) * channels * outputs
        moves = MOVE * 2 * (num_in * channels + num_out * outputs)
        sweeps = num_in * num_in * channels + num_out * num_out * outputs
        return batch * (product + moves + sweeps) + (8 + 6 * len(self.classes)) * CALL

    def _sizes(self) -> list[int]:
        return [c.irreps * c.rows * c.columns for c in self.classes]

    def expand(self, weight: Tensor) -> Tensor:
        """``[R, Ci, Co]`` to all blocks ``[k, rows, Ci, columns, Co]``, flat, one after the other."""
        _, channels, outputs = weight.shape
        hat = self.tables.get("weight", weight) @ weight.flatten(1)
        parts = []
        for c, part in zip(self.classes, hat.split(self._sizes()), strict=True):
            block = part.view(c.irreps, c.rows, c.columns, channels, outputs)
            parts.append(block.transpose(2, 3).flatten())
        return torch.cat(parts).view(-1, channels, outputs)  # only the numbers of channels are read back from here

    def fold(self, grad: Tensor) -> Tensor:
        """The transpose of :meth:`expand`."""
        _, channels, outputs = grad.shape
        sizes = [n * channels * outputs for n in self._sizes()]
        parts = []
        for c, part in zip(self.classes, grad.flatten().split(sizes), strict=True):
            block = part.view(c.irreps, c.rows, channels, c.columns, outputs)
            parts.append(block.transpose(2, 3).reshape(-1, channels * outputs))
        return (self.tables.get("weight", grad).T @ torch.cat(parts)).view(-1, channels, outputs)

    def _blocks(self, expanded: Tensor) -> Iterator[Tensor]:
        """``[k, rows Ci, columns Co]`` for each class."""
        _, channels, outputs = expanded.shape
        sizes = [n * channels * outputs for n in self._sizes()]
        for c, part in zip(self.classes, expanded.flatten().split(sizes), strict=True):
            yield part.view(c.irreps, c.rows * channels, c.columns * outputs)

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """``x`` ``[B, |X|, Ci]`` to ``[B, |Y|, Co]``."""
        batch, channels, outputs = x.size(0), x.size(2), weight.size(2)
        hat = self.tables.get("analysis", x) @ x.transpose(0, 1).reshape(x.size(1), -1)
        sizes = [c.irreps * c.copies * c.rows for c in self.classes]
        parts = []
        for c, part, block in zip(self.classes, hat.split(sizes), self._blocks(self.once(weight, self)), strict=True):
            rows = part.view(c.irreps, c.copies, c.rows, batch, channels).transpose(2, 3)
            mixed = rows.reshape(c.irreps, c.copies * batch, c.rows * channels) @ block
            mixed = mixed.view(c.irreps, c.copies, batch, c.columns, outputs).transpose(2, 3)
            parts.append(mixed.reshape(-1, batch * outputs))
        out = self.tables.get("synthesis", x) @ torch.cat(parts)
        return out.view(self.size[1], batch, outputs).transpose(0, 1)


class _Base(NamedTuple):
    """The stabiliser of point 0 of a transitive space, and an element that takes it to each point."""

    stabiliser: Tensor
    reach: Tensor


def _base(group: FiniteGroup, space: HomogeneousSpace | None) -> _Base:
    if space is None:
        return _Base(torch.tensor([0]), torch.arange(group.order))
    return _Base(space.stabiliser(0), space.movers)


def _invariant(matrices: Tensor) -> Tensor:
    """An orthonormal basis of the vectors that all matrices of a subgroup leave alone, ``[D, m]``."""
    values, vectors = torch.linalg.eigh((matrices.mean(0) + matrices.mean(0).T) / 2)  # a projection
    return vectors[:, values > 0.5]


def _block(
    irrep: Tensor, v: Tensor, p: Tensor, q: Tensor, base_in: _Base, base_out: _Base, rows: Tensor, num_rows: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Analysis ``[|X|, s, b]``, synthesis ``[|Y|, s, c]`` and the weights' transform ``[R, b, c]`` of one irrep."""
    dim = irrep.size(1)
    num_in, num_out = base_in.reach.numel(), base_out.reach.numel()
    analysis = torch.einsum("sd,ade,eb->asb", v, irrep[base_in.reach], p) * (dim / num_in) ** 0.5
    moved = irrep[base_out.reach] @ q
    synthesis = torch.einsum("sd,adc->asc", v, moved) * (dim / num_out) ** 0.5
    transform = irrep.new_zeros(num_rows + 1, p.size(1), q.size(1)).index_add(0, rows, p.T @ moved)
    return analysis, synthesis, transform[:num_rows] * (num_in / num_out) ** 0.5

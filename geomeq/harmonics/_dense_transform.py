"""Analysis and synthesis on points without rings: the matrix of all harmonics at all points."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from geomeq.spheres import Sampling

from ._transform_cache import kept_tensors, shared_transform
from .harmonic_matrix import harmonic_matrix

_LARGEST_TABLE = 1 << 25  # numbers; beyond, synthesis makes the matrix anew a few points at a time
_LARGEST_SOLVE = 1 << 26  # numbers in the matrix of a least-squares problem
_CHUNK = 1 << 22  # numbers made at a time
_WORST_CONDITION = 1e8  # of points that do not tell harmonics apart


class DenseTransform:
    """A :class:`SphereTransform` on any points, with the least-squares inverse of synthesis.

    Args:
        s: Any sampling.
        lmax: Highest degree.
        spin: Of the field.
    """

    def __init__(self, s: Sampling, lmax: int, spin: int) -> None:
        self.s, self.lmax, self.spin = s, lmax, spin
        self.parts = 2 if spin else 1
        self.kept: dict[tuple[str, torch.dtype, torch.device], list[Tensor]] = {}
        self.size = s.num_nodes * self.parts, (lmax + 1) ** 2 * self.parts
        self.entries = math.prod(self.size)

    @property
    def is_small(self) -> bool:
        """Whether the matrix is kept."""
        return self.entries <= _LARGEST_TABLE

    def analyse(self, x: Tensor, weighted: bool = True) -> Tensor:
        """The integral of the field with each harmonic, or the bare sum over the nodes."""
        return self._apply(self.weigh(x) if weighted else x, True)

    def weigh(self, x: Tensor) -> Tensor:
        """The field times the weights."""
        return x * self._tensor("area", x)[:, None]

    def synthesise(self, c: Tensor) -> Tensor:
        """The field of coefficients at the nodes."""
        return self._apply(c, False)

    def invert(self, x: Tensor) -> Tensor:
        """The coefficients whose field is nearest to ``x`` in the mean square by the weights."""
        return _multiplied(self._tensor("inverse", x), x, self.parts)

    def _apply(self, v: Tensor, transpose: bool) -> Tensor:
        if self.is_small:
            matrix = self._tensor("matrix", v)
            return _multiplied(matrix.mT if transpose else matrix, v, self.parts)
        rows, shape = _as_rows(v, self.parts)
        return _as_field(_Chunked.apply(rows, self, transpose), shape, self.parts)  # type: ignore[no-untyped-call]

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """The matrix in float64, some rows at a time."""
        step = max(1, _CHUNK // (self.size[1] * self.parts))
        for start in range(0, self.s.num_nodes, step):
            block = harmonic_matrix(self.s.pos[start : start + step], self.lmax, self.spin)
            if self.spin:
                re, im = block.unbind(-1)
                block = torch.stack([torch.stack([re, -im], dim=-1), torch.stack([im, re], dim=-1)], dim=1)
            yield slice(start * self.parts, (start + len(block)) * self.parts), block.reshape(-1, self.size[1])

    def _tensor(self, name: str, like: Tensor) -> Tensor:
        return kept_tensors((self.s.key, self.lmax, self.spin), name, like.dtype, like.device)[0]

    def make(self, name: str, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
        """The ``"matrix"``, its least-squares ``"inverse"`` or the weights, ``"area"``."""
        made = {"matrix": self._make_matrix, "inverse": self._make_inverse, "area": self._make_area}[name]()
        return [made.to(device=device, dtype=dtype)]

    def _make_area(self) -> Tensor:
        return self.s.area.double()

    def _make_matrix(self) -> Tensor:
        return torch.cat([block for _, block in self.chunks()])

    def _make_inverse(self) -> Tensor:
        skip = self.spin**2 * self.parts  # harmonics of degrees below the spin do not exist
        root = self.s.area.double().cpu().sqrt().repeat_interleave(self.parts)[:, None]
        q, r = torch.linalg.qr(self._make_matrix()[:, skip:] * root)
        inverse = torch.linalg.solve_triangular(r, q.mT, upper=True)
        worst = float(r.norm() * inverse.norm())
        if not worst < _WORST_CONDITION:
            raise ValueError(
                f"these {self.s.num_nodes} points cannot tell the harmonics up to degree {self.lmax} apart (condition "
                f"number {worst:.1g}); ask for a smaller lmax, or take a sampling that covers the sphere evenly"
            )
        inverse = inverse * root.T
        return torch.cat([inverse.new_zeros(skip, inverse.size(1)), inverse])

    def check_solvable(self) -> None:
        """Raises if least squares would be too large or has too few points."""
        most = math.isqrt(self.s.num_nodes) - 1
        if self.lmax > most:
            raise ValueError(
                f"{self.s.num_nodes} nodes hold at most degree {most} (as many numbers as coefficients), got "
                f"lmax={self.lmax}"
            )
        if self.entries > _LARGEST_SOLVE:
            most = math.isqrt(_LARGEST_SOLVE // (self.size[0] * self.parts)) - 1
            raise ValueError(
                f"least squares on {self.s.num_nodes} points without rings needs a matrix of {self.size[0]} x "
                f"{self.size[1]} numbers; the largest lmax here is {most}, got {self.lmax}. Take a sampling with rings "
                "(spheres.resample), or method='cg', which makes the matrix a part at a time"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> "DenseTransform":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return shared_transform, (DenseTransform, self.s, self.lmax, self.spin)


def _as_rows(v: Tensor, parts: int) -> tuple[Tensor, tuple[int, int]]:
    """``[B, N, C]`` as ``[N * parts, B * C / parts]``."""
    batch, _, channels = v.shape
    rows = v.unflatten(2, (-1, parts)).permute(1, 3, 0, 2).reshape(v.size(1) * parts, -1)
    return rows, (batch, channels // parts)


def _as_field(rows: Tensor, shape: tuple[int, int], parts: int) -> Tensor:
    return rows.view(-1, parts, *shape).permute(2, 0, 3, 1).flatten(2)


def _multiplied(matrix: Tensor, v: Tensor, parts: int) -> Tensor:
    rows, shape = _as_rows(v, parts)
    return _as_field(matrix @ rows, shape, parts)


class _Chunked(torch.autograd.Function):
    """A product with a matrix that is made for it, some points at a time, and forgotten; so is that of its gradient."""

    @staticmethod
    def forward(rows: Tensor, transform: DenseTransform, transpose: bool) -> Tensor:
        if transpose:
            total = rows.new_zeros(transform.size[1], rows.size(1))
            for at, block in transform.chunks():
                total.addmm_(block.to(rows).mT, rows[at])
            return total
        return torch.cat([block.to(rows) @ rows for _, block in transform.chunks()])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.transform, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Chunked.apply(grad, ctx.transform, not ctx.transpose), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return _Chunked.apply(tangent, ctx.transform, ctx.transpose)  # type: ignore[no-any-return]

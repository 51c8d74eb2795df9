r"""Irreducible representations of a finite group from its multiplication table alone.

The group algebra is a sum of matrix algebras. A random symmetric real function ``c`` (``c(g) = c(g^-1)``), convolved
from the right, commutes with translations from the left, so each of its eigenspaces is a real representation, and for
a generic ``c`` an irreducible one. One eigenvalue problem thus gives every irrep; equal ones are told apart by a random
class function, whose convolution is a multiple of one on each. What follows removes the rounding:

1. matrix coefficients from the eigenvectors, which carry the error of the eigenspace;
2. for a few generators the mean :math:`\frac{1}{n} \sum_h \rho(g h) \rho(h)^{-1}`, which squares the distance to a
   representation, and the nearest orthogonal matrix; all other elements as short products of these;
3. a basis adapted to the commutant (real, complex or quaternionic), from which the complex irreps are read off.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _finite_table as tables
from ._random import normal
from .finite import FiniteGroup

TYPES = {1: "real", 2: "complex", 4: "quaternionic"}
TOLERANCE = 1e-12  # of homomorphism and orthogonality, in float64
_ATTEMPTS = 8
Tree = list[tuple[Tensor, Tensor, Tensor]]  # elements, parents and generators, by length of words


@dataclass(frozen=True)
class Representations:
    """The irreps of one group: real and orthogonal, complex and unitary, with their types."""

    real: list[Tensor]
    real_types: list[str]
    complex: list[Tensor]
    types: list[str]


def decompose(group: FiniteGroup) -> Representations:
    """Computes all irreps of a group.

    Raises:
        RuntimeError: If no attempt gave representations that pass every check.
    """
    real, types = _abelian(group) if group.is_abelian else _numerical(group)
    order = sorted(range(len(real)), key=lambda i: _sort_key(group, real[i], types[i]))
    return from_real([real[i] for i in order], [types[i] for i in order])


def from_real(real: list[Tensor], types: list[str]) -> Representations:
    """Adds the complex irreps, which are other views of adapted real ones."""
    pairs = [(irrep, kind) for r, kind in zip(real, types, strict=True) for irrep in complex_form(r, kind)]
    pairs.sort(key=lambda pair: pair[0].size(-1))  # stable: the order of the real ones within a dimension
    return Representations(real, types, [p[0] for p in pairs], [p[1] for p in pairs])


def complex_form(real: Tensor, kind: str) -> list[Tensor]:
    """The complex irreps ``[n, d, d]`` inside a real one ``[n, m, m]`` in an adapted basis."""
    if kind == "real":
        return [real.to(torch.complex128)]
    if kind == "complex":  # blocks [[a, -b], [b, a]]
        one = torch.complex(real[:, ::2, ::2].contiguous(), real[:, 1::2, ::2].contiguous())
        return [one, one.conj().resolve_conj()]
    # columns w and J w over the complex numbers a + b I: (a + b I) w + (c + d I) J w, and J times that
    a, b, c, d = (real[:, i::4, ::4] for i in range(4))
    z, w = torch.complex(a, b), torch.complex(c, d)
    return [interleave([[z, -w.conj()], [w, z.conj()]])]


def _sort_key(group: FiniteGroup, real: Tensor, kind: str) -> tuple:
    """Complex dimension, the trivial one first, then larger characters on earlier classes."""
    character = real.diagonal(dim1=1, dim2=2).sum(-1)
    trivial = real.size(-1) == 1 and bool((character > 0.5).all())
    dimension = real.size(-1) // (1 if kind == "real" else 2)
    return (dimension, not trivial, (-character.round(decimals=6) + 0.0).tolist())


# --- commutative groups: exact


def _abelian(group: FiniteGroup) -> tuple[list[Tensor], list[str]]:
    """Characters by extension, one generator after the other, as whole powers of one root of unity."""
    root = math.lcm(*group.element_orders.tolist())
    known, power = torch.zeros(1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)  # elements; [characters, m]
    for s in group.generators.tolist():
        inside = torch.full((group.order,), -1)
        inside[known] = torch.arange(known.numel())
        steps = [0]  # powers of s until the first that is known
        while inside[(last := int(group._multiply(torch.tensor(steps[-1]), torch.tensor(s))))] < 0:
            steps.append(last)
        r = len(steps)
        if r == 1 and inside[s] >= 0:
            continue
        # a character sends s to any r-th root of what it sends s^r to
        choice = (power[:, inside[last], None] + root * torch.arange(r)) // r
        j = torch.arange(r)
        power = (power[:, None, None, :] + choice[..., None, None] * j[:, None]).flatten(2).flatten(0, 1) % root
        known = group._multiply(torch.tensor(steps)[:, None], known[None]).flatten()
    ordered = torch.empty_like(power)
    ordered[:, known] = power
    return _real_characters(ordered, root)


def _real_characters(power: Tensor, root: int) -> tuple[list[Tensor], list[str]]:
    """Real forms of characters ``exp(2 pi i power / root)``, ``[k, n]``; one of each conjugate pair."""
    real, types, seen = [], [], set()
    for row in power:
        if tuple(((-row) % root).tolist()) in seen:
            continue
        seen.add(tuple(row.tolist()))
        angle = row.double() * (2 * math.pi / root)
        cos = torch.where((4 * row) % (2 * root) == root, 0.0, angle.cos())
        sin = torch.where((2 * row) % root == 0, 0.0, angle.sin())
        if bool(((2 * row) % root == 0).all()):
            real.append(cos[:, None, None])
            types.append("real")
        else:
            real.append(torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2))
            types.append("complex")
    return real, types


# --- any group


def _numerical(group: FiniteGroup) -> tuple[list[Tensor], list[str]]:
    for attempt in range(_ATTEMPTS):
        found = _attempt(group, attempt)
        if found is not None:
            return found
    raise RuntimeError(
        f"the regular representation of {group!r} did not split into irreducible parts in {_ATTEMPTS} attempts; "
        "its table passed all checks, so please report this group"
    )


def _attempt(group: FiniteGroup, attempt: int) -> tuple[list[Tensor], list[str]] | None:
    """All real irreps, or ``None`` where eigenvalues of different parts came too close."""
    relative = group.cayley[group.inv]  # a^-1 b
    c = normal(group.order, seed=1000 + attempt)
    c = (c + c[group.inv]) / math.sqrt(4 * group.order)
    values, vectors = torch.linalg.eigh(c[relative])
    gaps = values.diff()
    starts = [0, *((gaps > 1e-10 * values.abs().max()).nonzero().flatten() + 1).tolist(), group.order]
    starts = _one_of_each(group, relative, vectors, starts, attempt)
    tree = _short_words(group, attempt)
    real, types = [], []
    for begin, end in starts:
        rho = _matrices(relative, vectors[:, begin:end])
        rho = None if rho is None else _polish(group, rho, *tree)
        if rho is None:
            return None
        character = rho.diagonal(dim1=1, dim2=2).sum(-1)
        size = float(character.square().mean())
        kind = TYPES.get(round(size), "")
        if not kind or abs(size - round(size)) > 1e-8:
            return None
        real.append(_adapt(rho, kind, attempt))
        types.append(kind)
    return (real, types) if sum(_share(r, t) for r, t in zip(real, types, strict=True)) == group.order else None


def _share(real: Tensor, kind: str) -> int:
    """The dimension of the part of the group algebra that belongs to a real irrep."""
    return real.size(-1) ** 2 // {"real": 1, "complex": 2, "quaternionic": 4}[kind]


def _one_of_each(
    group: FiniteGroup, relative: Tensor, vectors: Tensor, starts: list[int], attempt: int
) -> list[tuple[int, int]]:
    """One eigenspace for each kind of real irrep, by the value of a random class function on it."""
    classes = group.conjugacy_classes
    z = normal(int(classes.max()) + 1, seed=2000 + attempt)[classes]
    z = (z + z[group.inv]) / group.order
    first = vectors[:, starts[:-1]]
    value = (first * (z[relative] @ first)).sum(dim=0)
    order = value.argsort()
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = value[order].diff() > 1e-7 * value.abs().max()
    kinds = new.cumsum(0)
    chosen = [int(order[kinds == kind].min()) for kind in range(1, int(kinds.max()) + 1)]
    return [(starts[i], starts[i + 1]) for i in sorted(chosen)]


def _matrices(relative: Tensor, basis: Tensor) -> Tensor | None:
    r"""Matrices ``[n, m, m]`` of the translations :math:`(L_g f)(u) = f(g^{-1} u)` in a basis ``[n, m]``.

    ``L_g Q = Q rho(g)``, read on ``m`` rows ``u`` of ``Q`` that are well conditioned.
    """
    rows = _pivots(basis)
    if torch.linalg.cond(basis[rows]) > 1e6:
        return None
    return torch.linalg.solve(basis[rows], basis[relative[:, rows]])


def _pivots(basis: Tensor) -> Tensor:
    """Rows that span, the largest remainder first."""
    rest, rows = basis.clone(), []
    for _ in range(basis.size(1)):
        row = int(rest.square().sum(dim=1).argmax())
        unit = rest[row] / rest[row].norm()
        rest = rest - (rest @ unit)[:, None] * unit
        rows.append(row)
    return torch.tensor(rows)


def _short_words(group: FiniteGroup, attempt: int) -> tuple[Tensor, Tree]:
    """Generators with which every element is a short word, and the tree of these words."""
    number = 2 * max(1, group.order.bit_length() - 1)
    generator = torch.Generator().manual_seed(3000 + attempt)
    extra = torch.randint(group.order, (number,), generator=generator)
    chosen = torch.cat([group.generators, extra]).unique()
    chosen = chosen[chosen > 0]
    return chosen, tables.levels(group._multiply, chosen, group.order)


def _polish(group: FiniteGroup, rho: Tensor, chosen: Tensor, tree: Tree) -> Tensor | None:
    """A representation to rounding, near an approximate one; ``None`` if there is none near."""
    every = torch.arange(group.order)
    for _ in range(6):
        rho = _orthogonalised(rho)
        means = [torch.einsum("hij,hkj->ik", rho[group._multiply(s, every)], rho) / group.order for s in chosen]
        seeds = _orthogonalised(torch.stack(means))
        if not bool(torch.isfinite(seeds).all()):
            return None
        rho = torch.empty_like(rho)
        rho[0] = torch.eye(rho.size(-1), dtype=rho.dtype)
        for element, parent, s in tree:
            rho[element] = rho[parent] @ seeds[s]
        if homomorphism_error(group, rho) < TOLERANCE / 10:
            return rho
    return None


def _orthogonalised(x: Tensor) -> Tensor:
    """The orthogonal matrices next to nearly orthogonal ones ``[..., m, m]``; not finite where they are not near."""
    for _ in range(6):
        gram = x.mT @ x
        x = 1.5 * x - 0.5 * x @ gram  # Newton's step, squares the distance
    return x


def _nearest_orthogonal(x: Tensor) -> Tensor:
    u, _, v = torch.linalg.svd(x)
    return u @ v


def homomorphism_error(group: FiniteGroup, rho: Tensor) -> float:
    """Largest entry of ``rho(s) rho(g) - rho(s g)`` over generators ``s`` and all ``g``."""
    chosen = group.generators
    if not chosen.numel():
        return float((rho[0] - torch.eye(rho.size(-1), dtype=rho.dtype)).abs().max())
    every = torch.arange(group.order)
    return max(float((rho[s] @ rho - rho[group._multiply(s, every)]).abs().max()) for s in chosen)


# --- the commutant


def _adapt(rho: Tensor, kind: str, attempt: int) -> Tensor:
    """The same representation in a basis ``w, I w, ...`` where ``I`` (and ``J``, ``K``) commute with everything."""
    if kind == "real":
        return rho
    units = _imaginary_units(rho, 1 if kind == "complex" else 2, attempt)
    if kind == "quaternionic":
        units.append(units[0] @ units[1])
    m = rho.size(-1)
    basis = rho.new_zeros(m, 0)
    while basis.size(1) < m:
        rest = torch.eye(m, dtype=rho.dtype) - basis @ basis.T
        w = rest[:, rest.diagonal().argmax()]
        w = w / w.norm()
        basis = torch.cat([basis, torch.stack([w, *(unit @ w for unit in units)], dim=1)], dim=1)
    basis = _nearest_orthogonal(basis)
    return _on_units(basis.T @ rho @ basis, kind)


def _imaginary_units(rho: Tensor, number: int, attempt: int) -> list[Tensor]:
    """Antisymmetric orthogonal matrices that commute with ``rho`` and anticommute with each other."""
    units: list[Tensor] = []
    m = rho.size(-1)
    for i in range(number):
        a = normal(m, m, seed=4000 + 10 * attempt + i)
        mean = torch.einsum("nij,jk,nlk->il", rho, a - a.T, rho) / rho.size(0)
        mean = mean - mean.T
        for unit in units:
            mean = mean - (mean * unit).sum() / m * unit
        units.append(_nearest_orthogonal(mean))
    return units


def _on_units(rho: Tensor, kind: str) -> Tensor:
    """Makes the block structure exact: the average of the places that hold the same number."""
    if kind == "complex":
        a = (rho[:, ::2, ::2] + rho[:, 1::2, 1::2]) / 2
        b = (rho[:, 1::2, ::2] - rho[:, ::2, 1::2]) / 2
        return interleave([[a, -b], [b, a]])
    # columns w, I w, J w, K w of a matrix that commutes with I, J and K = I J: a left quaternion
    parts = [rho[:, i::4, ::4] for i in range(4)]
    return quaternion_blocks(parts)


def quaternion_blocks(parts: list[Tensor]) -> Tensor:
    """Real blocks of a matrix over the quaternions that is linear from the right in ``1, i, j, k``."""
    a, b, c, d = parts
    return interleave([[a, -b, -c, -d], [b, a, d, -c], [c, -d, a, b], [d, c, -b, a]])


def interleave(blocks: list[list[Tensor]]) -> Tensor:
    """Matrices ``[n, r p, r p]`` whose small blocks of ``r x r`` hold the given entries ``[n, p, p]``."""
    r, (n, p, _) = len(blocks), blocks[0][0].shape
    stacked = torch.stack([torch.stack(row, dim=-1) for row in blocks], dim=-2)  # n, p, p, r, r
    return stacked.permute(0, 1, 3, 2, 4).reshape(n, r * p, r * p)

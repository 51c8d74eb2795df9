"""Finite groups by their multiplication table."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .._checks import check_shape
from . import _finite_table as tables
from ._lasting import lasting
from ._random import Source, generator_of
from .group import GroupSample

Elements = Tensor | Sequence[int]


class FiniteGroup:
    r"""A group of ``n`` elements, numbered 0 (the identity) to ``n - 1``.

    It has the interface of the continuous groups, with elements as int64 numbers of any shape ``[...]`` and a Lie
    algebra of dimension 0. On top of that it has subgroups, conjugacy classes, irreducible representations (computed
    numerically, cached and verified) and the Fourier transform

    .. math:: \hat f(\rho) = \sum_g f(g)\, \rho(g), \qquad
              f(g) = \frac{1}{|G|} \sum_\rho d_\rho\, \mathrm{tr}(\hat f(\rho)\, \rho(g)^H).

    Args:
        cayley: Multiplication table, ``[n, n]`` integers, ``cayley[a, b] = a b``; element 0 is the identity. All
            axioms are checked.
        name: For pictures and messages.
        generators: Numbers of elements that generate the group; found if not given.
        matrices: A matrix for each element, ``[n, d, d]``: how :meth:`act` moves points.
        permutations: A permutation for each element, ``[n, m]``: ``permutations[g, i]`` is where ``i`` goes.

    Raises:
        ValueError: If the table is not that of a group, naming the elements at fault; if generators do not generate,
            or matrices or permutations do not multiply as the elements do.

    Example:
        >>> group = FiniteGroup(torch.tensor([[0, 1], [1, 0]]))
        >>> group.order, [irrep.flatten().real.tolist() for irrep in group.irreps]
        (2, [[1.0, 1.0], [1.0, -1.0]])
    """

    dim = 0  #: of the Lie algebra
    element_shape: tuple[int, ...] = ()

    order: int  #: number of elements
    name: str
    matrices: Tensor | None
    permutations: Tensor | None

    def __init__(
        self,
        cayley: Tensor,
        *,
        name: str = "",
        generators: Elements | None = None,
        matrices: Tensor | None = None,
        permutations: Tensor | None = None,
    ) -> None:
        self._table: Tensor | None = tables.check_cayley(cayley)
        self._setup(len(self._table), name, generators, matrices, permutations)
        self._check_action()

    def _setup(
        self,
        order: int,
        name: str,
        generators: Elements | None,
        matrices: Tensor | None = None,
        permutations: Tensor | None = None,
    ) -> None:
        self.order, self.name = order, name
        self.matrices, self.permutations = _as_double(matrices), permutations
        self._tables: dict[Any, Any] = {}  # copies on other devices and in other dtypes
        if generators is not None:
            chosen = self._elements(generators)
            if not bool(tables.generated(self._multiply, chosen, order).all()):
                raise ValueError(
                    f"generators {chosen.tolist()} do not generate the group of {order} elements; leave them out "
                    "to have some found"
                )
            self.generators = chosen

    def _check_action(self) -> None:
        for what, action in (("matrices", self.matrices), ("permutations", self.permutations)):
            if action is None:
                continue
            if len(action) != self.order:
                raise ValueError(f"{what} must be one for each of the {self.order} elements, got {len(action)}")
            for s in self.generators.tolist():
                moved = action[self._multiply(torch.tensor(s), torch.arange(self.order))]
                product = action[s] @ action if what == "matrices" else action[s][action]
                if float((moved - product).abs().max()) > 1e-6:
                    raise ValueError(f"{what} must multiply as the elements do: {what}[a b] = {what}[a] {what}[b]")

    # --- the table

    def _multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Products on the CPU; subclasses that know a formula need no table."""
        return self.cayley[a, b]

    @lasting
    def _build_table(self) -> Tensor:
        every = torch.arange(self.order)
        return torch.cat([self._multiply(rows[:, None], every[None]) for rows in every.split(512)])

    @property
    def cayley(self) -> Tensor:
        """Multiplication table, ``[n, n]`` int64; built when first asked for."""
        if self._table is None:
            self._table = self._build_table()
        return self._table

    @cached_property
    @lasting
    def inv(self) -> Tensor:
        """The number of the inverse of each element, ``[n]``."""
        return (self.cayley == 0).nonzero()[:, 1]

    @cached_property
    @lasting
    def generators(self) -> Tensor:
        """Numbers of elements that generate the group, ``[k]``; none for the trivial group."""
        return tables.greedy_generators_of(self._multiply, self.order)

    @cached_property
    @lasting
    def is_abelian(self) -> bool:
        """Whether all elements commute."""
        s = self.generators
        return bool((self._multiply(s[:, None], s[None]) == self._multiply(s[None], s[:, None])).all())

    @cached_property
    @lasting
    def element_orders(self) -> Tensor:
        """The smallest ``m > 0`` with ``g^m = e`` of each element, ``[n]``."""
        every = torch.arange(self.order)
        power, found = every.clone(), torch.zeros(self.order, dtype=torch.long)
        for m in range(1, self.order + 1):
            found[(power == 0) & (found == 0)] = m
            if bool((found > 0).all()):
                break
            power = self._multiply(power, every)
        return found

    @cached_property
    @lasting
    def conjugacy_classes(self) -> Tensor:
        """The number of the conjugacy class of each element, ``[n]``, in order of first members; 0 is ``{e}``."""
        every, s = torch.arange(self.order), self.generators
        images = self._multiply(self._multiply(s[:, None], every[None]), self.inv[s][:, None])
        return tables.connected_labels(images, self.order)

    @cached_property
    @lasting
    def word_lengths(self) -> Tensor:
        """How many generators (and inverses of generators) each element takes, ``[n]``."""
        s = self.generators
        length = torch.zeros(self.order, dtype=torch.long)
        for depth, (element, _, _) in enumerate(tables.levels(self._multiply, torch.cat([s, self.inv[s]]), self.order)):
            length[element] = depth + 1
        return length

    @cached_property
    @lasting
    def fingerprint(self) -> str:
        """A hash of the multiplication table: equal for groups whose elements multiply alike, number by number."""
        return hashlib.sha256(self.cayley.to(torch.int32).numpy().tobytes()).hexdigest()

    # --- the interface of all groups

    def identity(self, *size: int, device: torch.device | None = None) -> Tensor:
        """Element 0, ``[*size]``."""
        return torch.zeros(*size, dtype=torch.long, device=device)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """Products ``a b`` of elements, broadcast, ``[...]``."""
        a, b = self._check(a, "a"), self._check(b, "b")
        return self._on("cayley", a.device)[a, b]

    def inverse(self, a: Tensor) -> Tensor:
        """Inverses, ``[...]``."""
        a = self._check(a, "a")
        return self._on("inv", a.device)[a]

    def exp(self, v: Tensor) -> Tensor:
        """The identity, ``[...]``: the algebra ``v [..., 0]`` is a point."""
        check_shape("v", v, "...", 0)
        return torch.zeros(v.shape[:-1], dtype=torch.long, device=v.device)

    def log(self, a: Tensor) -> Tensor:
        """The only algebra vector, ``[..., 0]``. It says nothing about ``a``: no element but the identity has one."""
        return torch.zeros(*self._check(a, "a").shape, 0, dtype=torch.float64, device=a.device)

    def local_log(self, a: Tensor, b: Tensor) -> Tensor:
        """``log(a^-1 b)``, ``[..., 0]``."""
        return self.log(self.compose(self.inverse(a), b))

    def adjoint(self, a: Tensor) -> Tensor:
        """How conjugation acts on the algebra, ``[..., 0, 0]``."""
        return torch.zeros(*self._check(a, "a").shape, 0, 0, dtype=torch.float64, device=a.device)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """How many generators lead from ``a`` to ``b``, ``[...]`` float64: invariant under the group from the left."""
        relative = self.compose(self.inverse(a), b)
        return self._on("word_lengths", relative.device)[relative].double()

    @property
    def space_dim(self) -> int:
        """Dimension of the points that :meth:`act` moves; 0 where the group has neither matrices nor permutations."""
        action = self.matrices if self.matrices is not None else self.permutations
        return 0 if action is None else action.size(-1)

    def act(self, a: Tensor, x: Tensor) -> Tensor:
        """Moves points ``x [..., space_dim]`` by the matrices of ``a [...]``, or permutes their coordinates.

        Raises:
            TypeError: If matrices are to move points that are not floating point.
            ValueError: If the group has neither matrices nor permutations.
        """
        a = self._check(a, "a")
        if self.matrices is None and self.permutations is None:
            raise ValueError(f"{self!r} does not act on points; make a HomogeneousSpace, or give matrices=")
        check_shape("x", x, "...", self.space_dim)
        if self.matrices is not None:
            if not (x.is_floating_point() or x.is_complex()):
                raise TypeError(f"x must be floating point, got {x.dtype}; call .double() on it")
            matrices = self.matrices.to(x.device, x.dtype if not self.matrices.is_complex() else self.matrices.dtype)
            return (matrices[a] @ x[..., None].to(matrices.dtype))[..., 0]
        # coordinate i goes to place permutations[a, i]
        assert self.permutations is not None
        place = self.permutations.to(x.device)[a]
        x, place = torch.broadcast_tensors(x, place)
        return torch.zeros_like(x).scatter(-1, place, x)

    def random(self, *size: int, seed: Source = None) -> Tensor:
        """Uniform elements ``[*size]``.

        Args:
            size: Shape of the sample.
            seed: A seed, a ``torch.Generator``, or ``None`` for torch's global state.
        """
        generator = generator_of(seed)
        device = None if generator is None else generator.device
        return torch.randint(self.order, size, generator=generator, device=device)

    def elements(self) -> Tensor:
        """All elements, ``[n]``."""
        return torch.arange(self.order)

    @property
    def symmetry(self) -> Tensor:
        """The identity, ``[1]``: samples leave no element out."""
        return self.identity(1)

    def sample(self, size: int | Sequence[int] | None = None) -> GroupSample:
        """All elements, with equal Haar weights of sum 1: a finite group is its own sample.

        Args:
            size: ``None`` or the order of the group.
        """
        if size is not None and (size if isinstance(size, int) else tuple(size)) not in (self.order, (self.order,)):
            raise ValueError(f"{self!r} is sampled by all its {self.order} elements; leave size out, got {size}")
        return self._sample(num_orientations=self.order, grid=None, spacing=())

    def _sample(self, num_orientations: int, grid: tuple[int, ...] | None, spacing: tuple[float, ...]) -> GroupSample:
        weight = torch.full((self.order,), 1 / self.order, dtype=torch.float64)
        places = self.order // num_orientations
        return GroupSample(self.elements(), weight, self._positions(), num_orientations, places, grid, spacing)

    def _positions(self) -> Tensor:
        """A point for each element: the orbit of a point in general position, or a circle."""
        if self.matrices is not None and not self.matrices.is_complex() and self.matrices.size(-1) in (2, 3):
            start = torch.tensor([1.0, 0.35, 0.2], dtype=torch.float64)[: self.matrices.size(-1)]
            return self.matrices @ (start / start.norm())
        angle = torch.arange(self.order, dtype=torch.float64) * (2 * torch.pi / self.order)
        return torch.stack([angle.cos(), angle.sin()], dim=-1)

    # --- subgroups

    def subgroup(self, generators: Elements) -> Tensor:
        """The elements of the subgroup that some elements generate, ``[m]``, in increasing order."""
        return tables.generated(self._multiply, self._elements(generators), self.order).nonzero().flatten()

    def is_subgroup(self, elements: Elements) -> bool:
        """Whether a set of elements is closed under products (and so holds inverses and the identity)."""
        return self._outside(self._elements(elements)) is None

    def check_subgroup(self, elements: Elements) -> Tensor:
        """The elements without repetition, in increasing order.

        Raises:
            ValueError: If they are no subgroup; the message names a product that lies outside.
        """
        members = self._elements(elements).unique()
        outside = self._outside(members)
        if outside is not None:
            raise ValueError(
                f"the {members.numel()} elements are no subgroup of {self!r}: {outside}; "
                "group.subgroup(elements) gives the smallest subgroup that holds them"
            )
        return members

    def _outside(self, members: Tensor) -> str | None:
        inside = torch.zeros(self.order, dtype=torch.bool)
        inside[members] = True
        if not members.numel():
            return "the identity 0 is not among them"
        bad = (~inside[self._multiply(members[:, None], members[None])]).nonzero()
        if not len(bad):
            return None
        a, b = members[bad[0, 0]], members[bad[0, 1]]
        return f"{int(a)} * {int(b)} = {int(self._multiply(a, b))} is not among them"

    def restrict(self, elements: Elements) -> "FiniteGroup":
        """A subgroup as a group of its own; its element ``i`` is the ``i``-th smallest of ``elements``."""
        members = self.check_subgroup(elements)
        number = torch.zeros(self.order, dtype=torch.long)
        number[members] = torch.arange(members.numel())
        return FiniteGroup(
            number[self._multiply(members[:, None], members[None])],
            name=f"{self.name or 'group'}|{members.numel()}",
            matrices=None if self.matrices is None else self.matrices[members],
            permutations=None if self.permutations is None else self.permutations[members],
        )

    def _elements(self, elements: Elements) -> Tensor:
        """Elements as ``[k]`` int64 on the CPU, checked."""
        tensor = torch.as_tensor(elements).detach().cpu().reshape(-1)
        return self._check(tensor if tensor.numel() else tensor.long(), "elements").long()

    def _check(self, a: Tensor, name: str) -> Tensor:
        if a.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must hold numbers of elements (torch.long), got {a.dtype}")
        if a.numel() and not torch.compiler.is_compiling() and (int(a.min()) < 0 or int(a.max()) >= self.order):
            raise ValueError(
                f"{name} names elements {int(a.min())}..{int(a.max())}, but {self!r} has 0..{self.order - 1}"
            )
        return a

    @lasting
    def _on(self, name: str, device: torch.device) -> Tensor:
        """An integer table on a device, copied there once."""
        if device.type == "cpu":
            return getattr(self, name)
        if (name, device) not in self._tables:
            self._tables[name, device] = getattr(self, name).to(device)
        return self._tables[name, device]

    # --- representations

    @cached_property
    @lasting
    def _representations(self) -> Any:
        from ._irreps_cache import representations

        return representations(self)

    @property
    def irreps(self) -> list[Tensor]:
        """Irreducible representations, unitary, ``[n, d, d]`` complex128 each, by dimension, the trivial one first."""
        return self._representations.complex

    @property
    def irrep_types(self) -> list[str]:
        """``"real"``, ``"complex"`` or ``"quaternionic"`` for each irrep (Frobenius-Schur indicator 1, 0, -1)."""
        return self._representations.types

    @property
    def real_irreps(self) -> list[Tensor]:
        """Irreducible real representations, orthogonal, ``[n, m, m]`` float64 each, the trivial one first.

        One of complex type takes the place of a pair of complex irreps (``m = 2 d``, blocks ``[[a, -b], [b, a]]``),
        one of quaternionic type has ``m = 2 d`` as well.
        """
        return self._representations.real

    @property
    def real_irrep_types(self) -> list[str]:
        """The type of each real irrep; its commutant has dimension 1, 2 or 4."""
        return self._representations.real_types

    @cached_property
    @lasting
    def characters(self) -> Tensor:
        """Traces of the irreps, ``[k, n]`` complex128."""
        return torch.stack([irrep.diagonal(dim1=1, dim2=2).sum(-1) for irrep in self.irreps])

    def fourier(self, f: Tensor) -> list[Tensor]:
        """Fourier coefficients ``[..., d, d]`` of functions ``f [..., n]``, one matrix for each irrep."""
        from .fourier import fourier

        return fourier(self, f)

    def inverse_fourier(self, fhat: Sequence[Tensor]) -> Tensor:
        """The functions ``[..., n]`` with given Fourier coefficients, complex."""
        from .fourier import inverse_fourier

        return inverse_fourier(self, fhat)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, order={self.order})"


def _as_double(matrices: Tensor | None) -> Tensor | None:
    if matrices is None:
        return None
    return matrices.detach().cpu().to(torch.complex128 if matrices.is_complex() else torch.float64)

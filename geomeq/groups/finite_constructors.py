"""The finite groups with names, and groups from generators."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from . import _finite_table as tables
from .finite import FiniteGroup
from .grids import cube_rotations, icosahedral_rotations


def from_cayley(cayley: Tensor, name: str = "") -> FiniteGroup:
    """A group from its multiplication table; see :class:`FiniteGroup`.

    Args:
        cayley: ``[n, n]`` integers, ``cayley[a, b] = a b``, element 0 the identity.
        name: For pictures and messages.

    Raises:
        ValueError: If the table is not that of a group, naming the elements at fault.
    """
    return FiniteGroup(cayley, name=name)


def cyclic(n: int) -> FiniteGroup:
    r"""The ``n`` turns of a polygon; element ``k`` is the turn by :math:`2 \pi k / n`, counter-clockwise.

    Example:
        >>> cyclic(3).cayley.tolist()
        [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    """
    _check_size("cyclic", n, 1)
    k = torch.arange(n)
    generators = [1] if n > 1 else []
    return FiniteGroup((k[:, None] + k) % n, name=f"C{n}", generators=generators, matrices=_turns(n))


def dihedral(n: int) -> FiniteGroup:
    r"""The ``2 n`` symmetries of a polygon with ``n`` corners; element ``r + n m`` is :math:`R^r M^m`.

    ``R`` is the counter-clockwise turn by :math:`2 \pi / n`, ``M`` the reflection of the first coordinate. On square
    pictures and for ``n = 4`` these are ``torch.rot90(k=1, dims=(-2, -1))`` and ``torch.flip(dims=(-1,))``.

    .. math:: R^r M^m \, R^s M^k = R^{r + (-1)^m s} M^{m + k}

    Example:
        >>> group = dihedral(4)
        >>> r, m = 1, 4
        >>> group.cayley[m, r] == group.cayley[3, m]  # M R = R^-1 M
        tensor(True)
    """
    _check_size("dihedral", n, 1)
    r, m = torch.arange(2 * n) % n, torch.arange(2 * n) // n
    cayley = (r[:, None] + (1 - 2 * m[:, None]) * r) % n + n * ((m[:, None] + m) % 2)
    mirror = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
    turns = _turns(n)
    generators = [1, n] if n > 1 else [1]
    return FiniteGroup(cayley, name=f"D{n}", generators=generators, matrices=torch.cat([turns, turns @ mirror]))


def _turns(n: int) -> Tensor:
    """Rotations of the plane, ``[n, 2, 2]``, entries of quarter turns exact."""
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    cos, sin = angle.cos(), angle.sin()
    cos, sin = (torch.where(x.abs() < 1e-14, 0.0, x) for x in (cos, sin))
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)


def symmetric(n: int) -> FiniteGroup:
    """All permutations of ``n <= 6`` things in lexicographic order; ``(a b)(i) = a(b(i))``.

    Example:
        >>> symmetric(3).permutations.tolist()
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    """
    _check_size("symmetric", n, 1, 6)
    return _permutation_group(np.array(list(itertools.permutations(range(n)))), f"S{n}")


def alternating(n: int) -> FiniteGroup:
    """The even permutations of ``n <= 7`` things in lexicographic order."""
    _check_size("alternating", n, 1, 7)
    every = np.array(list(itertools.permutations(range(n))))
    swaps = sum((every[:, i] > every[:, j]) for i in range(n) for j in range(i + 1, n))
    return _permutation_group(every[swaps % 2 == 0] if n > 1 else every, f"A{n}")


def _permutation_group(permutations: np.ndarray, name: str) -> FiniteGroup:
    """A group from all its permutations in lexicographic order."""
    powers = permutations.shape[1] ** np.arange(permutations.shape[1])[::-1]
    names = permutations @ powers
    table = np.stack([np.searchsorted(names, row[permutations] @ powers) for row in permutations])
    return FiniteGroup(torch.from_numpy(table), name=name, permutations=torch.from_numpy(permutations))


def quaternion(order: int = 8) -> FiniteGroup:
    """The (generalised) quaternion group; element ``a + (order / 2) b`` is ``i^a j^b``.

    Relations: ``i^(order / 2) = 1``, ``j^2 = i^(order / 4)``, ``j i = i^-1 j``. Of order 8 it is
    ``1, i, -1, -i, j, k, -j, -k``.

    Args:
        order: A multiple of 4.
    """
    if not isinstance(order, int) or order < 4 or order % 4:
        raise ValueError(f"the quaternion group needs an order that is a multiple of 4, got {order}")
    half = order // 2
    a, b = torch.arange(order) % half, torch.arange(order) // half
    turn = a[:, None] + (1 - 2 * b[:, None]) * a + (half // 2) * (b[:, None] & b)
    return FiniteGroup(turn % half + half * (b[:, None] ^ b), name=f"Q{order}", generators=[1, half])


def octahedral() -> FiniteGroup:
    """The 24 rotations of the cube; ``.matrices`` are those of :func:`cube_rotations`, in that order."""
    return _rotation_group(cube_rotations(), "O")


def icosahedral() -> FiniteGroup:
    """The 60 rotations of the icosahedron; ``.matrices`` are those of :func:`icosahedral_rotations`, in that order."""
    return _rotation_group(icosahedral_rotations(), "I")


def _rotation_group(matrices: Tensor, name: str) -> FiniteGroup:
    """A group from all its rotations: the one nearest to a product has the largest inner product with it."""
    flat = matrices.flatten(1)
    product = (matrices[:, None] @ matrices[None]).flatten(2)
    return FiniteGroup((product @ flat.T).argmax(dim=-1), name=name, matrices=matrices)


def from_permutations(
    generators: Tensor | Sequence[Sequence[int]], name: str = "", max_order: int = 20_000
) -> FiniteGroup:
    """The group that permutations generate; ``.permutations`` holds all of them.

    Args:
        generators: ``[k, m]``; ``generators[s, i]`` is where ``s`` sends ``i``.
        name: For pictures and messages.
        max_order: Largest group to build; its table takes ``8 n^2`` bytes.

    Returns:
        The group, elements by word length, the identity first.

    Raises:
        ValueError: If a generator is no permutation, or the group is larger than ``max_order``.

    Example:
        >>> from_permutations([[1, 2, 0], [1, 0, 2]], name="S3").order
        6
    """
    rows = np.atleast_2d(np.asarray(generators, dtype=np.int64))
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"generators must have shape [k, m], got {list(rows.shape)}")
    bad = np.flatnonzero((np.sort(rows, axis=1) != np.arange(rows.shape[1])).any(axis=1))
    if bad.size:
        raise ValueError(
            f"generator {bad[0]} must hold each of 0..{rows.shape[1] - 1} once, got {rows[bad[0]].tolist()}"
        )
    every = np.concatenate([np.arange(rows.shape[1])[None], rows])
    elements, left = tables.closure(every, lambda a, b: np.take_along_axis(a, b, axis=1), lambda p: p, max_order)
    return _from_left(left, name, permutations=torch.from_numpy(elements))


def from_matrices(
    generators: Tensor | Sequence[Tensor], name: str = "", max_order: int = 20_000, atol: float | None = None
) -> FiniteGroup:
    """The group that matrices generate; ``.matrices`` holds all of them.

    Args:
        generators: ``[k, d, d]``, real or complex.
        name: For pictures and messages.
        max_order: Largest group to build.
        atol: Matrices whose entries agree to this are the same element. Products collect rounding, so it defaults to
            1e-6 for generators in float64 and to 1e-3 in float32.

    Returns:
        The group, elements by word length, the identity first.

    Raises:
        ValueError: If generators are not square or finite, generate more than ``max_order`` elements, or none that
            form a group up to ``atol``.

    Example:
        >>> quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        >>> from_matrices([quarter], name="C4").order
        4
    """
    stack = torch.stack(list(generators)) if not isinstance(generators, Tensor) else generators
    if stack.dim() != 3 or stack.size(1) != stack.size(2):
        raise ValueError(f"generators must have shape [k, d, d], got {list(stack.shape)}")
    if not bool(torch.isfinite(stack).all()):
        raise ValueError("generators must be finite")
    if atol is None:
        atol = 1e-6 if stack.dtype in (torch.float64, torch.complex128) else 1e-3
    rows = stack.detach().cpu().to(torch.complex128 if stack.is_complex() else torch.float64).numpy()
    every = np.concatenate([np.eye(rows.shape[1], dtype=rows.dtype)[None], rows])

    def keys(matrices: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(matrices).reshape(len(matrices), -1).view(np.float64)
        # entries of finite groups like 0, 1/2, 1 must not lie where rounding changes
        return np.floor(flat / atol + 1 / math.pi).astype(np.int64)

    elements, left = tables.closure(every, np.matmul, keys, max_order)
    try:
        return _from_left(left, name, matrices=torch.from_numpy(elements))
    except ValueError as error:
        raise ValueError(
            f"the generators give no finite group of matrices that differ by more than atol={atol}: {error}; check "
            "that they are invertible and of finite order, and give them in float64 or name a smaller atol"
        ) from error


def _from_left(left: np.ndarray, name: str, **actions: Tensor) -> FiniteGroup:
    images = torch.from_numpy(left)
    generators = images[:, 0].unique()
    table = tables.cayley_from_left(images)
    return FiniteGroup(table, name=name, generators=generators[generators > 0], **actions)


def _check_size(name: str, n: int, low: int, high: int | None = None) -> None:
    if not isinstance(n, int) or n < low or (high is not None and n > high):
        allowed = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{name}(n) needs a whole number n, {allowed}, got {n!r}")

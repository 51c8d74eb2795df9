"""Multiplication tables of finite groups: their axioms, generators, and the closure of a set of elements."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Multiply = Callable[[Tensor, Tensor], Tensor]


def check_cayley(cayley: Tensor) -> Tensor:
    """The table as ``[n, n]`` int64 on the CPU, once it is known to be that of a group with identity 0.

    Raises:
        TypeError: If it does not hold integers.
        ValueError: If it is not square, names elements that do not exist, or breaks an axiom; the message names
            the elements at fault.
    """
    table = torch.as_tensor(cayley).detach().cpu()
    if table.is_floating_point() or table.is_complex() or table.dtype == torch.bool:
        raise TypeError(f"cayley must hold integers (indices of elements), got {table.dtype}")
    if table.dim() != 2 or table.size(0) != table.size(1) or table.size(0) == 0:
        raise ValueError(f"cayley must be a square table [n, n] with n >= 1, got {list(table.shape)}")
    table = table.long().contiguous()
    n = table.size(0)
    if int(table.min()) < 0 or int(table.max()) >= n:
        raise ValueError(f"cayley names elements {int(table.min())}..{int(table.max())}, but they must be 0..{n - 1}")
    _check_identity(table)
    _check_rows(table)
    _check_associative(table)
    return table


def _check_identity(table: Tensor) -> None:
    every = torch.arange(table.size(0))
    bad = ((table[0] != every) | (table[:, 0] != every)).nonzero().flatten()
    if not bad.numel():
        return
    a = int(bad[0])
    message = f"element 0 must be the identity, but 0 * {a} = {int(table[0, a])} and {a} * 0 = {int(table[a, 0])}"
    other = ((table == every).all(dim=1) & (table == every[:, None]).all(dim=0)).nonzero().flatten()
    hint = f"; the identity is element {int(other[0])}: renumber so that it comes first" if other.numel() else ""
    raise ValueError(message + hint)


def _check_rows(table: Tensor) -> None:
    """Each row and column must hold each element once: then every element has its inverse."""
    every = torch.arange(table.size(0))
    for axis, pattern in ((1, "{a} * b"), (0, "b * {a}")):
        bad = (table.sort(dim=axis).values != (every if axis else every[:, None])).any(dim=axis).nonzero().flatten()
        if bad.numel():
            a = int(bad[0])
            products = table[a] if axis else table[:, a]
            missing = sorted(set(range(table.size(0))) - set(products.tolist()))[0]
            what = "has no inverse" if missing == 0 else "cannot be cancelled"
            raise ValueError(
                f"cayley is no group: element {a} {what} (no b gives {pattern.format(a=a)} = {missing}); each row "
                "and column must hold each element once"
            )


def _check_associative(table: Tensor) -> None:
    """Light's test: the elements s with (a s) b = a (s b) for all a, b are closed under products."""
    for s in greedy_generators(table).tolist():
        left, right = table[table[:, s]], table[:, table[s]]
        bad = (left != right).nonzero()
        if len(bad):
            a, b = bad[0].tolist()
            raise ValueError(
                f"cayley is not associative: ({a} * {s}) * {b} = {int(left[a, b])}, "
                f"but {a} * ({s} * {b}) = {int(right[a, b])}"
            )


def table_product(table: Tensor) -> Multiply:
    """Products looked up in a table."""
    return lambda a, b: table[a, b]


def greedy_generators(table: Tensor) -> Tensor:
    """Elements that generate everything: as long as one is missing, the first that is, ``[k]``."""
    return greedy_generators_of(table_product(table), table.size(0))


def greedy_generators_of(multiply: Multiply, n: int) -> Tensor:
    """As :func:`greedy_generators`, from a product."""
    chosen: list[int] = []
    reached = torch.zeros(n, dtype=torch.bool)
    reached[0] = True
    while not bool(reached.all()):
        chosen.append(int((~reached).nonzero()[0]))
        reached = generated(multiply, torch.tensor(chosen), n)
    return torch.tensor(chosen, dtype=torch.long)


def levels(multiply: Multiply, generators: Tensor, n: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Breadth-first tree over the products of generators.

    Returns:
        For each word length from 1 on: elements, their parents, and the position of the generator, so that
        ``element = parent * generators[position]``. The identity is the root.
    """
    reached = torch.zeros(n, dtype=torch.bool)
    reached[0] = True
    frontier, found = torch.zeros(1, dtype=torch.long), []
    while frontier.numel() and generators.numel():
        product = multiply(frontier[:, None], generators[None]).flatten()
        fresh = (~reached[product]).nonzero().flatten()
        element, order = product[fresh].unique(return_inverse=True)
        # the last writer wins; any of the words of this length will do
        place = torch.empty_like(element).scatter_(0, order, fresh)
        if element.numel():
            found.append((element, frontier[place // generators.numel()], place % generators.numel()))
        reached[element] = True
        frontier = element
    return found


def generated(multiply: Multiply, generators: Tensor, n: int) -> Tensor:
    """Which of ``n`` elements are products of generators, ``[n]`` bool."""
    reached = torch.zeros(n, dtype=torch.bool)
    reached[0] = True
    for element, _, _ in levels(multiply, generators, n):
        reached[element] = True
    return reached


def closure(
    generators: np.ndarray, multiply: Callable[[np.ndarray, np.ndarray], np.ndarray], keys: Callable, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """All products of generators and how generators act from the left.

    Args:
        generators: Rows of anything, ``[k, ...]``; the first row is the identity.
        multiply: Products of two stacks of the same length.
        keys: Whole numbers ``[m, w]`` that name the rows of a stack, equal where the elements are.
        limit: Largest group allowed.

    Returns:
        Elements ``[n, ...]``, the identity first, by word length; and ``left [k - 1, n]``: the number of
        ``generator * element``.

    Raises:
        ValueError: If there are more than ``limit`` elements.
    """
    elements, names = generators[:1], _hash(keys(generators[:1]))
    begin, products = 0, []
    while begin < len(elements):
        frontier = elements[begin:]
        begin = len(elements)
        made = [multiply(np.broadcast_to(g, frontier.shape), frontier) for g in generators[1:]]
        hashes = [_hash(keys(m)) for m in made]
        products.append(hashes)
        for stack, name in zip(made, hashes, strict=True):
            fresh = np.unique(name[~np.isin(name, names)], return_index=True)[1]
            rows = np.flatnonzero(~np.isin(name, names))[np.sort(fresh)]
            elements, names = np.concatenate([elements, stack[rows]]), np.concatenate([names, name[rows]])
            if len(elements) > limit:
                raise ValueError(
                    f"the generators give more than {limit} elements; they generate no finite group, or a larger one: "
                    "raise max_order= if it is meant"
                )
    order = np.argsort(names)
    left = [
        order[np.searchsorted(names, np.concatenate([level[i] for level in products]), sorter=order)]
        for i in range(len(generators) - 1)
    ]
    return elements, np.array(left, dtype=np.int64).reshape(len(generators) - 1, len(elements))


def _hash(keys: np.ndarray) -> np.ndarray:
    """One 64-bit number for each row: two of a million rows agree by chance once in ten million cases."""
    rows = keys.reshape(len(keys), -1).astype(np.int64).view(np.uint64)
    odd = np.random.default_rng(20180206).integers(1, 2**63, rows.shape[1], dtype=np.uint64) | np.uint64(1)
    mixed = (rows ^ (rows >> np.uint64(31))) * odd
    mixed ^= mixed >> np.uint64(29)
    return (mixed * np.uint64(0xBF58476D1CE4E5B9)).sum(axis=1, dtype=np.uint64)


def cayley_from_left(left: Tensor) -> Tensor:
    """The table of a group whose generators act from the left by ``left [k, n]``; element 0 is the identity.

    Row ``s g`` of the table is row ``g`` sent through the action of ``s``: one gather for each element.
    """
    k, n = left.shape
    table = torch.empty(n, n, dtype=torch.long)
    table[0] = torch.arange(n)
    known = torch.zeros(n, dtype=torch.bool)
    known[0] = True
    frontier = torch.zeros(1, dtype=torch.long)
    while frontier.numel():
        grown = []
        for s in range(k):
            image = left[s, frontier]
            fresh = ~known[image]
            table[image[fresh]] = left[s][table[frontier[fresh]]]
            known[image[fresh]] = True
            grown.append(image[fresh])
        frontier = torch.cat(grown) if grown else frontier[:0]
    return table


def connected_labels(images: Tensor, size: int) -> Tensor:
    """The orbit of each point under permutations ``images [k, m]``, ``[m]`` int64, in order of first points."""
    k = images.size(0)
    rows = np.tile(np.arange(size), k)
    graph = coo_array((np.ones(k * size, dtype=np.int8), (rows, images.reshape(-1).numpy())), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    # in order of first points
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return torch.from_numpy(rank[number.reshape(-1)])

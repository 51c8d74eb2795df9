"""Sets on which a finite group acts, orbits of their pairs, and what these say about linear maps between them."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from .._checks import check_shape
from . import _finite_table as tables
from ._lasting import lasting
from .finite import Elements, FiniteGroup


class HomogeneousSpace:
    """Points ``0 .. m - 1`` that a finite group permutes.

    Homogeneous in the strict sense are spaces with one orbit (:attr:`is_transitive`), which are the coset spaces
    ``G/H``; unions of several orbits are welcome too. The group acts on functions by ``(T_g f)(x) = f(g^-1 x)``.

    Args:
        group: The group.
        action: Where each element sends each point, ``[|G|, m]`` integers: ``action[g, x] = g x``.
        pos: Coordinates of the points for pictures, ``[m, d]``.
        name: For messages.

    Raises:
        ValueError: If the identity moves a point or the rows do not multiply as the elements do, naming the elements.

    Example:
        >>> from geomeq.groups import cyclic
        >>> HomogeneousSpace(cyclic(2), torch.tensor([[0, 1, 2], [1, 0, 2]])).is_transitive
        False
    """

    def __init__(self, group: FiniteGroup, action: Tensor, *, pos: Tensor | None = None, name: str = "") -> None:
        action = _as_images(action, group.order, "action must hold a row for each element of the group")
        _check_action(group, action)
        self._setup(group, action[group.generators], pos, name)
        self._action: Tensor | None = action

    def _setup(self, group: FiniteGroup, images: Tensor, pos: Tensor | None, name: str) -> None:
        self.group, self.name, self.pos = group, name, pos
        self.images = images  #: where each of ``group.generators`` sends each point, [k, m]
        self.size = images.size(1)  #: number of points
        self._action = None
        if pos is not None:
            check_shape("pos", pos, self.size, "d")

    @classmethod
    def from_generators(
        cls, group: FiniteGroup, images: Tensor, *, pos: Tensor | None = None, name: str = ""
    ) -> "HomogeneousSpace":
        """A space by where ``group.generators`` send each point, ``images [k, m]``.

        Raises:
            ValueError: If the images do not satisfy the relations of the generators.
        """
        images = _as_images(images, group.generators.numel(), "images must hold a row for each of group.generators")
        try:
            return cls(group, _extend(group, images), pos=pos, name=name)
        except ValueError as error:
            raise ValueError(f"images do not satisfy the relations of the generators of {group!r}: {error}") from error

    @classmethod
    def _trusted(cls, group: FiniteGroup, images: Tensor, pos: Tensor | None, name: str) -> "HomogeneousSpace":
        """A space whose action is known to be one; the table of all elements waits until it is asked for."""
        space = cls.__new__(cls)
        space._setup(group, images, pos, name)
        return space

    @property
    def action(self) -> Tensor:
        """Where each element sends each point, ``[|G|, m]`` int64; built when first asked for."""
        if self._action is None:
            self._action = _extend(self.group, self.images)
        return self._action

    @cached_property
    @lasting
    def orbits(self) -> Tensor:
        """The number of the orbit of each point, ``[m]``, in order of first points."""
        return tables.connected_labels(self.images, self.size)

    @property
    def num_orbits(self) -> int:
        """How many orbits there are."""
        return int(self.orbits.max()) + 1

    @property
    def is_transitive(self) -> bool:
        """Whether there is one orbit: whether the space is homogeneous."""
        return self.num_orbits == 1

    @cached_property
    @lasting
    def movers(self) -> Tensor:
        """An element that sends the first point of the orbit to each point, ``[m]``."""
        first = torch.zeros(self.num_orbits, dtype=torch.long).scatter_reduce(
            0, self.orbits, torch.arange(self.size), "amin", include_self=False
        )
        mover = torch.full((self.size,), -1)
        mover[first] = 0
        frontier = first
        while frontier.numel():
            grown = []
            for s, image in zip(self.group.generators, self.images, strict=True):
                fresh = frontier[mover[image[frontier]] < 0]
                mover[image[fresh]] = self.group._multiply(s.expand_as(fresh), mover[fresh])
                grown.append(image[fresh])
            frontier = torch.cat(grown) if grown else frontier[:0]
        return mover

    def stabiliser(self, point: int) -> Tensor:
        """The elements that leave a point where it is, ``[|G| / |orbit|]``, in increasing order: a subgroup."""
        if not 0 <= point < self.size:
            raise ValueError(f"point must be one of 0..{self.size - 1}, got {point}")
        return (self.action[:, point] == point).nonzero().flatten()

    @cached_property
    @lasting
    def fixed_points(self) -> Tensor:
        """How many points each element leaves where they are, ``[|G|]``: the character of the space."""
        return (self.action == torch.arange(self.size)).sum(dim=1)

    def permutation(self, g: Elements | int) -> Tensor:
        """Permutation matrices ``P`` of elements, ``[..., m, m]`` float64: ``(P f)(g x) = f(x)``."""
        g = self.group._check(torch.as_tensor(g), "g").cpu()
        return torch.nn.functional.one_hot(self.action[g], self.size).mT.double()

    def act(self, g: int | Tensor, f: Tensor, dim: int = -1) -> Tensor:
        """Moves functions by one element: ``(T_g f)(x) = f(g^-1 x)``.

        Args:
            g: One element.
            f: Functions, with the points along axis ``dim``.
            dim: That axis.
        """
        back = self.action[self.group.inv[int(self.group._check(torch.as_tensor(g), "g"))]]
        if f.size(dim) != self.size:
            raise ValueError(f"f must have {self.size} points along axis {dim}, got {list(f.shape)}")
        return f.index_select(dim, back.to(f.device))

    def __repr__(self) -> str:
        what = f"{self.name!r}, " if self.name else ""
        return f"{type(self).__name__}({what}{self.group!r}, size={self.size})"


def regular_space(group: FiniteGroup) -> HomogeneousSpace:
    """The group itself as a space, on which it acts from the left."""
    images = group._multiply(group.generators[:, None], torch.arange(group.order)[None])
    return HomogeneousSpace._trusted(group, images, None, group.name)


def coset_space(group: FiniteGroup, subgroup: Elements) -> HomogeneousSpace:
    """The left cosets ``g H`` of a subgroup, numbered by their smallest elements; point 0 is ``H`` itself.

    Args:
        group: The group.
        subgroup: All elements of ``H`` (from ``group.subgroup(generators)``).

    Returns:
        The space ``G/H`` with attributes ``coset [|G|]`` (the point of each element) and ``representatives [m]``
        (the smallest element of each point).

    Raises:
        ValueError: If ``subgroup`` is not closed under products, naming a product outside.

    Example:
        >>> from geomeq.groups import symmetric
        >>> group = symmetric(3)
        >>> coset_space(group, group.subgroup([1])).size
        3
    """
    members = group.check_subgroup(subgroup)
    every = torch.arange(group.order)
    smallest = every.clone()
    for h in members:
        smallest = torch.minimum(smallest, group._multiply(every, h.expand_as(every)))
    representatives, coset = smallest.unique(return_inverse=True)
    images = coset[group._multiply(group.generators[:, None], representatives[None])]
    space = HomogeneousSpace._trusted(group, images, None, f"{group.name}/{members.numel()}")
    space.coset, space.representatives = coset, representatives  # type: ignore[attr-defined]
    return space


def orbits_of_pairs(target: HomogeneousSpace, source: HomogeneousSpace) -> tuple[Tensor, int]:
    """Numbers the orbits of pairs ``(b, a)`` under ``(g b, g a)``: what a group convolution may tell apart.

    A linear map from functions on ``source`` to functions on ``target`` is equivariant exactly if its matrix is
    constant on these orbits.

    Args:
        target: ``Y``.
        source: ``X``, of the same group.

    Returns:
        ``type [|Y|, |X|]`` int64, in order of first pairs row by row, and how many there are. On the group itself
        (``Y = X = G``) the type of ``(b, a)`` is ``b^-1 a``.

    Raises:
        ValueError: If the groups differ.
    """
    check_same_group(target, source)
    if target.is_transitive:
        # the pair (b, a) lies in the orbit of (b0, g^-1 a) with g b0 = b: orbits of the stabiliser of b0 on X
        local = tables.connected_labels(source.action[target.stabiliser(0)], source.size)
        back = source.action[source.group.inv[target.movers]]
        return local[back], int(local.max()) + 1
    pairs = target.images[:, :, None] * source.size + source.images[:, None, :]
    types = tables.connected_labels(pairs.flatten(1), target.size * source.size)
    return types.view(target.size, source.size), int(types.max()) + 1


def burnside_count(target: HomogeneousSpace, source: HomogeneousSpace | None = None) -> int:
    r"""Number of orbits of pairs by counting alone: :math:`|G|^{-1} \sum_g \mathrm{fix}_Y(g)\, \mathrm{fix}_X(g)`.

    Args:
        target: ``Y``.
        source: ``X``; without it, the orbits of the points of ``Y`` are counted.
    """
    fixed = target.fixed_points
    if source is not None:
        check_same_group(target, source)
        fixed = fixed * source.fixed_points
    return int(fixed.sum()) // target.group.order


def check_same_group(target: HomogeneousSpace, source: HomogeneousSpace) -> None:
    """Raises unless one group acts on both spaces."""
    if target.group is not source.group and target.group.fingerprint != source.group.fingerprint:
        raise ValueError(f"both spaces must belong to one group, got {target!r} and {source!r}")


def _as_images(images: Tensor, rows: int, what: str) -> Tensor:
    images = torch.as_tensor(images).detach().cpu()
    if images.is_floating_point() or images.is_complex():
        raise TypeError(f"an action must hold integers (numbers of points), got {images.dtype}")
    if images.dim() != 2 or images.size(0) != rows or images.size(1) == 0:
        raise ValueError(f"{what}, [{rows}, m], got {list(images.shape)}")
    images = images.long().contiguous()
    bad = (images.sort(dim=1).values != torch.arange(images.size(1))).any(dim=1).nonzero().flatten()
    if bad.numel():
        raise ValueError(f"row {int(bad[0])} of the action must hold each of 0..{images.size(1) - 1} once")
    return images


def _check_action(group: FiniteGroup, action: Tensor) -> None:
    moved = (action[0] != torch.arange(action.size(1))).nonzero().flatten()
    if moved.numel():
        x = int(moved[0])
        raise ValueError(f"element 0, the identity, must leave every point, but it sends {x} to {int(action[0, x])}")
    every = torch.arange(group.order)
    for s in group.generators:
        bad = (action[group._multiply(s.expand_as(every), every)] != action[s][action]).nonzero()
        if len(bad):
            g, x = bad[0].tolist()
            raise ValueError(
                f"the action is none: ({int(s)} * {g}) sends point {x} to "
                f"{int(action[group._multiply(s, torch.tensor(g)), x])}, but {int(s)} after {g} sends it to "
                f"{int(action[s][action[g, x]])}"
            )


@lasting
def _extend(group: FiniteGroup, images: Tensor) -> Tensor:
    """The action of all elements from that of the generators, word by word."""
    action = torch.empty(group.order, images.size(1), dtype=torch.long)
    action[0] = torch.arange(images.size(1))
    for element, parent, s in tables.levels(group._multiply, group.generators, group.order):
        action[element] = action[parent].gather(1, images[s])
    return action


def icosahedron_space(group: FiniteGroup, kind: str = "vertices") -> HomogeneousSpace:
    """The corners, faces or edges of the icosahedron as a space of its rotations.

    Args:
        group: From :func:`geomeq.groups.icosahedral`, or any group with rotations of this icosahedron (vertices
            ``(0, +-1, +-phi)`` and cyclic) as ``.matrices``.
        kind: ``"vertices"`` (12), ``"faces"`` (20) or ``"edges"`` (30).

    Returns:
        The space with unit vectors ``pos [m, 3]`` of corners, face centres or edge centres.

    Example:
        >>> from geomeq.groups import icosahedral
        >>> icosahedron_space(icosahedral(), "faces").size
        20
    """
    if kind not in ("vertices", "faces", "edges"):
        raise ValueError(f"kind must be 'vertices', 'faces' or 'edges', got {kind!r}")
    if group.matrices is None or group.matrices.shape[1:] != (3, 3):
        raise ValueError(f"{group!r} must have rotations [n, 3, 3] as .matrices; geomeq.groups.icosahedral() has")
    pos = _icosahedron_points(kind)
    moved = pos @ group.matrices[group.generators].to(pos.dtype).mT
    images = torch.cdist(moved, pos.expand(len(moved), -1, -1)).min(dim=-1)
    if images.values.numel() and float(images.values.max()) > 1e-9:
        raise ValueError(f"{group!r} does not map the icosahedron with vertices (0, +-1, +-phi) to itself")
    return HomogeneousSpace._trusted(group, images.indices, pos, f"icosahedron {kind}")


def _icosahedron_points(kind: str) -> Tensor:
    phi = (1 + 5**0.5) / 2
    signs: Sequence[tuple[float, float]] = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    corner = torch.tensor([(0, a, b * phi) for a, b in signs], dtype=torch.float64)
    corner = torch.cat([corner.roll(i, dims=1) for i in range(3)])
    near = torch.cdist(corner, corner) < 2.1  # edges have length 2
    first, second = near.triu(diagonal=1).nonzero().T
    if kind == "edges":
        corner = corner[first] + corner[second]
    elif kind == "faces":
        edge, third = (near[first] & near[second] & (torch.arange(12) > second[:, None])).nonzero().T
        corner = corner[first[edge]] + corner[second[edge]] + corner[third]
    return corner / corner.norm(dim=1, keepdim=True)

"""Direct and semidirect products of finite groups, by formula instead of by table."""

import torch
from torch import Tensor

from ._lasting import lasting
from .finite import FiniteGroup


class SemidirectProduct(FiniteGroup):
    r"""Pairs ``n h`` of a normal subgroup and a group that acts on it.

    .. math:: (n_1, h_1)(n_2, h_2) = (n_1 \cdot h_1(n_2),\; h_1 h_2)

    The element ``(n, h)`` has number ``h * |N| + n``, so ``N`` is the fast axis. Products come from the tables of the
    two factors: no table of the whole group is built before someone asks for it.

    Args:
        normal: The normal subgroup ``N``.
        other: The group ``H`` that acts on it.
        action: Where each ``h`` sends each ``n``, ``[|H|, |N|]``: an automorphism each, multiplying as ``H`` does.
        name: For pictures and messages.

    Raises:
        ValueError: If a row of ``action`` is no automorphism, or rows do not multiply as ``H`` does.
    """

    def __init__(self, normal: FiniteGroup, other: FiniteGroup, action: Tensor, name: str = "") -> None:
        self.normal, self.other = normal, other
        self.action = _check_automorphisms(normal, other, action)
        self._table = None
        self._setup(normal.order * other.order, name or f"{normal.name} x| {other.name}", None)
        self.generators = torch.cat([normal.generators, other.generators * normal.order])

    def split(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The factors ``(n, h)`` of elements, ``[...]`` each."""
        return a % self.normal.order, a // self.normal.order

    def join(self, n: Tensor, h: Tensor) -> Tensor:
        """The elements ``n h``, ``[...]``."""
        return h * self.normal.order + n

    def _multiply(self, a: Tensor, b: Tensor) -> Tensor:
        return self.compose(a, b)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """Products ``a b`` of elements, broadcast, ``[...]``."""
        (n1, h1), (n2, h2) = self.split(self._check(a, "a")), self.split(self._check(b, "b"))
        moved = self._on("action", a.device)[h1, n2]
        return self.join(self.normal._on("cayley", a.device)[n1, moved], self.other._on("cayley", a.device)[h1, h2])

    def inverse(self, a: Tensor) -> Tensor:
        """Inverses, ``[...]``."""
        n, h = self.split(self._check(a, "a"))
        back = self.other._on("inv", a.device)[h]
        return self.join(self._on("action", a.device)[back, self.normal._on("inv", a.device)[n]], back)

    @property
    @lasting
    def inv(self) -> Tensor:  # type: ignore[override]
        """The number of the inverse of each element, ``[n]``."""
        if "inv" not in self._tables:
            self._tables["inv"] = self.inverse(torch.arange(self.order))
        return self._tables["inv"]


def _check_automorphisms(normal: FiniteGroup, other: FiniteGroup, action: Tensor) -> Tensor:
    action = torch.as_tensor(action).detach().cpu().long()
    if list(action.shape) != [other.order, normal.order]:
        raise ValueError(f"action must have shape [{other.order}, {normal.order}], got {list(action.shape)}")
    every = torch.arange(normal.order)
    bad = (action.sort(dim=1).values != every).any(dim=1).nonzero().flatten()
    if bad.numel():
        raise ValueError(f"row {int(bad[0])} of action must hold each of 0..{normal.order - 1} once")
    for s in normal.generators:
        wrong = (action[:, normal.cayley[s]] != normal.cayley[action[:, s][:, None], action]).nonzero()
        if len(wrong):
            h, n = wrong[0].tolist()
            raise ValueError(
                f"row {h} of action is no automorphism: it must send {int(s)} * {n} to the product of the images"
            )
    for s in other.generators:
        wrong = (action[other.cayley[s]] != action[s][action]).any(dim=1).nonzero().flatten()
        if wrong.numel():
            h = int(wrong[0])
            raise ValueError(f"rows of action must multiply as the group does: row {int(s)} * {h} is not their product")
    return action


def semidirect_product(normal: FiniteGroup, other: FiniteGroup, action: Tensor, name: str = "") -> SemidirectProduct:
    """The group of pairs ``(n, h)`` with ``h n h^-1 = action[h, n]``; see :class:`SemidirectProduct`.

    Args:
        normal: The normal subgroup ``N``.
        other: The group ``H`` that acts on it.
        action: Where each ``h`` sends each ``n``, ``[|H|, |N|]``.
        name: For pictures and messages.

    Example:
        >>> from geomeq.groups import cyclic, dihedral
        >>> turn, flip = cyclic(5), cyclic(2)
        >>> group = semidirect_product(turn, flip, torch.stack([torch.arange(5), turn.inv]))
        >>> bool((group.cayley == dihedral(5).cayley).all())
        True
    """
    return SemidirectProduct(normal, other, action, name)


def direct_product(a: FiniteGroup, b: FiniteGroup, name: str = "") -> SemidirectProduct:
    """Pairs ``(g, h)`` of two groups, multiplied one by one; the pair has number ``g * |b| + h``.

    Args:
        a: The slow factor.
        b: The fast factor.
        name: For pictures and messages.

    Example:
        >>> from geomeq.groups import cyclic
        >>> direct_product(cyclic(2), cyclic(4))
        SemidirectProduct('C2 x C4', order=8)
    """
    still = torch.arange(b.order).expand(a.order, -1)
    return SemidirectProduct(b, a, still, name or f"{a.name} x {b.name}")

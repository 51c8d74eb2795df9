"""Point groups of the plane: turns, with or without mirrors, acting on grids and on the axis of their own elements."""

import math
import re
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ._lasting import lasting

# The plane group whose point group is meant, where it is split (no glide reflections).
_PLANE_NAMES = {
    "p1": "C1", "p2": "C2", "p3": "C3", "p4": "C4", "p6": "C6",
    "pm": "D1", "pmm": "D2", "p3m1": "D3", "p4m": "D4", "p6m": "D6",
}  # fmt: skip
_QUARTERS = 4


@dataclass(frozen=True)
class PointGroup:
    r"""A cyclic or dihedral group of the plane, :math:`C_n` or :math:`D_n`.

    Element ``h = r + n * m`` is :math:`R^r M^m`: first the mirror ``M`` (x to -x, ``flip(-1)``), then ``r`` turns by
    :math:`2\pi/n` counter-clockwise as one looks at the image (``torch.rot90(k=1)`` for a quarter turn). Hence
    :math:`R^r M^m R^s M^k = R^{r + (-1)^m s} M^{m + k}`, and 0 is the identity.

    Args:
        n: Number of turns.
        mirror: Whether there are mirrors: :math:`D_n`, of ``2 n`` elements.

    Example:
        >>> group = PointGroup.parse("D4")
        >>> group.order, group.compose(4, 1)  # the mirror after a quarter turn is a turn back after the mirror
        (8, 7)

    Raises:
        ValueError: If ``n`` is not positive.
    """

    n: int
    mirror: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.n, int) or self.n < 1:
            raise ValueError(f"a point group has at least one turn, got n={self.n!r}")

    @classmethod
    def parse(cls, name: "str | PointGroup") -> "PointGroup":
        """The group of a name: ``"C4"``, ``"D6"``, or a plane group without glides (``"p4m"``).

        Raises:
            ValueError: If the name is none.
        """
        if isinstance(name, PointGroup):
            return name
        found = re.fullmatch(r"([CD])([1-9]\d*)", _PLANE_NAMES.get(name, name)) if isinstance(name, str) else None
        if found is None:
            raise ValueError(
                f"unknown point group {name!r}; use 'C<n>' (turns), 'D<n>' (turns and mirrors), or one of the plane "
                f"groups {sorted(_PLANE_NAMES)}"
            )
        return cls(int(found[2]), found[1] == "D")

    @property
    def name(self) -> str:
        """Such as ``"C4"``."""
        return f"{'D' if self.mirror else 'C'}{self.n}"

    @property
    def order(self) -> int:
        """Number of elements."""
        return 2 * self.n if self.mirror else self.n

    def compose(self, a: int, b: int) -> int:
        """The number of ``a b``: first ``b``, then ``a``."""
        self._check(a, b)
        (m, r), (k, s) = divmod(a, self.n), divmod(b, self.n)
        return (r + (-s if m else s)) % self.n + self.n * ((m + k) % 2)

    def inverse(self, a: int) -> int:
        """The number of the inverse."""
        self._check(a)
        return a if a >= self.n else -a % self.n

    @cached_property
    @lasting
    def cayley(self) -> Tensor:
        """``cayley[a, b] = a b``, ``[order, order]`` int64."""
        elements = range(self.order)
        return torch.tensor([[self.compose(a, b) for b in elements] for a in elements])

    @cached_property
    @lasting
    def inverses(self) -> Tensor:
        """``[order]`` int64."""
        return torch.tensor([self.inverse(a) for a in range(self.order)])

    @cached_property
    @lasting
    def left_division(self) -> Tensor:
        """``left_division[a, b] = a^-1 b``, ``[order, order]`` int64."""
        return self.cayley[self.inverses]

    @cached_property
    @lasting
    def matrices(self) -> Tensor:
        """Orthogonal matrices on (x right, y up), ``[order, 2, 2]`` float64; quarter turns are exact integers."""
        made = []
        for h in range(self.order):
            m, r = divmod(h, self.n)
            c, s = _cos_sin(r, self.n)
            flip = -1.0 if m else 1.0
            made.append([[c * flip, -s], [s * flip, c]])
        return torch.tensor(made, dtype=torch.float64)

    def subgroup(self, name: "str | PointGroup") -> list[int]:
        """Numbers of the elements of a subgroup, in the order of its own elements.

        Raises:
            ValueError: If it is no subgroup.
        """
        other = PointGroup.parse(name)
        if self.n % other.n or (other.mirror and not self.mirror):
            raise ValueError(f"{other.name} is no subgroup of {self.name}: turns must divide, mirrors must be there")
        step = self.n // other.n
        return [step * (h % other.n) + self.n * (h // other.n) for h in range(other.order)]

    @property
    def on_square_grid(self) -> bool:
        """Whether every element maps a square grid of pixels onto itself: C1, C2, C4, D1, D2, D4."""
        return _QUARTERS % self.n == 0

    def grid_elements(self) -> list[int]:
        """Numbers of the elements that map a square grid onto itself: all, or those of a subgroup."""
        largest = math.gcd(self.n, _QUARTERS)
        return self.subgroup(PointGroup(largest, self.mirror))

    def act_on_image(self, h: int, x: Tensor) -> Tensor:
        r"""Moves images: :math:`(L_h f)(u) = f(h^{-1} u)`, exactly.

        Args:
            h: Number of the element.
            x: ``[..., Y, X]``, row 0 on top.

        Returns:
            ``[..., Y, X]``, or ``[..., X, Y]`` after an odd number of quarter turns.

        Raises:
            ValueError: If the element does not map a square grid onto itself.
        """
        self._check(h)
        m, r = divmod(h, self.n)
        if r * _QUARTERS % self.n:
            raise ValueError(
                f"element {h} of {self.name} turns by {360 * r / self.n:g} degrees, which no square grid allows; "
                f"exact elements: {self.grid_elements()}"
            )
        return torch.rot90(x.flip(-1) if m else x, r * _QUARTERS // self.n, (-2, -1))

    def act_on_field(self, h: int, x: Tensor) -> Tensor:
        r"""Moves functions on the plane group: :math:`(L_h y)(u, g) = y(h^{-1} u, h^{-1} g)`.

        Args:
            h: Number of the element.
            x: ``[..., order, Y, X]``.

        Raises:
            ValueError: As for :meth:`act_on_image`, or if the axis of elements has another length.
        """
        if x.dim() < 3 or x.size(-3) != self.order:
            raise ValueError(f"x must have shape [..., {self.order}, Y, X] for {self.name}, got {list(x.shape)}")
        return self.act_on_image(h, x.index_select(-3, self.left_division[h].to(x.device)))

    def _check(self, *elements: int) -> None:
        for h in elements:
            if not 0 <= h < self.order:
                raise ValueError(f"{self.name} has elements 0..{self.order - 1}, got {h}")


def _cos_sin(r: int, n: int) -> tuple[float, float]:
    """Of ``r`` n-th turns; exact at quarter turns, and bit for bit symmetric under them."""
    quarter, rest = divmod(_QUARTERS * r, n)
    angle = 2 * math.pi * rest / (_QUARTERS * n)
    c, s = (math.cos(angle), math.sin(angle)) if rest else (1.0, 0.0)
    return [(c, s), (-s, c), (-c, -s), (s, -c)][quarter % _QUARTERS]

r"""Wigner matrices from rotation matrices, exact to rounding.

e3nn goes through Euler angles (``Irrep.D_from_matrix``), which costs up to 1e-6 even in float64 (measured, degrees 1
to 6) and has no derivative at the poles. A recursion over the degree needs neither.
"""

import torch
from e3nn import o3
from torch import Tensor

from geomeq._checks import check_shape

_LIFTS: dict[int, Tensor] = {}


def degree_lift(degree: int) -> Tensor:
    """3j symbols that lift degree l-1 to l: ``[2l-1, 3, 2l+1]``, as a matrix an isometry of columns."""
    if degree not in _LIFTS:
        _LIFTS[degree] = o3.wigner_3j(degree - 1, 1, degree, dtype=torch.float64) * (2 * degree + 1) ** 0.5
    return _LIFTS[degree]


for _degree in range(1, 9):  # torch.compile cannot trace e3nn's construction, only look the result up
    degree_lift(_degree)


def wigner_blocks(rotation: Tensor, lmax: int) -> list[Tensor]:
    r"""Real Wigner matrices of rotations, built degree by degree from the rotation matrix itself.

    :math:`D^l = C^T (D^{l-1} \otimes D^1) C` with the 3j symbols :math:`C` of :math:`(l-1, 1, l)`: polynomials in the
    entries of the rotation, so smooth everywhere and differentiable to any order (angles are not).

    Args:
        rotation: Proper rotations, ``[E, 3, 3]``.
        lmax: Highest degree.

    Returns:
        One tensor ``[E, 2l+1, 2l+1]`` per degree, in the basis of e3nn.
    """
    check_shape("rotation", rotation, "E", 3, 3)
    blocks = [torch.ones_like(rotation[:, :1, :1]), rotation]
    for degree in range(2, lmax + 1):
        lift = degree_lift(degree).to(rotation)
        # (D^{l-1} x D^1) C as two narrow products instead of one Kronecker matrix per edge.
        right = torch.einsum("eij,jbm->eibm", blocks[-1], lift)
        right = torch.einsum("ecb,eibm->eicm", rotation, right)
        blocks.append(torch.einsum("ick,eicm->ekm", lift, right))
    return blocks[: lmax + 1]

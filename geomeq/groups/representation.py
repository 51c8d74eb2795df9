"""How a group element acts on typed features."""

from e3nn import o3
from torch import Tensor

from .o3 import split_parity
from .wigner import wigner_blocks


def representation(irreps: o3.Irreps | str, g: Tensor) -> Tensor:
    r"""Representation matrices of O(3) on features of the given types.

    An irrep (l, p) represents :math:`g = s R`, with a rotation :math:`R` and :math:`s = \pm 1`, by :math:`D^l(R)`,
    times :math:`p` if :math:`s = -1`. Features turn by ``x @ D.T``.

    Args:
        irreps: Types of the features, e.g. ``"8x0e + 4x1o"``.
        g: Orthogonal matrices, determinant 1 or -1, ``[..., 3, 3]``.

    Returns:
        Block-diagonal matrices ``[..., dim, dim]`` of the dtype of ``g``, orthogonal, in the basis of e3nn. Computed
        without angles: exact to rounding (``Irreps.D_from_matrix`` is not) and differentiable everywhere.

    Raises:
        ValueError: If ``g`` is not orthogonal.

    Example:
        >>> import torch
        >>> representation("1x0o + 1x1o", -torch.eye(3)).diagonal()
        tensor([-1., -1., -1., -1.])
    """
    irreps = o3.Irreps(irreps)
    rotation, sign = split_parity(g)
    lead = g.shape[:-2]
    rotation, sign = rotation.reshape(-1, 3, 3), sign.reshape(-1, 1, 1)
    result = g.new_zeros(rotation.size(0), irreps.dim, irreps.dim)
    blocks = wigner_blocks(rotation, irreps.lmax) if irreps.dim else []
    start = 0
    for multiplicity, (degree, parity) in irreps:
        block = blocks[degree] if parity == 1 else blocks[degree] * sign
        for _ in range(multiplicity):
            stop = start + 2 * degree + 1
            result[:, start:stop, start:stop] = block
            start = stop
    return result.reshape(*lead, irreps.dim, irreps.dim)

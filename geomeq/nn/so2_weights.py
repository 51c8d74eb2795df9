r"""SO(2) weights and Clebsch-Gordan path weights: two bases of the same linear maps.

In the frame of an edge only :math:`Y^{l_2}_0 = \sqrt{2 l_2 + 1}` of its harmonics is left, so the product of features
with harmonics, with a weight per path :math:`(l_1, l_2, l_3)`, is the SO(2) map

.. math::
    A^m_{l_3 l_1} = \sqrt{2 l_3 + 1} \sum_{l_1 + l_2 + l_3 \text{ even}} \sqrt{2 l_2 + 1}\,
        W^{l_1 l_2 l_3} C^{l_1 l_2 l_3}_{m 0 m}, \qquad
    B^m_{l_3 l_1} = \sqrt{2 l_3 + 1} \sum_{l_1 + l_2 + l_3 \text{ odd}} \sqrt{2 l_2 + 1}\,
        W^{l_1 l_2 l_3} C^{l_1 l_2 l_3}_{-m 0 m}

real and imaginary weights. Both sides have :math:`2 \min(l_1, l_3) + 1` numbers for a pair of degrees, and the
3j symbols are orthogonal, so the way back is the transpose, not a matrix that must be inverted.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from e3nn import o3
from torch import Tensor

Path = tuple[int, int, int]


def signed_matrix(weight: Tensor) -> Tensor:
    """``[2, K, O]`` (real, imaginary) as the matrix ``[2 K, 2 O]`` that acts on +m and -m side by side."""
    real, imaginary = weight.unbind(0)
    # y+ = x+ r + x- i, y- = x- r - x+ i, with rows of the matrix for x
    return torch.cat([torch.cat([real, -imaginary], dim=1), torch.cat([imaginary, real], dim=1)])


def so2_paths(lmax: int, lmax_out: int | None = None, reflections: bool = False) -> list[Path]:
    """All paths ``(l1, l2, l3)`` of features with harmonics up to degree ``lmax + lmax_out``.

    Args:
        lmax: Highest degree of the input.
        lmax_out: Highest degree of the output, ``lmax`` by default.
        reflections: Only those that respect mirror images, with an even sum.
    """
    lmax_out = lmax if lmax_out is None else lmax_out
    return [
        (l1, l2, l3)
        for l1 in range(lmax + 1)
        for l3 in range(lmax_out + 1)
        for l2 in range(abs(l1 - l3), l1 + l3 + 1)
        if not reflections or (l1 + l2 + l3) % 2 == 0
    ]


@lru_cache(maxsize=1024)
def _symbols(l1: int, l2: int, l3: int) -> tuple[float, ...]:
    """Factor of the path in each order: ``A^m`` for an even sum, ``B^m`` for an odd one."""
    sign = 1 if (l1 + l2 + l3) % 2 == 0 else -1
    table = o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
    scale = ((2 * l2 + 1) * (2 * l3 + 1)) ** 0.5
    return tuple(scale * table[l1 + sign * m, l2, l3 + m].item() for m in range(min(l1, l3) + 1))


def so2_from_paths(weights: Mapping[Path, Tensor], lmax: int, lmax_out: int | None = None) -> list[Tensor]:
    r"""SO(2) weights of a Clebsch-Gordan product with the harmonics of the edge.

    The product is :math:`\sum W^{l_1 l_2 l_3}_{cd} \sqrt{2 l_3 + 1}\, C^{l_1 l_2 l_3} x^{l_1}_c Y^{l_2}` with
    component-normalised harmonics and e3nn's ``wigner_3j``: e3nn's ``FullyConnectedTensorProduct`` up to its factors
    per path.

    Args:
        weights: By path, ``[C_in, C_out]``; paths that are missing are zero.
        lmax: Highest degree of the input.
        lmax_out: Highest degree of the output, ``lmax`` by default.

    Returns:
        ``weights`` of an :class:`SO2Linear` of all orders: per order ``[2, (L+1-m) C_in, (L'+1-m) C_out]``, real and
        imaginary part (m = 0 has only a real one: ``[1, ...]``). Computed in float64, returned in the dtype given.

    Raises:
        ValueError: If there is no path, one breaks the selection rules or exceeds a degree, or shapes differ.
    """
    lmax_out = lmax if lmax_out is None else lmax_out
    allowed = set(so2_paths(lmax, lmax_out))
    strange = [path for path in weights if path not in allowed]
    if strange or not weights:
        raise ValueError(
            f"paths must be some of (l1, l2, l3) with |l1-l3| <= l2 <= l1+l3, l1 <= {lmax}, l3 <= {lmax_out}; got "
            f"{strange[0] if strange else 'none'}"
        )
    shapes = {tuple(w.shape) for w in weights.values()}
    if len(shapes) > 1:
        raise ValueError(f"all paths must have weights of one shape [C_in, C_out], got {sorted(shapes)}")
    first = next(iter(weights.values()))
    c_in, c_out = first.shape
    orders = []
    for m in range(min(lmax, lmax_out) + 1):
        made = first.new_zeros(2, lmax + 1 - m, c_in, lmax_out + 1 - m, c_out, dtype=torch.float64)
        for (l1, l2, l3), weight in weights.items():
            if min(l1, l3) >= m:
                made[(l1 + l2 + l3) % 2, l1 - m, :, l3 - m] += _symbols(l1, l2, l3)[m] * weight.double()
        made = made.flatten(3).flatten(1, 2).to(first.dtype)
        orders.append(made if m else made[:1])
    return orders


def paths_from_so2(weights: Sequence[Tensor], lmax: int, lmax_out: int | None = None) -> dict[Path, Tensor]:
    r"""The way back: path weights of SO(2) weights, the exact inverse of :func:`so2_from_paths`.

    By the orthogonality of 3j symbols,
    :math:`W^{l_1 l_2 l_3} = \sqrt{(2 l_2 + 1) / (2 l_3 + 1)} \bigl(A^0 C_{000} + 2 \sum_{m>0} A^m C_{m0m}\bigr)`, and
    with :math:`B^m C_{-m 0 m}` for odd sums.

    Args:
        weights: Per order ``[1 or 2, (L+1-m) C_in, (L'+1-m) C_out]``, for all orders up to ``min(lmax, lmax_out)``
            (without extra scalars). A missing imaginary part is zero.
        lmax: Highest degree of the input.
        lmax_out: Highest degree of the output, ``lmax`` by default.

    Returns:
        By path ``[C_in, C_out]``, in the dtype given.

    Raises:
        ValueError: If orders are missing (a layer truncated to fewer orders is no such product) or a shape is wrong.
    """
    lmax_out = lmax if lmax_out is None else lmax_out
    orders = min(lmax, lmax_out) + 1
    if len(weights) != orders:
        raise ValueError(
            f"weights of all {orders} orders are needed, got {len(weights)}: a layer with mmax < lmax is no "
            "Clebsch-Gordan product; pad it with zero matrices to get the product it approximates"
        )
    c_in, c_out = weights[0].size(1) // (lmax + 1), weights[0].size(2) // (lmax_out + 1)
    parts = []
    for m, weight in enumerate(weights):
        want = ((lmax + 1 - m) * c_in, (lmax_out + 1 - m) * c_out)
        if weight.dim() != 3 or tuple(weight.shape[1:]) != want or weight.size(0) not in (1, 2):
            raise ValueError(f"weights of order {m} must have shape [1 or 2, {want[0]}, {want[1]}], got {weight.shape}")
        parts.append(weight.double().view(-1, lmax + 1 - m, c_in, lmax_out + 1 - m, c_out))
    found: dict[Path, Tensor] = {}
    for l1, l2, l3 in so2_paths(lmax, lmax_out):
        odd, total = (l1 + l2 + l3) % 2, weights[0].new_zeros(c_in, c_out, dtype=torch.float64)
        for m, symbol in enumerate(_symbols(l1, l2, l3)):
            if parts[m].size(0) > odd:
                factor = (2 if m else 1) * symbol / (2 * l3 + 1)
                total = total + factor * parts[m][odd, l1 - m, :, l3 - m]
        found[l1, l2, l3] = total.to(weights[0].dtype)
    return found

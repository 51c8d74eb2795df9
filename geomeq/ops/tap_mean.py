r"""The last step of a message in the frame of an edge: linear map, SiLU, and the mean over rolls about the axis."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def tap_mean(hidden: Tensor, weight: Tensor, bias: Tensor, rows: int) -> Tensor:
    r"""Mean over taps of :math:`Z(\theta_k)^T \, \text{SiLU}(W h_k + b)`.

    Tap k saw the edge rolled by :math:`\theta_k = 2 \pi k / K` about its axis; its rows are rolled back,

    .. math:: y_m = \frac{1}{K} \sum_k \cos(m \theta_k) \, s^k_m - \sin(m \theta_k) \, s^k_{-m}.

    Args:
        hidden: What each tap found, ``[K, E, H]``, K = 1 or 4.
        weight: ``[H, M * C]``, the columns of rows ``m = -(M-1)/2 .. (M-1)/2`` one after the other.
        bias: ``[M * C]``.
        rows: ``M``.

    Returns:
        ``[E, M, C]``.
    """
    taps, edges, width = hidden.shape
    activated = F.silu(torch.addmm(bias, hidden.reshape(taps * edges, width), weight))
    activated = activated.view(taps, edges, rows, -1)
    if taps == 1:
        return activated[0]
    return _roll_back(activated)


def _roll_back(activated: Tensor) -> Tensor:
    taps, _, rows, _ = activated.shape
    largest, out = (rows - 1) // 2, []
    for m in range(-largest, largest + 1):
        terms = []
        for k in range(taps):
            for factor, at in ((math.cos(2 * math.pi * m * k / taps), m), (-math.sin(2 * math.pi * m * k / taps), -m)):
                if abs(factor) > 1e-9:
                    terms.append(activated[k, :, at + largest] * (round(factor, 12) / taps))
        out.append(sum(terms[1:], terms[0]))
    return torch.stack(out, dim=1)

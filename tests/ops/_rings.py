"""What ring convolutions are compared with."""

import torch
from torch import Tensor


def dense(parts: list[Tensor], size_in, size_out) -> Tensor:
    """The matrix of every filter, entry by entry, ``[K, N_out, N_in]``."""
    row_out, row_in, offset, coef = parts
    out = torch.zeros(coef.size(1), *size_out, *size_in, dtype=torch.float64)
    ratio = size_in[1] // size_out[1]
    for column in range(size_out[1]):
        for i, j, shift, value in zip(row_out.tolist(), row_in.tolist(), offset.tolist(), coef, strict=True):
            out[:, i, column, j, (shift + ratio * column) % size_in[1]] += value
    return out.flatten(3).flatten(1, 2)


def definition(matrix: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    groups = x.size(-1) // weight.size(1)
    sums = torch.einsum("kij,bjc->bikc", matrix, x.double()).unflatten(3, (groups, -1))
    return torch.einsum("bikgc,gock->bigo", sums, weight.double().unflatten(0, (groups, -1))).flatten(2)

"""Tables of integer frequencies, by which a range coder writes symbols."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PRECISION = 20  # bits of a frequency: exact in float32, which a coder may compute in


@dataclass(frozen=True, eq=False)
class CodingTables:
    """Frequencies of consecutive integers, a list of tables of different lengths.

    Table ``t`` gives the integers ``low[t]``, ``low[t] + 1``, ... and, as its last entry, everything else ("escape").
    All are integers, so that whoever holds the same tables codes the same bits, on any machine.

    Attributes:
        low: Least integer of each table, ``[T]``, int64.
        start: Where each table begins in ``count``, ``[T + 1]``, int64.
        count: Frequencies, each at least 1, those of a table in sum ``2^20``, int32.
    """

    low: Tensor
    start: Tensor
    count: Tensor

    def __len__(self) -> int:
        return self.low.numel()

    def frequencies(self, table: int) -> np.ndarray:
        """Of one table, the escape last."""
        begin, end = self.start[table : table + 2].tolist()
        return self.count[begin:end].cpu().numpy()

    def least_bits(self) -> np.ndarray:
        """What the likeliest symbol of each table costs, ``[T]``: no symbol costs less."""
        most = np.maximum.reduceat(self.count.cpu().numpy(), self.start[:-1].cpu().numpy())
        return PRECISION - np.log2(most)

    def bits(self, symbols: Tensor, table: Tensor) -> Tensor:
        """What each symbol costs, float64; an escaped one as much as its escape, without the digits after it.

        Args:
            symbols: Integers.
            table: Which table each is coded by, same shape.
        """
        length = self.start.diff()[table]
        place = symbols - self.low[table]
        place = torch.where((place < 0) | (place >= length - 1), length - 1, place)
        return PRECISION - self.count[self.start[table] + place].double().log2()


def build_tables(low: np.ndarray, pmfs: list[np.ndarray]) -> CodingTables:
    """Rounds probabilities to frequencies.

    Args:
        low: Least integer of each table.
        pmfs: Probabilities of consecutive integers; what they lack of 1 is the escape's.
    """
    counts = [_round(pmf) for pmf in pmfs]
    start = np.concatenate([[0], np.cumsum([len(c) for c in counts])])
    return CodingTables(
        torch.from_numpy(np.asarray(low, dtype=np.int64)),
        torch.from_numpy(start.astype(np.int64)),
        torch.from_numpy(np.concatenate(counts).astype(np.int32)),
    )


def _round(pmf: np.ndarray) -> np.ndarray:
    """Frequencies of at least 1 in sum ``2^PRECISION``, rounded down first and filled by the largest remainders."""
    total = 1 << PRECISION
    if len(pmf) + 1 > total // 2:
        raise ValueError(f"a table of {len(pmf)} integers is too wide to code; train on, or clip the latents")
    pmf = np.append(pmf, max(0.0, 1.0 - math.fsum(pmf)))
    exact = pmf / math.fsum(pmf) * (total - len(pmf))  # one is set aside for each
    count = np.floor(exact).astype(np.int64)
    rest = total - len(pmf) - int(count.sum())
    count[np.argsort(count - exact, kind="stable")[:rest]] += 1
    return count + 1

"""Integers to bytes and back by range coding, with the tables of :mod:`.coding_tables`."""

from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from .coding_tables import CodingTables

_DIGITS = 16  # bits of an escaped number are written in two parts of at most so many
_SLACK, _ROUNDING = 64.0, 0.1  # bits, and share, by which a stream may be shorter than its symbols take


def _stream() -> ModuleType:
    try:
        from constriction import stream
    except ImportError as error:
        raise ImportError("coding to bytes needs constriction: pip install 'geomeq[codec]'") from error
    return stream


class RangeWriter:
    """Writes arrays of integers one after the other into one stream of bytes."""

    def __init__(self) -> None:
        self._model = _stream().model
        self._coder = _stream().queue.RangeEncoder()

    def write(self, symbols: Tensor, table: Tensor, tables: CodingTables) -> None:
        """Appends integers.

        Symbols of one table are written in one go, tables in turn; then what the tables do not hold, as sign and
        magnitude with a prefix that says how many digits follow.

        Args:
            symbols: Integers below 2^31 in size, any shape.
            table: Table of each, same shape.
            tables: Frequencies.
        """
        value, group = _flat(symbols), _flat(table)
        if len(value) and not -(2**31) < value.min() <= value.max() < 2**31:  # of -2^63 there is no absolute value
            raise ValueError(
                f"latents from {value.min()} to {value.max()} cannot be coded; the encoder gives no sane numbers"
            )
        low, length = tables.low.numpy(), np.diff(tables.start.numpy())
        place = value - low[group]
        escaped = (place < 0) | (place >= length[group] - 1)
        place[escaped] = length[group[escaped]] - 1
        for which, at in _groups(group, len(tables)):
            self._coder.encode(place[at].astype(np.int32), _model(self._model, tables, which))
        self._write_escaped(value[escaped])

    def _write_escaped(self, value: np.ndarray) -> None:
        if not len(value):
            return
        coded = 2 * np.abs(value) + (value < 0) + 1  # at least 1, below 2^33
        digits = np.floor(np.log2(coded.astype(np.float64))).astype(np.int64)
        rest = coded - (np.int64(1) << digits)
        self._coder.encode(digits.astype(np.int32), self._model.Uniform(34))
        for part, width in _parts(rest, digits):
            self._coder.encode(part.astype(np.int32), self._model.Uniform(), (1 << width).astype(np.int32))

    def data(self) -> bytes:
        """All that was written."""
        return self._coder.get_compressed().astype("<u4").tobytes()


class RangeReader:
    """Reads what :class:`RangeWriter` wrote, with the same tables in the same order.

    Raises:
        ValueError: If ``data`` cannot be such a stream.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise ValueError(f"a range-coded stream has a multiple of 4 bytes, got {len(data)}")
        self._model = _stream().model
        self._coder = _stream().queue.RangeDecoder(np.frombuffer(data, dtype="<u4").astype(np.uint32))
        self._left = 8.0 * len(data) + _SLACK

    def read(self, table: Tensor, tables: CodingTables) -> Tensor:
        """The next integers, int64, in the shape of ``table``.

        Raises:
            ValueError: If the stream does not hold them.
        """
        group = _flat(table)
        least = np.bincount(group, minlength=len(tables)) @ tables.least_bits()
        self._left -= (1 - _ROUNDING) * float(least)
        if self._left < 0:  # before time and memory are spent on what cannot be there
            raise ValueError(f"the stream is too short for {len(group)} symbols, which take at least {least:.0f} bits")
        length = np.diff(tables.start.numpy())
        place = np.empty(len(group), dtype=np.int64)
        try:
            for which, at in _groups(group, len(tables)):
                place[at] = self._coder.decode(_model(self._model, tables, which), len(at))
            escaped = place == length[group] - 1
            value = place + tables.low.numpy()[group]
            value[escaped] = self._read_escaped(int(escaped.sum()))
        except AssertionError as error:  # what constriction raises for a stream no encoder wrote
            raise ValueError(f"the stream does not fit the tables ({error})") from error
        return torch.from_numpy(value).reshape(table.shape)

    def _read_escaped(self, count: int) -> np.ndarray:
        if not count:
            return np.empty(0, dtype=np.int64)
        digits = self._coder.decode(self._model.Uniform(34), count).astype(np.int64)
        rest = np.zeros(count, dtype=np.int64)
        for shift in (0, _DIGITS, 2 * _DIGITS):
            width = np.clip(digits - shift, 0, _DIGITS)
            at = np.flatnonzero(width)
            if len(at):
                part = self._coder.decode(self._model.Uniform(), (1 << width[at]).astype(np.int32))
                rest[at] |= part.astype(np.int64) << shift
        coded = rest + (np.int64(1) << digits) - 1
        return np.where(coded & 1, -(coded >> 1), coded >> 1)

    def check_end(self) -> None:
        """Raises unless the stream may be at its end."""
        if not self._coder.maybe_exhausted():
            raise ValueError("the stream holds more than was read")


def _parts(rest: np.ndarray, digits: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Numbers of ``digits`` bits cut into pieces of at most 16, lowest first, those without digits left out."""
    out = []
    for shift in (0, _DIGITS, 2 * _DIGITS):
        width = np.clip(digits - shift, 0, _DIGITS)
        at = np.flatnonzero(width)
        if len(at):
            out.append(((rest[at] >> shift) & ((1 << width[at]) - 1), width[at]))
    return out


def _groups(group: np.ndarray, count: int) -> list[tuple[int, np.ndarray]]:
    """Places of the symbols of each table that has any, in order."""
    order = np.argsort(group.astype(np.min_scalar_type(count)), kind="stable")  # by radix where numbers are small
    ends = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=count))])
    return [(t, order[ends[t] : ends[t + 1]]) for t in range(count) if ends[t + 1] > ends[t]]


def _model(model: ModuleType, tables: CodingTables, which: int) -> object:
    """Frequencies are powers of two apart from 1 and their sums are exact, so any machine builds the same model."""
    return model.Categorical(tables.frequencies(which) / float(1 << 20), perfect=False)


def _flat(values: Tensor) -> np.ndarray:
    return values.detach().cpu().reshape(-1).long().numpy()

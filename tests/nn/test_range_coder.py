"""What is written is read, in about as many bits as it is worth."""

import hashlib
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomeq.nn import GaussianConditional
from geomeq.nn._range_coder import RangeReader, RangeWriter
from geomeq.nn.coding_tables import build_tables

pytest.importorskip("constriction", reason="needs constriction: pip install 'geomeq[codec]'")


def write(*parts):
    writer = RangeWriter()
    for symbols, index, tables in parts:
        writer.write(symbols, index, tables)
    return writer.data()


def draw(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    scale = torch.exp(torch.rand(count, generator=rng) * 8 - 2.2).double()
    return (scale * torch.randn(count, generator=rng)).round().long(), GaussianConditional().index(scale), scale


def test_gaussian_symbols_cost_their_information_and_come_back():
    tables = GaussianConditional().tables()
    symbols, index, scale = draw(40_000)
    data = write((symbols, index, tables))
    reader = RangeReader(data)
    assert torch.equal(reader.read(index, tables), symbols)
    reader.check_end()
    bits = float(-GaussianConditional().likelihood(symbols.double(), scale).log2().sum())
    assert abs(8 * len(data) / bits - 1) < 3e-3  # tables are of rounded scales and frequencies
    assert abs(8 * len(data) - float(tables.bits(symbols, index).sum())) < 64 + 1e-3 * bits
    wrong = (index + 12).clamp(max=63)
    assert 8 * len(write((symbols, wrong, tables))) > 1.2 * bits  # the check has teeth


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), max_size=40), st.integers(0, 63))
def test_any_integers_come_back_through_the_escape(values, which):
    tables, symbols = GaussianConditional().tables(), torch.tensor(values, dtype=torch.int64)
    index = torch.full_like(symbols, which)
    data = write((symbols, index, tables), (symbols.flip(0), index, tables))
    reader = RangeReader(data)
    assert torch.equal(reader.read(index, tables), symbols)
    assert torch.equal(reader.read(index, tables), symbols.flip(0))


def test_edges_of_the_tables_and_beyond():
    tables = build_tables(np.array([-1, 5]), [np.array([0.2, 0.5, 0.3]), np.array([1.0])])
    symbols = torch.tensor([-1, 1, 2, -2, 5, 4, 6, 0])
    index = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert torch.equal(RangeReader(write((symbols, index, tables))).read(index, tables), symbols)


def test_shapes_and_empty_arrays():
    tables = GaussianConditional().tables()
    symbols, index, _ = draw(24)
    symbols, index = symbols.view(2, 3, 4), index.view(2, 3, 4)
    nothing = torch.zeros(0, 5, dtype=torch.int64)
    reader = RangeReader(write((nothing, nothing, tables), (symbols, index, tables)))
    assert reader.read(nothing, tables).shape == (0, 5)
    assert torch.equal(reader.read(index, tables), symbols)


@pytest.mark.parametrize("which", [0, 10, 20, 63])
def test_the_likeliest_symbols_fit_into_their_bits_and_no_more_are_looked_for(which):
    """A short stream that claims to hold much is refused before time and memory are spent on it."""
    tables = GaussianConditional().tables()
    index = torch.full((50_000,), which)
    data = write((torch.zeros_like(index), index, tables))
    assert torch.equal(RangeReader(data).read(index, tables), torch.zeros_like(index))
    if which == 0:  # costs next to nothing: there is no telling
        return
    with pytest.raises(ValueError, match="too short for 150000 symbols"):
        RangeReader(data).read(index.repeat(3), tables)
    reader = RangeReader(data)
    reader.read(index, tables)
    with pytest.raises(ValueError, match="too short"):
        reader.read(index, tables)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64))
def test_noise_is_read_as_something_or_refused(data):
    tables = GaussianConditional().tables()
    try:
        found = RangeReader(data).read(torch.arange(64), tables)
    except ValueError:
        return
    assert found.shape == (64,)


def test_a_million_symbols_take_about_a_second():
    tables, (symbols, index, _) = GaussianConditional().tables(), draw(1_000_000)
    start = time.process_time()
    data = write((symbols, index, tables))
    assert torch.equal(RangeReader(data).read(index, tables), symbols)
    assert time.process_time() - start < 2.0


def test_bad_input_is_named(monkeypatch):
    tables = GaussianConditional().tables()
    for value in (2**31, -(2**31), float("inf"), -1e20):  # the last two are -2^63 as integers on many machines
        with pytest.raises(ValueError, match="latents from .* cannot be coded"):
            write((torch.tensor([0, value]).double().long(), torch.tensor([0, 0]), tables))
    with pytest.raises(ValueError, match="multiple of 4 bytes"):
        RangeReader(b"abc")
    with pytest.raises(ValueError, match="too wide"):
        build_tables(np.array([0]), [np.ones(2**20) / 2**20])
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"pip install 'geomeq\[codec\]'"):
        RangeWriter()


def test_the_bytes_of_this_format_do_not_change():
    # files of today must be read by the versions of tomorrow, of this package and of constriction
    place = np.arange(3000)
    index = torch.from_numpy(place % 64)
    symbols = torch.from_numpy((place * 7919 % 13 - 6) * (1 + (place % 64) ** 2 // 20))
    symbols[::500] += 10_000
    data = write((symbols, index, GaussianConditional().tables()))
    assert (len(data), hashlib.sha256(data).hexdigest()[:16]) == (10060, "85799fd081f7625d")

"""radius_edges equals its definition on every search path, and does not see rotations, order or batching."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomeq.groups import random_orthogonal
from geomeq.neighbors import _pairs as pairs
from geomeq.neighbors import radius_edges, tie_tolerance
from geomeq.neighbors._points import read_points, sort_edges
from tests.neighbors._brute import radius as brute
from tests.neighbors._clouds import SEARCHES, clouds


def search_edges(pos, cutoff, batch=None, query=None, query_batch=None, search="auto"):
    source = read_points(pos, batch)
    target = None if query is None else read_points(query, query_batch)
    return sort_edges(*pairs.pairs_within(source, target, cutoff * (1 + tie_tolerance(pos.dtype)), search))


@pytest.mark.parametrize("search", SEARCHES)
@given(cloud=clouds(), cutoff=st.sampled_from([0.3, 1.0, 2**0.5, 2.0, 100.0]))
@settings(max_examples=150, deadline=None)
def test_equals_the_definition(search, cloud, cutoff):
    pos, batch, scale, _ = cloud
    assert torch.equal(search_edges(pos, cutoff * scale, batch, search=search), brute(pos, cutoff * scale, batch))


@pytest.mark.parametrize("search", SEARCHES)
@given(cloud=clouds(), cutoff=st.sampled_from([0.3, 1.0, 2.0]))
@settings(max_examples=100, deadline=None)
def test_queries_equal_the_definition(search, cloud, cutoff):
    pos, batch, scale, generator = cloud
    query = torch.randint(-2, 3, (7, pos.size(1)), generator=generator).double() * scale
    query_batch = None if batch is None else torch.randint(0, 4, (7,), generator=generator)
    found = search_edges(pos, cutoff * scale, batch, query, query_batch, search)
    assert torch.equal(found, brute(pos, cutoff * scale, batch, query, query_batch))
    if search == "tree":
        public = radius_edges(pos, cutoff * scale, batch, query=query, query_batch=query_batch)
        assert torch.equal(public, found)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("cutoff", "degree"), [(1.0, 6), (2**0.5, 18), (0.999, 0), (3**0.5, 26), (2.0, 32)])
@pytest.mark.parametrize("spacing", [1.0, 0.1, 1 / 3])
def test_pairs_exactly_at_the_cutoff_are_connected(search, cutoff, degree, spacing):
    axis = torch.arange(7, dtype=torch.float64) * spacing
    pos = torch.cartesian_prod(axis, axis, axis)
    edges = search_edges(pos, cutoff * spacing, search=search)
    centre = 3 * 49 + 3 * 7 + 3
    assert int((edges[1] == centre).sum()) == degree


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_turned_lattice_keeps_its_edges(search, dtype):
    axis = torch.arange(-3, 4, dtype=torch.float64) * 0.7
    pos = torch.cartesian_prod(axis, axis, axis)
    before = search_edges(pos.to(dtype), 0.7 * 2**0.5, search=search)
    flipped = 0
    for seed in range(5):
        turned = (pos @ random_orthogonal(seed=seed).T + 0.3).to(dtype)
        assert torch.equal(search_edges(turned, 0.7 * 2**0.5, search=search), before)
        exact = brute(turned, 0.7 * 2**0.5, rtol=0)
        flipped += exact.shape != before.shape or not torch.equal(exact, before)
    assert flipped == 5  # without the tolerance every rotation would have changed some edge


def test_order_of_points_does_not_matter():
    pos = torch.randn(60, 3)
    order = torch.randperm(60)
    a, b = radius_edges(pos, 1.0), order[radius_edges(pos[order], 1.0)]
    assert torch.equal(sort_edges(b[0], b[1]), a)


def test_a_batch_equals_its_parts():
    parts = [torch.randn(n, 3) for n in (5, 1, 40, 12)]
    # graphs lie on top of each other and one lies far away: neither costs a digit
    parts[2] += 1e4
    batch = torch.repeat_interleave(torch.arange(4), torch.tensor([5, 1, 40, 12]))
    starts = [0, 5, 6, 46]
    expected = torch.cat([radius_edges(p, 1.2) + s for p, s in zip(parts, starts, strict=True)], dim=1)
    assert torch.equal(radius_edges(torch.cat(parts), 1.2, batch), expected)
    for search in SEARCHES:
        assert torch.equal(search_edges(torch.cat(parts), 1.2, batch, search=search), expected)


def test_edges_are_sorted_symmetric_and_complete():
    pos = torch.rand(3000, 3)
    edges = radius_edges(pos, 0.15)
    key = edges[1] * 3000 + edges[0]
    assert (key.diff() > 0).all()
    mirrored = edges.flip(0)
    assert torch.equal(sort_edges(mirrored[0], mirrored[1]), edges)
    assert int(torch.bincount(edges[1]).max()) > 32  # the silent limit of other libraries


def test_loops_and_duplicates():
    pos = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    assert radius_edges(pos, 1.0).tolist() == [[1, 0], [0, 1]]
    assert radius_edges(pos, 1.0, loop=True).tolist() == [[0, 1, 0, 1, 2], [0, 0, 1, 1, 2]]


@pytest.mark.parametrize("search", SEARCHES)
def test_wide_and_narrow_clouds(search):
    pos = torch.cat([torch.randn(50, 3, dtype=torch.float64), 1e9 + torch.randn(50, 3, dtype=torch.float64)])
    assert torch.equal(search_edges(pos, 1.0, search=search), brute(pos, 1.0))
    line = torch.linspace(0, 1e14, 20, dtype=torch.float64)[:, None]
    assert search_edges(line, 1e-3, search=search).shape == (2, 0)


@pytest.mark.parametrize("search", ["dense", "grid"])
def test_chunks_do_not_show(search, monkeypatch):
    pos = torch.rand(200, 3, dtype=torch.float64)
    whole = search_edges(pos, 0.3, search=search)
    for size in (1, 7, 1000):
        monkeypatch.setattr(pairs, "CHUNK", size)
        assert torch.equal(search_edges(pos, 0.3, search=search), whole)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_connect(n):
    for batch in (None, torch.zeros(n, dtype=torch.long)):
        edges = radius_edges(torch.zeros(n, 3), 1.0, batch)
        assert edges.shape == (2, 0)
        assert edges.dtype == torch.long
    assert radius_edges(torch.zeros(3, 3), 1.0, query=torch.zeros(n, 3)).shape == (2, 3 * n)


def test_positions_may_carry_gradients():
    assert not radius_edges(torch.randn(5, 3, requires_grad=True), 1.0).requires_grad


POS = torch.zeros(4, 3)
NAN = torch.tensor([[0.0], [float("nan")], [1.0]])


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "row 1 holds", lambda: radius_edges(NAN, 1.0)),
        (ValueError, "must be finite", lambda: radius_edges(torch.full((2, 3), torch.inf), 1.0)),
        (ValueError, "overflow", lambda: radius_edges(torch.full((2, 3), 1e200, dtype=torch.float64), 1.0)),
        (ValueError, "cutoff must be", lambda: radius_edges(POS, -1.0)),
        (ValueError, "cutoff must be", lambda: radius_edges(POS, 0.0)),
        (ValueError, "cutoff must be", lambda: radius_edges(POS, float("nan"))),
        (ValueError, "cutoff must be", lambda: radius_edges(POS, float("inf"))),
        (ValueError, "pos must have shape", lambda: radius_edges(torch.zeros(3), 1.0)),
        (ValueError, "at least one coordinate", lambda: radius_edges(torch.zeros(3, 0), 1.0)),
        (TypeError, "must be a torch.Tensor", lambda: radius_edges([[0.0]], 1.0)),
        (TypeError, "float32 or float64", lambda: radius_edges(torch.zeros(3, 3, dtype=torch.long), 1.0)),
        (ValueError, "batch must have shape", lambda: radius_edges(POS, 1.0, torch.zeros(3, dtype=torch.long))),
        (TypeError, "batch must hold integers", lambda: radius_edges(POS, 1.0, torch.zeros(4))),
        (ValueError, "from 0, got -1", lambda: radius_edges(POS, 1.0, torch.tensor([0, -1, 0, 0]))),
        (ValueError, "3 coordinates", lambda: radius_edges(POS, 1.0, query=torch.zeros(2, 2))),
        (ValueError, "without query_batch", lambda: radius_edges(POS, 1.0, torch.zeros(4).long(), query=POS)),
        (ValueError, "without batch", lambda: radius_edges(POS, 1.0, query=POS, query_batch=torch.zeros(4).long())),
        (ValueError, "without query", lambda: radius_edges(POS, 1.0, query_batch=torch.zeros(4).long())),
        (ValueError, "loop=True", lambda: radius_edges(POS, 1.0, query=POS, loop=True)),
        (ValueError, "rtol", lambda: radius_edges(POS, 1.0, rtol=-1.0)),
    ],
)
def test_bad_input_is_named(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    for n, cutoff in ((30, 1.0), (20_000, 0.2)):
        pos, batch = torch.randn(n, 3), torch.arange(n) * 5 // n
        for b in (None, batch):
            edges = radius_edges(pos, cutoff, b)
            assert torch.equal(radius_edges(pos.cuda(), cutoff, None if b is None else b.cuda()).cpu(), edges)
            assert torch.equal(
                radius_edges(pos.cuda(), cutoff, query=pos[:9].cuda()).cpu(), radius_edges(pos, cutoff, query=pos[:9])
            )

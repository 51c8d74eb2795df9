"""knn_edges equals its definition on every search path; ties follow a rule that rotations respect."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomeq.groups import random_orthogonal
from geomeq.neighbors import _nearest as nearest
from geomeq.neighbors import knn_edges, tie_tolerance
from geomeq.neighbors._points import read_points, sort_edges
from tests.neighbors._brute import knn as brute
from tests.neighbors._clouds import SEARCHES, clouds


def search_edges(pos, k, batch=None, query=None, query_batch=None, ties="keep", loop=False, search="auto"):
    source = read_points(pos, batch)
    target = None if query is None else read_points(query, query_batch)
    return sort_edges(*nearest.nearest_pairs(source, target, k, tie_tolerance(pos.dtype), ties, loop, search))


@pytest.mark.parametrize("ties", ["keep", "index"])
@pytest.mark.parametrize("search", SEARCHES)
@given(cloud=clouds(16), k=st.sampled_from([1, 2, 5, 30]), loop=st.booleans())
@settings(max_examples=100, deadline=None)
def test_equals_the_definition(search, ties, cloud, k, loop):
    pos, batch, _, _ = cloud
    expected = brute(pos, k, batch, ties=ties, loop=loop)
    assert torch.equal(search_edges(pos, k, batch, ties=ties, loop=loop, search=search), expected)


@pytest.mark.parametrize("search", SEARCHES)
@given(cloud=clouds(16), k=st.sampled_from([1, 3, 30]))
@settings(max_examples=200, deadline=None)
def test_queries_equal_the_definition(search, cloud, k):
    pos, batch, scale, generator = cloud
    query = torch.randint(-2, 3, (7, pos.size(1)), generator=generator).double() * scale
    query_batch = None if batch is None else torch.randint(0, 4, (7,), generator=generator)
    found = search_edges(pos, k, batch, query, query_batch, search=search)
    assert torch.equal(found, brute(pos, k, batch, query, query_batch))
    assert torch.equal(knn_edges(pos, k, batch, query=query, query_batch=query_batch), found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ties", ["keep", "index"])
def test_a_turned_lattice_keeps_its_edges(dtype, ties):
    axis = torch.arange(-2, 3, dtype=torch.float64) * 0.7
    pos = torch.cartesian_prod(axis, axis, axis)
    before = knn_edges(pos.to(dtype), 8, ties=ties)
    for seed in range(5):
        turned = (pos @ random_orthogonal(seed=seed).T + 0.3).to(dtype)
        for search in SEARCHES:
            assert torch.equal(search_edges(turned, 8, ties=ties, search=search), before)
    centre = 62
    count = int((before[1] == centre).sum())
    assert count == (18 if ties == "keep" else 8)  # 6 at distance 1, then 12 that tie
    # a search that breaks ties by rounding differs: the check has teeth
    distance = torch.cdist(turned.double(), turned.double()).fill_diagonal_(torch.inf)
    assert set(distance[centre].topk(8, largest=False).indices.tolist()) != set(before[0][before[1] == centre].tolist())


def test_many_ties_reach_beyond_the_first_request():
    turn = torch.arange(100, dtype=torch.float64) * (2 * torch.pi / 100)
    ring = torch.cat([torch.zeros(1, 2, dtype=torch.float64), torch.stack([turn.cos(), turn.sin()], dim=1)])
    for search in SEARCHES:
        edges = search_edges(ring, 2, search=search)
        assert int((edges[1] == 0).sum()) == 100
        assert (torch.bincount(edges[1])[1:] == 2).all()


def test_order_of_points_does_not_matter():
    pos = torch.randint(0, 4, (60, 3)).float()
    order = torch.randperm(60)
    b = order[knn_edges(pos[order], 5)]
    assert torch.equal(sort_edges(b[0], b[1]), knn_edges(pos, 5))


def test_a_batch_equals_its_parts():
    parts = [torch.randn(n, 3) for n in (5, 1, 40, 12)]
    parts[2] += 1e5
    batch = torch.repeat_interleave(torch.arange(4), torch.tensor([5, 1, 40, 12]))
    expected = torch.cat([knn_edges(p, 6) + s for p, s in zip(parts, [0, 5, 6, 46], strict=True)], dim=1)
    for search in SEARCHES:
        assert torch.equal(search_edges(torch.cat(parts), 6, batch, search=search), expected)


def test_random_points_have_exactly_k():
    pos = torch.rand(2000, 3, dtype=torch.float64)
    edges = knn_edges(pos, 16)
    assert (torch.bincount(edges[1]) == 16).all()
    assert (edges[0] != edges[1]).all()
    loops = knn_edges(pos, 16, loop=True)
    assert int((loops[0] == loops[1]).sum()) == 2000


def test_a_small_graph_connects_all_it_has():
    pos = torch.randn(3, 3)
    assert knn_edges(pos, 50).shape == (2, 6)
    assert knn_edges(torch.zeros(1, 3), 1).shape == (2, 0)
    assert knn_edges(torch.zeros(0, 3), 1).shape == (2, 0)
    assert knn_edges(pos, 2, query=torch.zeros(0, 3)).shape == (2, 0)


@pytest.mark.parametrize("search", SEARCHES)
def test_clustered_points_and_a_far_one(search):
    pos = torch.cat([1e-6 * torch.randn(60, 3), torch.randn(60, 3), torch.full((1, 3), 1e6)]).double()
    assert torch.equal(search_edges(pos, 4, search=search), brute(pos, 4))


@pytest.mark.parametrize("search", SEARCHES)
def test_all_points_at_one_place(search):
    assert search_edges(torch.zeros(9, 3), 2, search=search).shape == (2, 72)
    edges = search_edges(torch.zeros(9, 3), 2, ties="index", search=search)
    assert edges[:, :6].tolist() == [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]


def test_chunks_do_not_show(monkeypatch):
    pos = torch.rand(200, 3, dtype=torch.float64)
    whole = knn_edges(pos, 5)
    monkeypatch.setattr(nearest, "CHUNK", 40)
    for search in SEARCHES:
        assert torch.equal(search_edges(pos, 5, search=search), whole)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "at least 1", lambda: knn_edges(torch.zeros(3, 3), 0)),
        (TypeError, "integer", lambda: knn_edges(torch.zeros(3, 3), 2.0)),
        (TypeError, "integer", lambda: knn_edges(torch.zeros(3, 3), True)),
        (ValueError, "'keep' or 'index'", lambda: knn_edges(torch.zeros(3, 3), 1, ties="random")),
        (ValueError, "row 0 holds", lambda: knn_edges(torch.full((2, 3), torch.nan), 1)),
        (ValueError, "loop=True", lambda: knn_edges(torch.zeros(3, 3), 1, query=torch.zeros(1, 3), loop=True)),
    ],
)
def test_bad_input_is_named(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    for n in (30, 20_000):
        pos, batch = torch.randn(n, 3), torch.arange(n) * 5 // n
        for ties in ("keep", "index"):
            edges = knn_edges(pos, 8, batch, ties=ties)
            assert torch.equal(knn_edges(pos.cuda(), 8, batch.cuda(), ties=ties).cpu(), edges)

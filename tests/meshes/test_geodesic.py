"""Log maps by shortest paths: exact where flat, against the definition in loops, on the sphere, their symmetries."""

import cmath
import heapq
import math

import pytest
import torch

from geomeq.groups import wrap_angle
from geomeq.meshes import (
    edge_lengths,
    half_edges,
    nearest_nodes,
    one_ring,
    path_log,
    project,
    projected_transport,
    tangent_frames,
    vertex_normals,
)

from ._shapes import F64, annulus, grid, sphere, torus, two_parts


def ring(mesh):
    return one_ring(half_edges(mesh.face, mesh.pos.size(0)), edge_lengths(mesh.pos, mesh.face))


def brute_log(log, centre, limit, predecessors=2):
    """Place and turn of every vertex seen from ``centre``, in loops from the formula: {k: (place, turn)}."""
    edges = {}
    for (j, i), (r, angle), g in zip(
        log.edge_index.t().tolist(), log.polar.tolist(), log.transport.tolist(), strict=True
    ):
        edges.setdefault(i, {})[j] = (r, r * cmath.exp(1j * angle), cmath.exp(1j * g))
    distance, queue = {}, [(0.0, centre)]
    while queue:
        d, k = heapq.heappop(queue)
        if k not in distance:
            distance[k] = d
            for j, (r, _, _) in edges.get(k, {}).items():
                if j not in distance and d + r <= limit:
                    heapq.heappush(queue, (d + r, j))
    found = {centre: (0j, 1 + 0j)}
    for k in sorted(distance, key=distance.get)[1:]:
        nearer = [j for j in edges[k] if distance.get(j, math.inf) < distance[k] * (1 - 1e-6)]
        before = sorted((distance[j] + edges[k][j][0], j) for j in nearer)
        chosen = [centre] if centre in edges[k] else [j for _, j in before[:predecessors]]
        places = [found[j][0] + found[j][1] * edges[j][k][1] for j in chosen]
        turns = [found[j][1] * edges[j][k][2] for j in chosen]
        found[k] = (sum(places) / len(places), sum(turns) / abs(sum(turns)))
    return found


def assert_equal_angles(a, b, tol):
    assert float(wrap_angle(a - b).abs().max()) < tol


def jittered(mesh, size=0.15):
    """Another shape of the same triangles: no two paths are equally long."""
    mesh.pos = mesh.pos + size * torch.rand(mesh.pos.shape, dtype=F64)
    return mesh


@pytest.mark.parametrize("radius", [1.0, 2.3, 20.0])
def test_exact_and_complete_on_a_flat_sheet(radius):
    sheet = grid(6, 7)
    log = ring(sheet)
    frame = tangent_frames(sheet.pos, vertex_normals(sheet.pos, sheet.face), log)
    wide = path_log(log, 42, radius=radius, pos=sheet.pos)
    apart = torch.cdist(sheet.pos, sheet.pos) <= radius * (1 + 1e-9)
    assert torch.equal(wide.edge_index.flip(0), apart.fill_diagonal_(False).nonzero().t())  # sorted by target, source
    exact = project(sheet.pos, frame, wide.edge_index)
    torch.testing.assert_close(wide.polar[:, 0], exact.polar[:, 0], atol=1e-12, rtol=0)
    assert_equal_angles(wide.polar[:, 1], exact.polar[:, 1], 1e-11)
    assert_equal_angles(wide.transport, exact.transport, 1e-11)


@pytest.mark.parametrize("mesh", [torus(9, 7), sphere(1), annulus(), two_parts()])
def test_equals_the_definition_in_loops(mesh):
    mesh = jittered(mesh.clone())
    log, num, radius = ring(mesh), mesh.pos.size(0), 1.4
    wide = path_log(log, num, radius=radius)
    brute = [brute_log(log, i, 1.5 * radius) for i in range(num)]
    want = {}
    for i in range(num):
        for k in brute[i]:
            length = (abs(brute[i][k][0]) + abs(brute[k][i][0])) / 2 if i in brute[k] else math.inf
            if i != k and length <= radius:
                want[k, i] = (length, cmath.phase(brute[i][k][0]), brute[i][k][1] + brute[k][i][1].conjugate())
    assert sorted(want, key=lambda pair: pair[::-1]) == list(zip(*wide.edge_index.tolist(), strict=True))
    r, angle, turn = zip(*(want[pair] for pair in sorted(want, key=lambda pair: pair[::-1])), strict=True)
    torch.testing.assert_close(wide.polar[:, 0], torch.tensor(r, dtype=F64), atol=1e-12, rtol=0)
    assert_equal_angles(wide.polar[:, 1], torch.tensor(angle, dtype=F64), 1e-9)
    assert_equal_angles(wide.transport, torch.tensor([cmath.phase(t) for t in turn], dtype=F64), 1e-9)


@pytest.mark.parametrize(("level", "most"), [(2, (0.02, 0.05, 0.1)), (3, (0.005, 0.015, 0.03))])
def test_three_rings_of_a_sphere_approach_great_circles(level, most):
    mesh = sphere(level)
    log = ring(mesh)
    frame = tangent_frames(mesh.pos, mesh.pos, log)
    wide = path_log(log, mesh.pos.size(0), rings=3, pos=mesh.pos)
    exact = project(mesh.pos, frame, wide.edge_index)
    arc = 2 * torch.asin(exact.polar[:, 0] / 2)
    errors = (wide.polar[:, 0] / arc - 1).abs(), wide.polar[:, 1] - exact.polar[:, 1], wide.transport - exact.transport
    assert float(errors[0].max()) < most[0]
    assert float(wrap_angle(errors[1]).abs().max()) < most[1]
    assert float(wrap_angle(errors[2]).abs().max()) < most[2]


def test_two_predecessors_are_better_than_one():
    mesh = sphere(2)
    log = ring(mesh)
    frame = tangent_frames(mesh.pos, mesh.pos, log)
    error = []
    for predecessors in (1, 2):
        found = brute_log(log, 40, 1.5, predecessors)
        others = torch.tensor([k for k in found if k != 40])
        exact = projected_transport(frame[others], frame[40].expand(len(others), 3, 3))
        turn = torch.tensor([cmath.phase(found[k][1]) for k in others.tolist()], dtype=F64)
        error.append(float(wrap_angle(turn - exact).abs().mean()))
    assert error[1] < 0.8 * error[0]


def test_rings_count_edges():
    mesh = torus(9, 7)
    log, num = ring(mesh), mesh.pos.size(0)
    step = torch.zeros(num, num).index_put_((log.edge_index[1], log.edge_index[0]), torch.ones(log.num_edges))
    reach = step
    for rings in (1, 2, 3):
        pairs = (reach > 0).fill_diagonal_(False).nonzero().t()
        assert torch.equal(path_log(log, num, rings=rings).edge_index.flip(0), pairs)
        reach = reach + reach @ step
    both = path_log(log, num, rings=2, radius=1.0)
    wide = path_log(log, num, rings=2)
    near = wide.take(wide.polar[:, 0] <= 1.0)
    assert torch.equal(both.edge_index, near.edge_index)
    torch.testing.assert_close(both.polar, near.polar)
    first = path_log(log, num, rings=1)
    torch.testing.assert_close(first.polar, log.polar)
    assert_equal_angles(first.transport, log.transport, 1e-12)


def test_pairs_agree_both_ways():
    mesh = jittered(torus(12, 8))
    wide = path_log(ring(mesh), 96, radius=1.5)
    key = wide.edge_index[1] * 96 + wide.edge_index[0]
    back = torch.searchsorted(key, wide.edge_index[0] * 96 + wide.edge_index[1])
    assert torch.equal(wide.polar[back, 0], wide.polar[:, 0])
    assert_equal_angles(wide.transport[back], -wide.transport, 1e-12)
    assert not torch.allclose(wide.polar[back, 1], wide.polar[:, 1])


def test_positions_only_make_it_faster_and_nodes_only_choose():
    mesh = jittered(torus(20, 10))
    log = ring(mesh)
    wide = path_log(log, 200, radius=1.2)
    again = path_log(log, 200, radius=1.2, pos=mesh.pos)
    assert torch.equal(wide.edge_index, again.edge_index)
    torch.testing.assert_close(wide.polar, again.polar, atol=1e-12, rtol=0)
    nodes = torch.randperm(200)[:70]
    some = path_log(log, 200, radius=1.2, nodes=nodes, pos=mesh.pos)
    kept = wide.take(torch.isin(wide.edge_index, nodes).all(dim=0))
    assert torch.equal(some.edge_index, kept.edge_index)
    torch.testing.assert_close(some.polar, kept.polar, atol=1e-12, rtol=0)
    torch.testing.assert_close(some.transport, kept.transport, atol=1e-12, rtol=0)
    assert path_log(log, 200, radius=1.0, nodes=nodes[:0]).num_edges == 0


def test_nearest_nodes_are_nearest_along_the_surface():
    mesh = jittered(torus(20, 10))
    log = ring(mesh)
    nodes = torch.tensor([150, 3, 77, 42])
    index, transport, distance = nearest_nodes(log, 200, nodes)
    places = [brute_log(log, i, math.inf) for i in nodes.tolist()]
    edges = {}
    for (j, i), r in zip(log.edge_index.t().tolist(), log.polar[:, 0].tolist(), strict=True):
        edges.setdefault(i, {})[j] = r
    every = [dijkstra(edges, i) for i in nodes.tolist()]
    for k in range(200):
        lengths = [d[k] for d in every]
        assert float(distance[k]) == pytest.approx(min(lengths))
        assert lengths[int(index[k])] == min(lengths)
    assert index[nodes].tolist() == [0, 1, 2, 3]
    assert float(transport[nodes].abs().max()) == 0
    near = [k for k in range(200) if float(distance[k]) < 0.7]
    turn = torch.tensor([cmath.phase(places[int(index[k])][k][1]) for k in near], dtype=F64)
    assert float(wrap_angle(turn - transport[near]).abs().median()) < 1e-9  # apart from where clusters meet
    parts = ring(two_parts())
    assert nearest_nodes(parts, 85, torch.tensor([0]))[0].tolist() == [0] * 42 + [-1] * 43


def dijkstra(edges, start):
    distance, queue = {}, [(0.0, start)]
    while queue:
        d, k = heapq.heappop(queue)
        if k not in distance:
            distance[k] = d
            for j, r in edges[k].items():
                heapq.heappush(queue, (d + r, j))
    return distance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs rings or radius"),
        ({"rings": 0}, "must be positive, got 0 and None"),
        ({"radius": -1.0}, "must be positive, got None and -1.0"),
        ({"radius": math.nan}, "must be positive"),
    ],
)
def test_ranges_must_be_positive(arguments, message):
    with pytest.raises(ValueError, match=message):
        path_log(ring(grid()), 20, **arguments)


def test_nothing_to_expand():
    sheet = grid()
    log = ring(sheet).take(torch.zeros(0, dtype=torch.long))
    assert path_log(log, 20, radius=1.0).num_edges == 0

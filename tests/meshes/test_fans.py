"""Fans and the one-ring: against loops over vertices, Gauss-Bonnet, holonomy, bending, orientation."""

import math

import pytest
import torch

from geomeq.groups import wrap_angle
from geomeq.meshes import corner_angles, edge_lengths, fan_angles, fans, half_edges, load, one_ring
from geomeq.meshes._fans import NotManifold

from ._shapes import F64, REAL, annulus, bow_tie, grid, klein, moebius, real_path, sphere, t_edge, torus, two_parts

SHAPES = {"sphere": sphere(1), "grid": grid(), "torus": torus(8, 6), "annulus": annulus(), "parts": two_parts()}


def built(mesh):
    return half_edges(mesh.face, mesh.pos.size(0)), edge_lengths(mesh.pos, mesh.face)


def brute_angles(mesh, boundary="plain"):
    """Dictionary (i, j) -> angle of j seen from i: a walk around every vertex, from one triangle to the next."""
    corners = {}
    for a, b, c in mesh.face.t().tolist():
        for i, j, k in ((a, b, c), (b, c, a), (c, a, b)):
            u, v = mesh.pos[j] - mesh.pos[i], mesh.pos[k] - mesh.pos[i]
            angle = math.atan2(float(torch.linalg.cross(u, v).norm()), float(u @ v))
            corners.setdefault(i, {})[j] = (k, angle)
    found = {}
    for i, after in corners.items():
        ends = set(after) - {k for k, _ in after.values()}
        j = min(ends or after)
        total = sum(angle for _, angle in after.values())
        scale = 2 * math.pi / total if not ends else math.pi / total if boundary == "flat" else 1.0
        angle = 0.0
        for _ in range(len(after)):
            found[i, j] = angle
            j, step = after[j]
            angle += scale * step
        if ends:
            found[i, j] = angle
    return found


@pytest.mark.parametrize("boundary", ["plain", "flat"])
@pytest.mark.parametrize("name", SHAPES)
def test_one_ring_equals_a_walk_around_every_vertex(name, boundary):
    mesh = SHAPES[name]
    he, length = built(mesh)
    log = one_ring(he, length, boundary)
    angle = brute_angles(mesh, boundary)
    pairs = list(zip(*log.edge_index.tolist(), strict=True))
    assert pairs == sorted(((j, i) for i, j in angle), key=lambda pair: pair[::-1])  # both ways, no loops, sorted
    expected = torch.tensor([angle[i, j] for j, i in pairs], dtype=F64)
    torch.testing.assert_close(wrap_angle(log.polar[:, 1] - expected), torch.zeros_like(expected), atol=1e-12, rtol=0)
    back = torch.tensor([angle[j, i] for j, i in pairs], dtype=F64)
    gap = wrap_angle(log.transport - expected + back + math.pi)
    torch.testing.assert_close(gap, torch.zeros_like(gap), atol=1e-12, rtol=0)
    j, i = log.edge_index
    torch.testing.assert_close(log.polar[:, 0], (mesh.pos[j] - mesh.pos[i]).norm(dim=1))
    assert float(wrap_angle(log.transport - expected - back - math.pi).abs().max()) > 0.1  # the other sign fails


def test_a_fan_of_many_triangles_takes_few_rounds():
    n = 5_000
    t = torch.arange(n, dtype=F64) * 2 * math.pi / n
    pos = torch.cat([torch.zeros(1, 3, dtype=F64), torch.stack([t.cos(), t.sin(), 0 * t], dim=1)])
    rim = torch.arange(1, n + 1)
    face = torch.stack([torch.zeros_like(rim), rim, rim.roll(-1)])
    log = one_ring(half_edges(face, n + 1), edge_lengths(pos, face))
    centre = log.edge_index[1] == 0
    torch.testing.assert_close(wrap_angle(log.polar[centre, 1] - t), torch.zeros(n, dtype=F64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", REAL)
def test_gauss_bonnet_and_holonomy_on_real_meshes(name):
    chi, border = REAL[name]
    mesh = load(real_path(name), dtype=F64)
    he, length = built(mesh)
    fan = fans(he, length, "flat")
    full = math.pi * (2 - fan.boundary.double())
    assert float((full - fan.total).sum() - 2 * math.pi * chi) == pytest.approx(0, abs=1e-10)
    assert int((he.twin < 0).sum()) == border
    excess = (fan.corner * fan.scale[he.source]).view(-1, 3).sum(dim=1) - math.pi
    assert float(excess.sum() - 2 * math.pi * chi) == pytest.approx(0, abs=1e-10)
    log = one_ring(he, length, "flat")
    gap = wrap_angle(face_holonomy(log, mesh.face, mesh.pos.size(0)) + excess)
    assert float(gap.abs().max()) < 1e-12
    assert float(wrap_angle(face_holonomy(log, mesh.face, mesh.pos.size(0)) - excess).abs().max()) > 1e-4
    assert float(wrap_angle(log.transport + reverse(log, mesh.pos.size(0))).abs().max()) < 1e-12


def face_holonomy(log, face, num):
    """``g_ab + g_bc + g_ca`` of every face (a, b, c)."""
    key = log.edge_index[1] * num + log.edge_index[0]
    a, b, c = face
    return sum(log.transport[torch.searchsorted(key, i * num + j)] for i, j in ((a, b), (b, c), (c, a)))


def reverse(log, num):
    """Transport of the pairs the other way round."""
    key = log.edge_index[1] * num + log.edge_index[0]
    return log.transport[torch.searchsorted(key, log.edge_index[0] * num + log.edge_index[1])]


def test_the_scale_is_what_makes_a_cone_regular():
    mesh = sphere(2)
    he, length = built(mesh)
    fan = fans(he, length)
    at = fan.scale * fan.total
    torch.testing.assert_close(at, torch.full_like(at, 2 * math.pi))
    assert float((fan.total - 2 * math.pi).abs().max()) > 0.01  # without the scale the last gap is too wide
    flat = fans(*built(grid()), "flat")
    turn = (flat.scale * flat.total)[flat.boundary]
    torch.testing.assert_close(turn, torch.full_like(turn, math.pi))


def rolled(sheet, step=0.4):
    """The sheet bent around the y axis along the lines x = const, at ``step`` radians a square."""
    x, y, _ = sheet.pos.t()
    radius = 0.5 / math.sin(step / 2)  # chords keep the length 1
    return torch.stack([radius * (step * x).sin(), y, radius * (step * x).cos()], dim=1)


@pytest.mark.parametrize("boundary", ["plain", "flat"])
def test_bending_a_sheet_into_a_cylinder_changes_nothing(boundary):
    sheet = grid(6, 7)
    he = half_edges(sheet.face, 42)
    flat = one_ring(he, edge_lengths(sheet.pos, sheet.face), boundary)
    bent = one_ring(he, edge_lengths(rolled(sheet), sheet.face), boundary)
    assert float((rolled(sheet)[:, 2]).std()) > 0.5
    torch.testing.assert_close(bent.polar[:, 0], flat.polar[:, 0], atol=1e-12, rtol=0)
    assert float(wrap_angle(bent.polar[:, 1] - flat.polar[:, 1]).abs().max()) < 1e-9
    assert float(wrap_angle(bent.transport - flat.transport).abs().max()) < 1e-9
    stretched = one_ring(he, edge_lengths(rolled(sheet) * torch.tensor([1.1, 1, 1]), sheet.face), boundary)
    assert float(wrap_angle(stretched.polar[:, 1] - flat.polar[:, 1]).abs().max()) > 0.01


def test_a_flat_sheet_has_no_holonomy():
    sheet = grid(6, 7)
    log = one_ring(*built(sheet))
    assert float(wrap_angle(face_holonomy(log, sheet.face, 42)).abs().max()) < 1e-12
    ball = sphere(1)
    assert float(wrap_angle(face_holonomy(one_ring(*built(ball)), ball.face, 42)).abs().min()) > 0.05


def test_another_order_of_the_vertices_is_a_change_of_frames():
    mesh = sphere(2)
    num = mesh.pos.size(0)
    order = torch.randperm(num)  # new vertex k is old vertex order[k]
    new = torch.empty_like(order).index_copy_(0, order, torch.arange(num))
    face = new[mesh.face][:, torch.randperm(mesh.face.size(1))]
    face = torch.stack([c.roll(int(k)) for c, k in zip(face.t(), torch.randint(3, face[0].shape), strict=True)], dim=1)
    a = one_ring(*built(mesh))
    b = one_ring(half_edges(face, num), edge_lengths(mesh.pos[order], face))
    key = b.edge_index[1] * num + b.edge_index[0]
    e = torch.searchsorted(key, new[a.edge_index[1]] * num + new[a.edge_index[0]])
    turn = wrap_angle(a.polar[:, 1] - b.polar[e, 1])  # at the target
    target = a.edge_index[1]
    first = torch.zeros(num, dtype=F64).index_copy_(0, target, turn)
    assert float(wrap_angle(turn - first[target]).abs().max()) < 1e-12
    gap = wrap_angle(b.transport[e] - a.transport + first[target] - first[a.edge_index[0]])
    assert float(gap.abs().max()) < 1e-12
    assert float(wrap_angle(b.transport[e] - a.transport).abs().max()) > 0.1  # the frames did change


def test_turning_the_triangles_over_negates_all_angles():
    mesh = annulus()
    he, length = built(mesh)
    over = mesh.face[[0, 2, 1]]
    a, b = (
        one_ring(he, length, "flat"),
        one_ring(half_edges(over, he.num_vertices), edge_lengths(mesh.pos, over), "flat"),
    )
    inside = ~fans(he, length).boundary[a.edge_index].any(dim=0)
    torch.testing.assert_close(wrap_angle(a.polar + b.polar)[inside, 1], torch.zeros(int(inside.sum()), dtype=F64))
    assert float(wrap_angle(a.transport + b.transport)[inside].abs().max()) < 1e-12
    assert float(wrap_angle(a.polar - b.polar)[inside, 1].abs().max()) > 0.1


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (bow_tie(), "several fans of triangles meet at 1 non-manifold vertices, the first is 0"),
        (t_edge(), r"1 edges have more than two triangles and 0 .* joins vertices \[0, 1\].*method='projected'"),
        (moebius(), r"0 edges have more than two triangles and \d+ have two that disagree"),
        (klein(), "disagree about their orientation"),
    ],
)
def test_what_has_no_fans(mesh, message):
    with pytest.raises(NotManifold, match=message):
        fan_angles(*built(mesh))


def test_two_closed_fans_at_a_vertex_are_found():
    a, b = sphere(0), sphere(0)
    face = torch.cat([a.face, torch.where(b.face == 0, 0, b.face + 11)], dim=1)
    pos = torch.cat([a.pos, (2 * a.pos[0] - b.pos)[1:]])
    with pytest.raises(NotManifold, match="1 non-manifold vertices, the first is 0"):
        fan_angles(half_edges(face, 23), edge_lengths(pos, face))


def test_flat_and_collapsed_triangles_give_finite_angles():
    pos = torch.tensor([[0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 0, 0], [0, 0, 0]], dtype=F64)
    face = torch.tensor([[0, 0], [1, 2], [2, 3]])
    log = one_ring(half_edges(face, 5), edge_lengths(pos, face))
    assert bool(torch.isfinite(log.polar).all() and torch.isfinite(log.transport).all())
    nothing = one_ring(half_edges(face[:, :0], 5), edge_lengths(pos, face[:, :0]))
    assert nothing.edge_index.shape == (2, 0)


def test_boundary_must_be_known():
    with pytest.raises(ValueError, match="boundary must be one of"):
        fan_angles(*built(grid()), "free")
    assert torch.equal(corner_angles(built(grid())[1]), fans(*built(grid())).corner)

"""orient: triangles that agree, outward, and one-sided meshes said to be so."""

import pytest
import torch

from geomeq.meshes import half_edges, load, orient

from ._shapes import annulus, bow_tie, grid, klein, moebius, real_path, sphere, t_edge, torus, two_parts


def volume(mesh, face):
    a, b, c = mesh.pos.double()[face]
    return float((a * torch.linalg.cross(b, c)).sum()) / 6


def shuffled(face, share=0.3):
    turn = torch.rand(face.size(1)) < share
    return torch.where(turn, face[[0, 2, 1]], face), turn


@pytest.mark.parametrize("mesh", [sphere(2), torus(), two_parts()])
def test_closed_meshes_come_out_facing_outward(mesh):
    for share in (0.0, 0.3, 0.8, 1.0):
        mixed, _ = shuffled(mesh.face, share)
        assert half_edges(mixed, mesh.pos.size(0)).inconsistent_edge.any() == (0 < share < 1)
        face, ok = orient(mixed, mesh.pos)
        assert ok
        assert half_edges(face, mesh.pos.size(0)).is_oriented_manifold
        assert volume(mesh, face) > 0
        assert torch.equal(face[0], mesh.face[0])
        assert torch.equal(face.sort(dim=0).values, mesh.face.sort(dim=0).values)
        assert torch.equal(orient(face, mesh.pos)[0], face)  # nothing left to do


def test_an_agreeing_mesh_is_returned_unchanged():
    mesh = grid(5, 6)
    assert torch.equal(orient(mesh.face, mesh.pos)[0], mesh.face)
    down = mesh.face.flip(0)
    assert torch.equal(orient(down, mesh.pos)[0], down)  # open: no side is better than the other
    assert torch.equal(orient(mesh.face.int())[0], mesh.face)


def test_most_triangles_of_a_part_keep_their_direction():
    mesh = annulus()
    mixed, turn = shuffled(mesh.face, 0.3)
    face, ok = orient(mixed)
    assert ok
    assert torch.equal(face, mesh.face)
    assert turn.any()


def test_each_part_is_turned_on_its_own():
    mesh = two_parts()
    half = mesh.face.size(1) // 2
    face = torch.cat([mesh.face[:, :half], mesh.face[:, half:].flip(0)], dim=1)
    out, ok = orient(face, mesh.pos)
    assert ok
    assert torch.equal(out[:, :half], mesh.face[:, :half])
    assert half_edges(out, 85).is_oriented_manifold
    first, second = volume(mesh, out[:, :half]), volume(mesh, out[:, half:])
    assert first == pytest.approx(second)
    assert first > 0


@pytest.mark.parametrize("mesh", [moebius(), klein(), moebius(13, 1)])
def test_one_sided_meshes_are_left_as_they_are_and_said_to_be_so(mesh):
    for face in (mesh.face, shuffled(mesh.face)[0]):
        out, ok = orient(face, mesh.pos)
        assert not ok
        assert torch.equal(out, face)


def test_a_sphere_beside_a_moebius_strip_is_still_turned():
    strip, ball = moebius(), sphere(1)
    num = strip.pos.size(0)
    face = torch.cat([strip.face, ball.face.flip(0) + num], dim=1)
    out, ok = orient(face, torch.cat([strip.pos, ball.pos]))
    assert not ok
    assert torch.equal(out[:, : strip.face.size(1)], strip.face)
    assert volume(ball, out[:, strip.face.size(1) :] - num) > 0


def test_edges_of_three_triangles_are_not_crossed():
    mesh = t_edge()
    assert torch.equal(orient(mesh.face, mesh.pos)[0], mesh.face)
    assert orient(bow_tie().face)[1]


def test_real_meshes_shuffled_and_restored():
    mesh = load(real_path("spot"))
    face, ok = orient(shuffled(mesh.face, 0.5)[0], mesh.pos)
    assert ok
    assert half_edges(face, mesh.pos.size(0)).is_oriented_manifold
    assert volume(mesh, face) == pytest.approx(volume(mesh, mesh.face))


def test_no_faces():
    face, ok = orient(torch.empty(3, 0, dtype=torch.long), torch.rand(4, 3))
    assert ok
    assert face.shape == (3, 0)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="name a vertex twice"):
        orient(torch.tensor([[0], [0], [1]]))
    with pytest.raises(ValueError, match="only 2"):
        orient(torch.tensor([[0], [1], [2]]), torch.rand(2, 3))

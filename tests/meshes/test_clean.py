"""clean: what is no surface goes, what is stays, and attributes follow."""

import pytest
import torch
from hypothesis import given, settings
from torch_geometric.data import Data

from geomeq.meshes import clean, half_edges, inspect, vertex_normals

from ._shapes import bow_tie, grid, klein, moebius, sphere, t_edge, torus, two_parts
from .test_report import soups


def same(a, b):
    return torch.equal(a.pos, b.pos) and torch.equal(a.face, b.face)


@pytest.mark.parametrize("mesh", [sphere(1), torus(8, 6), grid(), moebius(), two_parts()])
def test_a_healthy_mesh_stays_as_it_is(mesh):
    out, report = clean(mesh)
    assert same(out, mesh)
    assert "vertex_origin" not in out
    assert report == inspect(mesh)
    assert out is not mesh


def test_faces_that_are_none_go_and_vertices_keep_their_numbers():
    mesh = sphere(1)
    junk = torch.tensor([[0, 5, 3], [0, 6, 3], [7, 5, 3]])
    repeated = mesh.face[[2, 1, 0], :2]
    out, report = clean(Data(pos=mesh.pos, face=torch.cat([mesh.face, junk, repeated], dim=1)))
    assert same(out, mesh)
    assert (report.degenerate_faces, report.duplicate_faces, report.removed_faces) == (3, 2, 5)
    assert report.removed_vertices == 0


def test_points_that_are_not_finite_go_with_their_faces_and_attributes_follow():
    mesh = grid(3, 3)
    mesh.pos[0] = torch.tensor([torch.nan, 0, 0])
    mesh.x, mesh.label = torch.arange(9.0)[:, None], torch.arange(9)
    mesh.name, mesh.scale = "grid", torch.tensor(2.0)
    out, report = clean(mesh)
    assert out.vertex_origin.tolist() == out.label.tolist() == list(range(1, 9))
    assert out.x.flatten().tolist() == list(range(1, 9))
    assert (out.name, float(out.scale)) == ("grid", 2.0)
    assert torch.isfinite(out.pos).all()
    assert (report.nonfinite_vertices, report.removed_vertices, report.removed_faces) == (1, 1, 2)
    assert inspect(out).ok
    assert mesh.pos.isnan().any()  # the input is left alone


def test_a_soup_becomes_a_sphere_when_duplicates_merge():
    mesh = sphere(1)
    soup = Data(pos=mesh.pos[mesh.face.t().flatten()], face=torch.arange(240).view(-1, 3).t().contiguous())
    apart, report = clean(soup)
    assert same(apart, soup)
    assert report.boundary_edges == 240
    whole, report = clean(soup, merge_duplicates=True)
    assert report.merged_vertices == report.duplicate_vertices == 240 - 42
    assert report.removed_vertices == 0
    assert inspect(whole).closed
    assert torch.equal(whole.pos[whole.face], mesh.pos[mesh.face])


def test_isolated_vertices_go_on_request():
    mesh = two_parts()
    out, report = clean(mesh, drop_isolated=True)
    assert (out.pos.size(0), report.isolated_vertices, report.removed_vertices) == (84, 1, 1)
    assert torch.equal(out.face, mesh.face)


def test_triangles_are_turned_to_agree_and_outward():
    mesh = sphere(1)
    mixed = mesh.face.clone()
    mixed[:, ::3] = mixed[:, ::3][[0, 2, 1]]
    out, report = clean(Data(pos=mesh.pos, face=mixed))
    assert half_edges(out.face, 42).is_oriented_manifold
    assert ((vertex_normals(out.pos, out.face) * out.pos).sum(dim=1) > 0.9).all()
    assert report.turned_faces == 27
    left, report = clean(Data(pos=mesh.pos, face=mixed), reorient=False)
    assert torch.equal(left.face, mixed)
    assert report.turned_faces == 0
    assert report.inconsistent_edges > 0


def test_sheets_that_touch_are_parted_on_request():
    out, report = clean(bow_tie(), split_nonmanifold=True)
    assert (out.pos.size(0), report.split_vertices) == (6, 1)
    assert out.vertex_origin.tolist() == [0, 1, 2, 3, 4, 0]
    assert torch.equal(out.pos[5], out.pos[0])
    out, report = clean(t_edge(), split_nonmanifold=True)
    assert report.nonmanifold_edges == 1
    after = inspect(out)
    assert after.ok
    assert after.components == 3
    assert torch.equal(out.pos[out.face], t_edge().pos[t_edge().face])
    assert clean(bow_tie())[0].pos.size(0) == 5


def test_one_sided_meshes_stay_and_the_report_says_so():
    for mesh in (moebius(), klein()):
        out, report = clean(mesh)
        assert same(out, mesh)
        assert not report.orientable
        assert "one-sided (no orientation exists)" in report.problems


@settings(max_examples=40, deadline=None)
@given(soups)
def test_random_soups_become_finite_meshes(soup):
    points, corners = soup
    mesh = Data(pos=torch.tensor(points), face=torch.tensor(corners, dtype=torch.long).view(-1, 3).t())
    for options in ({}, {"merge_duplicates": True, "drop_isolated": True}, {"split_nonmanifold": True}):
        out, report = clean(mesh, **options)
        after = inspect(out)
        assert after.nonfinite_vertices == after.degenerate_faces == after.duplicate_faces == 0
        assert after.inconsistent_edges == 0 or not after.orientable
        assert not after.inside_out
        assert report.vertices == len(points)
        assert after.vertices == len(points) - report.removed_vertices - report.merged_vertices + report.split_vertices
        assert after.faces == len(corners) - report.removed_faces
        if "split_nonmanifold" in options:
            assert after.nonmanifold_vertices == 0
        if "merge_duplicates" in options:
            assert after.duplicate_vertices == after.isolated_vertices == 0
        assert torch.isfinite(vertex_normals(out.pos, out.face)).all()
        origin = out.get("vertex_origin", torch.arange(len(points)))
        assert torch.equal(out.pos, mesh.pos[origin])


def test_renumbering_under_edges_is_refused():
    mesh = two_parts()
    mesh.edge_index = torch.tensor([[0], [1]])
    assert same(clean(mesh)[0], mesh)
    with pytest.raises(ValueError, match="already has an edge_index; clean it first"):
        clean(mesh, drop_isolated=True)

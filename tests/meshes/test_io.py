"""Mesh files: every format gives back the same vertices and faces, and bad files are named."""

import json

import pytest
import torch
import trimesh
from torch_geometric.data import Data

from geomeq.meshes import from_trimesh, load, save, to_trimesh

from ._shapes import REAL, grid, real_path, sphere

QUADS = [[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [3, 2, 0]]


def untidy(dtype=torch.float64):
    """Duplicate and isolated vertices, a degenerate and a doubled face: what a careful reader must leave alone."""
    pos = torch.rand(8, 3, dtype=torch.float64) * 10.0 ** -torch.arange(8, dtype=torch.float64)[:, None]
    pos[5] = pos[1]
    face = torch.tensor([[3, 0, 0, 4, 4], [1, 5, 0, 6, 6], [0, 3, 2, 3, 3]])
    return Data(pos=pos.to(dtype), face=face)


@pytest.mark.parametrize("suffix", ["ply", "obj", "off", "glb", "PLY"])
@pytest.mark.parametrize("mesh", [untidy(), sphere(1), grid(3)])
def test_what_was_saved_is_read_back_unchanged(tmp_path, suffix, mesh):
    path = tmp_path / f"mesh.{suffix}"
    save(mesh, path)
    back = load(path, dtype=torch.float64)
    assert torch.equal(back.face, mesh.face)
    exact = suffix in ("obj", "off")
    expected = mesh.pos if exact else mesh.pos.float().double()
    assert torch.equal(back.pos, expected)
    assert load(path).pos.dtype == torch.float32
    assert torch.equal(load(str(path)).pos, mesh.pos.float())


def test_stl_corners_with_equal_coordinates_become_one_vertex(tmp_path):
    mesh = sphere(1, torch.float32)
    save(mesh, tmp_path / "mesh.stl")
    back = load(tmp_path / "mesh.stl")
    assert back.pos.shape == mesh.pos.shape
    assert torch.equal(back.pos[back.face], mesh.pos[mesh.face])  # the same triangles in the same order
    first = torch.unique(back.face.t().flatten(), sorted=False)
    assert sorted(first.tolist()) == list(range(42))
    assert back.face[:, 0].tolist() == [0, 1, 2]  # numbered as they appear


@pytest.mark.parametrize("name", REAL)
def test_the_meshes_of_the_set_are_read_as_published(name):
    path = real_path(name)
    mesh = load(path)
    header = path.read_bytes().split(b"end_header")[0].decode()
    vertices, faces = (int(header.split(f"element {what} ")[1].split()[0]) for what in ("vertex", "face"))
    assert (mesh.pos.size(0), mesh.face.size(1)) == (vertices, faces)
    assert torch.isfinite(mesh.pos).all()


def test_polygons_are_cut_into_triangles(tmp_path):
    points = "".join(f"v {x} {y} {z}\n" for x, y, z in QUADS)
    (tmp_path / "a.obj").write_text(points + "f 1 2 3 4\nf 2 5 3\n")
    (tmp_path / "a.off").write_text(
        "OFF\n5 2 0\n" + "".join(f"{x} {y} {z}\n" for x, y, z in QUADS) + "4 0 1 2 3\n3 1 4 2\n"
    )
    header = "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_text(header + "".join(f"{x} {y} {z}\n" for x, y, z in QUADS) + "4 0 1 2 3\n3 1 4 2\n")
    for suffix in ("obj", "off", "ply"):
        mesh = load(tmp_path / f"a.{suffix}")
        assert mesh.pos.tolist() == QUADS
        assert mesh.face.shape == (3, 3)
        area = torch.linalg.cross(*(mesh.pos[mesh.face[c]] - mesh.pos[mesh.face[0]] for c in (1, 2)))[:, 2] / 2
        assert float(area.sum()) == 2.5
        assert (area > 0).all()  # the polygon's orientation is kept


def test_texture_seams_do_not_split_vertices(tmp_path):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nvt 0.5 0.5\nvn 0 0 1\n"
    (tmp_path / "seam.obj").write_text(text + "f 1/1/1 2/2/1 3/3/1\nf 2/4/1 4/1/1 3/2/1\nv 9 9 9\n")
    mesh = load(tmp_path / "seam.obj")
    assert mesh.pos.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [9, 9, 9]]
    assert mesh.face.t().tolist() == [[0, 1, 2], [1, 3, 2]]


def test_bodies_of_a_scene_are_placed_and_put_one_after_the_other(tmp_path):
    scene = trimesh.Scene()
    shift = trimesh.transformations.translation_matrix([5, 0, 0])
    box = trimesh.creation.box()
    scene.add_geometry(box, geom_name="a", node_name="a")
    scene.add_geometry(box, geom_name="b", node_name="b", transform=shift)
    scene.export(tmp_path / "two.glb")
    mesh = load(tmp_path / "two.glb")
    assert mesh.pos.shape == (16, 3)
    assert mesh.face.shape == (3, 24)
    assert mesh.face[:, 12:].min() == 8
    assert mesh.pos[:8].mean(dim=0).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert mesh.pos[8:].mean(dim=0).tolist() == pytest.approx([5, 0, 0], abs=1e-6)


def test_groups_and_materials_of_an_obj_file_keep_its_numbers(tmp_path):
    points = "".join(f"v {x} {y} {z}\n" for x, y, z in QUADS)
    (tmp_path / "parts.obj").write_text(
        points + "o one\ng a\nusemtl red\nf 1 2 3\no two\ng b\nusemtl blue\nf 1 3 4\nf 2 5 3\n"
    )
    mesh = load(tmp_path / "parts.obj")
    assert mesh.pos.tolist() == QUADS
    assert mesh.face.t().tolist() == [[0, 1, 2], [0, 2, 3], [1, 4, 2]]


def test_obj_numbers_may_count_backwards_and_lines_may_go_on(tmp_path):
    text = "v 0 0 0 1 0 0\n v 1 0 0 0 1 0\nv 0 1 0 0 0 1\nf -3 -2 \\\n -1\nv 0 0 1\nf -4 -1 2\n"
    (tmp_path / "back.obj").write_text(text)
    mesh = load(tmp_path / "back.obj")
    assert mesh.pos.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert mesh.face.t().tolist() == [[0, 1, 2], [0, 3, 1]]


def test_trimesh_and_back_changes_nothing():
    mesh = untidy()
    other = to_trimesh(mesh)
    assert isinstance(other, trimesh.Trimesh)
    back = from_trimesh(other, dtype=torch.float64)
    assert torch.equal(back.pos, mesh.pos)
    assert torch.equal(back.face, mesh.face)
    assert back.face.is_contiguous()
    back.pos[0] = 7.0
    assert not (other.vertices[0] == 7.0).any()  # a copy
    assert from_trimesh(other).pos.dtype == torch.float32


def test_bad_files_are_named(tmp_path):
    mesh = grid()
    with pytest.raises(FileNotFoundError, match=r"there is no mesh file .*none.ply"):
        load(tmp_path / "none.ply")
    with pytest.raises(ValueError, match=r"one of glb, obj, off, ply, stl, got 'a.step'"):
        load(tmp_path / "a.step")
    with pytest.raises(ValueError, match=r"one of glb, obj, off, ply, stl, got 'a'"):
        save(mesh, tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save(mesh, tmp_path / "missing" / "a.ply")
    for suffix in ("ply", "obj", "off", "stl", "glb"):
        (tmp_path / f"bad.{suffix}").write_bytes(b"nonsense \x00\x01\x02")
        with pytest.raises(ValueError, match=r"cannot be read as|no faces"):
            load(tmp_path / f"bad.{suffix}")
        (tmp_path / f"empty.{suffix}").write_bytes(b"")
        with pytest.raises(ValueError, match=r"cannot be read as|no faces"):
            load(tmp_path / f"empty.{suffix}")


def test_numbers_out_of_range_are_named(tmp_path):
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n")
    (tmp_path / "b.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n")
    (tmp_path / "a.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n")
    for name, message in (("a.obj", "cannot|damaged"), ("b.obj", "counts from 1"), ("a.off", "cannot|damaged")):
        with pytest.raises(ValueError, match=message):
            load(tmp_path / name)


def test_points_without_faces_are_an_error(tmp_path):
    trimesh.PointCloud([[0, 0, 0], [1, 1, 1], [2, 0, 1]]).export(tmp_path / "points.ply")
    with pytest.raises(ValueError, match="3 points and no faces"):
        load(tmp_path / "points.ply")


def test_bad_meshes_are_named(tmp_path):
    with pytest.raises(ValueError, match="the mesh has no face"):
        save(Data(pos=torch.rand(3, 3)), tmp_path / "a.ply")
    with pytest.raises(TypeError, match="got Tensor"):
        save(torch.rand(3, 3), tmp_path / "a.ply")
    with pytest.raises(ValueError, match="there are only 2"):
        to_trimesh(Data(pos=torch.rand(2, 3), face=torch.tensor([[0], [1], [2]])))
    with pytest.raises(TypeError, match="got dict"):
        from_trimesh(json.loads("{}"))


def test_half_precision_is_refused(tmp_path):
    with pytest.raises(TypeError, match="float32 or torch.float64"):
        load(tmp_path / "a.ply", dtype=torch.float16)

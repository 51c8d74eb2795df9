"""Bodies: closed coarse meshes of adults, labels, splits, and orders and triangles that do not give the answer away."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from geomeq.datasets import Bodies, list_bundled
from geomeq.datasets import _body_model as model
from geomeq.datasets._body_mesh import flip_edges, shuffle_vertices
from geomeq.datasets.bodies import _read

SIZES = {"train": 144, "unseen_poses": 24, "unseen_shapes": 24, "unseen_both": 32}
CHOICES = [("shared", False), ("shared", True), ("own", False), ("own", True)]


def edges_of(face):
    """Directed edges of triangles ``[3, F]``, ``[3F, 2]``."""
    return torch.cat([face[[0, 1]], face[[1, 2]], face[[2, 0]]], dim=1).T


def volume_of(body):
    a, b, c = body.pos.double()[body.face]
    return float((torch.linalg.cross(b - a, c - a) * a).sum() / 6)


@pytest.mark.parametrize("split", SIZES)
def test_attributes(split):
    dataset = Bodies(split)
    assert len(dataset) == SIZES[split]
    kinds = {k: (tuple(v.shape), v.dtype) for k, v in dataset[3].to_dict().items()}
    f32, i64 = torch.float32, torch.int64
    assert kinds == {
        **{"pos": ((1024, 3), f32), "face": ((3, 2044), i64), "vertex": ((1024,), i64), "part": ((1024,), i64)},
        **{"phenotype": ((1, 6), f32), "stature": ((1,), f32), "volume": ((1,), f32), "y": ((1024,), i64)},
    }
    assert repr(dataset) == f"Bodies({SIZES[split]}, split='{split}', task='parts', vertices=1024)"


@pytest.mark.parametrize(("triangulation", "shuffle"), CHOICES)
def test_meshes_are_closed_oriented_and_in_metres(triangulation, shuffle):
    """Every directed edge once, its opposite once (manifold, closed, consistent), Euler characteristic 2, outward."""
    for body in Bodies("unseen_both", triangulation=triangulation, shuffle=shuffle)[:8]:
        edges = edges_of(body.face)
        key = edges[:, 0] * 1024 + edges[:, 1]
        assert key.unique().numel() == key.numel()
        assert torch.equal(key.sort().values, (edges[:, 1] * 1024 + edges[:, 0]).sort().values)
        assert 1024 - len(edges) // 2 + body.face.size(1) == 2
        assert torch.bincount(edges[:, 0], minlength=1024).min() >= 3
        assert 30 < 1000 * volume_of(body) < 120
        assert 0 <= body.pos[:, 2].min() < 0.05  # the lowest vertex of the full mesh may not be among these
        assert 0.9 < body.pos[:, 2].max() < 2.2


def test_bodies_are_adults():
    """Age 2/3 is anny's young adult; a child is 1/3."""
    for split in SIZES:
        data = Bodies(split)._data
        assert data.phenotype[:, Bodies.phenotypes.index("age")].min() >= 0.7 - 1e-6
        assert 1.5 <= data.stature.min() <= data.stature.max() <= 2.0
        assert 40 < data.volume.min() < data.volume.max() < 110


def test_splits_share_what_their_names_say():
    stored = _read()
    shape = [set(map(bytes, stored["phenotype"][stored["split"] == k])) for k in range(4)]
    pose = [set(map(bytes, stored["rotvec"][stored["split"] == k])) for k in range(4)]
    assert [len(x) for x in shape] == [len(x) for x in pose] == list(SIZES.values())
    assert shape[1] < shape[0]
    assert pose[2] < pose[0]
    assert not pose[1] & pose[0]
    assert not shape[2] & shape[0]
    assert not shape[3] & (shape[0] | shape[2])
    assert not pose[3] & (pose[0] | pose[1])


def test_parts_are_pieces_of_the_body():
    """Each part of the mesh hangs together, up to a few vertices of a jagged border; left is left (unposed: +x)."""
    body = Bodies("train")[0]
    edges = edges_of(body.face)
    assert torch.bincount(body.part, minlength=15).min() > 20
    inside = (body.part[edges[:, 0]] == body.part[edges[:, 1]]).double().mean()
    assert 0.75 < inside < 0.95
    assert Bodies.parts.index("head") == body.part[body.pos[:, 2].argmax()]


def test_correspondence_is_exact_under_any_order():
    straight, mixed = (Bodies("unseen_poses", "correspondence", shuffle=s) for s in (False, True))
    for a, b in zip(straight[:5], mixed[:5], strict=True):
        assert torch.equal(a.y, torch.arange(1024))
        assert not torch.equal(b.y, a.y)
        assert torch.equal(b.y.sort().values, a.y)
        assert torch.equal(b.pos, a.pos[b.y])
        assert torch.equal(b.part, a.part[b.y])
        triangles = (b.y[b.face], a.face)  # the same triangles, turned to begin with their smallest corner
        first, second = ({tuple(np.roll(t, -int(t.argmin())).tolist()) for t in face.T.numpy()} for face in triangles)
        assert first == second
    assert straight.num_classes == 1024


def test_own_triangles_differ_from_body_to_body():
    shared, own = Bodies("unseen_poses"), Bodies("unseen_poses", triangulation="own")
    key = [{tuple(sorted(e)) for e in edges_of(body.face).tolist()} for body in (shared[0], own[0], own[1])]
    kept = [len(key[0] & other) / len(key[0]) for other in key[1:]]
    assert all(0.7 < share < 0.85 for share in kept)
    assert len(key[1] & key[2]) / len(key[0]) < 0.75
    assert volume_of(own[0]) == pytest.approx(volume_of(shared[0]), rel=0.02)
    assert torch.equal(own[0].pos, shared[0].pos)


def test_seed_decides_order_and_flips():
    first, again, other = (
        Bodies("unseen_poses", shuffle=True, triangulation="own", seed=s, force_reload=True)[2] for s in (0, 0, 1)
    )
    assert torch.equal(first.face, again.face)
    assert torch.equal(first.vertex, again.vertex)
    assert not torch.equal(first.vertex, other.vertex)


def test_shape_is_a_target_of_the_whole_body():
    dataset = Bodies("train", "shape")
    assert dataset[0].y.shape == (1, 6)
    assert dataset.num_classes == 6
    shape = dataset._data.y
    assert torch.all((shape >= 0) & (shape <= 1))
    height = torch.corrcoef(torch.stack([shape[:, Bodies.phenotypes.index("height")], dataset._data.stature]))
    assert height[0, 1] > 0.8


def test_a_flip_never_breaks_a_mesh_it_cannot_improve():
    """All four faces of a tetrahedron: every flip would make an edge that is there."""
    pos = np.eye(4, 3)
    face = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])
    assert np.array_equal(flip_edges(pos, face, np.random.default_rng(0)), face)


def test_shuffled_faces_keep_their_orientation():
    face = np.array([[0, 1, 2], [2, 1, 3]])
    order, mixed = shuffle_vertices(4, face, np.random.default_rng(3))
    back = order[mixed]
    turned = {tuple(np.roll(t, -int(t.argmin())).tolist()) for t in back}
    assert turned == {(0, 1, 2), (1, 3, 2)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "split must be one of 'train', 'unseen_poses', .*, got 'test'"),
        ({"task": "faces"}, "task must be one of 'parts', 'correspondence', 'shape', got 'faces'"),
        ({"resolution": 1024}, "resolution must be one of 'coarse', 'full', got 1024"),
        ({"triangulation": "delaunay"}, "triangulation must be one of 'shared', 'own', got 'delaunay'"),
        ({"triangulation": "own", "resolution": "full"}, "triangulation='own' is for resolution='coarse'"),
        ({"seed": -1}, "seed must be an integer that is not negative, got -1"),
    ],
)
def test_a_wrong_choice_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Bodies(**arguments)


def test_without_anny_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anny", None)
    model.load_model.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'geomeq\[bodies\]'"):
        Bodies("unseen_poses", resolution="full", force_reload=True)


def test_every_bone_has_a_part():
    assert model.PARTS[model.part_of_bone("lowerarm01.L")] == "left forearm"
    assert model.PARTS[model.part_of_bone("spine01")] == "chest"
    assert model.PARTS[model.part_of_bone("spine05")] == "belly and hips"
    with pytest.raises(ValueError, match="no part of the body has a bone named 'tail'"):
        model.part_of_bone("tail")


def test_the_bundled_bodies_are_registered():
    assert "bodies/bodies.npz" in {file.name for file in list_bundled()}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="the body model: pip install anny==0.6.2")
def test_full_resolution_holds_the_coarse_bodies():
    """The same parameters make the same bodies: coarse vertices are vertices of the full mesh, to 0.05 mm rounding."""
    pytest.importorskip("anny")
    coarse, full = Bodies("unseen_poses"), Bodies("unseen_poses", resolution="full")
    index = Bodies.coarse_vertices()
    assert (len(full), full[0].pos.shape, full[0].face.shape) == (24, (13_718, 3), (3, 27_420))
    for a, b in zip(coarse, full, strict=True):
        torch.testing.assert_close(b.pos[index], a.pos, atol=6e-5, rtol=0)
        assert torch.equal(b.part[index], a.part)
        assert b.pos[:, 2].min() == 0
    assert full[0].face.max() == 13_717

"""Bent bumpy spheres: same triangles, nearly the same lengths, nothing given away by order or place."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import FaceToEdge

from geomeq.datasets import DeformedSpheres, _bending
from geomeq.datasets.deformed_spheres import _distance
from geomeq.groups import SO3, icosphere


@pytest.fixture(scope="module")
def test_set():
    return DeformedSpheres(split="test")


def lengths(pos, edge):
    return (pos[edge[0]] - pos[edge[1]]).norm(dim=-1)


def in_template_order(data):
    """Positions with vertex k that of the template."""
    return data.pos.double()[data.y.argsort()]


def volume(data):
    a, b, c = data.pos.double()[data.face]
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def best_turn(x, p):
    """The rotation that takes centred ``p`` nearest to centred ``x``, by Kabsch."""
    u, _, vt = torch.linalg.svd((x - x.mean(0)).T @ (p - p.mean(0)))
    u[:, 2] *= torch.linalg.det(u @ vt).sign()
    return u @ vt


def apart(x, p):
    """Root mean square distance after the best rigid motion."""
    return float(((x - x.mean(0)) - (p - p.mean(0)) @ best_turn(x, p).T).square().sum(1).mean().sqrt())


def test_attributes_of_a_sample(test_set):
    data = test_set[3]
    assert len(test_set) == 10
    assert {k: tuple(v.shape) for k, v in data.to_dict().items()} == {"pos": (642, 3), "face": (3, 1280), "y": (642,)}
    assert data.pos.dtype == torch.float32
    assert torch.equal(data.y.sort().values, torch.arange(642))
    assert len(DeformedSpheres(level=1)) == 40
    assert repr(test_set) == "DeformedSpheres(10, split='test', level=3, bend=0.35)"


def test_every_sample_has_the_triangles_of_the_template_in_another_order(test_set):
    def canonical(face):
        turned = face.gather(0, (torch.arange(3)[:, None] + face.argmin(0)) % 3)
        return set(map(tuple, turned.T.tolist()))

    expected = canonical(test_set.template.face)
    for data in test_set:
        assert canonical(data.y[data.face]) == expected  # so the orientation is kept as well
        assert volume(data) > 0
    assert canonical(test_set[0].face) != expected  # in the numbers of the sample
    assert canonical(test_set.template.face.flip(0)) != expected


def test_surfaces_bend_more_than_they_stretch(test_set):
    template, edge = test_set.template, icosphere(3).edge
    rest = lengths(template.pos, edge)
    strain = torch.stack([(lengths(in_template_order(d), edge) / rest - 1).abs() for d in test_set])
    moved = torch.tensor([apart(in_template_order(d), template.pos) for d in test_set])
    assert 0.02 < strain.mean() < 0.045
    assert strain.quantile(0.99) < 0.15
    assert 0.05 < moved.mean() < 0.12
    pulled = torch.from_numpy(_bending.pull(template.pos.numpy(), 10, 0.35, np.random.default_rng(0)))
    unheld = torch.stack([(lengths(p, edge) / rest - 1).abs() for p in pulled])
    assert unheld.mean() > 5 * strain.mean()  # without the rigidity the surface stretches


def test_the_template_is_a_bumpy_sphere_without_symmetry(test_set):
    template = test_set.template
    radius = template.pos.norm(dim=1)
    assert radius.min() > 0.6
    assert radius.max() < 1.6
    turns = SO3.random(20, seed=0)
    turned = torch.from_numpy(_bending.bumpy_radius((icosphere(3).pos @ turns.mT).reshape(-1, 3).numpy()))
    assert (turned.reshape(20, -1) - radius).abs().mean(1).min() > 0.03
    reflected = torch.from_numpy(_bending.bumpy_radius(icosphere(3).pos.numpy() * [1, 1, -1]))
    assert (reflected - radius).abs().mean() > 0.03


def test_turns_are_random(test_set):
    template = DeformedSpheres(level=1, num_samples=1).template.pos
    turns = torch.stack(
        [best_turn(in_template_order(d), template) for d in DeformedSpheres(level=1, num_samples=200, bend=0.0)]
    )
    assert turns.mean(0).abs().max() < 0.17  # Haar: mean 0, standard deviation 1 / sqrt(3)
    torch.testing.assert_close(turns.square().mean(0), torch.full((3, 3), 1 / 3).double(), atol=0.1, rtol=0)


def test_without_bending_only_a_rigid_motion_is_left():
    data = DeformedSpheres(level=2, num_samples=2, bend=0.0)
    assert max(apart(in_template_order(d), data.template.pos) for d in data) < 1e-6
    bent = DeformedSpheres(level=2, num_samples=2, bend=0.1)
    assert min(apart(in_template_order(d), data.template.pos) for d in bent) > 1e-3


def test_a_surface_pulled_by_a_rigid_motion_follows_it():
    sphere = icosphere(1)
    target = sphere.pos @ SO3.random(seed=0).T + 1
    found = _bending.keep_rigid(sphere.pos.numpy(), sphere.edge.numpy(), target[None].numpy())
    np.testing.assert_allclose(found[0], target, atol=1e-10)


def energy(pos, edge, x, target):
    """What ``keep_rigid`` minimises, vertex by vertex, with the best rotations for ``x``."""
    rotation = []
    for i in range(len(pos)):
        mates = [b if a == i else a for a, b in edge.T if i in (a, b)]
        u, _, vt = np.linalg.svd(sum(np.outer(pos[i] - pos[j], x[i] - x[j]) for j in mates))
        rotation.append(vt.T @ np.diag([1, 1, np.linalg.det(vt.T @ u.T)]) @ u.T)
    stretch = 0.0
    for a, b in edge.T:
        both = ((x[a] - x[b]) - rotation[i] @ (pos[a] - pos[b]) for i in (a, b))
        stretch += sum(float(r @ r) for r in both) / 2
    return _bending.STIFFNESS * stretch + float(((x - target) ** 2).sum())


def test_every_sweep_lowers_the_energy_of_the_formula():
    sphere = icosphere(1)
    pos, edge = sphere.pos.numpy(), sphere.edge.numpy()
    target = _bending.pull(pos, 1, 0.5, np.random.default_rng(0))
    values = [energy(pos, edge, _bending.keep_rigid(pos, edge, target, n)[0], target[0]) for n in (0, 1, 2, 5, 30)]
    assert all(later < earlier for earlier, later in pairwise(values))
    best = _bending.keep_rigid(pos, edge, target, 500)[0]
    lowest = energy(pos, edge, best, target[0])
    shaken = [best + 1e-3 * np.random.default_rng(k).standard_normal(best.shape) for k in range(5)]
    assert all(energy(pos, edge, x, target[0]) > lowest for x in shaken)


def test_distances_are_those_of_paths_along_edges(test_set):
    distance, template = test_set.distance, test_set.template
    edge = icosphere(3).edge
    rest = lengths(template.pos, edge)
    torch.testing.assert_close(distance, distance.T)
    assert distance.diagonal().abs().max() == 0
    torch.testing.assert_close(distance[edge[0], edge[1]], rest / rest.mean())
    straight = torch.cdist(template.pos, template.pos) / rest.mean()
    assert (distance >= straight - 1e-5).all()  # cdist of near points loses digits
    assert 15 < distance.max() < 40
    distance.zero_()
    assert test_set.distance.max() > 0  # a copy


def test_geodesic_error(test_set):
    y = test_set[0].y
    assert test_set.geodesic_error(y, y) == 0
    nobody = test_set.geodesic_error(torch.zeros_like(y), y)
    assert nobody == pytest.approx(float(test_set.distance[0].mean()))
    with pytest.raises(ValueError, match=r"prediction must have shape \[642\], got \[3\]"):
        test_set.geodesic_error(y[:3], y)
    with pytest.raises(ValueError, match="up to level 4"):
        _distance(5)


def test_splits_and_seeds_differ_and_a_small_set_begins_a_large_one():
    def first(**kw):
        return DeformedSpheres(**{"level": 1, "num_samples": 3, **kw})[0]

    base = first()
    for same in (first(num_samples=5), first(force_reload=True)):
        torch.testing.assert_close(base.pos, same.pos)
        assert torch.equal(base.y, same.y)
        assert torch.equal(base.face, same.face)
    for other in (first(split="test"), first(seed=1)):
        assert not torch.equal(base.y, other.y)
        assert not torch.isclose(in_template_order(base), in_template_order(other)).any(1).all()


def test_numbers_say_nothing_about_the_template(test_set):
    y = torch.stack([d.y for d in test_set]).double()
    ranks = torch.arange(642).double().expand_as(y)
    correlation = torch.corrcoef(torch.stack([y.flatten(), ranks.flatten()]))[0, 1]
    assert correlation.abs() < 0.05


def test_pre_transform_is_stored_and_names_the_folder():
    plain = DeformedSpheres(level=1, num_samples=2)
    edges = DeformedSpheres(level=1, num_samples=2, pre_transform=FaceToEdge(remove_faces=False))
    assert edges[0].edge_index.shape == (2, 240)
    assert "edge_index" not in plain[0]
    folders = {
        plain.processed_dir,
        edges.processed_dir,
        DeformedSpheres(level=1, num_samples=2, bend=0.1).processed_dir,
    }
    assert len(folders) == 3


def test_batches(test_set):
    batch = next(iter(DataLoader(test_set, batch_size=10)))
    assert batch.face.shape == (3, 12800)
    assert int(batch.face.max()) == 6419
    assert int(batch.y.max()) == 641  # vertices of the template, not of the batch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "valid"}, "split must be one of 'train', 'test', got 'valid'"),
        ({"level": 0}, "level must be from 1 (42 vertices) to 6 (40,962 vertices), got 0"),
        ({"level": 2.0}, "level must be from 1"),
        ({"num_samples": 0}, "num_samples must be at least 1, an integer, got 0"),
        ({"bend": -0.1}, "bend must be from 0 (rigid) to 0.7"),
        ({"bend": float("nan")}, "bend must be from 0 (rigid) to 0.7"),
    ],
)
def test_a_wrong_choice_is_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        DeformedSpheres(**arguments)


@pytest.mark.parametrize("wrong", [{"num_samples": 2.5}, {"num_samples": True}, {"seed": -1}, {"seed": 1.5}])
def test_counts_and_seeds_are_integers(tmp_path, wrong):
    with pytest.raises(ValueError, match="integer"):
        DeformedSpheres(tmp_path, level=1, **wrong)


def test_geodesic_errors_want_vertices(tmp_path):
    data, zero = DeformedSpheres(tmp_path, level=1, num_samples=1), torch.zeros(1, dtype=torch.long)
    for wrong in (zero + 42, zero - 1, zero.float()):
        with pytest.raises(ValueError, match="prediction must hold vertices"):
            data.geodesic_error(wrong, zero)
    assert data.geodesic_error(zero, zero) == 0

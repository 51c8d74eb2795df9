"""GaugeFeatures: against the formulas, known shapes, motions, frames, scale."""

import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.groups import SO3, SO2Irreps
from geomeq.transforms import GaugeFeatures, GaugeRandomize, MeshGauge

from ..meshes._shapes import annulus, grid, sphere, torus, two_parts
from .test_mesh_gauge import bumpy

INVARIANT = ("matrix", "tangents", "curvature", "heat_kernel")


def features(kind, mesh, **arguments):
    return GaugeFeatures(kind, **arguments)(MeshGauge()(mesh))


def test_matrix_features_follow_their_formula():
    mesh = MeshGauge()(bumpy())
    x = GaugeFeatures("matrix")(mesh).x
    j, i = mesh.edge_index
    d = mesh.pos[j] - mesh.pos[i]
    d = d / d.norm(dim=1).mean()
    node = 37
    near = i == node
    frame = mesh.frame[node]
    n = mesh.frame[j[near], 2]
    half, scalars, vectors, twos = math.sqrt(0.5), [], [], []
    for a, b, symmetric in ((d[near], d[near], True), (n, n, True), (d[near], n, False)):
        t = (frame @ a.T @ b @ frame.T) / int(near.sum())
        scalars += [half * (t[0, 0] + t[1, 1]), t[2, 2]] + ([] if symmetric else [half * (t[1, 0] - t[0, 1])])
        vectors += [t[0, 2], t[1, 2]] + ([] if symmetric else [t[2, 0], t[2, 1]])
        twos += [half * (t[0, 0] - t[1, 1]), half * (t[0, 1] + t[1, 0])]
    torch.testing.assert_close(x[node], torch.stack(scalars + vectors + twos))


def test_relative_tangents_follow_their_formula():
    mesh = MeshGauge()(bumpy())
    out = GaugeFeatures("tangents", powers=(0.7, 0.5))(mesh)
    assert out.types == "2x1"
    j, i = mesh.edge_index
    node = 11
    d = (mesh.pos[j] - mesh.pos[i])[i == node]
    n = mesh.frame[node, 2]
    for channel, p in enumerate((0.7, 0.5)):
        flat = (d - (d @ n)[:, None] * n) / d.norm(dim=1, keepdim=True) ** p
        v = (d.norm(dim=1) ** (p - 1)).sum() * flat.sum(dim=0) / (2.45 * len(d) ** 1.5)
        torch.testing.assert_close(out.x[node].view(2, 2)[channel], mesh.frame[node, :2] @ v)


@pytest.mark.parametrize(("radius", "level"), [(1.0, 3), (2.5, 3)])
def test_curvatures_of_spheres(radius, level):
    mesh = sphere(level)
    mesh.pos = radius * mesh.pos
    x = features("curvature", mesh).x.sinh()
    torch.testing.assert_close(x[:, 0], torch.full_like(x[:, 0], math.sqrt(4 * math.pi)), rtol=0.05, atol=0)
    torch.testing.assert_close(x[:, 1], torch.full_like(x[:, 1], 4 * math.pi), rtol=0.02, atol=0)
    flat = features("curvature", grid(6, 6)).x.view(6, 6, 2)[1:-1, 1:-1]
    torch.testing.assert_close(flat, torch.zeros_like(flat), atol=1e-9, rtol=0)


def test_heat_kernels_are_means_of_one_and_constant_on_a_sphere():
    ball = features("heat_kernel", sphere(3), eigenpairs=49).x
    assert ball.shape == (642, 8)
    torch.testing.assert_close(ball, torch.ones_like(ball), atol=0.02, rtol=0)
    mesh = MeshGauge()(bumpy())
    x = GaugeFeatures("heat_kernel", times=5)(mesh).x
    mean = (x * mesh.area[:, None]).sum(dim=0) / mesh.area.sum()
    torch.testing.assert_close(mean, torch.ones_like(mean), atol=1e-6, rtol=0)
    assert float(x[:, 0].std()) > 0.05
    parts = features("heat_kernel", two_parts(), times=3).x
    assert bool((parts[84] == 0).all())
    torch.testing.assert_close(parts[:42], parts[42:84], atol=1e-6, rtol=0)
    corners = features("heat_kernel", sphere(3), eigenpairs=50).x[:12]  # one of a multiplet too many
    torch.testing.assert_close(corners, corners[:1].expand(12, 8), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [*INVARIANT, "position"])
def test_a_motion_changes_positions_only(kind):
    mesh = bumpy()
    other = mesh.clone()
    other.pos = mesh.pos @ SO3.random(seed=2).T + 0.5
    same = torch.allclose(features(kind, mesh).x, features(kind, other).x, atol=1e-7)
    assert same == (kind != "position")


@pytest.mark.parametrize("kind", INVARIANT)
def test_scale_does_not_matter(kind):
    mesh = bumpy()
    large = Data(pos=37.0 * mesh.pos, face=mesh.face)
    torch.testing.assert_close(features(kind, mesh).x, features(kind, large).x, atol=1e-7, rtol=0)


@pytest.mark.parametrize("kind", [*INVARIANT, INVARIANT])
def test_they_turn_with_the_frames_as_their_type_says(kind):
    mesh = MeshGauge()(bumpy())
    made = GaugeFeatures(kind)(mesh)
    turned = GaugeRandomize(seed=1)(made)
    again = GaugeFeatures(kind)(GaugeRandomize(seed=1)(mesh))
    torch.testing.assert_close(turned.x, again.x, atol=1e-9, rtol=0)
    assert again.types == made.types
    assert SO2Irreps(made.types).dim == made.x.size(1)
    if SO2Irreps(made.types).max_order:
        assert not torch.allclose(made.x, again.x, atol=0.01)


def test_batches_dtypes_and_repr():
    meshes = [MeshGauge()(m) for m in (torus(9, 7, dtype=torch.float32), annulus(dtype=torch.float32))]
    transform = GaugeFeatures(("position", "matrix"))
    batch = transform(Batch.from_data_list(meshes))
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x, torch.cat([transform(m).x for m in meshes]))
    assert repr(transform) == "GaugeFeatures(kind=('position', 'matrix'), powers=(0.7,), times=8, eigenpairs=64)"
    assert "x" not in meshes[0]


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("matrix", grid(), "reads frame"),
        ("curvature", Data(pos=torch.rand(3, 3)), "reads face"),
        ("heat_kernel", Data(pos=torch.rand(3, 3)), "reads face"),
        ("tangents", Data(pos=torch.rand(3, 3), frame=torch.eye(3).expand(3, 3, 3)), "reads edge_index"),
    ],
)
def test_what_is_missing(kind, data, message):
    with pytest.raises(ValueError, match=rf"{message}, but the data has only"):
        GaugeFeatures(kind)(data)


@pytest.mark.parametrize("size", [0.0, 1e-200, 1e100])
def test_meshes_of_no_size_and_of_extreme_size(size):
    mesh = bumpy()
    mesh.pos = mesh.pos * size
    for kind in ("curvature", "heat_kernel"):
        x = features(kind, mesh).x
        assert bool(torch.isfinite(x).all())
        if size:
            torch.testing.assert_close(x, features(kind, bumpy()).x, atol=1e-6, rtol=0)


def test_unknown_kinds():
    with pytest.raises(ValueError, match="kind must be among"):
        GaugeFeatures("shot")
    with pytest.raises(ValueError, match="kind must be among"):
        GaugeFeatures(())
    with pytest.raises(ValueError, match="at least 1 time and 2 eigenpairs"):
        GaugeFeatures("heat_kernel", times=0)

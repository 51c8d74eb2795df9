"""MeshGauge on bad meshes: what it says, what it survives, and random triangle soups."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data, HeteroData

from geomeq.meshes import clean
from geomeq.transforms import GaugeFeatures, GaugeRandomize, MeshGauge, MultiScale

from ..meshes._shapes import F64, bow_tie, grid, klein, moebius, sphere, t_edge, two_parts

EVERY = [MeshGauge(), MeshGauge(rings=2), MeshGauge(radius=0.7), MeshGauge("projected"), MeshGauge(delaunay=True)]


def assert_finite(mesh):
    for key in ("polar", "transport", "frame", "area"):
        assert bool(torch.isfinite(mesh[key]).all()), key
    eye = torch.eye(3, dtype=F64).expand(mesh.num_nodes, 3, 3)
    torch.testing.assert_close(mesh.frame.double() @ mesh.frame.double().mT, eye, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("mesh", "found"),
    [
        (bow_tie(), "several fans of triangles meet at 1 non-manifold vertices"),
        (t_edge(), r"1 edges have more than two triangles and 0 have two that disagree .* vertices \[0, 1\]"),
        (moebius(), "the mesh has only one side; .* have two that disagree"),
        (klein(), "the mesh has only one side; "),
    ],
)
def test_no_orientable_manifold(mesh, found):
    for method in ("intrinsic", "vector_heat"):
        with pytest.raises(ValueError, match=f"MeshGauge\\(method='{method}'\\) cannot use this mesh: .*{found}"):
            MeshGauge(method)(mesh)
        with pytest.raises(ValueError, match="MeshGauge\\(method='projected'\\)"):
            MeshGauge(method)(mesh)
        fallen = MeshGauge(method, fallback="projected")(mesh)
        wanted = MeshGauge("projected")(mesh)
        assert_finite(fallen)
        assert torch.equal(fallen.polar, wanted.polar)
        assert torch.equal(fallen.transport, wanted.transport)
    fallen, report = MeshGauge(fallback="projected").with_report(mesh)
    assert report.nonmanifold_vertices + report.nonmanifold_edges + (not report.orientable) > 0
    split, _ = clean(mesh, split_nonmanifold=True)
    if report.orientable:
        assert_finite(MeshGauge()(split))


@pytest.mark.parametrize("transform", EVERY, ids=str)
def test_isolated_vertices_boundaries_and_several_pieces(transform):
    mesh = transform(two_parts())
    assert_finite(mesh)
    assert 84 not in mesh.edge_index
    assert float(mesh.area[84]) == 0
    j, i = mesh.edge_index
    assert torch.equal(j < 42, i < 42)
    one = transform(sphere(1))
    first = i < 42
    torch.testing.assert_close(mesh.polar[first, 0], one.polar[:, 0], atol=1e-12, rtol=0)
    assert_finite(transform(grid()))


@pytest.mark.parametrize("transform", EVERY, ids=str)
def test_degenerate_and_repeated_triangles_are_left_out(transform):
    mesh = sphere(1)
    worse = Data(
        pos=mesh.pos, face=torch.cat([torch.tensor([[3, 5], [3, 9], [7, 5]]), mesh.face, mesh.face[:, 7:9]], 1)
    )
    a, b = transform(mesh), transform(worse)
    assert torch.equal(a.edge_index, b.edge_index)
    torch.testing.assert_close(a.polar, b.polar)
    assert torch.equal(b.face, mesh.face)
    assert transform.with_report(worse)[1].removed_faces == 4


@pytest.mark.parametrize("mollify", [True, False])
def test_triangles_without_an_area(mollify):
    mesh = grid()
    mesh.pos[6] = mesh.pos[7]  # an edge of length zero, two triangles without an area, further ones flat
    out, report = MeshGauge(mollify=mollify, rings=2).with_report(mesh)
    assert_finite(out)
    assert (report.mollified > 0) == mollify
    assert report.zero_area_faces > 0
    assert float(out.area.sum()) == pytest.approx(12.0)
    with pytest.raises(ValueError, match="neighbours 6 and 7 coincide .*merge_duplicates=True"):
        MeshGauge("projected")(mesh)
    merged, _ = clean(mesh, merge_duplicates=True)
    assert_finite(MeshGauge("projected")(merged))


def test_nan_is_named():
    mesh = grid()
    mesh.pos[4, 1] = math.nan
    for transform in EVERY:
        with pytest.raises(ValueError, match=r"pos must be finite, but row 4 .*meshes.clean"):
            transform(mesh)
    assert_finite(MeshGauge()(clean(mesh)[0]))


@pytest.mark.parametrize("transform", EVERY, ids=str)
def test_nothing_at_all(transform):
    empty = transform(Data(pos=torch.zeros(0, 3), face=torch.zeros(3, 0, dtype=torch.long)))
    assert empty.edge_index.shape == (2, 0)
    assert empty.frame.shape == (0, 3, 3)
    lonely = transform(Data(pos=torch.rand(4, 3), face=torch.zeros(3, 0, dtype=torch.long)))
    assert_finite(lonely)
    assert lonely.polar.shape == (0, 2)


@pytest.mark.parametrize(
    ("transform", "data", "message"),
    [
        (MeshGauge(), Data(pos=torch.rand(5, 3)), r"reads face, but the data has only \['pos'\].*method='projected'"),
        (MeshGauge(), Data(face=torch.zeros(3, 1, dtype=torch.long)), "reads pos"),
        (MeshGauge(), Data(pos=torch.rand(5, 2), face=torch.tensor([[0], [1], [2]])), r"shape \[N, 3\]"),
        (MeshGauge(), Data(pos=torch.rand(5, 3), face=torch.tensor([[0], [1], [5]])), "face names vertices 0..5"),
        (MeshGauge("projected", radius=1.0), Data(pos=torch.rand(5, 3)), "points without face need normals"),
        (
            MeshGauge("projected"),
            Data(pos=torch.rand(5, 3), normal=torch.ones(5, 3)),
            "points without face and edge_index need",
        ),
        (MeshGauge("projected", knn=2), Data(pos=torch.rand(5, 3), normal=torch.zeros(5, 3)), "that of point 0 is"),
        (MeshGauge("projected", knn=2), Data(pos=torch.rand(5, 3), normal=torch.ones(4, 3)), r"normal must have shape"),
    ],
)
def test_what_is_missing_or_misshapen(transform, data, message):
    with pytest.raises(ValueError, match=message):
        transform(data)


def test_wrong_types():
    with pytest.raises(TypeError, match="MeshGauge needs a torch_geometric Data or Batch"):
        MeshGauge()(HeteroData())
    with pytest.raises(TypeError, match="float32 or float64"):
        MeshGauge()(Data(pos=torch.zeros(3, 3, dtype=torch.long), face=torch.tensor([[0], [1], [2]])))
    with pytest.raises(TypeError, match="face must hold integers"):
        MeshGauge()(Data(pos=torch.rand(3, 3), face=torch.rand(3, 1)))


def soups():
    """A few vertices, some of them at one place or on a line, and any triangles on them, in either precision."""
    number = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-9, 1e6]), st.floats(-2, 2, width=32))
    point = st.tuples(number, number, number)

    @st.composite
    def build(draw):
        points = draw(st.lists(point, min_size=1, max_size=9))
        corner = st.integers(0, len(points) - 1)
        faces = draw(st.lists(st.tuples(corner, corner, corner), max_size=14))
        dtype = draw(st.sampled_from([torch.float32, F64]))
        face = torch.tensor(faces, dtype=torch.long).view(-1, 3).t().contiguous()
        return Data(pos=torch.tensor(points, dtype=dtype), face=face)

    return build()


SOUP = [
    MeshGauge(fallback="projected"),
    MeshGauge(rings=2),
    MeshGauge(radius=1.0, mollify=False, boundary="flat"),
    MeshGauge("projected", rings=2),
    MeshGauge("projected", radius=1.0),
    MultiScale((0.5, 0.5), MeshGauge()),
    MultiScale((0.5,), MeshGauge("projected")),
]


@pytest.mark.parametrize("transform", SOUP, ids=str)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(mesh=soups())
def test_random_soups_give_finite_numbers_or_a_clear_error(transform, mesh):
    check_soup(transform, mesh)


@pytest.mark.slow
@pytest.mark.parametrize("transform", SOUP, ids=str)
@settings(max_examples=500, deadline=None)
@given(mesh=soups())
def test_many_random_soups(transform, mesh):
    check_soup(transform, mesh)


def check_soup(transform, mesh):
    told = ""
    try:
        out = transform(mesh)
    except ValueError as error:
        told = str(error)
    if told:
        assert any(words in told for words in ("coincide", "several fans", "more than two triangles"))
        return
    assert_finite(out)
    for k in range(1, out.num_levels if isinstance(transform, MultiScale) else 1):
        level = out.level(k)
        assert bool(torch.isfinite(level.polar).all() and torch.isfinite(level.pool_transport).all())
        assert bool((level.pool_index >= 0).all() and (level.pool_index < level.num_nodes).all())
    features = GaugeFeatures(("matrix", "tangents", "curvature", "heat_kernel"), eigenpairs=4)(out)
    assert bool(torch.isfinite(features.x).all())
    assert bool(torch.isfinite(GaugeRandomize(seed=0)(features).x).all())

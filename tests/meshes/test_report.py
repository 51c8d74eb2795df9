"""inspect: every defect is counted, on shapes where the counts are known and against loops on random soups."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from geomeq.meshes import euler_characteristic, inspect, load

from ._brute import brute_report
from ._shapes import REAL, annulus, bow_tie, grid, klein, moebius, real_path, sphere, t_edge, torus, two_parts


@pytest.mark.parametrize("name", REAL)
def test_the_meshes_of_the_set_are_as_published(name):
    report = inspect(load(real_path(name)))
    assert (report.euler_characteristic, report.boundary_edges) == REAL[name]
    assert report.boundary_loops == (REAL[name][1] > 0)
    assert report.ok
    assert report.components == 1
    assert report.closed == (REAL[name][1] == 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (sphere, {"euler_characteristic": 2, "components": 1}),
        (torus, {"euler_characteristic": 0, "components": 1}),
        (grid, {"euler_characteristic": 1, "boundary_edges": 14, "boundary_loops": 1}),
        (annulus, {"euler_characteristic": 0, "boundary_edges": 24, "boundary_loops": 2}),
        (moebius, {"euler_characteristic": 0, "boundary_edges": 24, "boundary_loops": 1, "orientable": False}),
        (klein, {"euler_characteristic": 0, "boundary_edges": 0, "orientable": False, "components": 1}),
        (bow_tie, {"nonmanifold_vertices": 1, "nonmanifold_edges": 0, "components": 1, "boundary_loops": 2}),
        (t_edge, {"nonmanifold_vertices": 0, "nonmanifold_edges": 1, "boundary_edges": 6, "euler_characteristic": 1}),
        (two_parts, {"components": 2, "isolated_vertices": 1, "euler_characteristic": 4}),
    ],
)
def test_known_shapes(make, expected, dtype):
    mesh = make(dtype=dtype)
    report = inspect(mesh)
    assert {name: getattr(report, name) for name in expected} == expected
    assert report.ok == (make not in (moebius, klein, bow_tie, t_edge))
    assert report.inside_out is False
    assert (report.inconsistent_edges > 0) == (make in (moebius, klein))


def test_every_single_defect_is_named_alone():
    healthy = sphere(1)
    pos, face = healthy.pos, healthy.face
    assert inspect(healthy).problems == inspect(healthy).notes == []
    assert str(inspect(healthy)).endswith("nothing unusual")
    extra = torch.tensor([[0], [1], [1]])
    nan = pos.index_fill(0, torch.tensor([3]), torch.nan)
    coincident = torch.cat([pos, pos[:1]])
    turned = torch.cat([face[[0, 2, 1], :1], face[:, 1:]], dim=1)
    flat = pos.clone()
    flat[face[2, 0]] = (flat[face[0, 0]] + flat[face[1, 0]]) / 2
    cases = {
        "1 face that names a vertex twice": Data(pos=pos, face=torch.cat([face, extra], dim=1)),
        "1 vertex that is not finite": Data(pos=nan, face=face),
        "3 edges whose triangles face opposite ways": Data(pos=pos, face=turned),
        "inside out (encloses a negative volume)": Data(pos=pos, face=face.flip(0)),
        "1 face without an area": Data(pos=flat, face=face),
    }
    for words, mesh in cases.items():
        assert inspect(mesh).problems == [words]
        assert words in str(inspect(mesh))
        assert not inspect(mesh).ok
    doubled = inspect(Data(pos=pos, face=torch.cat([face, face[[1, 0, 2], :1]], dim=1)))
    assert doubled.duplicate_faces == 1
    assert doubled.nonmanifold_edges == 3
    assert inspect(Data(pos=coincident, face=face)).notes == [
        "1 vertex at the place of an earlier one",
        "1 vertex of no face",
    ]


def test_minus_zero_and_zero_are_one_place():
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-0.0, 0, -0.0]])
    assert inspect(Data(pos=pos, face=torch.tensor([[0], [1], [2]]))).duplicate_vertices == 1


def test_a_report_tells_what_was_done_and_is_short():
    report = replace(inspect(sphere(0)), flipped_edges=3, mollified=1e-6)
    assert report.notes == ["3 edges flipped", "every edge lengthened by 1e-06"]
    assert repr(report) == (
        "MeshReport(vertices=12, faces=20, edges=30, components=1, euler_characteristic=2, flipped_edges=3, "
        "mollified=1e-06)"
    )


def test_empty_meshes():
    none = inspect(Data(pos=torch.empty(0, 3), face=torch.empty(3, 0, dtype=torch.long)))
    assert (none.vertices, none.faces, none.components, none.closed) == (0, 0, 0, False)
    assert inspect(Data(pos=torch.rand(2, 3), face=torch.empty(3, 0, dtype=torch.long))).isolated_vertices == 2


soups = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.lists(st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0, float("nan"), float("inf")]), min_size=3, max_size=3),
            min_size=n,
            max_size=n,
        ),
        st.lists(st.lists(st.integers(0, n - 1), min_size=3, max_size=3), max_size=14),
    )
)


@settings(max_examples=80, deadline=None)
@given(soups)
def test_counts_on_random_soups_equal_loops(soup):
    points, corners = soup
    mesh = Data(pos=torch.tensor(points), face=torch.tensor(corners, dtype=torch.long).view(-1, 3).t())
    report = inspect(mesh)
    expected = brute_report(points, corners)
    assert {name: getattr(report, name) for name in expected} == expected
    assert str(report).startswith("mesh: ")
    assert report.ok == (not report.problems)


def test_euler_characteristic_leaves_out_what_is_no_face():
    assert euler_characteristic(torus().face) == 0
    assert euler_characteristic(torch.tensor([[0, 5], [1, 5], [2, 7]])) == 1
    assert euler_characteristic(torch.empty(3, 0, dtype=torch.long)) == 0


def test_bad_meshes_are_named():
    with pytest.raises(ValueError, match="has no pos"):
        inspect(Data(face=torch.tensor([[0], [1], [2]])))
    with pytest.raises(ValueError, match="there are only 1"):
        inspect(Data(pos=torch.rand(1, 3), face=torch.tensor([[0], [1], [2]])))
    with pytest.raises(TypeError, match="float32 or float64"):
        inspect(Data(pos=torch.zeros(1, 3, dtype=torch.long), face=torch.empty(3, 0, dtype=torch.long)))

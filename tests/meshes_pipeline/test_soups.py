"""Any triangles at all: through the transform and a convolution, finite and right, or refused with a reason.

"Right" is measured against the formulas where they apply: transport there and back, one neighbour for each edge, and an
output that does not depend on frames or on where the soup lies.
"""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from geomeq import meshes
from geomeq.groups import SO3, SO2Irreps, wrap_angle
from geomeq.nn import GaugeConv
from geomeq.transforms import GaugeRandomize, MeshGauge, MultiScale

TYPES = SO2Irreps("2x0+2x1+1x2")
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
COORDINATES = st.one_of(
    st.integers(-2, 2).map(float),  # many points in one place, in one line, in one plane
    st.floats(-3, 3, allow_nan=False, width=32),
    st.sampled_from([0.0, 1e-30, 1e-12, 1.0, 1e6]),
)


@st.composite
def soups(draw, coordinates=COORDINATES):
    count = draw(st.integers(1, 9))
    pos = draw(st.lists(st.tuples(*[coordinates] * 3), min_size=count, max_size=count))
    corner = st.integers(0, count - 1)
    face = draw(st.lists(st.tuples(corner, corner, corner), max_size=14))
    return Data(pos=torch.tensor(pos, dtype=torch.float64), face=torch.tensor(face, dtype=torch.long).reshape(-1, 3).T)


def passed(gauge, soup):
    """What a transform makes of a soup, or ``None`` if it says what is wrong."""
    try:
        return gauge(soup.clone())
    except ValueError as error:
        assert len(str(error)) > 30  # a reason, not a bare number  # noqa: PT017
        return None


def check_contract(data, soup):
    n = soup.num_nodes
    source, target = data.edge_index
    assert bool((source != target).all())
    key = target * n + source
    assert bool((key.diff() > 0).all())  # sorted, no pair twice
    reverse = torch.searchsorted(key, source * n + target)
    assert torch.equal(key[reverse], source * n + target)  # both ways
    for name in ("polar", "transport", "frame"):
        assert bool(data[name].isfinite().all()), name
    assert bool((data.polar[:, 0] >= 0).all())
    assert bool((data.polar[:, 1].abs() <= math.pi).all())
    back = wrap_angle(data.transport + data.transport[reverse])
    assert back.abs().max() < 1e-9 if len(back) else True
    eye = torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
    torch.testing.assert_close(data.frame @ data.frame.mT, eye, atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.linalg.det(data.frame), torch.ones(n, dtype=torch.float64))
    assert bool((data.area >= 0).all())


def check_intrinsic(data):
    """Transport is what the angles at both ends say."""
    source, target = data.edge_index
    n = data.num_nodes
    key = target * n + source
    reverse = torch.searchsorted(key, source * n + target)
    expected = wrap_angle(data.polar[:, 1] - data.polar[reverse, 1] - math.pi)
    assert wrap_angle(data.transport - expected).abs().max() < 1e-9 if len(key) else True


def check_convolution(data):
    torch.manual_seed(0)
    if bool((data.polar[:, 0] == 0).any()):
        with pytest.raises(ValueError, match="r = 0"):
            convolve(data)
        return
    y = convolve(data)
    assert bool(y.isfinite().all())
    other = GaugeRandomize(str(TYPES), seed=1)(data.clone())
    e1 = torch.einsum("nij,nj->ni", data.frame, other.frame[:, 0])
    turned = TYPES.rotate(y, -torch.atan2(e1[:, 1], e1[:, 0]))
    torch.testing.assert_close(convolve(other), turned, atol=1e-9, rtol=1e-9)


def convolve(data):
    torch.manual_seed(1)
    conv = GaugeConv(TYPES, TYPES, rings=2, cutoff=2.0).double()
    return conv(data.x, data.edge_index, data.polar, data.transport, data.area).detach()


def whole_way(soup, gauge):
    data = passed(gauge, soup)
    if data is None:
        return None
    check_contract(data, soup)
    if gauge.method == "intrinsic" and gauge.rings is None and gauge.fallback is None:
        check_intrinsic(data)
    torch.manual_seed(2)
    data.x, data.types = torch.randn(soup.num_nodes, TYPES.dim, dtype=torch.float64), str(TYPES)
    check_convolution(data)
    return data


GAUGES = {
    "intrinsic": MeshGauge(),
    "projected": MeshGauge(method="projected"),
    "falls back": MeshGauge(fallback="projected"),
    "flipped": MeshGauge(delaunay=True),
    "two rings": MeshGauge(rings=2),
}


@pytest.mark.parametrize("gauge", GAUGES.values(), ids=GAUGES)
@QUICK
@given(soup=soups())
def test_soups_pass_right_or_are_refused(gauge, soup):
    whole_way(soup, gauge)


@pytest.mark.slow
@pytest.mark.parametrize("gauge", GAUGES.values(), ids=GAUGES)
@LONG
@given(soup=soups())
def test_many_more_soups(gauge, soup):
    whole_way(soup, gauge)


@QUICK
@given(soup=soups())
def test_what_is_refused_is_in_the_report(soup):
    once, _ = meshes.clean(soup)  # without triangles that are there twice, which the transform leaves out by itself
    report = meshes.inspect(once)
    broken = report.nonmanifold_edges or report.nonmanifold_vertices or not report.orientable
    assert (passed(MeshGauge(), soup) is None) == bool(broken), str(report)
    if passed(MeshGauge(method="projected"), soup) is None:  # neighbours in one place
        assert report.duplicate_vertices > 0


@QUICK
@given(soup=soups(st.floats(-3, 3, allow_nan=False, width=32)), seed=st.integers(0, 99))
def test_where_a_soup_lies_does_not_matter(soup, seed):
    data = passed(MeshGauge(), soup)
    turn = SO3.random(seed=seed)
    moved = passed(MeshGauge(), Data(pos=soup.pos @ turn.T + 1, face=soup.face))
    assert (data is None) == (moved is None)
    if data is not None and meshes.inspect(soup).zero_area_faces == 0 and not needs_care(soup):
        torch.testing.assert_close(moved.polar[:, 0], data.polar[:, 0], atol=1e-6, rtol=1e-6)
        assert wrap_angle(moved.polar[:, 1] - data.polar[:, 1]).abs().max() < 1e-5 if data.num_edges else True


def needs_care(soup):
    """Whether a triangle is so thin that rounding of the corners turns its angles."""
    corner = soup.pos[soup.face]
    side = (corner - corner.roll(1, 0)).norm(dim=-1)
    area = torch.linalg.cross(corner[1] - corner[0], corner[2] - corner[0]).norm(dim=-1)
    return bool((area < 1e-4 * side.amax(0).square()).any()) or bool((side < 1e-6).any())


@QUICK
@given(soup=soups(st.one_of(COORDINATES, st.sampled_from([math.nan, math.inf, -math.inf]))))
def test_numbers_that_are_none_are_refused(soup):
    if bool(soup.pos.isfinite().all()):
        return
    for gauge in GAUGES.values():
        assert passed(gauge, soup) is None
    assert meshes.inspect(soup).nonfinite_vertices > 0


@QUICK
@given(soup=soups())
def test_soups_through_levels_and_repair(soup):
    repaired, _ = meshes.clean(soup, merge_duplicates=True, split_nonmanifold=True)
    data = passed(MeshGauge(fallback="projected"), repaired)
    assert data is not None
    check_contract(data, repaired)
    levels = passed(MultiScale(ratios=(0.5,), gauge=MeshGauge(fallback="projected")), repaired)
    if levels is not None:
        assert bool(levels.pool_transport_1.isfinite().all())
        assert int(levels.pool_index_1.max()) < levels.pos_1.size(0)


def test_the_checks_can_fail():
    soup = Data(pos=torch.eye(3, dtype=torch.float64), face=torch.tensor([[0], [1], [2]]))
    data = MeshGauge()(soup.clone())
    check_contract(data, soup)
    check_intrinsic(data)
    data.transport = data.transport + 0.1
    with pytest.raises(AssertionError):
        check_contract(data, soup)
    with pytest.raises(AssertionError):
        check_intrinsic(data)

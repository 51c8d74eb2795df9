"""Great circles, azimuths and transport on the sphere: against formulas of their own, and what has no direction."""

import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq import groups, spheres
from geomeq.transforms import SphereGauge

SAMPLINGS = {
    "gauss_legendre": lambda: spheres.gauss_legendre(10),
    "equiangular": lambda: spheres.equiangular(9),
    "healpix": lambda: spheres.healpix(4),
    "icosphere": lambda: spheres.icosphere(2),
    "fibonacci": lambda: spheres.fibonacci(200),
    "scattered": lambda: spheres.scattered(groups.S2.random(200, seed=1)),
}
BOTH = pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])


def gauge(name="fibonacci", dtype=torch.float64, cutoff=0.6, **options):
    return SphereGauge(cutoff=cutoff, **options)(SAMPLINGS[name]().to_data(dtype))


def apart(a, b):
    """Largest difference of angles, modulo a full turn."""
    return float(torch.polar(torch.ones_like(a), a - b).sub(1).abs().max())


def turned(graph, turn):
    """The graph with its frames turned by an angle at each node."""
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    e1, e2, normal = graph.frame.unbind(1)
    frame = torch.stack([cos * e1 + sin * e2, cos * e2 - sin * e1, normal], dim=1)
    return SphereGauge(cutoff=0.6, frames="given")(Data(pos=graph.pos, area=graph.area, frame=frame))


@pytest.mark.parametrize("name", SAMPLINGS)
@BOTH
def test_polar_coordinates_by_the_angles_of_both_points(name, dtype, tol):
    graph = gauge(name, dtype)
    x, y, z = graph.pos.double().T
    theta, phi = torch.atan2(torch.hypot(x, y), z), torch.atan2(y, x)
    j, i = graph.edge_index
    away = (theta[i].sin() > 1e-6) & (theta[j].sin() > 1e-6)  # at a pole the frame is a choice
    j, i = j[away], i[away]
    beta = phi[j] - phi[i]
    south = theta[i].cos() * theta[j].sin() * beta.cos() - theta[i].sin() * theta[j].cos()
    east = theta[j].sin() * beta.sin()
    up = theta[i].sin() * theta[j].sin() * beta.cos() + theta[i].cos() * theta[j].cos()
    polar = graph.polar[away].double()
    assert float((polar[:, 0] - torch.atan2(torch.hypot(south, east), up)).abs().max()) < tol
    assert apart(polar[:, 1], torch.atan2(east, south)) < 10 * tol


@pytest.mark.parametrize("name", SAMPLINGS)
@BOTH
def test_transport_is_the_turn_that_carries_the_source_to_the_target(name, dtype, tol):
    graph = gauge(name, dtype, frames="random")
    j, i = graph.edge_index
    pos, frame = graph.pos.double(), graph.frame.double()
    axis = torch.linalg.cross(pos[j], pos[i])
    vector = axis / axis.norm(dim=1, keepdim=True) * graph.polar[:, :1].double()
    carried = (groups.SO3.exp(vector) @ frame[j, 0, :, None])[..., 0]  # e1 of the source, moved along the great circle
    x, y = (frame[i, :2] @ carried[..., None])[..., 0].T
    assert apart(graph.transport.double(), torch.atan2(y, x)) < 10 * tol
    assert apart(graph.transport.double(), torch.zeros(len(j)).double()) > 1  # a check with teeth


def test_frames_are_right_handed_and_meridian():
    graph = gauge("equiangular")
    torch.testing.assert_close(graph.frame @ graph.frame.transpose(1, 2), torch.eye(3).double().expand(144, 3, 3))
    assert bool((torch.linalg.det(graph.frame) > 0).all())
    torch.testing.assert_close(graph.frame[:, 2], graph.pos)
    inner = graph.pos[:, 2].abs() < 0.99
    assert bool((graph.frame[inner, 0, 2] < 0).all())  # e1 points south
    assert float(graph.frame[inner, 1, 2].abs().max()) == 0  # e2 along the circle of latitude


@pytest.mark.parametrize("name", SAMPLINGS)
def test_edges_come_in_pairs_sorted_and_their_ways_back_are_inverse(name):
    graph = gauge(name, frames="random")
    j, i = graph.edge_index
    n = graph.num_nodes
    key = i * n + j
    assert bool((key.diff() > 0).all())
    back = torch.searchsorted(key, j * n + i)
    assert torch.equal(key[back], j * n + i)
    torch.testing.assert_close(graph.polar[back, 0], graph.polar[:, 0], rtol=1e-15, atol=0)
    assert apart(graph.transport[back], -graph.transport) < 1e-13
    for angle in (graph.polar[:, 1], graph.transport):
        assert bool((angle > -math.pi).all())
        assert bool((angle <= math.pi).all())


@pytest.mark.parametrize("name", SAMPLINGS)
def test_no_pair_within_the_cutoff_is_missed(name):
    graph = gauge(name)
    distance = 2 * torch.asin((graph.pos[:, None] - graph.pos).norm(dim=-1) / 2)
    wanted = ((distance > 1e-9) & (distance < 0.6)).nonzero().flip(1).T  # target first: sorted by target
    assert torch.equal(graph.edge_index, wanted)


@BOTH
def test_turned_frames_change_angles_as_the_conventions_say(dtype, tol):
    graph = gauge("healpix", dtype)
    turn = 6 * torch.rand(graph.num_nodes, dtype=dtype)
    other = turned(graph, turn)
    j, i = graph.edge_index
    assert torch.equal(other.edge_index, graph.edge_index)
    assert apart(other.polar[:, 1], graph.polar[:, 1] - turn[i]) < tol
    assert apart(other.transport, graph.transport - turn[i] + turn[j]) < tol
    assert apart(other.transport, graph.transport + turn[i] - turn[j]) > 1


@pytest.mark.parametrize("name", ["gauss_legendre", "healpix", "equiangular"])
def test_rotating_points_and_frames_together_changes_nothing(name):
    graph = gauge(name)
    rotation = groups.SO3.random(1, seed=2)[0]
    moved = Data(pos=graph.pos @ rotation.T, area=graph.area, frame=graph.frame @ rotation.T)
    moved = SphereGauge(cutoff=0.6, frames="given")(moved)
    assert torch.equal(moved.edge_index, graph.edge_index)
    assert float((moved.polar[:, 0] - graph.polar[:, 0]).abs().max()) < 1e-12
    assert apart(moved.polar[:, 1], graph.polar[:, 1]) < 1e-12
    assert apart(moved.transport, graph.transport) < 1e-12
    meridian = SphereGauge(cutoff=0.6)(Data(pos=moved.pos, area=graph.area))
    assert apart(meridian.polar[:, 1], graph.polar[:, 1]) > 0.5  # other frames, other angles


def test_a_reflection_turns_frames_left_handed_and_leaves_the_angles():
    graph = gauge("fibonacci")
    mirror = torch.diag(torch.tensor([1.0, -1, 1], dtype=torch.float64))
    moved = Data(pos=graph.pos @ mirror, area=graph.area, frame=graph.frame @ mirror)
    moved = SphereGauge(cutoff=0.6, frames="given")(moved)
    assert apart(moved.polar[:, 1], graph.polar[:, 1]) < 1e-12
    assert apart(moved.transport, graph.transport) < 1e-12


def test_holonomy_of_a_triangle_is_its_area():
    corners = torch.nn.functional.normalize(torch.randn(3, 3, dtype=torch.float64), dim=1)
    graph = SphereGauge(cutoff=math.pi)(Data(pos=corners, area=torch.ones(3)))
    theta = torch.zeros(3, 3, dtype=torch.float64)
    theta[graph.edge_index[1], graph.edge_index[0]] = graph.transport  # [target, source]
    around = theta[1, 0] + theta[2, 1] + theta[0, 2]
    assert apart(around, _solid_angle(corners)) < 1e-12


def _solid_angle(corners):
    a, b, c = corners
    volume = torch.dot(a, torch.linalg.cross(b, c))
    return 2 * torch.atan2(volume, 1 + a @ b + b @ c + c @ a)


def test_coincident_nodes_have_no_edge_and_antipodes_neither():
    graph = gauge("equiangular")
    pole = torch.arange(16)
    assert not bool((torch.isin(graph.edge_index[0], pole) & torch.isin(graph.edge_index[1], pole)).any())
    assert bool(torch.isin(pole, graph.edge_index[1]).all())  # each copy has its other neighbours
    octahedron = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    graph = SphereGauge(cutoff=math.pi)(Data(pos=octahedron))
    assert graph.num_edges == 6 * 4
    torch.testing.assert_close(graph.polar[:, 0], torch.full((24,), math.pi / 2).double())
    torch.testing.assert_close(graph.area, torch.full((6,), 4 * math.pi / 6).double())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_loops_join_nodes_with_themselves_and_their_copies(dtype):
    plain, graph = (
        gauge("equiangular", dtype, frames="random"),
        gauge("equiangular", dtype, frames="random", loops=True),
    )
    j, i = graph.edge_index
    loop = graph.polar[:, 0] == 0
    assert int(loop.sum()) == 2 * 16 * 16 + 7 * 16
    assert torch.equal(graph.edge_index[:, ~loop], plain.edge_index)
    assert torch.equal(graph.transport[~loop], plain.transport)
    assert float(graph.transport[j == i].abs().max()) == 0
    assert bool(((i * graph.num_nodes + j).diff() > 0).all())
    e1 = graph.frame[j[loop], 0]
    cos, sin = (graph.frame[i[loop], :2] @ e1[..., None])[..., 0].T
    assert apart(graph.transport[loop], torch.atan2(sin, cos)) < 1e-5


def test_rings_on_triangles_are_rings_of_the_mesh():
    mesh = spheres.icosphere(2)
    graph = SphereGauge(rings=1)(mesh)
    edge = groups.icosphere(2).edge
    both = torch.cat([edge, edge.flip(0)], dim=1)
    assert torch.equal(graph.edge_index, both[:, (both[1] * 162 + both[0]).argsort()])
    assert SphereGauge(rings=2)(mesh).num_edges == 12 * 15 + 150 * 18 - _shared_corners(mesh)


def _shared_corners(mesh):
    """How many second neighbours the counts 5 + 10 and 6 + 12 count too often: by brute force."""
    near = torch.zeros(162, 162, dtype=torch.bool)
    edge = groups.icosphere(2).edge
    near[edge[0], edge[1]] = near[edge[1], edge[0]] = True
    two = ((near.float() @ near.float()) > 0) | near
    two.fill_diagonal_(False)
    return 12 * 15 + 150 * 18 - int(two.sum())


def test_rings_on_the_convex_hull_keep_the_symmetry_of_a_grid():
    graph = SphereGauge(rings=1)(spheres.equiangular(5, 8))
    step = torch.arange(40).view(5, 8).roll(1, dims=1).flatten()
    moved = step[graph.edge_index]
    order = (moved[1] * 40 + moved[0]).argsort()
    assert torch.equal(moved[:, order], graph.edge_index)
    degree = torch.bincount(graph.edge_index[1])
    assert degree.view(5, 8).unique(dim=1).squeeze().tolist() == [
        8,
        13,
        8,
        13,
        8,
    ]  # 8 copies of the pole, 2 on the row, 3 below


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_stored_in_the_dtype_of_the_positions(dtype):
    graph = SphereGauge(cutoff=0.5)(Data(pos=spheres.healpix(4).pos.to(dtype)))
    assert graph.polar.dtype == graph.transport.dtype == graph.frame.dtype == graph.area.dtype == dtype
    assert float(graph.area.sum()) == pytest.approx(4 * math.pi, rel=1e-5)


def test_a_sampling_is_read_in_full_precision():
    sampling, transform = spheres.healpix(16), SphereGauge(cutoff=0.1)
    exact, wide, narrow = transform(sampling), transform(sampling.to_data(torch.float64)), transform(sampling.to_data())
    assert exact.polar.dtype == torch.float32
    assert torch.equal(exact.edge_index, wide.edge_index)
    errors = [apart(graph.polar[:, 1].double(), wide.polar[:, 1]) for graph in (exact, narrow)]
    assert errors[0] < 2e-7
    assert errors[0] < 0.5 * errors[1]  # positions in float32 cost digits of short edges


def test_a_batch_is_as_its_spheres():
    graphs = [SAMPLINGS[name]().to_data() for name in ("healpix", "fibonacci")]
    transform = SphereGauge(cutoff=0.6)
    together = transform(Batch.from_data_list(graphs))
    for graph, part in zip(graphs, together.to_data_list(), strict=True):
        alone = transform(graph)
        assert torch.equal(part.edge_index, alone.edge_index)
        assert torch.equal(part.polar, alone.polar)
        assert torch.equal(part.transport, alone.transport)


def test_old_edges_go():
    graph = gauge("healpix")
    graph.edge_attr = torch.zeros(graph.num_edges)
    assert "edge_attr" not in SphereGauge(cutoff=0.3)(graph)


def test_the_input_is_left_alone():
    data = SAMPLINGS["healpix"]().to_data()
    SphereGauge(cutoff=0.6)(data)
    assert sorted(data.keys()) == ["area", "pos"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either cutoff or rings, got cutoff=None and rings=None"),
        ({"cutoff": 1.0, "rings": 1}, "either cutoff or rings"),
        ({"cutoff": 0.0}, "angle in radians, more than 0 and at most pi, got 0.0"),
        ({"cutoff": 3.2}, "at most pi, got 3.2"),
        ({"cutoff": math.nan}, "at most pi, got nan"),
        ({"rings": 0}, "rings must be an integer of at least 1, got 0"),
        ({"rings": 1.5}, "rings must be an integer"),
        ({"cutoff": 1.0, "frames": "north"}, "frames must be one of"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        SphereGauge(**arguments)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Data(), r"SphereGauge reads pos, but the data has only \[\]"),
        (Data(pos=torch.eye(3)[:, :2]), r"pos must have shape \[N, 3\], got \[3, 2\]"),
        (Data(pos=3 * torch.eye(3)), "node 0 has length 3; move the centre to the origin"),
        (Data(pos=torch.full((4, 3), torch.nan)), "pos must be finite"),
        (Data(pos=torch.eye(3)), "3 of 3 nodes have no neighbour within cutoff=0.6: the nearest of node 0 is 1.571"),
        (Data(pos=torch.eye(3)[[0, 0]]), "2 of 2 nodes have no neighbour"),
    ],
)
def test_bad_points(data, message):
    with pytest.raises(ValueError, match=message):
        SphereGauge(cutoff=0.6)(data)


def test_isolated_nodes_on_request():
    graph = SphereGauge(cutoff=0.6, allow_isolated=True)(Data(pos=torch.eye(3), area=torch.ones(3)))
    assert graph.num_edges == 0
    assert graph.polar.shape == (0, 2)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (None, "frames='given' reads data.frame"),
        (torch.eye(3)[:2].expand(4, 2, 3), r"frame must have shape \[4, 3, 3\]"),
        (torch.eye(3).expand(4, 3, 3), "the point itself, orthonormal; that of node"),
        ("mixed", "all right-handed"),
    ],
)
def test_bad_frames(frame, message):
    pos = torch.nn.functional.normalize(torch.randn(4, 3), dim=1)
    data = Data(pos=pos, area=torch.ones(4))
    if isinstance(frame, str):
        frame = groups.sphere_frame(pos).transpose(1, 2).clone()
        frame[0, 1] *= -1
    if frame is not None:
        data.frame = frame
    with pytest.raises(ValueError, match=message):
        SphereGauge(cutoff=3.0, frames="given")(data)


def test_repr_names_every_argument():
    made = SphereGauge(rings=2, frames="random", loops=True, allow_isolated=True, seed=3)
    assert repr(eval(repr(made))) == repr(made)

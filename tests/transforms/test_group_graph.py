"""GroupGraph: against the definition, its exact symmetries, and what it refuses."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.sparse.csgraph import connected_components
from torch_geometric.data import Data
from torch_geometric.utils import to_scipy_sparse_matrix

from geomeq.groups import (
    S2,
    SE2,
    SE3,
    SO2,
    SO3,
    Rn,
    ScaleTranslation,
    alternating,
    cyclic,
    dihedral,
    icosahedral,
)
from geomeq.groups.group import Group, GroupSample
from geomeq.transforms import GroupGraph, Laplacian

from . import _group_brute as brute

FULL = 2 * math.pi
TILTED = [[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.01]]


class Heisenberg(Group):
    """A group from outside the package: upper triangular matrices, of which the search knows no bound."""

    dim, space_dim, element_shape = 3, 3, (3,)
    symmetry = torch.zeros(1, 3, dtype=torch.float64)

    def compose(self, a, b):
        twist = torch.stack([torch.zeros_like(a[..., 0]), torch.zeros_like(a[..., 0]), a[..., 0] * b[..., 1]], dim=-1)
        return a + b + twist

    def inverse(self, a):
        return torch.stack([-a[..., 0], -a[..., 1], a[..., 0] * a[..., 1] - a[..., 2]], dim=-1)

    def log(self, a):
        return torch.stack([a[..., 0], a[..., 1], a[..., 2] - a[..., 0] * a[..., 1] / 2], dim=-1)

    def exp(self, v):
        return torch.stack([v[..., 0], v[..., 1], v[..., 2] + v[..., 0] * v[..., 1] / 2], dim=-1)

    def adjoint(self, a):
        out = torch.eye(3, dtype=a.dtype).repeat(*a.shape[:-1], 1, 1)
        out[..., 2, 0], out[..., 2, 1] = -a[..., 1], a[..., 0]
        return out

    def sample(self, size):
        element = torch.randn(size, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return GroupSample(element, torch.ones(size, dtype=torch.float64), element, 1, size, None, ())

    def __repr__(self):
        return "Heisenberg()"


def heisenberg_log(a, b):
    x, y = (b - a)[..., 0], (b - a)[..., 1]
    z = b[..., 2] - a[..., 2] - a[..., 0] * y
    return np.stack([x, y, z - x * y / 2], axis=-1)


def random_sample(group, count, seed=0):
    element = group.random(count, seed=seed)
    weight = torch.full((count,), 1 / count, dtype=torch.float64)
    return GroupSample(element, weight, weight[:, None], 1, count, None, ())


# group, size, arguments, logarithm by formula, its other representative
CASES = {
    "SE2": (SE2(), (9, 9, 6), {"anisotropy": 0.1}, brute.se2_log, brute.half_turn_se2),
    "SE2, even and oblong": (SE2(), (8, 5, 4), {"anisotropy": 0.2, "k": 12}, brute.se2_log, brute.half_turn_se2),
    "SE2, whole turn": (SE2(period=FULL), (7, 7, 8), {"anisotropy": 0.1}, brute.se2_log, None),
    "SE2, isotropic": (SE2(), (8, 8, 4), {}, brute.se2_log, brute.half_turn_se2),
    "SE2, cheap turns": (SE2(), (6, 6, 6), {"xi": 1e-3, "k": 40}, brute.se2_log, brute.half_turn_se2),
    "SE2, tilted metric": (SE2(), (7, 7, 4), {"metric": TILTED}, brute.se2_log, brute.half_turn_se2),
    "SE2, random elements": (SE2(), random_sample(SE2(), 200), {"k": 20}, brute.se2_log, brute.half_turn_se2),
    "R1": (Rn(1), 12, {"k": 2}, brute.rn_log, None),
    "R2": (Rn(2), (10, 7), {"k": 8, "anisotropy": 0.3}, brute.rn_log, None),
    "R2, one row": (Rn(2), (9, 1), {"k": 2}, brute.rn_log, None),
    "R3": (Rn(3), (5, 4, 6), {"k": 18}, brute.rn_log, None),
    "scale": (ScaleTranslation(2), (9, 9, 4), {"k": 10}, brute.scale_log, None),
    "SE3": (SE3(), (3, 3, 3, 12), {"k": 10}, brute.se3_log, None),
    "SO2": (SO2(), 12, {"k": 4}, brute.so2_log, None),
    "S2": (S2(), 2, {"k": 7}, brute.s2_length, None),
    "SO3": (SO3(), (1, 6), {"anisotropy": 0.1}, brute.so3_log, brute.half_turn_so3),
    "SO3, whole turn": (SO3(period=FULL), (1, 8), {"k": 10}, brute.so3_log, None),
    "SO3, random elements": (SO3(), random_sample(SO3(), 300), {"k": 20}, brute.so3_log, brute.half_turn_so3),
    "from outside": (Heisenberg(), 150, {"k": 12}, heisenberg_log, None),
}


@functools.cache
def build(name, **more):
    group, size, arguments, *_ = CASES[name]
    return GroupGraph(group, size, **arguments, allow_disconnected=True, **more)(Data())


def definition(name, graph):
    """All squared distances by brute force, with the metric that the graph says it used."""
    group, _, _, log, half_turn = CASES[name]
    metric = graph.metric[0].numpy()
    if isinstance(group, S2):
        metric = metric[:1, :1]
    return brute.all_sqdist(graph.element.numpy(), log, metric, half_turn)


@pytest.mark.parametrize("name", CASES)
def test_edges_are_all_pairs_within_the_radius(name):
    graph = build(name)
    sqdist = definition(name, graph)
    square = float(graph.edge_sqdist.max())
    expected = brute.edges_within(sqdist, square)
    assert np.array_equal(graph.edge_index.numpy(), expected)
    found = sqdist[expected[1], expected[0]]
    np.testing.assert_allclose(graph.edge_sqdist.numpy(), found, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("ties", ["keep", "index"])
@pytest.mark.parametrize("name", ["SE2", "SE2, random elements", "S2", "SO3", "SO3, random elements", "from outside"])
def test_nearest_neighbours_are_the_nearest(name, ties):
    graph = build(name, ties=ties)
    k = CASES[name][2].get("k", 16)
    sqdist = definition(name, graph)
    chosen = np.zeros(sqdist.shape, dtype=bool)
    if ties == "keep":
        chosen = sqdist <= np.sort(sqdist, axis=1)[:, k - 1 : k] * (1 + 1e-9)
        target, source = np.nonzero(chosen | chosen.T)
        assert np.array_equal(graph.edge_index.numpy(), [source, target])
        return
    # which of the tied ones is a matter of rounding: at least the distances are the smallest
    source, target = graph.edge_index.numpy()
    degree = np.bincount(target, minlength=len(sqdist))
    assert degree.min() >= k
    kth = np.sort(sqdist, axis=1)[:, k - 1]
    assert (sqdist[target, source] <= np.maximum(kth[target], kth[source]) * (1 + 1e-9)).all()
    for i in range(len(sqdist)):
        strictly = np.flatnonzero(sqdist[i] < kth[i] * (1 - 1e-9))
        assert np.isin(strictly, source[target == i]).all()


@pytest.mark.parametrize("name", CASES)
def test_the_graph_is_symmetric_without_loops(name):
    graph = build(name)
    source, target = graph.edge_index
    n = graph.num_nodes
    assert not bool((source == target).any())
    assert bool((torch.diff(target * n + source) > 0).all())  # sorted by target, then source, no repeats
    dense = torch.zeros(n, n, dtype=torch.float64)
    dense[target, source] = graph.edge_weight
    assert torch.equal(dense, dense.T)
    square = torch.zeros(n, n, dtype=torch.float64)
    square[target, source] = graph.edge_sqdist
    assert torch.equal(square, square.T)
    assert bool((graph.edge_weight > 0).all())
    assert bool((graph.edge_weight <= 1).all())


@pytest.mark.parametrize("name", [name for name in CASES if name != "S2"])
def test_edge_logs_lead_from_target_to_source(name):
    graph = build(name)
    group = CASES[name][0]
    source, target = graph.edge_index
    reached = group.compose(graph.element[target], group.exp(graph.edge_log))
    gaps = []
    for u in group.symmetry:
        other = group.compose(graph.element[source], u.expand_as(graph.element[source]))
        gaps.append(group.local_log(reached, other).abs().amax(dim=-1))
    assert float(torch.stack(gaps).amin(dim=0).max()) < 1e-9
    c = graph.edge_log
    torch.testing.assert_close(((c @ graph.metric[0]) * c).sum(-1), graph.edge_sqdist, atol=1e-14, rtol=1e-9)


def reverse_of(graph):
    source, target = graph.edge_index
    n = graph.num_nodes
    return torch.searchsorted(target * n + source, source * n + target)


@pytest.mark.parametrize("name", [name for name in CASES if name != "S2"])
def test_the_reversed_edge_has_the_negative_log_up_to_the_symmetry(name):
    graph = build(name)
    c, back = graph.edge_log, graph.edge_log[reverse_of(graph)]
    adjoint = CASES[name][0].adjoint(CASES[name][0].symmetry).round()
    candidates = torch.stack([-(c @ a.T) for a in adjoint])
    exact = (candidates == back).all(dim=-1)
    assert bool(exact.any(dim=0).all())
    if len(adjoint) == 1:
        assert torch.equal(back, -c)


def test_logs_on_the_sphere_have_great_circle_length():
    graph = GroupGraph(S2(), 3)(Data())
    source, target = graph.edge_index
    angle = torch.acos((graph.pos[source] * graph.pos[target]).sum(-1))
    torch.testing.assert_close(graph.edge_log.norm(dim=-1), angle, atol=1e-12, rtol=0)
    torch.testing.assert_close(graph.edge_log, S2().local_log(graph.element[target], graph.element[source]))


# --- exact symmetries


def quarter_turn(n, orientations):
    node = torch.arange(orientations * n * n).view(orientations, n, n)
    return torch.rot90(node, 1, (1, 2)).roll(orientations // 2, 0).flatten()


def asymmetry(graph, permutation, dtype=torch.float64):
    dense = Laplacian(dtype=dtype)(graph).laplacian.to_dense()
    return float((dense[permutation][:, permutation] - dense).abs().max())


@pytest.mark.parametrize("anisotropy", [1.0, 0.1])
@pytest.mark.parametrize(("n", "orientations"), [(9, 6), (10, 6), (12, 4), (8, 2)])
def test_a_quarter_turn_is_an_exact_symmetry(n, orientations, anisotropy):
    graph = GroupGraph(SE2(), (n, n, orientations), k=16, anisotropy=anisotropy)(Data())
    turn = quarter_turn(n, orientations)
    assert asymmetry(graph, turn) <= 1e-14
    assert asymmetry(graph, turn, torch.float32) == 0.0
    assert asymmetry(graph, torch.randperm(graph.num_nodes)) > 0.01  # not of everything


def test_cut_ties_and_single_precision_break_the_quarter_turn():
    n, orientations = 12, 6  # twelfths are no binary fractions
    turn = quarter_turn(n, orientations)
    sample = SE2().sample((n, n, orientations))
    assert asymmetry(GroupGraph(SE2(), sample, anisotropy=0.1, xi=0.1)(Data()), turn) <= 1e-14
    assert asymmetry(GroupGraph(SE2(), sample, anisotropy=0.1, xi=0.1, ties="keep")(Data()), turn) <= 1e-14
    assert asymmetry(GroupGraph(SE2(), sample, anisotropy=0.1, xi=0.1, ties="index")(Data()), turn) > 1e-3
    single = GroupSample(
        sample.element.float().double(), sample.weight, sample.pos, orientations, n * n, sample.grid, sample.spacing
    )
    assert asymmetry(GroupGraph(SE2(), single, anisotropy=0.1, xi=0.1)(Data()), turn) > 1e-3


@pytest.mark.parametrize(
    ("group", "size"), [(SE2(), (7, 5, 4)), (Rn(2), (6, 8)), (Rn(3), (4, 5, 4)), (SE3(), (4, 4, 4, 1))]
)
def test_translations_of_a_torus_are_exact(group, size):
    graph = GroupGraph(group, size, k=10, boundary="torus")(Data())
    axes = len(graph.grid)
    node = torch.arange(graph.num_nodes).view(-1, *reversed(graph.grid))
    for axis in range(axes):
        shift = torch.roll(node, 1 + axis, 1 + axis).flatten()
        assert asymmetry(graph, shift) == 0.0
        assert asymmetry(GroupGraph(group, size, k=10)(Data()), shift) > 1e-3  # with a border it is none
    degree = torch.bincount(graph.edge_index[1]).view(graph.num_orientations, -1)
    assert bool((degree == degree[:, :1]).all())


def test_a_small_torus_meets_itself_only_once():
    graph = GroupGraph(Rn(2), (3, 3), k=20, boundary="torus")(Data())  # 20 steps, but only 8 other places
    assert torch.equal(torch.bincount(graph.edge_index[1]), torch.full((9,), 8))
    gap = (graph.pos[graph.edge_index[0]] - graph.pos[graph.edge_index[1]]).abs()
    torch.testing.assert_close(graph.edge_sqdist, torch.minimum(gap, 1 - gap).square().sum(-1))


def test_inside_an_open_grid_all_places_are_alike():
    n, orientations = 16, 6
    graph = GroupGraph(SE2(), (n, n, orientations), anisotropy=0.1)(Data())
    torus = GroupGraph(SE2(), (n, n, orientations), anisotropy=0.1, boundary="torus")(Data())
    degree = torch.bincount(graph.edge_index[1]).view(orientations, n, n)
    assert torch.equal(degree[:, 5:11, 5:11], degree[:, 5:6, 5:6].expand(-1, 6, 6))
    assert torch.equal(degree[:, 8, 8], torch.bincount(torus.edge_index[1]).view(orientations, n, n)[:, 8, 8])
    assert bool((degree[:, 0, 0] < degree[:, 8, 8]).all())  # at a border there are fewer neighbours
    for k in range(orientations):
        first, second = (graph.edge_index[1] == k * n * n + 8 * n + 8, graph.edge_index[1] == k * n * n + 7 * n + 9)
        for key in ("edge_log", "edge_sqdist", "edge_weight"):
            assert torch.equal(graph[key][first], graph[key][second])


@pytest.mark.parametrize("name", ["SE2", "SE2, whole turn", "SO3", "SE3", "scale", "from outside"])
def test_left_translation_of_the_sample_changes_nothing(name):
    group, size, arguments, *_ = CASES[name]
    here = group.sample({"SE2": (6, 6, 4), "SE3": (2, 2, 2, 12), "SE2, whole turn": (5, 5, 6)}.get(name, size))
    u = Heisenberg().exp(torch.tensor([0.3, -1.0, 0.4], dtype=torch.float64)) if name == "from outside" else None
    u = group.random(1, seed=3) if u is None else u[None]
    moved = group.compose(u.expand_as(here.element), here.element)
    there = GroupSample(moved, here.weight, here.pos, here.num_orientations, here.num_spatial, None, here.spacing)
    # the search, not the stencil, decides on both, and one radius for both
    xi = {} if name == "from outside" else {"xi": 0.15}
    arguments = {key: value for key, value in arguments.items() if key != "k"} | xi
    options = {"k": 12, "allow_disconnected": True, "ties": "keep"}
    a = GroupGraph(group, here, **arguments, **options)(Data())
    b = GroupGraph(group, there, **arguments, **options)(Data())
    assert torch.equal(a.edge_index, b.edge_index)
    torch.testing.assert_close(a.edge_sqdist, b.edge_sqdist, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(a.edge_weight, b.edge_weight, rtol=0, atol=1e-12)
    wrong = GroupSample(moved.roll(1, 0), here.weight, here.pos, here.num_orientations, here.num_spatial, None, ())
    assert not torch.equal(GroupGraph(group, wrong, **arguments, **options)(Data()).edge_index, a.edge_index)


def rotation_error(n, k):
    """How far filtering and turning by one bin of the angle are from commuting, inside the image."""
    orientations = 6

    def signal(x, y, t):
        blob = np.exp(-((x - 0.08) ** 2 * 14 + (y + 0.05) ** 2 * 10))
        return blob * (1 + 0.5 * np.cos(2 * t) + 0.3 * np.sin(2 * t) * np.sin(6 * x)) + 0.2 * np.cos(5 * y + 3 * x)

    graph = GroupGraph(SE2(), (n, n, orientations), k=k, anisotropy=0.2, xi=0.15)(Data())
    operator = Laplacian("rw", dtype=torch.float64)(graph).laplacian
    x, y, t = graph.element.numpy().T
    turn = math.pi / orientations
    back_x, back_y = math.cos(turn) * x + math.sin(turn) * y, -math.sin(turn) * x + math.cos(turn) * y

    def apply(values):
        return (operator @ torch.from_numpy(values)[:, None])[:, 0].numpy()

    after = apply(signal(back_x, back_y, t - turn))
    before = apply(signal(x, y, t)).reshape(orientations, n, n)
    place = (np.stack([back_y, back_x]) * n + (n - 1) / 2).reshape(2, orientations, -1)
    turned = [map_coordinates(before[k - 1], place[:, k], order=3, mode="nearest") for k in range(orientations)]
    inside = x**2 + y**2 < 0.3**2
    gap = (after - np.concatenate(turned))[inside]
    return float(np.sqrt((gap**2).mean() / (after[inside] ** 2).mean()))


def test_turning_by_one_bin_commutes_ever_better_on_finer_grids():
    # neighbourhoods of one physical size: with k fixed in number the stencil never gets any finer
    coarse, fine = rotation_error(12, 20), rotation_error(32, 142)
    assert fine < 0.3 * coarse
    assert coarse < 0.02


# --- radius, price of turning, weights


def test_vertices_inside_have_k_neighbours_on_average():
    for group, size in ((SE2(), (14, 14, 6)), (Rn(2), (14, 14)), (SE3(), (4, 4, 4, 12)), (S2(), 3), (SO3(), (2, 6))):
        for k in (6, 16, 21):
            border = {} if isinstance(group, S2 | SO3) else {"boundary": "torus"}
            whole = GroupGraph(group, size, k=k, xi=0.2, allow_disconnected=True, **border)(Data())
            mean = whole.num_edges / whole.num_nodes
            assert 0.97 * k <= mean  # the sample of vertices on a sphere is not all of them
            below = (whole.edge_sqdist < whole.edge_sqdist.max() * (1 - 1e-8)).double().mean() * mean
            assert float(below) <= 1.03 * k


@pytest.mark.parametrize("share", [0.25, 0.4])
@pytest.mark.parametrize(("group", "size"), [(SE2(), (16, 16, 6)), (SE2(), (16, 16, 8)), (SO3(), (2, 6))])
def test_automatic_price_of_turning_comes_closest_to_the_share(group, size, share):
    def found(graph):
        layer = graph.edge_index // graph.num_spatial
        return float((layer[0] == layer[1]).double().mean())

    options = {"anisotropy": 0.1, "allow_disconnected": True}
    options |= {} if isinstance(group, SO3) else {"boundary": "torus"}
    graph = GroupGraph(group, size, share=share, **options)(Data())
    xi = math.sqrt(float(graph.metric[0, 2, 2]))
    near = [xi * factor for factor in (0.6, 0.85, 1.2, 1.7)]
    others = [found(GroupGraph(group, size, xi=other, **options)(Data())) for other in near]
    assert abs(found(graph) - share) <= min(abs(other - share) for other in others) + 0.015
    assert abs(found(graph) - share) < 0.08


def test_price_of_turning_by_alpha():
    graph = GroupGraph(SE2(), (10, 10, 6), anisotropy=0.5, alpha=2.0)(Data())
    torch.testing.assert_close(graph.metric[0], torch.diag(torch.tensor([1.0, 2.0, 2.0 * 6 / 100])).double())


@pytest.mark.parametrize("kernel", ["gaussian", "rectangular", "laplace", "cauchy"])
def test_weights_are_those_of_the_kernel(kernel):
    graph = GroupGraph(SE2(), (8, 8, 4), kernel=kernel)(Data())
    scale = 0.8 * graph.edge_sqdist.mean()
    torch.testing.assert_close(4 * graph.bandwidth[0], scale)
    ratio = graph.edge_sqdist / scale
    formula = {
        "gaussian": torch.exp(-ratio),
        "rectangular": torch.ones_like(ratio),
        "laplace": torch.exp(-torch.sqrt(graph.edge_sqdist) / torch.sqrt(scale)),
        "cauchy": 1 / (1 + ratio),
    }
    torch.testing.assert_close(graph.edge_weight, formula[kernel])


def test_connected_with_spectrum_between_0_and_2():
    for group, size in ((SE2(), (8, 8, 4)), (SO3(), (1, 4)), (S2(), 2), (ScaleTranslation(2), (8, 8, 3))):
        graph = GroupGraph(group, size)(Data())
        operator = Laplacian(dtype=torch.float64)(graph).laplacian
        assert connected_components(to_scipy_sparse_matrix(graph.edge_index))[0] == 1
        spectrum = torch.linalg.eigvalsh(operator.to_dense()) + 1
        assert -1e-12 < float(spectrum[0]) < 1e-12
        assert float(spectrum[1]) > 1e-6
        assert float(spectrum[-1]) <= 2


def test_area_is_the_haar_measure():
    assert float(GroupGraph(SO3(), (2, 6))(Data()).area.sum()) == pytest.approx(1)
    assert float(GroupGraph(SE2(), (8, 8, 4))(Data()).area.sum()) == pytest.approx(1)


def test_attributes_and_dtype():
    graph = GroupGraph(SE2(), (6, 5, 4), dtype=torch.float32)(Data())
    wide = GroupGraph(SE2(), (6, 5, 4))(Data())
    assert (graph.num_nodes, graph.num_orientations, graph.num_spatial, graph.grid) == (120, 4, 30, (6, 5))
    for key in ("edge_log", "edge_weight", "edge_sqdist", "element", "pos", "area", "metric", "bandwidth"):
        assert graph[key].dtype == torch.float32
        assert wide[key].dtype == torch.float64
        assert torch.equal(graph[key], wide[key].float())
    assert torch.equal(graph.edge_index, wide.edge_index)
    assert graph.is_undirected()
    assert not graph.has_self_loops()
    assert not graph.has_isolated_nodes()
    wide.validate()


def test_signals_may_already_be_there():
    graph = GroupGraph(Rn(2), (4, 4))(Data(x=torch.zeros(16, 3), edge_index=torch.zeros(2, 1).long(), edge_attr=1))
    assert graph.x.shape == (16, 3)
    assert "edge_attr" not in graph
    with pytest.raises(ValueError, match="16 nodes, but data.x has shape"):
        GroupGraph(Rn(2), (4, 4))(Data(x=torch.zeros(5, 3)))


def test_half_turns_near_enough_to_matter_are_searched_for():
    """Their axis has two signs, so the stencil steps back; the result is that of the definition."""
    graph = GroupGraph(SE3(), (2, 2, 2, 12), k=30, xi=0.01)(Data())
    sqdist = brute.all_sqdist(graph.element.numpy(), se3_log_of_either_sign, graph.metric[0].numpy())
    assert np.array_equal(graph.edge_index.numpy(), brute.edges_within(sqdist, float(graph.edge_sqdist.max())))
    assert float(graph.edge_log[:, 3:].norm(dim=1).max()) > 3.14


def se3_log_of_either_sign(a, b):
    return SE3.log(torch.from_numpy(np.linalg.inv(a) @ b)).numpy()


# --- finite groups


@pytest.mark.parametrize("group", [cyclic(7), dihedral(4), alternating(4), icosahedral()])
def test_cayley_graphs(group):
    graph = GroupGraph(group)(Data())
    source, target = graph.edge_index
    assert graph.num_nodes == group.order
    moves = set(group.generators.tolist()) | set(group.inv[group.generators].tolist())
    assert set(graph.edge_type.tolist()) == moves
    assert graph.num_edges == len(moves) * group.order
    assert torch.equal(group.cayley[target, graph.edge_type], source)
    assert torch.equal(graph.edge_type[reverse_of(graph)], group.inv[graph.edge_type])
    # left translation by any element is a symmetry, right translation by a generator is none unless it commutes
    u = group.order - 1
    assert asymmetry(graph, group.cayley[u]) == 0.0


def test_word_metric():
    graph = GroupGraph(cyclic(9), k=3)(Data())  # two elements at distance 1, two more at distance 2
    assert torch.bincount(graph.edge_index[1]).tolist() == [4] * 9
    assert sorted(graph.edge_sqdist.unique().tolist()) == [1.0, 4.0]
    away = (graph.edge_index[0] - graph.edge_index[1]) % 9
    assert torch.equal(torch.minimum(away, 9 - away).double().square(), graph.edge_sqdist)
    with pytest.raises(ValueError, match="falls into 2 parts"):
        GroupGraph(cyclic(8), generators=[2])(Data())
    with pytest.raises(ValueError, match="k must be at most 8"):
        GroupGraph(cyclic(9), k=9)(Data())


# --- what the reference implementation gets wrong


def mutual_share(sqdist, k):
    """Edges that stay if both ends must choose each other at the same distance, over ``N k``."""
    rounded = sqdist.round(6)
    nearest = np.argsort(rounded, axis=1, kind="stable")[:, :k]
    chosen = np.zeros(sqdist.shape, dtype=bool)
    np.put_along_axis(chosen, nearest, True, axis=1)
    return (chosen & chosen.T & (rounded == rounded.T)).sum() / (len(sqdist) * k)


def test_no_edge_is_lost_to_a_distance_that_differs_both_ways():
    graph = GroupGraph(SE2(), (10, 10, 6), anisotropy=0.1)(Data())
    element, metric = graph.element.numpy(), graph.metric[0].numpy()
    wrong = brute.all_sqdist(element, brute.se2_log_wrong, metric, brute.half_turn_se2)
    assert not np.allclose(wrong, wrong.T)
    assert mutual_share(wrong, 16) < 0.7  # the sign slip costs a good third of the edges
    assert mutual_share(brute.all_sqdist(element, brute.se2_log, metric, brute.half_turn_se2), 16) > 0.8
    torus = GroupGraph(SE2(), (12, 12, 6), anisotropy=0.1, boundary="torus")(Data())
    assert torus.num_edges >= 16 * torus.num_nodes
    # all directed edges have their reverse
    assert torch.equal(graph.edge_index[:, reverse_of(graph)], graph.edge_index.flip(0))


def test_distances_of_nearly_equal_rotations_are_numbers():
    group = SO3()
    element = group.random(60, seed=1)
    tiny = group.exp(torch.full((60, 3), 1e-9, dtype=torch.float64))
    both = torch.cat([element, element, group.compose(element, tiny)])  # each three times, or nearly
    weight = torch.ones(180, dtype=torch.float64)
    sample = GroupSample(both, weight, both[:, 0], 1, 180, None, ())
    graph = GroupGraph(group, sample, k=20, metric=[1.0, 1, 1], ties="keep")(Data())
    assert bool(torch.isfinite(graph.edge_sqdist).all())
    assert torch.equal(graph.edge_sqdist, graph.edge_sqdist[reverse_of(graph)])  # the same both ways, to the last bit
    twins = (graph.edge_index[0] - graph.edge_index[1]).abs() == 60
    assert float(graph.edge_sqdist[twins].max()) < 1e-15
    trace = torch.einsum("nij,nij->n", element.float(), element.float())
    angle = torch.acos((trace - 1) / 2)  # what goes wrong elsewhere: arc cosine in single precision
    assert bool(angle.isnan().any()) or float(angle.max()) > 1e-4


@pytest.mark.slow
def test_a_large_graph_of_rotations():
    graph = GroupGraph(SO3(), (5, 6), anisotropy=0.1)(Data())
    assert graph.num_nodes == 61_452
    rows = torch.randint(0, graph.num_nodes, (20,))
    square = float(graph.edge_sqdist.max())
    element, metric = graph.element.numpy(), graph.metric[0].numpy()
    for i in rows.tolist():
        best = np.full(len(element), np.inf)
        for other in (element, brute.half_turn_so3(element)):
            c = brute.so3_log(np.broadcast_to(element[i], other.shape), other)
            best = np.minimum(best, np.einsum("nd,de,ne->n", c, metric, c))
        best[i] = np.inf
        near = np.flatnonzero(best <= square * (1 + 1e-9))
        assert np.array_equal(graph.edge_index[0][graph.edge_index[1] == i].numpy(), near)

"""sphere_graph: the contract's attributes, the same as the transform writes, and clear errors."""

import math

import pytest
import torch

from geomeq import groups, spheres
from geomeq.spheres.kinds import KINDS
from geomeq.transforms import SphereGauge


@pytest.mark.parametrize(
    "options",
    [{"cutoff": 0.6}, {"rings": 1}, {"cutoff": 0.6, "frames": "random", "seed": 3}, {"cutoff": 0.6, "loops": True}],
    ids=["cutoff", "rings", "random frames", "loops"],
)
@pytest.mark.parametrize("kind", ["healpix", "equiangular", "cubed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_graph_is_that_of_the_transform(kind, options, dtype):
    s = spheres.sampling(kind, {"equiangular": 8}.get(kind, 4))
    graph = spheres.sphere_graph(s, dtype=dtype, **options)
    data = SphereGauge(**options)(s.to_data(torch.float64))
    assert sorted(graph.keys()) == sorted(data.keys())
    assert torch.equal(graph.edge_index, data.edge_index)
    for name in ("pos", "area", "polar", "transport", "frame"):
        assert graph[name].dtype == dtype
        torch.testing.assert_close(graph[name], data[name].to(dtype), rtol=0, atol=1e-13)


def test_edges_are_all_pairs_within_the_cutoff():
    s = spheres.fibonacci(150)
    graph = spheres.sphere_graph(s, cutoff=0.4, dtype=torch.float64)
    angle = groups.S2.distance(s.pos[:, None], s.pos[None])
    target, source = ((angle < 0.4) & ~torch.eye(150, dtype=torch.bool)).nonzero().T
    assert torch.equal(graph.edge_index, torch.stack([source, target]))
    torch.testing.assert_close(graph.polar[:, 0], angle[source, target], rtol=0, atol=1e-12)
    away = s.pos[source] - (s.pos[source] * s.pos[target]).sum(1, keepdim=True) * s.pos[target]
    x, y = torch.einsum("eak,ek->ae", graph.frame[target, :2], away)
    torch.testing.assert_close(graph.polar[:, 1], torch.atan2(y, x), rtol=0, atol=1e-12)
    # the other way round the transport is the opposite
    back = {(j, i): t for (j, i), t in zip(graph.edge_index.T.tolist(), graph.transport.tolist(), strict=True)}
    worst = max(abs(math.remainder(t + back[i, j], 2 * math.pi)) for (j, i), t in back.items())
    assert worst < 1e-12


def test_a_name_and_a_resolution_and_a_default_reach():
    graph = spheres.sphere_graph("healpix", 8)
    degree = torch.bincount(graph.edge_index[1])
    assert 8 <= float(degree.float().mean()) <= 14
    assert graph.pos.dtype == torch.get_default_dtype()
    for kind in KINDS:
        assert spheres.sphere_graph(kind, {"icosphere": 2, "fibonacci": 90, "random": 300}.get(kind, 8)).num_edges > 0


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("healpix",), {}, ValueError, r"'healpix' needs a resolution, such as sphere_graph\('healpix', 16\)"),
        ((spheres.healpix(2), 4), {}, ValueError, "has its resolution; leave out resolution=4"),
        ((torch.zeros(3, 3),), {}, TypeError, "s must be a Sampling or the name of a kind, got Tensor"),
        (("globe", 3), {}, ValueError, "kind must be one of"),
        (("healpix", 3), {}, ValueError, "power of 2 as nside"),
        (("healpix", 4), {"cutoff": 1e-3}, ValueError, "192 of 192 nodes have no neighbour within cutoff=0.001"),
        (("healpix", 4), {"cutoff": 4.0}, ValueError, "cutoff is an angle in radians"),
        (("healpix", 4), {"cutoff": 0.4, "rings": 1}, ValueError, "give either cutoff or rings"),
        (("healpix", 4), {"rings": 0}, ValueError, "rings must be an integer of at least 1"),
        (("healpix", 4), {"frames": "given"}, ValueError, "frames must be 'meridian' or 'random'"),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        spheres.sphere_graph(*arguments, **options)


def test_a_part_of_the_sky():
    whole = spheres.healpix(8)
    part = whole.part(whole.pos[:, 2] > 0.5)
    graph, full = spheres.sphere_graph(part, cutoff=0.3), spheres.sphere_graph(whole, cutoff=0.3)
    inside = torch.zeros(768, dtype=torch.bool)
    inside[part.node] = True
    kept = inside[full.edge_index].all(0)
    assert torch.equal(part.node[graph.edge_index], full.edge_index[:, kept])
    assert torch.equal(graph.transport, full.transport[kept])

"""Pyramids of group graphs: sizes, what keeps its shape, and what has no coarser level."""

import pytest
import torch
from torch_geometric.data import Data

from geomeq.groups import S2, SE2, SO2, SO3, Rn, cyclic
from geomeq.transforms import GroupGraph, group_levels


def test_levels_halve_grids_and_spheres():
    graphs = group_levels(GroupGraph(SE2(), (16, 8, 4), anisotropy=0.1), levels=3)
    assert [graph.grid for graph in graphs] == [(16, 8), (8, 4), (4, 2)]
    blocks = graphs[0].pos[: 16 * 8, :2].view(4, 2, 8, 2, 2).mean(dim=(1, 3)).flatten(0, 1)
    torch.testing.assert_close(graphs[1].pos[:32, :2], blocks)
    torch.testing.assert_close(graphs[1].metric[0, 2, 2], 4 * graphs[0].metric[0, 2, 2])
    fixed = group_levels(GroupGraph(SE2(), (16, 8, 4), xi=0.1), levels=2, laplacian=None)
    assert float(fixed[1].metric[0, 2, 2]) == pytest.approx(0.04)
    assert "laplacian" in graphs[2]
    assert "laplacian" not in fixed[0]
    spheres = group_levels(GroupGraph(SO3(), (2, 4)), levels=3)
    assert [graph.num_nodes for graph in spheres] == [648, 168, 48]
    assert torch.equal(spheres[0].element.view(4, 162, 3, 3)[:, :42], spheres[1].element.view(4, 42, 3, 3))
    assert [graph.num_nodes for graph in group_levels(GroupGraph(S2(), 1, k=5), levels=2)] == [42, 12]


@pytest.mark.parametrize(
    ("transform", "levels", "q", "message"),
    [
        (GroupGraph(SE2(), (12, 12, 4)), 4, 2, "divisible by 8"),
        (GroupGraph(S2(), 1), 3, 2, "level 2 at least"),
        (GroupGraph(SO2(), 8), 2, 2, "form no grid"),
        (GroupGraph(SE2(), (8, 8, 4), metric=[1.0, 1.0, 0.1]), 2, 2, "one scale"),
        (GroupGraph(SE2(), SE2().sample((8, 8, 4))), 2, 2, "a sample was given"),
        (GroupGraph(S2(), S2().sample(1)), 2, 2, "a sample was given"),
        (GroupGraph(cyclic(8)), 2, 2, "is its own sample"),
        (GroupGraph(SE2(), (8, 8, 4)), 0, 2, "levels must be at least 1"),
    ],
)
def test_levels_that_cannot_be(transform, levels, q, message):
    with pytest.raises(ValueError, match=message):
        group_levels(transform, levels, q)


def test_a_coarse_grid_is_a_piece_of_a_large_one():
    fine, coarse = group_levels(GroupGraph(Rn(2), (8, 4), k=8), levels=2, laplacian=None)
    assert coarse.num_nodes == 8  # no vertex has 8 others: those near are its neighbours, as inside a large grid
    inside = GroupGraph(Rn(2), (8, 8), k=8)(Data())
    step = lambda graph, n: float(graph.edge_sqdist.max()) * n**2  # noqa: E731
    assert step(fine, 8) == pytest.approx(step(coarse, 4)) == pytest.approx(step(inside, 8))

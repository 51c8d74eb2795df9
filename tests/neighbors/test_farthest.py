"""farthest_points: the greedy rule, step by step, with ties that rotations respect."""

import pytest
import torch

from geomeq.groups import random_orthogonal
from geomeq.neighbors import farthest_points


def greedy(pos, count, start=0):
    chosen = [start]
    while len(chosen) < count:
        distance = torch.cdist(pos, pos[chosen]).amin(dim=1)
        distance[chosen] = -1
        chosen.append(int(torch.nonzero(distance >= distance.max() * (1 - 1e-9)).flatten()[0]))
    return chosen


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_equals_the_greedy_definition(dim):
    pos = torch.randn(50, dim, dtype=torch.float64)
    assert farthest_points(pos, 20).tolist() == greedy(pos, 20)
    outermost = int((pos - pos.mean(0)).norm(dim=1).argmax())
    assert farthest_points(pos, 20, start="outermost").tolist() == greedy(pos, 20, outermost)


def test_ratio_rounds_up():
    pos = torch.randn(10, 3)
    assert farthest_points(pos, 0.25).numel() == 3
    assert farthest_points(pos, 0.3).numel() == 3
    assert farthest_points(pos, 1.0).sort().values.tolist() == list(range(10))
    assert farthest_points(pos, 100).numel() == 10


def test_a_batch_equals_its_parts_in_any_order():
    sizes = [7, 1, 30, 7, 12]
    batch = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    pos = torch.randn(57, 3)
    expected = torch.cat([(batch == g).nonzero().flatten()[farthest_points(pos[batch == g], 0.5)] for g in range(5)])
    assert torch.equal(farthest_points(pos, 0.5, batch), expected)
    order = torch.randperm(57)
    shuffled = order[farthest_points(pos[order], 4, batch[order], start="outermost")]
    assert torch.equal(shuffled, farthest_points(pos, 4, batch, start="outermost"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_turned_lattice_keeps_its_choice(dtype):
    axis = torch.arange(5, dtype=torch.float64)
    pos = torch.cartesian_prod(axis, axis, axis)
    before = farthest_points(pos.to(dtype), 60)
    for seed in range(4):
        turned = (pos @ random_orthogonal(seed=seed).T + 0.3).to(dtype)
        assert torch.equal(farthest_points(turned, 60), before)


def test_duplicates_are_chosen_once():
    assert farthest_points(torch.zeros(4, 3), 4).tolist() == [0, 1, 2, 3]
    assert farthest_points(torch.zeros(0, 3), 4).shape == (0,)
    assert farthest_points(torch.zeros(1, 3), 4).tolist() == [0]


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "at least 1", lambda: farthest_points(torch.zeros(3, 3), 0)),
        (ValueError, r"\(0, 1\]", lambda: farthest_points(torch.zeros(3, 3), 1.5)),
        (ValueError, r"\(0, 1\]", lambda: farthest_points(torch.zeros(0, 3), 0.0)),
        (TypeError, "num_or_ratio", lambda: farthest_points(torch.zeros(3, 3), True)),
        (ValueError, "start must", lambda: farthest_points(torch.zeros(3, 3), 1, start="last")),
        (ValueError, "row 0", lambda: farthest_points(torch.full((3, 3), torch.nan), 1)),
    ],
)
def test_bad_input_is_named(error, match, call):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    pos, batch = torch.randn(500, 3), torch.arange(500) // 100
    assert torch.equal(farthest_points(pos.cuda(), 0.3, batch.cuda()).cpu(), farthest_points(pos, 0.3, batch))

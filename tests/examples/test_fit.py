"""The training that small experiments share."""

import math
import time

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from ._run import load

fit = load("_fit")


def line(count=40):
    x = torch.linspace(-1, 1, count)
    return DataLoader([Data(x=v.view(1, 1), y=3 * v.view(1, 1)) for v in x], batch_size=10)


def square(model, batch):
    return (model(batch.x) - batch.y).square().mean()


def model():
    torch.manual_seed(0)
    return torch.nn.Linear(1, 1)


def test_it_learns_and_leaves_averaged_weights():
    own, seen = model(), []

    def loss(net, batch):
        seen.append(net.weight.item())
        return square(net, batch)

    spent = fit.fit(own, line(), loss, torch.optim.SGD(own.parameters(), lr=0.5), epochs=30)
    assert (spent.steps, spent.epochs, len(seen)) == (120, 30.0, 120)
    assert own.weight.item() == pytest.approx(3, abs=0.05)
    average = seen[0]
    for step, weight in enumerate([*seen[1:]], start=1):
        average += (1 - min(0.99, step / (step + 10))) * (weight - average)
    assert own.weight.item() == pytest.approx(average, abs=0.01)
    assert own.weight.item() != seen[-1]


@pytest.mark.parametrize("limit", [{"steps": 7}, {"epochs": 2}, {"epochs": 2, "steps": 100}, {"epochs": 9, "steps": 8}])
def test_the_first_limit_ends_it(limit):
    own = model()
    spent = fit.fit(own, line(), square, torch.optim.SGD(own.parameters(), lr=0.1), **limit)
    assert spent.steps == min(limit.get("steps", math.inf), 4 * limit.get("epochs", math.inf))


def test_no_batch_is_an_error_and_no_endless_loop():
    own = model()
    none = DataLoader([Data(x=torch.zeros(1, 1))], batch_size=2, drop_last=True)
    with pytest.raises(SystemExit, match="smaller --batch"):
        fit.fit(own, none, square, torch.optim.SGD(own.parameters(), lr=0.1), epochs=1)


def test_seconds_end_it():
    own, begun = model(), time.perf_counter()
    spent = fit.fit(own, line(), square, torch.optim.SGD(own.parameters(), lr=0.1), seconds=0.3)
    assert 0.3 <= spent.wall <= time.perf_counter() - begun
    assert spent.steps > 1


def test_the_learning_rate_warms_up_and_falls():
    rates = [fit.learning_rate(p / 100, 2.0) for p in range(101)]
    assert max(rates) == pytest.approx(2, rel=0.01)
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[2:] == sorted(rates[2:], reverse=True)

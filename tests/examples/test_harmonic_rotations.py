import json

import pytest
import torch

from geomeq.datasets import Digits
from tests.examples._run import load

NAME = "reproduce/harmonic_rotations"


@pytest.mark.slow
def test_all_networks_train_and_are_tested_at_every_angle(tmp_path):
    script = load(NAME)
    found = script.main(["--limit", "50", "--epochs", "1", "--out", str(tmp_path)])
    assert list(found["results"]) == list(script.NETWORKS)
    assert json.loads((tmp_path / "results.json").read_text()) == found["results"]
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    for result in found["results"].values():
        assert len(result["accuracy"]) == 24
        assert all(0 <= a <= 100 for a in result["accuracy"])


def test_logits_of_points_are_the_same_at_every_angle():
    script = load(NAME)
    digits = Digits("test").take(slice(4))
    model = script.on_points().eval()
    points = script.as_points(digits, seed=0)
    samples = [script.Samples(script.graphs(points, angle), digits.labels) for angle in (0.0, 15.0, 200.0)]
    logits = [model(s.take(torch.arange(4))) for s in samples]
    assert logits[0].std(0).max() > 1e-3
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], atol=1e-5, rtol=1e-5)


def test_points_lie_where_the_digit_is_dark():
    script = load(NAME)
    digits = Digits("test").take(slice(3))
    for image, data in zip(digits.images[:, 0], script.as_points(digits, seed=0), strict=True):
        column, row = (data.pos[:, 0] + 3.5).round().long(), (3.5 - data.pos[:, 1]).round().long()
        assert torch.equal(image[row, column], data.x[:, 0])
        assert len(data.x) == int((image > 0).sum())


def test_networks_are_of_one_size():
    script = load(NAME)
    weights = [sum(p.numel() for p in make().parameters()) for make in script.NETWORKS.values()]
    assert all(9_000 < count < 26_000 for count in weights), weights


def test_verdict():
    script = load(NAME)
    flat, fallen = [96.0] * 24, [97.0] * 12 + [30.0] * 12
    dipped = [96.0] * 3 + [70.0] + [96.0] * 20
    good = {"CNN": fallen, "P4": dipped, "HarmonicNet": flat, "HarmonicNet on points": flat}

    def missed(**other):
        return script.verdict({name: {"accuracy": values} for name, values in (good | other).items()})

    assert missed() == []
    assert len(missed(HarmonicNet=dipped)) == 2
    assert len(missed(CNN=flat)) == 1
    assert len(missed(P4=flat)) == 1
    assert len(missed(**{"HarmonicNet on points": [96.0] * 23 + [95.8]})) == 1

"""The script on the necessity of convolutions, in its quick mode and what it is made of."""

import subprocess
import sys

import pytest
import torch

from geomeq.groups import coset_space, cyclic, dihedral, icosahedral, icosahedron_space, regular_space, symmetric
from tests.examples._run import EXAMPLES, load, one_thread


@pytest.fixture
def example(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOMEQ_CACHE", str(tmp_path / "cache"))
    return load("reproduce/necessity")


def test_quick_mode_reaches_every_claim(example, tmp_path, capsys):
    found = example.main(["--quick", "--out", str(tmp_path)])
    assert found == {"dimensions": True, "training": True, "chirality": True}
    assert "SUCCESS" in capsys.readouterr().out
    assert (tmp_path / "blocks.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_null_space_is_larger_where_less_is_asked(example):
    group = dihedral(4)
    space = regular_space(group)
    assert example.null_space_dimension(space, space) == 8
    # one generator less: the maps that commute with the four turns alone
    space.images = space.images[:1]
    assert example.null_space_dimension(space, space) == 16


def test_training_without_motions_stays_far_away(example):
    space = regular_space(cyclic(30))
    runs = [example.fit(space, space, augment, 300, 0) for augment in (True, False)]
    assert runs[0]["distance"] < 1e-3 < 0.1 < runs[1]["distance"]
    assert runs[0]["weights"] < 1e-3


def test_mirror_images_are_one_graph_and_two_signals(example):
    torch.manual_seed(0)
    space = icosahedron_space(icosahedral(), "vertices")
    signals = example.Signals(space, 3, noise=0.0)
    right, left = signals.patterns
    graph, group = example.GraphNet(space).eval(), example.GroupNet(space).eval()
    torch.testing.assert_close(graph(right), graph(left))
    assert not torch.allclose(group(right), group(left), atol=1e-3)
    turned = right[:, space.action[7]]
    torch.testing.assert_close(group(turned), group(right), atol=1e-5, rtol=0)
    drawn, _ = signals.draw(50)
    distance = torch.cdist(drawn, signals.patterns.flatten(0, 1))
    assert float(distance.min(dim=1).values.max()) > 1  # turned


def test_blocks_of_the_picture(example, tmp_path):
    group = symmetric(4)
    one, other = group.subgroup(group.generators[:1]), group.subgroup(group.generators[1:])
    source = coset_space(group, one)
    f = torch.randn(source.size, dtype=torch.float64)[source.coset]
    adapted = example.adapted_fourier(group, one)
    torch.testing.assert_close(adapted @ adapted.T, torch.eye(24, dtype=torch.float64), atol=1e-12, rtol=0)
    assert int((adapted @ f).abs().gt(1e-10).sum()) == source.size
    assert int((example.adapted_fourier(group, other) @ f).abs().gt(1e-10).sum()) > source.size


@pytest.mark.slow
def test_on_the_command_line(tmp_path):
    environment = {**one_thread(), "GEOMEQ_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(EXAMPLES / "reproduce" / "necessity.py"), "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.rstrip().endswith("SUCCESS")


@pytest.mark.slow
def test_every_claim(example, tmp_path):
    assert all(example.main(["--out", str(tmp_path)]).values())

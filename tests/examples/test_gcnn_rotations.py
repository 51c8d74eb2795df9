"""The rotated-digits script runs end to end, in a tiny setting."""

import pytest

from tests.examples._run import load


@pytest.mark.slow
def test_it_runs_and_the_symmetry_is_exact_even_untrained(tmp_path, capsys):
    found = load("reproduce/gcnn_rotations").main(["--quick", "--folder", str(tmp_path)])
    assert found["P4CNN moved"] < 1e-5
    assert found["P4MCNN moved"] < 1e-5
    assert found["P4CNN rise"] == 0
    assert found["Z2CNN moved"] > 0.1
    picture = (tmp_path / "gcnn_rotations.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert "not judged" in capsys.readouterr().out


def test_networks_are_of_one_size():
    example = load("reproduce/gcnn_rotations")
    sizes = [sum(p.numel() for p in example.build(name).parameters()) for name in example.NETWORKS]
    assert max(sizes) < 1.05 * min(sizes)
    assert all(abs(size - 20_000) < 500 for size in sizes)

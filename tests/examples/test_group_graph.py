"""examples/group_graph.py runs and prints what it promises."""

from tests.examples._run import load


def test_group_graph_example(tmp_path):
    out = tmp_path / "graph.png"
    found = load("group_graph").main(["--size", "10", "--out", str(out)])
    assert found["broken"] == 0
    assert found["gap"] > 1e-3  # connected
    assert found["top"] < 2
    assert abs(found["angle"]) < 1  # along the line
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

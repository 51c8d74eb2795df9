"""examples/surfaces.py runs, and the curvature inside a loop is what turns a vector carried around it."""

import pytest
import torch
from torch_geometric.data import Data

from geomeq import meshes
from geomeq.groups import icosphere
from tests.examples._run import load

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")


def test_surfaces_example(tmp_path):
    assert load("surfaces").main(out=tmp_path) < 1e-12
    for name in ("field.png", "loop.png"):
        assert (tmp_path / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "plotly" in (tmp_path / "field.html").read_text()


def test_surfaces_reads_a_file_and_its_gradient_is_right(tmp_path):
    sphere = icosphere(3)
    meshes.save(Data(pos=sphere.pos.float(), face=sphere.face), tmp_path / "sphere.ply")
    example = load("surfaces")
    assert example.main(str(tmp_path / "sphere.ply"), out=tmp_path, rings=2) < 1e-12
    mesh = example.MeshGauge()(Data(pos=sphere.pos, face=sphere.face))
    grad = example.gradient(mesh.pos[:, 2], mesh)
    # the gradient of the height on the unit sphere is the upward axis without its normal part
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    exact = (mesh.frame @ up)[:, :2]
    assert (grad - exact).norm() < 0.02 * exact.norm()
    assert (grad + exact).norm() > exact.norm()


def test_surfaces_says_where_there_is_no_disk(tmp_path):
    with pytest.raises(SystemExit, match="no disk"):
        load("surfaces").main(out=tmp_path, centre=0, rings=40)

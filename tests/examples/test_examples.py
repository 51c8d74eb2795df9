"""Every script in examples/ runs end to end, in tiny settings."""

import json
import subprocess
import sys

import pytest
import torch

from tests.examples._run import EXAMPLES, TORCHRUN, load, one_thread

DEMO = ["--molecules", "96", "--epochs", "2", "--width", "4", "--layers", "1"]


def is_picture(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000


def check_outputs(folder):
    assert is_picture(folder / "parity.png")
    assert is_picture(folder / "learning_curve.png")
    about = json.loads((folder / "config.json").read_text())
    assert about["target"] == "gap"
    assert about["unit"] == "eV"
    state = torch.load(folder / "model.pt", weights_only=True)
    assert state["scale"] > 0


def test_demo_runs_end_to_end(tmp_path):
    demo = load("qm9_segnn")
    found = demo.main([*DEMO, "--out", str(tmp_path)])
    check_outputs(tmp_path)
    assert found["rotation"] < 1e-4
    assert found["difference"] == 0
    assert found["ok"] == (found["SEGNN"] <= 0.5 * found["linear fit"])
    assert found["linear fit"] < found["mean"]
    # A short run leaves the linear fit nearly as it was.
    assert found["SEGNN"] == pytest.approx(found["linear fit"], rel=0.5)


def test_demo_rebuilds_its_model_from_the_files(tmp_path):
    demo = load("qm9_segnn")
    args = demo.parse(["--width", "4", "--layers", "1", "--pool", "atoms"])
    model = demo.PropertyModel(demo.build_config(args))
    counts = torch.randint(0, 9, (40, 5)).double()
    y = counts @ torch.tensor([1.0, 2, 3, 4, 5]).double() + 7 + 0.1 * torch.randn(40)
    model.fit_linear(counts, y)
    torch.testing.assert_close(model.per_atom, torch.arange(1.0, 6).double(), atol=0.1, rtol=0)
    demo.save(model, "gap", "eV", tmp_path)
    again = demo.load(tmp_path)
    assert again.network.config == model.network.config
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_demo_on_the_command_line_says_when_it_missed(tmp_path):
    options = ["--minutes", "0.02", "--amp", "--out", str(tmp_path)]
    command = [sys.executable, str(EXAMPLES / "qm9_segnn.py"), *DEMO, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), timeout=300)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "MISSED" in done.stdout
    assert "linear fit on atom counts" in done.stdout
    assert "mol/s" in done.stderr  # the progress bar, with its rate and the loss
    assert "loss=" in done.stderr
    check_outputs(tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_demo_runs_on_a_cuda_device(tmp_path):
    found = load("qm9_segnn").main([*DEMO, "--device", "cuda", "--out", str(tmp_path)])
    check_outputs(tmp_path)
    assert found["difference"] < 1e-4


@pytest.mark.slow
def test_demo_on_two_processes(tmp_path):
    command = [*TORCHRUN, "--nproc_per_node=2", str(EXAMPLES / "qm9_segnn.py"), "--ddp", *DEMO, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), timeout=300)
    assert "predictions differ by 0.0e+00" in done.stdout, done.stderr[-3000:]
    check_outputs(tmp_path)


@pytest.mark.slow
def test_demo_meets_its_claims(tmp_path):
    found = load("qm9_segnn").main(["--minutes", "30", "--epochs", "10", "--out", str(tmp_path)])
    assert found["ok"]


def test_forces_run_end_to_end(tmp_path):
    options = ["--frames", "20", "--epochs", "1", "--seconds", "inf", "--width", "4", "--layers", "1"]
    found = load("md_forces").main([*options, "--out", str(tmp_path)])
    assert is_picture(tmp_path / "segnn.png")
    assert is_picture(tmp_path / "scalar.png")
    assert found["rotation"] < 1e-4
    assert found["ratio"] == pytest.approx(found["scalar messages"] / found["SEGNN"])


def test_the_scalar_network_is_as_large_and_knows_no_directions():
    example = load("md_forces")
    args = example.parse(["--width", "16"])
    steerable = example.build("16x0e+16x1o", 1, args, 1.0)
    scalar = example.scalar_twin(steerable, args, 1.0)
    assert 1 <= example.size(scalar) / example.size(steerable) < 1.05
    assert scalar.model.config.lmax_attributes == 0
    assert scalar.model.config.irreps_hidden.endswith("x0e")

"""Two processes take the steps that one takes, and a restart goes on as if nothing had happened."""

import subprocess

import pytest
import torch

from tests.examples._run import EXAMPLES, TORCHRUN, load, one_thread

# 30 molecules in steps of 8: the last step of an epoch has 6, 3 a process.
OPTIONS = ["--molecules", "30", "--batch", "8", "--width", "4", "--layers", "2", "--dtype", "float64"]


def two_processes(out, *options):
    command = [*TORCHRUN, "--nproc_per_node=2", str(EXAMPLES / "distributed.py"), *OPTIONS, "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def one_process(out, *options):
    return load("distributed").main([*OPTIONS, "--out", str(out), *options])


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")


def gradients(state):
    """Of the first step, from Adam's first moment, which is then (1 - 0.9) times the gradient."""
    moments = state["optimizer"]["state"]
    return torch.cat([moments[k]["exp_avg"].flatten() for k in sorted(moments)]) / 0.1


def weights(state):
    return torch.cat([w.flatten() for w in state["model"].values()])


def test_two_processes_have_the_gradients_of_one(tmp_path):
    one_process(tmp_path / "one", "--epochs", "1", "--steps", "1")
    out = two_processes(tmp_path / "two", "--epochs", "1", "--steps", "1")
    assert "2 process(es) on cpu" in out
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    expected = gradients(one)
    assert expected.abs().max() > 1e-3
    assert (gradients(two) - expected).abs().max() < 1e-6 * expected.abs().max()

    # One more epoch, with two processes from their checkpoint and with one, straight from the start.
    two_processes(tmp_path / "two", "--epochs", "2")
    one_process(tmp_path / "one", "--epochs", "2")
    one, two = checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two")
    assert one["epoch"] == two["epoch"] == 2
    torch.testing.assert_close(weights(two), weights(one), atol=1e-6, rtol=0)
    assert not torch.allclose(gradients(two), expected)


def test_a_restart_goes_on_as_if_nothing_had_happened(tmp_path):
    straight = one_process(tmp_path / "straight", "--epochs", "2")
    one_process(tmp_path / "halted", "--epochs", "1")
    resumed = one_process(tmp_path / "halted", "--epochs", "2")
    assert resumed == pytest.approx(straight, rel=1e-12)
    torch.testing.assert_close(
        weights(checkpoint(tmp_path / "halted")), weights(checkpoint(tmp_path / "straight")), atol=1e-12, rtol=0
    )


def test_batch_that_cannot_be_shared_is_refused(monkeypatch):
    module = load("distributed")
    world = module.World("cpu")
    world.size = 3
    with pytest.raises(SystemExit, match="multiple of their number, 3"):
        module.train(module.parse(["--batch", "8"]), world)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_devices_have_the_gradients_of_one_cpu(tmp_path):
    one_process(tmp_path / "one", "--epochs", "1", "--steps", "1")
    assert "2 process(es) on cuda" in two_processes(
        tmp_path / "two", "--epochs", "1", "--steps", "1", "--device", "cuda"
    )
    expected, found = gradients(checkpoint(tmp_path / "one")), gradients(checkpoint(tmp_path / "two"))
    assert (found - expected).abs().max() < 1e-6 * expected.abs().max()

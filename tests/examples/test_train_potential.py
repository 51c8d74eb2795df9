"""Training a potential: all data, a restart bit for bit, two processes as one, dynamics."""

import json
import subprocess
import sys

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.datasets import MD
from geomeq.transforms import CutoffGraph
from tests.examples._run import EXAMPLES, TORCHRUN, load, one_thread

TINY = ["--model", "segnn", "--config", "irreps_hidden=4x0e+4x1o", "num_layers=1", "lmax_attributes=1"]
FEW = [*TINY, "--train", "12", "--valid", "4", "--test-frames", "4", "--batch", "4", "--epochs", "2"]


@pytest.fixture(autouse=True)
def _beside(monkeypatch, tmp_path_factory):
    """The scripts import what lies beside them."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setenv("GEOMEQ_CACHE", str(tmp_path_factory.getbasetemp() / "potential-cache"))


@pytest.fixture
def example():
    return load("train_potential")


def is_picture(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def weights(state, name="model"):
    return torch.cat([w.double().flatten() for w in state[name].values()])


def test_training_runs_end_to_end(example, tmp_path):
    found = example.main([*FEW, "--nve", "3", "--out", str(tmp_path)])
    for name in ("learning_curve", "parity", "nve"):
        assert is_picture(tmp_path / f"{name}.png")
    about = json.loads((tmp_path / "history.json").read_text())
    assert [record["epoch"] for record in about["history"]] == [1, 2]
    assert about["tests"]["test"] == found["test"]
    assert about["history"][1]["minutes"] > about["history"][0]["minutes"] > 0
    assert found["nve"]["deviation"] < 0.1
    model, again = example.restore(tmp_path)
    assert again == about
    assert float(model.scale) == pytest.approx(about["scale"])
    state = checkpoint(tmp_path)["average"]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("halt", [3, 2])  # at the end of an epoch, and within one
def test_a_restart_goes_on_bit_for_bit(example, tmp_path, halt):
    example.main([*FEW, "--out", str(tmp_path / "straight")])
    example.main([*FEW, "--halt", str(halt), "--out", str(tmp_path / "halted")])
    assert checkpoint(tmp_path / "halted")["step"] == halt
    half = weights(checkpoint(tmp_path / "halted"))
    example.main([*FEW, "--out", str(tmp_path / "halted")])
    straight, halted = checkpoint(tmp_path / "straight"), checkpoint(tmp_path / "halted")
    assert straight["step"] == halted["step"] == 6
    for name in ("model", "average"):
        assert torch.equal(weights(straight, name), weights(halted, name))
        assert not torch.equal(weights(halted, name), half)
    for a, b in zip(straight["optimizer"]["state"].values(), halted["optimizer"]["state"].values(), strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_clock_ends_the_training(example, tmp_path):
    found = example.main([*FEW, "--epochs", "10000", "--seconds", "1", "--out", str(tmp_path)])
    state = checkpoint(tmp_path)
    assert 0 < state["step"] < 30_000
    assert state["seconds"] < 30
    assert found["history"][-1]["step"] == state["step"]


def test_slabs_train_with_stress_and_without_their_fixed_atoms(example, tmp_path):
    options = [*TINY, "--data", "slabs", "--stress-weight", "1", "--cutoff", "3.5", "--epochs", "1", "--batch", "2"]
    few = ["--train", "4", "--valid", "2", "--test-frames", "2"]
    found = example.main([*options, *few, "--out", str(tmp_path)])
    assert set(found) == {"val_id", "val_ood_ads", "val_ood_cat", "val_ood_both", "history"}
    assert all(found[split]["stress"] > 0 for split in found if split != "history")


def test_a_file_of_ones_own(example, tmp_path):
    io = pytest.importorskip("ase.io")
    from geomeq.molecules import to_ase

    frames = [to_ase(frame) for frame in MD("ethanol")[:10]]
    io.write(tmp_path / "mine.extxyz", frames, format="extxyz")
    few = ["--train", "4", "--valid", "2", "--epochs", "1", "--batch", "2"]
    data = ["--data", str(tmp_path / "mine.extxyz"), "--test", str(tmp_path / "mine.extxyz")]
    kept = example.main([*TINY, *data, *few, "--out", str(tmp_path / "kept")])
    lazy = example.main([*TINY, *data, *few, "--lazy", "--out", str(tmp_path / "lazy")])
    assert kept["test"] == pytest.approx(lazy["test"], rel=1e-4)


def test_batches_are_those_of_pyg():
    training = load("_potential_training")
    graph, frames = CutoffGraph(4.0), list(MD("ethanol")[:6])
    part = MD("ethanol")[9]
    frames[2] = Data(z=part.z[:5], pos=part.pos[:5], force=part.force[:5], energy=part.energy)
    frames = [Data(z=f.z, pos=f.pos, force=f.force, energy=f.energy) for f in frames]
    held, index = training.Frames([f.clone() for f in frames], graph), torch.tensor([4, 2, 2, 0])
    found = held.batch(index)
    frames = [graph(frame) for frame in frames]
    wanted = Batch.from_data_list([frames[k] for k in index])
    for key in ("z", "pos", "energy", "force", "edge_index", "batch", "ptr"):
        assert torch.equal(found[key], wanted[key]), key
    assert found.num_graphs == 4
    assert held.free_atoms(index) == wanted.num_nodes


def test_loss_counts_free_atoms_and_virials():
    loss = load("_potential_training").Loss(energy=0.0, force=1.0, stress=0.0, kind="norm")
    batch = Batch.from_data_list(
        [Data(pos=torch.zeros(2, 3), force=torch.zeros(2, 3), fixed=torch.tensor([True, False]), energy=torch.zeros(1))]
    )
    out = {"energy": torch.zeros(1).double(), "forces": torch.tensor([[9.0, 9, 9], [3.0, 4, 0]])}
    assert float(loss(out, batch, 2.0, 1, 1)) == pytest.approx(2.5, rel=1e-5)
    loss.energy, loss.force, loss.stress = 0.0, 0.0, 1.0
    batch.cell, batch.stress = 2 * torch.eye(3)[None], torch.zeros(1, 3, 3)
    out["stress"] = torch.diag(torch.tensor([0.3, 0.4, 0.0]))[None]
    assert float(loss(out, batch, 2.0, 1, 1)) == pytest.approx(0.5 * 8 / 2 / 2, rel=1e-5)


def test_learning_rate_warms_up_and_falls():
    rate = load("_potential_training").learning_rate
    assert rate(0.0, 0, 1.0, 10) == pytest.approx(0.1)
    assert rate(0.0, 9, 1.0, 10) == 1.0
    assert rate(0.5, 99, 1.0, 10) == pytest.approx(0.505)
    assert rate(1.0, 99, 1.0, 10) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "water"], "--data must be gfn2:NAME"),
        (["--train", "5000"], "5000 training and 50 validation frames asked for, of 1000"),
        (["--config", "lmax"], "--config takes NAME=VALUE, got 'lmax'"),
        (["--config", "cutoff=9"], "the edges need it too, write --cutoff"),
        ([*FEW, "--stress-weight", "1"], r"--stress-weight 1.0, but no model gives a stress"),
    ],
)
def test_bad_options_are_named(example, options, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        example.main(["--out", str(tmp_path), *options])


def test_a_checkpoint_of_another_training_is_refused(example, tmp_path):
    """The same network on other frames: it would go on, or be tested, as if it had learned from these."""
    where = ["--out", str(tmp_path)]
    example.main([*FEW, "--halt", "1", *where])
    for other, message in (
        (["--seed", "1"], "seed 0 and not 1"),
        (["--batch", "3"], "batch 4 and not 3"),
        (["--train", "16"], "train 12 and not 16"),
        (["--cutoff", "4"], "cutoff 5.0 and not 4.0"),
    ):
        with pytest.raises(SystemExit, match=f"is of another training, with {message}: name another folder"):
            example.main([*FEW, *other, *where])
    example.main([*FEW, "--epochs", "1", *where])  # how long is free


@pytest.mark.parametrize(("columns", "header", "lacking"), [("", "energy=1", "force"), (":forces:R:3", "", "energy")])
def test_files_without_what_is_learned_are_named(example, tmp_path, columns, header, lacking):
    row = " 0 0 1" if columns else ""
    frame = f"2\nProperties=species:S:1:pos:R:3{columns} {header}\nC 0 0 0{row}\nO 0 0 1.1{row}\n"
    (tmp_path / "mine.extxyz").write_text(6 * frame)
    with pytest.raises(SystemExit, match=f"lack {lacking}, which has to be learned"):
        example.main(["--data", str(tmp_path / "mine.extxyz"), "--valid", "2", "--out", str(tmp_path)])


def test_errors_with_more_processes_than_frames():
    """A process without frames adds nothing, and does not fail."""
    training = load("_potential_training")
    frames = training.Frames(list(MD("ethanol")[:1]), CutoffGraph(3.0))

    class World:
        rank, size, device = 2, 3, torch.device("cpu")

        @staticmethod
        def sum(*values):
            assert values == (0.0,) * 8
            return [1.0] * 8  # what the others have

    assert training.errors(torch.nn.Identity(), frames, World, 4)["force"] == 1000


@pytest.mark.parametrize("options", [["channels=4", "num_layers=1", "lmax=1", "mmax=1"]])
def test_a_traced_step_is_the_eager_step(example, tmp_path, options):
    compiled, training = load("_potential_compiled"), load("_potential_training")
    few = training.Frames(list(MD("ethanol")[:6]), CutoffGraph(2.7))
    assert few.slices["edge_index"].diff().unique().numel() > 1
    frames = compiled.one_topology(few)
    assert frames.slices["edge_index"].diff().unique().tolist() == [frames.batch(torch.tensor([0])).num_edges]
    assert frames.batch(torch.tensor([0])).num_edges < 72  # not every pair
    network = example.build("escn", example.options(options), 2.7, [1, 6, 8])
    model = example.ScaledPotential(network.double(), 0.7, torch.zeros(9))
    trainer = training.Trainer(model, training.Settings(), example.World("cpu"))
    frames.data.pos, frames.data.force = frames.data.pos.double(), frames.data.force.double()
    step = compiled.CompiledStep(trainer, compiler=None)
    model.train()
    for index in (torch.tensor([0, 1, 2]), torch.tensor([5, 3, 4])):  # traced, then replayed
        batch = frames.batch(index)
        wanted = trainer.learn(batch, 3, 27)
        gradients = [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in trainer.parameters]
        assert step(batch, 3, 27) == pytest.approx(wanted, rel=1e-12)
        for p, gradient in zip(trainer.parameters, gradients, strict=True):
            torch.testing.assert_close(p.grad, gradient, atol=1e-12, rtol=1e-10)
        near = [CutoffGraph(2.7)(frame) for frame in MD("ethanol")[index]]
        for frame in near:
            frame.pos = frame.pos.double()
        fewer = model(Batch.from_data_list(near))  # edges beyond the cutoff change nothing
        torch.testing.assert_close(model(batch)["energy"], fewer["energy"], atol=1e-10, rtol=0)
    with pytest.raises(ValueError, match="the same atoms and edges"):
        step(frames.batch(torch.tensor([0, 1])), 2, 18)


def test_only_frames_of_one_molecule_are_compiled(example, tmp_path):
    with pytest.raises(SystemExit, match="--compile needs frames of one molecule"):
        example.main(
            ["--compile", "--data", "slabs", "--train", "3", "--valid", "1", "--batch", "2", "--out", str(tmp_path)]
        )


@pytest.mark.slow
def test_a_compiled_training_learns(example, tmp_path):
    small = ["--model", "escn", "--config", "channels=4", "num_layers=1", "lmax=1", "mmax=1", "--compile"]
    found = example.main([*FEW, *small, "--out", str(tmp_path)])
    assert found["test"]["force"] > 0


@pytest.mark.parametrize("name", ["escn", "scn"])
def test_every_model_trains(example, tmp_path, name):
    small = {"escn": ["lmax=1", "mmax=1"], "scn": ["lmax=1", "num_layers=1"]}[name]
    few = [*FEW, "--epochs", "1", "--model", name, "--config", "channels=4", "num_layers=1", *small]
    found = example.main([*few, "--out", str(tmp_path)])
    assert 0 < found["test"]["force"] < 20_000  # three steps of a tiny network: finite, not good


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(example, tmp_path):
    options = [*FEW, "--dtype", "float64"]
    example.main([*options, "--out", str(tmp_path / "one")])
    script = str(EXAMPLES / "train_potential.py")
    command = [*TORCHRUN, "--nproc_per_node=2", script, *options, "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, env=one_thread(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es) on cpu" in done.stdout
    one, two = weights(checkpoint(tmp_path / "one")), weights(checkpoint(tmp_path / "two"))
    torch.testing.assert_close(two, one, atol=1e-8, rtol=1e-8)

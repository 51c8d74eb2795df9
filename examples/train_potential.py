"""Train a potential on energies, forces and stress, then run molecular dynamics with it.

Data are named by ``--data``: ``gfn2:ethanol`` and ``gfn2:acetamide`` (bundled), ``slabs`` (bundled; periodic, with
stress), ``rmd17:NAME``, ``3bpa`` and ``acac`` (below the folder that GEOMEQ_DATA names), or a file of your own, extxyz
or LMDB, with a second one for the test in ``--test``. Models: ``--model escn``, ``scn`` or ``segnn``; any field of
their configs is set by ``--config``::

    python examples/train_potential.py                                           # ethanol, GFN2-xTB
    python examples/train_potential.py --data rmd17:aspirin --seconds 3600 --threads 2
    python examples/train_potential.py --data acac --seconds 3600
    python examples/train_potential.py --data slabs --stress-weight 1 --config lmax=3 mmax=2
    python examples/train_potential.py --data mine/train.extxyz.xz --test mine/test.extxyz --model segnn
    torchrun --nproc_per_node=2 examples/train_potential.py                      # two processes

The learning rate warms up and falls as half a cosine, to the end of ``--epochs`` or ``--seconds``, whichever is first.
Weights are averaged, gradients clipped, energies counted from a fitted energy of each element. After each epoch a
checkpoint is written to ``--out``; the same command goes on from it, bit for bit as if it had never stopped (unless it
trains by the clock), and one for other data or another model is refused. At the end: errors on the test sets,
``history.json``, ``learning_curve.png``, ``parity.png``, ``model.pt``, and with ``--nve`` a run of so many steps at
constant energy, ``nve.png``, with its drift.
"""

import argparse
import ast
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from _potential_compiled import CompiledStep
from _potential_data import Task, load
from _potential_training import Frames, LazyFrames, Loss, Settings, Trainer, errors
from distributed import World
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Data

from geomeq import models, plot
from geomeq.models import SEGNN, Potential, ScaledPotential, SEGNNConfig


class OneHot(nn.Module):
    """Gives a network that reads features ``x`` ``[N, elements]`` the elements."""

    def __init__(self, network: nn.Module, elements: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        place = torch.full((120,), -1)
        place[list(elements)] = torch.arange(len(elements))
        self.register_buffer("place", place)

    def forward(self, data: Data) -> Tensor:
        data = data.__copy__()
        place = self.place[data.z]
        data.x = nn.functional.one_hot(place, int((self.place >= 0).sum())).to(data.pos.dtype)
        return self.network(data)


SEGNN_DEFAULTS = {"irreps_hidden": "16x0e+16x1o+16x2e", "num_layers": 2, "lmax_attributes": 2, "radial": "bessel"}


def build(name: str, config: dict[str, object], cutoff: float, elements: Sequence[int]) -> nn.Module:
    """A model with outputs near one."""
    if name == "segnn":
        fields = {**SEGNN_DEFAULTS, **config, "irreps_in": f"{len(elements)}x0e", "irreps_out": "1x0e"}
        return Potential(OneHot(SEGNN(SEGNNConfig(**fields, pool="atoms", cutoff=cutoff)), elements))
    kind = name.upper()
    return getattr(models, kind)(getattr(models, f"{kind}Config")(**{"cutoff": cutoff, **config}))


def restore(folder: Path) -> tuple[ScaledPotential, dict[str, object]]:
    """The trained model that a run left in its folder, and what ``history.json`` says of it."""
    about = json.loads((folder / "history.json").read_text())
    state = torch.load(folder / "model.pt", weights_only=True, map_location="cpu")
    network = build(about["model"], about["config"], about["cutoff"], about["elements"])
    model = ScaledPotential(network, about["scale"], torch.zeros_like(state["atom_energies"]))
    model.load_state_dict(state)
    return model.eval(), about


def force_scale(frames: Frames | LazyFrames) -> float:
    """The root mean square force of (the first 1,000) training frames."""
    batch = frames.batch(torch.arange(min(1000, len(frames))))
    force = batch.force[~batch.fixed] if "fixed" in batch else batch.force
    return float(force.double().square().mean().sqrt())


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    args = parse(argv)
    torch.set_num_threads(args.threads or torch.get_num_threads())
    with World(args.device) as world:
        return run(args, world)


def run(args: argparse.Namespace, world: World) -> dict[str, object]:
    if args.compile and (world.size > 1 or args.batch > args.train > 0):
        raise SystemExit("--compile works in one process, with at least --batch training frames")
    if args.batch < world.size:
        raise SystemExit(f"--batch {args.batch} is for all processes: it must be at least their number, {world.size}")
    if world.rank > 0:
        world.wait()
    task = load(args)
    if world.rank == 0:
        world.wait()
    if len(task.train) < world.size:
        raise SystemExit(f"{len(task.train)} training frames for {world.size} processes: each must have one at least")
    scale = force_scale(task.train)
    seed_everything(args.seed)
    network = build(args.model, options(args.config), args.cutoff, task.elements)
    model = ScaledPotential(network.to(getattr(torch, args.dtype)), scale, task.atom_energies)
    about = {name: getattr(args, name) for name in ("data", "train", "valid", "model", "config", "cutoff", "dtype")}
    trainer = Trainer(model, settings(args), world, args.out / "checkpoint.pt", about)
    if world.rank == 0:
        count = sum(p.numel() for p in model.parameters())
        print(f"{task.name}: {len(task.train)} training frames, rms force {scale:.3f} eV/A")
        print(f"{args.model}: {count:,} weights; {world.size} process(es) on {world.device.type}, step {trainer.step}")
    trainer.fit(task.train, task.valid, CompiledStep(trainer) if args.compile else None)
    world.wait()
    if world.rank > 0:
        return {}
    return report(args, task, trainer)


def report(args: argparse.Namespace, task: Task, trainer: Trainer) -> dict[str, object]:
    """Tests, writes, draws, and runs dynamics."""
    model, found = trainer.average, {}
    alone = World(args.device)
    alone.rank, alone.size = 0, 1
    for name, frames in task.tests.items():
        found[name] = errors(model, frames, alone, 4 * args.batch)
        print(f"{name} ({len(frames)} frames): " + describe(found[name]))
    args.out.mkdir(parents=True, exist_ok=True)
    about = {"data": task.name, "model": args.model, "config": options(args.config), "cutoff": args.cutoff}
    about |= {"elements": task.elements, "scale": trainer.scale, "step": trainer.step, "minutes": trainer.seconds / 60}
    about |= {"settings": asdict(trainer.settings), "tests": found, "history": trainer.history}
    (args.out / "history.json").write_text(json.dumps(about, indent=1))
    torch.save(model.state_dict(), args.out / "model.pt")
    draw(args, task, trainer)
    if args.nve:
        found["nve"] = dynamics(args, task, model)
    return {**found, "history": trainer.history}


def describe(found: dict[str, float]) -> str:
    text = f"force MAE {found['force']:.1f}, RMSE {found['force_rmse']:.1f} meV/A; energy MAE {found['energy']:.1f} meV"
    text += f" ({found['energy_per_atom']:.2f} an atom)"
    return text + (f"; stress MAE {found['stress']:.3f} meV/A^3" if "stress" in found else "")


def draw(args: argparse.Namespace, task: Task, trainer: Trainer) -> None:
    """Learning curve over time and parity of forces."""
    if len(trainer.history) > 1:
        curve = [{"time": record["minutes"], "force MAE": record["force"]} for record in trainer.history]
        figure = plot.learning_curve(curve, quantity="validation force MAE", unit="meV/Å", title=task.name)
        figure.axes[0].set_xlabel("minutes")
        figure.savefig(args.out / "learning_curve.png")
    if not task.tests:
        return
    name, frames = next(iter(task.tests.items()))
    batches = [frames.batch(index) for index in torch.arange(min(len(frames), 200)).split(4 * args.batch)]
    trainer.average.eval()
    with torch.no_grad():
        predicted = torch.cat([trainer.average(batch.to(args.device))["forces"].cpu() for batch in batches])
    true = torch.cat([batch.force for batch in batches])
    free = ~torch.cat([batch.fixed for batch in batches]) if "fixed" in batches[0] else slice(None)
    title = f"Forces, {task.name}: {name}"
    plot.parity(true[free].cpu(), predicted[free], "eV/Å", quantity="force", title=title).savefig(
        args.out / "parity.png"
    )
    print(f"pictures in {args.out}")


def dynamics(args: argparse.Namespace, task: Task, model: nn.Module) -> dict[str, float]:
    """Runs at constant energy from a test frame, and says how far the energy drifts."""
    from _potential_dynamics import nve

    frames = next(iter(task.tests.values()), task.train)
    start = frames.batch(torch.tensor([0]))
    found = nve(model, start, args.cutoff, args.nve, args.temperature, args.step, args.seed, args.out / "nve.png")
    print(
        f"NVE, {args.nve} steps of {args.step} fs at {found['temperature']:.0f} K: drift {found['drift']:.1e}, largest "
        f"change {found['deviation']:.1e} of the kinetic energy"
    )
    return found


def options(pairs: Sequence[str]) -> dict[str, object]:
    """``["lmax=3", "forces=direct"]`` as a dict; what is no Python literal stays a string."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SystemExit(f"--config takes NAME=VALUE, got {pair!r}")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    if "cutoff" in found:
        raise SystemExit("--config cutoff=...: the edges need it too, write --cutoff")
    return found


def settings(args: argparse.Namespace) -> Settings:
    loss = Loss(args.energy_weight, args.force_weight, args.stress_weight, args.loss)
    names = ("epochs", "seconds", "batch", "lr", "warmup", "clip", "weight_decay", "seed", "halt", "validate_every")
    return Settings(**{name: getattr(args, name) for name in names}, decay=args.ema, loss=loss)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default="gfn2:ethanol", help="gfn2:NAME, rmd17:NAME, 3bpa, acac, slabs or a file")
    add("--test", type=Path, help="file of test frames, where --data is a file")
    add("--train", type=int, default=0, help="training frames (0: all but those for validation)")
    add("--valid", type=int, default=50, help="frames put aside for validation")
    add("--test-frames", type=int, default=0, help="use the first few test frames only (0: all)")
    add("--lazy", action="store_true", help="read files at each access instead of keeping all frames in memory")
    add("--model", choices=("escn", "scn", "segnn"), default="escn")
    add("--config", nargs="*", default=[], metavar="NAME=VALUE", help="fields of the model's config")
    add("--cutoff", type=float, default=5.0, help="Angstrom")
    add("--epochs", type=int, default=200)
    add("--seconds", type=float, default=math.inf, help="end of training, validation included")
    add("--batch", type=int, default=5, help="frames a step, of all processes together")
    add("--lr", type=float, default=2e-3, help="peak of the learning rate")
    add("--warmup", type=int, default=100, help="steps")
    add("--clip", type=float, default=10.0, help="largest norm of the gradient")
    add("--ema", type=float, default=0.999, help="how much of the averaged weights stays at a step")
    add("--weight-decay", type=float, default=0.0)
    add("--loss", choices=("norm", "square"), default="norm")
    add("--energy-weight", type=float, default=1.0)
    add("--force-weight", type=float, default=1.0)
    add("--stress-weight", type=float, default=0.0)
    add("--validate-every", type=int, default=1, help="epochs")
    add("--halt", type=int, default=0, help="stop after so many steps, to go on later (0: do not)")
    add("--nve", type=int, default=0, help="steps of molecular dynamics at the end")
    add("--temperature", type=float, default=300.0, help="of the dynamics, K")
    add("--step", type=float, default=0.5, help="of the dynamics, fs")
    add("--compile", action="store_true", help="compile the whole step (frames of one molecule; minutes at the start)")
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--threads", type=int, default=0, help="of torch (0: as it comes)")
    add("--device", default="cpu", help="cpu or cuda")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("runs/train_potential"), help="folder of all that is written")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()

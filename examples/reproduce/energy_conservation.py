"""Is energy conserved in molecular dynamics? Forces as the slope of an energy against forces of their own.

Claim (Fu et al., 2025, eSEN, arXiv 2502.12147; and any textbook): forces that are minus the gradient of a smooth energy
conserve it, forces predicted by a head of their own do not, however accurate they are.

    python examples/reproduce/energy_conservation.py                   # bundled ethanol (GFN2-xTB), about 10 minutes
    python examples/reproduce/energy_conservation.py --source rmd17    # needs GEOMEQ_DATA, see geomeq.datasets.MD
    python examples/reproduce/energy_conservation.py --quick           # a minute, no claims

Two small ESCN of one configuration, equal but for where forces come from, are trained on energies and forces for the
same time. Each then moves four molecules at constant energy (NVE): 10,000 steps of 0.25 fs by velocity Verlet, from
frames of the test trajectory, with velocities drawn at 300 K, without net momentum or angular momentum. Networks
compute in float32, positions and velocities are kept in float64. The graph connects all atoms, and messages fade out at
the cut-off, so no edge list is ever made anew.

``geomeq.testing.nve_drift`` judges a run: the drift is the size of the linear trend of the total energy (kinetic plus
the model's own potential energy) from the first step to the last, over the mean kinetic energy; the deviation is the
largest distance of the total energy from its first value, in the same unit. Velocity Verlet lets the total energy swing
about a constant, by an amount that falls with the square of the step; so the drift judges the forces.

Success: with forces by autograd the drift of every molecule is below 1e-3, and with direct forces the median drift is
above that and at least 10 times the one by autograd. A run in which a molecule flies apart has an infinite drift. The
script also prints how far the forces are from the slope of the energy and their Jacobian from symmetry. Ends with
status 1 otherwise.

Measured, seed 0, one core of two that were busy, 570 s: with forces by autograd (142,025 weights, error 24.2 meV/A)
drifts of 3.8e-5 to 1.7e-4 over 2.5 ps at 495 K, largest deviation 3e-3, asymmetry of the Jacobian 9e-11; with direct
forces (151,579 weights, 16.5 meV/A) 3.3e-2 to 0.55, kinetic energy up by a third, asymmetry 1e-2. Ratio of the medians:
9,700. The step of 0.25 fs was chosen after short runs at 0.5 fs had come near the limit for lack of accuracy of the
integrator: ``train_potential.py`` runs single molecules at 0.5 fs, with drifts of 2e-4 (aspirin) and 7e-4 (ethanol).

The energy of direct forces is that of a separate head, so its error swings with the motion, too; the kinetic energy of
the last tenth of the run over that of the first, which is printed, does not depend on it.
"""

import argparse
import copy
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from tqdm import tqdm

from geomeq import plot
from geomeq.datasets import MD, atom_energies
from geomeq.models import ESCN, ESCNConfig, ScaledPotential
from geomeq.testing import NVEDrift, force_consistency, jacobian_asymmetry, nve_drift
from geomeq.transforms import FullyConnected

sys.path.insert(0, str(Path(__file__).parents[1]))  # what the examples share

from _fit import fit

MASSES = {1: 1.008, 6: 12.011, 7: 14.007, 8: 15.999}  # atomic mass units
ACCELERATION = 9.648533e-3  # of 1 eV/Angstrom on 1 atomic mass unit, Angstrom/fs^2
BOLTZMANN = 8.617333e-5  # eV/K
LIMIT, FACTOR = 1e-3, 10.0


def build(forces: str, frames: MD, args: argparse.Namespace) -> ScaledPotential:
    """The network, with outputs in the units of the data."""
    atoms = frames[0].num_nodes
    config = ESCNConfig(
        lmax=2, mmax=2, channels=args.channels, num_layers=2, cutoff=5.0, forces=forces, average_degree=atoms - 1
    )  # fmt: skip
    scale = float(torch.cat([frame.force for frame in frames]).square().mean().sqrt())
    return ScaledPotential(ESCN(config), scale, atom_energies(frames))


def loss_of(model: ScaledPotential, batch: Batch) -> Tensor:
    """Mean squared error of forces and, with a small weight, of energies, in units of the typical force (and 1 A)."""
    out, scale = model(batch), model.scale.float()
    force_loss = ((out["forces"] - batch.force) / scale).square().mean()
    return force_loss + 0.1 * ((out["energy"] - batch.energy) / scale).square().mean().float()


@torch.no_grad()
def errors(model: ScaledPotential, frames: MD) -> tuple[float, float]:
    """Mean absolute errors of forces (eV/A) and energies (eV)."""
    force, energy = 0.0, 0.0
    for batch in DataLoader(frames, batch_size=100):
        out = model(batch)
        force += float((out["forces"] - batch.force).abs().mean()) * batch.num_graphs
        energy += float((out["energy"] - batch.energy).abs().mean()) * batch.num_graphs
    return force / len(frames), energy / len(frames)


class Molecules:
    """Equal molecules that move at constant energy, each on its own."""

    def __init__(self, frames: Sequence[Data], temperature: float, generator: torch.Generator) -> None:
        self.batch = Batch.from_data_list([FullyConnected()(Data(z=f.z, pos=f.pos.double())) for f in frames])
        count, atoms = len(frames), frames[0].num_nodes
        self.mass = torch.tensor([MASSES[int(k)] for k in frames[0].z], dtype=torch.float64)[None, :, None]
        self.pos = self.batch.pos.view(count, atoms, 3)
        speed = (BOLTZMANN * temperature * ACCELERATION / self.mass).sqrt()
        velocity = speed * torch.randn(count, atoms, 3, dtype=torch.float64, generator=generator)
        self.velocity = at_rest(self.pos, velocity, self.mass)

    def forces(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Potential energies ``[B]`` and forces ``[B, n, 3]``, eV and eV/A."""
        self.batch.pos = self.pos.reshape(-1, 3)
        out = model(self.batch)
        return out["energy"].detach(), out["forces"].detach().double().view_as(self.pos)

    def kinetic(self) -> Tensor:
        """Kinetic energies ``[B]``, eV."""
        return 0.5 * (self.mass * self.velocity.square()).sum(dim=(1, 2)) / ACCELERATION


def at_rest(pos: Tensor, velocity: Tensor, mass: Tensor) -> Tensor:
    """Takes momentum and angular momentum away; shapes ``[B, n, 3]``, ``[B, n, 3]`` and ``[1, n, 1]``."""
    velocity = velocity - (mass * velocity).sum(dim=1, keepdim=True) / mass.sum()
    arm = pos - (mass * pos).sum(dim=1, keepdim=True) / mass.sum()
    momentum = torch.linalg.cross(arm, mass * velocity).sum(dim=1)
    square = (mass * arm.square()).sum(dim=(1, 2))[:, None, None] * torch.eye(3, dtype=pos.dtype)
    inertia = square - torch.einsum("bni,bnj,n->bij", arm, arm, mass[0, :, 0])
    spin = torch.linalg.solve(inertia, momentum)
    return velocity - torch.linalg.cross(spin[:, None].expand_as(arm), arm)


def run_nve(model: nn.Module, start: Molecules, steps: int, dt: float, every: int, label: str) -> dict[str, Tensor]:
    """Velocity Verlet.

    Returns:
        ``time`` (ps, ``[K]``), ``kinetic`` and ``potential`` (eV, ``[K, B]``), up to where a run blew up if one does:
        where a molecule has 100 times its kinetic energy.
    """
    mol = copy.deepcopy(start)
    potential, force = mol.forces(model)
    samples, first = [(0.0, mol.kinetic(), potential)], mol.kinetic()
    for step in tqdm(range(1, steps + 1), desc=label, unit="step", mininterval=1.0):
        mol.velocity = mol.velocity + 0.5 * dt * ACCELERATION * force / mol.mass
        mol.pos = mol.pos + dt * mol.velocity
        potential, force = mol.forces(model)
        mol.velocity = mol.velocity + 0.5 * dt * ACCELERATION * force / mol.mass
        if step % every == 0 or step == steps:
            kinetic = mol.kinetic()
            if not bool((kinetic < 100 * first).all()):
                print(f"{label}: a molecule flew apart after {step} steps")
                break
            samples.append((1e-3 * dt * step, kinetic, potential))
    time_ps, kinetic, potential = zip(*samples, strict=True)
    return {
        "time": torch.tensor(time_ps, dtype=torch.float64),
        "kinetic": torch.stack(kinetic),
        "potential": torch.stack(potential),
    }


def judge_run(run: dict[str, Tensor], atoms: int, label: str, duration: float) -> list[NVEDrift]:
    """Drift of every molecule, printed; infinite for all if the run ended before its ``duration`` (ps)."""
    kinetic, total = run["kinetic"], run["kinetic"] + run["potential"]
    if float(run["time"][-1]) < duration - 1e-9:
        print(
            f"{label}: ended after {float(run['time'][-1]):.3f} of {duration:.3f} ps; drift / kinetic energy: infinite"
        )
        lost = NVEDrift(math.inf, math.inf, math.inf, math.nan, float(kinetic.mean()), float(run["time"][-1]))
        return [lost] * kinetic.size(1)
    found = [nve_drift(run["time"], total[:, k], kinetic[:, k]) for k in range(kinetic.size(1))]
    tenth = max(len(kinetic) // 10, 1)
    heating = kinetic[-tenth:].mean() / kinetic[:tenth].mean()
    kelvin = 2 * float(kinetic.mean()) / (BOLTZMANN * (3 * atoms - 6))  # degrees of freedom of a molecule at rest
    drifts = ", ".join(f"{d.drift:.1e}" for d in found)
    print(
        f"{label}: {float(run['time'][-1]):.2f} ps at {kelvin:.0f} K; drift / kinetic energy {drifts}; "
        f"largest deviation {max(d.deviation for d in found):.1e}; "
        f"kinetic energy of the last tenth over the first: {float(heating):.2f}"
    )
    return found


def first_of(run: dict[str, Tensor]) -> dict[str, Tensor]:
    """The run of the first molecule, for the picture."""
    return {"time": run["time"], "kinetic": run["kinetic"][:, 0], "potential": run["potential"][:, 0]}


def median(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())


def main(argv: Sequence[str] | None = None) -> dict[str, float | bool]:
    args = parse(argv)
    begun = time.perf_counter()
    transform = FullyConnected()
    train_set = MD(args.molecule, "train", source=args.source, pre_transform=transform)[: args.frames]
    test_set = MD(args.molecule, "test", source=args.source, pre_transform=transform)
    test_set = test_set[: 50 if args.quick else len(test_set)]
    every = max(len(test_set) // args.molecules, 1)
    generator = torch.Generator().manual_seed(args.seed)
    start = Molecules([test_set[every * k] for k in range(args.molecules)], args.temperature, generator)
    drifts, runs, result = {}, {}, dict[str, float | bool]()
    for forces in ("autograd", "direct"):
        seed_everything(args.seed)
        model = build(forces, train_set, args)
        spent = fit(
            model,
            DataLoader(train_set, batch_size=args.batch, shuffle=True, drop_last=True),
            loss_of,
            torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3),
            steps=args.steps or math.inf,
            seconds=args.seconds,
            label=f"{forces}, training",
        )
        model.eval()
        print(f"{forces}: {spent.steps} steps of {args.batch} frames in {spent.wall:.0f} s")
        force, energy = errors(model, test_set)
        frame = Data(z=test_set[0].z, pos=test_set[0].pos, edge_index=test_set[0].edge_index)
        slope = force_consistency(model, frame, directions=5)
        asymmetry = jacobian_asymmetry(model, frame)
        print(
            f"{forces}: {sum(p.numel() for p in model.parameters()):,} weights, test errors {1e3 * force:.1f} meV/A "
            f"and {1e3 * energy:.1f} meV; {slope}; asymmetry of the Jacobian {asymmetry:.1e}"
        )
        clock = time.perf_counter()
        run = run_nve(model, start, args.nve_steps, args.dt, args.every, f"{forces}, NVE")
        print(f"{forces}: {1e3 * (time.perf_counter() - clock) / args.nve_steps:.1f} ms a step of all molecules")
        drifts[forces] = [d.drift for d in judge_run(run, frame.num_nodes, forces, 1e-3 * args.dt * args.nve_steps)]
        if len(run["time"]) > 2:  # what flew apart at once has no trend to draw
            runs[f"forces: {forces}"] = first_of(run)
        result |= {f"{forces} force": force, f"{forces} slope": slope.error, f"{forces} asymmetry": asymmetry}
        result |= {f"{forces} drift": max(drifts[forces]), f"{forces} median": median(drifts[forces])}
    ratio = median(drifts["direct"]) / max(median(drifts["autograd"]), 1e-300)
    print(f"median drift of direct forces over that of autograd: {ratio:.0f}")
    args.out.mkdir(parents=True, exist_ok=True)
    title = f"{args.molecule}, {args.nve_steps:,} steps of {args.dt:g} fs"
    if runs:
        plot.energy_conservation(runs, limit=LIMIT, title=title).savefig(args.out / "energy_conservation.png")
    kept = max(drifts["autograd"]) < LIMIT
    fails = median(drifts["direct"]) > LIMIT and ratio > FACTOR
    ok = args.quick or (kept and fails)
    print(f"{'no claims' if args.quick else 'SUCCESS' if ok else 'MISSED'}, {time.perf_counter() - begun:.0f} s in all")
    return result | {"ratio": ratio, "ok": ok}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="few frames and steps, no claims")
    add("--molecule", default="ethanol")
    add("--source", default="gfn2", choices=("gfn2", "rmd17"))
    add("--seconds", type=float, default=120.0, help="training time of each network")
    add("--steps", type=int, default=0, help="training steps of each network at most (0: no limit)")
    add("--frames", type=int, default=950)
    add("--batch", type=int, default=10)
    add("--lr", type=float, default=3e-3, help="peak of the learning rate")
    add("--channels", type=int, default=24)
    add("--molecules", type=int, default=4, help="that move at the same time")
    add("--temperature", type=float, default=300.0, help="of the first velocities, K")
    add("--nve-steps", type=int, default=10_000)
    add("--dt", type=float, default=0.25, help="fs")
    add("--every", type=int, default=2, help="steps between two samples")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("runs/energy_conservation"))
    args = parser.parse_args(argv)
    if args.quick:
        args.steps, args.frames, args.channels, args.nve_steps = args.steps or 60, 100, 8, min(args.nve_steps, 300)
    return args


if __name__ == "__main__":
    raise SystemExit(0 if main()["ok"] else 1)

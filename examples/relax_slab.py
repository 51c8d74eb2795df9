"""Relax adsorbates on metal slabs with a network, and compare with the potential that it learned from.

Trains a small ESCN on the bundled slabs (energies and forces of EMT, a toy), or takes a model that train_potential.py
has left. Then systems that it has not seen start with their adsorbate somewhere above the surface and relax with ASE's
BFGS, once with the network as calculator and once with EMT. Reported for each: EMT's energy at the network's minimum
above that at EMT's own, both sites (how many metal atoms the adsorbate touches), and how far apart free atoms ended::

    python examples/relax_slab.py                 # trains for eight minutes
    python examples/relax_slab.py --quick         # two minutes in all, a poor model
    python examples/relax_slab.py --load runs/train_potential

A network once trained is in ``--out`` and used again, unless other options are given: then it is refused.

Measured once, on a machine with twice as much to do as it has cores: after the eight minutes of training 58 meV/A on
unseen slabs, and over twelve systems a median of 51 meV above EMT's minimum and 0.29 A, the same site in four, all
converged.

A start decides which of several minima is found, so two good potentials may differ in the site now and then.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import train_potential
from ase import Atoms
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from torch import nn
from tqdm import tqdm

from geomeq.datasets import Slabs
from geomeq.molecules import GeomeqCalculator, to_ase

TRAINING = ["--data", "slabs", "--stress-weight", "0.1", "--batch", "8", "--epochs", "1000", "--valid", "60"]
SIZE = ["lmax=2", "mmax=1", "channels=24", "num_layers=2"]
SIZES = {"escn": SIZE, "scn": [*SIZE, "forces='autograd'"], "segnn": []}


def trained(args: argparse.Namespace) -> tuple[nn.Module, float]:
    """The network and its cutoff."""
    folder = args.load or args.out / "model"
    if args.load is None and not (folder / "model.pt").exists():
        quick = ["--train", "400", "--valid", "16", "--test-frames", "16"] if args.quick else ["--test-frames", "60"]
        options = ["--seconds", str(args.seconds), "--cutoff", "4.5", "--model", args.model, "--out", str(folder)]
        train_potential.main([*TRAINING, *quick, *options, "--config", *args.config])
    model, about = train_potential.restore(folder)
    asked = {"model": args.model, "config": train_potential.options(args.config), "seconds": args.seconds}
    other = {name: value for name, value in asked.items() if {**about["settings"], **about}[name] != value}
    if other and args.load is None:
        raise SystemExit(f"{folder} holds another model, not with {other}: name another --out, or take it by --load")
    print("network: " + train_potential.describe(about["tests"]["val_id"]))
    return model, about["cutoff"]


def relax(start: Atoms, calculator: object, args: argparse.Namespace) -> tuple[Atoms, bool]:
    """The minimum below a structure, and whether it was reached."""
    atoms = start.copy()
    atoms.calc = calculator
    done = BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=args.fmax, steps=args.steps)
    return atoms, bool(done)


def emt_energy(atoms: Atoms) -> float:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def site(atoms: Atoms) -> str:
    """Where the lowest atom of the adsorbate sits, by how many metal atoms are nearly as close as the closest."""
    adsorbate = np.flatnonzero(atoms.get_tags() == 2)
    lowest = int(adsorbate[atoms.positions[adsorbate, 2].argmin()])
    metal = np.flatnonzero(atoms.get_tags() < 2)
    distance = atoms.get_distances(lowest, metal, mic=True)
    touching = int((distance < distance.min() + 0.35).sum())
    return {1: "top", 2: "bridge", 3: "threefold", 4: "fourfold"}.get(touching, f"{touching} neighbours")


def apart(a: Atoms, b: Atoms) -> float:
    """Root mean square distance of the atoms that may move, by their nearest images."""
    free = np.ones(len(a), bool)
    free[a.constraints[0].index] = False
    between = a.positions[free] - b.positions[free]
    between -= np.round(between @ np.linalg.inv(a.cell)) @ a.cell
    return float(np.sqrt((between**2).sum(1).mean()))


def compare(sample: object, model: nn.Module, cutoff: float, args: argparse.Namespace) -> dict[str, object]:
    """Both relaxations of one system."""
    start = to_ase(sample)
    own, reached = relax(start, EMT(), args)
    found, done = relax(start, GeomeqCalculator(model, cutoff=cutoff, dtype=torch.float64), args)
    return {
        "start": start,
        "EMT": own,
        "network": found,
        "done": done and reached,
        "energy": emt_energy(found) - emt_energy(own),
        "from start": emt_energy(start) - emt_energy(own),
        "sites": (site(found), site(own)),
        "rmsd": apart(found, own),
    }


def picture(rows: Sequence[dict], names: Sequence[str], path: Path) -> None:
    """Start, the network's minimum and EMT's, from above and from the side."""
    from ase.visualize.plot import plot_atoms
    from matplotlib.figure import Figure

    shown = list(zip(rows, names, strict=True))[:3]
    figure = Figure(figsize=(9.0, 5.2 * len(shown)), layout="constrained")
    grid = figure.subplots(2 * len(shown), 3, squeeze=False)
    for k, (row, name) in enumerate(shown):
        for column, stage in enumerate(("start", "network", "EMT")):
            for line, turn in ((2 * k, ""), (2 * k + 1, "-90x")):
                plot_atoms(row[stage], grid[line, column], rotation=turn, radii=0.85, show_unit_cell=0)
                grid[line, column].set_axis_off()
            grid[2 * k, column].set_title(f"{name}\n{stage}" if column == 0 else stage, fontsize=10)
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    model, cutoff = trained(args)
    systems = Slabs(args.split, task="IS2RE")
    rows, names = [], []
    for sample in tqdm(systems[: args.systems], desc="relaxing"):
        name = systems.names[int(sample.sid)]
        rows.append(compare(sample, model, cutoff, args))
        names.append(name)
    for name, row in zip(names, rows, strict=True):
        sites = " = ".join(row["sites"]) if len(set(row["sites"])) == 1 else "{}, EMT {}".format(*row["sites"])
        print(
            f"{name:28s} {row['energy']:+.3f} eV above EMT's minimum (start {row['from start']:+.2f}), free atoms "
            f"{row['rmsd']:.3f} A apart, {sites}{'' if row['done'] else ', NOT CONVERGED'}"
        )
    found = {
        "energy": float(np.median([abs(row["energy"]) for row in rows])),
        "rmsd": float(np.median([row["rmsd"] for row in rows])),
        "same site": float(np.mean([row["sites"][0] == row["sites"][1] for row in rows])),
        "converged": float(np.mean([row["done"] for row in rows])),
    }
    print(
        f"median: {1000 * found['energy']:.0f} meV, {found['rmsd']:.3f} A; same site {found['same site']:.0%}, "
        f"converged {found['converged']:.0%}"
    )
    picture(rows, names, args.out / "relaxed.png")
    print(f"picture in {args.out}")
    return found


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--load", type=Path, help="folder of a model that train_potential.py has trained")
    add("--quick", action="store_true", help="few frames, a minute of training, three systems")
    add("--seconds", type=float, help="of training (default 480, or 60 with --quick)")
    add("--model", choices=("escn", "scn", "segnn"), default="escn")
    add("--config", nargs="*", metavar="NAME=VALUE", help="fields of the model's config")
    add("--split", default="val_id", help="of Slabs")
    add("--systems", type=int, help="how many to relax (default 12, or 3 with --quick)")
    add("--fmax", type=float, default=0.03, help="eV/A, the largest force at a minimum")
    add("--steps", type=int, default=200, help="of a relaxation at most")
    add("--out", type=Path, default=Path("runs/relax_slab"))
    args = parser.parse_args(argv)
    args.config = SIZES[args.model] if args.config is None else args.config
    args.seconds = args.seconds or (60 if args.quick else 480)
    args.systems = args.systems or (3 if args.quick else 12)
    return args


if __name__ == "__main__":
    main()

"""Molecular dynamics at constant energy with a trained potential, through ASE."""

from pathlib import Path

import numpy as np
import torch
from ase import units
from ase.md.verlet import VelocityVerlet
from torch import nn
from torch_geometric.data import Data
from tqdm import tqdm

from geomeq import plot
from geomeq.molecules import GeomeqCalculator, to_ase
from geomeq.testing import nve_drift


def nve(
    model: nn.Module, start: Data, cutoff: float, steps: int, temperature: float, step: float, seed: int, out: Path
) -> dict[str, float]:
    """Runs from a structure with velocities of a temperature.

    In float64, also where the model was trained in float32: rounding of forces would be a drift of its own.

    Returns:
        ``drift`` (trend of the total energy over the run) and ``deviation`` (its largest change), both as part of the
        mean kinetic energy, and the mean ``temperature`` in K.
    """
    atoms = to_ase(Data(**{key: start[key] for key in ("z", "pos", "cell", "pbc", "fixed") if key in start}))
    atoms.calc = GeomeqCalculator(model, cutoff=cutoff, dtype=torch.float64)
    # half of the energy goes into the potential, hence twice the temperature
    spread = np.sqrt(2 * temperature * units.kB / atoms.get_masses())[:, None]
    atoms.set_velocities(spread * np.random.default_rng(seed).standard_normal((len(atoms), 3)))
    if not atoms.constraints:
        atoms.set_velocities(atoms.get_velocities() - atoms.get_momenta().sum(0) / atoms.get_masses().sum())
    dynamics, rows = VelocityVerlet(atoms, step * units.fs), []
    every = max(1, steps // 2000)
    for k in tqdm(range(0, steps + 1, every), desc="NVE", unit=f"{every} steps" if every > 1 else "step"):
        if k:
            dynamics.run(every)
        rows.append((1e-3 * step * k, atoms.get_kinetic_energy(), atoms.get_potential_energy()))
    time, kinetic, potential = np.array(rows).T
    found = nve_drift(time, kinetic + potential, kinetic)
    run = {"time": time, "kinetic": kinetic, "potential": potential}
    plot.energy_conservation(run, title="Molecular dynamics at constant energy").savefig(out)
    moving = int((atoms.get_momenta() != 0).any(1).sum())
    warmth = 2 * float(kinetic.mean()) / ((3 * moving - 3 * (not atoms.constraints)) * units.kB)
    return {"drift": float(found.drift), "deviation": float(found.deviation), "temperature": warmth}

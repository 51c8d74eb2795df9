"""What the ASE calculator adds to a model: one step of dynamics, with and without a lasting neighbour list.

The model costs next to nothing (energy and forces are zero), so the time is that of everything else: the graph, copies
between ASE and torch, ASE's own bookkeeping. Positions move by 0.001 A between calls, as in dynamics.
"""

import numpy as np
import torch
from harness import Case, Problem, Results, Unavailable
from torch_geometric.data import Data

from geomeq.molecules import GeomeqCalculator


def metal(repeats: int, cutoff: float = 6.0) -> Problem:
    """Atoms of copper, moved a little."""
    from ase.build import bulk

    atoms = bulk("Cu", cubic=True) * ((repeats,) * 3)
    atoms.rattle(0.05, seed=0)
    return {"atoms": atoms, "cutoff": cutoff}


def free_model(data: Data) -> dict[str, torch.Tensor]:
    return {"energy": data.pos.new_zeros(1), "forces": torch.zeros_like(data.pos)}


def step_of(atoms, rng: np.random.Generator) -> Results:
    atoms.positions += 0.001 * rng.normal(size=(len(atoms), 3))
    atoms.get_forces()
    return {"atoms": torch.tensor([float(len(atoms))], dtype=torch.float64)}


def with_skin(skin: float):
    def prepare(problem: Problem):
        atoms, rng = problem["atoms"].copy(), np.random.default_rng(0)
        atoms.calc = GeomeqCalculator(free_model, problem["cutoff"], skin=skin)
        return lambda: step_of(atoms, rng)

    return prepare


def ase_list(problem: Problem):
    """ASE's own lasting list (``NewPrimitiveNeighborList`` with a skin) under ASE's Lennard-Jones."""
    from ase.calculators.lj import LennardJones

    if len(problem["atoms"]) > 1000:
        raise Unavailable("seconds a step at this size; compare at 500 atoms")
    atoms, rng = problem["atoms"].copy(), np.random.default_rng(0)
    atoms.calc = LennardJones(sigma=2.3, epsilon=0.1, rc=problem["cutoff"])
    return lambda: step_of(atoms, rng)


CASES = [
    Case(
        "calculator_step",
        "one step of dynamics through ASE with a model that costs nothing",
        sizes={"32 atoms": {"repeats": 2}, "500 atoms": {"repeats": 5}, "4,000 atoms": {"repeats": 10}},
        quick={"32 atoms, 3 A": {"repeats": 2, "cutoff": 3.0}},
        setup=metal,
        contenders={
            "geomeq, neighbour list with a skin of 1 A": with_skin(1.0),
            "geomeq, new list each step": with_skin(0.0),
            "ASE LennardJones, energy and forces included": ase_list,
        },
        peer="geomeq, new list each step",
        reference=lambda problem: {"atoms": torch.tensor([float(len(problem["atoms"]))], dtype=torch.float64)},
    ),
]

"""Makes ``slabs.npz``: an adsorbate on a periodic metal slab, with energies, forces and stress of ASE's EMT.

Needs ase (``pip install 'geomeq[data]'``). Run from the top of the repository, five minutes on one core::

    OMP_NUM_THREADS=1 python datasets/slabs/build.py

A toy in the form of OC20: effective medium theory knows metals fairly well, but its H, C, N and O are crude. A system
is a metal or a random alloy of two, a facet, an adsorbate and a cell. Of each there are frames of its relaxation from a
bad start, frames with atoms moved at random, and frames in a strained cell. Everything is drawn from a seed for each
system. Rounding decides a little where relaxations end, so another machine may give other digits: then the sha256 and
size in ``geomeq/datasets/_registry.py`` have to follow.
"""

import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import fcc100, fcc110, fcc111, fcc211
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from geomeq.datasets._raw import sha256_of, write_npz

HERE = Path(__file__).parent
LATTICE = {
    "Cu": 3.590,
    "Ni": 3.487,
    "Pd": 3.879,
    "Ag": 4.064,
    "Pt": 3.922,
    "Au": 4.056,
    "Al": 3.994,
}  # A, of EMT itself
ALLOYS = (("Cu", "Ni"), ("Cu", "Pd"), ("Ag", "Pd"), ("Au", "Pt"), ("Ni", "Pt"), ("Al", "Cu"), ("Ag", "Au"))
UNSEEN_ALLOYS = (("Ni", "Pd"), ("Cu", "Pt"), ("Al", "Ni"), ("Au", "Pd"), ("Ag", "Cu"))
ADSORBATES = {"H": 0, "C": 0, "N": 0, "O": 0, "OH": 1.03, "CO": 1.06, "NH": 1.06}  # bond length, A, of EMT
UNSEEN_ADSORBATES = {"CH": 1.07, "NO": 1.06, "NN": 1.0}
FACETS = {
    "111": (fcc111, ((2, 2, 3), (2, 2, 4), (3, 3, 3))),
    "100": (fcc100, ((2, 2, 3), (2, 2, 4), (3, 3, 3))),
    "110": (fcc110, ((2, 2, 4), (2, 2, 5), (2, 3, 4))),
    "211": (fcc211, ((3, 2, 3),)),
}
SPLITS = {  # systems; frames of the relaxation, moved at random, strained; alloys and adsorbates unseen in training?
    "train": (150, (7, 5, 2), False, False),
    "val_id": (25, (6, 3, 1), False, False),
    "val_ood_ads": (20, (6, 3, 1), False, True),
    "val_ood_cat": (20, (6, 3, 1), True, False),
    "val_ood_both": (15, (6, 3, 1), True, True),
}
VACUUM = 7.0  # A above and below: EMT ends at 5.9 A
GRID = 2.0**-12  # positions are multiples of 0.00024 A, so that float32 holds them and the file is small
CLOSE = 0.02  # eV/A, the largest force of a relaxed structure


@dataclass
class System:
    """A slab with its adsorbate at a bad start, and the energy of the parts."""

    name: str
    start: Atoms
    fixed: np.ndarray
    tags: np.ndarray
    reference: float


def pure_or_alloy(rng: np.random.Generator, unseen: bool) -> tuple[str, str, float]:
    """Two metals (or one twice) and the part of the second."""
    if unseen or rng.random() < 0.4:
        pairs = UNSEEN_ALLOYS if unseen else ALLOYS
        return *pairs[rng.integers(len(pairs))], float(rng.choice([0.25, 0.5, 0.75]))
    metal = str(rng.choice(list(LATTICE)))
    return metal, metal, 0.0


def clean_slab(rng: np.random.Generator, unseen: bool) -> tuple[str, Atoms, np.ndarray]:
    """A slab, its name, and which atoms (the lower layers) do not move."""
    first, second, part = pure_or_alloy(rng, unseen)
    facet = str(rng.choice(list(FACETS)))
    build, sizes = FACETS[facet]
    size = sizes[rng.integers(len(sizes))]
    a = (1 - part) * LATTICE[first] + part * LATTICE[second]
    slab = build(first, size, a=a, vacuum=VACUUM)
    slab.pbc = True
    symbols = np.array(slab.get_chemical_symbols(), dtype="U2")
    symbols[rng.permutation(len(slab))[: round(part * len(slab))]] = second
    slab.set_chemical_symbols(symbols)
    height = slab.positions[:, 2]
    fixed = height < np.sort(height)[len(slab) // 2] - 1e-3  # half of the layers, of an odd number the smaller half
    metals = first if first == second else f"{first}{second}{round(100 * part)}"
    return f"{metals}({facet}) {'x'.join(map(str, size))}", slab, fixed


def draw(rng: np.random.Generator, new_metal: bool, new_adsorbate: bool) -> System:
    """A system, its adsorbate anywhere above the slab and turned anyhow."""
    name, slab, fixed = clean_slab(rng, new_metal)
    kinds = UNSEEN_ADSORBATES if new_adsorbate else ADSORBATES
    adsorbate = str(rng.choice(list(kinds)))
    molecule = Atoms(adsorbate, positions=[[0, 0, k * kinds[adsorbate]] for k in range(len(adsorbate))])
    clean = relax(slab.copy(), fixed)[-1]
    free = relax(molecule.copy(), np.zeros(len(molecule), bool))[-1]
    reference = energy_of(clean) + energy_of(free)
    molecule.positions = molecule.positions @ Rotation.random(rng=rng).as_matrix().T
    molecule.positions -= [0, 0, molecule.positions[:, 2].min()]
    across = rng.random(2) @ slab.cell[:2, :2]
    molecule.positions += [*across, slab.positions[:, 2].max() + rng.uniform(1.1, 2.3)]
    start = slab + molecule
    fixed = np.append(fixed, np.zeros(len(molecule), bool))
    start.positions[~fixed] += rng.normal(scale=0.05, size=(int((~fixed).sum()), 3))
    tags = np.where(fixed, 0, 1)
    tags[len(slab) :] = 2
    return System(f"{adsorbate} on {name}", start, fixed, tags, reference)


def energy_of(atoms: Atoms) -> float:
    atoms = atoms.copy()
    atoms.calc = EMT()
    return atoms.get_potential_energy()


def relax(atoms: Atoms, fixed: np.ndarray, steps: int = 300) -> list[Atoms]:
    """The structures on the way to the minimum; empty if there is no end to it."""
    atoms.calc, path = EMT(), [atoms.copy()]
    atoms.set_constraint(FixAtoms(mask=fixed))
    search = BFGS(atoms, logfile=None, maxstep=0.1)
    search.attach(lambda: path.append(atoms.copy()))
    done = search.run(fmax=CLOSE, steps=steps)
    for step in path:
        step.set_constraint()
    return path if done else []


def spread(path: list[Atoms], count: int) -> list[Atoms]:
    """First, last and some between, denser where the structure changes fast: at the beginning."""
    place = (np.linspace(0, 1, count) ** 2 * (len(path) - 1)).round().astype(int)
    return [path[k] for k in np.unique(place)]


def frames(rng: np.random.Generator, system: System, counts: tuple[int, int, int]) -> list[tuple[int, Atoms]] | None:
    """Frames with their kind (0 relaxation, 1 moved at random, 2 strained), or ``None`` if the system is no good."""
    path = relax(system.start.copy(), system.fixed)
    if not path or not adsorbed(path[-1], system.tags):
        return None
    found = [(0, step) for step in spread(path, counts[0])]
    for kind, count in ((1, counts[1]), (2, counts[2])):
        for _ in range(count):
            atoms = path[rng.integers(len(path) // 3, len(path))].copy()
            moved = rng.normal(scale=rng.uniform(0.02, 0.15), size=atoms.positions.shape)
            atoms.positions += moved * ~system.fixed[:, None]
            if kind == 2:
                strain = np.zeros((3, 3))
                strain[:2, :2] = rng.uniform(-0.03, 0.03, (2, 2))
                atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
            found.append((kind, atoms))
    return found


def adsorbed(atoms: Atoms, tags: np.ndarray) -> bool:
    """Whether the adsorbate is on the surface, neither inside nor gone, and in one piece."""
    above = atoms.positions[tags == 2, 2].min() - atoms.positions[tags < 2, 2].max()
    index = np.flatnonzero(tags == 2)
    whole = len(index) == 1 or atoms.get_distance(*index, mic=True) < 1.6
    return -1.5 < above < 2.5 and whole


def label(atoms: Atoms) -> tuple[np.ndarray, float, np.ndarray, np.ndarray, np.ndarray]:
    """Positions on the grid, and energy, forces, stress there."""
    atoms = Atoms(
        atoms.numbers, np.round(atoms.positions / GRID) * GRID, cell=atoms.cell[:], pbc=True, calculator=EMT()
    )
    stress = atoms.get_stress(voigt=False)
    return atoms.positions, atoms.get_potential_energy(), atoms.get_forces(), stress, atoms.cell[:]


def make(job: tuple[str, int]) -> tuple[System, list[tuple]]:
    """One system with its labelled frames; draws again until one is good."""
    split, number = job
    rng = np.random.default_rng([list(SPLITS).index(split), number])
    _, counts, *unseen = SPLITS[split]
    while True:
        system = draw(rng, *unseen)
        found = frames(rng, system, counts)
        if found is None:
            continue
        labels = [(kind, *label(atoms)) for kind, atoms in found]
        if max(np.abs(forces).max() for *_, forces, _, _ in labels) < 20:
            return system, labels


def check(system: System, labels: list[tuple], rng: np.random.Generator) -> float:
    """The largest difference between forces and stress and the slope of the energy, one atom of one frame."""
    _, pos, _, forces, stress, cell = labels[-1]

    def energy(moved: np.ndarray, strain: np.ndarray) -> float:
        turn = np.eye(3) + strain
        return energy_of(Atoms(system.start.numbers, (pos + moved) @ turn, cell=cell @ turn, pbc=True))

    h, none = 1e-3, np.zeros((3, 3))
    step = np.zeros_like(pos)
    step[rng.integers(len(pos)), rng.integers(3)] = h
    slope = -(energy(step, none) - energy(-step, none)) / (2 * h)
    strain = np.zeros((3, 3))
    strain[0, 0] = h
    pull = (energy(0 * pos, strain) - energy(0 * pos, -strain)) / (2 * h * abs(np.linalg.det(cell)))
    return max(abs(slope - float((forces * step).sum() / h)), abs(pull - stress[0, 0]))


def build() -> None:
    jobs = [(split, k) for split, (count, *_) in SPLITS.items() for k in range(count)]
    with ProcessPoolExecutor(1) as pool:
        made = list(tqdm(pool.map(make, jobs), total=len(jobs), desc="systems", mininterval=5.0))
    systems = [system for system, _ in made]
    rows = [(k, *frame) for k, (_, labels) in enumerate(made) for frame in labels]
    of_system = np.array([list(SPLITS).index(split) for split, _ in jobs], dtype=np.uint8)
    sid, kind, pos, energy, forces, stress, cell = zip(*rows, strict=True)
    path = HERE / "slabs.npz"
    write_npz(
        path,
        {
            "splits": np.array(list(SPLITS)),
            "name": np.array([system.name for system in systems]),
            "split": of_system,
            "natoms": np.array([len(system.start) for system in systems], dtype=np.uint8),
            "z": np.concatenate([system.start.numbers for system in systems]).astype(np.uint8),
            "tags": np.concatenate([system.tags for system in systems]).astype(np.uint8),
            "reference": np.array([system.reference for system in systems]),
            "sid": np.array(sid, dtype=np.uint16),
            "kind": np.array(kind, dtype=np.uint8),
            "pos": np.concatenate(pos).astype(np.float32),
            "energy": np.array(energy),
            "forces": (np.concatenate(forces) / 2.0**-15).round().astype(np.int32),
            "stress": np.array(stress, dtype=np.float32),
            "cell": np.array(cell),
        },
    )
    rng = np.random.default_rng(0)
    worst = max(check(*made[k], rng) for k in range(0, len(made), 8))
    assert worst < 2e-4, f"forces or stress differ from the slope of the energy by {worst}"
    print(f"{len(systems)} systems, {len(rows)} frames; forces and stress against slopes {worst:.1e}")
    for split, (count, *_) in SPLITS.items():
        of = [k for k, (s, _) in enumerate(jobs) if s == split]
        ads = np.array([energy[r] - systems[sid[r]].reference for r in range(len(rows)) if sid[r] in set(of)])
        f = np.concatenate([forces[r] for r in range(len(rows)) if sid[r] in set(of)])
        spread = f"energy - reference {ads.mean():.2f} +- {ads.std():.2f} eV, force std {f.std():.2f} eV/A"
        print(f"  {split}: {count} systems, {len(ads)} frames, {spread}")
    print(f"{path.name}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    build()

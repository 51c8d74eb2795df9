"""Makes ``NAME.npz``: frames of GFN2-xTB Langevin dynamics of small molecules, with energies, forces, dipoles.

Needs tblite and ase (``pip install 'geomeq[data]'``). Run from the top of the repository, for all molecules or some::

    OMP_NUM_THREADS=1 python datasets/md/build.py [ethanol acetamide]

Training and test frames come from two trajectories with random numbers of their own, one process each. About four
minutes a molecule on two cores. Trajectories are chaotic: another machine gives other frames of the same distribution,
so the sha256 and size in ``geomeq/datasets/_registry.py`` have to follow.
"""

import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.langevin import Langevin
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation
from tblite.ase import TBLite
from tqdm import trange

from geomeq.datasets._raw import sha256_of, write_npz

HERE = Path(__file__).parent
TEMPERATURE = 500.0  # K
STEP = 0.5 * units.fs
FRICTION = 0.02 / units.fs  # velocities are forgotten in 50 fs
STEPS_BETWEEN_FRAMES = 200  # 100 fs
STEPS_BEFORE_FIRST = 4000  # 2 ps
FRAMES = {"train": 1000, "test": 500}


def start(name: str) -> Atoms:
    """A molecule near its minimum."""
    return molecule({"ethanol": "CH3CH2OH", "acetamide": "CH3CONH2"}[name])


def calculator() -> TBLite:
    return TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)


def trajectory(atoms: Atoms, frames: int, seed: int, label: str) -> np.ndarray:
    """Positions ``[frames, n, 3]`` float32, centred, every 100 fs."""
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.calc = calculator()
    spread = np.sqrt(units.kB * TEMPERATURE / atoms.get_masses())[:, None]
    atoms.set_velocities(spread * rng.standard_normal((len(atoms), 3)))
    dynamics = Langevin(atoms, STEP, temperature_K=TEMPERATURE, friction=FRICTION, fixcm=False, rng=rng)
    dynamics.run(STEPS_BEFORE_FIRST)
    found = []
    for _ in trange(frames, desc=label, mininterval=5.0):
        dynamics.run(STEPS_BETWEEN_FRAMES)
        found.append(atoms.positions - atoms.positions.mean(axis=0))
    return np.array(found, dtype=np.float32)


def label(atoms: Atoms, pos: np.ndarray) -> dict[str, np.ndarray]:
    """Energies, forces and dipoles at exactly the stored (rounded) positions."""
    energy, forces, dipole = [], [], []
    for frame in pos:
        e, f, d = single_point(atoms, frame)
        energy.append(e)
        forces.append(f)
        dipole.append(d)
    return {
        "pos": pos,
        "energy": np.array(energy),
        "forces": np.array(forces, dtype=np.float32),
        "dipole": np.array(dipole, dtype=np.float32),
    }


def single_point(atoms: Atoms, pos: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Energy (eV), forces (eV/Angstrom), dipole (e Angstrom)."""
    frame = Atoms(atoms.numbers, np.asarray(pos, dtype=np.float64), calculator=calculator())
    return frame.get_potential_energy(), frame.get_forces(), frame.get_dipole_moment()


def check(atoms: Atoms, part: dict[str, np.ndarray]) -> None:
    """Stops unless forces are minus the slope of the energy, sum to zero, and the dipole turns with the molecule."""
    net = np.abs(part["forces"].sum(axis=1)).max()
    assert net < 1e-5, f"net force {net} eV/A"
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    for k in (0, len(part["pos"]) // 2):
        pos = part["pos"][k].astype(np.float64)
        slope = np.array([[difference(atoms, pos, i, a) for a in range(3)] for i in range(len(atoms))])
        error = np.abs(part["forces"][k] + slope).max()
        assert error < 1e-4, f"forces differ from the slope of the energy by {error} eV/A"
        _, _, dipole = single_point(atoms, pos @ turn.T)
        off = np.abs(dipole - turn @ part["dipole"][k]).max()
        assert off < 1e-5, f"dipole turns wrong by {off} e A"
    print(f"net force {net:.1e}, force against slope {error:.1e} eV/A, dipole rotation {off:.1e} e A")


def difference(atoms: Atoms, pos: np.ndarray, i: int, axis: int, h: float = 1e-3) -> float:
    step = np.zeros_like(pos)
    step[i, axis] = h
    return (single_point(atoms, pos + step)[0] - single_point(atoms, pos - step)[0]) / (2 * h)


def make_split(name: str, split: str) -> dict[str, np.ndarray]:
    """One trajectory with its labels."""
    atoms = start(name)
    atoms.calc = calculator()
    BFGS(atoms, logfile=None).run(fmax=0.01)
    seed = 1000 * sorted(NAMES).index(name) + list(FRAMES).index(split)
    part = label(atoms, trajectory(atoms, FRAMES[split], seed, f"{name}, {split}"))
    check(atoms, part)
    energy, forces = part["energy"], part["forces"]
    lag = np.corrcoef(energy[1:], energy[:-1])[0, 1]
    print(f"{name} {split}: energy {energy.mean():.3f} +- {energy.std():.3f} eV, force std {forces.std():.3f} eV/A")
    print(f"  correlation of neighbouring frames' energies {lag:.2f}", flush=True)
    return part


def build(name: str) -> None:
    with ProcessPoolExecutor() as pool:
        parts = pool.map(make_split, [name] * len(FRAMES), FRAMES)
        named = {f"{split}_{key}": a for split, part in zip(FRAMES, parts, strict=True) for key, a in part.items()}
    path = HERE / f"{name}.npz"
    write_npz(path, {"z": start(name).numbers.astype(np.uint8), **named})
    print(f"{path.name}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}", flush=True)


NAMES = ("ethanol", "acetamide")

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    for chosen in sys.argv[1:] or NAMES:
        build(chosen)

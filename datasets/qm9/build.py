"""Makes ``qm9_subset.npz``: a seeded choice of 5,000 molecules of QM9.

Needs the package qm9pack (``pip install --no-deps qm9pack==1.0.3``). Run from the top of the repository::

    python datasets/qm9/build.py

The file is the same byte for byte each time. Its sha256 and size go into ``geomeq/datasets/_registry.py``.
"""

import sys
from pathlib import Path

import numpy as np

from geomeq.datasets import _qm9_source as source
from geomeq.datasets._raw import sha256_of, write_npz

SIZE, SEED = 5_000, 0
OUT = Path(__file__).with_name("qm9_subset.npz")


def main() -> None:
    molecules = source.read_csv(source.find_csv(Path("raw")))
    if len(molecules.idx) != source.NUM_MOLECULES or (np.diff(molecules.idx) <= 0).any():
        sys.exit(f"expected {source.NUM_MOLECULES} molecules sorted by index, got {len(molecules.idx)}")
    chosen = np.sort(np.random.default_rng(SEED).choice(source.NUM_MOLECULES, SIZE, replace=False))
    molecule_of_atom = np.repeat(np.arange(len(molecules.count)), molecules.count)
    atoms = np.isin(molecule_of_atom, chosen)
    arrays: dict[str, np.ndarray] = {
        "idx": molecules.idx[chosen].astype(np.int32),
        "count": molecules.count[chosen].astype(np.uint8),
        "z": molecules.z[atoms],
        "pos": molecules.pos[atoms],
        "raw": molecules.raw[chosen],
        "smiles": np.frombuffer("\n".join(molecules.smiles[i] for i in chosen).encode("ascii"), dtype=np.uint8),
        # the 3,054 molecules that QM9's authors found to be unreliable: needed for the published split
        "excluded": np.setdiff1d(np.arange(source.NUM_GDB9), molecules.idx).astype(np.int32),
    }
    write_npz(OUT, arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}")


if __name__ == "__main__":
    main()

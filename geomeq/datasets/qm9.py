"""QM9: equilibrium geometries and 19 properties of small organic molecules."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.datasets import _qm9_source as source
from geomeq.datasets._bonds import covalent_bonds
from geomeq.datasets._cached import CachedDataset

HARTREE = 27.211386246  # eV, the value PyG uses
ELEMENTS = (1, 6, 7, 8, 9)

#: Energies of the free atoms H, C, N, O, F: Hartree for U0, U, H, G; cal/(mol K) for Cv.
ATOM_REFERENCES = {
    "U0": (-0.500273, -37.846772, -54.583861, -75.064579, -99.718730),
    "U": (-0.498857, -37.845355, -54.582445, -75.063163, -99.717314),
    "H": (-0.497912, -37.844411, -54.581501, -75.062219, -99.716370),
    "G": (-0.510927, -37.861317, -54.598897, -75.079532, -99.733544),
    "Cv": (2.981, 2.981, 2.981, 2.981, 2.981),
}

_NAMES = (
    *("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv"),
    *("U0_atom", "U_atom", "H_atom", "G_atom", "A", "B", "C"),
)
_UNITS = (
    *("D", "bohr^3", "eV", "eV", "eV", "bohr^2", "eV", "eV", "eV", "eV", "eV", "cal/(mol K)"),
    *("eV", "eV", "eV", "eV", "GHz", "GHz", "GHz"),
)
_FULL_TRAIN, _FULL_VALID = 110_000, 10_000


class QM9(CachedDataset):
    r"""Molecules of up to nine atoms C, N, O, F (and hydrogens): B3LYP geometry and 19 properties.

    A drop-in for :class:`torch_geometric.datasets.QM9`: same attributes, same targets in the same order and
    units. ``QM9()`` is the full set, 130,831 molecules (133,885 less the 3,054 whose geometry check failed), read
    from the package ``qm9pack``; ``QM9(subset=True)`` is a uniform seeded choice of 5,000 of them that comes with
    geomeq. The two agree bit by bit where they overlap.

    Attributes of a molecule with ``n`` atoms:
        - ``z`` ``[n]``: atomic numbers. ``x`` ``[n, 5]``: the same one-hot, in the order H, C, N, O, F.
        - ``pos`` ``[n, 3]``: Angstrom.
        - ``y`` ``[1, 19]``: the targets below.
        - ``edge_index`` ``[2, E]``: covalent bonds, both directions, sorted by target, then source.
        - ``smiles``: as in QM9's own file. ``name``: ``"gdb_1"`` for methane. ``idx`` ``[1]``: place in GDB9, from 0.

    =====  =====================================================  ===========
    index  target                                                 unit
    =====  =====================================================  ===========
    0      ``mu``, norm of the dipole moment                      D
    1      ``alpha``, isotropic polarizability                    bohr^3
    2-4    ``homo``, ``lumo``, ``gap``                            eV
    5      ``r2``, electronic spatial extent                      bohr^2
    6      ``zpve``, zero point vibrational energy                eV
    7-10   ``U0``, ``U``, ``H``, ``G`` (0 K; 298.15 K)            eV
    11     ``Cv``, heat capacity at 298.15 K                      cal/(mol K)
    12-15  ``U0_atom``, ``U_atom``, ``H_atom``, ``G_atom``        eV
    16-18  rotational constants ``A``, ``B``, ``C``               GHz
    =====  =====================================================  ===========

    What differs from PyG's class, and why: ``x`` has five columns instead of eleven and there is no ``edge_attr``,
    since aromaticity, hybridisation and bond orders come from RDKit, and the content of a data set must not depend
    on what is installed. Bonds are found from distances (less than 1.15 times the sum of covalent radii; their
    number differs from the one the SMILES implies in 44 molecules of the full set), and they are sorted by target.
    ``smiles`` is not the canonical form of RDKit. Energies are converted in float64 and only then rounded to
    float32, 1 Hartree = 27.211386246 eV; the atomization energies (12-15) are differences taken in float64, from
    ``U0`` ... ``G`` and the atom references, so prefer them to 7-10, whose float32 spacing is about 1 meV.
    ``atomref(11)`` gives the heat capacity of the free atom (PyG: 0).

    Args:
        root: Folder of raw and processed files; default: the cache folder.
        subset: The bundled 5,000 molecules instead of the full set.
        transform: Applied to a molecule at every access.
        pre_transform: Applied to every molecule once; the result is stored.
        pre_filter: Keeps the molecules for which it returns true.
        force_reload: Build again even if a processed file is there.

    Raises:
        FileNotFoundError: If the full set is not to be found; the message says how to get it.
        ValueError: If a raw file is damaged.

    Licence: QM9 is CC0 1.0; qm9pack, by one of its authors, is MIT.

    Source: Ramakrishnan, Dral, Rupp, von Lilienfeld (2014), https://doi.org/10.1038/sdata.2014.22; molecules from
    GDB-17, Ruddigkeit et al. (2012), https://doi.org/10.1021/ci300415d

    Example:
        >>> from geomeq.datasets import QM9
        >>> QM9(subset=True)  # doctest: +SKIP
        QM9(5000, subset=True)
    """

    version = "1"
    targets = _NAMES
    units = _UNITS

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
        *,
        subset: bool = False,
    ) -> None:
        self.subset = subset
        super().__init__(root, transform, pre_transform, pre_filter, force_reload)

    def settings(self) -> dict[str, Any]:
        """The arguments that decide the content."""
        return {"subset": self.subset}

    def build(self) -> tuple[Data, dict[str, Tensor]]:
        """Reads the molecules and finds their bonds."""
        if self.subset:
            return _collate(source.read_subset())
        return _collate(source.read_csv(source.find_csv(Path(self.raw_dir))))

    def column(self, target: int | str) -> int:
        """The index of a target, given by name or index.

        Raises:
            ValueError: If there is no such target.
        """
        if isinstance(target, str):
            if target not in self.targets:
                raise ValueError(f"target must be one of {', '.join(self.targets)}, got {target!r}")
            return self.targets.index(target)
        if not 0 <= target < len(self.targets):
            raise ValueError(f"target must be a name or an index from 0 to {len(self.targets) - 1}, got {target}")
        return target

    def target(self, target: int | str) -> Tensor:
        """One target of all molecules of this (sub)set, ``[len(self)]``, in ``self.units[index]``.

        Raises:
            ValueError: If there is no such target, or ``pre_transform`` left other columns than the 19 in ``y``.
        """
        column, y = self.column(target), self._data.y
        check_shape("y", y, "M", len(self.targets), hint="pre_transform changed it; choose a target with transform=")
        return y[torch.as_tensor(list(self.indices())), column]

    def mean(self, target: int | str) -> float:
        """The mean of a target over this (sub)set."""
        return float(self.target(target).double().mean())

    def std(self, target: int | str) -> float:
        """The (unbiased) standard deviation of a target over this (sub)set."""
        return float(self.target(target).double().std())

    def atomref(self, target: int | str) -> Tensor | None:
        """What the free atoms contribute to a target.

        Args:
            target: Name or index.

        Returns:
            ``[100, 1]``, indexed by atomic number, in the target's unit: free-atom energies for ``U0``, ``U``, ``H``,
            ``G``, heat capacities for ``Cv``, zeros for ``zpve``; ``None`` for all other targets.
        """
        name = self.targets[self.column(target)]
        if name not in {*ATOM_REFERENCES, "zpve"}:
            return None
        out = torch.zeros(100, 1)
        if name in ATOM_REFERENCES:
            scale = 1.0 if name == "Cv" else HARTREE
            out[list(ELEMENTS), 0] = torch.tensor([scale * value for value in ATOM_REFERENCES[name]])
        return out

    def split(
        self, name: Literal["published", "cormorant", "random"] = "published", seed: int = 0
    ) -> tuple["QM9", "QM9", "QM9"]:
        """Splits into training, validation and test molecules.

        Args:
            name: ``"published"`` (or ``"cormorant"``): 100,000 / 17,748 / 13,083, the first, middle and last part of
                the permutation of the 130,831 molecules that ``numpy.random.RandomState(0)`` gives, as in the code
                of Cormorant, EGNN and SEGNN. A subset is split as the full set would be, so that no test molecule
                of the benchmark is ever among its training molecules. ``"random"``: a seeded permutation of what
                is there, 110,000 / 10,000 / 10,831 for the full set and 80 / 10 / 10 per cent otherwise.
            seed: Of the ``"random"`` split.

        Returns:
            Three data sets.

        Raises:
            ValueError: If the name is none of the above.
        """
        if name in ("published", "cormorant"):
            parts = self._published_parts()
        elif name == "random":
            parts = _random_parts(len(self), seed)
        else:
            raise ValueError(f"name must be 'published' (also called 'cormorant') or 'random', got {name!r}")
        train, valid, test = (self.index_select(torch.from_numpy(part)) for part in parts)
        return train, valid, test  # type: ignore[return-value]

    def _published_parts(self) -> list[np.ndarray]:
        order = np.random.RandomState(0).permutation(source.NUM_MOLECULES)
        rank = np.argsort(order)[source.full_row(self._data.idx.numpy()[np.array(self.indices())])]
        bounds = np.array([100_000, 117_748])
        part = np.searchsorted(bounds, rank, side="right")
        return [np.nonzero(part == k)[0] for k in range(3)]

    def __repr__(self) -> str:
        return f"QM9({len(self)}, subset={self.subset})"


def _random_parts(size: int, seed: int) -> list[np.ndarray]:
    full = size == source.NUM_MOLECULES
    train, valid = (_FULL_TRAIN, _FULL_VALID) if full else (round(0.8 * size), round(0.1 * size))
    return np.split(np.random.default_rng(seed).permutation(size), [train, train + valid])


def _collate(molecules: source.Molecules) -> tuple[Data, dict[str, Tensor]]:
    """All molecules as one ``Data`` and where each begins: what PyG's collate would give, without 130,831 objects."""
    z = torch.from_numpy(molecules.z.astype(np.int64))
    edges, edge_count = covalent_bonds(molecules.z, molecules.pos, molecules.count)
    data = Data(
        x=(z[:, None] == torch.tensor(ELEMENTS)).float(),
        edge_index=torch.from_numpy(edges),
        y=torch.from_numpy(_properties(molecules).astype(np.float32)),
        pos=torch.from_numpy(molecules.pos),
        z=z,
        smiles=molecules.smiles,
        name=[f"gdb_{index + 1}" for index in molecules.idx],
        idx=torch.from_numpy(molecules.idx),
    )
    nodes, bonds = _starts(molecules.count), _starts(edge_count)
    each = torch.arange(len(molecules.idx) + 1)
    slices = dict.fromkeys(("x", "pos", "z"), nodes) | {"edge_index": bonds}
    return data, slices | dict.fromkeys(("y", "smiles", "name", "idx"), each)


def _starts(count: np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(count)]))


def _properties(molecules: source.Molecules) -> np.ndarray:
    """The 19 targets ``[M, 19]`` in PyG's order and units, float64."""
    raw = molecules.raw
    start = np.concatenate([[0], np.cumsum(molecules.count)[:-1]])
    atoms = np.stack([np.add.reduceat((molecules.z == e).astype(np.int64), start) for e in ELEMENTS], axis=1)
    free = np.array([ATOM_REFERENCES[name] for name in ("U0", "U", "H", "G")])  # [4, 5] Hartree
    thermal = raw[:, 7:11]
    y = np.concatenate([raw[:, :12], thermal - atoms @ free.T, raw[:, 12:]], axis=1)
    y[:, [2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15]] *= HARTREE
    return y

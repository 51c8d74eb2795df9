"""Molecular dynamics: energies and forces of one molecule in many geometries."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets import _md_source as source
from geomeq.datasets._cached import CachedDataset


class MD(CachedDataset):
    r"""Geometries of one molecule with energies and forces, from molecular dynamics.

    Four sources, all converted to the same attributes:

    ``source="gfn2"`` (comes with geomeq)
        ``molecule``: ``"ethanol"`` or ``"acetamide"``, 9 atoms each. GFN2-xTB, Langevin
        dynamics at 500 K, a frame every 100 fs, 1,000 training and 500 test frames from two trajectories with random
        numbers of their own. The only source with dipole vectors. Licence: CC0 1.0; made by ``datasets/md/build.py``
        with tblite and ase.
    ``source="rmd17"``
        Revised MD17, PBE/def2-SVP, the published split 01: 1,000 training and 1,000 test frames of ``"aspirin"``,
        ``"azobenzene"``, ``"benzene"``, ``"ethanol"``, ``"malonaldehyde"``, ``"naphthalene"``, ``"paracetamol"``,
        ``"salicylic"``, ``"toluene"`` or ``"uracil"``. Licence: CC0 1.0.
    ``source="3bpa"``
        ``molecule="3bpa"``, 27 atoms; splits ``"train_300K"`` (also called ``"train"``) and ``"train_mixedT"``, 500
        frames each. Licence: MIT.
    ``source="acac"``
        ``molecule="acac"``, acetylacetone, 15 atoms; splits ``"train_300K"`` (``"train"``), ``"train_600K"`` (500
        frames), ``"test_MD_300K"`` (``"test"``), ``"test_MD_600K"`` (650 frames), and without forces
        ``"test_dihedral"`` (45 frames) and ``"test_H_transfer"`` (15 frames). Licence: MIT.

    The last three are read from ``rmd17/NAME.npz``, ``3bpa/3bpa.npz``, ``acac/acac.npz`` below the folder that the
    environment variable ``GEOMEQ_DATA`` names, or from ``NAME.npz`` in ``raw/``.

    Attributes of a frame with ``n`` atoms:
        - ``z`` ``[n]``: atomic numbers. ``pos`` ``[n, 3]``: Angstrom, float32.
        - ``energy`` ``[1]``: total energy, eV, float64, since float32 would round it to 0.5 meV or worse. Subtract
          :attr:`mean_energy` of the training frames before going to float32.
        - ``force`` ``[n, 3]``: minus the slope of the energy, eV/Angstrom, float32.
        - ``dipole`` ``[1, 3]``: e Angstrom (1 e Angstrom = 4.80320 D), float32, ``gfn2`` only. It does not depend
          on the origin: the molecules are neutral.

    Edges are left to transforms, such as ``CutoffGraph``.

    Args:
        molecule: One that the source has.
        split: ``"train"`` or ``"test"``, or a name that the source has.
        root: Folder of raw and processed files; default: the cache folder.
        source: ``"gfn2"``, ``"rmd17"``, ``"3bpa"`` or ``"acac"``.
        energy_unit: ``"eV"`` (forces: eV/Angstrom) or ``"kcal/mol"`` (kcal/mol/Angstrom).
        transform: Applied to a frame at every access.
        pre_transform: Applied to every frame once; the result is stored.
        pre_filter: Keeps the frames for which it returns true.
        force_reload: Build again even if a processed file is there.

    Raises:
        ValueError: If source, molecule, split or unit do not exist, or a raw file is damaged.
        FileNotFoundError: If the file of a source is not to be found.

    Source: GFN2-xTB: Bannwarth, Ehlert, Grimme (2019), https://doi.org/10.1021/acs.jctc.8b01176; rMD17: Christensen
    and von Lilienfeld (2020), https://doi.org/10.1088/2632-2153/abba6f; 3BPA: Kovács et al. (2021),
    https://doi.org/10.1021/acs.jctc.1c00647; acetylacetone: Batatia et al. (2022), https://arxiv.org/abs/2205.06643

    Example:
        >>> from geomeq.datasets import MD
        >>> MD("ethanol")[0]  # doctest: +SKIP
        Data(z=[9], pos=[9, 3], energy=[1], force=[9, 3], dipole=[1, 3])
    """

    version = "1"

    def __init__(
        self,
        molecule: str,
        split: str = "train",
        root: str | os.PathLike[str] | None = None,
        source: Literal["gfn2", "rmd17", "3bpa", "acac"] = "gfn2",
        energy_unit: Literal["eV", "kcal/mol"] = "eV",
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
    ) -> None:
        self.source, self.molecule, self.split = _resolve(source, molecule, split)
        if energy_unit not in ("eV", "kcal/mol"):
            raise ValueError(f"energy_unit must be 'eV' or 'kcal/mol', got {energy_unit!r}")
        self.energy_unit = energy_unit
        super().__init__(root, transform, pre_transform, pre_filter, force_reload)

    def settings(self) -> dict[str, Any]:
        """The arguments that decide the content."""
        return {name: getattr(self, name) for name in ("source", "molecule", "split", "energy_unit")}

    def build(self) -> tuple[Data, dict[str, Tensor]]:
        """Reads the frames and converts their units."""
        arrays = source.read(self.source, self.molecule, self.split, Path(self.raw_dir))
        scale = source.UNIT_IN_EV[source.SOURCES[self.source].energy_unit] / source.UNIT_IN_EV[self.energy_unit]
        frames, atoms = arrays["pos"].shape[:2]
        data = Data(
            z=torch.from_numpy(arrays["z"].astype(np.int64)).repeat(frames),
            pos=torch.from_numpy(arrays["pos"].reshape(-1, 3)),
            energy=torch.from_numpy(arrays["energy"] * scale),
        )
        nodes, each = torch.arange(frames + 1) * atoms, torch.arange(frames + 1)
        slices = {"z": nodes, "pos": nodes, "energy": each}
        if "forces" in arrays:
            forces = arrays["forces"].astype(np.float64).reshape(-1, 3) * scale
            data.force, slices["force"] = torch.from_numpy(forces.astype(np.float32)), nodes
        if "dipole" in arrays:
            data.dipole, slices["dipole"] = torch.from_numpy(arrays["dipole"]), each
        return data, slices

    @property
    def mean_energy(self) -> float:
        """The mean of ``energy`` over the frames of this (sub)set, in its unit."""
        return float(self._data.energy[torch.as_tensor(list(self.indices()))].mean())

    def __repr__(self) -> str:
        return f"MD({len(self)}, molecule={self.molecule!r}, split={self.split!r}, source={self.source!r})"


def _resolve(name: str, molecule: str, split: str) -> tuple[str, str, str]:
    """Checks that source, molecule and split exist, and turns the short name of a split into the full one."""
    if name not in source.SOURCES:
        raise ValueError(f"source must be one of {', '.join(map(repr, source.SOURCES))}, got {name!r}")
    entry = source.SOURCES[name]
    if molecule not in entry.molecules:
        raise ValueError(f"molecule must be one of {', '.join(map(repr, entry.molecules))} of {name}, got {molecule!r}")
    full = entry.short.get(split, split)
    if full not in entry.splits:
        known = (*entry.splits, *entry.short)
        raise ValueError(f"split must be one of {', '.join(map(repr, known))} of {name}, got {split!r}")
    return name, molecule, full

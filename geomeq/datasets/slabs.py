"""Adsorbates on metal slabs: a toy in the form of OC20, from effective medium theory."""

import os
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq.datasets._cached import CachedDataset
from geomeq.datasets._raw import load_npz, require_keys
from geomeq.datasets._registry import REINSTALL, bundled

_SPLITS = ("train", "val_id", "val_ood_ads", "val_ood_cat", "val_ood_both")
_FORCE_STEP = 2.0**-15  # eV/Angstrom, unit of the stored integers
_KEYS = ("splits", "name", "split", "natoms", "z", "tags", "reference", "sid", "kind", "pos", "energy", "forces")
RELAXATION, RATTLED, STRAINED = 0, 1, 2


class Slabs(CachedDataset):
    r"""Periodic slab, adsorbate and fixed lower layers in the form of OC20: a toy, since the energies are EMT's.

    Metals Cu, Ni, Pd, Ag, Pt, Au, Al and random alloys of two of them; facets 111, 100, 110, 211; 13 to 29 atoms;
    adsorbates H, C, N, O, OH, CO, NH, and in the last splits CH, NO, N2. Frames are steps of the relaxation from a bad
    start, structures moved at random, and such in a strained cell. Effective medium theory describes the metals fairly
    and the adsorbates crudely: use the set to test code and to compare models, not to learn chemistry.

    ================  =======  ==========================================================================
    split             systems  what is new in it
    ================  =======  ==========================================================================
    ``train``         150
    ``val_id``        25       systems drawn as those for training
    ``val_ood_ads``   20       adsorbates (of elements seen in training)
    ``val_ood_cat``   20       alloys (of metals seen in training)
    ``val_ood_both``  15       both
    ``val_ood``       55       the last three together
    ================  =======  ==========================================================================

    Attributes of a frame with ``n`` atoms:
        - ``z`` ``[n]``: atomic numbers. ``pos`` ``[n, 3]``: Angstrom, float32. ``tags`` ``[n]``: 0 lower layers,
          1 surface, 2 adsorbate. ``fixed`` ``[n]`` bool: atoms that do not move, those with tag 0.
        - ``cell`` ``[1, 3, 3]``: rows, Angstrom, float32; ``pbc`` ``[1, 3]``: true (14 Angstrom of vacuum).
        - ``energy`` ``[1]``: total energy, eV, float64. ``force`` ``[n, 3]``: eV/Angstrom, float32, of the fixed atoms
          too. ``stress`` ``[1, 3, 3]``: eV/Angstrom^3, float32, positive under tension, over the volume of the whole
          cell, vacuum included.
        - ``reference`` ``[1]``: energy of the relaxed clean slab (unstrained) plus that of the adsorbate alone, eV,
          float64; ``energy - reference`` is the adsorption energy where the frame is relaxed.
        - ``sid`` ``[1]``: the system, see :attr:`names`. ``kind`` ``[1]``: 0 relaxation, 1 moved at random, 2 strained.

    With ``task="IS2RE"`` there is one sample a system: the start, with ``pos_relaxed`` ``[n, 3]`` and
    ``energy_relaxed`` ``[1]`` (largest force 0.02 eV/Angstrom) instead of ``kind``.

    Edges are left to transforms: ``PeriodicGraph(6.0)`` sees all that EMT sees.

    Args:
        split: One of the above.
        root: Folder of raw and processed files; default: the cache folder.
        task: ``"S2EF"`` (structure to energy and forces, all frames) or ``"IS2RE"`` (initial structure to relaxed
            energy; the relaxed structure is there too).
        transform: Applied to a frame at every access.
        pre_transform: Applied to every frame once; the result is stored.
        pre_filter: Keeps the frames for which it returns true.
        force_reload: Build again even if a processed file is there.

    Raises:
        ValueError: If split or task do not exist, or the bundled file is damaged.

    Licence: CC0 1.0; made by ``datasets/slabs/build.py`` with ase.

    Source: EMT: Jacobsen, Stoltze, Nørskov (1996), https://doi.org/10.1016/0039-6028(96)00816-3; the form:
    Chanussot et al. (2021), https://arxiv.org/abs/2010.09990

    Example:
        >>> from geomeq.datasets import Slabs
        >>> Slabs("val_id").names[0]  # doctest: +SKIP
        'O on Cu(111) 2x2x4'
    """

    version = "1"

    def __init__(
        self,
        split: str = "train",
        root: str | os.PathLike[str] | None = None,
        task: Literal["S2EF", "IS2RE"] = "S2EF",
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
        force_reload: bool = False,
    ) -> None:
        if split not in (*_SPLITS, "val_ood"):
            raise ValueError(f"split must be one of {', '.join((*_SPLITS, 'val_ood'))}, got {split!r}")
        if task not in ("S2EF", "IS2RE"):
            raise ValueError(f"task must be 'S2EF' or 'IS2RE', got {task!r}")
        self.split, self.task = split, task
        super().__init__(root, transform, pre_transform, pre_filter, force_reload)

    def settings(self) -> dict[str, Any]:
        """The arguments that decide the content."""
        return {"split": self.split, "task": self.task}

    def build(self) -> tuple[Data, dict[str, Tensor]]:
        """Reads the frames of the split."""
        stored = _stored()
        wanted = [k for k, name in enumerate(_SPLITS) if name.startswith(self.split)]
        chosen = np.flatnonzero(np.isin(stored["split"][stored["sid"]], wanted))
        if self.task == "S2EF":
            data, slices = _frames(stored, chosen)
            data.kind = torch.from_numpy(stored["kind"][chosen].astype(np.int64))
            return data, {**slices, "kind": slices["sid"]}
        first, last = _ends(stored, chosen)
        data, slices = _frames(stored, first)
        relaxed, _ = _frames(stored, last)
        data.pos_relaxed, data.energy_relaxed = relaxed.pos, relaxed.energy
        return data, {**slices, "pos_relaxed": slices["pos"], "energy_relaxed": slices["energy"]}

    @property
    def names(self) -> tuple[str, ...]:
        """What each system is, by ``sid``: adsorbate, metals (with the per cent of the second), facet, size."""
        return tuple(str(name) for name in _stored()["name"])

    def __repr__(self) -> str:
        return f"Slabs({len(self)}, split={self.split!r}, task={self.task!r})"


def _stored() -> dict[str, np.ndarray]:
    path = bundled("slabs/slabs.npz")
    stored = load_npz(path, None, REINSTALL)
    require_keys(path, stored, *_KEYS, "stress", "cell")
    return stored


def _ends(stored: dict[str, np.ndarray], chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last frame of the relaxation of each system."""
    steps = chosen[stored["kind"][chosen] == RELAXATION]
    sid = stored["sid"][steps]
    new = np.flatnonzero(np.diff(sid, prepend=-1))
    return steps[new], steps[np.append(new[1:], len(steps)) - 1]


def _frames(stored: dict[str, np.ndarray], chosen: np.ndarray) -> tuple[Data, dict[str, Tensor]]:
    """The chosen frames end to end. Elements and tags are stored once a system."""
    sid = stored["sid"][chosen]
    counts = stored["natoms"].astype(np.int64)
    of_frame = _places(counts[stored["sid"]], chosen)
    of_system = _places(counts, sid)
    tags = stored["tags"][of_system].astype(np.int64)
    data = Data(
        z=torch.from_numpy(stored["z"][of_system].astype(np.int64)),
        pos=torch.from_numpy(stored["pos"][of_frame]),
        cell=torch.from_numpy(stored["cell"][chosen].astype(np.float32)),
        pbc=torch.ones(len(chosen), 3, dtype=torch.bool),
        energy=torch.from_numpy(stored["energy"][chosen]),
        force=torch.from_numpy((stored["forces"][of_frame] * _FORCE_STEP).astype(np.float32)),
        stress=torch.from_numpy(stored["stress"][chosen]),
        reference=torch.from_numpy(stored["reference"][sid]),
        tags=torch.from_numpy(tags),
        fixed=torch.from_numpy(tags == 0),
        sid=torch.from_numpy(sid.astype(np.int64)),
    )
    nodes = torch.from_numpy(np.append(0, counts[sid].cumsum()))
    each = torch.arange(len(chosen) + 1)
    per_atom = ("z", "pos", "force", "tags", "fixed")
    return data, {key: nodes if key in per_atom else each for key in data.keys()}  # noqa: SIM118


def _places(counts: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Rows of the chosen parts of an array in which part ``k`` has ``counts[k]`` rows."""
    begins = np.append(0, counts.cumsum())[chosen]
    wanted = counts[chosen]
    return np.repeat(begins - np.append(0, wanted.cumsum())[:-1], wanted) + np.arange(wanted.sum())

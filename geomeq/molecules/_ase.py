"""Structures from ASE and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from .._checks import check_shape

if TYPE_CHECKING:
    from ase import Atoms

# What ASE calls the per-atom arrays that only some structures have, and how to call them as attributes.
_ARRAYS = {
    "tags": "tags",
    "charges": "initial_charges",
    "magmoms": "initial_magmoms",
    "momenta": "momenta",
    "masses": "masses",
}
_RESULTS = {"energy": "energy", "force": "forces", "stress": "stress"}
_PROPERTIES = (*_RESULTS, "fixed", *_ARRAYS, "info")
_VOIGT = ((0, 5, 4), (5, 1, 3), (4, 3, 2))  # place of each entry in (xx, yy, zz, yz, xz, xy)


class AtomsInfo:
    """``atoms.info`` of one structure, read like a dict.

    No ``Mapping``, since PyG would join those of a batch entry by entry, and fail where structures hold different ones.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"AtomsInfo({', '.join(self._entries)})"

    def keys(self) -> Sequence[str]:
        """Names of the entries; with ``[]`` this makes ``dict(info)`` work."""
        return list(self._entries)

    def get(self, key: str, default: Any = None) -> Any:
        """An entry, or the default."""
        return self._entries.get(key, default)


def require_ase() -> None:
    """Raises with the install line if ASE is missing."""
    try:
        import ase  # noqa: F401
    except ImportError as error:
        raise ImportError("structures of ASE need ase: pip install 'geomeq[data]'") from error


def from_ase(
    atoms: "Atoms",
    properties: Sequence[str] | None = None,
    *,
    keys: Mapping[str, str] | None = None,
    with_cell: bool | None = None,
    dtype: torch.dtype = torch.float64,
) -> Data:
    r"""A graph without edges from an ``ase.Atoms``; :class:`geomeq.transforms.PeriodicGraph` adds them.

    Always there:
        - ``z`` ``[n]`` int64, ``pos`` ``[n, 3]`` Angstrom.
        - ``cell`` ``[1, 3, 3]`` (rows, Angstrom) and ``pbc`` ``[1, 3]`` bool, if the structure has a cell or repeats.

    There if the structure holds them:
        - ``energy`` ``[1]`` float64, eV; ``force`` ``[n, 3]``, eV/Angstrom; ``stress`` ``[1, 3, 3]``, eV/Angstrom^3,
          positive under tension: results of its calculator for exactly these positions; nothing is computed. Forces of
          fixed atoms are the true ones, not the zeros that ``atoms.get_forces()`` gives.
        - ``fixed`` ``[n]`` bool: atoms held by ``FixAtoms``. ``tags`` ``[n]`` int64 (OC20: 0 below, 1 surface, 2
          adsorbate). ``charges`` and ``magmoms`` ``[n]`` (or ``[n, 3]``): the initial ones. ``momenta`` ``[n, 3]`` and
          ``masses`` ``[n]`` in ASE's units. ``info``: a copy of ``atoms.info``.

    Graphs of one batch must have the same attributes: name them in ``properties`` where structures differ.

    Args:
        atoms: The structure.
        properties: Names of optional attributes to read; default: those that the structure holds. A named one without
            a value is filled in (nothing fixed; tags, charges, magnetic moments, momenta 0; masses of the elements),
            but energy, force and stress must be there.
        keys: Other names of energy, force or stress in the results of the calculator, ``atoms.info`` or
            ``atoms.arrays``, such as ``{"energy": "REF_energy", "force": "REF_forces"}``.
        with_cell: Whether ``cell`` and ``pbc`` are written even for a molecule (as zeros), so that it can be batched
            with crystals; default: only where there is one.
        dtype: Of all floating-point attributes but the energy.

    Raises:
        ImportError: If ASE is missing.
        TypeError: If ``atoms`` is no ``ase.Atoms``, or ``dtype`` not floating-point.
        ValueError: For unknown names, a property that is not there, or a constraint that a graph cannot hold.

    Example:
        >>> from ase.build import bulk
        >>> from_ase(bulk("Cu"))
        Data(pos=[1, 3], z=[1], cell=[1, 3, 3], pbc=[1, 3])
    """
    require_ase()
    _check_arguments(atoms, properties, keys)
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}, which would round positions")
    wanted = _PROPERTIES if properties is None else tuple(properties)
    data = Data(pos=_tensor(atoms.positions, dtype), z=torch.from_numpy(atoms.numbers.astype(np.int64)))
    if with_cell or (with_cell is None and (atoms.cell.any() or atoms.pbc.any())):
        data.cell = _tensor(atoms.cell.array, dtype)[None]
        data.pbc = torch.from_numpy(atoms.pbc.copy())[None]
    for name in _PROPERTIES:
        if name in wanted:
            value = _read(atoms, name, {**_RESULTS, **(keys or {})}, named=properties is not None)
            if isinstance(value, np.ndarray):
                value = _tensor(value, torch.float64 if name == "energy" else dtype)
            if value is not None:
                data[name] = value
    return data


def to_ase(data: Data) -> "Atoms | list[Atoms]":
    """The structure of a graph as ``ase.Atoms``, or a list of them for a ``Batch``: the way back of :func:`from_ase`.

    Args:
        data: ``z`` and ``pos``; ``cell``, ``pbc`` and all that :func:`from_ase` reads where they are there. Edges are
            left behind. Energy, force and stress become results of a ``SinglePointCalculator``. A cell without ``pbc``
            repeats in all directions.

    Raises:
        ImportError: If ASE is missing.
        ValueError: If ``z`` or ``pos`` is missing or an attribute has another shape.

    Example:
        >>> to_ase(Data(z=torch.tensor([8, 1, 1]), pos=torch.eye(3))).get_chemical_formula()
        'H2O'
    """
    require_ase()
    if isinstance(data, Batch):
        return [_to_atoms(part) for part in data.to_data_list()]
    return _to_atoms(data)


def _to_atoms(data: Data) -> "Atoms":
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    z, pos, cell, pbc = (data.get(name) for name in ("z", "pos", "cell", "pbc"))
    if z is None or pos is None:
        raise ValueError(f"ASE needs the elements z [n] and positions pos [n, 3], the data has {sorted(data.keys())}")
    check_shape("pos", pos, "n", 3)
    check_shape("z", z, pos.size(0))
    periodic = np.full(3, cell is not None) if pbc is None else np.broadcast_to(_numpy(torch.as_tensor(pbc)).ravel(), 3)
    atoms = Atoms(
        numbers=_numpy(z), positions=_numpy(pos), cell=None if cell is None else _numpy(cell.view(3, 3)), pbc=periodic
    )
    for name, array in _ARRAYS.items():
        value = data.get(name)
        if value is not None:
            check_shape(name, value, pos.size(0), *value.shape[1:])
            atoms.set_array(array, _numpy(value))
    if data.get("fixed") is not None:
        check_shape("fixed", data["fixed"], pos.size(0))
        if bool(data["fixed"].any()):
            atoms.set_constraint(FixAtoms(mask=_numpy(data["fixed"].bool())))
    if data.get("info") is not None:
        atoms.info = dict(data["info"])
    results = _results(data, pos.size(0))
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def _results(data: Data, num_atoms: int) -> dict[str, Any]:
    """What a calculator of ASE would hold."""
    results: dict[str, Any] = {}
    energy, force, stress = (data.get(name) for name in _RESULTS)
    if energy is not None:
        results["energy"] = float(torch.as_tensor(energy))
    if force is not None:
        check_shape("force", force, num_atoms, 3)
        results["forces"] = _numpy(force)
    if stress is not None:
        results["stress"] = to_voigt(stress.view(3, 3))
    return results


def to_voigt(stress: Tensor) -> np.ndarray:
    """A stress ``[3, 3]`` in ASE's order: xx, yy, zz, yz, xz, xy."""
    matrix = _numpy((stress + stress.mT) / 2)
    return matrix[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def _check_arguments(atoms: Any, properties: Sequence[str] | None, keys: Mapping[str, str] | None) -> None:
    from ase import Atoms

    if not isinstance(atoms, Atoms):
        hint = "; take the frames one by one" if isinstance(atoms, (list, tuple)) else ""
        raise TypeError(f"from_ase needs an ase.Atoms, got {type(atoms).__name__}{hint}")
    if isinstance(properties, str):
        raise TypeError(f"properties must be a list of names, got the string {properties!r}; write [{properties!r}]")
    for given, known, what in ((properties or (), _PROPERTIES, "properties"), (keys or (), _RESULTS, "keys")):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(f"{what} must be among {', '.join(known)}, got {', '.join(map(str, unknown))}")


def _read(atoms: "Atoms", name: str, keys: Mapping[str, str], named: bool) -> Any:
    """An optional attribute: an array for floating-point numbers, a tensor for others, ``None`` if it is not there."""
    if name in _RESULTS:
        return _read_result(atoms, name, keys[name], named)
    if name == "info":
        return AtomsInfo(atoms.info) if atoms.info or named else None
    if name == "fixed":
        return _read_fixed(atoms, named)
    if not (named or atoms.has(_ARRAYS[name])):
        return None
    value = atoms.get_initial_magnetic_moments() if name == "magmoms" else getattr(atoms, f"get_{_ARRAYS[name]}")()
    return torch.from_numpy(value.astype(np.int64)) if name == "tags" else value


def _read_result(atoms: "Atoms", name: str, key: str, named: bool) -> np.ndarray | None:
    from ase.calculators.calculator import PropertyNotImplementedError

    value = None
    if atoms.calc is not None:
        try:
            value = atoms.calc.get_property(key, atoms, allow_calculation=False)
        except PropertyNotImplementedError:
            value = None
    if value is None:
        value = atoms.info.get(key, atoms.arrays.get(key))
    if value is None:
        if named or key != _RESULTS[name]:
            raise ValueError(
                f"the structure {atoms.get_chemical_formula()} has no {key!r} to read as {name}: neither a result of "
                "its calculator for these positions nor in atoms.info or atoms.arrays; compute it first, or name the "
                "properties to read without it"
            )
        return None
    try:
        value = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{key!r} must hold numbers to be read as {name}, got {value!r}") from None
    if name == "energy":
        if value.size != 1:
            raise ValueError(f"{key!r} must be one number to be read as energy, got shape {list(value.shape)}")
        return value.reshape(1)
    if name == "force":
        if value.shape != (len(atoms), 3):
            raise ValueError(f"{key!r} must have shape [{len(atoms)}, 3], got {list(value.shape)}")
        return value
    if value.size not in (6, 9):
        raise ValueError(f"{key!r} must have 6 entries (xx, yy, zz, yz, xz, xy) or [3, 3], got {list(value.shape)}")
    return (value[np.array(_VOIGT)] if value.size == 6 else value.reshape(3, 3))[None]


def _read_fixed(atoms: "Atoms", named: bool) -> Tensor | None:
    from ase.constraints import FixAtoms

    fixed = torch.zeros(len(atoms), dtype=torch.bool, device="cpu")
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ValueError(
                f"a graph holds fixed atoms (FixAtoms) only, not {type(constraint).__name__}; remove it with "
                "atoms.set_constraint(), or name the properties to read without 'fixed'"
            )
        fixed[torch.from_numpy(constraint.get_indices())] = True
    return fixed if named or atoms.constraints else None


def _tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.array(array, order="C")).to(dtype)  # a copy


def _numpy(tensor: Tensor) -> np.ndarray:
    array = tensor.detach().cpu().numpy()
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array

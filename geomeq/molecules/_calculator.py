"""Energy models as calculators of ASE."""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from ..neighbors import tie_tolerance
from ._ase import require_ase, to_voigt
from ._edge_list import EdgeList, check_cap, nearest, read_lattice
from ._verlet import VerletList

if TYPE_CHECKING:
    from ase import Atoms

_CHANGES = ("positions", "numbers", "cell", "pbc", "initial_charges", "initial_magmoms")
_NODE_ARRAYS = {"tags": "tags", "charges": "initial_charges", "magmoms": "initial_magmoms"}


class GeomeqCalculator:
    r"""An ``ase`` calculator of any energy model: relaxations, molecular dynamics, phonons, equations of state.

    The model is called with a ``Data`` of ``z`` ``[N]``, ``pos`` ``[N, 3]``, for periodic structures ``cell``
    ``[1, 3, 3]`` and ``pbc`` ``[1, 3]``, ``edge_index`` and ``shift`` of all neighbours within the cutoff, and
    ``tags``, ``charges``, ``magmoms`` where the atoms have them. It returns a dict with ``energy`` ``[1]`` (eV),
    ``forces`` ``[N, 3]`` (eV/Angstrom) and perhaps ``stress`` ``[1, 3, 3]`` (eV/Angstrom^3, positive under tension) and
    ``energies`` ``[N]``, as :class:`geomeq.models.ESCN`, :class:`~geomeq.models.SCN` and a
    :class:`~geomeq.models.Potential` around any other network do.

    Properties: ``energy``, ``free_energy`` (the same), ``forces``; ``stress`` and ``energies`` if the model gives them.
    All come from one call and are kept until the atoms change, by ASE's rules. Positions passed to the model may differ
    from those of the atoms by cell vectors.

    Args:
        model: A module (put into evaluation mode) or a function of a ``Data``.
        cutoff: Largest distance of neighbours, Angstrom; default: ``config.cutoff`` of the model, and not less. Where
            neither is there, ``transform`` has to make the edges.
        transform: Applied to the ``Data`` before the model sees it, to write node features, say.
        max_neighbors: A cap on neighbours, see :func:`periodic_graph`; default: ``config.max_neighbors`` of the model
            if it has one, else none.
        elements: Atomic numbers the model was trained for; others are an error. Default: ``config.elements`` of the
            model if it has that, else all are accepted.
        skin: The neighbour list reaches this much farther, and is made anew only after an atom has moved by half of it
            or the cell has changed: results are those of a new list, only faster. Angstrom; 0 for a new list each time.
        min_distance: Atoms closer than this are an error, since no model knows what happens there. Angstrom.
        device: Where the model runs; default: where it is. If given and different, a copy of the model is moved.
        dtype: Of positions and model; default: that of the model. If given and different, a copy is converted.
            Relaxations and conserved energies want float64.

    Raises:
        ImportError: If ASE is missing.
        TypeError: If ``model`` cannot be called, or returns no dict with energy and forces (on the first call).
        ValueError: For a cutoff or skin that make no sense, and on a call for atoms that overlap, an element not in
            ``elements``, a cell that periodic directions lack or that has no volume.
        ase.calculators.calculator.CalculationFailed: On a call, if energy or forces are not finite.

    Example:
        >>> from ase.build import bulk
        >>> def springs(data):  # each atom is tied to the origin
        ...     return {"energy": data.pos.square().sum()[None] / 2, "forces": -data.pos}
        >>> atoms = bulk("Cu", cubic=True)
        >>> atoms.calc = GeomeqCalculator(springs, cutoff=3.0)
        >>> atoms.get_forces()[1].round(3).tolist()
        [-0.0, -1.805, -1.805]
    """

    name = "geomeq"
    implemented_properties = ("energy", "free_energy", "forces", "stress", "energies")
    results: dict[str, Any]
    atoms: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> "GeomeqCalculator":
        """Makes an object that is a calculator of ASE too, which is loaded only now."""
        require_ase()
        public: Any = cls
        return object.__new__(_with_ase(public))

    def __init__(
        self,
        model: Callable[[Data], Any],
        cutoff: float | None = None,
        transform: Callable[[Data], Data] | None = None,
        *,
        max_neighbors: int | None = None,
        elements: Iterable[int] | None = None,
        skin: float = 1.0,
        min_distance: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not callable(model):
            raise TypeError(f"model must be a module or a function of a Data, got {type(model).__name__}")
        self.model, self.device, self.dtype = _place(model, device, dtype)
        self.cutoff, known = cutoff, _configured(model, "cutoff")
        if cutoff is None:
            self.cutoff = known
        elif known is not None and cutoff < known * (1 - 1e-6):
            raise ValueError(
                f"cutoff {cutoff} is below that of the model, {known}: it would miss neighbours that it was trained "
                "with; leave cutoff out"
            )
        check_cap(max_neighbors)
        self.max_neighbors = _configured(model, "max_neighbors") if max_neighbors is None else max_neighbors
        if self.cutoff is None and transform is None:
            raise ValueError(
                "cutoff is not given and the model has no config.cutoff: pass cutoff (the one it was trained with, "
                "Angstrom), or a transform that makes the edges"
            )
        self.transform, self.min_distance = transform, float(min_distance)
        self._differentiates = _configured(model, "forces") != "direct"  # else nothing needs to be remembered
        elements = _configured(model, "elements") if elements is None else elements
        self.elements = None if elements is None else frozenset(int(z) for z in elements)
        self.neighbors = None if self.cutoff is None else VerletList(float(self.cutoff), skin)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies and pickles through the class that can be imported, not the one that ``__new__`` makes."""
        public = next(c for c in type(self).__mro__ if not c.__dict__.get("_made_with_ase"))
        return _empty, (public,), self.__dict__

    def set(self, **options: Any) -> dict[str, Any]:
        """ASE's way to change settings, which here are fixed.

        Raises:
            ValueError: For any setting.
        """
        if options:
            raise ValueError(f"{', '.join(options)} cannot be set afterwards: make a new GeomeqCalculator")
        return {}

    def calculate(
        self,
        atoms: "Atoms | None" = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = _CHANGES,
    ) -> None:
        """Runs the model and keeps all that it gives in ``results``; ASE calls this when something has changed."""
        super().calculate(atoms, properties, system_changes)  # type: ignore[misc]
        self.results = {}
        data = self.graph(self.atoms)
        if isinstance(self.model, nn.Module) and self.model.training:
            self.model.eval()
        with torch.set_grad_enabled(self._differentiates):
            out = self.model(data)
        self.results = _results(out, data, self.atoms)

    def graph(self, atoms: "Atoms") -> Data:
        """What the model is given for these atoms."""
        self._check_elements(atoms.numbers)
        data = Data(z=torch.from_numpy(atoms.numbers.astype(np.int64)), pos=torch.from_numpy(atoms.positions.copy()))
        if atoms.cell.any() or atoms.pbc.any():
            data.cell = torch.from_numpy(np.array(atoms.cell.array, dtype=np.float64))[None]
            data.pbc = torch.from_numpy(atoms.pbc.copy())[None]
        for name, array in _NODE_ARRAYS.items():
            if atoms.has(array):
                data[name] = torch.from_numpy(atoms.get_array(array))
        data = data.to(self.device)
        if self.neighbors is not None:
            self._connect(data, self.neighbors)
        for name in ("pos", "cell", "charges", "magmoms"):
            if name in data:
                data[name] = data[name].to(self.dtype)
        return data if self.transform is None else self.transform(data)

    def _connect(self, data: Data, neighbors: VerletList) -> None:
        """Writes the edges and puts atoms into the cell."""
        pos, edges, squares = neighbors(data["pos"], read_lattice(data))
        self._check_distances(data, edges, squares)
        if self.max_neighbors is not None:
            rtol = tie_tolerance(torch.float64)
            edges = edges.take(nearest(edges, squares, pos.size(0), self.max_neighbors, rtol))
        data.pos, data.edge_index = pos, edges.edge_index
        if edges.shift is not None:
            data.shift = edges.shift

    def _check_elements(self, numbers: np.ndarray) -> None:
        if self.elements is None:
            return
        from ase.data import chemical_symbols

        unknown = sorted(set(numbers.tolist()) - self.elements)
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in sorted(self.elements))
            raise ValueError(
                f"the model was not trained for {', '.join(chemical_symbols[z] for z in unknown)}; it knows {known}"
            )

    def _check_distances(self, data: Data, edges: EdgeList, squares: Tensor) -> None:
        if squares.numel() == 0 or float(squares.amin()) >= self.min_distance**2:
            return
        edge = int(squares.argmin())
        j, i = edges.edge_index[:, edge].tolist()
        shift = "" if edges.shift is None or not bool(edges.shift[edge].any()) else " (across the border of the cell)"
        z_i, z_j, distance = int(data["z"][i]), int(data["z"][j]), float(squares[edge]) ** 0.5
        raise ValueError(
            f"atoms {i} and {j} (z = {z_i} and {z_j}) are {distance:.2g} Angstrom apart{shift}, less than "
            f"min_distance = {self.min_distance}: remove one of them, or shorten the steps of time or of the "
            "relaxation if they ran into each other"
        )


@functools.cache
def _with_ase(cls: Any) -> Any:
    """The class as a subclass of ASE's ``Calculator``."""
    from ase.calculators.calculator import Calculator

    if issubclass(cls, Calculator):
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls, Calculator), {**names, "_made_with_ase": True})


def _empty(cls: Any) -> Any:
    return cls.__new__(cls)


def _place(
    model: Callable[[Data], Any], device: torch.device | str | None, dtype: torch.dtype | None
) -> tuple[Callable[[Data], Any], torch.device, torch.dtype]:
    """The model, in evaluation mode, where and in what precision it is to run."""
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    weight = None
    if isinstance(model, nn.Module):
        weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weight is None:
        return model, torch.device(device or "cpu"), dtype or torch.float64
    assert isinstance(model, nn.Module)
    device = weight.device if device is None else torch.device(device)
    dtype = dtype or weight.dtype
    if (weight.device, weight.dtype) != (device, dtype):
        model = copy.deepcopy(model).to(device=device, dtype=dtype)
    return model.eval(), device, dtype


def _configured(model: Any, name: str) -> Any:
    """A setting in the config of the model or of a model inside of it, ``None`` if there is none."""
    modules: Iterator[Any] = model.modules() if isinstance(model, nn.Module) else iter([model])
    for module in modules:
        value = getattr(getattr(module, "config", None), name, None)
        if value is not None:
            return value
    return None


def _results(out: Any, data: Data, atoms: "Atoms") -> dict[str, Any]:
    """Outputs of the model as ASE wants them.

    Raises:
        TypeError: If the model returned something else than a dict with energy and forces.
        CalculationFailed: If they are not finite.
    """
    if not isinstance(out, dict) or not {"energy", "forces"} <= set(out):
        got = f"a dict of {sorted(out)}" if isinstance(out, dict) else type(out).__name__
        raise TypeError(
            f"the model must return a dict with energy and forces, got {got}; wrap a network that gives energies: "
            "geomeq.models.Potential(model)"
        )
    out = {name: value.detach().double().cpu() for name, value in out.items() if isinstance(value, Tensor)}
    energy, forces, stress = out["energy"].reshape(-1), out["forces"], out.get("stress")
    if energy.numel() != 1 or tuple(forces.shape) != (len(atoms), 3):
        raise TypeError(
            f"the model must return energy [1] and forces [{len(atoms)}, 3], got {list(out['energy'].shape)} and "
            f"{list(forces.shape)}"
        )
    if atoms.cell.rank < 3:  # no volume, no stress
        stress = None
    _check_finite(float(energy), forces, stress)
    results: dict[str, Any] = {"energy": float(energy), "free_energy": float(energy), "forces": forces.numpy()}
    if stress is not None:
        results["stress"] = to_voigt(stress.reshape(3, 3))
    if "energies" in out:
        results["energies"] = out["energies"].reshape(-1).numpy()
    return results


def _check_finite(energy: float, forces: Tensor, stress: Tensor | None) -> None:
    from ase.calculators.calculator import CalculationFailed

    bad = (~forces.isfinite()).any(dim=1).nonzero().flatten()
    if bad.numel():
        what = f"force on atom {int(bad[0])} is {forces[bad[0]].tolist()}"
    elif not np.isfinite(energy):
        what = f"energy is {energy}"
    elif stress is not None and not bool(stress.isfinite().all()):
        what = f"stress is {stress.tolist()}"
    else:
        return
    raise CalculationFailed(
        f"the {what}: the model holds weights that are not finite, or was given a structure it cannot handle; look at "
        "calculator.atoms, and shorten the time step if this happened on the way"
    )

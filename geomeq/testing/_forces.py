"""Are forces the gradient of the energy? Central differences of any potential, in float64."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq.testing._compare import output_key
from geomeq.testing._run import Model, Subject, outputs, undisturbed

_FORCES = ("forces", "force")
_WEIGHTS = ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12))  # of a derivative, errors of order step^4


@dataclass(frozen=True)
class ForceConsistency:
    """What :func:`force_consistency` found; all numbers are relative, and exact zeros up to rounding are right.

    Attributes:
        error: Largest difference of a force from minus the slope of the energy, over the largest slope.
        net_force: Largest sum of the forces of a structure, over the sum of their sizes: 0 if moving a structure as a
            whole leaves its energy alone (and nothing from outside holds its atoms).
        net_torque: The same for torques about the mean position; ``None`` for periodic structures.
        stress_error: Like ``error`` for the stress, of the structures whose cell has a volume; ``None`` if there are
            none, or the model gives no stress.
        displacements: How many directions the structure was moved in.
    """

    error: float
    net_force: float
    net_torque: float | None
    stress_error: float | None
    displacements: int

    def __str__(self) -> str:
        parts = [f"forces differ from the slope of the energy by {self.error:.1e}"]
        if self.stress_error is not None:
            parts.append(f"stress by {self.stress_error:.1e}")
        parts.append(f"net force {self.net_force:.1e}")
        if self.net_torque is not None:
            parts.append(f"net torque {self.net_torque:.1e}")
        return ", ".join(parts)


def force_consistency(
    model: Model,
    data: Data,
    *,
    transform: Callable[[Data], Data] | None = None,
    call: Callable[[Any, Data], Any] | None = None,
    directions: int | None = None,
    step: float = 5e-4,
    double: bool = True,
    seed: int = 0,
) -> ForceConsistency:
    r"""Compares the forces (and stress) of a potential with central differences of its energy.

    .. math:: \frac{\max |F + \partial E / \partial x|}{\max |\partial E / \partial x|}, \qquad
        \sigma = \frac{1}{V} \frac{\partial E}{\partial \epsilon}

    A conservative potential reaches 1e-8 or less. Detached frames, an energy that jumps, forces from a head of their
    own, or a kernel with a wrong backward pass give 1e-3 to 1.

    Args:
        model: Returns ``energy`` ``[B]`` and ``forces`` (or ``force``) ``[N, 3]``, and maybe ``stress`` ``[B, 3, 3]``,
            in a dict, a named tuple, a dataclass or a ``Data``.
        data: One structure or a batch. Attributes other than ``pos`` (and ``cell``, under strain) stay as they are, so
            what was made from positions belongs into ``transform``.
        transform: Applied to each displaced structure, such as ``PeriodicGraph`` where edges may change.
        call: How to call the model.
        directions: Number of random directions in which all atoms move at once; by default every coordinate of every
            atom moves alone, which costs four calls each.
        step: Length of a displacement, in the unit of ``pos``; for the stress it is the strain.
        double: Whether a float64 copy of the model and the data is tested: in float32 the differences drown in
            rounding.
        seed: Seed of the directions and of any randomness in the model.

    Returns:
        The relative errors.

    Raises:
        ValueError: If the model returns no energy or no forces, their shapes are wrong, or the energy depends on no
            position.

    Example:
        >>> def spring(data):
        ...     d = data.pos[0] - data.pos[1]
        ...     return {"energy": (d * d).sum()[None], "forces": torch.stack([-2 * d, 2 * d])}
        >>> force_consistency(spring, Data(pos=torch.tensor([[0.0, 0, 0], [0, 1, 2]]))).error < 1e-9
        True
    """
    subject = _subject(model, data, transform, call, double, step)
    with undisturbed(subject.model):
        found = _evaluate(subject, subject.data, seed)
        moves = _moves(subject.data, directions, seed)
        error, count = _force_error(subject, found["forces"], moves, step, seed)
        stress = _stress_error(subject, found["stress"], step, seed) if "stress" in found else None
    net_force, net_torque = _balance(subject.data, found["forces"])
    return ForceConsistency(error, net_force, net_torque, stress, count)


def jacobian_asymmetry(
    model: Model,
    data: Data,
    *,
    transform: Callable[[Data], Data] | None = None,
    call: Callable[[Any, Data], Any] | None = None,
    step: float = 5e-4,
    double: bool = True,
    seed: int = 0,
) -> float:
    r"""Measures how far forces are from being the gradient of any energy at all, without asking for the energy.

    .. math:: \frac{\|J - J^T\|}{2 \|J\|}, \qquad J_{ij} = \frac{\partial F_i}{\partial x_j}

    by central differences: 0 for conservative forces (whose Jacobian is minus a matrix of second derivatives), 1 for
    forces that only turn. Nearby forces that are not conservative pump energy into a trajectory or drain it at a rate
    that goes with this number.

    Args:
        model: Returns ``forces`` (or ``force``) ``[N, 3]`` in a dict, a named tuple or a ``Data``, or them alone.
        data: One structure or a batch.
        transform: As in :func:`force_consistency`, like the arguments after it.
        call: How to call the model.
        step: Length of a displacement, in the unit of ``pos``.
        double: Whether a float64 copy of the model and the data is tested.
        seed: Seed of any randomness in the model.

    Returns:
        The largest asymmetry of a structure, from 0 to 1. Four calls for each coordinate.

    Raises:
        ValueError: If the model returns no forces, or they depend on no position.

    Example:
        >>> data = Data(pos=torch.tensor([[1.0, 2, 3]]))
        >>> jacobian_asymmetry(lambda data: {"forces": -data.pos}, data) < 1e-10
        True
        >>> swirl = lambda data: {"forces": torch.stack([-data.pos[:, 1], data.pos[:, 0], 0 * data.pos[:, 2]], 1)}
        >>> round(jacobian_asymmetry(swirl, data), 6)
        1.0
    """
    subject = _subject(model, data, transform, call, double, step)
    batch, size = _graph_of_nodes(subject.data), 0.0
    with undisturbed(subject.model):
        columns = [
            _slope(subject, move, step, seed, lambda found: found["forces"], needs=("forces",))
            for move in _moves(subject.data, None, seed)
        ]
    jacobian, worst = torch.stack(columns, dim=-1), 0.0  # [N, 3, 3 n]: local coordinates of each structure
    for graph in range(int(batch.max()) + 1):
        rows = jacobian[batch == graph].flatten(0, 1)
        block = rows[:, : rows.size(0)]
        size = max(size, float(block.norm()))
        if float(block.norm()) > 0:
            worst = max(worst, float((block - block.T).norm() / (2 * block.norm())))
    if size == 0:
        raise ValueError("no force depends on any position, so their Jacobian is zero and says nothing")
    return worst


def _subject(model: Model, data: Data, transform: Any, call: Any, double: bool, step: float) -> Subject:
    if not step > 0:
        raise ValueError(f"step must be positive, got {step}")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps: it would be compiled again for float64
    if double and isinstance(model, nn.Module):
        model = copy.deepcopy(model).double()
    if double and isinstance(data, Data):
        data = data.clone().apply(lambda x: x.detach().double() if x.is_floating_point() else x)
    subject = Subject(model, data, None, transform, call)
    pos = subject.data.get("pos")
    if pos is None or pos.dim() != 2 or pos.size(1) != 3 or pos.size(0) == 0:
        raise ValueError(f"forces need positions data.pos [N, 3], got {None if pos is None else list(pos.shape)}")
    return subject


def _graph_of_nodes(data: Data) -> Tensor:
    batch = data.get("batch")
    return torch.zeros(data["pos"].size(0), dtype=torch.long) if batch is None else batch.cpu()


def _moves(data: Data, directions: int | None, seed: int) -> Iterator[Tensor]:
    """Displacements ``[N, 3]``: the k-th coordinate of every structure of the batch, or random ones of length 1."""
    pos, batch = data["pos"], _graph_of_nodes(data)
    if directions is None:
        own = torch.arange(pos.size(0)) - torch.searchsorted(batch, batch)  # number of an atom in its structure
        for k in range(3 * (int(own.max()) + 1)):
            move = torch.zeros(pos.shape, dtype=pos.dtype)
            move[own == k // 3, k % 3] = 1
            yield move.to(pos.device)
        return
    if directions < 1:
        raise ValueError(f"directions must be at least 1, got {directions}")
    generator = torch.Generator().manual_seed(seed)
    for _ in range(directions):
        move = torch.randn(pos.shape, dtype=pos.dtype, generator=generator)
        square = torch.zeros(int(batch.max()) + 1, dtype=pos.dtype).index_add(0, batch, move.square().sum(dim=1))
        yield (move / square.sqrt()[batch, None]).to(pos.device)


def _evaluate(
    subject: Subject, data: Data, seed: int, needs: tuple[str, ...] = ("energy", "forces")
) -> dict[str, Tensor]:
    """Energy ``[B]``, forces ``[N, 3]`` and stress of a structure, those that the model gives."""
    moved = Subject(subject.model, data, None, subject.transform, subject.call)
    result = outputs(moved.run(moved.prepare().data, seed))
    by_key = {output_key(name): value for name, value in result.items()}
    found: dict[str, Tensor] = {name: by_key[name] for name in ("energy", "stress") if name in by_key}
    name = next((name for name in _FORCES if name in by_key), "output" if needs == ("forces",) else "forces")
    if name in by_key:
        found["forces"] = by_key[name]
    missing = [name for name in needs if name not in found]
    if missing:
        raise ValueError(
            f"the model must return {' and '.join(missing)}, got {sorted(by_key)}; call=lambda model, data: "
            "{'energy': ..., 'forces': ...} may rename them"
        )
    if found["forces"].shape != data["pos"].shape:
        raise ValueError(f"forces must have shape {list(data['pos'].shape)}, got {list(found['forces'].shape)}")
    if "energy" in needs:
        structures = int(_graph_of_nodes(data).max()) + 1
        if found["energy"].numel() != structures:
            raise ValueError(f"energy must have shape [{structures}], got {list(found['energy'].shape)}")
        found["energy"] = found["energy"].reshape(-1)
    return found


def _slope(
    subject: Subject,
    move: Tensor,
    step: float,
    seed: int,
    what: Callable[[dict[str, Tensor]], Tensor],
    needs: tuple[str, ...] = ("energy", "forces"),
    displace: Callable[[Data, Tensor], Data] | None = None,
) -> Tensor:
    """Derivative of an output along a displacement, with an error of order ``step^4``."""
    total: Any = 0.0
    for times, weight in _WEIGHTS:
        data = (displace or _displace)(subject.data, times * step * move)
        total = total + weight / step * what(_evaluate(subject, data, seed, needs)).double()
    return torch.as_tensor(total)


def _displace(data: Data, move: Tensor) -> Data:
    moved = data.clone()
    moved.pos = data["pos"] + move
    return moved


def _strain(data: Data, strain: Tensor) -> Data:
    moved = data.clone()
    turn = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
    moved.pos, moved.cell = data["pos"] @ turn, data["cell"] @ turn
    return moved


def _force_error(
    subject: Subject, forces: Tensor, moves: Iterator[Tensor], step: float, seed: int
) -> tuple[float, int]:
    """Largest difference between forces and slopes, over the largest slope; and the number of slopes."""
    batch, count, worst, largest = _graph_of_nodes(subject.data).to(forces.device), 0, 0.0, 0.0
    for move in moves:
        slope = _slope(subject, move, step, seed, lambda found: found["energy"])
        expected = torch.zeros_like(slope).index_add(0, batch, -(forces.double() * move).sum(dim=1))
        worst = max(worst, float(torch.nan_to_num((slope - expected).abs(), nan=math.inf).max()))
        largest, count = max(largest, float(slope.abs().max())), count + 1
    if largest == 0:
        if worst == 0:
            raise ValueError("the energy depends on no position and forces are zero, so a comparison says nothing")
        return math.inf, count
    return worst / largest, count


def _stress_error(subject: Subject, stress: Tensor, step: float, seed: int) -> float | None:
    cell = subject.data.get("cell")
    if cell is None:
        return None
    rows = cell.view(-1, 3, 3).double()
    volume = torch.linalg.det(rows).abs()
    solid = volume > 1e-9 * rows.norm(dim=2).prod(dim=1)  # the others have no stress, whatever the model says
    if not bool(solid.any()):
        return None
    if not bool(torch.isfinite(stress.view(-1, 3, 3)[solid]).all()):
        return math.inf
    worst = largest = 0.0
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        strain = torch.zeros(3, 3, dtype=cell.dtype, device=cell.device)
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        slope = (
            _slope(subject, strain, step, seed, lambda found: found["energy"], displace=_strain)[solid] / volume[solid]
        )
        expected = (stress.view(-1, 3, 3)[solid].double() * strain).sum(dim=(1, 2))
        worst = max(worst, float((slope - expected).abs().max()))
        largest = max(largest, float(slope.abs().max()))
    return 0.0 if worst == 0 else worst / largest if largest > 0 else math.inf


def _balance(data: Data, forces: Tensor) -> tuple[float, float | None]:
    """Largest relative net force and net torque of a structure."""
    pos, force, batch = data["pos"].double().cpu(), forces.double().cpu(), _graph_of_nodes(data)
    periodic = data.get("pbc")
    isolated = data.get("cell") is None or (periodic is not None and not bool(periodic.any()))
    net, turn = 0.0, 0.0
    for graph in range(int(batch.max()) + 1):
        x, f = pos[batch == graph], force[batch == graph]
        arm = x - x.mean(dim=0)
        net = max(net, _share(f))
        turn = max(turn, _share(torch.linalg.cross(arm, f), arm.norm(dim=1) * f.norm(dim=1)))
    return net, turn if isolated else None


def _share(v: Tensor, size: Tensor | None = None) -> float:
    total = float((v.norm(dim=1) if size is None else size).sum())
    return float(v.sum(dim=0).norm()) / total if total > 0 else 0.0

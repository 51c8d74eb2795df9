r"""Forces and stress as derivatives of an energy, shared by every model that has one.

.. math:: F_i = -\frac{\partial E}{\partial x_i}, \qquad
    \sigma = \frac{1}{V} \frac{\partial E}{\partial \epsilon}\Big|_{\epsilon = 0}, \qquad
    x \mapsto x\,(1 + \epsilon), \; C \mapsto C\,(1 + \epsilon)

with a symmetric strain :math:`\epsilon` of positions and cell rows together, so that fractional coordinates stay.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.data import Data

# Attributes made from positions: an energy that read them would not depend on ``pos``, and forces would be zero.
DERIVED = ("edge_attr", "node_attr", "edge_dist", "edge_radial", "edge_vec", "edge_wigner")


def energy_and_derivatives(
    energy_fn: Callable[[Data], Tensor], data: Data, stress: bool = False, create_graph: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Energy, forces and stress of an energy that is a function of the positions.

    Args:
        energy_fn: Maps a graph to the energy of each structure, ``[B]`` or ``[B, 1]``. It sees a copy of ``data``
            without stored attributes that were made from positions, and must compute them from ``pos``, ``shift`` and
            ``cell``.
        data: A ``Data`` or ``Batch`` with ``pos`` ``[N, 3]`` and, for the stress, ``cell`` ``[B, 3, 3]``. It stays as
            it is.
        stress: Whether the stress is computed.
        create_graph: Whether the results can be differentiated again, as a loss on forces needs. Otherwise they are
            detached. If ``data.pos`` itself requires a gradient, the results depend on it (a Hessian is the derivative
            of the forces), and this is as if ``create_graph`` was set.

    Returns:
        Energy ``[B]``, forces ``[N, 3]``, and stress ``[B, 3, 3]`` (symmetric, positive under tension, as in ASE) or
        ``None``. Structures whose cell has no volume have a stress of NaN.

    Raises:
        ValueError: If ``pos`` is missing, ``cell`` is although the stress is wanted, or the energy does not depend on
            the positions although there are edges.
    """
    pos = data.get("pos")
    if pos is None:
        raise ValueError(f"a potential reads pos, but data has only {sorted(data.keys())}")
    if stress and data.get("cell") is None:
        raise ValueError("the stress needs a periodic structure, but data has no cell")
    if torch.is_inference_mode_enabled():  # its tensors can never be differentiated: leave it for a moment
        with torch.inference_mode(False):
            return energy_and_derivatives(energy_fn, _cloned(data), stress, create_graph)
    create_graph = create_graph or (pos.requires_grad and torch.is_grad_enabled())
    with torch.enable_grad():
        free = without_derived(data)
        inputs = [pos if create_graph and pos.requires_grad else pos.detach().requires_grad_()]
        free.pos = inputs[0]
        if stress:
            inputs.append(_strain(free))
        energy = energy_fn(free).reshape(-1)
        slopes = _slopes(energy, inputs, create_graph, data)
    tension = _per_volume(slopes[1], data["cell"]) if stress else None
    return (energy if create_graph else energy.detach()), -slopes[0], tension


def without_derived(data: Data) -> Data:
    """A copy that shares tensors and lacks everything made from positions."""
    free = data.__copy__()
    for name in DERIVED:
        if name in free:
            del free[name]
    return free


def _slopes(energy: Tensor, inputs: list[Tensor], create_graph: bool, data: Data) -> tuple[Tensor, ...]:
    """Derivatives of the total energy by each of the inputs."""
    slopes: tuple[Tensor | None, ...] = (None,) * len(inputs)
    if energy.requires_grad:
        slopes = torch.autograd.grad(energy.sum(), inputs, create_graph=create_graph, allow_unused=True)
    edge_index = data.get("edge_index")
    if slopes[0] is None and edge_index is not None and edge_index.size(1):
        raise ValueError(
            "the energy does not depend on pos, so forces would be zero; compute edge vectors from data.pos in the "
            "forward pass (harmonics.edge_vectors), without detach() and outside of torch.no_grad()"
        )
    return tuple(torch.zeros_like(x) if s is None else s for s, x in zip(slopes, inputs, strict=True))


def _strain(data: Data) -> Tensor:
    """Applies a zero strain ``[B, 3, 3]`` to positions and cell, to differentiate by."""
    pos, batch = data["pos"], data.get("batch")
    cell = data["cell"].view(-1, 3, 3).to(pos.dtype)
    strain = torch.zeros_like(cell, requires_grad=True)
    turn = torch.eye(3, dtype=pos.dtype, device=pos.device) + (strain + strain.mT) / 2
    data.cell = cell @ turn
    if cell.size(0) == 1:
        data.pos = pos @ turn[0]
    elif batch is None:
        raise ValueError(f"{cell.size(0)} cells but no batch: which graph does each atom belong to?")
    else:
        data.pos = (pos[:, None] @ turn[batch]).squeeze(1)
    return strain


def _per_volume(slope: Tensor, cell: Tensor) -> Tensor:
    """Divides ``[B, 3, 3]`` by the volume of each cell; NaN where it has none, though with a finite gradient."""
    rows = cell.detach().view(-1, 3, 3).double()
    volume = torch.linalg.det(rows).abs()
    # relative to the edges: rounding gives a flat cell a volume that is tiny but not zero
    solid = volume > 1e-9 * rows.norm(dim=2).prod(dim=1)
    stress = slope / torch.where(solid, volume, 1.0).to(slope.dtype)[:, None, None]
    return torch.where(solid[:, None, None], stress, torch.nan)


def _cloned(data: Data) -> Data:
    """A copy whose tensors may take part in a backward pass: tensors made in inference mode may not."""
    free = data.__copy__()
    for name, value in data.to_dict().items():
        if isinstance(value, Tensor) and value.is_inference():
            free[name] = value.clone()
    return free

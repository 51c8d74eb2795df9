"""Energies of elements that explain most of a set's total energies."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import Data


def atom_energies(frames: Iterable[Data], energy: str = "energy") -> Tensor:
    r"""The energy of each element that fits the total energies best, by least squares.

    .. math:: \min_e \sum_f \Big( E_f - \sum_{i \in f} e_{z_i} \Big)^2

    Where compositions do not tell elements apart (all frames of one molecule, say), the shortest of all solutions is
    taken: it still gives the mean energy of each composition exactly where that is possible. Take the training frames
    only.

    Args:
        frames: Samples with ``z`` ``[n]`` and an energy ``[1]``, such as a data set or a part of one.
        energy: The attribute to fit.

    Returns:
        Energy by atomic number, ``[Z_max + 1]``, float64, in the unit of the set; 0 for elements that do not occur.
        :class:`geomeq.models.ScaledPotential` and :class:`geomeq.models.Potential` take it as ``atom_energies``.

    Raises:
        ValueError: If there are no frames, one lacks ``z`` or the energy, or an energy is not finite.

    Example:
        >>> water = Data(z=torch.tensor([8, 1, 1]), energy=torch.tensor([-76.0]))
        >>> oxygen = Data(z=torch.tensor([8, 8]), energy=torch.tensor([-150.0]))
        >>> atom_energies([water, oxygen])[[1, 8]]
        tensor([ -0.5000, -75.0000], dtype=torch.float64)
    """
    numbers, totals = [], []
    for k, frame in enumerate(frames):
        z, total = frame.get("z"), frame.get(energy)
        if z is None or total is None:
            raise ValueError(f"frame {k} must have z and {energy}, it has {sorted(frame.keys())}")
        numbers.append(z)
        totals.append(total.detach().reshape(()).double())
    if not numbers:
        raise ValueError("atom_energies needs at least one frame, got none")
    y = torch.stack(totals)
    if not bool(y.isfinite().all()):
        bad = int((~y.isfinite()).nonzero()[0])
        raise ValueError(f"the {energy} of frame {bad} is {float(y[bad])}; remove the frame")
    length = 1 + max(int(z.max()) for z in numbers)
    counts = torch.stack([torch.bincount(z, minlength=length) for z in numbers]).double()
    found, known = torch.zeros(length, dtype=torch.float64), counts.any(dim=0)
    found[known] = torch.linalg.pinv(counts[:, known]) @ y  # the shortest solution
    return found

"""Molecules and crystals for tests of models of atoms."""

import torch
from torch_geometric.data import Data

from geomeq.transforms import CutoffGraph, PeriodicGraph

CUTOFF = 4.0


def molecule(atoms: int = 8, seed: int = 0, dtype: torch.dtype = torch.float64, graph: bool = True) -> Data:
    """Atoms of five elements, none closer than 0.8 A to another."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.zeros(0, 3, dtype=torch.float64)
    while len(pos) < atoms:
        new = 4.5 * torch.rand(1, 3, generator=generator, dtype=torch.float64)
        if not len(pos) or torch.cdist(new, pos).min() > 0.8:
            pos = torch.cat([pos, new])
    z = torch.tensor([1, 6, 7, 8, 16])[torch.randint(5, (atoms,), generator=generator)]
    data = Data(z=z, pos=pos.to(dtype))
    return CutoffGraph(CUTOFF)(data) if graph else data


def crystal(dtype: torch.dtype = torch.float64, graph: bool = True) -> Data:
    """Four atoms of two elements in a skew cell, displaced from any symmetry."""
    cell = torch.tensor([[[4.1, 0.2, 0.0], [-0.3, 4.4, 0.1], [0.5, 0.1, 3.9]]], dtype=dtype)
    fraction = torch.tensor([[0.02, 0.05, 0.1], [0.5, 0.48, 0.1], [0.47, 0.1, 0.55], [0.1, 0.6, 0.52]], dtype=dtype)
    data = Data(z=torch.tensor([29, 29, 8, 8]), pos=fraction @ cell[0], cell=cell, pbc=torch.tensor([[True] * 3]))
    return PeriodicGraph(CUTOFF)(data) if graph else data


def rotated(data: Data, rotation: torch.Tensor, cell: bool = True) -> Data:
    """The same structure turned; without its cell, if asked for."""
    data = data.clone()
    data.pos = data.pos @ rotation.to(data.pos).T
    if cell and "cell" in data:
        data.cell = data.cell @ rotation.to(data.cell).T
    return data

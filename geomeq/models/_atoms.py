"""What every model of atoms asks of its data, and sums over structures."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from geomeq._checks import check_edge_index, check_finite, check_shape

from ._graphs import check_data


def check_atoms(data: Data, num_elements: int, device: torch.device) -> None:
    """Raises unless ``data`` has ``z``, ``pos``, ``edge_index`` and a sound cell, on the model's device.

    Args:
        data: What the model got.
        num_elements: Elements 1 .. ``num_elements`` are known.
        device: Of the model.

    Raises:
        TypeError: If ``data`` is no graph.
        ValueError: Otherwise; the message says what to do.
    """
    check_data(data)
    missing = [name for name in ("z", "pos", "edge_index") if data.get(name) is None]
    if missing:
        raise ValueError(
            f"data has no {', '.join(missing)}, only {sorted(data.keys())}; edges are made by CutoffGraph (molecules) "
            "or PeriodicGraph (with a cell) with the model's cutoff"
        )
    z, pos, edge_index = data["z"], data["pos"], data["edge_index"]
    check_shape("z", z, "N")
    check_shape("pos", pos, z.size(0), 3)
    if pos.device != device:
        raise ValueError(f"data is on {pos.device}, the model on {device}; move one: data.to('{device}')")
    check_finite("pos", pos, "drop or repair that structure")
    check_edge_index(edge_index, z.size(0), z.size(0))
    _check_elements(z, num_elements)
    _check_cell(data)


def _check_elements(z: Tensor, num_elements: int) -> None:
    if torch.compiler.is_compiling() or not z.numel():
        return
    if z.dtype.is_floating_point:
        raise TypeError(f"z must hold atomic numbers as integers, got {z.dtype}")
    low, high = int(z.min()), int(z.max())
    if low < 1 or high > num_elements:
        raise ValueError(
            f"atomic numbers must lie between 1 and num_elements={num_elements}, got {low}..{high}; "
            "raise num_elements in the config or look at where z comes from"
        )


def check_table(z: Tensor, table: Tensor) -> None:
    """Raises unless a table by atomic number ``[Z_max + 1]`` has all elements of ``z`` ``[N]``."""
    low, high = int(z.min()), int(z.max())
    if high >= table.numel():
        raise ValueError(
            f"no atom energy for atomic number {high}: the table ends at {table.numel() - 1}; fit it on frames that "
            "have the element"
        )
    if low < 0:  # would count from the end of the table
        raise ValueError(f"no atom energy for atomic number {low}: look at where z comes from")


def _check_cell(data: Data) -> None:
    pbc, cell, graphs = data.get("pbc"), data.get("cell"), getattr(data, "num_graphs", 1) or 1
    if graphs > 1 and data.get("batch") is None:
        raise ValueError(f"a Batch of {graphs} structures without batch; make it by Batch.from_data_list")
    if cell is None:
        if pbc is not None and bool(torch.as_tensor(pbc).any()):
            raise ValueError("data has pbc but no cell [1, 3, 3]: along which vectors does it repeat?")
        if data.get("shift") is not None:
            raise ValueError("data has shift but no cell [1, 3, 3]: the edges cross borders of a cell that is missing")
        return
    if cell.numel() != 9 * graphs:
        raise ValueError(f"cell must have shape [{graphs}, 3, 3], one for each structure, got {list(cell.shape)}")
    check_finite("cell", cell, "drop or repair that structure")


def check_lengths(dist: Tensor, edge_index: Tensor) -> None:
    """Raises if an edge has no direction: two atoms at one place, or an edge from an atom to itself."""
    if torch.compiler.is_compiling() or not dist.numel():
        return
    zero = dist.detach() < 1e-6
    if bool(zero.any()):
        edge = int(zero.nonzero()[0])
        source, target = edge_index[:, edge].tolist()
        what = "an edge from an atom to itself" if source == target else "two atoms at the same place"
        raise ValueError(f"edge {edge} between atoms {source} and {target} has no length: {what}; remove one")


def sum_structures(x: Tensor, data: Data) -> Tensor:
    """Sums over the atoms of each structure in float64, ``[N, ...]`` to ``[B, ...]``: totals are large."""
    batch, count = data.get("batch"), getattr(data, "num_graphs", 1) or 1
    x = x.double()
    if batch is None or count == 1:  # also because inductor (torch 2.13) cannot compile a scatter into one row
        return x.sum(dim=0, keepdim=True)
    return x.new_zeros(count, *x.shape[1:]).index_add(0, batch, x)


def of_atoms(name: str, data: Data, num_atoms: int) -> Tensor:
    """An attribute with one number per structure ``[B]`` or atom ``[N]``, given to the atoms, ``[N]``."""
    value = data.get(name)
    if value is None:
        raise ValueError(f"config.scalars names {name!r}, but data has only {sorted(data.keys())}")
    value, batch, count = value.reshape(-1), data.get("batch"), getattr(data, "num_graphs", 1) or 1
    if value.numel() == num_atoms:
        return value
    if value.numel() != count:
        raise ValueError(
            f"{name} must have one number per structure [{count}] or atom [{num_atoms}], got {list(value.shape)}"
        )
    return value.expand(num_atoms) if batch is None else value.index_select(0, batch)

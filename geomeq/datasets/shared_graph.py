"""Many samples on one fixed domain: a sphere grid, a group, a template mesh."""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Data


class SharedGraphDataset(Dataset[Data]):
    """Signals on one graph, which is held once.

    Args:
        graph: The domain: ``edge_index``, positions, whatever the layers read; its number of nodes is ``N``.
        x: The signals, ``[S, N, C]``, or ``[S, N / num_orientations, C]``.
        y: Their targets, ``[S, ...]``: per graph or per node.
        transform: Applied to a sample ``Data(x=[N, C], y=[...])`` at every access.
        num_orientations: Nodes per point of the domain. Where it is not 1, ``x`` holds one value per point and a
            sample repeats it for each orientation (the outer axis of the nodes) when it is read, so that memory
            holds every signal once.

    Raises:
        ValueError: If ``x`` does not fit the graph, or ``y`` does not fit ``x``.

    Example:
        >>> graph = Data(edge_index=torch.tensor([[1, 0], [0, 1]]), num_nodes=2)
        >>> SharedGraphDataset(graph, torch.zeros(7, 2, 3), torch.zeros(7))[0]
        Data(x=[2, 3], y=0.0)
    """

    def __init__(
        self,
        graph: Data,
        x: Tensor,
        y: Tensor | None = None,
        transform: Callable[[Data], Data] | None = None,
        *,
        num_orientations: int = 1,
    ) -> None:
        nodes = graph.num_nodes or 0
        if num_orientations < 1 or nodes % num_orientations:
            raise ValueError(f"num_orientations must divide the {nodes} nodes of the graph, got {num_orientations}")
        if x.dim() < 3 or x.size(1) * num_orientations != nodes:
            per = f" with {num_orientations} orientations" if num_orientations > 1 else ""
            raise ValueError(
                f"x must have shape [S, {nodes // num_orientations}, C] on this graph{per}, got {list(x.shape)}"
            )
        if y is not None and (y.dim() == 0 or y.size(0) != x.size(0)):
            raise ValueError(f"y must have shape [{x.size(0)}, ...], one target per signal, got {list(y.shape)}")
        self.graph, self.y, self.transform = graph, y, transform
        self.signals, self.num_orientations = x, num_orientations

    @property
    def x(self) -> Tensor:
        """All signals on the nodes, ``[S, N, C]``; with several orientations a new tensor, as large as that."""
        return self._lift(self.signals)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor | None]:
        """Many samples at once, without ``transform``: ``x [B, N, C]`` and ``y [B, ...]``.

        Args:
            index: Places ``[B]`` (int64), a mask ``[S]`` (bool), or a slice.
        """
        return self._lift(self.signals[index]), None if self.y is None else self.y[index]

    def _lift(self, x: Tensor) -> Tensor:
        """``[B, points, ...]`` to ``[B, N, ...]``: the orientation is the outer axis of the nodes."""
        if self.num_orientations == 1:
            return x
        return x.unsqueeze(1).expand(-1, self.num_orientations, *x.shape[1:]).flatten(1, 2)

    def __len__(self) -> int:
        return self.signals.size(0)

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be within {len(self)} samples, got {index}")
        x = self._lift(self.signals[index].unsqueeze(0)).squeeze(0)
        sample = Data(x=x, y=None if self.y is None else self.y[index])
        return sample if self.transform is None else self.transform(sample)


class SharedGraphLoader(DataLoader[Any]):
    """Batches samples that live on one graph: signals are stacked, the edges are never copied.

    Each batch is a ``Data`` with everything that ``dataset.graph`` has, and on top of it the tensors of the samples,
    stacked: ``x [B, N, C]``, ``y [B, ...]``. A leading axis of 1 in a sample's ``y``, PyG's way to write a target per
    graph, is dropped first. Layers take ``x`` and ``edge_index`` as they are; a model takes the batch.

    Args:
        dataset: Samples ``Data(x=[N, C], y=...)``; it, or what it is a subset of, has the attribute ``graph``.
        batch_size: Samples per batch, ``B``.
        shuffle: Whether to go through the samples in another order each time.
        graph: The graph, if the data set does not have it.
        device: Where the graph is kept and each batch is moved to; default: where they are.
        kwargs: Further arguments of :class:`torch.utils.data.DataLoader`, such as ``num_workers``.

    Raises:
        ValueError: If there is no graph, or a sample brings edges of its own or does not fit the graph.

    Example:
        >>> graph = Data(edge_index=torch.tensor([[1, 0], [0, 1]]), num_nodes=2)
        >>> samples = SharedGraphDataset(graph, torch.zeros(7, 2, 3), torch.zeros(7))
        >>> next(iter(SharedGraphLoader(samples, batch_size=4)))
        Data(edge_index=[2, 2], num_nodes=2, x=[4, 2, 3], y=[4])
    """

    def __init__(
        self,
        dataset: Dataset[Data],
        batch_size: int = 1,
        shuffle: bool = False,
        graph: Data | None = None,
        device: torch.device | str | None = None,
        **kwargs: Any,
    ) -> None:
        if "collate_fn" in kwargs:
            raise ValueError("SharedGraphLoader stacks the samples itself; collate_fn cannot be given")
        graph = _graph_of(dataset) if graph is None else graph
        self.device = device
        self.graph = copy.copy(graph) if device is None else copy.copy(graph).to(device)
        self.graph.num_nodes = graph.num_nodes  # written down, since x [B, N, C] would mislead PyG's guess
        super().__init__(dataset, batch_size, shuffle, collate_fn=_stack, **kwargs)

    def __iter__(self) -> Iterator[Data]:  # type: ignore[override]
        for samples in super().__iter__():
            yield self._on_graph(samples)

    def _on_graph(self, samples: Data) -> Data:
        x = samples.x
        if isinstance(x, Tensor) and (x.dim() < 3 or x.size(1) != self.graph.num_nodes):
            raise ValueError(f"x of each sample must have shape [{self.graph.num_nodes}, C], got {list(x.shape[1:])}")
        batch = copy.copy(self.graph)  # shallow: the tensors of the graph are shared
        for name, value in (samples if self.device is None else samples.to(self.device)).to_dict().items():
            batch[name] = value
        return batch


def _graph_of(dataset: Any) -> Data:
    """The graph of a data set, or of what it is a subset of."""
    inner = dataset
    while inner is not None:
        if isinstance(getattr(inner, "graph", None), Data):
            return inner.graph
        inner = getattr(inner, "dataset", None)
    raise ValueError(f"{type(dataset).__name__} has no graph; give SharedGraphLoader(..., graph=data)")


def _stack(samples: Sequence[Data]) -> Data:
    """Stacks the tensors of samples; other values become lists."""
    out = Data()
    for name in samples[0].to_dict():
        if name in ("edge_index", "adj_t"):
            raise ValueError(f"a sample brings {name} of its own; graphs that differ need PyG's DataLoader")
        values = [sample[name] for sample in samples]
        if isinstance(values[0], Tensor):
            out[name] = torch.stack(
                [v.squeeze(0) if name == "y" and v.dim() > 0 and v.size(0) == 1 else v for v in values]
            )
        else:
            out[name] = values
    return out

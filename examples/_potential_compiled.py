"""A training step as one graph: energy, forces, loss and gradients traced together, then compiled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from _potential_training import Frames, Trainer
from torch import Tensor
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch_geometric.data import Batch

TOPOLOGY = ("z", "edge_index", "batch", "ptr")
VALUES = ("pos", "energy", "force")


def one_topology(frames: Frames) -> Frames:
    """The frames, with every pair of atoms that is an edge in any of them as an edge of all.

    A compiled step has fixed sizes. Edges longer than the cutoff have an envelope of zero, so energies stay.
    """
    z = frames.data.z.view(len(frames), -1) if frames.atoms.unique().numel() == 1 else None
    if "cell" in frames.data or z is None or not bool((z == z[0]).all()):
        raise SystemExit("--compile needs frames of one molecule without a cell; train others without it")
    union = frames.data.edge_index.flip(0).unique(dim=1).flip(0)  # in the order of targets
    frames.data.edge_index = union.repeat(1, len(frames))
    frames.slices["edge_index"] = torch.arange(len(frames) + 1) * union.size(1)
    return frames


class CompiledStep:
    """Loss and gradients of a step, for batches that differ in positions, energies and forces only.

    Derivatives of derivatives cannot go through ``torch.compile`` of the model. So everything down to the gradients of
    the weights is traced into one graph without derivatives, and that is compiled.

    Args:
        trainer: Whose model and loss are used.
        compiler: Makes the traced graph fast; ``None`` runs it as it is.
    """

    def __init__(self, trainer: Trainer, compiler: Callable | None = torch.compile) -> None:
        self.trainer, self.compiler, self.step, self.first = trainer, compiler, None, None

    def __call__(self, batch: Batch, graphs: int, free: int) -> float:
        """Loss of the step; gradients are left in the weights."""
        weights = [p.detach() for p in self.trainer.parameters]
        values = [batch[name] for name in VALUES]
        if self.step is None:
            self.first = batch
            with _tracing():
                traced = _with_our_products(make_fx(self._gradients(graphs, free))(weights, values))
            self.step = traced if self.compiler is None else self.compiler(traced)
        if not all(torch.equal(batch[name], self.first[name]) for name in TOPOLOGY):
            raise ValueError("all batches of a compiled step must have the same atoms and edges")
        with torch.no_grad():
            loss, gradients = self.step(weights, values)
        for p, gradient in zip(self.trainer.parameters, gradients, strict=True):
            p.grad = gradient
        return loss.item()

    def _gradients(self, graphs: int, free: int) -> Callable:
        names = [name for name, p in self.trainer.model.named_parameters() if p.requires_grad]
        topology = {name: self.first[name] for name in TOPOLOGY}

        def gradients(weights: list[Tensor], values: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            weights = [w.detach().requires_grad_() for w in weights]
            batch = Batch(**topology, **dict(zip(VALUES, values, strict=True)))
            out = functional_call(self.trainer.model, dict(zip(names, weights, strict=True)), (batch,))
            loss = self.trainer.settings.loss(out, batch, self.trainer.scale, graphs, free)
            found = torch.autograd.grad(loss, weights, allow_unused=True)
            return loss.detach(), [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]

        return gradients


def _with_our_products(traced: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Products of matrices by :func:`geomeq.ops._product.product`, which is faster on some processors."""
    for node in traced.graph.nodes:
        if node.target is torch.ops.aten.mm.default:
            node.target = torch.ops.geomeq.product.default
    traced.recompile()
    return traced


@contextmanager
def _tracing() -> Iterator[None]:
    """Checks of values are left out, as they are whenever torch compiles: a graph cannot branch on them."""
    before = torch.compiler._is_compiling_flag
    torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before

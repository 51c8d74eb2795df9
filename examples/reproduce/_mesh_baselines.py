"""Two peers of gauge convolutions on the same graphs, written from their published ideas.

``DiffusionNetLike``: features diffuse for learned times in the eigenbasis of the Laplacian, and gradients of what
diffused are compared by learned turned inner products (Sharp et al., 2022, https://arxiv.org/abs/2012.00888).
``DeltaConvLike``: a stream of scalars and one of tangent vectors, joined by gradient, divergence, curl and Hodge
Laplacian (Wiersma et al., 2022, https://arxiv.org/abs/2111.08799). Neither is a copy of its authors' code.

Both take their derivatives from the attributes that the gauge transforms write: the gradient at a node is the least
squares fit to the differences along its edges, and divergence carries neighbouring vectors over by ``transport``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.utils import add_self_loops

from geomeq.ops import Stencil, segment_max

UNIT = 0.05  # metres: derivatives are per this length, about one edge, so that features stay of order one


def gradient_coefficients(edge_index: Tensor, polar: Tensor, num_nodes: int) -> Tensor:
    r"""Least squares gradient, exact for what is linear in the tangent plane.

    .. math:: \nabla f(i) = \sum_e g_e (f_j - f_i), \quad g_e = M_i^{-1} u_e, \quad M_i = \sum_e u_e u_e^T

    Args:
        edge_index: Source j and target i, ``[2, E]``.
        polar: ``[E, 2]``; :math:`u_e` is the point with these polar coordinates.
        num_nodes: Number of nodes.

    Returns:
        ``g`` in the frame of the target, 1 / length, ``[E, 2]``.
    """
    r, angle = polar.double().unbind(dim=1)
    u = torch.stack([r * angle.cos(), r * angle.sin()], dim=1)
    moment = u.new_zeros(num_nodes, 2, 2).index_add(0, edge_index[1], u[:, :, None] * u[:, None, :])
    moment += 1e-12 * moment.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None] * torch.eye(2).double()
    moment[moment.abs().sum(dim=(1, 2)) == 0] = torch.eye(2).double()  # a node without edges: gradient 0
    return torch.linalg.solve(moment[edge_index[1]], u[:, :, None])[:, :, 0]


@dataclass
class Operators:
    """Derivatives and spectrum of a batch of meshes with equally many vertices.

    Vectors are ``[N, 2, C]``: components in the frame of each node, then channels.

    Args:
        edge_index: ``[2, E]``, sorted by target.
        gradient_stencil: Gradient, with the node itself.
        divergence_stencil: Its counterpart for vectors, neighbours carried over.
        evals: Eigenvalues of the Laplacian, ``[B, K]``, in 1 / length^2.
        evecs: Eigenvectors, orthonormal for ``mass``, ``[B, V, K]``.
        mass: Area of each vertex, ``[B, V]``.
    """

    edge_index: Tensor
    gradient_stencil: Stencil
    divergence_stencil: Stencil
    evals: Tensor
    evecs: Tensor
    mass: Tensor

    @classmethod
    def of(cls, data: Data) -> "Operators":
        """From ``edge_index, polar, transport, mass, evals [B, K], evecs [N, K]``."""
        number, dtype = data.num_nodes, data.evecs.dtype
        g = gradient_coefficients(data.edge_index, data.polar, number) * UNIT
        cos, sin = data.transport.double().cos(), data.transport.double().sin()
        back = torch.stack([cos * g[:, 0] + sin * g[:, 1], cos * g[:, 1] - sin * g[:, 0]], dim=1)  # R^T g
        own = g.new_zeros(number, 2).index_add(0, data.edge_index[1], -g)
        edges, _ = add_self_loops(data.edge_index, num_nodes=number)
        across, carried = (Stencil(edges, torch.cat([c, own]).to(dtype), (number, number)) for c in (g, back))
        batch = data.evals.size(0)
        evecs, mass = data.evecs.view(batch, number // batch, -1), data.mass.view(batch, -1)
        return cls(data.edge_index, across, carried, data.evals, evecs, mass)

    def gradient(self, x: Tensor) -> Tensor:
        """``[N, C]`` to ``[N, 2, C]``, per :data:`UNIT`."""
        return self.gradient_stencil(x)

    def divergence(self, v: Tensor) -> Tensor:
        """``[N, 2, C]`` to ``[N, C]``."""
        first, second = self.divergence_stencil(v.flatten(1)).unbind(dim=1)
        channels = v.size(2)
        return first[:, :channels] + second[:, channels:]

    def curl(self, v: Tensor) -> Tensor:
        """``[N, 2, C]`` to ``[N, C]``."""
        return -self.divergence(quarter(v))

    def hodge(self, v: Tensor) -> Tensor:
        """The Hodge Laplacian with the sign of a second derivative: grad div + J grad curl."""
        return self.gradient(self.divergence(v)) + quarter(self.gradient(self.curl(v)))

    def diffuse(self, x: Tensor, time: Tensor) -> Tensor:
        """Heat flow of ``[N, C]`` for a time of its own per channel, ``[C]``, in length^2, within the eigenbasis."""
        x = x.view(*self.mass.shape, -1)
        spectrum = self.evecs.transpose(1, 2) @ (self.mass[:, :, None] * x)
        decay = torch.exp(-self.evals[:, :, None] * time)
        return (self.evecs @ (decay * spectrum)).flatten(0, 1)


def quarter(v: Tensor) -> Tensor:
    """Tangent vectors ``[N, 2, C]`` turned by 90 degrees, counter-clockwise."""
    return torch.stack([-v[:, 1], v[:, 0]], dim=1)


class DiffusionBlock(nn.Module):
    """Diffusion, gradient features and a network at each vertex, with a skip."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.log_time = nn.Parameter(torch.linspace(-9.0, -1.0, width))  # 1 cm to 60 cm: exp is length^2
        self.scale, self.turn = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.network = nn.Sequential(
            *(nn.Linear(3 * width, width), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)),
        )

    def forward(self, x: Tensor, ops: Operators) -> Tensor:
        diffused = ops.diffuse(x, self.log_time.exp())
        v = ops.gradient(diffused)
        turned = self.scale(v) + quarter(self.turn(v))
        return x + self.network(torch.cat([x, diffused, torch.tanh((v * turned).sum(dim=1))], dim=1))


class DiffusionNetLike(nn.Module):
    """Scalars ``[N, inputs]`` to scalars ``[N, width]``."""

    def __init__(self, inputs: int, width: int, blocks: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(DiffusionBlock(width, dropout) for _ in range(blocks))

    def forward(self, x: Tensor, ops: Operators) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x, ops)
        return x


class VectorGate(nn.Module):
    """Shortens vectors by a threshold of their own per channel; commutes with turns of the frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.threshold = nn.BatchNorm1d(width), nn.Parameter(torch.zeros(width))

    def forward(self, v: Tensor) -> Tensor:
        length = (v.square().sum(dim=1) + 1e-8).sqrt()
        return v * (torch.relu(self.norm(length) + self.threshold) / length)[:, None]


class DeltaBlock(nn.Module):
    """One step of both streams; scalars with a skip."""

    def __init__(self, width: int, vectors: int, first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.around = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU())
        self.here = nn.Linear(width + (0 if first else 3 * vectors), width)
        self.norm = nn.BatchNorm1d(width)
        self.mix = nn.Linear(2 * (width + (0 if first else 2 * vectors)), vectors, bias=False)
        self.gate = VectorGate(vectors)

    def forward(self, x: Tensor, v: Tensor | None, ops: Operators) -> tuple[Tensor, Tensor]:
        seen, fields = [x], []
        if v is not None:
            length = (v.square().sum(dim=1) + 1e-8).sqrt()
            seen += [ops.divergence(v), ops.curl(v), length]
            fields += [v, ops.hodge(v)]
        near = self.around(x)[ops.edge_index[0]]
        near = segment_max(near, ops.edge_index[1], x.size(0))
        out = torch.relu(self.norm(self.here(torch.cat(seen, dim=1)) + near))
        fields = torch.cat([*fields, ops.gradient(x)], dim=2)
        return x + out, self.gate(self.mix(torch.cat([fields, quarter(fields)], dim=2)))


class DeltaConvLike(nn.Module):
    """Scalars ``[N, inputs]`` to scalars ``[N, width]``."""

    def __init__(self, inputs: int, width: int, blocks: int = 4, vectors: int | None = None) -> None:
        super().__init__()
        vectors = width if vectors is None else vectors
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(DeltaBlock(width, vectors, first=not k) for k in range(blocks))

    def forward(self, x: Tensor, ops: Operators) -> Tensor:
        x, v = self.first(x), None
        for block in self.blocks:
            x, v = block(x, v, ops)
        return x

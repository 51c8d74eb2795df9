"""Lennard-Jones atoms, written from the formula, as a model of the package."""

import torch

from geomeq.harmonics import edge_vectors, polynomial_envelope


class LennardJones(torch.nn.Module):
    """Energies ``[B]`` of pairs up to ``cutoff``: shifted as in ASE's, or faded out smoothly (``smooth``)."""

    def __init__(self, cutoff=2.5, sigma=1.0, epsilon=1.0, smooth=False):
        super().__init__()
        self.cutoff, self.sigma, self.epsilon, self.smooth = cutoff, sigma, epsilon, smooth

    def pair(self, r):
        sixth = (self.sigma / r) ** 6
        return 4 * self.epsilon * (sixth * sixth - sixth)

    def forward(self, data):
        batch = data.get("batch")
        vec = edge_vectors(data.pos, data.edge_index, data.get("shift"), data.get("cell"), batch)
        r = vec.norm(dim=1)
        if self.smooth:
            energy = self.pair(r) * polynomial_envelope(r, self.cutoff)
        else:
            energy = self.pair(r) - self.pair(self.cutoff)
        owner = torch.zeros_like(data.edge_index[1]) if batch is None else batch[data.edge_index[1]]
        graphs = 1 if batch is None else int(batch.max()) + 1
        return r.new_zeros(graphs).index_add(0, owner, energy / 2)

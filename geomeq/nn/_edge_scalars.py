"""Factors on features in the frame of an edge, made of its invariants."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.ops._product import Linear
from geomeq.ops.edge_rotation import EdgeLayout


class InputScale(nn.Module):
    """A network of the invariants of an edge with one output per degree, order |m| and channel.

    Factors of +m and -m are equal, so that they commute with turns about the edge.

    Args:
        edge_channels: Number of invariants.
        channels: Channels of the features.
        layout: Rows of the features.
        hidden: Widths in between; each layer is followed by a layer norm and SiLU.
    """

    row: Tensor

    def __init__(self, edge_channels: int, channels: int, layout: EdgeLayout, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        self.channels, self.edge_channels = channels, edge_channels
        kept = [(deg, abs(m)) for deg, m in zip(layout.degrees, layout.signed_orders, strict=True)]
        kinds = {key: k for k, key in enumerate(dict.fromkeys(kept))}
        self.num_kinds = len(kinds)
        self.register_buffer("row", torch.tensor([kinds[key] for key in kept]), persistent=False)
        layers: list[nn.Module] = []
        width = edge_channels
        for size in hidden:
            layers += [Linear(width, size), nn.LayerNorm(size), nn.SiLU()]
            width = size
        self.net = nn.Sequential(*layers, Linear(width, self.num_kinds * channels))

    def reset_parameters(self) -> None:
        """Draws all weights again."""
        for layer in self.net:
            if isinstance(layer, (nn.Linear, nn.LayerNorm)):
                layer.reset_parameters()
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=last.in_features**-0.5)

    def forward(self, edge_scalars: Tensor) -> Tensor:
        """Maps ``[E, edge_channels]`` to ``[E, B, channels]``."""
        check_shape("edge_scalars", edge_scalars, "E", self.edge_channels)
        made = self.net(edge_scalars).view(-1, self.num_kinds, self.channels)
        return made.index_select(1, self.row)

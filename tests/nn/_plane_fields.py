"""Signals on plane groups, and how far a layer is from following an element."""

import torch

from geomeq.nn import LiftingConv2d


def field(layer, size=(8, 7), batch=2, dtype=torch.float64):
    axes = () if isinstance(layer, LiftingConv2d) else (layer.group.order,)
    return torch.randn(batch, layer.in_channels, *axes, *size, dtype=dtype)


def act(layer, h, x):
    move = layer.group.act_on_image if isinstance(layer, LiftingConv2d) else layer.group.act_on_field
    return move(h, x)


@torch.no_grad()
def largest_error(layer, x, elements, function=None):
    function = function or layer
    wanted = function(x)
    gaps = [(function(act(layer, h, x)) - layer.group.act_on_field(h, wanted)).abs().max() for h in elements]
    return float(max(gaps) / wanted.abs().max())

"""Networks in fixed point, whose results are the same to the last bit on every machine."""

import copy

import torch
from torch import Tensor, nn

from geomeq.nn import OrderedConv

WEIGHT_BITS, VALUE_BITS = 16, 12  # digits after the binary point
LARGEST = 2.0**12  # inputs and outputs of convolutions are clipped here
_SPARE = 4  # more digits, for missing neighbours that are averaged or sums that are renormalised by 9/8
_EXACT = 2.0 ** (53 - WEIGHT_BITS - VALUE_BITS - _SPARE)  # sums below this are exact in float64


def to_fixed(x: Tensor) -> Tensor:
    """Rounded to multiples of 2^-12 and clipped to 4096, float64."""
    return ((x.double() * 2.0**VALUE_BITS).round() / 2.0**VALUE_BITS).clamp(-LARGEST, LARGEST)


@torch.no_grad()
def fixed_point(network: nn.Module) -> nn.Module:
    """A copy of a chain of convolutions, shuffles and ReLUs that rounds nowhere inside a sum.

    Weights, as float32 holds them, are rounded to multiples of 2^-16, and what comes out of a convolution to multiples
    of 2^-12, clipped to 4096. All products are then multiples of 2^-28 and their sums, while below 2^21, exact in
    float64: neither the order of summation, the number of threads, fused multiplications nor the device can change a
    bit. The input must be :func:`to_fixed`.

    Raises:
        ValueError: If weights are so large that a sum might not be exact.
    """
    network = copy.deepcopy(network).float().double().eval().requires_grad_(False)
    for name, module in network.named_modules():
        if isinstance(module, OrderedConv | nn.Conv2d):
            _quantise(name, module)
            module.register_forward_hook(lambda module, args, out: to_fixed(out))
    return network


def _quantise(name: str, conv: OrderedConv | nn.Conv2d) -> None:
    for parameter in conv.parameters():
        parameter.copy_((parameter * 2.0**WEIGHT_BITS).round() / 2.0**WEIGHT_BITS)
    if isinstance(conv, OrderedConv):
        conv.path = "gather"  # sums of products and nothing else
    rows = conv.weight.abs().sum(dim=(1, 2, 3) if isinstance(conv, nn.Conv2d) else (0, 1))
    bias = 0.0 if conv.bias is None else float(conv.bias.abs().max())
    reach = LARGEST * float(rows.max()) + bias
    if not reach < _EXACT:
        raise ValueError(
            f"the weights of one output of {name} in the hyper-decoder sum to {float(rows.max()):g} in size, where "
            f"exact arithmetic allows {_EXACT / LARGEST:g}; is the model trained?"
        )

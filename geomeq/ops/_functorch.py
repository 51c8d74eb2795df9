"""Custom operators under the function transforms of torch."""

import torch
from torch.autograd import forward_ad


def transforms_functions() -> bool:
    """Whether ``torch.func`` (``grad``, ``vmap``, ``jvp`` ...) or forward differentiation is at work.

    Plain formulas have to do there, as custom operators have no rules for it: ``vmap`` and ``grad`` fail, and forward
    derivatives (``jvp``, ``torch.autograd.forward_ad``) are silently zero where nothing requires a gradient.
    """
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or bool(torch._C._are_functorch_transforms_active())

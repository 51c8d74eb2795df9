"""Custom operators under the function transforms of torch."""

import torch


def transforms_functions() -> bool:
    """Whether ``torch.func`` (``grad``, ``vmap``, ``jvp`` ...) is at work, where plain formulas have to do.

    Custom operators have no rules for it: ``vmap`` and ``grad`` fail, and ``jvp`` is silently zero.
    """
    return not torch.compiler.is_compiling() and bool(torch._C._are_functorch_transforms_active())

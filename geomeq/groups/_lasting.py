"""What is made once and kept must serve training, even where it is first asked for in inference mode."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def lasting(build: Callable[P, T]) -> Callable[P, T]:
    """Runs ``build`` outside inference mode.

    Tensors born in ``torch.inference_mode()`` cannot take part in a backward pass ever after. A trainer that validates
    once before the first step would otherwise leave such tensors in every cache it touches.
    """
    if torch.compiler.is_compiling():  # wrapped inside a traced function, where a compiler cannot copy its name
        return build

    @wraps(build)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
            return build(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            return build(*args, **kwargs)

    return run

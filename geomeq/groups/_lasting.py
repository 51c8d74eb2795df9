"""What is made once and kept must serve training, even where it is first asked for in inference mode."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


def lasting(build: Callable[P, T]) -> Callable[P, T]:
    """Runs ``build`` outside inference mode, and on the CPU where it names no device.

    Tensors born in ``torch.inference_mode()`` cannot take part in a backward pass ever after. A trainer that validates
    once before the first step would otherwise leave such tensors in every cache it touches. Nor may what is kept depend
    on the default device of whoever asks first (``torch.set_default_device``, ``with torch.device("meta")``).
    """
    if torch.compiler.is_compiling():  # wrapped inside a traced function, where a compiler cannot copy its name
        return build

    @wraps(build)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():
            return build(*args, **kwargs)
        home = nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
        if not torch.is_inference_mode_enabled():
            with home:
                return build(*args, **kwargs)
        with home, torch.inference_mode(False), torch.no_grad():
            return build(*args, **kwargs)

    return run

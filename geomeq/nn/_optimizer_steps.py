"""How many optimiser steps this process has taken: fused optimisers write weights without counting in ``_version``."""

from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

_steps: list[int] = []


def optimizer_steps() -> int:
    """Steps of all ``torch.optim`` optimisers since the first call, which begins to count."""
    if not _steps:
        _steps.append(0)
        register_optimizer_step_post_hook(_count)
    return _steps[0]


def _count(*_: Any) -> None:
    _steps[0] += 1

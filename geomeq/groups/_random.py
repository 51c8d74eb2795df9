"""Random numbers in float64 from a seed, a generator, or torch's global state."""

import torch
from torch import Tensor

Source = int | torch.Generator | None


def generator_of(seed: Source) -> torch.Generator | None:
    """The generator that a seed names."""
    if isinstance(seed, torch.Generator) or seed is None:
        return seed
    return torch.Generator().manual_seed(seed)


def normal(*size: int, seed: Source) -> Tensor:
    """Standard normal numbers, float64, ``[*size]``, on the generator's device."""
    generator = generator_of(seed)
    device = None if generator is None else generator.device
    return torch.randn(*size, generator=generator, dtype=torch.float64, device=device)


def uniform(*size: int, seed: Source) -> Tensor:
    """Uniform numbers in [0, 1), float64, ``[*size]``, on the generator's device."""
    generator = generator_of(seed)
    device = None if generator is None else generator.device
    return torch.rand(size, generator=generator, dtype=torch.float64, device=device)

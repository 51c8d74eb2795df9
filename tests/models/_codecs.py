"""A codec small enough for a test, with something to code."""

import torch

from geomeq.models import OSLOCodec, OSLOCodecConfig


def small(hyperprior="scale", conv="oslo", seed=0, **options):
    """A codec whose latents have some bits in them, with tables."""
    torch.manual_seed(seed)
    size = {"oslo": 16, "isotropic": 16, "plane": 24}[conv]
    options = {"channels": 6, "latent_channels": 8, "stages": 1, "hops": 2, "K": 3, **options}
    codec = OSLOCodec(OSLOCodecConfig(size, hyperprior=hyperprior, conv=conv, **options))
    with torch.no_grad():
        for block in (codec.g_a, codec.h_a):
            for parameter in block.parameters() if block is not None else ():
                parameter.mul_(4)
        if codec.h_s is not None:
            for parameter in codec.h_s.parameters():
                parameter.mul_(2)
    codec.update()
    return codec.eval()

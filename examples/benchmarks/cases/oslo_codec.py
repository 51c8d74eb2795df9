"""The range coder on a million symbols, and ``geomeq.models.OSLOCodec`` from image to bytes and back."""

import torch
from harness import Case, Claim, Problem, Results, Unavailable

from geomeq import spheres
from geomeq.models import OSLOCodec, OSLOCodecConfig
from geomeq.nn import GaussianConditional
from geomeq.nn._range_coder import RangeReader, RangeWriter


def latents(symbols: int) -> Problem:
    """Integers of scales from 0.11 to 150, as a hyperprior gives them."""
    rng = torch.Generator().manual_seed(0)
    scale = torch.exp(torch.rand(symbols, generator=rng) * 7.2 - 2.2).double()
    value = (scale * torch.randn(symbols, generator=rng)).round()
    return {"value": value, "scale": scale}


def geomeq_coder(problem: Problem):
    """Integer tables of 64 scales, symbols grouped by table."""
    gaussian = GaussianConditional()
    tables, symbols = gaussian.tables(), problem["value"].long()
    try:
        RangeWriter()
    except ImportError as error:
        raise Unavailable(str(error)) from error

    def run() -> Results:
        index = gaussian.index(problem["scale"])
        writer = RangeWriter()
        writer.write(symbols, index, tables)
        return {"decoded": RangeReader(writer.data()).read(index, tables).double()}

    return run


def constriction_gaussian(problem: Problem):
    """The library's own Gaussian of a scale per symbol, which depends on floating-point arithmetic."""
    try:
        from constriction import stream
    except ImportError as error:
        raise Unavailable("needs constriction: pip install 'geomeq[codec]'") from error
    symbols, scale = problem["value"].int().numpy(), problem["scale"].double().numpy()
    family = stream.model.QuantizedGaussian(-2000, 2000)

    def run() -> Results:
        encoder = stream.queue.RangeEncoder()
        encoder.encode(symbols, family, 0 * scale, scale)
        decoded = stream.queue.RangeDecoder(encoder.get_compressed()).decode(family, 0 * scale, scale)
        return {"decoded": torch.from_numpy(decoded).double()}

    return run


def panorama(nside: int, channels: int) -> Problem:
    """A smooth picture, and a codec without training."""
    torch.manual_seed(0)
    config = OSLOCodecConfig(nside, channels=channels, latent_channels=channels, stages=4, hyperprior="scale")
    codec = OSLOCodec(config)
    codec.update()
    waves = torch.randn(3, 3, dtype=torch.float64) * 5
    image = (0.5 + 0.4 * torch.sin(spheres.healpix(nside).pos @ waves)).float()
    return {"image": image, "state": codec.state_dict(), "config": config}


def codec_by(path: str):
    def contender(problem: Problem):
        config = OSLOCodecConfig(**{**vars(problem["config"]), "path": path})
        codec = OSLOCodec(config)
        codec.load_state_dict(problem["state"])
        image = problem["image"].float()

        def run() -> Results:
            return {"image": codec.decompress(codec.compress(image)).double()}

        return run

    return contender


CASES = [
    Case(
        "range_coder",
        "integers to bytes and back, Gaussian of a scale each",
        sizes={"1,000,000 symbols": {"symbols": 1_000_000}},
        quick={"1,000 symbols": {"symbols": 1_000}},
        setup=latents,
        contenders={"geomeq": geomeq_coder, "constriction's Gaussian": constriction_gaussian},
        peer="constriction's Gaussian",
        reference=lambda problem: {"decoded": problem["value"].double()},
        claims=(
            Claim("a million symbols there and back in a second", "geomeq", "constriction's Gaussian", 0.0, 1.0),
            Claim("no slower than the library's Gaussian", "geomeq", "constriction's Gaussian"),
        ),
    ),
    Case(
        "oslo_codec",
        "image to bytes and back, scale hyperprior, 2 hops",
        sizes={"nside 64, 64 channels": {"nside": 64, "channels": 64}},
        quick={"nside 64, 4 channels": {"nside": 64, "channels": 4}},
        setup=panorama,
        contenders={"geomeq": codec_by("auto"), "geomeq, gather": codec_by("gather")},
        peer="geomeq, gather",
        reference=lambda problem: codec_by("gather")(problem)(),
    ),
]

"""OSLO: learned compression of images on the sphere, to bytes and back."""

import hashlib
import json
import warnings
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from geomeq._checks import check_shape
from geomeq.nn import GDN, FactorizedPrior, GaussianConditional, rd_loss
from geomeq.nn._range_coder import RangeReader, RangeWriter
from geomeq.nn.rd_loss import LAMBDAS

from ._codec_file import CodecError, CodecFile
from ._codec_images import as_signal, from_signal
from ._codec_layers import Grid, IsotropicGrid, OrderedGrid, PlaneGrid
from ._fixed_point import fixed_point, to_fixed

_HYPER_STAGES = 2
MAX_PIXELS = 12 * 1024**2  #: What :meth:`OSLOCodec.decompress` takes unasked: a 4k panorama, 2048 x 4096, on HEALPix.
_CHOICES = {
    "hyperprior": ("scale", "mean_scale", None),
    "conv": ("oslo", "isotropic", "plane"),
}


@dataclass(frozen=True)
class OSLOCodecConfig:
    """Everything that defines an :class:`OSLOCodec`; plain values, so it can be saved as JSON.

    Attributes:
        nside: Resolution of training images, a power of 2 of at least ``2^stages`` (4 times that with a hyperprior).
            Images of other resolutions are coded with the same weights. With ``conv="plane"`` the height.
        quality: 1 to 8, which sets what is ``None`` below.
        channels: Of the hidden features; 128 to quality 5, above 192.
        latent_channels: 192 to quality 5, above 320.
        lmbda: Price of distortion in :meth:`OSLOCodec.loss`.
        stages: Blocks, each with a quarter of the pixels of the one before.
        hops: Convolutions in each block.
        hyperprior: ``"scale"``, ``"mean_scale"``, or ``None``: one density per channel for all nodes.
        conv: ``"oslo"``: filters on HEALPix with eight ordered neighbours. For comparison: ``"isotropic"``, Chebyshev
            filters on the same pixels (without a hyperprior), and ``"plane"``, 3 x 3 filters on equirectangular images.
        K: Terms of the Chebyshev filters; 9 has as many weights as ordered neighbours.
        path: Of :class:`geomeq.nn.OrderedConv`.
        missing: What :class:`geomeq.nn.OrderedConv` puts for missing neighbours.
    """

    nside: int = 64
    quality: int = 3
    channels: int | None = None
    latent_channels: int | None = None
    lmbda: float | None = None
    stages: int = 4
    hops: int = 2
    hyperprior: Literal["scale", "mean_scale"] | None = "scale"
    conv: Literal["oslo", "isotropic", "plane"] = "oslo"
    K: int = 9
    path: str = "auto"
    missing: str = "zero"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if self.quality not in LAMBDAS:
            raise ValueError(f"quality must be one of {', '.join(map(str, LAMBDAS))}, got {self.quality!r}")
        wide = self.quality > 5
        defaults = {"channels": 192 if wide else 128, "latent_channels": 320 if wide else 192}
        for name, value in {**defaults, "lmbda": LAMBDAS[self.quality]}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in ("channels", "latent_channels", "lmbda", "stages", "hops", "K"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if self.conv == "isotropic" and self.hyperprior is not None:
            raise ValueError("conv='isotropic' goes without a hyperprior, which must be exact; give hyperprior=None")
        self.check_resolution(self.nside)

    @property
    def steps(self) -> int:
        """How often the number of pixels is divided by 4."""
        return self.stages + (0 if self.hyperprior is None else _HYPER_STAGES)

    @property
    def widths(self) -> tuple[int, int]:
        """Hidden and latent channels."""
        assert self.channels is not None
        assert self.latent_channels is not None
        return self.channels, self.latent_channels

    def pixels(self, resolution: int) -> int:
        """Of a whole image."""
        return (2 if self.conv == "plane" else 12) * resolution**2

    def check_resolution(self, nside: int) -> None:
        """Raises unless all levels of the network exist at this resolution."""
        what = "height" if self.conv == "plane" else "nside"
        least = 1 << self.steps
        legal = isinstance(nside, int) and nside >= least and nside % least == 0
        if not legal or (self.conv != "plane" and nside & (nside - 1)):
            kind = "multiple" if self.conv == "plane" else "power of 2 and a multiple"
            raise ValueError(f"{what} must be a {kind} of {least} ({self.steps} divisions by 2), got {nside!r}")


class OSLOCodec(nn.Module):
    r"""A learned image codec on HEALPix: 360-degree images to bytes and back.

    .. math:: y = g_a(x), \quad z = h_a(y), \quad \sigma, \mu = h_s(\hat z), \quad \hat x = g_s(\hat y)

    :math:`g_a` is ``stages`` blocks of convolutions with eight ordered neighbours, whose intermediate results are
    summed, each followed by :class:`~geomeq.nn.GDN` (but the last) and a division of the pixels by four. :math:`g_s`
    mirrors it with inverse GDN and :class:`~geomeq.nn.SphereShuffle`. :math:`\hat z` is coded by a
    :class:`~geomeq.nn.FactorizedPrior`, :math:`\hat y` by a :class:`~geomeq.nn.GaussianConditional` of scale
    :math:`\sigma` (and mean :math:`\mu`), or by a factorised prior as well where there is no hyperprior. Turns of the
    sphere by 90 degrees about its axis go through the network without change.

    After training, :meth:`update` makes the coding tables, which are part of the ``state_dict``. What decides bits is
    exact: tables are integers, and :math:`h_s` runs in fixed point in :meth:`compress` and :meth:`decompress`, so that
    a file can be read with another number of threads, on another device or machine. Only the last digits of the decoded
    image are the machine's own.

    Args:
        config: See :class:`OSLOCodecConfig`.

    Example:
        >>> codec = OSLOCodec(OSLOCodecConfig(nside=8, channels=4, latent_channels=6, stages=1, hyperprior=None))
        >>> codec(torch.rand(2, 768, 3))["x_hat"].shape
        torch.Size([2, 768, 3])

    Source: Mahmoudian Bidgoli et al. (2022), https://arxiv.org/abs/2107.09179; entropy models of Balle et al. (2018),
    https://arxiv.org/abs/1802.01436
    """

    def __init__(self, config: OSLOCodecConfig) -> None:
        super().__init__()
        self.config = config
        grid = _grid(config)
        (wide, latent), top = config.widths, config.stages
        self.g_a = _analysis(grid, [3, *[wide] * (top - 1), latent], config.hops)
        self.g_s = _synthesis(grid, [latent, *[wide] * (top - 1), 3], config.hops)
        self.h_a: nn.Module | None = None
        self.h_s: nn.Module | None = None
        self.gaussian: GaussianConditional | None = None
        if config.hyperprior is None:
            self.prior = FactorizedPrior(latent)
        else:
            self.prior = FactorizedPrior(wide)
            self.gaussian = GaussianConditional()
            self.h_a = _hyper_analysis(grid, latent, wide, top)
            self.h_s = _hyper_synthesis(grid, latent, wide, top, config.hyperprior == "mean_scale")

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Codes without bytes: with noise in training, rounded in evaluation.

        Args:
            x: Images ``[B, N, 3]``, values 0 to 1: HEALPix of any resolution in nested order, or square patches of it,
                ``4^k`` consecutive pixels, outside of which neighbours are missing.

        Returns:
            ``"x_hat"`` ``[B, N, 3]`` (may leave 0 to 1) and ``"likelihoods"``: probabilities of ``"y"``
            ``[B, N / 4^stages, latent_channels]`` and, with a hyperprior, of ``"z"``.

        Raises:
            TypeError: If ``x`` is not floating point.
            ValueError: If ``x`` has another shape.
        """
        self._check(x)
        y = self.g_a(x - 0.5)
        if self.h_a is None or self.h_s is None or self.gaussian is None:
            y_hat, p_y = self.prior(y)
            return {"x_hat": self.g_s(y_hat) + 0.5, "likelihoods": {"y": p_y}}
        z_hat, p_z = self.prior(self._h_a(y))
        scale, mean = self._split(self.h_s(z_hat))
        y_hat, p_y = self.gaussian(y, scale, mean)
        return {"x_hat": self.g_s(y_hat) + 0.5, "likelihoods": {"y": p_y, "z": p_z}}

    def loss(self, x: Tensor, area: Tensor | None = None) -> dict[str, Tensor]:
        """Rate, distortion and the auxiliary loss of a batch, see :func:`geomeq.nn.rd_loss`.

        Args:
            x: Images ``[B, N, 3]``.
            area: Weights of the nodes in the distortion; default equal.

        Returns:
            ``"loss"`` (the auxiliary loss of the quantiles is added, which moves nothing else), ``"bpp"``, ``"mse"``.
        """
        out = self(x)
        parts = rd_loss(x, out["x_hat"], out["likelihoods"], self.config.lmbda, area=area)
        return {**parts, "loss": parts["loss"] + self.prior.auxiliary_loss()}

    def update(self) -> None:
        """Makes the coding tables from the trained densities. Call it after all training, before saving."""
        self.prior.update()

    def at(self, nside: int) -> "OSLOCodec":
        """This codec for images of another resolution; parameters and tables are shared.

        With ordered neighbours that is the codec itself, which takes whole spheres of any resolution and patches.

        Raises:
            ValueError: If there is no such resolution.
        """
        self.config.check_resolution(nside)
        if self.config.conv == "oslo" or nside == self.config.nside:
            return self
        reference = next(self.parameters())
        other = OSLOCodec(replace(self.config, nside=nside)).to(reference.device)
        other.load_state_dict(self.state_dict(keep_vars=True), assign=True)
        return other.train(self.training)

    @torch.no_grad()
    def compress(self, image: Tensor, nside: int | None = None) -> bytes:
        """An image as the bytes of a file.

        A codec that has no coding tables yet makes them first (:meth:`update`); save its ``state_dict`` after that. If
        its densities were trained after :meth:`update` it makes them anew and warns.

        Args:
            image: HEALPix image ``[N, 3]`` in nested order, of any legal nside; or equirectangular ``[3, H, W]``,
                the first row at the north pole, columns from longitude 0 eastward. Floats 0 to 1, or uint8.
            nside: Resolution to code an equirectangular image at; default the least whose pixels are not
                larger than those on the equator of the image.

        Raises:
            ValueError: If the image has another shape, is not finite, or has values outside 0 to 1 (tone-map them).
            ImportError: If constriction is missing.
        """
        signal, what = as_signal(image, self.config, nside)
        self._refresh_tables()
        codec = self.at(what.resolution)
        y = codec.g_a(signal.to(next(self.parameters()))[None] - 0.5)
        if not bool(y.isfinite().all()):
            raise ValueError("the encoder gives numbers that are not finite; are the weights of the model?")
        stream = codec._write(y)
        channels = self.config.widths
        return replace(what, channels=channels, fingerprint=self.fingerprint(), stream=stream).to_bytes()

    @torch.no_grad()
    def decompress(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Tensor:
        """The image of a file, of the kind and type it had.

        Args:
            data: What :meth:`compress` gave.
            max_pixels: A file that claims to hold more is refused before any memory is taken, as a few bytes can stand
                for any number of pixels; the default lets a panorama of 2048 x 4096 pass.

        Raises:
            CodecError: If the file is damaged, foreign, too new, too large or of another model.
        """
        file = CodecFile.from_bytes(data)
        codec = self._codec_for(file, max_pixels)
        try:
            y_hat = codec._read(file.stream, self.config.pixels(file.resolution) >> 2 * self.config.steps)
        except ValueError as error:
            raise CodecError(f"the stream of the file cannot be decoded: {error}") from error
        signal = codec.g_s(y_hat)[0] + 0.5
        if not bool(signal.isfinite().all()):
            raise CodecError("the file decodes to numbers that are not finite: it is forged, or the weights overflow")
        return from_signal(signal.clamp(0, 1), file)

    def fingerprint(self) -> bytes:
        """Eight bytes that tell whether two models decode alike: architecture, weights (as float32) and tables."""
        plain = {k: v for k, v in asdict(self.config).items() if k not in ("nside", "lmbda", "quality", "path")}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            if name.endswith("table_source"):  # itself a hash of weights
                continue
            value = value.float() if value.is_floating_point() else value
            digest.update(name.encode() + value.contiguous().cpu().numpy().tobytes())
        return digest.digest()[:8]

    def _refresh_tables(self) -> None:
        if not self.prior.has_tables:
            self.update()
        elif self.prior.is_stale:
            warnings.warn(
                "the densities were trained after update(): coding tables are made anew; save state_dict() again, or "
                "nobody else can read what this codec writes",
                stacklevel=4,  # through no_grad and compress
            )
            self.update()

    def _codec_for(self, file: CodecFile, max_pixels: int) -> "OSLOCodec":
        grid = "equirectangular" if self.config.conv == "plane" else "healpix"
        channels = self.config.widths
        if (file.grid, file.channels) != (grid, channels):
            raise CodecError(
                f"the file was written by a model on {file.grid} with {file.channels} channels, this one is on {grid} "
                f"with {channels}; load that model"
            )
        if file.fingerprint != self.fingerprint():
            raise CodecError(
                f"the file was written by the model {file.fingerprint.hex()}, this one is {self.fingerprint().hex()}; "
                "load the state_dict that was saved after update()"
            )
        pixels = max(file.size[0] * file.size[1], self.config.pixels(file.resolution))
        if pixels > max_pixels:
            raise CodecError(
                f"the file claims {pixels} pixels, more than max_pixels={max_pixels}; if you trust it and have the "
                f"memory, call decompress(data, max_pixels={pixels})"
            )
        try:
            return self.at(file.resolution)
        except ValueError as error:
            raise CodecError(f"the file has an impossible resolution: {error}") from error

    def _check(self, x: Tensor) -> None:
        config = self.config
        hint = f"nside (or height) of the codec is {config.nside}; codec.at(...) is for another one"
        check_shape("x", x, "B", config.pixels(config.nside) if config.conv != "oslo" else "N", 3, hint=hint)
        if not x.dtype.is_floating_point:
            raise TypeError(f"x must be floating point, values 0 to 1, got {x.dtype}; call x.float() / 255 on bytes")
        least = 4**config.steps
        if config.conv != "oslo":
            return
        ratio = x.size(1) // least
        if x.size(1) % least or ratio not in (4**k * f for k in range(ratio.bit_length()) for f in (1, 12)):
            raise ValueError(
                f"x must hold whole spheres of 12 * 4^k or square patches of 4^k pixels, at least {least}, "
                f"got {x.size(1)}"
            )

    def _h_a(self, y: Tensor) -> Tensor:
        assert self.h_a is not None
        return self.h_a(y.abs() if self.config.hyperprior == "scale" else y)

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.config.hyperprior == "scale":
            return parameters, None
        scale, mean = parameters.chunk(2, dim=-1)
        return scale, mean

    def _write(self, y: Tensor) -> bytes:
        writer, medians = RangeWriter(), self._medians()
        first = y if self.h_a is None else self._h_a(y)
        symbols = (first.double() - medians).round().long()
        writer.write(symbols, _channel(symbols.shape), self.prior.tables())
        if self.gaussian is not None:
            scale, mean = self._exact(symbols)
            rest = (y.double() if mean is None else y.double() - mean).round().long()
            writer.write(rest, self.gaussian.index(scale), self.gaussian.tables())
        return writer.data()

    def _read(self, stream: bytes, nodes: int) -> Tensor:
        reader, reference = RangeReader(stream), next(self.parameters())
        shape = (1, nodes, self.prior.channels)
        symbols = reader.read(_channel(shape), self.prior.tables()).to(reference.device)
        y_hat = symbols + self._medians()
        if self.gaussian is not None:
            scale, mean = self._exact(symbols)
            rest = reader.read(self.gaussian.index(scale), self.gaussian.tables()).to(reference.device)
            y_hat = rest.double() if mean is None else rest + mean
        reader.check_end()
        return y_hat.to(reference)

    def _exact(self, symbols: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scales and means as encoder and decoder both find them, to the last bit."""
        assert self.h_s is not None
        with torch.autocast(symbols.device.type, enabled=False):
            return self._split(fixed_point(self.h_s)(to_fixed(symbols + self._medians())))

    def _medians(self) -> Tensor:
        """As float32 holds them, like the fingerprint, so that a model in float64 and its copy in float32 agree."""
        return self.prior.medians.float().double()


def random_patches(x: Tensor, pixels: int, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Square patches of HEALPix images, for training at resolutions that do not fit as a whole.

    Args:
        x: Images ``[B, N, C]``, nested order.
        pixels: Of a patch, a power of 4 and at most a face: consecutive pixels are a square on a face.
        count: Patches of each image, drawn independently.
        generator: Of random numbers.

    Returns:
        ``[B * count, pixels, C]``, those of one image in a row.

    Raises:
        ValueError: If ``pixels`` is no power of 4, or larger than a face.
    """
    check_shape("x", x, "B", "N", "C")
    power = pixels > 0 and pixels & (pixels - 1) == 0 and pixels.bit_length() % 2 == 1
    if not power or x.size(1) % pixels or 12 * pixels > x.size(1):
        raise ValueError(f"pixels must be a power of 4 and at most those of a face, {x.size(1) // 12}, got {pixels}")
    squares = x.unflatten(1, (-1, pixels))
    which = torch.randint(squares.size(1), (x.size(0), count), generator=generator).to(x.device)
    return squares[torch.arange(x.size(0), device=x.device)[:, None], which].flatten(0, 1)


def _channel(shape: tuple[int, ...] | torch.Size) -> Tensor:
    """The table of each symbol of a factorised prior: its channel."""
    return torch.arange(shape[-1]).expand(shape)


def _grid(config: OSLOCodecConfig) -> Grid:
    if config.conv == "plane":
        return PlaneGrid(config.nside)
    if config.conv == "isotropic":
        return IsotropicGrid(config.nside, config.K)
    return OrderedGrid(path=config.path, missing=config.missing)


def _analysis(grid: Grid, widths: list[int], hops: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for level, (a, b) in enumerate(pairwise(widths)):
        layers.append(grid.block(a, b, level, hops, down=True))
        layers.append(GDN(b))  # node by node, so it may come after the division
    return nn.Sequential(*layers[:-1])


def _synthesis(grid: Grid, widths: list[int], hops: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k, (a, b) in enumerate(pairwise(widths)):
        level = len(widths) - 1 - k
        layers += [grid.block(a, 4 * b, level, hops), grid.shuffle(level - 1), GDN(b, inverse=True)]
    return nn.Sequential(*layers[:-1])


def _hyper_analysis(grid: Grid, latent: int, wide: int, level: int) -> nn.Sequential:
    return nn.Sequential(
        grid.block(latent, wide, level, 1),
        nn.ReLU(),
        grid.block(wide, wide, level, 2, down=True),
        nn.ReLU(),
        grid.block(wide, wide, level + 1, 2, down=True),
    )


def _hyper_synthesis(grid: Grid, latent: int, wide: int, level: int, means: bool) -> nn.Sequential:
    def up(k: int) -> list[nn.Module]:
        return [grid.block(wide, 4 * wide, k, 1), grid.shuffle(k - 1), nn.ReLU()]

    last: list[nn.Module] = [grid.block(wide, latent * (2 if means else 1), level, 1)]
    return nn.Sequential(*up(level + 2), *up(level + 1), *last, *([] if means else [nn.ReLU()]))

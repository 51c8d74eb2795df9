"""Made textures whose classes differ in nothing but how neighbouring orientations go together."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch_geometric.data import Data

from geomeq.datasets._images import ImageDataset, check_split

_WAVELENGTH, _JITTER = 4.0, 0.75  # pixels
_CYCLES = 1 / 3  # of the orientation field across the image
_DEFAULT_SAMPLES = {"train": 2_000, "test": 1_000}


class OrientedTextures(ImageDataset):
    r"""Curved against crossed line fields with equal power spectra: a made task that needs oriented filters.

    An image holds short wave packets about ``spacing`` pixels apart, on a lattice that is turned at random and
    jittered, each with a random phase, in white noise:

    .. math:: u(p) = \sum_m e^{-|p - p_m|^2 / 2 \sigma^2} \cos(k_m \cdot (p - p_m) + \varphi_m) + \text{noise}(p),
        \quad |k_m| = 2 \pi / 4

    In class 0, ``"curved"``, their orientations follow a smooth field. In class 1, ``"crossed"``, each packet is turned
    by 90 degrees against that field with probability 1/2. Everything else has the same distribution: positions, phases,
    contrast, orientation of the whole, noise.

    Because the phases are independent, the expected power spectrum is the sum of those of the packets, and turning a
    packet does not change how much power it has at a radius: the radial spectra of the classes agree exactly in
    expectation, and with them everything that isotropic linear filters and mean squares can see. Because the packets
    hardly overlap, products of higher order tell an isotropic network little, and the noise hides most of that. It is
    not nothing: with little noise, small ``spacing`` or many images an isotropic network learns the task too.

    With wide, dense packets (``spacing=2.5, width=3.0``) an image is locally a Gaussian field: of one orientation, or
    of two at right angles. What one layer of isotropic filters gives at a pixel then has the same Gaussian law in both
    classes, so averages over the image of pointwise functions of it have the same mean; only their spread differs a
    little. A second layer sees products, which differ: networks of several isotropic layers learn the dense task.

    By default values have mean 0, and a mean square of about 0.04 from the packets and ``noise**2`` from the noise;
    they are not confined to 0..1.

    Args:
        split: ``"train"`` or ``"test"``, which are made from different random numbers.
        samples: Number of images; default: 2,000 for training, 1,000 for testing. The classes are drawn at random.
        size: Pixels along each side, 16 to 64.
        noise: Standard deviation of the white noise; a packet's peak is 1.
        bend: Strength of the orientation field: the standard deviation of each of its four waves, times
            :math:`\sqrt 2`, in radians.
        spacing: Mean distance of the packets, pixels, at least 2; packets overlap if it is less than about 4 ``width``.
        width: Standard deviation :math:`\sigma` of the envelope of a packet, pixels.
        seed: Another seed is another set; the same one is the same set on every machine, up to rounding.
        transform: Applied to a sample at every access.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from geomeq.datasets import OrientedTextures
        >>> OrientedTextures("test", samples=10)
        OrientedTextures(10, size=28x28)
    """

    def __init__(
        self,
        split: str = "train",
        samples: int | None = None,
        size: int = 28,
        noise: float = 0.11,
        bend: float = 0.2,
        spacing: float = 9.0,
        width: float = 1.4,
        seed: int = 0,
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_split(split, *_DEFAULT_SAMPLES)
        samples = _DEFAULT_SAMPLES[split] if samples is None else samples
        _check(samples, size, noise, bend, spacing, width)
        random = np.random.RandomState([seed, split == "test"])
        labels = random.randint(0, 2, samples)
        images = _make(random, labels, size, bend, spacing, width)
        images += noise * random.standard_normal(images.shape)
        tensor = torch.from_numpy(images.astype(np.float32))[:, None]
        super().__init__(tensor, torch.from_numpy(labels), ("curved", "crossed"), transform)


def _check(samples: int, size: int, noise: float, bend: float, spacing: float, width: float) -> None:
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not 16 <= size <= 64:
        raise ValueError(f"size must be from 16 to 64 pixels, got {size}")
    if not 2 <= spacing < math.inf:
        raise ValueError(f"spacing must be at least 2 pixels and finite, got {spacing}; every packet costs time")
    if not 0 < width < math.inf:
        raise ValueError(f"width must be positive and finite, got {width}")
    if not (noise >= 0 and math.isfinite(noise) and bend >= 0 and math.isfinite(bend)):
        raise ValueError(f"noise and bend must be finite and not negative, got {noise} and {bend}")


def _make(
    random: np.random.RandomState, labels: np.ndarray, size: int, bend: float, spacing: float, width: float
) -> np.ndarray:
    """The images without noise, ``[S, size, size]``."""
    place = _places(random, len(labels), size, spacing)
    angle = _field(random, place, size, bend)
    crossed = random.randint(0, 2, angle.shape) * (labels == 1)[:, None]
    angle = angle + crossed * (math.pi / 2)
    phase = random.uniform(0, 2 * math.pi, angle.shape)
    wave = 2 * math.pi / _WAVELENGTH * np.stack([np.cos(angle), np.sin(angle)])
    pixel = np.arange(size) - (size - 1) / 2
    images = np.zeros((len(labels), size, size))
    for m in range(angle.shape[1]):  # a packet is the product of a row and a column, both complex
        row, column = (_packet(pixel - place[:, m, axis, None], wave[axis, :, m, None], width) for axis in range(2))
        column = column * np.exp(1j * phase[:, m, None])
        images += (column[:, :, None] * row[:, None, :]).real
    return images


def _packet(distance: np.ndarray, wave: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-0.5 * (distance / width) ** 2 + 1j * wave * distance)


def _places(random: np.random.RandomState, samples: int, size: int, spacing: float) -> np.ndarray:
    """Points ``[S, M, 2]`` (x, y from the centre, pixels): a lattice turned, shifted and jittered at random."""
    count = math.ceil(1.5 * size / spacing) + 1  # covers the image under every rotation
    line = (np.arange(count) - (count - 1) / 2) * spacing
    lattice = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    lattice = lattice + random.uniform(-spacing / 2, spacing / 2, (samples, 1, 2))
    angle = random.uniform(0, 2 * math.pi, samples)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return np.einsum("sij,smj->smi", turn, lattice) + random.uniform(-_JITTER, _JITTER, (samples, count**2, 2))


def _field(random: np.random.RandomState, place: np.ndarray, size: int, bend: float) -> np.ndarray:
    """A smooth field of orientations at the points, radians ``[S, M]``; every orientation is equally likely."""
    samples = len(place)
    wave = random.standard_normal((samples, 4, 2)) * (2 * math.pi * _CYCLES / size)
    phase = random.uniform(0, 2 * math.pi, (samples, 4, 1))
    waves = bend * np.cos(np.einsum("skc,smc->skm", wave, place) + phase)
    return waves.sum(axis=1) + random.uniform(0, math.pi, (samples, 1))

"""Oriented textures: what separates the classes, and what must not."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geomeq.datasets import OrientedTextures


def frequencies(size):
    row, column = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    return np.hypot(row, column), np.arctan2(row, column)


def radial_spectrum(images):
    """Mean power in rings of width 1 / size, ``[S, size / 2 + 1]``."""
    radius, _ = frequencies(images.shape[-1])
    ring = np.minimum((radius * images.shape[-1]).round().astype(int), images.shape[-1] // 2)
    power = np.abs(np.fft.fft2(images)) ** 2
    return np.stack([power[:, ring == k].mean(-1) for k in range(ring.max() + 1)], -1)


def isotropic_energies(images):
    """Mean of the 2nd and 4th power behind radial filters, and power of the rectified result in rings."""
    radius, _ = frequencies(images.shape[-1])
    spectrum, out = np.fft.fft2(images), []
    for centre in (0.1, 0.2, 0.25, 0.35):
        u = np.fft.ifft2(spectrum * np.exp(-0.5 * ((radius - centre) / 0.05) ** 2)).real
        out += [(u**2).mean((1, 2))[:, None], (u**4).mean((1, 2))[:, None], radial_spectrum(np.maximum(u, 0))[:, ::2]]
    return np.log(np.concatenate(out, axis=1))


def oriented_energies(images):
    """Local energies behind six oriented filters: how much one orientation prevails in a neighbourhood."""
    radius, angle = frequencies(images.shape[-1])
    spectrum, smooth, energy = np.fft.fft2(images), np.exp(-0.5 * (radius / 0.05) ** 2), []
    for k in range(6):
        apart = (angle - math.pi * k / 6 + math.pi / 2) % math.pi - math.pi / 2
        window = np.exp(-0.5 * ((radius - 0.25) / 0.05) ** 2 - 0.5 * (apart / 0.3) ** 2)
        energy.append(np.fft.ifft2(np.fft.fft2(np.fft.ifft2(spectrum * window).real ** 2) * smooth).real)
    e = np.stack(energy, -1)
    crossing = (e * np.roll(e, 3, -1)).mean((1, 2, 3))
    features = e.mean((1, 2, 3)), (e**2).mean((1, 2, 3)), e.max(-1).mean((1, 2)), np.abs(crossing)
    return np.log(np.stack(features, -1))


def accuracy(features, train, test):
    (x, y), (x_test, y_test) = ((features(d.images[:, 0].numpy()), d.labels.numpy()) for d in (train, test))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(x, y)
    return model.score(x_test, y_test)


@pytest.fixture(scope="module")
def textures():
    return OrientedTextures(samples=2000), OrientedTextures("test", samples=1000)


def test_classes_have_one_mean_radial_spectrum(textures):
    train, _ = textures
    spectrum = radial_spectrum(train.images[:, 0].numpy().astype(np.float64))
    curved, crossed = (spectrum[train.labels.numpy() == c] for c in range(2))
    error = np.sqrt(curved.var(0) / len(curved) + crossed.var(0) / len(crossed))
    assert (np.abs(curved.mean(0) - crossed.mean(0)) < 4 * error).all()
    assert (error < 0.05 * curved.mean(0))[1:].all()  # so a difference of a fifth would be seen; ring 0 is one number


def test_isotropic_statistics_do_not_separate_them_and_oriented_ones_do(textures):
    assert accuracy(radial_spectrum, *textures) < 0.55  # chance and three standard errors
    assert accuracy(isotropic_energies, *textures) < 0.68
    assert accuracy(oriented_energies, *textures) > 0.96


def test_crowded_packets_without_noise_are_visible_to_isotropic_filters():
    # the limits of the claim, as the docstring says
    train, test = (OrientedTextures(s, 1500, noise=0.0, spacing=4.5) for s in ("train", "test"))
    assert accuracy(isotropic_energies, train, test) > 0.8


def one_layer(images, filters):
    """Averages of pointwise functions behind one layer of filters, a list of windows in frequency."""
    spectrum, out = np.fft.fft2(images), []
    for window in filters:
        u = np.fft.ifft2(spectrum * window).real
        out += [f(u).mean((1, 2)) for f in (np.abs, np.square, lambda u: u**4, lambda u: np.maximum(u - 0.5, 0))]
    return np.stack(out, -1)


def test_dense_packets_are_gaussian_to_one_layer_of_isotropic_filters():
    train, test = (OrientedTextures(s, 1500, size=20, noise=0.4, spacing=2.5, width=3.0) for s in ("train", "test"))
    radius, angle = frequencies(20)
    rings = [np.exp(-0.5 * ((radius - c) / 0.05) ** 2) for c in (0.1, 0.2, 0.25, 0.35)]
    assert accuracy(lambda x: one_layer(x, rings), train, test) < 0.64  # their spread tells a little
    fans = [rings[2] * np.exp(4 * (np.cos(2 * (angle - math.pi * k / 6)) - 1)) for k in range(6)]

    def over_orientations(x):  # as a network on SE(2) averages them
        energy = one_layer(x, fans).reshape(len(x), 6, 4)
        return np.concatenate([energy.mean(1), energy.std(1)], -1)

    assert accuracy(over_orientations, train, test) > 0.9


def test_every_orientation_is_equally_likely():
    images = OrientedTextures(samples=3000, noise=0.0).images[:, 0].numpy()
    radius, angle = frequencies(28)
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(0)
    band = (radius > 0.15) & (radius < 0.35)
    sector = (angle % math.pi / (math.pi / 6)).astype(int) % 6
    share = np.array([power[band & (sector == k)].sum() for k in range(6)])
    count = np.array([(band & (sector == k)).sum() for k in range(6)])
    relative = share / count / (share / count).mean()
    assert np.abs(relative - 1).max() < 0.15


def test_content_is_seeded():
    one = OrientedTextures(samples=20, seed=5)
    assert torch.equal(one.images, OrientedTextures(samples=20, seed=5).images)
    assert not torch.equal(one.images, OrientedTextures(samples=20, seed=6).images)
    assert not torch.equal(one.images, OrientedTextures("test", samples=20, seed=5).images)
    assert one.classes == ("curved", "crossed")
    assert one.images.shape == (20, 1, 28, 28)
    assert one.images.dtype == torch.float32
    assert len(OrientedTextures("test", size=16)) == 1000


def test_packets_and_noise_have_the_documented_power():
    clean, noisy = (OrientedTextures(samples=1000, noise=n).images for n in (0.0, 0.5))
    assert clean.square().mean().item() == pytest.approx(0.04, abs=0.01)
    assert noisy.square().mean().item() == pytest.approx(0.29, abs=0.01)
    assert abs(noisy.mean().item()) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "valid"}, "split must be one of 'train', 'test', got 'valid'"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"size": 8}, "size must be from 16 to 64 pixels, got 8"),
        ({"spacing": 1.0}, "spacing must be at least 2 pixels and finite, got 1.0"),
        ({"width": 0.0}, "width must be positive and finite, got 0.0"),
        ({"noise": -1.0}, "noise and bend must be finite and not negative, got -1.0 and 0.2"),
        ({"bend": math.nan}, "noise and bend must be finite"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        OrientedTextures(**arguments)

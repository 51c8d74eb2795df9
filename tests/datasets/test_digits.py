"""Digits: the content, the split, and the options."""

import pytest
import torch
from sklearn.datasets import load_digits

from geomeq.datasets import Digits
from geomeq.datasets._pixels import pad_images, resize_images


def test_the_images_are_those_of_scikit_learn():
    source, ours = load_digits(), Digits("all")
    assert torch.equal(ours.images[:, 0], torch.from_numpy(source.images).float() / 16)
    assert ours.labels.tolist() == source.target.tolist()
    assert ours.images.dtype == torch.float32
    assert ours.classes == tuple("0123456789")


def test_the_split_is_fixed_and_balanced():
    train, test = Digits(), Digits("test")
    assert (len(train), len(test)) == (1297, 500)
    assert torch.bincount(test.labels).tolist() == [50] * 10
    both = torch.cat([train.images, test.images]).flatten(1)
    everything = Digits("all").images.flatten(1)
    assert torch.equal(torch.unique(both, dim=0), torch.unique(everything, dim=0))
    assert test.labels[:12].tolist() == [1, 2, 4, 5, 6, 9, 4, 7, 8, 9, 2, 7]  # on every machine
    assert torch.equal(Digits("test").images, test.images)
    assert not torch.equal(Digits("test", split_seed=1).images, test.images)


def test_size_and_padding():
    small, large, padded = Digits("test"), Digits("test", size=16), Digits("test", size=16, pad=3)
    assert torch.equal(large.images, resize_images(small.images, 16))
    assert torch.equal(padded.images, pad_images(large.images, 3))
    assert padded.images.shape == (500, 1, 22, 22)
    assert large.images.min() >= 0
    assert large.images.max() <= 1
    assert torch.equal(Digits("test", size=8).images, small.images)


def test_rotation_is_an_option_with_a_seed():
    upright = Digits("test", size=16)
    assert torch.equal(Digits("test", size=16, rotate=90).images, torch.rot90(upright.images, 1, (-2, -1)))
    turned = Digits("test", size=16, rotate="any", seed=3)
    assert torch.equal(turned.images, upright.rotated(turned.degrees).images)
    assert torch.equal(turned.degrees, Digits("test", size=16, rotate="any", seed=3).degrees)
    assert not torch.equal(turned.degrees, Digits("test", rotate="any", seed=4).degrees)
    assert not torch.equal(turned.degrees, Digits("train", rotate="any", seed=3).degrees[:500])
    assert set(Digits("test", rotate="quarter").degrees.tolist()) == {0.0, 90.0, 180.0, 270.0}


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', 'all', got 'valid'"):
        Digits("valid")
    with pytest.raises(ValueError, match="size must be a whole number of pixels, at least 2, got 1"):
        Digits(size=1)
    with pytest.raises(ValueError, match="pad must be a whole number of pixels, at least 0, got -1"):
        Digits(pad=-1)

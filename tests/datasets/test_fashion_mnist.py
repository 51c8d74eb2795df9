"""Fashion-MNIST: the bundled subset, the full set, and files that must not be trusted."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from geomeq.datasets import FashionMNIST, _idx, cache_root
from geomeq.datasets import fashion_mnist as module
from geomeq.datasets._raw import load_npz
from geomeq.datasets._registry import bundled


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A full set of 30 + 20 made-up images in ``raw/``, train compressed and test not."""
    random = np.random.RandomState(0)
    (tmp_path / "raw").mkdir()
    sums = {}
    for split, count in (("train", 30), ("test", 20)):
        arrays = random.randint(0, 256, (count, 28, 28)).astype(np.uint8), np.arange(count).astype(np.uint8) % 10
        sums[split] = tuple(hashlib.sha256(a.tobytes()).hexdigest() for a in arrays)
        for name, array in zip(_idx.FILES[split], arrays, strict=True):
            content = idx_bytes(array)
            path = tmp_path / "raw" / name
            if split == "train":
                path.with_name(name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)
    monkeypatch.setattr(module, "CONTENT_SHA256", sums)
    monkeypatch.setattr(module, "SYSTEM_FOLDER", tmp_path / "nowhere")
    return tmp_path


def test_the_subset_is_balanced():
    train, test = FashionMNIST(), FashionMNIST("test")
    assert train.images.shape == (2000, 1, 28, 28)
    assert test.images.shape == (1000, 1, 28, 28)
    assert torch.bincount(train.labels).tolist() == [200] * 10
    assert torch.bincount(test.labels).tolist() == [100] * 10
    assert train.images.dtype == torch.float32
    assert (train.images.min(), train.images.max()) == (0, 1)
    assert train.images.mean() == pytest.approx(0.286, abs=0.01)  # the mean of the full set
    assert len(train.classes) == 10
    # classes are told apart by their mean image: labels and images belong together
    means = torch.stack([train.images[train.labels == c].mean(0) for c in range(10)]).flatten(1)
    nearest = torch.cdist(test.images.flatten(1), means).argmin(1)
    assert (nearest == test.labels).float().mean() > 0.6


def test_options_are_those_of_every_image_set():
    test = FashionMNIST("test", size=14, pad=2, rotate="any", seed=1)
    assert test.images.shape == (1000, 1, 18, 18)
    upright = FashionMNIST("test", size=14, pad=2)
    assert torch.equal(test.images, upright.rotated(test.degrees).images)
    again = FashionMNIST("test", size=14, pad=2, rotate="any", seed=1)
    assert torch.equal(test.images, again.images)


def test_the_full_set_is_read_from_idx_files_compressed_or_not(made_up):
    for split, count in (("train", 30), ("test", 20)):
        full = FashionMNIST(split, subset=False, root=made_up)
        pixels, labels = _idx.read_split(made_up / "raw", split)
        assert full.images.shape == (count, 1, 28, 28)
        torch.testing.assert_close(full.images[:, 0], torch.from_numpy(pixels.copy()).float() / 255)
        assert full.labels.tolist() == labels.tolist()


def test_the_place_of_the_debian_package_comes_second(made_up, monkeypatch):
    monkeypatch.setattr(module, "SYSTEM_FOLDER", made_up / "raw")
    assert len(FashionMNIST("test", subset=False, root=made_up / "empty")) == 20


def test_a_missing_full_set_is_an_error_that_says_what_to_do(made_up):
    with pytest.raises(FileNotFoundError, match=r"needs t10k-images-idx3-ubyte and .* dataset-fashion-mnist"):
        FashionMNIST("test", subset=False, root=made_up / "empty")


def test_another_set_under_the_same_names_is_refused(made_up, monkeypatch):
    monkeypatch.setattr(module, "CONTENT_SHA256", {"test": ("0", "1")})
    with pytest.raises(ValueError, match="are not those of Fashion-MNIST"):
        FashionMNIST("test", subset=False, root=made_up)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b[:-1], "must hold .* bytes for the shape .*, got .*: it is truncated"),
        (lambda b: b + b"x", "must hold .* bytes for the shape"),
        (lambda b: b"\x80\x04" + b[2:], "must be an idx file of unsigned bytes with 3 axes.*starts with 128 4 8 3"),
        (lambda b: b[:2] + b"\x0d" + b[3:], "must be an idx file of unsigned bytes"),  # floats
        (lambda b: b[:3] + b"\x01" + b[4:], "must be an idx file of unsigned bytes with 3 axes"),
        (lambda b: b[:10], "must be an idx file"),
        (lambda b: b"", "must be an idx file"),
        (lambda b: b[:4] + b"\xff" * 12 + b[16:], "it is truncated or damaged"),  # sizes beyond any memory
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damaged_idx_files_are_refused(tmp_path, damage, message, suffix):
    content = damage(idx_bytes(np.zeros((3, 4, 5), np.uint8)))
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(ValueError, match=message):
        _idx.read_idx(path, 3)


def test_a_truncated_gzip_file_is_refused(tmp_path):
    path = tmp_path / "images.gz"
    whole = gzip.compress(idx_bytes(np.random.RandomState(0).randint(0, 256, (9, 9, 9)).astype(np.uint8)))
    for content in (whole[:-20], whole[:40], b"not gzip", whole[:30] + b"\xff" * 40 + whole[70:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be uncompressed .* get it again"):
            _idx.read_idx(path, 3)


def test_images_and_labels_must_belong_together(made_up):
    (made_up / "raw" / _idx.FILES["test"][1]).write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    with pytest.raises(ValueError, match="holds 20 images, but .* holds 19 labels"):
        _idx.read_split(made_up / "raw", "test")
    with pytest.raises(FileNotFoundError, match="must hold t10k-images-idx3-ubyte"):
        _idx.read_split(made_up, "test")


def test_a_split_must_exist():
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', got 'valid'"):
        FashionMNIST("valid")


def test_the_subset_is_part_of_the_full_set():
    root = Path.home() / ".cache" / "geomeq" / "fashionmnist"  # the cache of these tests is an empty one
    try:
        full = {split: FashionMNIST(split, subset=False, root=root) for split in ("train", "test")}
    except FileNotFoundError:
        pytest.skip("the full Fashion-MNIST is not on this machine")
    arrays = load_npz(bundled("fashion_mnist/subset.npz"), None, "")
    for split, count in (("train", 60_000), ("test", 10_000)):
        assert len(full[split]) == count
        part = full[split].take(torch.from_numpy(arrays[f"{split}_index"].astype(np.int64)))
        assert torch.equal(part.images, FashionMNIST(split).images)
        assert torch.equal(part.labels, FashionMNIST(split).labels)


def test_the_default_place_is_the_cache_folder():
    assert FashionMNIST("test").root == cache_root() / "fashionmnist"

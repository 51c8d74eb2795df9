"""The idx format of MNIST-like sets: where the files are, and a reader that trusts none of them."""

import gzip
import zlib
from pathlib import Path

import numpy as np

#: The names that the authors gave the files, images and labels; each may end in ``.gz`` or not.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UBYTE = 0x08


def read_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads images ``[S, H, W]`` and labels ``[S]``, both uint8, of one split.

    Args:
        folder: Where the idx files are.
        split: ``"train"`` or ``"test"``.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is damaged, or labels and images do not fit.
    """
    paths = [find(folder, name) for name in FILES[split]]
    if None in paths:
        raise FileNotFoundError(f"{folder} must hold {FILES[split][0]} and {FILES[split][1]}, each with or without .gz")
    images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)  # type: ignore[arg-type]
    if len(images) != len(labels):
        raise ValueError(
            f"{paths[0]} holds {len(images)} images, but {paths[1]} holds {len(labels)} labels; "
            "they must be two files of the same split"
        )
    return images, labels


def find(folder: Path, name: str) -> Path | None:
    """The file ``name`` or ``name.gz`` in a folder; ``None`` if neither is there."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads one idx file of unsigned bytes.

    The format: two zero bytes, the type (8: unsigned byte), the number of axes, the size of each axis as a big-endian
    32-bit integer, and the values.

    Args:
        path: The file; one that ends in ``.gz`` is uncompressed.
        dimensions: How many axes it must have.

    Returns:
        uint8, in the shape that the file names.

    Raises:
        ValueError: If the file is not such a file, is truncated, or has bytes left over.
    """
    content = _content(path)
    header = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, _UBYTE, dimensions]) or len(content) < header:
        raise ValueError(
            f"{path} must be an idx file of unsigned bytes with {dimensions} axes, starting with the bytes "
            f"0 0 8 {dimensions}; it starts with {' '.join(map(str, content[:4]))}; get it again"
        )
    shape = [int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4)]
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise ValueError(
            f"{path} must hold {expected} bytes for the shape {shape} that its header names, got {len(content)}: "
            "it is truncated or damaged; get it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _content(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} cannot be uncompressed ({error}): it is truncated or damaged; get it again"
        ) from error

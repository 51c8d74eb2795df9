"""The common ground of the image sets: tensors, rotated copies, parts, and signals on a graph."""

import copy
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geomeq._checks import check_shape
from geomeq.datasets._pixels import pad_images, resize_images, rotate_images
from geomeq.datasets.shared_graph import SharedGraphDataset

Rotation = str | float | Tensor | None


class ImageDataset(Dataset[Data]):
    """Labelled images of one size, held as tensors.

    A sample is ``Data(x=[H * W, C], y=[1])``, with pixel ``(ix, iy)`` at node ``iy * W + ix``, ``iy`` counted from the
    top row. Most code takes the tensors :attr:`images` and :attr:`labels`, or puts the images on a graph: :meth:`on`.

    Attributes:
        images: ``[S, C, H, W]``, float32, in 0 to 1 unless the class says otherwise.
        labels: ``[S]``, int64.
        classes: The name of each label.
        degrees: How far each image was turned, counter-clockwise, ``[S]``, float64.

    Args:
        images: ``[S, C, H, W]``.
        labels: ``[S]``.
        classes: The name of each label.
        transform: Applied to a sample at every access.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> from geomeq.datasets import ImageDataset
        >>> ImageDataset(torch.zeros(5, 1, 8, 8), torch.zeros(5).long())
        ImageDataset(5, size=8x8)
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: tuple[str, ...] = (),
        transform: Callable[[Data], Data] | None = None,
    ) -> None:
        check_shape("images", images, "S", "C", "H", "W")
        check_shape("labels", labels, images.size(0))
        self.images, self.labels, self.classes, self.transform = images, labels.long(), classes, transform
        self.degrees = torch.zeros(len(labels), dtype=torch.float64)

    def __len__(self) -> int:
        return self.images.size(0)

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be within {len(self)} images, got {index}")
        sample = Data(x=self.images[index].flatten(1).T, y=self.labels[index].view(1))
        return sample if self.transform is None else self.transform(sample)

    def __iter__(self) -> Iterator[Data]:
        return (self[index] for index in range(len(self)))

    def take(self, index: Tensor | slice) -> Self:
        """The images at these places, as a set of its own.

        Args:
            index: Places ``[M]`` (int64), a mask ``[S]`` (bool), or a slice.
        """
        part = copy.copy(self)
        part.images, part.labels, part.degrees = self.images[index], self.labels[index], self.degrees[index]
        return part

    def split(self, *sizes: int | float, seed: int = 0) -> tuple[Self, ...]:
        """Parts without a common image, drawn at random.

        Args:
            sizes: For each part the number of images (``int``), or the share of all of them (``float``).
            seed: Another seed is another choice; the same one is the same choice on every machine.

        Raises:
            ValueError: If a size is not positive, or all sizes together are more than there are.
        """
        counts = [round(size * len(self)) if isinstance(size, float) else size for size in sizes]
        if not counts or min(counts) <= 0 or sum(counts) > len(self):
            raise ValueError(f"sizes must be positive and at most {len(self)} images in all, got {sizes}")
        order = torch.from_numpy(np.random.RandomState(seed).permutation(len(self))[: sum(counts)])
        return tuple(self.take(part) for part in order.split(counts))

    def rotated(self, degrees: Rotation, seed: int = 0) -> Self:
        """A copy whose images are turned counter-clockwise about their centre, zero where nothing was.

        Values between pixels are interpolated bilinearly. A multiple of 90 degrees moves pixels and changes no value.

        Args:
            degrees: One angle for all images; an angle each, ``[S]``; ``"quarter"``: 0, 90, 180 or 270 degrees at
                random; ``"uniform"`` (or ``"any"``): any angle at random; ``None``: 0.
            seed: Of the random angles. The same seed gives the same angles on every machine.

        Raises:
            ValueError: If the images are not square, or ``degrees`` is none of these.
        """
        angles = _angles(degrees, len(self), seed)
        turned = copy.copy(self)
        turned.images = rotate_images(self.images, angles)
        turned.degrees = torch.remainder(self.degrees + angles, 360.0)
        return turned

    def on(self, graph: Data, transform: Callable[[Data], Data] | None = None) -> SharedGraphDataset:
        """The images as signals on a graph whose spatial nodes are the pixels.

        Node ``k * H * W + iy * W + ix`` holds pixel ``(ix, iy)`` for every orientation ``k``: an image is lifted by
        repetition. Memory holds each image once; a sample is repeated when it is read.

        Args:
            graph: Made by ``transforms.GroupGraph`` for a group over the plane: ``grid = (W, H)``, and
                ``num_orientations`` (1 if missing).
            transform: Applied to a sample ``Data(x=[N, C], y=[...])`` at every access.

        Returns:
            Samples with ``x [N, C]`` and ``y`` the label; ``batch(index)`` gives many at once.

        Raises:
            ValueError: If the graph is no grid of the images' size.
        """
        height, width = self.images.shape[2:]
        grid = graph.grid if "grid" in graph else None
        if grid is None or tuple(grid) != (width, height):
            got = "a graph without the attribute grid" if grid is None else f"a grid of {' x '.join(map(str, grid))}"
            raise ValueError(
                f"the spatial nodes of the graph must be a grid of {width} x {height} pixels, as the images are, "
                f"got {got}; build it with GroupGraph(group, size=({width}, {height}, ...)), or give the data set "
                "another size="
            )
        orientations = int(graph.num_orientations) if "num_orientations" in graph else 1
        x = self.images.flatten(2).transpose(1, 2)
        return SharedGraphDataset(graph, x, self.labels, transform, num_orientations=orientations)

    def __repr__(self) -> str:
        height, width = self.images.shape[2:]
        return f"{type(self).__name__}({len(self)}, size={width}x{height})"


def prepare(images: np.ndarray, white: float, size: int | None, pad: int) -> Tensor:
    """Bytes ``[S, H, W]`` to float32 images ``[S, 1, H', W']`` in 0 to 1, resized and then padded with zeros."""
    if size is not None and (not isinstance(size, int) or size < 2):
        raise ValueError(f"size must be a whole number of pixels, at least 2, got {size!r}")
    if not isinstance(pad, int) or pad < 0:
        raise ValueError(f"pad must be a whole number of pixels, at least 0, got {pad!r}")
    x = torch.from_numpy(images.astype(np.float32) / np.float32(white))[:, None]
    if size is not None and size != x.size(-1):
        x = resize_images(x, size)
    return pad_images(x, pad)


def check_split(split: str, *known: str) -> None:
    """Raises unless a split exists.

    Raises:
        ValueError: If it does not.
    """
    if split not in known:
        raise ValueError(f"split must be one of {', '.join(map(repr, known))}, got {split!r}")


def _angles(degrees: Rotation, count: int, seed: int) -> Tensor:
    """The angle of each image in degrees, float64."""
    random = np.random.RandomState(seed)  # its numbers are the same for every version of numpy
    if degrees is None:
        return torch.zeros(count, dtype=torch.float64)
    if isinstance(degrees, str):
        if degrees not in ("quarter", "uniform", "any"):
            raise ValueError(f"degrees must be a number, 'quarter' or 'uniform' (also called 'any'), got {degrees!r}")
        if degrees == "quarter":
            return torch.from_numpy(90.0 * random.randint(0, 4, count))
        return torch.from_numpy(random.uniform(0.0, 360.0, count))
    angles = torch.as_tensor(degrees, dtype=torch.float64)
    if angles.dim() > 0:
        check_shape("degrees", angles, count, hint="give one angle for all images, or one for each")
    if not bool(torch.isfinite(angles).all()):
        raise ValueError(f"degrees must be finite, got {degrees}")
    return angles.expand(count)

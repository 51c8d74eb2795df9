"""What all image sets share: rotated copies, parts, and signals on a graph."""

import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from geomeq.datasets import SharedGraphLoader
from geomeq.datasets._images import ImageDataset
from geomeq.datasets._pixels import resize_images, rotate_images


def random_set(count=7, size=6, channels=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, size, size, generator=random)
    return ImageDataset(images, torch.arange(count) % 3, ("a", "b", "c"))


def grid_graph(width, height, orientations=1):
    nodes = width * height * orientations
    edge_index = torch.zeros(2, 0, dtype=torch.long)
    return Data(pos=torch.zeros(nodes, 3), edge_index=edge_index, grid=(width, height), num_orientations=orientations)


def rotate_by_definition(image, degrees):
    """The value at p is the bilinear interpolation of the image at R^-1 p, pixel by pixel, y upwards."""
    size = image.shape[-1]
    centre, angle = (size - 1) / 2, math.radians(degrees)
    padded = np.pad(image, 1)  # zeros outside
    out = np.zeros_like(image)
    for iy in range(size):
        for ix in range(size):
            x, y = ix - centre, centre - iy
            u = math.cos(angle) * x + math.sin(angle) * y + centre
            v = centre - (-math.sin(angle) * x + math.cos(angle) * y)
            i, j = math.floor(u), math.floor(v)
            if not (-1 <= i < size and -1 <= j < size):
                continue
            fu, fv = u - i, v - j
            block = padded[j + 1 : j + 3, i + 1 : i + 3]
            out[iy, ix] = np.array([1 - fv, fv]) @ block @ np.array([1 - fu, fu])
    return out


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_rotation_is_bilinear_interpolation_about_the_centre(dtype, tol):
    images = torch.rand(4, 1, 7, 7, dtype=dtype, generator=torch.Generator().manual_seed(1))
    degrees = torch.tensor([30.0, 123.4, -47.0, 359.0], dtype=torch.float64)
    got = rotate_images(images, degrees)
    wanted = [rotate_by_definition(image[0].numpy(), float(d)) for image, d in zip(images, degrees, strict=True)]
    torch.testing.assert_close(got[:, 0], torch.from_numpy(np.stack(wanted)), atol=tol, rtol=0)
    assert (rotate_images(images, -degrees) - got).abs().max() > 0.1  # the other way round is another image


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4, 7])
def test_quarter_turns_move_pixels_and_change_no_value(turns):
    images = random_set()
    turned = images.rotated(90.0 * turns)
    assert torch.equal(turned.images, torch.rot90(images.images, turns, (-2, -1)))
    assert (turned.degrees == 90.0 * (turns % 4)).all()


def test_rotation_is_continuous_at_quarter_turns():
    # the two branches of the code agree, so the sign of the angle is the same in both
    images = resize_images(random_set(size=4).images.double(), 32)
    for degrees in (90.0, 180.0, 270.0):
        exact = rotate_images(images, torch.full((7,), degrees, dtype=torch.float64))
        near = rotate_images(images, torch.full((7,), degrees + 1e-5, dtype=torch.float64))
        assert (exact - near)[..., 1:-1, 1:-1].abs().max() < 1e-5


def test_resizing_commutes_with_quarter_turns():
    images = random_set(size=8).images
    turned = resize_images(torch.rot90(images, 1, (-2, -1)), 16)
    torch.testing.assert_close(turned, torch.rot90(resize_images(images, 16), 1, (-2, -1)))


def test_random_rotations_are_seeded_and_spread():
    images = random_set(count=2000, size=3, channels=1)
    one, again, other = (images.rotated("uniform", seed) for seed in (3, 3, 4))
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    assert torch.equal(one.degrees, images.rotated("any", 3).degrees)
    histogram = torch.histc(one.degrees, 8, 0, 360)
    assert histogram.min() > 200  # 250 +- 15 each
    quarter = images.rotated("quarter", 0)
    assert [int((quarter.degrees == d).sum()) > 400 for d in (0, 90, 180, 270)] == [True] * 4
    for k in range(4):
        chosen = quarter.degrees == 90 * k
        assert torch.equal(quarter.images[chosen], torch.rot90(images.images[chosen], k, (-2, -1)))
    assert torch.equal(images.rotated(None).images, images.images)


def test_angles_add_up_and_the_original_is_left_alone():
    images = random_set()
    before = images.images.clone()
    turned = images.rotated(200.0).rotated(torch.full((7,), 200.0))
    torch.testing.assert_close(turned.degrees, torch.full((7,), 40.0, dtype=torch.float64))
    assert torch.equal(images.images, before)
    assert (images.degrees == 0).all()


def test_a_sample_lists_pixels_row_by_row():
    images = random_set()
    sample = images[2]
    assert torch.equal(sample.x[4 * 6 + 1], images.images[2, :, 4, 1])
    assert sample.y.tolist() == [2]
    batch = next(iter(DataLoader(images, batch_size=3)))
    assert batch.x.shape == (3 * 36, 2)
    assert batch.y.tolist() == [0, 1, 2]
    assert len(list(images)) == 7


@pytest.mark.parametrize("orientations", [1, 4])
def test_on_a_graph_every_orientation_holds_the_image(orientations):
    images, graph = random_set(), grid_graph(6, 6, orientations)
    lifted = images.on(graph)
    assert lifted.x.shape == (7, 36 * orientations, 2)
    for k in range(orientations):
        assert torch.equal(lifted[3].x[k * 36 + 5 * 6 + 2], images.images[3, :, 5, 2])
    assert lifted.signals.data_ptr() == images.images.data_ptr()  # held once
    assert lifted.graph is graph
    (batch,) = SharedGraphLoader(lifted, batch_size=7)
    assert torch.equal(batch.x, lifted.x)
    assert torch.equal(batch.y, images.labels)
    x, y = lifted.batch(torch.tensor([4, 1]))
    assert torch.equal(x, lifted.x[[4, 1]])
    assert y.tolist() == [1, 1]


def test_images_that_are_not_square_keep_their_rows():
    images = ImageDataset(torch.rand(2, 1, 3, 5), torch.zeros(2))
    assert torch.equal(images.on(grid_graph(5, 3))[0].x[2 * 5 + 4], images.images[0, :, 2, 4])
    with pytest.raises(ValueError, match="images must be square to be rotated, got 5 x 3 pixels"):
        images.rotated(30)
    with pytest.raises(ValueError, match=r"a grid of 5 x 3 pixels, as the images are, got a grid of 3 x 5"):
        images.on(grid_graph(3, 5))


def test_parts_share_no_image_and_are_seeded():
    images = random_set(count=50)
    train, valid = images.split(30, 0.2, seed=1)
    assert (len(train), len(valid)) == (30, 10)
    rows = torch.cat([train.images, valid.images]).flatten(1)
    assert torch.unique(rows, dim=0).size(0) == 40
    assert torch.equal(images.split(30, 0.2, seed=1)[1].images, valid.images)
    assert not torch.equal(images.split(30, 0.2, seed=2)[1].images, valid.images)
    first = images.take(slice(5))
    assert len(first) == 5
    assert first.classes == images.classes


def test_transform_is_applied_at_access():
    images = ImageDataset(torch.rand(2, 1, 3, 3), torch.zeros(2), transform=lambda d: Data(x=d.x * 2, y=d.y))
    torch.testing.assert_close(images[0].x, images.images[0].flatten(1).T * 2)


def test_bad_input_is_named():
    images = random_set()
    with pytest.raises(ValueError, match=r"labels must have shape \[7\], got \[6\]"):
        ImageDataset(images.images, torch.zeros(6))
    with pytest.raises(ValueError, match=r"images must have shape \[S, C, H, W\], got \[7, 6, 6\]"):
        ImageDataset(images.images[:, 0], torch.zeros(7))
    with pytest.raises(ValueError, match="got a graph without the attribute grid; build it with GroupGraph"):
        images.on(Data(pos=torch.zeros(36, 3)))
    with pytest.raises(ValueError, match="num_orientations must divide the 36 nodes of the graph, got 5"):
        images.on(Data(pos=torch.zeros(36, 3), grid=(6, 6), num_orientations=5))
    with pytest.raises(ValueError, match="degrees must be a number, 'quarter' or 'uniform'"):
        images.rotated("upside down")
    with pytest.raises(ValueError, match=r"degrees must have shape \[7\], got \[6\]; give one angle"):
        images.rotated(torch.zeros(6))
    with pytest.raises(ValueError, match="degrees must be finite, got nan"):
        images.rotated(math.nan)
    with pytest.raises(ValueError, match="sizes must be positive and at most 7 images in all, got"):
        images.split(5, 3)
    with pytest.raises(ValueError, match="sizes must be positive"):
        images.split(0)
    with pytest.raises(IndexError, match="index must be within 7 images, got 7"):
        images[7]

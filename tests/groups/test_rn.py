"""R^n: bad dimensions, the grid and its weights."""

import pytest
import torch

from geomeq.groups import Rn


@pytest.mark.parametrize("n", [0, -1, 1.5, "2"])
def test_bad_dimensions_are_refused(n):
    with pytest.raises(ValueError, match="n must be a positive integer"):
        Rn(n)


def test_grid_is_ordered_with_x_fastest():
    sample = Rn(2).sample((3, 2))
    wanted = [[-1 / 3, -1 / 6], [0, -1 / 6], [1 / 3, -1 / 6], [-1 / 3, 1 / 6], [0, 1 / 6], [1 / 3, 1 / 6]]
    torch.testing.assert_close(sample.element, torch.tensor(wanted, dtype=torch.float64))
    assert sample.grid == (3, 2)
    assert sample.spacing == (1 / 3, 1 / 3)


@pytest.mark.parametrize("shape", [(28, 28), (5, 9, 4), (7,)])
def test_grid_is_its_own_mirror_image_exactly(shape):
    points = Rn(len(shape)).sample(shape).element.view(*reversed(shape), len(shape))
    for axis in range(len(shape)):
        assert torch.equal(points[..., axis], -points[..., axis].flip(len(shape) - 1 - axis))


def test_weights_add_up_to_the_volume_and_integrate():
    sample = Rn(3).sample((20, 20, 10))
    x, y, z = sample.element.T
    assert float(sample.weight.sum()) == pytest.approx(0.5)
    assert float((sample.weight * x**2).sum()) == pytest.approx(1 / 24, rel=5e-3)
    assert float((sample.weight * (x * y + z)).sum()) == pytest.approx(0, abs=1e-15)


def test_random_is_standard_normal():
    a = Rn(3).random(20000, seed=0)
    torch.testing.assert_close(a.T @ a / 20000, torch.eye(3, dtype=torch.float64), atol=0.05, rtol=0)

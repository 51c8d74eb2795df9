import pytest
import torch

from geomeq.nn import from_batch, lift, project, to_batch
from tests.nn._group_graphs import quarter_turn


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 6, 4, 5), (1, 1, 1, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_batch_undoes_to_batch(shape, dtype):
    image = torch.randn(shape, dtype=dtype)
    grid = tuple(reversed(shape[2:]))
    assert torch.equal(from_batch(to_batch(image), grid), image)


def test_nodes_run_along_x_first():
    image = torch.zeros(1, 1, 2, 3)
    image[0, 0, 1, 2] = 1.0  # row iy = 1, column ix = 2
    assert to_batch(image)[0, 1 * 3 + 2] == 1.0
    volume = torch.zeros(1, 1, 4, 2, 3)
    volume[0, 0, 3, 1, 2] = 1.0
    assert to_batch(volume)[0, (3 * 2 + 1) * 3 + 2] == 1.0


@pytest.mark.parametrize("lead", [(), (4,)])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_project_undoes_lift(lead, reduce):
    x = torch.randn(*lead, 5, 3)
    lifted = lift(x, 4)
    assert lifted.shape == (*lead, 20, 3)
    torch.testing.assert_close(lifted.unflatten(-2, (4, 5)), x.unsqueeze(-3).expand(*lead, 4, 5, 3))
    torch.testing.assert_close(project(lifted, 4, reduce), x)


def test_lift_and_project_commute_with_a_quarter_turn():
    image, turn = torch.randn(2, 3, 6, 6), quarter_turn(6, 4)
    turned = to_batch(torch.rot90(image, 1, (2, 3)))
    assert torch.equal(lift(turned, 4), lift(to_batch(image), 4)[:, turn])
    x = torch.randn(2, 6 * 6 * 4, 3)
    got = from_batch(project(x[:, turn], 4), (6, 6))
    assert torch.equal(got, torch.rot90(from_batch(project(x, 4), (6, 6)), 1, (2, 3)))
    assert not torch.equal(got, from_batch(project(x, 4), (6, 6)))  # the check has teeth


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: to_batch(torch.zeros(4, 4)), r"image must have shape \[B, C, H, W\], got \[4, 4\]"),
        (lambda: from_batch(torch.zeros(1, 15, 2), (4, 4)), r"x must have shape \[B, 16, C\].*project"),
        (lambda: lift(torch.zeros(4, 2), 0), "num_orientations must be positive, got 0"),
        (lambda: project(torch.zeros(7, 2), 2), "a multiple of num_orientations = 2 nodes"),
        (lambda: project(torch.zeros(8, 2), 2, "sum"), "reduce must be 'max' or 'mean', got 'sum'"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Pooling of typed images: linear, symmetric, and no maxima of components."""

import pytest
import torch

from geomeq.groups import SO2Irreps
from geomeq.nn import GaugePool2d
from tests.nn._plane_waves import turned_image

TYPES = SO2Irreps("2x0+1x1+1x2")


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(("kind", "size"), [("antialiased", 8), ("antialiased", 7), ("mean", 8)])
def test_quarter_turns_are_kept(kind, size, dtype, tol):
    pool = GaugePool2d(TYPES, kind=kind, on_illegal="error")
    x = torch.randn(2, TYPES.dim, size, size, dtype=dtype)
    gap = pool(turned_image(TYPES, x)) - turned_image(TYPES, pool(x))
    assert gap.abs().max() < tol


def test_the_check_has_teeth():
    x = torch.randn(2, TYPES.dim, 7, 7, dtype=torch.float64)
    with pytest.warns(UserWarning, match="breaks the symmetry"):
        GaugePool2d(TYPES, kind="mean")(x)
    pool = GaugePool2d(TYPES, kind="mean", on_illegal="ignore")
    gap = pool(turned_image(TYPES, x)) - turned_image(TYPES, pool(x))
    assert gap.abs().max() > 0.1
    with pytest.raises(ValueError, match="breaks the symmetry"):
        GaugePool2d(TYPES, kind="mean", on_illegal="error")(x)
    even, largest = x[..., :6, :6], torch.nn.MaxPool2d(2)
    assert (largest(turned_image(TYPES, even)) - turned_image(TYPES, largest(even))).abs().max() > 0.1


def test_largest_entries_are_for_scalars_only():
    assert GaugePool2d("3x0", kind="max")(torch.randn(1, 3, 4, 4)).shape == (1, 3, 2, 2)
    with pytest.raises(ValueError, match="depends on the frame, and 2x0\\+1x1\\+1x2 has orders above 0"):
        GaugePool2d(TYPES, kind="max")
    with pytest.raises(ValueError, match="kind must be one of"):
        GaugePool2d(TYPES, kind="median")
    with pytest.raises(ValueError, match="the layer was built for types=2x0"):
        GaugePool2d(TYPES)(torch.zeros(1, 3, 4, 4))

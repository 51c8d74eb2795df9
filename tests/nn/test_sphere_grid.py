"""Samples on the sphere: exact both ways, and how fast a pointwise function becomes equivariant."""

import math

import pytest
import torch
import torch.nn.functional as F

from geomeq.groups.wigner import wigner_blocks
from geomeq.harmonics import spherical_harmonics
from geomeq.nn import SphereGrid
from tests.harmonics.test_spherical import random_rotations

# Relative error of "activation of a rotated function" on n x (2n + 1) points, random functions of unit variance.
ERRORS = {
    (2, "silu"): {3: 1.2e-1, 4: 1.3e-2, 6: 8e-4, 9: 2.5e-5, 12: 9e-7},
    (2, "relu"): {3: 1.4e-1, 4: 5e-2, 6: 1.7e-2, 9: 6e-3, 12: 3e-3},
    (4, "silu"): {5: 1.7e-1, 6: 6e-2, 8: 9e-3, 10: 1.8e-3, 15: 6e-5, 20: 2.3e-6},
    (4, "relu"): {5: 2e-1, 6: 9e-2, 8: 4e-2, 10: 2e-2, 15: 7.5e-3, 20: 3.6e-3},
    (6, "silu"): {7: 1.9e-1, 8: 1.0e-1, 11: 1.1e-2, 14: 2.3e-3, 21: 9e-5, 28: 4e-6},
    (6, "relu"): {7: 2.1e-1, 28: 3.7e-3},
}


def turned(x: torch.Tensor, rotations: torch.Tensor, lmax: int) -> torch.Tensor:
    blocks = wigner_blocks(rotations, lmax)
    return torch.cat([blocks[k].to(x) @ x[:, k * k : (k + 1) ** 2] for k in range(lmax + 1)], dim=1)


def m_primary(lmax: int, mmax: int) -> list[int]:
    orders = [0, *(s * m for m in range(1, mmax + 1) for s in (1, -1))]
    return [k * k + k + m for m in orders for k in range(abs(m), lmax + 1)]


@pytest.mark.parametrize("lmax", range(7))
@pytest.mark.parametrize("normalization", ["component", "integral", "unit"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 2e-5), (torch.float64, 5e-14)])
def test_samples_are_the_function_and_come_back(lmax, normalization, dtype, tol):
    grid = SphereGrid(lmax, normalization=normalization)
    x = torch.randn(3, (lmax + 1) ** 2, 2, dtype=dtype)
    scale = {"component": 1.0, "integral": (4 * math.pi) ** -0.5, "unit": 1 / (lmax + 1)}[normalization]
    harmonics = scale * spherical_harmonics(grid.points(), lmax)
    samples = grid.to_grid(x)
    expected = torch.einsum("abr,nrc->nabc", harmonics.to(dtype), x)
    torch.testing.assert_close(samples, expected, atol=(lmax + 1) * tol, rtol=0)
    torch.testing.assert_close(grid.from_grid(samples), x, atol=(lmax + 1) * tol, rtol=0)


@pytest.mark.parametrize("lmax", [1, 3, 6])
@pytest.mark.parametrize("mmax", [0, 1, 3])
def test_rows_of_an_edge_frame_are_the_same_functions(lmax, mmax):
    mmax = min(lmax, mmax)
    rows = m_primary(lmax, mmax)
    narrow = SphereGrid(lmax, mmax, nlat=9, nlon=13)
    full = SphereGrid(lmax, nlat=9, nlon=13)
    x = torch.randn(4, len(rows), 3, dtype=torch.float64)
    padded = x.new_zeros(4, (lmax + 1) ** 2, 3)
    padded[:, rows] = x
    samples = narrow.to_grid(x)
    torch.testing.assert_close(samples, full.to_grid(padded), atol=1e-13, rtol=0)
    act = F.silu(samples)
    torch.testing.assert_close(narrow.from_grid(act), full.from_grid(act)[:, rows], atol=1e-13, rtol=0)


def test_other_degrees_come_out_and_further_axes_go_through():
    grid = SphereGrid(2, lmax_out=4)
    x = torch.randn(2, 3, 9, 2, dtype=torch.float64)
    out = grid.from_grid(grid.to_grid(x))
    assert out.shape == (2, 3, 25, 2)
    torch.testing.assert_close(out[..., :9, :], x)
    assert out[..., 9:, :].abs().max() < 1e-13
    lower = SphereGrid(4, lmax_out=2)
    torch.testing.assert_close(lower.from_grid(lower.to_grid(out + 1)), x + 1)


def test_the_quadrature_is_a_true_one():
    grid = SphereGrid(3)
    area = grid.area()
    assert abs(area.sum().item() - 4 * math.pi) < 1e-12
    y = spherical_harmonics(grid.points(), 3, "integral")
    gram = torch.einsum("ab,abr,abs->rs", area, y, y)
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-13, rtol=0)
    # an unweighted mean over the same points is none
    mean = torch.einsum("abr,abs->rs", y, y) * 4 * math.pi / area.numel()
    assert (mean - torch.eye(16, dtype=torch.float64)).abs().max() > 0.05


def activation_error(lmax: int, n: int, act: str) -> float:
    generator = torch.Generator().manual_seed(0)
    channels = {2: 50, 4: 12, 6: 4}[lmax]  # few coefficients spread most
    grid = SphereGrid(lmax, nlat=n, nlon=2 * n + 1, normalization="unit")
    x = torch.randn(20, (lmax + 1) ** 2, channels, dtype=torch.float64, generator=generator)
    rotations = random_rotations(20)
    f = getattr(F, act)
    after = grid.from_grid(f(grid.to_grid(turned(x, rotations, lmax))))
    before = turned(grid.from_grid(f(grid.to_grid(x))), rotations, lmax)
    return ((after - before).norm() / before.norm()).item()


@pytest.mark.parametrize(("lmax", "act"), ERRORS)
def test_a_smooth_activation_becomes_equivariant_geometrically_and_a_kink_does_not(lmax, act):
    torch.manual_seed(0)
    expected = ERRORS[lmax, act]
    errors = [activation_error(lmax, n, act) for n in expected]
    for (n, wanted), error in zip(expected.items(), errors, strict=True):
        assert wanted / 2 < error < wanted * 2, f"n={n}: {error:.1e}, expected {wanted:.1e}"
    assert errors == sorted(errors, reverse=True)
    # four times the rings: a kink gains a factor of 60, a smooth function five digits
    assert (errors[-1] < 1e-5) is (act == "silu")


def test_the_default_resolution_has_the_documented_error():
    torch.manual_seed(0)
    for lmax in (2, 4, 6):
        assert activation_error(lmax, 2 * (lmax + 1), "silu") < 4e-3


def test_second_derivatives():
    grid = SphereGrid(2, 1, nlat=3, nlon=3)
    x = torch.randn(1, grid.num_rows, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: grid.from_grid(torch.sin(grid.to_grid(x))), x)


@pytest.mark.parametrize("mmax", [None, 1])
def test_compiles_as_one_graph(mmax):
    grid = SphereGrid(2, mmax)
    x = torch.randn(5, grid.num_rows, 3)

    def smooth(x: torch.Tensor) -> torch.Tensor:
        return grid.from_grid(F.silu(grid.to_grid(x)))

    torch.testing.assert_close(torch.compile(smooth, fullgraph=True, backend="aot_eager")(x), smooth(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lmax": -1}, "must not be negative"),
        ({"lmax": 2, "mmax": 3}, "mmax must lie between"),
        ({"lmax": 2, "nlat": 2}, "nlat >= 3"),
        ({"lmax": 2, "nlon": 4}, "nlon >= 5"),
        ({"lmax": 2, "normalization": "norm"}, "normalization must be"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SphereGrid(**arguments)


def test_bad_input_and_no_nodes():
    grid = SphereGrid(2)
    with pytest.raises(ValueError, match="built for lmax=2"):
        grid.to_grid(torch.zeros(3, 8, 1))
    with pytest.raises(ValueError, match="samples must have shape"):
        grid.from_grid(torch.zeros(3, 6, 12, 1))
    assert grid.from_grid(grid.to_grid(torch.zeros(0, 9, 2))).shape == (0, 9, 2)

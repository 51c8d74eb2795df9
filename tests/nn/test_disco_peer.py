"""DISCO layers against torch-harmonics, weights and all."""

import pytest
import torch

from geomeq import spheres
from geomeq.nn import DiscoConv, DiscoConvTranspose

peers = pytest.importorskip("torch_harmonics")

GRIDS = {
    "equiangular": spheres.equiangular,
    "legendre-gauss": spheres.gauss_legendre,
    "lobatto": spheres.lobatto,
}
NAMES = {
    "piecewise_linear": "piecewise linear",
    "zernike": "zernike",
    "harmonic": "harmonic",
    "fourier_bessel": "fourier-bessel",
}
CASES = [
    ("equiangular", (19, 36), "equiangular", (19, 36), "piecewise_linear", (3, 3), 1, 0.3),
    ("equiangular", (19, 36), "equiangular", (10, 18), "harmonic", (2, 3), 2, 0.5),
    ("legendre-gauss", (16, 32), "legendre-gauss", (16, 32), "piecewise_linear", (4, 4), 1, 0.4),
    ("legendre-gauss", (16, 32), "equiangular", (9, 16), "zernike", 3, 1, 0.5),
    ("lobatto", (17, 32), "legendre-gauss", (8, 8), "fourier_bessel", (2, 3), 3, 0.6),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} to {case[2]}, {case[4]}")
@pytest.mark.parametrize(("norm", "path"), [("nodal", "ring"), ("mean", "ring"), ("none", "csr"), ("geometric", "csr")])
@pytest.mark.parametrize("transposed", [False, True])
def test_layers_give_what_torch_harmonics_gives(case, norm, transposed, path):
    kind_in, size_in, kind_out, size_out, basis, shape, groups, cutoff = case
    if transposed:
        kind_in, size_in, kind_out, size_out = kind_out, size_out, kind_in, size_in
    ours_class = DiscoConvTranspose if transposed else DiscoConv
    theirs_class = peers.DiscreteContinuousConvTransposeS2 if transposed else peers.DiscreteContinuousConvS2
    torch.manual_seed(0)
    theirs = theirs_class(
        6, 12, size_in, size_out, kernel_shape=shape, basis_type=NAMES[basis], basis_norm_mode=norm, groups=groups,
        grid_in=kind_in, grid_out=kind_out, theta_cutoff=cutoff, bias=True,
    )  # fmt: skip
    samplings = GRIDS[kind_in](*size_in), GRIDS[kind_out](*size_out)
    ours = ours_class(6, 12, *samplings, basis, shape, cutoff, norm, groups, path=path)
    torch.nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())  # the same shapes and names
    x = torch.randn(2, 6, *size_in)
    want = theirs(x).detach().flatten(2).transpose(1, 2)
    got = ours(x.flatten(2).transpose(1, 2)).detach()
    torch.testing.assert_close(got, want, atol=1e-5 * max(1.0, float(want.abs().max())), rtol=0)
    assert not torch.allclose(got.flip(1), want, atol=1e-3 * float(want.abs().max()))


def test_weights_start_the_same_way():
    torch.manual_seed(0)
    grid = spheres.gauss_legendre(8)
    ours = DiscoConv(64, 96, grid, groups=2, kernel_shape=(5, 4), basis="piecewise_linear")
    theirs = peers.DiscreteContinuousConvS2(64, 96, (8, 16), (8, 16), (5, 4), groups=2, grid_in="legendre-gauss")
    assert ours.weight.shape == theirs.weight.shape
    assert float(ours.weight.detach().std()) == pytest.approx(float(theirs.weight.detach().std()), rel=0.03)

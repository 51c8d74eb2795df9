"""Rate and distortion as the formula says."""

import pytest
import torch

from geomeq.nn import rd_loss
from geomeq.nn.rd_loss import LAMBDAS


def test_it_is_the_formula():
    x, x_hat = torch.rand(2, 12, 3).double(), torch.rand(2, 12, 3).double()
    likelihoods = {"y": torch.rand(2, 3, 4).double(), "z": torch.rand(2, 1, 2).double()}
    found = rd_loss(x, x_hat, likelihoods, lmbda=0.01)
    bits = sum(-torch.log(p).sum() for p in likelihoods.values()) / torch.log(torch.tensor(2.0).double())
    torch.testing.assert_close(found["bpp"], bits / 24)
    torch.testing.assert_close(found["mse"], ((x - x_hat) ** 2).mean())
    torch.testing.assert_close(found["loss"], bits / 24 + 0.01 * 255**2 * ((x - x_hat) ** 2).mean())
    torch.testing.assert_close(
        rd_loss(x, x_hat, likelihoods, quality=3)["loss"], bits / 24 + 0.0067 * 65025 * found["mse"]
    )


def test_areas_weigh_the_distortion_whatever_their_sum():
    x, area = torch.zeros(2, 4, 3), torch.tensor([4.0, 2.0, 1.0, 1.0])
    x_hat = x.clone()
    x_hat[:, 0] = 1.0
    likelihoods = {"y": torch.ones(2, 1, 1)}
    assert float(rd_loss(x, x_hat, likelihoods, 1.0, area=area)["mse"]) == pytest.approx(0.5)
    assert float(rd_loss(x, x_hat, likelihoods, 1.0)["mse"]) == pytest.approx(0.25)
    assert float(rd_loss(x, x_hat, likelihoods, 1.0, area=7 * area)["mse"]) == pytest.approx(0.5)


def test_qualities_are_the_published_prices():
    assert LAMBDAS == {1: 0.0018, 2: 0.0035, 3: 0.0067, 4: 0.013, 5: 0.025, 6: 0.0483, 7: 0.0932, 8: 0.18}


def test_bad_input_is_named():
    x, p = torch.zeros(1, 12, 3), {"y": torch.ones(1, 3, 1)}
    with pytest.raises(ValueError, match=r"must both have shape \[B, N, C\], got \[1, 12, 3\] and \[1, 12\]"):
        rd_loss(x, x[..., 0], p, 0.1)
    with pytest.raises(ValueError, match="either lmbda or quality"):
        rd_loss(x, x, p)
    with pytest.raises(ValueError, match="quality must be one of 1, 2"):
        rd_loss(x, x, p, quality=9)
    with pytest.raises(ValueError, match="lmbda must be positive"):
        rd_loss(x, x, p, lmbda=0.0)
    with pytest.raises(ValueError, match=r"area must have shape \[12\], got \[3\]"):
        rd_loss(x, x, p, 0.1, area=torch.ones(3))


def test_batches_that_do_not_match_and_areas_of_nothing_are_named():
    x = torch.zeros(2, 12, 3)
    with pytest.raises(ValueError, match=r"likelihoods\['z'\] must have the batch of x, 2, .* got \[1, 3, 1\]"):
        rd_loss(x, x, {"y": torch.ones(2, 3, 1), "z": torch.ones(1, 3, 1)}, 0.1)
    p = {"y": torch.ones(2, 3, 1)}
    with pytest.raises(ValueError, match="batch of x"):
        rd_loss(x, x, {"y": torch.tensor(1.0)}, 0.1)
    with pytest.raises(ValueError, match="at least one latent"):
        rd_loss(x, x, {}, 0.1)
    with pytest.raises(ValueError, match=r"must both have shape \[B, N, C\], got \[0, 12, 3\]"):
        rd_loss(x[:0], x[:0], {"y": torch.ones(0, 3, 1)}, 0.1)
    for area in (torch.zeros(12), torch.linspace(-1, 2, 12), torch.full((12,), torch.nan)):
        with pytest.raises(ValueError, match="area must hold finite weights"):
            rd_loss(x, x, p, 0.1, area=area)


def test_it_compiles_with_areas():
    x, x_hat, area = torch.rand(2, 12, 3), torch.rand(2, 12, 3), torch.rand(12)
    p = {"y": torch.rand(2, 3, 4)}
    found = torch.compile(rd_loss, fullgraph=True, backend="eager")(x, x_hat, p, 0.1, area=area)
    for name, value in rd_loss(x, x_hat, p, 0.1, area=area).items():
        torch.testing.assert_close(found[name], value)

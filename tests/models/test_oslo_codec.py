"""OSLO: published sizes, quarter turns, any resolution, training, and the same bits in every arithmetic."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from geomeq import spheres
from geomeq.models import OSLOCodec, OSLOCodecConfig, random_patches
from geomeq.models._fixed_point import fixed_point, to_fixed
from tests.models._codecs import small


def count(module, part=""):
    return sum(p.numel() for name, p in module.named_parameters() if part in name)


def test_sizes_are_the_published_ones():
    codec = OSLOCodec(OSLOCodecConfig(nside=64, quality=3))
    n, m = 128, 192
    blocks = [9 * a * b + 9 * b * b + 2 * b for a, b in ((3, n), (n, n), (n, n), (n, m))]
    assert blocks[1] == pytest.approx(295_000, rel=2e-3)
    assert count(codec.g_a, "convs") == sum(blocks) == pytest.approx(1.29e6, rel=5e-3)
    assert count(codec.g_a) - sum(blocks) == 3 * (n * n + n) == pytest.approx(0.05e6, rel=0.02)
    assert count(codec.g_a) == pytest.approx(1.34e6, rel=5e-3)
    up = [(a, 4 * b) for a, b in ((m, n), (n, n), (n, n), (n, 3))]
    wanted = sum(9 * a * b + 9 * b * b + 2 * b for a, b in up) + 3 * (n * n + n)
    assert count(codec.g_s) == wanted
    wide = OSLOCodecConfig(nside=64, quality=6)
    assert (wide.channels, wide.latent_channels, wide.lmbda) == (192, 320, 0.0483)


@pytest.mark.parametrize("hyperprior", [None, "scale", "mean_scale"])
def test_all_grids_have_equal_numbers_of_parameters(hyperprior):
    size = {"hyperprior": hyperprior, "channels": 5, "latent_channels": 7, "stages": 2}
    sphere = OSLOCodec(OSLOCodecConfig(16, **size))
    assert count(OSLOCodec(OSLOCodecConfig(32, conv="plane", **size))) == count(sphere)
    if hyperprior is None:
        assert count(OSLOCodec(OSLOCodecConfig(16, conv="isotropic", K=9, **size))) == count(sphere)


@pytest.mark.parametrize("conv", ["oslo", "plane", "isotropic"])
@pytest.mark.parametrize("hyperprior", [None, "scale", "mean_scale"])
def test_forward_gives_images_and_probabilities(conv, hyperprior):
    if conv == "isotropic" and hyperprior is not None:
        with pytest.raises(ValueError, match="goes without a hyperprior"):
            small(hyperprior, conv)
        return
    codec = small(hyperprior, conv)
    nodes = codec.config.pixels(codec.config.nside)
    x = torch.rand(2, nodes, 3)
    out = codec(x)
    assert out["x_hat"].shape == x.shape
    assert out["likelihoods"]["y"].shape == (2, nodes // 4, 8)
    assert ("z" in out["likelihoods"]) == (hyperprior is not None)
    if hyperprior is not None:
        assert out["likelihoods"]["z"].shape == (2, nodes // 64, 6)
    assert all(((p > 0) & (p <= 1 + 1e-6)).all() for p in out["likelihoods"].values())
    torch.testing.assert_close(codec(x[1:])["x_hat"], out["x_hat"][1:], atol=1e-4, rtol=1e-4)  # a batch is its parts


def quarter_turn(nside):
    """Where each pixel of a turned image comes from: faces move on by one in each band of four."""
    faces = torch.tensor([3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10])
    return (faces[:, None] * nside**2 + torch.arange(nside**2)).flatten()


@pytest.mark.parametrize("hyperprior", [None, "scale"])
def test_quarter_turns_about_the_axis_go_through(hyperprior):
    codec, turn = small(hyperprior).double(), quarter_turn(16)
    pos = spheres.healpix(16).pos
    about = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(pos, pos[turn] @ about.T, atol=1e-12, rtol=0)  # it is that turn
    x = torch.rand(1, 3072, 3, dtype=torch.float64)
    torch.testing.assert_close(codec(x[:, turn])["x_hat"], codec(x)["x_hat"][:, turn], atol=1e-9, rtol=0)
    half = x.flip(1)
    assert not torch.allclose(codec(half)["x_hat"], codec(x)["x_hat"].flip(1), atol=1e-3)


@pytest.mark.parametrize("path", ["gather", "edge"])
def test_paths_agree(path):
    face, other = small(path="face").double(), small(path=path).double()
    x = torch.rand(1, 3072, 3, dtype=torch.float64)
    torch.testing.assert_close(other(x)["x_hat"], face(x)["x_hat"], atol=1e-10, rtol=0)


def test_one_set_of_weights_takes_any_resolution_and_patches():
    codec = small()
    assert codec.at(64) is codec
    assert codec(torch.rand(1, 12 * 32**2, 3))["x_hat"].shape == (1, 12288, 3)
    x = torch.rand(1, 3072, 3)
    patch = x[:, 256:512]  # one face
    whole, part = codec.g_a(x)[:, 64:128], codec.g_a(patch)
    inside = spheres.healpix_tables.face_order(8)[:64].view(8, 8)[2:-2, 2:-2].flatten()
    torch.testing.assert_close(part[:, inside], whole[:, inside], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(part, whole, atol=1e-3)  # borders see nothing outside
    for wrong in (3072 + 12, 128, 0):
        with pytest.raises(ValueError, match="whole spheres of 12"):
            codec(torch.rand(1, wrong, 3))
    plane = small(None, "plane")
    other = plane.at(8)
    assert other(torch.rand(1, 128, 3))["x_hat"].shape == (1, 128, 3)
    assert other.g_a[0].convs[0].conv.weight is plane.g_a[0].convs[0].conv.weight
    with pytest.raises(ValueError, match="codec.at"):
        plane(torch.rand(1, 128, 3))


def test_training_lowers_the_loss_and_the_auxiliary_loss():
    torch.manual_seed(0)
    codec = OSLOCodec(OSLOCodecConfig(8, channels=6, latent_channels=6, stages=1, hyperprior="scale", lmbda=0.02))
    x = spheres.healpix(8).pos.float()[None] / 2 + 0.5
    optimizer = torch.optim.Adam(codec.parameters(), lr=5e-3)
    losses, auxiliary = [], []
    for _ in range(30):
        parts = codec.loss(x)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append(parts["bpp"].item() + 0.02 * 255**2 * parts["mse"].item())
        auxiliary.append(parts["loss"].item() - losses[-1])
    assert losses[-1] < 0.5 * losses[0]
    assert auxiliary[-1] < auxiliary[0]
    assert all(p.grad is not None for p in codec.parameters())


def test_the_hyper_decoder_is_exact_in_any_order_of_summation():
    codec = small("mean_scale")
    network = fixed_point(codec.h_s)
    z = to_fixed(torch.randn(1, 48, 6) * 20)
    wanted = network(z)
    order = torch.randperm(6)
    first = next(m for m in network.modules() if hasattr(m, "weight") and m.weight.dim() == 3)
    shuffled = first.weight[:, order].clone()
    first.weight.copy_(shuffled)
    assert torch.equal(network(z[..., order]), wanted)  # the same sums in another order
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(network(z[..., order]), wanted)
    finally:
        torch.set_num_threads(threads)
    single, floats = codec.h_s, z.float()
    before = single(floats)
    moved = next(m for m in single.modules() if hasattr(m, "weight") and m.weight.dim() == 3)
    with torch.no_grad():
        moved.weight.copy_(moved.weight[:, order].clone())
    assert not torch.equal(single(floats[..., order]), before)  # as floats the sums differ in their last bits
    torch.testing.assert_close(wanted.float(), before, atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("path", ["face", "gather", "edge"])
@pytest.mark.parametrize("missing", ["zero", "renormalise", "average"])
def test_paths_of_the_hyper_decoder_agree_to_the_bit(path, missing):
    codec = small("scale", missing=missing)
    network = fixed_point(codec.h_s)
    for module in network.modules():
        if hasattr(module, "path"):
            module.path = path
            module._plans.clear()
    z = to_fixed(torch.randn(1, 48, 6) * 20)
    assert torch.equal(network(z), fixed_point(codec.h_s)(z))


def test_weights_too_large_for_exact_sums_are_refused():
    codec = small("scale")
    with torch.no_grad():
        codec.h_s[0].convs[0].weight.fill_(1e3)
    with pytest.raises(ValueError, match="exact arithmetic"):
        fixed_point(codec.h_s)
    assert isinstance(fixed_point(nn.Sequential(nn.Conv2d(3, 4, 3))), nn.Module)


def test_the_configuration_is_plain_and_checked():
    config = OSLOCodecConfig(nside=64, quality=2)
    assert OSLOCodecConfig(**asdict(config)) == config
    assert replace(config, lmbda=0.5).lmbda == 0.5
    for wrong, message in (
        ({"nside": 48}, "power of 2"),
        ({"nside": 32}, "multiple of 64"),
        ({"nside": 36, "conv": "plane"}, "height must be a multiple of 64"),
        ({"quality": 9}, "quality must be one of"),
        ({"hyperprior": "means"}, "hyperprior must be one of"),
        ({"conv": "cubed"}, "conv must be one of"),
        ({"channels": 0}, "channels must be positive"),
        ({"lmbda": -1.0}, "lmbda must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            OSLOCodecConfig(**{"nside": 64, **wrong})
    with pytest.raises(ValueError, match=r"x must have shape \[B, N, 3\]"):
        small()(torch.rand(3072, 3))
    for dtype in (torch.uint8, torch.int64):  # 0 to 255 would pass for very bright pixels
        with pytest.raises(TypeError, match="floating point, values 0 to 1"):
            small().loss(torch.ones(1, 3072, 3, dtype=dtype))


def test_another_resolution_shares_weights_and_mode():
    codec = small(None, "isotropic")
    for mode in (True, False):
        other = codec.train(mode).at(32)
        assert other is not codec
        assert all(module.training is mode for module in other.modules())
        assert all(a is b for a, b in zip(other.parameters(), codec.parameters(), strict=True))


@pytest.mark.slow
def test_it_compiles():
    codec, x = small("mean_scale"), torch.rand(1, 3072, 3)
    wanted = codec(x)
    found = torch.compile(codec, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(found["x_hat"], wanted["x_hat"], atol=1e-4, rtol=1e-4)


def test_patches_are_squares_of_a_face_and_train_the_same_weights():
    x = torch.arange(3072.0)[None, :, None].expand(2, -1, 3)
    found = random_patches(x, 64, count=5, generator=torch.Generator().manual_seed(0))
    assert found.shape == (10, 64, 3)
    assert (found[:, 0, 0] % 64 == 0).all()
    assert torch.equal(found[..., 0].diff(dim=1), torch.ones(10, 63))
    assert len(set(found[:5, 0, 0].tolist())) > 1
    assert small().loss(torch.rand_like(found))["loss"].isfinite()
    for wrong in (48, 3072 * 4, 0):
        with pytest.raises(ValueError, match="power of 4"):
            random_patches(x, wrong, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_writes_what_a_cpu_reads():
    codec = small("mean_scale")
    image = torch.rand(3072, 3)
    wanted = codec.decompress(codec.compress(image))
    data = small("mean_scale").cuda().compress(image.cuda())
    torch.testing.assert_close(codec.decompress(data), wanted, atol=1e-2, rtol=0)
    found = codec.cuda().decompress(data)
    torch.testing.assert_close(found.cpu(), small("mean_scale").decompress(data), atol=1e-4, rtol=0)

"""Images to bytes and back: sizes, kinds, damage, and files of other models."""

import copy
import hashlib
import pickle
import struct
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geomeq import spheres
from geomeq.models import CodecError, OSLOCodec, OSLOCodecConfig
from geomeq.models._codec_file import CodecFile
from tests.models._codecs import small

pytest.importorskip("constriction", reason="needs constriction: pip install 'geomeq[codec]'")


def globe(nside, seed=0):
    """A smooth picture with an edge."""
    pos, rng = spheres.healpix(nside).pos, torch.Generator().manual_seed(seed)
    waves = torch.randn(3, 3, generator=rng).double() * 4
    return (0.5 + 0.3 * torch.sin(pos @ waves) + 0.15 * (pos[:, :1] > 0.3)).float()


@pytest.fixture(scope="module")
def codec():
    return small("scale")


@pytest.fixture(scope="module")
def data(codec):
    return codec.compress(globe(16))


@pytest.mark.parametrize("hyperprior", ["scale", "mean_scale"])
def test_isotropic_filters_go_without_a_hyperprior(hyperprior):
    with pytest.raises(ValueError, match="goes without a hyperprior, which must be exact; give hyperprior=None"):
        small(hyperprior, "isotropic")


@pytest.mark.parametrize(
    ("conv", "hyperprior"),
    [("isotropic", None), *product(["oslo", "plane"], [None, "scale", "mean_scale"])],
)
def test_what_is_decoded_is_what_the_network_says(conv, hyperprior):
    codec = small(hyperprior, conv)
    x = globe(16) if conv != "plane" else torch.rand(1152, 3)
    image = x if conv != "plane" else x.T.unflatten(1, (24, 48))
    found = codec.decompress(codec.compress(image))
    assert found.shape == image.shape
    wanted = codec(x[None])["x_hat"][0].clamp(0, 1).detach()
    found = found if conv != "plane" else found.flatten(1).T
    # fixed point moves a mean by at most 1e-3, and a latent over the edge of rounding here and there
    away = (found - wanted).abs() > (1e-5 if hyperprior != "mean_scale" else 2e-2)
    assert float(away.float().mean()) < 0.02
    assert torch.equal(codec.train().decompress(codec.compress(image)), codec.eval().decompress(codec.compress(image)))


@pytest.mark.parametrize("hyperprior", [None, "scale", "mean_scale"])
def test_bytes_are_those_that_were_estimated(hyperprior):
    codec, x = small(hyperprior), globe(64)
    with torch.no_grad():
        if codec.h_s is not None:  # scales of some size, as after training
            spread = codec.g_a(x[None] - 0.5).std(dim=1)[0]
            [last] = [block for block in codec.h_s if hasattr(block, "convs")][-1].convs
            last.weight.mul_(0.1)
            for parameter in codec.h_a.parameters():
                parameter.mul_(0.2)  # within the density of the untrained prior
            last.bias.zero_()[:8].add_(1.2 * spread)
    out = codec(x[None])
    bits = sum(-p.log2().sum().item() for p in out["likelihoods"].values())
    size = len(codec.compress(x))
    assert bits > 8 * 5000
    assert abs(8 * size / bits - 1) < 0.01


def test_an_encoder_and_a_decoder_with_other_arithmetic_agree(codec):
    torch.manual_seed(3)
    image, threads = globe(32), torch.get_num_threads()
    decoder = OSLOCodec(OSLOCodecConfig(**{**vars(codec.config), "path": "gather"}))
    decoder.load_state_dict(codec.state_dict())
    data = codec.compress(image)
    wanted = codec.decompress(data)
    try:
        torch.set_num_threads(3)
        torch.testing.assert_close(codec.decompress(data), wanted, atol=1e-5, rtol=0)
        torch.testing.assert_close(decoder.decompress(data), wanted, atol=1e-5, rtol=0)
    finally:
        torch.set_num_threads(threads)


def test_autocast_changes_no_bit_of_what_is_read(codec, data):
    """Scales are exact also where products are cast to half precision; the picture has half its digits then."""
    plain = codec.decompress(data)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(codec.decompress(data).float(), plain, atol=0.05, rtol=0)
        other = codec.compress(globe(16))
    assert codec.decompress(other).shape == plain.shape


def test_a_model_in_float64_and_its_copy_in_float32_read_alike():
    """Both have one fingerprint, so weights and medians must count as float32 holds them."""
    wide = small("mean_scale").double()
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.mul_(1 + 2e-8 * torch.rand_like(parameter))  # digits that float32 drops
    wide.update()
    narrow = copy.deepcopy(wide).float()
    assert narrow.fingerprint() == wide.fingerprint()
    data = wide.compress(globe(16))
    torch.testing.assert_close(narrow.decompress(data).double(), wide.decompress(data), atol=1e-4, rtol=0)


def test_latents_beyond_all_integers_are_refused(codec):
    """As integers they are -2^63, whose absolute value is negative."""
    wild = copy.deepcopy(codec)
    with torch.no_grad():
        for parameter in wild.h_a.parameters():
            parameter.mul_(1e15)
    with pytest.raises(ValueError, match="cannot be coded"):
        wild.compress(globe(16))


def test_kinds_and_types_come_back(codec):
    image = (globe(16) * 255).to(torch.uint8)
    found = codec.decompress(codec.compress(image))
    assert found.dtype == torch.uint8
    assert found.shape == image.shape
    panorama = torch.rand(3, 20, 40) * 0.1 + 0.5
    found = codec.decompress(codec.compress(panorama))
    assert found.shape == panorama.shape
    assert found.dtype == torch.float32
    assert CodecFile.from_bytes(codec.compress(panorama)).resolution == 8
    assert CodecFile.from_bytes(codec.compress(panorama, nside=32)).resolution == 32
    assert codec.decompress(codec.compress((panorama * 255).to(torch.uint8))).dtype == torch.uint8
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choice=st.data())
def test_any_damage_is_a_clear_error(codec, data, choice):
    broken = bytearray(data)
    for _ in range(choice.draw(st.integers(1, 4))):
        broken[choice.draw(st.integers(0, len(data) - 1))] ^= choice.draw(st.integers(1, 255))
    cut = choice.draw(st.one_of(st.none(), st.integers(0, len(data) - 1)))
    broken = bytes(broken[:cut])
    if broken == data:
        return
    with pytest.raises(CodecError):
        codec.decompress(broken)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=120))
def test_foreign_bytes_are_a_clear_error(codec, noise):
    for bytes_ in (noise, b"\x89GMQ" + noise, b"\x89GMQ\x01" + noise):
        with pytest.raises(CodecError):
            codec.decompress(bytes_)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a file was executed",))


def test_nothing_in_a_file_is_executed(codec, data):
    for trap in (pickle.dumps(Trap()), data[:36] + pickle.dumps(Trap()), b"PK\x03\x04" + pickle.dumps(Trap())):
        with pytest.raises(CodecError):
            codec.decompress(trap)
    body = data[:32] + struct.pack("<I", len(pickle.dumps(Trap()))) + pickle.dumps(Trap())
    with pytest.raises(CodecError):  # even where header and checksum are right
        codec.decompress(body + hashlib.sha256(body).digest()[:8])


def forge(data, offset, form, value):
    """A file with one field changed and a checksum that fits."""
    body = bytearray(data[:-8])
    struct.pack_into("<" + form, body, offset, value)
    return bytes(body) + hashlib.sha256(bytes(body)).digest()[:8]


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (4, "B", 2, "format version 2, this geomeq reads 1"),
        (5, "B", 7, "kind 7"),
        (7, "B", 1, "which cannot be"),
        (8, "I", 2**31, "more than max_pixels"),
        (8, "I", 2048, "50331648 pixels, more than max_pixels=12582912; .* max_pixels=50331648"),
        (8, "I", 12, "impossible resolution"),
        (8, "I", 0, "impossible resolution"),
        (8, "I", 32, "cannot be decoded"),
        (12, "I", 2**20, "which cannot be"),
        (20, "H", 7, "with \\(7, 8\\) channels"),
        (24, "B", 0, "written by the model"),
        (32, "I", 2**32 - 1, "cut off"),
    ],
)
def test_forged_fields_are_refused_without_allocating(codec, data, offset, form, value, message):
    with pytest.raises(CodecError, match=message):
        codec.decompress(forge(data, offset, form, value))


def test_the_caller_sets_how_large_a_file_may_be(codec, data):
    assert codec.decompress(data, max_pixels=3072).shape == (3072, 3)
    with pytest.raises(CodecError, match="3072 pixels, more than max_pixels=3071"):
        codec.decompress(data, max_pixels=3071)
    panorama = codec.compress(torch.rand(3, 20, 40))  # 768 pixels inside, but 800 outside
    with pytest.raises(CodecError, match="800 pixels, more than max_pixels=799"):
        codec.decompress(panorama, max_pixels=799)


def test_a_forged_stream_is_refused_or_decoded_but_never_more(codec, data):
    rng = torch.Generator().manual_seed(0)
    for _ in range(20):
        body = bytearray(data[:-8])
        noise = torch.randint(0, 256, (len(body) - 36,), generator=rng, dtype=torch.uint8)
        body[36:] = bytes(noise.tolist())
        try:
            found = codec.decompress(bytes(body) + hashlib.sha256(bytes(body)).digest()[:8])
        except CodecError:
            continue
        assert found.shape == (3072, 3)


def test_more_in_a_stream_than_was_read_and_pictures_without_numbers_are_refused(codec, data):
    file = CodecFile.from_bytes(data)
    with pytest.raises(CodecError, match="holds more than was read|does not fit"):
        codec.decompress(replace(file, stream=file.stream * 2).to_bytes())
    with pytest.raises(CodecError, match="too short"):
        codec.decompress(replace(file, stream=b"").to_bytes())
    wild = copy.deepcopy(codec)
    with torch.no_grad():
        for parameter in wild.g_s.parameters():
            parameter.mul_(1e30)
    with pytest.raises(CodecError, match="not finite"):
        wild.decompress(wild.compress(globe(16)))


def test_another_model_is_named(codec, data):
    other = small("scale", seed=1)
    with pytest.raises(CodecError, match="load the state_dict that was saved after update"):
        other.decompress(data)
    with pytest.raises(CodecError, match="channels"):
        small("scale", channels=4).decompress(data)
    other.load_state_dict(codec.state_dict())
    torch.testing.assert_close(other.decompress(data), codec.decompress(data))


def test_images_that_are_none_are_named(codec):
    bad = globe(16)
    bad[5, 1] = float("nan")
    for image, message in (
        (bad, "image must be finite"),
        (globe(16) * 3, "values 0 to 1"),
        (globe(16)[:-1], "12 nside"),
        (torch.rand(12, 3), "power of 2 and a multiple of 8"),
        (torch.rand(3, 20, 30), "must have shape"),
        (torch.rand(3072, 4), "must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            codec.compress(image)
    with pytest.raises(TypeError, match="floating point"):
        codec.compress(torch.zeros(3072, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"torch\.Tensor"):
        codec.compress([[0.0] * 3] * 3072)
    with pytest.raises(TypeError, match="data must be bytes"):
        codec.decompress("text")
    assert issubclass(CodecError, ValueError)


def test_a_codec_without_tables_makes_them_to_write_and_not_to_read(codec, data):
    fresh = OSLOCodec(codec.config)
    with pytest.raises(CodecError, match="after update"):
        fresh.decompress(data)
    assert not fresh.prior.has_tables
    file = fresh.compress(globe(16))
    assert fresh.prior.has_tables
    assert fresh.decompress(file).shape == globe(16).shape


@pytest.mark.parametrize("hyperprior", [None, "scale"])
def test_training_after_update_makes_tables_anew_and_says_so(hyperprior, recwarn):
    codec = small(hyperprior)
    codec.compress(globe(16))
    assert not recwarn
    before = codec.prior.tables().count
    optimizer = torch.optim.Adam(codec.parameters(), lr=1e-2)
    codec.train().loss(globe(16)[None])["loss"].backward()
    optimizer.step()
    codec.eval()
    with pytest.warns(UserWarning, match=r"trained after update\(\): .* save state_dict\(\) again") as caught:
        file = codec.compress(globe(16))
    assert caught[0].filename == __file__
    assert not codec.prior.is_stale
    assert not torch.equal(codec.prior.tables().count, before)
    assert codec.decompress(file).shape == (3072, 3)
    fresh = OSLOCodec(codec.config)
    fresh.load_state_dict(codec.state_dict())
    torch.testing.assert_close(fresh.decompress(file), codec.decompress(file))


def test_a_decoder_of_a_state_saved_before_update_says_what_to_load():
    codec = small()
    with torch.no_grad():
        codec.prior.shift[0].add_(0.01)
    late = OSLOCodec(codec.config)
    late.load_state_dict(codec.state_dict())  # stale tables and all
    with pytest.warns(UserWarning, match="trained after update"):
        file = codec.compress(globe(16))
    with pytest.raises(CodecError, match="load the state_dict that was saved after update"):
        late.decompress(file)

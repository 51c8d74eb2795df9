"""Geometry does not depend on torch's defaults: neither the dtype nor the device of whoever builds it."""

import pytest
import torch

from geomeq import nn, spheres
from geomeq.harmonics import SHT, InverseSHT, disco_graph, filter_basis, gaussian_random_field
from geomeq.spheres.kinds import KINDS
from geomeq.transforms import SphereGauge

CPU, DOUBLE = {"device": "cpu"}, {"device": "cpu", "dtype": torch.float64}


def image():
    return torch.linspace(0, 1, 3 * 8 * 16, **DOUBLE).view(3, 8, 16)


def field():
    return torch.linspace(-1, 1, 192, **DOUBLE)


def transformed(s):
    return InverseSHT(s, 3)(SHT(s, 3)(torch.ones(s.num_nodes, **DOUBLE)))


CASES = {
    **{
        kind: lambda kind=kind: spheres.sampling(kind, 4 if kind == "healpix" else 6).pos
        for kind in KINDS
        if kind != "icosphere"
    },
    "areas": lambda: torch.cat([spheres.healpix(2, "ring").area, spheres.icosphere(1).area, spheres.random(30).area]),
    "images": lambda: torch.cat([spheres.equirectangular(6).pos, spheres.cubemap(3).pos]),
    "turned part": lambda: spheres.healpix(2).rotated(torch.eye(3, **DOUBLE)).part(torch.arange(5, **CPU)).pos,
    "longitudes": lambda: spheres.reduced_gauss_legendre(4).rings.longitude,
    "neighbours": lambda: spheres.healpix_neighbours(4),
    "windows": lambda: spheres.healpix_taps(4, 2),
    "orders": lambda: torch.cat([spheres.nest_to_ring(4), spheres.ring_to_nest(4), spheres.face_place(4)]),
    "pixels": lambda: spheres.healpix_pixel(torch.eye(3, **CPU), 4),
    "ordered, icosphere": lambda: spheres.ordered_neighbours(spheres.icosphere(1)),
    "ordered, grid": lambda: spheres.ordered_neighbours(spheres.gauss_legendre(6)),
    "ordered, cubed": lambda: spheres.ordered_neighbours(spheres.cubed(3)),
    "edges": lambda: spheres.sphere_graph(spheres.healpix(2), cutoff=0.8, dtype=torch.float64).polar,
    "rings": lambda: spheres.sphere_graph(spheres.icosphere(1), rings=1, frames="random", loops=True).edge_index,
    "gauge": lambda: SphereGauge(0.8)(spheres.healpix(2).to_data(torch.float64)).transport,
    **{
        method: lambda method=method: spheres.resample(field(), spheres.healpix(4), spheres.cubed(3), method=method)
        for method in ("nearest", "linear", "conservative")
    },
    "panorama": lambda: spheres.to_equirectangular(field()[:, None], spheres.healpix(4), 8),
    "scores": lambda: spheres.ws_psnr(image(), image().flip(0)) + spheres.s_psnr(image(), image().flip(0), points=50),
    **{
        basis: lambda basis=basis: disco_graph(spheres.healpix(2), spheres.healpix(1), 0.9, basis, 3).psi
        for basis in ("hann", "piecewise_linear", "harmonic", "zernike", "fourier_bessel", "steerable")
    },
    "isotropic": lambda: filter_basis("hann", (3, 3), 0.5).isotropic,
    "transform": lambda: transformed(spheres.gauss_legendre(6)),
    "transform, HEALPix": lambda: transformed(spheres.healpix(2)),
    "random field": lambda: gaussian_random_field(
        spheres.gauss_legendre(6), torch.ones(4, **DOUBLE), torch.Generator().manual_seed(0), dtype=torch.float64
    ),
}


@pytest.fixture
def restored():
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("restored")
def test_it_is_the_same_with_any_default_dtype(name, dtype):
    wanted = CASES[name]()
    torch.set_default_dtype(dtype)
    found = CASES[name]()
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", CASES)
def test_it_is_on_the_cpu_with_any_default_device(name):
    """The meta device holds no numbers, so that one tensor without a device anywhere would be an error or show here."""
    with torch.device("meta"):
        assert torch.zeros(1).is_meta  # the default is what it says
        found = CASES[name]()
    assert found.device.type == "cpu"
    assert torch.equal(found, CASES[name]())


def test_layers_on_the_meta_device_get_their_geometry_with_their_weights():
    s = spheres.healpix(2)
    real = nn.DiscoConv(2, 3, s, cutoff=0.9)
    with torch.device("meta"):
        conv = nn.DiscoConv(2, 3, s, cutoff=0.9)
    assert conv.weight.is_meta
    conv = conv.to_empty(device="cpu")
    conv.load_state_dict(real.state_dict())
    x = torch.randn(48, 2)
    torch.testing.assert_close(conv(x), real(x))

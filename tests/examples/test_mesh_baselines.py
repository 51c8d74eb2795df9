"""Operators and layers of the peers in the bodies experiment, against closed forms on the plane and the sphere."""

import math
import sys

import pytest
import torch
from torch_geometric.data import Data

from geomeq import spheres
from geomeq.transforms import PlaneGauge, SphereGauge
from tests.examples._run import EXAMPLES

sys.path.append(str(EXAMPLES / "reproduce"))
import _mesh_baselines as peers

UNIT = peers.UNIT


def spectrum_of(data, evals, evecs):
    data.evals, data.evecs, data.mass = evals[None], evecs, data.area.to(evecs)
    return data


def plane(dtype=torch.float64, size=24):
    points = torch.cartesian_prod(torch.arange(size), torch.arange(size)).to(dtype)
    data = PlaneGauge(cutoff=1.5)(Data(pos=points, area=torch.ones(len(points), dtype=dtype)))
    one = torch.ones(size * size, 1, dtype=dtype) / size
    return spectrum_of(data, torch.zeros(1, dtype=dtype), one)


def sphere(dtype=torch.float64, level=4, frames="random"):
    """The icosphere with the nine harmonics of degree 0, 1 and 2, which diffusion must damp by their eigenvalues."""
    data = SphereGauge(cutoff=4 * 0.5**level, frames=frames)(spheres.icosphere(level).to_data(dtype))
    x, y, z = data.pos.unbind(dim=1)
    one = torch.ones_like(x)
    fields = [one, x, y, z, x * y, y * z, z * x, x * x - y * y, 3 * z * z - 1]
    fields = torch.stack([f / (data.area.to(dtype) * f * f).sum().sqrt() for f in fields], dim=1)
    evals = torch.tensor([0.0] + 3 * [2.0] + 5 * [6.0], dtype=dtype)
    return spectrum_of(data, evals, fields)


def turned(data):
    """The same mesh in other frames."""
    a = 2 * math.pi * torch.rand(data.num_nodes, generator=torch.Generator().manual_seed(1)).to(data.polar)
    j, i = data.edge_index
    other = data.clone()
    other.polar = torch.stack([data.polar[:, 0], data.polar[:, 1] - a[i]], dim=1)
    other.transport = data.transport - a[i] + a[j]
    return other, a


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-11)])
def test_gradient_of_a_linear_function(dtype, tol):
    data = plane(dtype)
    ops, pos = peers.Operators.of(data), data.pos.to(dtype)
    slopes = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=dtype)
    found = ops.gradient(pos[:, :2] @ slopes + 7) / UNIT
    torch.testing.assert_close(found, slopes.expand(len(pos), 2, 2), atol=100 * tol, rtol=tol)
    assert not torch.allclose(ops.gradient((pos[:, :1]) ** 2)[:, 0, 0], torch.full((len(pos),), 2 * UNIT).to(dtype))


def test_divergence_and_curl_of_linear_fields_on_the_plane():
    data = plane()
    ops, (x, y) = peers.Operators.of(data), data.pos[:, :2].double().T
    v = torch.stack([torch.stack([x, -y, 3 * x]), torch.stack([y, x, 5 * y - x])]).permute(2, 0, 1)  # [N, 2, C]
    for found, expected in ((ops.divergence(v), [2.0, 0.0, 8.0]), (ops.curl(v), [0.0, 2.0, -1.0])):
        torch.testing.assert_close(found / UNIT, torch.tensor(expected).double().expand(len(x), 3), atol=1e-9, rtol=0)


def test_hodge_laplacian_of_waves_on_the_plane():
    """Both kinds of waves, along and across, are eigenfields: Laplacian = -k^2, here of the difference operator."""
    data, k = plane(size=48), 2 * math.pi / 24
    ops, x = peers.Operators.of(data), data.pos[:, 0].double()
    inner = ((data.pos[:, :2] - 23.5).abs().amax(dim=1) < 20).nonzero().squeeze(1)
    wave = torch.sin(k * x)
    v = torch.stack([torch.stack([wave, 0 * wave]), torch.stack([0 * wave, wave])]).permute(2, 0, 1)
    found = ops.hodge(v)[inner] / UNIT**2
    torch.testing.assert_close(found, -(math.sin(k) ** 2) * v[inner], atol=1e-9, rtol=0)


def test_gradient_and_laplacian_on_the_sphere():
    """grad z is e_z cut down to the tangent plane; div grad z = -2 z; curl grad = 0; curl J grad = -2 z."""
    data = sphere()
    ops, z = peers.Operators.of(data), data.pos[:, 2:].double()
    gradient = ops.gradient(z)
    expected = data.frame.double()[:, :2, 2:]
    assert (gradient / UNIT - expected).norm() < 0.03 * expected.norm()
    laplacian = ops.divergence(gradient) / UNIT**2
    assert (laplacian + 2 * z).norm() < 0.05 * (2 * z).norm()
    assert ops.curl(gradient).norm() / UNIT**2 < 0.05 * (2 * z).norm()
    assert (ops.curl(peers.quarter(gradient)) / UNIT**2 + 2 * z).norm() < 0.05 * (2 * z).norm()
    forgetful = data.clone()
    forgetful.transport = torch.zeros_like(data.transport)  # vectors added without transport
    wrong = peers.Operators.of(forgetful).divergence(gradient) / UNIT**2
    assert (wrong + 2 * z).norm() > 0.5 * (2 * z).norm()


def test_hodge_laplacian_on_the_sphere():
    """grad z and its quarter turn are eigenfields of the Hodge Laplacian with eigenvalue -2."""
    data = sphere()
    ops = peers.Operators.of(data)
    v = data.frame.double()[:, :2, 2:]
    for field in (v, peers.quarter(v)):
        assert (ops.hodge(field) / UNIT**2 + 2 * field).norm() < 0.1 * (2 * field).norm()


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 2e-4)])
def test_diffusion_on_the_sphere(dtype, tol):
    """A harmonic of degree l decays as exp(-l (l + 1) t); the tolerance is that of sums over the icosphere."""
    data = sphere(dtype)
    ops, time = peers.Operators.of(data), torch.tensor([0.0, 0.1, 0.7], dtype=dtype)
    z = data.pos[:, 2].to(dtype)
    found = ops.diffuse(z[:, None].expand(-1, 3), time)
    torch.testing.assert_close(found, z[:, None] * torch.exp(-2 * time), atol=max(tol, 2e-4), rtol=0)
    second = 3 * z**2 - 1
    found = ops.diffuse((z + second)[:, None].expand(-1, 3), time)
    expected = z[:, None] * torch.exp(-2 * time) + second[:, None] * torch.exp(-6 * time)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    assert not torch.allclose(found[:, 1], found[:, 2], atol=0.1)


@pytest.mark.parametrize("make", [peers.DiffusionNetLike, peers.DeltaConvLike])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_networks_do_not_see_the_frames(make, dtype, tol):
    torch.manual_seed(0)
    data = sphere(dtype, level=3)
    other, _ = turned(data)
    network = make(3, 8, blocks=3).to(dtype)
    x = torch.randn(data.num_nodes, 3, dtype=dtype)
    before, after = (network(x, peers.Operators.of(d)) for d in (data, other))
    torch.testing.assert_close(after, before, atol=tol, rtol=0)
    other.transport = data.transport  # frames turned, transport forgotten
    if make is peers.DeltaConvLike:
        assert (network(x, peers.Operators.of(other)) - before).abs().max() > 100 * tol


@pytest.mark.parametrize("make", [peers.DiffusionNetLike, peers.DeltaConvLike])
def test_networks_tell_left_from_right(make):
    """In a mirror every angle changes its sign. What sees it can tell a left hand from a right one."""
    torch.manual_seed(0)
    data = sphere(level=3)
    mirrored = data.clone()
    mirrored.polar, mirrored.transport = data.polar * torch.tensor([1.0, -1.0]).double(), -data.transport
    network, x = make(3, 8).double(), 100 * torch.randn(data.num_nodes, 3).double()
    a, b = (network(x, peers.Operators.of(d)) for d in (data, mirrored))
    assert (a - b).abs().max() > 1e-3


def test_a_batch_is_its_parts():
    torch.manual_seed(0)
    one, two = sphere(level=2, dtype=torch.float64), turned(sphere(level=2))[0]
    both = one.clone()
    both.edge_index = torch.cat([one.edge_index, two.edge_index + one.num_nodes], dim=1)
    for name in ("pos", "polar", "transport", "evals", "evecs", "mass"):
        both[name] = torch.cat([one[name], two[name]])
    x = torch.randn(2 * one.num_nodes, 3).double()
    for make in (peers.DiffusionNetLike, peers.DeltaConvLike):
        network = make(3, 8).double().eval()
        parts = [network(part, peers.Operators.of(d)) for part, d in zip(x.chunk(2), (one, two), strict=True)]
        torch.testing.assert_close(network(x, peers.Operators.of(both)), torch.cat(parts), atol=1e-11, rtol=0)


def test_a_node_without_edges_has_no_gradient():
    data = Data(
        edge_index=torch.tensor([[1], [0]]), polar=torch.tensor([[1.0, 0.0]]), transport=torch.zeros(1), num_nodes=3
    )
    coefficients = peers.gradient_coefficients(data.edge_index, data.polar, 3)
    assert torch.isfinite(coefficients).all()
    data.evals, data.evecs, data.mass = torch.zeros(1, 1), torch.ones(3, 1), torch.ones(3)
    assert torch.isfinite(peers.Operators.of(data).gradient(torch.randn(3, 2))).all()

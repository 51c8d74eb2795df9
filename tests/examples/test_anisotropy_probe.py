"""The anisotropy probe: what it asks for is right, and it runs."""

import math

import pytest
import torch

from tests.examples._run import load


@pytest.fixture(scope="module")
def probe():
    return load("reproduce/anisotropy_probe")


def test_it_runs(probe, capsys):
    found = probe.main(["--quick"])
    assert found["isotropic"] > 0.7
    assert found["moved"] < 1e-5  # of an untrained network as well
    assert "not judged" in capsys.readouterr().out


def test_targets_are_derivatives(probe):
    torch.manual_seed(0)
    value, slope = probe.fields(3)
    grid = value.reshape(3, probe.SIDE, probe.SIDE)
    spectrum = torch.fft.fftn(grid, dim=(1, 2))
    k = 2 * math.pi * torch.fft.fftfreq(probe.SIDE).double()
    for axis, component in ((2, 0), (1, 1)):  # columns are x, rows are y
        wave = k[None, :] if axis == 2 else k[:, None]
        derivative = torch.fft.ifftn(1j * wave * spectrum, dim=(1, 2)).real
        torch.testing.assert_close(slope[..., component].reshape_as(grid), derivative)
    torch.testing.assert_close(value.square().mean(1), torch.ones(3).double(), atol=0.5, rtol=0)


def test_the_torus_is_a_flat_graph_in_turned_frames(probe):
    turn = 2 * math.pi * torch.rand(probe.SIDE**2).double()
    graph = probe.torus(turn)
    source, target = graph.edge_index
    assert graph.num_edges == 20 * probe.SIDE**2
    step = graph.polar[:, :1] * torch.stack([graph.polar[:, 1].cos(), graph.polar[:, 1].sin()], 1)
    cos, sin = turn[target].cos().float(), turn[target].sin().float()
    x, y = cos * step[:, 0] - sin * step[:, 1], sin * step[:, 0] + cos * step[:, 1]
    side = probe.SIDE
    column, row = source % side - target % side, source // side - target // side
    for found, expected in ((x, column), (y, row)):
        wrapped = (expected + side // 2) % side - side // 2
        torch.testing.assert_close(found, wrapped.float(), atol=1e-5, rtol=0)


def test_a_half_turn_of_the_field_is_invisible_to_isotropic_kernels(probe):
    # the argument of the script, on an untrained network: the same output, the opposite derivative
    graph = probe.torus(torch.zeros(probe.SIDE**2).double())
    isotropic, gauge = probe.Network("3x0", "8x0"), probe.Network("1x0+1x1", "4x0+4x1")
    typed, plain, target = probe.sample(2, torch.zeros(probe.SIDE**2).double())
    half = (-torch.arange(probe.SIDE)) % probe.SIDE
    order = (half[:, None] * probe.SIDE + half).flatten()

    def seen(network, x):
        turned = torch.cat([x[:, order, :1], x[..., 1:]], dim=-1)
        return network(turned, graph)[:, order], network(x, graph)

    with torch.no_grad():
        torch.testing.assert_close(*seen(isotropic, plain), atol=1e-5, rtol=1e-5)
        turned, before = seen(gauge, typed)
        assert (turned - before).abs().max() > 1e-2 * before.abs().max()
    assert target.abs().max() > 0.5

"""Gauges given what they cannot use, or at the ends of what numbers can hold: a helpful error, or the right result."""

import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from geomeq.groups import icosphere
from geomeq.transforms import GaugeFeatures, GaugeRandomize, MeshGauge, MultiScale, PlaneGauge, SphereGauge

SPHERE = icosphere(1)


def sphere(dtype=torch.float32, scale=1.0):
    return Data(pos=(SPHERE.pos * scale).to(dtype), face=SPHERE.face)


def test_coarser_levels_do_not_outlive_the_finest():
    levels = MultiScale((0.5, 0.5))(sphere())
    again = MultiScale((0.5,))(levels)
    assert levels.num_levels == 3  # the input is as it was
    assert again.num_levels == 2
    assert again.level(1).edge_index.max() < again.level(1).num_nodes
    assert not [key for key in again.keys() if key.endswith("_2")]  # noqa: SIM118
    assert MeshGauge()(levels).num_levels == 1


def test_names_that_end_in_a_number_are_kept_without_levels():
    data = sphere()
    data.pos_1 = data.pos.clone()
    assert "pos_1" in MeshGauge()(data)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
@pytest.mark.parametrize("method", ["intrinsic", "projected"])
def test_areas_beyond_float32(method, scale):
    with pytest.raises(ValueError, match="scale pos to another unit"):
        MeshGauge(method)(sphere(scale=scale))
    assert MeshGauge(method)(sphere(torch.float64, scale)).area.sum() > 0
    flat = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="scale pos to another unit"):
        PlaneGauge(2 * scale)(Data(pos=flat * scale))


@pytest.mark.parametrize("scale", [1e-12, 1e6, 1e15])
def test_vector_heat_knows_no_scale(scale):
    pytest.importorskip("potpourri3d")
    gauge = MeshGauge("vector_heat", rings=2)
    small, large = gauge(sphere(torch.float64)), gauge(sphere(torch.float64, scale))
    torch.testing.assert_close(large.polar[:, 0] / scale, small.polar[:, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(large.transport.cos(), small.transport.cos(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
@pytest.mark.parametrize("name", ["rings", "knn"])
def test_counts_of_neighbours(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be a positive integer"):
        MeshGauge("projected", **{name: wrong})


def test_plane_gauge_is_geometry_without_gradients():
    made = PlaneGauge(0.5)(Data(pos=torch.rand(20, 2, requires_grad=True)))
    assert made.pos.requires_grad
    assert not made.polar.requires_grad
    assert not made.area.requires_grad


def test_plane_gauge_refuses():
    with pytest.raises(TypeError, match="dtype must be"):
        PlaneGauge(1.5, grid=3, dtype=torch.int64)
    with pytest.raises(ValueError, match="grid must be"):
        PlaneGauge(1.5, grid=True)
    with pytest.raises(ValueError, match="infinite"):
        PlaneGauge(1.5, area="given")(Data(pos=torch.eye(2), area=torch.tensor([1.0, math.inf])))
    with pytest.raises(ValueError, match="one graph for all images"):
        PlaneGauge(1.5)(Batch.from_data_list([Data(grid=(2, 2), x=torch.zeros(4, 1))] * 2))


def test_sphere_gauge_refuses():
    pos = SPHERE.pos.float()
    with pytest.raises(ValueError, match="area must have shape"):
        SphereGauge(cutoff=1.0)(Data(pos=pos, area=torch.ones(3)))
    with pytest.raises(ValueError, match="area must be finite"):
        SphereGauge(cutoff=1.0)(Data(pos=pos, area=torch.full((len(pos),), math.nan)))
    with pytest.raises(TypeError, match="seed must be an integer"):
        SphereGauge(cutoff=1.0, frames="random", seed=None)
    with pytest.raises(ValueError, match="at least 4 different points"):
        SphereGauge(rings=1)(Data(pos=torch.eye(3)))


def test_features_and_randomize_refuse():
    with pytest.raises(ValueError, match="powers must be finite"):
        GaugeFeatures("tangents", powers=())
    with pytest.raises(ValueError, match="at least 1 time"):
        GaugeFeatures("heat_kernel", times=1.5)
    with pytest.raises(ValueError, match=r"types names \['z'\]"):
        GaugeRandomize({"z": "1x1"})(MeshGauge()(sphere()))


def test_multi_scale_refuses():
    with pytest.raises(TypeError, match=r"such as \(0.25,\)"):
        MultiScale(0.25)
    with pytest.raises(TypeError, match="gauge must be a transform"):
        MultiScale(gauge=3)

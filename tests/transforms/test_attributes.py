"""SteerableAttributes, RadialBasis, ParticleFeatures: what they write, batches, symmetry, bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import BaseTransform, Compose

from geomeq.harmonics import bessel_basis, polynomial_envelope, spherical_harmonics
from geomeq.testing import equivariance_error
from geomeq.transforms import CutoffGraph, FullyConnected, ParticleFeatures, RadialBasis, SteerableAttributes


def cloud(nodes: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Data:
    generator = torch.Generator().manual_seed(seed)
    pos, vel = torch.randn(2, nodes, 3, generator=generator, dtype=torch.float64).to(dtype)
    return FullyConnected()(Data(pos=pos, vel=vel, charge=torch.ones(nodes, 1, dtype=dtype)))


def test_attributes_are_the_harmonics_of_edges_and_their_means():
    data = SteerableAttributes(2, vectors=("vel",))(cloud(4))
    source, target = data.edge_index
    want = spherical_harmonics(data.pos[source] - data.pos[target], 2)
    torch.testing.assert_close(data.edge_attr, want)
    mean = torch.stack([want[target == i].mean(0) for i in range(4)]) + spherical_harmonics(data.vel, 2)
    mean[:, 0] = 1
    torch.testing.assert_close(data.node_attr, mean)
    assert not torch.allclose(data.node_attr, SteerableAttributes(2)(cloud(4)).node_attr)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4), lmax=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_a_batch_equals_its_graphs(sizes, lmax):
    pipeline = Compose([ParticleFeatures(charge=True), SteerableAttributes(lmax, ("vel",)), RadialBasis(4.0)])
    graphs = [cloud(n, seed) for seed, n in enumerate(sizes)]
    whole = pipeline(Batch.from_data_list(graphs))
    parts = Batch.from_data_list([pipeline(g) for g in graphs])
    for name in ("x", "edge_attr", "node_attr", "edge_dist", "edge_radial"):
        torch.testing.assert_close(whole[name], parts[name], atol=1e-12, rtol=0)


class WrongCentring(BaseTransform):
    """The published bug: the mean over x, y and z of each particle."""

    def forward(self, data: Data) -> Data:
        data.x[:, 1:4] = data.pos - data.pos.mean(dim=1, keepdim=True)
        return data


@pytest.mark.parametrize("group", ["O(3)", "translation"])
@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_features_of_the_pipeline_turn_with_the_particles_and_the_wrong_centring_does_not(group, dtype, tol):
    data = Batch.from_data_list([cloud(5, 0, dtype), cloud(3, 1, dtype)])

    def features(transform, d):
        return transform(d.clone()).x

    kwargs = {"group": group, "irreps_out": "1x0e+2x1o", "call": features}
    assert equivariance_error(ParticleFeatures(), data, **kwargs) < tol
    if group == "O(3)":
        assert equivariance_error(Compose([ParticleFeatures(), WrongCentring()]), data, **kwargs) > 1e-2
    uncentred = lambda t, d: torch.cat([t(d.clone()).x[:, :1], d.pos, d.vel], 1)  # noqa: E731
    if group == "translation":
        assert equivariance_error(ParticleFeatures(), data, **{**kwargs, "call": uncentred}) > 1e-2


def test_radial_basis_from_positions_equals_that_from_stored_lengths():
    data = SteerableAttributes(1)(cloud(4))
    stored = RadialBasis(3.0, 5)(data.clone()).edge_radial
    want = bessel_basis(data.edge_dist[:, 0], 3.0, 5) * polynomial_envelope(data.edge_dist, 3.0)
    torch.testing.assert_close(stored, want)
    torch.testing.assert_close(RadialBasis(3.0, 5)(cloud(4)).edge_radial, want)
    plain = RadialBasis(3.0, 5, basis="gaussian", envelope=None)(cloud(4)).edge_radial
    assert plain.max() <= 1
    assert not torch.allclose(plain, want)


def test_periodic_images_point_across_the_border():
    data = Data(pos=torch.tensor([[0.1, 0, 0], [0.9, 0, 0]]).double(), cell=torch.eye(3)[None].double())
    data = SteerableAttributes(1)(CutoffGraph(0.5)(data))
    assert data.edge_dist.flatten().tolist() == pytest.approx([0.2, 0.2])
    # from node 0 its neighbour lies to the left, through the border
    torch.testing.assert_close(data.edge_attr[0, 1:], torch.tensor([-(3**0.5), 0, 0]).double())


def test_new_edges_remove_the_attributes_of_the_old():
    data = SteerableAttributes(1)(cloud(4))
    assert "node_attr" in data
    data = CutoffGraph(1.0)(data)
    assert not {"edge_attr", "edge_dist", "node_attr"} & set(data.keys())


def test_repr_names_every_argument():
    assert repr(SteerableAttributes(2, ("vel",))) == (
        "SteerableAttributes(lmax=2, vectors=('vel',), normalization='component', cutoff=None)"
    )
    assert repr(RadialBasis(3.0)) == "RadialBasis(cutoff=3.0, num_basis=8, basis='bessel', envelope=6)"
    assert repr(ParticleFeatures()) == "ParticleFeatures(charge=False)"


def test_empty_and_single_node_graphs():
    lonely = SteerableAttributes(1)(FullyConnected()(Data(pos=torch.zeros(1, 3))))
    assert lonely.node_attr.tolist() == [[1, 0, 0, 0]]
    empty = SteerableAttributes(1)(FullyConnected()(Data(pos=torch.zeros(0, 3))))
    assert empty.node_attr.shape == (0, 4)


@pytest.mark.parametrize(
    ("transform", "change", "message"),
    [
        (SteerableAttributes(1), {"pos": None}, "reads pos"),
        (SteerableAttributes(1), {"edge_index": None}, "apply CutoffGraph"),
        (SteerableAttributes(1, ("spin",)), {}, "data has no spin"),
        (SteerableAttributes(1), {"pos": torch.full((4, 3), torch.nan)}, "pos must be finite, but row 0"),
        (ParticleFeatures(), {"vel": None}, "reads vel"),
        (ParticleFeatures(charge=True), {"charge": None}, "charge or mass"),
        (RadialBasis(2.0), {"edge_index": None}, "apply CutoffGraph"),
    ],
)
def test_missing_or_bad_attributes_are_named(transform, change, message):
    data = cloud(4)
    for name, value in change.items():
        if value is None:
            del data[name]
        else:
            data[name] = value
    with pytest.raises(ValueError, match=message):
        transform(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SteerableAttributes(-1),
        lambda: SteerableAttributes(1, cutoff=0.0),
        lambda: RadialBasis(-1.0),
        lambda: RadialBasis(1.0, basis="spline"),
        lambda: RadialBasis(1.0, 0),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_one_name_as_a_string_is_refused():
    with pytest.raises(TypeError, match=r"write \('vel',\)"):
        SteerableAttributes(1, "vel")

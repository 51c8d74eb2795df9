"""The report on the package's own network and data pipeline, with planted bugs."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose

from geomeq.models import SEGNN, SEGNNConfig
from geomeq.testing import assert_equivariant, equivariance_error, equivariance_report
from geomeq.transforms import FullyConnected, ParticleFeatures, SteerableAttributes

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def particles(dtype, systems=4):
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for _ in range(systems):
        pos, vel = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator).to(dtype)
        charge = torch.randn(5, 1, dtype=torch.float64, generator=generator).sign().to(dtype)
        graphs.append(Data(pos=pos, vel=vel, charge=charge))
    return Batch.from_data_list(graphs)


class WrongFeatures(ParticleFeatures):
    """Centres by the mean over x, y, z of each particle, as a published pipeline does."""

    def forward(self, data):
        data = super().forward(data)
        data.x[:, 2:5] = data.pos - data.pos.mean(dim=1, keepdim=True)
        return data


def pipeline(features):
    return Compose([FullyConnected(), features, SteerableAttributes(lmax=1, vectors=("vel",))])


def network(dtype, path="auto"):
    torch.manual_seed(0)
    config = SEGNNConfig("2x0e+2x1o", "8x0e+8x1o", "1x1o", task="node", num_layers=2, norm="instance", path=path)
    return SEGNN(config).to(dtype)


@DTYPES
@pytest.mark.parametrize("path", ["frame", "cg"])
def test_the_whole_pipeline_is_equivariant(dtype, path):
    model, raw, transform = network(dtype, path), particles(dtype), pipeline(ParticleFeatures(charge=True))
    for group in ("E(3)", "permutation", "batching"):
        assert_equivariant(model, raw, group, transform=transform)
    assert equivariance_report(model, raw, transform=transform).passed


@DTYPES
def test_wrong_centring_in_the_pipeline_is_found_and_named(dtype):
    model, raw, transform = network(dtype), particles(dtype), pipeline(WrongFeatures(charge=True))
    assert equivariance_error(model, raw, "rotation", transform=transform) > 1e-3
    assert equivariance_error(model, raw, "translation", transform=transform) > 1e-3
    report = equivariance_report(model, raw, transform=transform)
    assert report.first_broken == "transform[1] WrongFeatures"
    assert set(report.culprits) == {"rotation", "reflection", "translation"}
    # The network alone is blameless, which is how such a bug stays hidden.
    ready = Batch.from_data_list([transform(part) for part in raw.to_data_list()])
    assert equivariance_report(model, ready, symmetries=["rotation", "reflection"]).passed


@DTYPES
def test_a_relu_on_steerable_features_is_found_and_named(dtype):
    model, raw = network(dtype), particles(dtype)
    model.norms[1] = _Relu()
    report = equivariance_report(model, raw, transform=pipeline(ParticleFeatures(charge=True)))
    assert report.culprits == {"rotation": "norms.1", "reflection": "norms.1"}


class _Relu(nn.Module):
    def forward(self, x, batch, num_graphs):
        return x.relu()

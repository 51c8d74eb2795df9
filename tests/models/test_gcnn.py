"""G-CNNs: published sizes, invariant logits, and what breaks them."""

import json
import warnings
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geomeq.groups import PointGroup
from geomeq.models import GCNN, GCNNConfig
from geomeq.nn import GroupConv2d


def size(model):
    return sum(p.numel() for p in model.parameters())


def trained_statistics(model, images):
    """Running statistics and scales as after training, so that nothing is 0 or 1 by accident."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model.train()(images)
    return model.eval()


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (GCNNConfig.resnet44("D4"), 2.62),
        (GCNNConfig.resnet44("C1"), 2.64),
        (GCNNConfig.resnet26_wide("D4"), 7.17),
        (GCNNConfig.resnet26_wide("C1"), 7.24),
    ],
    ids=lambda v: "",
)
def test_residual_networks_have_the_published_number_of_weights(config, millions):
    with torch.device("meta"):
        model = GCNN(config)
    assert round(size(model) / 1e6, 2) == millions
    assert sum(isinstance(m, nn.Module) and type(m).__name__ == "_Block" for m in model.modules()) in (21, 12)
    assert config.channels == {2.62: (11, 23, 45), 2.64: (32, 64, 128), 7.17: (25, 50, 100)}.get(
        millions, (71, 142, 284)
    )


def test_p4cnn_and_z2cnn_are_the_published_networks():
    p4, z2 = GCNN(GCNNConfig.p4cnn("C4")), GCNN(GCNNConfig.p4cnn("C1"))
    convs = [m for m in p4.modules() if isinstance(m, GroupConv2d)]
    assert len(convs) == 6  # and the lifting layer
    assert [c.kernel_size for c in convs] == [3, 3, 3, 3, 3, 4]
    assert {c.in_channels for c in convs} == {10}
    image = torch.randn(2, 1, 28, 28)
    assert p4.body(image).shape == (2, 10, 4, 1, 1)
    assert z2(image).shape == (2, 10)
    assert 20_000 < size(z2) < size(p4) < 26_000  # "about 25 k"


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("pixels", [27, 28, 33])
@pytest.mark.parametrize(
    "config",
    [
        GCNNConfig.p4cnn("C4"),
        GCNNConfig.p4cnn("D4"),
        GCNNConfig.p4cnn("D2"),
        GCNNConfig.p4cnn("C8", channels=(3,)),
        GCNNConfig("D4", form="resnet", channels=(3, 4, 5), num_blocks=1),
        GCNNConfig("C4", form="resnet", channels=(3, 4, 5), num_blocks=2),
    ],
    ids=lambda c: f"{c.form}-{c.point_group}",
)
def test_logits_do_not_see_the_group_at_any_size(config, pixels, dtype, tol):
    images = torch.randn(3, config.in_channels, pixels, pixels, dtype=dtype)
    model = trained_statistics(GCNN(config).to(dtype), images)
    group = PointGroup.parse(config.point_group)
    with torch.no_grad():
        logits = model(images)
        for h in group.grid_elements():
            found = model(group.act_on_image(h, images))
            torch.testing.assert_close(found, logits, atol=tol * float(logits.abs().max().clamp(min=1)), rtol=0)


def test_an_ordinary_network_sees_turns_and_p4_sees_mirrors():
    images = torch.randn(3, 1, 28, 28)
    for name, move in (("C1", lambda x: x.rot90(1, (-2, -1))), ("C4", lambda x: x.flip(-1))):
        model = trained_statistics(GCNN(GCNNConfig.p4cnn(name)), images)
        with torch.no_grad():
            assert (model(move(images)) - model(images)).abs().max() > 0.05


def test_the_published_pool_is_exact_at_legal_sizes_and_warns_at_others():
    config = GCNNConfig.p4cnn("C4", pool="max")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = torch.randn(3, 1, 28, 28)
        model = trained_statistics(GCNN(config), images)
        with torch.no_grad():
            torch.testing.assert_close(model(images.rot90(1, (-2, -1))), model(images), atol=1e-5, rtol=0)
    odd = torch.randn(3, 1, 29, 29)
    with torch.no_grad(), pytest.warns(UserWarning, match="25 x 25 with kernel_size=2"):
        gap = (model(odd.rot90(1, (-2, -1))) - model(odd)).abs().max()
    assert gap > 1e-3
    strided = GCNN(GCNNConfig("D4", 3, form="resnet", channels=(2, 3), num_blocks=1, pool="stride"))
    with pytest.warns(UserWarning, match="32 x 32 with kernel_size=3, padding=1, stride=2"):
        strided(torch.randn(2, 3, 32, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strided(torch.randn(2, 3, 33, 33))


def test_images_come_as_tensors_data_or_batches():
    model = GCNN(GCNNConfig.p4cnn("C4", in_channels=2)).eval()
    images = torch.randn(3, 2, 28, 28)
    wanted = model(images)
    torch.testing.assert_close(model(Data(image=images[0])), wanted[:1], atol=1e-5, rtol=1e-5)
    for parts in ([Data(image=i) for i in images], [Data(image=i[None]) for i in images]):
        for data in parts:
            data.num_nodes = 1
        torch.testing.assert_close(model(Batch.from_data_list(parts)), wanted, atol=1e-5, rtol=1e-5)


def test_training_lowers_the_loss_and_the_state_comes_back():
    torch.manual_seed(0)
    config = GCNNConfig("C4", num_classes=2, channels=(4,), num_layers=4, last_kernel=3)
    model, images, labels = GCNN(config), torch.randn(8, 1, 16, 16), torch.arange(8) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    made = json.loads(json.dumps(asdict(config)))
    twin = GCNN(GCNNConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in made.items()}))
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin.eval()(images), model.eval()(images))


@pytest.mark.slow
def test_compiled_equals_eager(compiled):
    model = GCNN(GCNNConfig("C4", channels=(3,), num_layers=4)).eval()
    images = torch.randn(2, 1, 20, 20)
    torch.testing.assert_close(compiled(model)(images), model(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"point_group": "E2"}, "unknown point group 'E2'"),
        ({"form": "unet"}, "form must be one of"),
        ({"pool": "min"}, "pool must be one of"),
        ({"pool": "stride"}, "pool='stride' does not go with form='plain'"),
        ({"form": "resnet", "pool": "max"}, "pool='max' does not go with form='resnet'"),
        ({"channels": (3, 4)}, "channels must hold one number"),
        ({"num_layers": 1}, "too few layers"),
        ({"pool_after": (7,)}, "pool_after must hold numbers of hidden layers, 1..6"),
    ],
)
def test_bad_configs(options, message):
    with pytest.raises(ValueError, match=message):
        GCNNConfig(**options)


def test_bad_images():
    model = GCNN(GCNNConfig.p4cnn("C4"))
    with pytest.raises(ValueError, match="the model has in_channels=1"):
        model(torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match="data has no image"):
        model(Data(x=torch.zeros(3)))
    with pytest.raises(ValueError, match="2 x 2 with padding=0 is smaller than kernel_size=3"):
        model(torch.zeros(2, 1, 20, 20))

import copy
import pickle

import pytest
import torch
from torch_geometric.data import Data

from geomeq.datasets import SharedGraphDataset, SharedGraphLoader
from geomeq.groups import S2, SE2, SO3, Rn
from geomeq.models import ChebLieNet, ChebLieNetConfig
from geomeq.nn import lift
from geomeq.ops import SparseOperator
from geomeq.transforms import GroupGraph, Laplacian, group_levels
from tests.nn._group_graphs import quarter_turn

N, VO = 8, 4


def levels(count=2, dtype=torch.float64, group=None, size=(N, N, VO), **options):
    options = {"k": 8, "anisotropy": 0.2} | options
    return group_levels(
        GroupGraph(SE2() if group is None else group, size, **options), count, laplacian=Laplacian(dtype=dtype)
    )


@pytest.fixture(scope="module")
def graphs():
    return levels()


def network(graphs, dtype=torch.float64, **options):
    """With batch statistics that are not the initial ones."""
    config = ChebLieNetConfig(**{"in_channels": 2, "out_channels": 3, "widths": (4, 4, 6), "K": 3} | options)
    model = ChebLieNet(config, graphs).to(dtype)
    nodes = model.num_orientations * model.num_spatial
    with torch.no_grad():
        model(torch.randn(4, nodes, 2, dtype=dtype))
    return model.eval()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("pool", ["random", "max", "mean"])
def test_a_classifier_is_invariant_under_quarter_turns(dtype, tolerance, pool, graphs):
    model, x = network(graphs, dtype, pool=pool), torch.randn(3, N * N * VO, 2, dtype=dtype)
    out, turn = model(x), quarter_turn(N, VO)
    torch.testing.assert_close(model(x[:, turn]), out, atol=tolerance, rtol=0)
    in_space_only = torch.rot90(torch.arange(N * N * VO).view(VO, N, N), 1, (1, 2)).reshape(-1)
    assert (model(x[:, in_space_only]) - out).abs().max() > 1e-4  # without the shift of orientations it is not


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_a_segmentation_turns_with_the_image(dtype, tolerance, graphs):
    model = network(graphs, dtype, task="segment", pool="max", readout="mean")
    x = torch.randn(3, N * N * VO, 2, dtype=dtype)
    out = model(x)
    assert out.shape == (3, N * N, 3)
    turned = model(x[:, quarter_turn(N, VO)])
    torch.testing.assert_close(turned, out[:, quarter_turn(N, 1)], atol=tolerance, rtol=0)
    assert (turned - out).abs().max() > 1e-4


def test_an_image_is_lifted_and_its_turn_changes_nothing(graphs):
    model, image = network(graphs), torch.randn(3, 2, N, N, dtype=torch.float64)
    x = image.flatten(2).transpose(1, 2)
    torch.testing.assert_close(model(x), model(lift(x, VO)))
    turned = torch.rot90(image, 1, (2, 3)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model(turned), model(x), atol=1e-10, rtol=0)


def test_a_graph_whose_ties_are_cut_is_not_invariant():
    graph = Laplacian(dtype=torch.float64)(GroupGraph(SE2(), (N, N, VO), k=8, anisotropy=0.2, ties="index")(Data()))
    model, x = network([graph]), torch.randn(3, N * N * VO, 2, dtype=torch.float64)
    assert (model(x[:, quarter_turn(N, VO)]) - model(x)).abs().max() > 1e-6


@pytest.mark.parametrize("task", ["classify", "segment"])
@pytest.mark.parametrize(
    ("group", "size", "places"), [(SO3(), (2, 3), 162), (S2(), (2,), 162), (Rn(2), (8, 4), 32)], ids=["so3", "s2", "r2"]
)
def test_runs_on_spheres_and_planes(task, group, size, places):
    graphs = levels(2, torch.float32, group, size, anisotropy=0.5 if isinstance(group, SO3) else 1.0)
    model = network(graphs, torch.float32, task=task, pool="max")
    out = model(torch.randn(2, places, 2))
    assert out.shape == ((2, 3) if task == "classify" else (2, places, 3))
    assert out.isfinite().all()


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_learns_and_every_parameter_gets_a_gradient(task, graphs):
    config = ChebLieNetConfig(1, 2, widths=(4, 4, 8), K=3, task=task)
    model = ChebLieNet(config, graphs).double()
    x = torch.randn(16, N * N, 1, dtype=torch.float64)
    y = (x.mean(1).flatten() > 0).long() if task == "classify" else (x[..., 0] > 0).long()
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.02), []
    for _ in range(30):
        out = model(x)
        losses.append(torch.nn.functional.cross_entropy(out.reshape(-1, 2), y.reshape(-1)))
        optimizer.zero_grad()
        losses[-1].backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]


def test_takes_batches_of_a_shared_graph_and_single_signals(graphs):
    model = network(graphs)
    samples = SharedGraphDataset(graphs[0], torch.randn(5, N * N * VO, 2, dtype=torch.float64), torch.zeros(5))
    batch = next(iter(SharedGraphLoader(samples, batch_size=5)))
    torch.testing.assert_close(model(batch), model(samples.x))
    torch.testing.assert_close(model(samples.x[3]), model(samples.x)[3:4])


def test_one_graph_serves_all_stages_without_pooling(graphs):
    for task in ("classify", "segment"):
        model = network(graphs[:1], task=task)
        assert len(model.pools) == 1
        assert model(torch.randn(2, N * N, 2, dtype=torch.float64)).shape[-1] == 3


def test_geometry_is_not_in_the_state_and_keeps_its_precision(graphs):
    model = network(graphs)
    assert not any("operator" in name or "pool" in name for name in model.state_dict())
    single = copy.deepcopy(model).float()
    x = torch.randn(2, N * N, 2, dtype=torch.float64)
    torch.testing.assert_close(single(x.float()).double(), model(x), atol=1e-4, rtol=0)
    torch.testing.assert_close(single.double()(x), model(x), atol=1e-4, rtol=0)
    assert single.operators[0].operator.dtype == torch.float64
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), model(x))
    other = ChebLieNet(model.config, graphs).double().eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), model(x))
    assert model.to("meta").operators[0].operator.device.type == "meta"


def test_trains_after_validation_in_inference_mode(graphs):
    model = network(graphs, torch.float32)  # another precision than that of the graphs: operators are cast
    with torch.inference_mode():
        model(torch.randn(2, N * N * VO, 2))
    model.train()(torch.randn(2, N * N * VO, 2)).sum().backward()
    assert model.stem.weight.grad.abs().min() > 0


def test_wide_resnet_is_the_published_form():
    config = ChebLieNetConfig.wide_resnet(1, 10, widen=4)
    assert config.widths == (16, 64, 128, 256)
    assert (config.K, config.pool, config.readout, config.blocks) == (4, "random", "max", 2)


def test_compiles(graphs, compiled):
    model, x = network(graphs, torch.float32), torch.randn(2, N * N * VO, 2)
    torch.testing.assert_close(compiled(model, backend="aot_eager")(x), model(x), atol=1e-5, rtol=1e-4)


def test_reset_draws_again(graphs):
    model, x = network(graphs), torch.randn(2, N * N, 2, dtype=torch.float64)
    before = model(x)
    model.reset_parameters()
    assert not torch.allclose(model(x), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "regress"}, r"task must be one of \('classify', 'segment'\), got 'regress'"),
        ({"pool": "min"}, "pool must be one of"),
        ({"widths": (8,)}, "widths must name the first convolution and one stage"),
        ({"K": 0}, "must be positive integers"),
        ({"widths": (8, 0)}, "must be positive integers"),
    ],
)
def test_bad_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ChebLieNetConfig(**{"in_channels": 1, "out_channels": 2} | options)


def bare(nodes, **attributes):
    ring = torch.arange(nodes)
    operator = SparseOperator.from_edges(torch.stack([ring, ring.roll(1)]), torch.ones(nodes), nodes)
    return Data(laplacian=operator, num_nodes=nodes, **attributes)


@pytest.mark.parametrize(
    ("graphs", "error", "message"),
    [
        ([bare(16)] * 3, ValueError, "graphs must be one for each of the 2 stages.*got 3"),
        ([Data(num_nodes=4)], ValueError, "a graph has no laplacian; apply transforms.Laplacian"),
        (["graph"], TypeError, "graphs must be torch_geometric.data.Data"),
        ([bare(15, num_orientations=4)], ValueError, "15 nodes cannot have 4 orientations"),
        ([bare(16, grid=(4, 4)), bare(9, grid=(3, 3))], ValueError, "whole multiple of the next"),
        ([bare(16), bare(4)], ValueError, "icospheres of subsequent levels"),
        (
            [bare(32, grid=(4, 4), num_orientations=2), bare(4, grid=(2, 2), num_orientations=1)],
            ValueError,
            "equally many orientations",
        ),
    ],
)
def test_bad_graphs_are_refused(graphs, error, message):
    with pytest.raises(error, match=message):
        ChebLieNet(ChebLieNetConfig(1, 2), graphs)


def test_bad_signals_are_refused(graphs):
    model = network(graphs)
    with pytest.raises(ValueError, match=r"x must have shape \[B, 256, 2\], got \[2, 100, 2\]"):
        model(torch.zeros(2, 100, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"data.x is missing"):
        model(Data())

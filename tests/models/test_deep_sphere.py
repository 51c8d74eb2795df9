"""DeepSphere: the published weights, rotations, pooling over children, and what it refuses."""

import json
from dataclasses import asdict

import pytest
import torch

from geomeq import groups, spheres
from geomeq.models import DeepSphere, DeepSphereConfig
from geomeq.models._sphere_levels import clusters, make_levels, parents
from geomeq.models.deep_sphere import gaussian_laplacian

DTYPES = pytest.mark.parametrize(("dtype", "tol"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
CHAINS = {
    "healpix": (("healpix", 4), ("healpix", 2), ("healpix", 1)),
    "icosphere": (("icosphere", 2), ("icosphere", 1), ("icosphere", 0)),
    "rings": (("gauss_legendre", 12, 24), ("gauss_legendre", 6, 12)),
    "mixed": (("fibonacci", 300), ("cubed", 5), ("healpix", 2)),
}
each = pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)


def network(chain, dtype=torch.float64, **options):
    torch.manual_seed(1)
    options = {"channels": (6, 8, 10)[: len(chain)], "blocks": 1} | options
    return DeepSphere(DeepSphereConfig(chain, 3, 5, **options)).to(dtype).eval()


@each
@pytest.mark.parametrize("task", ["node", "graph"])
def test_shapes_and_batches(chain, task):
    model = network(chain, task=task)
    x = torch.randn(2, model.num_nodes, 3, dtype=torch.float64)
    y = model(x)
    assert y.shape == ((2, model.num_nodes, 5) if task == "node" else (2, 5))
    torch.testing.assert_close(model(x[1]), y[1], atol=1e-12, rtol=0)


@each
@pytest.mark.parametrize("task", ["node", "graph"])
def test_every_weight_has_a_gradient(chain, task):
    model = network(chain, torch.float32, task=task).train()
    model(torch.randn(3, model.num_nodes, 3)).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert silent == []


def test_weights_of_the_graph_are_the_published_ones():
    s = spheres.healpix(4)
    operator = gaussian_laplacian(s, 2 * s.spacing)
    square = torch.cdist(s.pos, s.pos).square()
    chord = 2 * torch.sin(torch.tensor(s.spacing * (1 + 1e-3)))
    near = (square <= chord**2) & ~torch.eye(192, dtype=torch.bool)
    weight = torch.exp(-square / square[near].mean()) * near
    degree = weight.sum(1)
    laplacian = torch.eye(192, dtype=torch.float64) - weight / (degree[:, None] * degree).sqrt()
    eye = torch.eye(192, dtype=torch.float64)
    torch.testing.assert_close(operator @ eye, laplacian - eye, atol=1e-12, rtol=0)


def test_low_eigenvalues_come_in_the_multiplets_of_the_sphere():
    """2l + 1 nearly equal ones for each degree: what makes the filters isotropic."""
    s = spheres.healpix(8)
    operator = gaussian_laplacian(s, 2 * s.spacing)
    values = torch.linalg.eigvalsh(operator @ torch.eye(s.num_nodes, dtype=torch.float64)) + 1
    for degree in range(1, 5):
        multiplet = values[degree**2 : (degree + 1) ** 2]
        assert float(multiplet.max() - multiplet.min()) < 0.2 * float(multiplet.mean())
        assert float(multiplet.max()) < float(values[(degree + 1) ** 2])


@DTYPES
def test_sixty_rotations_of_the_icosphere_are_exact(dtype, tol):
    model, s = network(CHAINS["icosphere"], dtype), spheres.icosphere(2)
    x = torch.randn(162, 3, dtype=dtype)
    y = model(x).detach()
    moved_to = torch.cdist(s.pos @ groups.icosahedral_rotations(), s.pos).argmin(dim=2)
    torch.testing.assert_close(model(x[moved_to]).detach(), y[moved_to], atol=tol, rtol=0)
    shuffled = torch.randperm(162)
    assert float((model(x[shuffled]) - y[shuffled]).detach().abs().max()) > 1e-2


def test_turns_of_a_ring_grid_by_two_columns_are_exact():
    model, x = network(CHAINS["rings"]), torch.randn(12, 24, 3, dtype=torch.float64)
    turned = [model(x.roll(step, 1).reshape(-1, 3)) - model(x.reshape(-1, 3)).view(12, 24, 5).roll(step, 1).view(-1, 5)
              for step in (2, 1)]  # fmt: skip
    assert float(turned[0].detach().abs().max()) < 1e-12
    assert float(turned[1].detach().abs().max()) > 1e-3  # half a block


@each
def test_children_belong_to_a_near_parent_and_none_is_lost(chain):
    for fine, coarse in zip(*(make_levels(chain)[k:][: len(chain) - 1] for k in (0, 1)), strict=True):
        parent = parents(fine, coarse)
        apart = (fine.pos[:, None] - coarse.pos[parent]).norm(dim=-1)
        assert float(apart.max()) < 2.5 * coarse.spacing
        table, mask = clusters(parent, coarse.num_nodes)
        assert len(table[mask].unique()) == fine.num_nodes
        assert int(mask.sum()) == sum(len(row.unique()) for row in parent)


def test_healpix_children_are_the_four_pixels_inside():
    fine, coarse = spheres.healpix(4), spheres.healpix(2)
    table, mask = clusters(parents(fine, coarse), 48)
    assert torch.equal(table, torch.arange(192).view(48, 4))
    assert bool(mask.all())


def test_compiled_equals_eager(compiled):
    model, x = network(CHAINS["healpix"][1:], torch.float32), torch.randn(2, 48, 3)
    torch.testing.assert_close(compiled(model, backend="aot_eager")(x), model(x), atol=1e-5, rtol=1e-4)


def test_config_as_json_and_weights_back():
    model = network(CHAINS["rings"])
    again = DeepSphereConfig(**json.loads(json.dumps(asdict(model.config))))
    assert again == model.config
    other = DeepSphere(again).double().eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(288, 3, dtype=torch.float64)
    assert torch.equal(other(x), model(x))
    assert "channels=(6, 8), K=3, nodes=288" in repr(model)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"samplings": (("healpix", 2), ("healpix", 4))}, ValueError, "must become coarser, but level 1"),
        ({"samplings": (("healpix", 2), ("healpix", 2))}, ValueError, "must become coarser"),
        ({"samplings": ()}, ValueError, "at least, finest first, got none"),
        ({"samplings": "healpix"}, TypeError, "samplings must be a sequence"),
        ({"samplings": (("mollweide", 2), ("healpix", 1))}, ValueError, "one of the kinds cubed.*got 'mollweide'"),
        ({"samplings": (("healpix",), ("healpix", 1))}, TypeError, "a level is a Sampling, or a kind"),
        ({"channels": (8,)}, ValueError, "one entry for each of 2 levels"),
        ({"K": 0}, ValueError, "must be positive integers"),
        ({"cutoff": 0.0}, ValueError, "cutoff must be positive"),
        ({"cutoff": 0.5}, ValueError, "have no neighbour within"),
        ({"pool": "random"}, ValueError, "pool must be one of"),
        ({"task": "edge"}, ValueError, "task must be one of"),
        ({"samplings": (("random", 40, 0), ("random", 38, 1))}, ValueError, "nearest to no node of the finer"),
    ],
)
def test_configs_that_make_no_sense(options, error, message):
    options = {"samplings": (("healpix", 2), ("healpix", 1)), "channels": (4, 4)} | options
    with pytest.raises(error, match=message):
        DeepSphere(DeepSphereConfig(in_channels=3, out_channels=5, **options))


def test_signals_that_do_not_fit():
    model = network(CHAINS["healpix"])
    with pytest.raises(ValueError, match=r"x must have shape \[..., 192, 3\], got \[48, 3\]; the finest level is"):
        model(torch.randn(48, 3))
    with pytest.raises(ValueError, match=r"x must be \[N, C\] or \[B, N, C\]"):
        model(torch.randn(2, 2, 192, 3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_as_on_the_cpu():
    model, x = network(CHAINS["mixed"]), torch.randn(2, 300, 3, dtype=torch.float64)
    wanted = model(x).detach()
    torch.testing.assert_close(model.cuda()(x.cuda()).detach().cpu(), wanted, atol=1e-10, rtol=0)

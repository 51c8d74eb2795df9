"""What all sets on the sphere share: any sampling or graph, turned globes, places kept for testing, scores."""

import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from geomeq import spheres
from geomeq.datasets import (
    EarthTopography,
    EraInterim,
    MonthlyClimate,
    OceanBasins,
    Panoramas,
    SharedGraphLoader,
    SphericalDigits,
    weighted_iou,
)
from geomeq.datasets._globe import GlobeDataset, draw_rotations, kept_for_test, read_domain
from geomeq.groups import SO3

SAMPLINGS = {
    "healpix": lambda: spheres.healpix(4),
    "gauss_legendre": lambda: spheres.gauss_legendre(8),
    "equiangular, poles": lambda: spheres.equiangular(9),
    "driscoll_healy": lambda: spheres.driscoll_healy(5),
    "icosphere": lambda: spheres.icosphere(2),
    "fibonacci": lambda: spheres.fibonacci(150),
    "cubed": lambda: spheres.cubed(5),
    "random": lambda: spheres.random(120, seed=0),
    "a part": lambda: spheres.healpix(8).part(torch.arange(90)),
}


def needs(cls, request):
    if cls in (EraInterim, OceanBasins):
        request.getfixturevalue("made_sphere_data")


#: Class, its arguments for two samples without noise or rotation, and those that give it a rotation.
SETS = [
    (EarthTopography, {"noise": 0.0, "samples": 2}),
    (EarthTopography, {"noise": 0.0, "samples": 2, "task": "regression"}),
    (MonthlyClimate, {"months": (0, 6), "rotations": 1}),
    (Panoramas, {"split": "test", "copies": 1}),
    (SphericalDigits, {"samples": 2, "num_items": 2, "task": "segmentation"}),
    (OceanBasins, {"months": (0, 6), "rotations": 1, "noise": 0.0}),
    (EraInterim, {"rotations": 1}),
]
NAMES = [f"{cls.__name__} {arguments.get('task', '')}".strip() for cls, arguments in SETS]


EVERYWHERE = [(*entry, kind) for entry in SETS for kind in ("equiangular, poles", "a part")]
EVERYWHERE += [(*SETS[k], kind) for k in (2, 4) for kind in SAMPLINGS if kind not in ("equiangular, poles", "a part")]


@pytest.mark.parametrize(("cls", "arguments", "kind"), EVERYWHERE, ids=[f"{e[0].__name__} {e[2]}" for e in EVERYWHERE])
def test_every_set_lives_on_every_sampling(cls, arguments, kind, request):
    needs(cls, request)
    s = SAMPLINGS[kind]()
    data = cls(s, rotation="random", **arguments)
    assert len(data) == 2
    assert data.x.shape[:2] == (2, s.num_nodes)
    assert data.x.isfinite().all()
    torch.testing.assert_close(data.area, s.area, rtol=0, atol=1e-6)
    batch = next(iter(SharedGraphLoader(data, batch_size=2)))
    assert torch.equal(batch.x, data.x)
    assert torch.equal(batch.y, data.y)
    if data.counted is not None:
        assert torch.equal(batch.counted, data.counted)


@pytest.mark.parametrize(("cls", "arguments"), SETS, ids=NAMES)
def test_a_turned_globe_is_the_globe_seen_from_turned_nodes(cls, arguments, request):
    needs(cls, request)
    s = spheres.fibonacci(200)
    turned = cls(on_double(s), rotation="random", **arguments)
    same = {"holdout": False} if cls in (EarthTopography, MonthlyClimate, EraInterim) else {}
    for k in range(2):
        rotation = turned.rotation[k]
        moved = s.rotated(rotation.T)
        graph = on_double(moved)
        if cls is EraInterim:  # frames move along
            graph.frame = turned.graph.frame @ rotation
        still = cls(graph, rotation="none", **arguments | same)
        torch.testing.assert_close(turned.x[k], still.x[k], rtol=0, atol=1e-10)
        agree = turned.y[k] == still.y[k] if turned.y.dtype == torch.int64 else (turned.y[k] - still.y[k]).abs() < 1e-10
        assert (agree | (turned.y[k] == -1)).all()
        assert not torch.allclose(turned.x[k], cls(on_double(s), rotation="none", **arguments).x[k], atol=0.05)


def on_double(s):
    """As a graph in double precision."""
    return s.to_data(torch.float64)


@pytest.mark.parametrize(("cls", "arguments"), SETS, ids=NAMES)
def test_precision_and_extras_are_those_of_the_graph(cls, arguments, request):
    needs(cls, request)
    s = spheres.healpix(4)
    double, single = (cls(s.to_data(dtype), **arguments) for dtype in (torch.float64, torch.float32))
    assert (double.x.dtype, single.x.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(single.x.double(), double.x, rtol=0, atol=2e-5)
    graph = spheres.sphere_graph(s, cutoff=0.5)
    assert cls(graph, **arguments)[0].keys() == cls(s, **arguments)[0].keys()
    assert cls(graph, **arguments).graph.edge_index is graph.edge_index


@pytest.mark.parametrize(("cls", "arguments"), SETS, ids=NAMES)
def test_a_seed_is_a_choice_and_splits_differ(cls, arguments, request):
    needs(cls, request)
    s = spheres.healpix(4)
    arguments = {k: v for k, v in arguments.items() if k != "split"} | {"rotation": "random"}
    one, again, other = (cls(s, seed=seed, **arguments) for seed in (3, 3, 4))
    assert torch.equal(one.x, again.x)
    assert torch.equal(one.y, again.y)
    assert not torch.equal(one.rotation, other.rotation)
    assert not torch.equal(one.rotation[0], cls(s, split="test", seed=3, **arguments).rotation[0])


@pytest.mark.parametrize("cls", [EarthTopography, MonthlyClimate, Panoramas, SphericalDigits])
def test_bad_input(cls):
    with pytest.raises(ValueError, match="split must be one of"):
        cls(split="validation")
    with pytest.raises(ValueError, match="rotation must be one of 'none', 'z', 'random', got 'x'"):
        cls(spheres.healpix(2), rotation="x")
    with pytest.raises(TypeError, match="sampling must be a Sampling of geomeq.spheres, or a Data"):
        cls(16)
    with pytest.raises(ValueError, match="the graph has no area, only"):
        cls(Data(pos=torch.eye(3)))
    with pytest.raises(ValueError, match="unit sphere"):
        cls(Data(pos=2 * torch.eye(3), area=torch.ones(3)))
    data = cls(spheres.healpix(2))
    assert data[-1].x.shape == data[0].x.shape
    with pytest.raises(IndexError, match="index must be within"):
        data[len(data)]


def test_a_transform_is_applied_at_access():
    def double(sample):
        sample.x = 2 * sample.x
        return sample

    data = EarthTopography(spheres.healpix(2), samples=1, transform=double)
    assert torch.equal(data[0].x, 2 * data.x[0])
    assert torch.equal(data.batch(slice(1))[0], data.x)


def test_rotations():
    for kind in ("none", "z", "random"):
        turn = draw_rotations(kind, 5, seed=1, split="train")
        torch.testing.assert_close(turn @ turn.mT, torch.eye(3).double().expand(5, 3, 3), rtol=0, atol=1e-12)
        assert (torch.linalg.det(turn) > 0).all()
        north = turn[:, :, 2]
        assert (north[:, 2] == 1).all() is not (kind == "random")
    assert torch.equal(draw_rotations("none", 2, 0, "train"), torch.eye(3).double().expand(2, 3, 3))
    with pytest.raises(ValueError, match="samples must be a positive number, got 0"):
        draw_rotations("none", 0, 0, "train")


def test_a_third_of_the_longitudes_is_kept_for_testing():
    s = spheres.gauss_legendre(30, 61)
    kept = torch.from_numpy(kept_for_test(s.pos.numpy()))
    assert float(s.area[kept].sum()) == pytest.approx(4 * math.pi / 3, rel=0.03)
    train, test = (EarthTopography(s, split=split, samples=1, rotation="none") for split in ("train", "test"))
    assert torch.equal(train.counted[0], ~kept)
    assert torch.equal(test.counted[0], kept)
    assert ((train.y[0] == -1) == kept).all()


def scored(y, classes=("a", "b", "c"), counted=None):
    s = spheres.healpix(1)
    return GlobeDataset(s.to_data(), torch.zeros(len(y), 12, 1), y, torch.eye(3).expand(len(y), 3, 3), counted, classes)


def test_scores_of_classes_are_by_area_over_all_samples():
    y, guess = torch.randint(0, 3, (4, 12)), torch.randint(0, 3, (4, 12))
    data = scored(y)
    data.graph.area = torch.rand(12)
    ious = data.ious(guess)
    assert ious["b"] == weighted_iou(guess, y, data.area, 1)
    assert data.miou(guess) == pytest.approx((ious["b"] + ious["c"]) / 2)  # not the background
    plain = [int(((y == k) & (guess == k)).sum()) / int(((y == k) | (guess == k)).sum()) for k in (1, 2)]
    assert data.miou(guess, weighted=False) == pytest.approx(sum(plain) / 2)
    assert data.miou(y) == 1
    absent = scored(torch.zeros(2, 12).long())
    assert math.isnan(absent.miou(absent.y))
    assert absent.miou(torch.ones(2, 12).long()) == 0


def test_errors_of_numbers_are_by_area_where_they_count():
    y, off = torch.randn(2, 12, 2), torch.randn(2, 12, 2)
    data = scored(y, ())
    data.graph.area = torch.rand(12)
    weight = data.area / data.area.sum()
    assert data.rmse(y + off) == pytest.approx(math.sqrt(float((off.double().square().sum(-1) @ weight).mean())))
    one = torch.zeros(2, 12, dtype=torch.bool)
    one[1, 3] = True
    assert scored(y, (), one).rmse(y + off) == pytest.approx(float(off[1, 3].norm()))


def test_scores_that_do_not_fit():
    with pytest.raises(ValueError, match="this task has classes as targets"):
        scored(torch.zeros(2, 12).long()).rmse(torch.zeros(2, 12))
    with pytest.raises(ValueError, match="need a class for every node"):
        scored(torch.zeros(2, 12, 1)).miou(torch.zeros(2, 12))
    with pytest.raises(ValueError, match=r"prediction must have shape \[2, 12\]"):
        scored(torch.zeros(2, 12).long()).miou(torch.zeros(2, 11).long())


def test_points_are_in_double_precision():
    s = spheres.random(40, seed=1)
    assert read_domain(s)[1] is s.pos
    assert np.abs(np.linalg.norm(read_domain(s.to_data())[1], axis=1) - 1).max() < 1e-15
    assert SO3.random(1, seed=0).dtype == torch.float64

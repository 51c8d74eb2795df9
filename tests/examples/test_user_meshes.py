"""FAUST and ModelNet as users have them: files of these formats made here, PyG's classes, our transforms."""

import io
import zipfile

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.datasets import FAUST, ModelNet, faust
from torch_geometric.io import write_off
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose, FaceToEdge

from geomeq import meshes
from geomeq.datasets import DeformedSpheres
from geomeq.groups import icosphere
from geomeq.models import GEMCNN, GEMCNNConfig
from geomeq.transforms import GaugeFeatures, MeshGauge, MultiScale
from tests.examples._run import load

CATEGORIES = ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"]


@pytest.fixture(scope="module")
def bodies():
    """100 surfaces on one mesh of 42 vertices, of the size of a person."""
    sphere = icosphere(1)
    generator = torch.Generator().manual_seed(0)
    noise = 0.05 * torch.randn(100, 42, 3, generator=generator)
    return [Data(pos=0.05 * (sphere.pos.float() + n), face=sphere.face) for n in noise]


@pytest.fixture
def faust_root(tmp_path, bodies):
    """A folder with ``raw/MPI-FAUST.zip`` as it is handed out."""
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "MPI-FAUST.zip", "w") as archive:
        for number, body in enumerate(bodies):
            meshes.save(body, tmp_path / "body.ply")
            name = f"MPI-FAUST/training/registrations/tr_reg_{number:03d}.ply"
            archive.writestr(name, (tmp_path / "body.ply").read_bytes())
    return tmp_path


def box(width, depth, height):
    """A box as ModelNet writes it, with each of its six sides as a square of its own: corners are there three times."""
    corner = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3) * torch.tensor([width, depth, height])
    sides = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    pos = corner[torch.tensor(sides)].reshape(-1, 3)
    lines = [f"4 {4 * k} {4 * k + 1} {4 * k + 2} {4 * k + 3}" for k in range(6)]
    numbers = [" ".join(f"{x:.6f}" for x in p) for p in pos.tolist()]
    return "\n".join([f"OFF{len(pos)} {len(lines)} 0", *numbers, *lines, ""])  # the broken first line of some files


def tee():
    """Three squares that meet at one edge: no manifold."""
    pos = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, -1, 0], [1, -1, 0], [0, 0, 1], [1, 0, 1.0]])
    square = [[0, 1, 3, 2], [0, 1, 5, 4], [0, 1, 7, 6]]
    face = torch.tensor([corners for a, b, c, d in square for corners in ([a, b, c], [a, c, d])]).T
    return Data(pos=pos, face=face)


@pytest.fixture
def modelnet_root(tmp_path):
    """A folder with ``raw/CATEGORY/{train,test}/CATEGORY_0001.off`` as PyG unpacks it."""
    for number, category in enumerate(CATEGORIES):
        for part, count in (("train", 3), ("test", 1)):
            folder = tmp_path / "raw" / category / part
            folder.mkdir(parents=True)
            for k in range(count):
                path = folder / f"{category}_{k + 1:04d}.off"
                if category == "table":
                    write_off(tee(), str(path))
                else:
                    path.write_text(box(1 + number, 2 + 0.1 * k, 1))
    return tmp_path


def test_faust_of_pyg_with_our_transforms(faust_root, bodies, monkeypatch):
    monkeypatch.setattr(faust, "read_ply", meshes.load)  # PyG's reader needs openmesh
    prepare = Compose([MeshGauge(), GaugeFeatures("matrix")])
    train, test = (FAUST(str(faust_root), part, pre_transform=prepare) for part in (True, False))
    assert (len(train), len(test)) == (80, 20)
    for index, sample in ((3, train[3]), (85, test[5])):
        torch.testing.assert_close(sample.pos, bodies[index].pos)  # vertices keep their numbers
        assert torch.equal(sample.face, bodies[index].face)
        assert int(sample.y) == index % 10
        expected = prepare(bodies[index].clone())
        for name in ("edge_index", "polar", "transport", "area", "x"):
            torch.testing.assert_close(sample[name], expected[name], atol=1e-5, rtol=1e-4)
    batch = next(iter(DataLoader(train, batch_size=4)))
    model = GEMCNN(GEMCNNConfig(train[0].types, "10x0", task="graph", channels=4, num_blocks=1, head=8))
    model(batch).square().mean().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.slow
def test_levels_and_files_of_pyg_go_together(faust_root, monkeypatch):
    monkeypatch.setattr(faust, "read_ply", meshes.load)
    train = FAUST(str(faust_root), pre_transform=MultiScale(ratios=(0.3,)))
    again = FAUST(str(faust_root), pre_transform=MultiScale(ratios=(0.3,)))  # from the processed file
    assert torch.equal(train[7].pool_index_1, again[7].pool_index_1)
    batch = next(iter(DataLoader(train, batch_size=3)))
    coarse = train[0].pos_1.size(0)
    assert int(batch.pool_index_1.max()) == 3 * coarse - 1
    batch.x = torch.ones(batch.num_nodes, 1)
    config = GEMCNNConfig("1x0", "2x0", channels=4, num_levels=2, num_blocks=1, head=8)
    assert GEMCNN(config)(batch).shape == (126, 2)


@pytest.mark.parametrize(
    "options", [[], pytest.param(["--positions"], marks=pytest.mark.slow)], ids=["invariant", "positions"]
)
def test_the_faust_script_trains(faust_root, options, capsys):
    example = load("faust")
    settings = ["--epochs", "1", "--limit", "4", "--channels", "2", "--device", "cpu"]
    share = example.main(["--root", str(faust_root), *options, *settings])
    assert 0 <= share <= 100
    assert "4 + 4 registrations" in capsys.readouterr().out
    assert (faust.read_ply is meshes.load) is False  # put back


def test_the_faust_script_says_where_the_files_come_from(tmp_path):
    with pytest.raises(SystemExit) as stopped:
        load("faust").main(["--root", str(tmp_path)])
    message = str(stopped.value)
    assert "faust.is.tue.mpg.de" in message
    assert "MPI-FAUST.zip" in message
    assert "licence" in message


def test_a_damaged_archive_is_no_silent_success(tmp_path, bodies):
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "MPI-FAUST.zip", "w") as archive:
        archive.writestr("MPI-FAUST/training/registrations/tr_reg_000.ply", io.BytesIO(b"ply\n").getvalue())
    with pytest.raises(ValueError, match="tr_reg_000.ply"):
        load("faust").main(["--root", str(tmp_path)])


@pytest.mark.slow
def test_standardised_fields_still_turn(faust_root):
    example = load("faust")
    data, _ = example.read(faust_root, "matrix")
    standardise = example.Standardise(data)
    types = example.SO2Irreps(data[0].types)
    x = torch.stack([standardise(sample).x for sample in data]).flatten(0, 1)
    for block, part in zip(types, types.slices(), strict=True):
        fields = x[:, part].reshape(len(x), block.mul, -1)
        torch.testing.assert_close(fields.square().mean((0, 2)).sqrt(), torch.ones(block.mul), atol=1e-3, rtol=0)
    turn = torch.rand(data[0].num_nodes)
    before = standardise(data[0]).x
    turned = data[0]
    turned.x = types.rotate(turned.x, turn)
    torch.testing.assert_close(standardise(turned).x, types.rotate(before, turn), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "gauge", [MeshGauge(fallback="projected"), MeshGauge(method="projected")], ids=["falls back", "projected"]
)
def test_modelnet_of_pyg_with_our_transforms(modelnet_root, gauge):
    prepare = Compose([gauge, GaugeFeatures("matrix")])
    train, test = (ModelNet(str(modelnet_root), "10", part, pre_transform=prepare) for part in (True, False))
    assert (len(train), len(test)) == (30, 10)
    assert sorted(test._data.y.tolist()) == list(range(10))
    for sample in train:
        assert all(bool(sample[name].isfinite().all()) for name in ("polar", "transport", "area", "frame", "x"))
        sides = 3 if int(sample.y) == CATEGORIES.index("table") else 6
        width = 1 + int(sample.y)
        if sides == 6:  # 1 + y wide, 2 to 2.2 deep, 1 high
            assert float(sample.area.sum()) == pytest.approx(2 * (width * 2.1 + width + 2.1), rel=0.06)
    batch = next(iter(DataLoader(train, batch_size=30)))
    model = GEMCNN(GEMCNNConfig(train[0].types, "10x0", task="graph", channels=4, num_blocks=1, head=8))
    assert bool(model(batch).isfinite().all())


def test_the_table_is_no_manifold_and_the_message_says_so(modelnet_root):
    with pytest.raises(ValueError, match="projected"):
        ModelNet(str(modelnet_root), "10", pre_transform=MeshGauge())


def test_the_modelnet_script_trains(modelnet_root, capsys):
    share = load("modelnet").main(
        ["--root", str(modelnet_root), "--points", "64", "--epochs", "1", "--channels", "2", "--device", "cpu"]
    )
    assert 0 <= share <= 100
    assert "30 + 10 models" in capsys.readouterr().out


def test_levels_survive_our_cache(tmp_path):
    settings = {"root": tmp_path, "level": 1, "num_samples": 2, "pre_transform": MultiScale(ratios=(0.3,))}
    made, read = DeformedSpheres(**settings), DeformedSpheres(**settings)
    first, second = (next(iter(DataLoader(data, batch_size=2))) for data in (made, read))
    assert torch.equal(first.pool_index_1, second.pool_index_1)
    assert torch.equal(first.edge_index_1, second.edge_index_1)
    assert int(second.edge_index_1.max()) < second.pos_1.size(0)


def test_bent_spheres_in_the_format_of_faust(tmp_path):
    # a round trip through files keeps numbers of vertices, so correspondence survives
    sample = DeformedSpheres(root=tmp_path / "spheres", level=1, num_samples=1)[0]
    meshes.save(sample, tmp_path / "one.ply")
    back = meshes.load(tmp_path / "one.ply")
    torch.testing.assert_close(back.pos, sample.pos)
    assert torch.equal(back.face, sample.face)
    assert FaceToEdge()(back).num_edges == 240

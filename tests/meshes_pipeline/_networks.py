"""From a mesh to the output of a network, as a user would write it."""

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geomeq import meshes
from geomeq.groups import SO2Irreps, icosphere
from geomeq.models import GEMCNN, GEMCNNConfig
from geomeq.transforms import GaugeFeatures, MeshGauge, MultiScale

from ..meshes._shapes import annulus, real_path, torus

TYPES = "7x0+4x1+3x2+2x1+2x0"  # of FEATURES
FEATURES = GaugeFeatures(("matrix", "tangents", "curvature"), powers=(0.7, 2.0))
CLOSED = ("bumpy", "torus", "two parts")


def made(name: str) -> Data:
    """A surface without symmetry, float64; real ones by the name of their file, of mean radius 1."""
    if name == "bumpy":
        mesh = bumpy(2)
    elif name == "torus":
        mesh = torus(14, 9)
    elif name == "open":
        mesh = annulus(12, 4)
    elif name == "two parts":
        small = bumpy(1)
        big = bumpy(2)
        face = torch.cat([big.face, small.face + big.num_nodes], dim=1)
        return Data(pos=torch.cat([big.pos, 0.4 * small.pos + torch.tensor([2.0, 0, 0])]), face=face)
    else:
        mesh = meshes.load(real_path(name), dtype=torch.float64)
        pos = mesh.pos - mesh.pos.mean(dim=0)
        return Data(pos=pos / pos.norm(dim=1).mean(), face=mesh.face)
    return Data(pos=bent(mesh.pos), face=mesh.face)


def bumpy(level: int) -> Data:
    """A sphere with bumps."""
    sphere = icosphere(level)
    x, y, z = sphere.pos.T
    radius = 1 + 0.2 * torch.sin(3 * x + y) + 0.15 * torch.cos(2 * z - 3 * y + x) + 0.1 * torch.sin(4 * y * z)
    return Data(pos=sphere.pos * radius[:, None], face=sphere.face)


def bent(pos: Tensor) -> Tensor:
    """A smooth map of space that has no symmetry."""
    x, y, z = pos.T
    return pos + 0.12 * torch.stack([torch.sin(y + 0.3), torch.cos(1.3 * z + x), torch.sin(0.8 * x - y)], dim=1)


def prepared(mesh: Data, dtype: torch.dtype, gauge: MeshGauge | MultiScale | None = None) -> Data:
    """Geometry and features from float64, stored in ``dtype``."""
    data = FEATURES((gauge or MeshGauge())(mesh.clone()))
    return data.apply(lambda t: t.to(dtype) if t.is_floating_point() else t)


def network(dtype: torch.dtype, **options: object) -> GEMCNN:
    """A network whose biases and scales are not those of the start, and whose statistics are those of nobody."""
    settings = {"types_in": TYPES, "types_out": "4x0", "channels": 6, "num_blocks": 2, "head": 16, "norm": "samples"}
    model = GEMCNN(GEMCNNConfig(**{**settings, **options})).to(dtype)  # type: ignore[arg-type]
    for name, p in model.named_parameters():
        if "bias" in name or p.dim() == 1:
            nn.init.normal_(p, mean=float("norm" in name and "weight" in name), std=0.3)
    return model


def settled(model: GEMCNN, *data: Data) -> GEMCNN:
    """The network with running statistics of these surfaces, ready for use."""
    model.train()
    with torch.no_grad():
        for _ in range(8):
            for surface in data:
                model(surface)
    return model.eval()


def relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b).abs().max() / b.abs().max()).detach())


def rotate_fields(types: str, y: Tensor, before: Data, after: Data) -> Tensor:
    """Fields in the frames of one preparation, rewritten in those of another: both have the same normals."""
    e1 = torch.einsum("nij,nj->ni", before.frame, after.frame[:, 0])
    return SO2Irreps(types).rotate(y, -torch.atan2(e1[:, 1], e1[:, 0]))

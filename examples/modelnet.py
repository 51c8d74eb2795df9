"""Classify the CAD models of ModelNet with a gauge-equivariant network on points with normals.

    python examples/modelnet.py --root data/modelnet            # PyG fetches 10 classes, about 450 MB, once
    python examples/modelnet.py --root data/modelnet --name 40

The models were collected from the web for research (Princeton, https://modelnet.cs.princeton.edu; the copyright of each
model is that of its author). Their triangles are no surfaces in the strict sense: three and more meet at an edge, a
table top is two of them. So each model is sampled: 512 points with the normals of their triangles, neighbours by
`MeshGauge(method="projected", knn=12)`, which needs normals only. To work on the triangles themselves, use
`MeshGauge(fallback="projected")`: by angles of triangles where a model is a manifold, by projection where not.

The input are quantities of the surface, so turning a model changes nothing but rounding. Normals of such models point
either way; turning one over mirrors what is seen around it, and the network has to live with it.

Not run on the real files here: there were none. What is tested is that the script trains on files of this format.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.datasets import ModelNet
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose, NormalizeScale, SamplePoints
from tqdm import tqdm

from geomeq.models import GEMCNN, GEMCNNConfig
from geomeq.transforms import GaugeFeatures, MeshGauge


def outward_from_centre(data: Data) -> Data:
    """Turns normals away from the centre of the model: a choice that does not depend on how triangles are listed."""
    inward = (data.normal * (data.pos - data.pos.mean(dim=0))).sum(dim=1) < 0
    data.normal[inward] *= -1
    return data


def read(root: Path, name: str, points: int) -> tuple[ModelNet, ModelNet]:
    """Training and test models, sampled once, with everything that the network reads."""
    prepare = Compose(
        [
            NormalizeScale(),
            SamplePoints(points, include_normals=True),
            outward_from_centre,
            MeshGauge(method="projected", knn=12),
            GaugeFeatures(("matrix", "tangents")),
        ]
    )
    data, test = (ModelNet(str(root), name, train, pre_transform=prepare) for train in (True, False))
    return data, test


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader, device: str) -> float:
    model.eval()
    batches = (batch.to(device) for batch in loader)
    return 100 * float(torch.cat([model(b).argmax(dim=1) == b.y for b in batches]).double().mean())


def main(arguments: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/modelnet"))
    parser.add_argument("--name", default="10", choices=["10", "40"])
    parser.add_argument("--points", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(arguments)
    seed_everything(args.seed)

    data, test = read(args.root, args.name, args.points)
    config = GEMCNNConfig(
        types_in=data[0].types,
        types_out=f"{data.num_classes}x0",
        task="graph",
        channels=args.channels,
        num_blocks=2,
        norm="samples",
        head=64,
        dropout=0.3,
    )
    model = GEMCNN(config).to(args.device)
    print(f"{len(data)} + {len(test)} models, {sum(p.numel() for p in model.parameters()):,} weights")

    loader = DataLoader(data, batch_size=16, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=args.epochs * len(loader))
    start = time.perf_counter()
    for _ in (bar := tqdm(range(args.epochs), unit="epoch", mininterval=1.0)):
        model.train()
        for batch in loader:
            batch = batch.to(args.device)
            loss = nn.functional.cross_entropy(model(batch), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    share = accuracy(model, DataLoader(test, batch_size=32), args.device)
    print(f"{share:.1f} % of the test models; {time.perf_counter() - start:.0f} s")
    return share


if __name__ == "__main__":
    main()

"""Train a gauge-equivariant network on FAUST: which vertex of the reference body is this one?

The 100 registrations of FAUST (10 people in 10 poses, one mesh of 6,890 vertices) may not be passed on, so you fetch
them yourself: register at http://faust.is.tue.mpg.de/, accept the licence (for research; not for commercial use), load
`MPI-FAUST.zip` down and put it into the folder `raw` below the one you name:

    python examples/faust.py --root data/faust                  # data/faust/raw/MPI-FAUST.zip
    python examples/faust.py --root data/faust --positions      # input as published: positions, not invariant
    python examples/faust.py --root data/faust --epochs 1 --limit 4 --channels 8

The split is the published one: the first 80 registrations for training, the last 20 for testing. By default the input
is made of quantities of the surface itself (`GaugeFeatures`), so the answer does not change when bodies are turned;
with `--positions` it is the published experiment (99.7 % of vertices exactly; de Haan et al., 2021), in which all
bodies stand upright. PyG's `FAUST` reads files with openmesh; where that is not installed, `geomeq.meshes` reads them.

Not run on the real files here: there were none. What is tested is that the script trains on files of this format.
"""

import argparse
import os.path as osp
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.datasets import FAUST, faust
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose
from tqdm import tqdm

from geomeq import meshes
from geomeq.datasets import fingerprint
from geomeq.groups import SO2Irreps
from geomeq.models import GEMCNN, GEMCNNConfig
from geomeq.transforms import GaugeFeatures, MeshGauge

CUTOFF = 0.06  # metres: most edges are 1 to 3 cm long


class Registrations(FAUST):
    """PyG's ``FAUST``, read without openmesh, with a folder of its own for each choice of ``pre_transform``."""

    @property
    def processed_dir(self) -> str:
        return osp.join(self.root, "processed", fingerprint(self.pre_transform))

    def download(self) -> None:
        raise FileNotFoundError(
            f"the registrations of FAUST are not there: {self.raw_paths[0]}\nRegister at {self.url}, accept the "
            "licence (research only), and put MPI-FAUST.zip at that place"
        )

    def process(self) -> None:
        reader, faust.read_ply = faust.read_ply, meshes.load
        try:
            super().process()
        finally:
            faust.read_ply = reader


def name_vertices(data: Data) -> Data:
    """Vertex k is vertex k of the reference: the registrations share one mesh."""
    data.pose, data.y = data.y, torch.arange(data.num_nodes)
    return data


def read(root: Path, kind: str) -> tuple[FAUST, FAUST]:
    """Training and test registrations with everything that the network reads."""
    prepare = Compose([MeshGauge(), GaugeFeatures(kind), name_vertices])
    data, test = (Registrations(str(root), train, pre_transform=prepare) for train in (True, False))
    return data, test


def build(types_in: str, vertices: int, channels: int) -> GEMCNN:
    """The published network; SiLU on enough samples instead of ReLU on 7, so that frames do not matter at all."""
    return GEMCNN(
        GEMCNNConfig.faust_direct(
            vertices,
            types_in=types_in,
            channels=channels,
            cutoff=CUTOFF,
            act="silu",
            samples=None,
            norm="samples",
        )
    )


class Standardise:
    """Takes the mean from scalars, and divides every field by the root mean square of its components."""

    def __init__(self, data: FAUST) -> None:
        types, x = SO2Irreps(data[0].types), data._data.x
        self.mean, self.scale = torch.zeros(types.dim), torch.ones(types.dim)
        for block, part in zip(types, types.slices(), strict=True):
            if block.order == 0:
                self.mean[part] = x[:, part].mean(dim=0)
            size = (x[:, part] - self.mean[part]).reshape(len(x), block.mul, -1)  # both components share one
            scale = size.square().mean(dim=(0, 2)).sqrt().clamp(min=1e-12)
            self.scale[part] = scale.repeat_interleave(size.size(2))

    def __call__(self, sample: Data) -> Data:
        sample.x = (sample.x - self.mean) / self.scale
        return sample


@torch.no_grad()
def accuracy(model: nn.Module, surfaces: list[Data]) -> tuple[float, float]:
    """Per cent of vertices named exactly, and the mean distance to the right ones on the test body, in cm."""
    model.eval()
    hits, apart = [], []
    for data in surfaces:
        found: Tensor = model(data).argmax(dim=1)
        hits.append((found == data.y).double().mean())
        apart.append((data.pos[found] - data.pos).norm(dim=1).double().mean())
    return 100 * float(torch.stack(hits).mean()), 100 * float(torch.stack(apart).mean())


def main(arguments: list[str] | None = None) -> float:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/faust"))
    parser.add_argument("--positions", action="store_true", help="positions as input, as published")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--limit", type=int, default=None, help="use only the first registrations of each part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(arguments)
    seed_everything(args.seed)

    kind = "position" if args.positions else "matrix"
    try:
        data, test = read(args.root, kind)
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    types = data[0].types
    data.transform = test.transform = Standardise(data)
    data, test = (part[: args.limit] for part in (data, test))
    model = build(types, data[0].num_nodes, args.channels).to(args.device)
    weights = sum(p.numel() for p in model.parameters())
    print(f"{len(data)} + {len(test)} registrations, input {types}, {weights:,} weights")

    loader = DataLoader(data, batch_size=args.batch, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=args.epochs * len(loader))
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
    share, apart = accuracy(model, [surface.to(args.device) for surface in test])
    print(f"{share:.2f} % of vertices exact, {apart:.2f} cm off on average; {time.perf_counter() - start:.0f} s")
    return share


if __name__ == "__main__":
    main()

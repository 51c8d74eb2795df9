"""The earth, panoramas and digits on the sphere: every set in one line, on the sampling you like.

python examples/earth.py                  # six pictures in runs/earth, seconds
python examples/earth.py --quick          # coarser
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from geomeq import plot, spheres
from geomeq.datasets import EarthTopography, MonthlyClimate, Panoramas, SphericalDigits
from geomeq.spheres import Sampling


def draw_climate(s: Sampling, out: Path) -> float:
    """The sea in January and July, and how many degrees warmer the north is in July."""
    data = MonthlyClimate(s, months=(0, 6), rotation="none", rotations=1)
    sea = data.fields[..., 0]  # degrees Celsius, NaN on land and where no ship went
    known = sea.isfinite().all(0)
    january, july = sea[:, known].clamp(min=0)  # ice is not what this shows
    rows = {"January": january, "July": july}
    figure = plot.sphere_signal(s.part(known), rows, view="mollweide", centre=200, label="sea surface, degrees C")
    figure.savefig(out / "sea.png")
    north = s.pos[known, 2] > 0.3
    return float((july - january)[north].mean())


def draw_earth(s: Sampling, out: Path) -> float:
    """Heights as they are and the inputs made of them; the share of land."""
    data = EarthTopography(s, rotation="none", samples=1, noise=0.0, holdout=False)
    height = {"height": data.height[0] / 1000}
    inputs = {"relief without height": data.x[0, :, 0].clamp(-2, 2), "roughness": data.x[0, :, 1]}
    for name, rows, label in (("height", height, "km"), ("relief", inputs, "")):
        plot.sphere_signal(s, rows, view="mollweide", centre=10, label=label).savefig(out / f"{name}.png")
    return float(data.area[data.land[0]].sum() / data.area.sum())


def draw_panorama(s: Sampling, out: Path) -> None:
    """One scene, as it is and turned."""
    still, turned = (Panoramas(s, "test", rotation=kind) for kind in ("none", "random"))
    scene = still.scenes.index("sunset")
    rows = {"sunset": still.x[scene], "turned": turned.x[scene]}
    plot.sphere_signal(s, rows, view="mollweide", centre=0).savefig(out / "panorama.png")


def draw_digits(s: Sampling, out: Path) -> bool:
    """Two digits, from below; whether a turned sphere shows the same two."""
    still, turned = (
        SphericalDigits(s, task="segmentation", num_items=2, rotation=kind, samples=1) for kind in ("none", "random")
    )
    x, y, z = (-turned.rotation[0, :, 2]).tolist()  # where the south pole went, in the middle of the digits
    below = {"centre": -90.0, "elevation": -89.9}
    there = {"centre": math.degrees(math.atan2(y, x)), "elevation": math.degrees(math.asin(z))}
    title = " and ".join(map(str, still.labels[0].tolist()))
    for name, data, look in (("digits", still, below), ("digits_turned", turned, there)):
        rows = {title: data.x[0, :, 0], "class / 10": data.y[0] / 10}
        plot.sphere_signal(s, rows, **look).savefig(out / f"{name}.png")
    return torch.equal(still.labels, turned.labels)


def main(argv: Sequence[str] | None = None) -> dict[str, float | bool]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer nodes")
    parser.add_argument("--out", type=Path, default=Path("runs/earth"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    coarse, fine = map(spheres.healpix, (8, 16) if args.quick else (32, 64))
    found = {
        "summer": draw_climate(coarse, args.out),
        "land": draw_earth(coarse, args.out),
        "same": draw_digits(coarse, args.out),
    }
    draw_panorama(fine, args.out)
    print(f"land covers {100 * found['land']:.1f} % of the earth")
    print(f"the northern sea is {found['summer']:.1f} degrees warmer in July than in January")
    print(f"pictures in {args.out}")
    return found


if __name__ == "__main__":
    main()

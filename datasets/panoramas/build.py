"""Makes ``panoramas.npz``: six photographs of everything around, 256 x 512 pixels, 8 bits.

Reads the npm package ``@pmndrs/assets`` (CC0 1.0), high dynamic range images by Poly Haven, and needs ``OpenEXR``::

    npm pack @pmndrs/assets@1.7.0
    pip install --no-deps OpenEXR
    python datasets/panoramas/build.py pmndrs-assets-1.7.0.tgz

From radiance to 8 bits, for every image by itself:

1. Repair. Resampling by the publisher overshot beside lamps and windows, which left pixels with a negative channel.
   Each takes the mean of its sound neighbours (3 x 3, columns wrap around), until none is left.
2. Exposure. Radiance is scaled so that the geometric mean of the luminance over the sphere (pixels by their solid
   angle; 0.001 added) is 0.18.
3. Tone curve, by channel: ``v (1 + v / 16) / (1 + v)``, clipped at 1 (Reinhard et al. 2002, white at 4).
4. The transfer function of sRGB, rounded to 0..255.

Stored are differences which deflate well (see ``geomeq/datasets/_pixel_code.py``), lossless. The file is the same byte
for byte each time. Its sha256 and size go into ``geomeq/datasets/_registry.py``.
"""

import base64
import re
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import OpenEXR

from geomeq.datasets._pixel_code import decode, encode
from geomeq.datasets._raw import sha256_of, write_npz

OUT = Path(__file__).with_name("panoramas.npz")
SCENES = ("apartment", "city", "forest", "lobby", "sunset", "warehouse")
SHAPE = (256, 512, 3)
GREY, WHITE, FLOOR = 0.18, 4.0, 1e-3
LUMINANCE = (0.2126, 0.7152, 0.0722)


def radiance(package: Path, scene: str) -> np.ndarray:
    """Linear RGB of one scene, ``[256, 512, 3]``, float64."""
    with tarfile.open(package) as archive:
        script = archive.extractfile(f"package/hdri/{scene}.exr.js").read().decode()
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(base64.b64decode(re.search(r"base64,([A-Za-z0-9+/=]+)", script)[1]))
        file.flush()
        pixels = np.asarray(OpenEXR.File(file.name).channels()["RGB"].pixels, dtype=np.float64)
    if pixels.shape != SHAPE or not np.isfinite(pixels).all():
        sys.exit(f"expected finite pixels {SHAPE} of {scene}, got {pixels.shape}")
    return pixels


def around(values: np.ndarray) -> np.ndarray:
    """Sum over the 3 x 3 neighbourhood, ``[H, W, C]``; columns wrap around."""
    padded = np.pad(np.pad(values, [(0, 0), (1, 1), (0, 0)], mode="wrap"), [(1, 1), (0, 0), (0, 0)])
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1)).sum((-2, -1))


def repair(pixels: np.ndarray) -> np.ndarray:
    """Pixels with a negative channel take the mean of their sound neighbours."""
    pixels, sound = pixels.copy(), (pixels >= 0).all(-1, keepdims=True)
    while not sound.all():
        total, count = around(pixels * sound), around(sound.astype(float))
        mend = (~sound & (count > 0))[..., 0]
        pixels[mend] = total[mend] / count[mend]
        sound = sound | (count > 0)
    return pixels


def tone_map(pixels: np.ndarray) -> np.ndarray:
    """Linear RGB to 8 bits, ``[256, 512, 3]``."""
    rows = np.sin(np.pi * (np.arange(len(pixels)) + 0.5) / len(pixels))[:, None]
    mean = (rows * np.log(pixels @ np.array(LUMINANCE) + FLOOR)).sum() / (rows.sum() * pixels.shape[1])
    v = pixels * (GREY / np.exp(mean))
    v = np.clip(v * (1 + v / WHITE**2) / (1 + v), 0, 1)
    return np.round(255 * np.where(v <= 0.0031308, 12.92 * v, 1.055 * v ** (1 / 2.4) - 0.055)).astype(np.uint8)


def main(package: Path) -> None:
    images = np.stack([tone_map(repair(radiance(package, scene))).transpose(2, 0, 1) for scene in SCENES])
    arrays = {scene: encode(image) for scene, image in zip(SCENES, images, strict=True)}
    if not all(np.array_equal(decode(arrays[scene]), image) for scene, image in zip(SCENES, images, strict=True)):
        sys.exit("what was stored is not what was meant")
    write_npz(OUT, arrays)
    print(f"{OUT}: {OUT.stat().st_size} bytes, sha256 {sha256_of(OUT)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

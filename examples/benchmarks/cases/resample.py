"""``geomeq.spheres.Resampler`` against healpy, torch's ``grid_sample`` and scipy, which find weights every time."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from harness import Case, Claim, Problem, Results, Unavailable
from scipy.ndimage import map_coordinates

from geomeq import spheres
from geomeq.spheres import Resampler


def field(pos: torch.Tensor, channels: int) -> torch.Tensor:
    """Gentle waves, ``[N, C]``: rules that differ in the curvature of a ring alone agree on them."""
    k = torch.arange(1, channels + 1, dtype=torch.float64)
    x, y, z = pos.T[..., None]
    return 1 + 0.1 * torch.sin(x + k * y / channels - z) * torch.exp(0.3 * z * x)


def panorama(height: int, nside: int, channels: int) -> Problem:
    """An equirectangular image, and HEALPix that it is wanted on."""
    s_in, s_out = spheres.equirectangular(height), spheres.healpix(nside)
    image = field(s_in.pos, channels).float().T.reshape(channels, height, 2 * height)
    return {"image": image, "s_in": s_in, "s_out": s_out}


def pixel_coordinates(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of the targets among pixel centres, float64."""
    x, y, z = problem["s_out"].pos.T
    height = problem["image"].size(1)
    step = math.pi / height
    return torch.atan2((x * x + y * y).sqrt(), z) / step - 0.5, (torch.atan2(y, x) + math.pi) / step - 0.5


def padded(image: torch.Tensor) -> torch.Tensor:
    """A column more on either side, and the means of the outer rows as poles."""
    image = F.pad(image[None], (1, 1, 0, 0), mode="circular")[0]
    poles = [image[:, row, 1:-1].mean(1)[:, None, None].expand(-1, 1, image.size(2)) for row in (0, -1)]
    return torch.cat([poles[0], image, poles[1]], dim=1)


def kept(problem: Problem):
    """The matrix is built before, as it is for every image but the first."""
    image = problem["image"]
    resampler = Resampler(problem["s_in"], problem["s_out"])
    resampler(image.flatten(1).T)
    return lambda: {"out": resampler(image.flatten(1).T)}


def built(problem: Problem):
    image = problem["image"]
    return lambda: {"out": Resampler(problem["s_in"], problem["s_out"])(image.flatten(1).T)}


def grid_sample(problem: Problem):
    """Coordinates are prepared; the image is padded, so that the seam is right and the poles nearly."""
    row, column = pixel_coordinates(problem)
    channels, height, width = problem["image"].shape
    grid = torch.stack([(column + 1.5) * 2 / (width + 2) - 1, (row + 1.5) * 2 / (height + 2) - 1], dim=-1).float()

    def run() -> Results:
        out = F.grid_sample(padded(problem["image"])[None], grid[None, None], align_corners=False)
        return {"out": out.view(channels, -1).T}

    return run


def scipy_coordinates(problem: Problem):
    row, column = (v.numpy() + 1 for v in pixel_coordinates(problem))

    def run() -> Results:
        image = padded(problem["image"]).numpy()
        planes = [map_coordinates(plane, [row, column], order=1, mode="nearest") for plane in image]
        return {"out": torch.from_numpy(np.stack(planes, axis=1))}

    return run


def bilinear(problem: Problem) -> Results:
    """The formula, in float64; half a row beside a pole is left to the poles' mean."""
    row, column = pixel_coordinates(problem)
    image = padded(problem["image"].double())
    row, column = row + 1, column + 1
    i, j = row.floor().long().clamp(0, image.size(1) - 2), column.floor().long()
    v, u = row - i, column - j
    top = image[:, i, j] * (1 - u) + image[:, i, j + 1] * u
    bottom = image[:, i + 1, j] * (1 - u) + image[:, i + 1, j + 1] * u
    return {"out": (top * (1 - v) + bottom * v).T}


def belt(nside: int, targets: int, channels: int) -> Problem:
    """HEALPix, and points between 40 degrees south and north, where all use the same rule."""
    s_in, s_out = spheres.healpix(nside), spheres.fibonacci(targets)
    s_out = s_out.part(s_out.pos[:, 2].abs() < math.sin(math.radians(40)))
    return {"x": field(s_in.pos, channels).float(), "s_in": s_in, "s_out": s_out}


def healpix_kept(problem: Problem):
    resampler, x = Resampler(problem["s_in"], problem["s_out"]), problem["x"]
    resampler(x)
    return lambda: {"out": resampler(x)}


def healpix_built(problem: Problem):
    return lambda: {"out": Resampler(problem["s_in"], problem["s_out"])(problem["x"])}


def healpy_values(problem: Problem):
    try:
        import healpy
    except ImportError as error:
        raise Unavailable("pip install healpy") from error
    x, y, z = problem["s_out"].pos.numpy().T
    theta, phi = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)

    def run() -> Results:
        planes = [healpy.get_interp_val(plane, theta, phi, nest=True) for plane in problem["x"].T.numpy()]
        return {"out": torch.from_numpy(np.stack(planes, axis=1))}

    return run


def healpix_definition(problem: Problem) -> Results:
    matrix = Resampler(problem["s_in"], problem["s_out"]).matrix()
    return {"out": torch.from_numpy(matrix @ problem["x"].double().numpy())}


KEPT, BUILT = "geomeq, matrix kept", "geomeq, matrix built"
IMAGES = {
    "512 x 1024 to nside 128, 3 channels": {"height": 512, "nside": 128, "channels": 3},
    "2048 x 4096 to nside 512, 3 channels": {"height": 2048, "nside": 512, "channels": 3},
}
BELTS = {
    "nside 128 to 300000 points, 3 channels": {"nside": 128, "targets": 300_000, "channels": 3},
    "nside 128 to 300000 points, 32 channels": {"nside": 128, "targets": 300_000, "channels": 32},
}

CASES = [
    Case(
        "resample_image",
        "an equirectangular image on HEALPix, bilinear",
        sizes=IMAGES,
        quick={"256 x 512 to nside 32, 2 channels": {"height": 256, "nside": 32, "channels": 2}},
        setup=panorama,
        contenders={KEPT: kept, BUILT: built, "grid_sample": grid_sample, "scipy map_coordinates": scipy_coordinates},
        peer="grid_sample",
        reference=bilinear,
        claims=(Claim("faster than scipy", KEPT, "scipy map_coordinates"),),
    ),
    Case(
        "resample_healpix",
        "HEALPix at other points, bilinear",
        sizes=BELTS,
        quick={"nside 64 to 2000 points, 2 channels": {"nside": 64, "targets": 2000, "channels": 2}},
        setup=belt,
        contenders={KEPT: healpix_kept, BUILT: healpix_built, "healpy": healpy_values},
        peer="healpy",
        reference=healpix_definition,
        claims=(Claim("at least 2x faster than healpy", KEPT, "healpy", 1 / 2),),
    ),
]

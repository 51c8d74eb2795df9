"""Data sets with licence, units and checksums: PyG's ``InMemoryDataset``, cached by content."""

from geomeq.datasets._atom_energies import atom_energies
from geomeq.datasets._cached import cache_root
from geomeq.datasets._fingerprint import fingerprint
from geomeq.datasets._images import ImageDataset
from geomeq.datasets._registry import BundledFile, Verdict, list_bundled, verify_bundled
from geomeq.datasets.bodies import Bodies
from geomeq.datasets.climate_net import ClimateNet
from geomeq.datasets.deformed_spheres import DeformedSpheres
from geomeq.datasets.digits import Digits
from geomeq.datasets.earth_topography import EarthTopography
from geomeq.datasets.era_interim import EraInterim
from geomeq.datasets.fashion_mnist import FashionMNIST
from geomeq.datasets.land_sea import LandSea, land_mask, topography
from geomeq.datasets.md import MD
from geomeq.datasets.monthly_climate import MonthlyClimate
from geomeq.datasets.nbody import NBody
from geomeq.datasets.oc20 import OC20
from geomeq.datasets.ocean_basins import OceanBasins
from geomeq.datasets.oriented_textures import OrientedTextures
from geomeq.datasets.panoramas import Panoramas, panorama
from geomeq.datasets.qm9 import QM9
from geomeq.datasets.shared_graph import SharedGraphDataset, SharedGraphLoader
from geomeq.datasets.slabs import Slabs
from geomeq.datasets.spherical_digits import SphericalDigits
from geomeq.datasets.winds import Winds
from geomeq.spheres.scores import weighted_f1, weighted_iou

__all__ = [
    "MD",
    "OC20",
    "QM9",
    "Bodies",
    "BundledFile",
    "ClimateNet",
    "DeformedSpheres",
    "Digits",
    "EarthTopography",
    "EraInterim",
    "FashionMNIST",
    "ImageDataset",
    "LandSea",
    "MonthlyClimate",
    "NBody",
    "OceanBasins",
    "OrientedTextures",
    "Panoramas",
    "SharedGraphDataset",
    "SharedGraphLoader",
    "Slabs",
    "SphericalDigits",
    "Verdict",
    "Winds",
    "atom_energies",
    "cache_root",
    "fingerprint",
    "land_mask",
    "list_bundled",
    "panorama",
    "topography",
    "verify_bundled",
    "weighted_f1",
    "weighted_iou",
]

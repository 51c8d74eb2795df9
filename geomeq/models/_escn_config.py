"""The settings of an ESCN, and the published ones."""

from dataclasses import dataclass, fields
from typing import Any, Literal

_CHOICES: dict[str, tuple[Any, ...]] = {
    "forces": ("autograd", "direct"),
    "form": ("esen", "escn"),
    "activation": ("gate", "s2", "separable_s2"),
    "mlp": ("gate", "grid", "separable_grid"),
    "norm": ("rms", "layer", "degree", None),
    "radial": ("bessel", "gaussian"),
}


@dataclass(frozen=True)
class ESCNConfig:
    """Everything that defines an :class:`ESCN`; plain values, so it can be saved as JSON.

    The defaults are exact, smooth and conserve energy.

    Attributes:
        lmax: Highest degree of the functions at the atoms.
        mmax: Highest order kept in the frames of edges, at most ``lmax``.
        channels: Functions per atom.
        num_layers: Number of blocks.
        cutoff: Length at which messages end, Angstrom; the graph must hold all edges up to it.
        forces: ``"autograd"``: minus the slope of the energy, and the stress where there is a cell. ``"direct"``: a
            head of their own; faster, but no energy is conserved. Stress then needs ``lmax >= 2``.
        stress: Whether the stress is given; by default where there is a cell.
        hidden_channels: Width within messages; default ``channels``.
        form: ``"esen"`` or ``"escn"``, see :class:`~geomeq.nn.SO2Conv`; ``"escn"`` also has no norms and brings
            messages and atom together on a grid, as published.
        activation: In messages: ``"gate"`` (exact), ``"s2"`` or ``"separable_s2"``.
        attention_heads: Heads of EquiformerV2's attention; 0 for plain sums.
        attention_channels: Invariants per head.
        value_channels: Channels per head, default ``channels / attention_heads``.
        mlp: At the atoms: ``"gate"`` (exact), ``"grid"`` or ``"separable_grid"``.
        mlp_channels: Its width; default ``channels``.
        invariants: Whether the gated network sees, besides degree 0, the sizes of all higher degrees.
        norm: ``"rms"``, ``"layer"`` or ``"degree"`` (see :class:`~geomeq.nn.SphericalNorm`) before every message and
            every network, or ``None``.
        nlat: Rings of all grids; default ``2 (lmax + 1)``.
        nlon: Points of each ring.
        radial: Basis of the lengths.
        num_radial: Number of its functions.
        edge_channels: Width of the edge invariants, made of length and elements.
        radial_hidden: Widths of the network of those in each message.
        reflections: Whether mirror images are respected too, see :class:`~geomeq.nn.SO2Conv`: both hands of a molecule
            then have one energy. By default yes, except for ``form="escn"``, which cannot.
        envelope: Order of the envelope on messages; ``None`` makes the energy jump at the cut-off.
        average_degree: Mean number of neighbours within the cut-off; sums over edges are divided by its root.
        degree_embedding: Whether atoms start with the harmonics of their surroundings too.
        readout: ``"scalar"`` (degree 0) or ``"grid"`` (as published for eSCN: a network at the points of a sphere).
        num_elements: Elements 1 .. ``num_elements``.
        scalars: Names of further invariants of ``data``, one number per structure (``[B]``) or atom (``[N]``): charge,
            spin, tags.
        chunk_size: Edges whose messages are made at a time, to save memory.
    """

    lmax: int = 2
    mmax: int = 2
    channels: int = 32
    num_layers: int = 2
    cutoff: float = 5.0
    forces: Literal["autograd", "direct"] = "autograd"
    stress: bool | None = None
    hidden_channels: int | None = None
    form: Literal["esen", "escn"] = "esen"
    activation: Literal["gate", "s2", "separable_s2"] = "gate"
    attention_heads: int = 0
    attention_channels: int = 32
    value_channels: int | None = None
    mlp: Literal["gate", "grid", "separable_grid"] = "gate"
    mlp_channels: int | None = None
    invariants: bool = False
    norm: Literal["rms", "layer", "degree"] | None = "rms"
    nlat: int | None = None
    nlon: int | None = None
    radial: Literal["bessel", "gaussian"] = "bessel"
    num_radial: int = 8
    edge_channels: int = 64
    radial_hidden: tuple[int, ...] = (64,)
    reflections: bool | None = None
    envelope: int | None = 5
    average_degree: float = 10.0
    degree_embedding: bool = True
    readout: Literal["scalar", "grid"] = "scalar"
    num_elements: int = 90
    scalars: tuple[str, ...] = ()
    chunk_size: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {getattr(self, name)!r}")
        if not 0 <= self.mmax <= self.lmax:
            raise ValueError(f"mmax must lie between 0 and lmax={self.lmax}, got {self.mmax}")
        for name in ("channels", "num_layers", "num_radial", "edge_channels", "num_elements"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("cutoff", "average_degree"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.envelope is not None and self.envelope < 1:
            raise ValueError(f"envelope must be at least 1, or None for a jump at the cut-off, got {self.envelope}")
        gated = self.form != "escn" and self.mlp == "gate"
        if self.invariants and not gated and not (self.forces == "direct" and self.readout == "scalar"):
            raise ValueError("invariants=True tells a gated network more, but there is none; write mlp='gate'")
        if self.forces == "direct" and self.lmax < (2 if self.stress else 1):
            wanted = "stress of their own need lmax >= 2" if self.stress else "direct forces need lmax >= 1"
            raise ValueError(f"{wanted}, got lmax={self.lmax}")
        if isinstance(self.scalars, str):
            raise TypeError(f"scalars must be a tuple of names, got {self.scalars!r}; write ({self.scalars!r},)")
        object.__setattr__(self, "scalars", tuple(self.scalars))
        object.__setattr__(self, "radial_hidden", tuple(self.radial_hidden))  # a list, if it comes from JSON

    @classmethod
    def published(cls, name: str, **options: Any) -> "ESCNConfig":
        """The published sizes, with their activations, norms and heads.

        ``"escn-l4-m2"``, ``"escn-l6-m2"`` (12 layers) and ``"escn-l6-m3"`` (20 layers, 160 channels);
        ``"equiformer-v2-31m"``, ``"-83m"`` and ``"-153m"``; ``"esen-30m"``. Direct forces except the last. An envelope
        makes them smooth at the cut-off, which eSCN and EquiformerV2 are not.

        Args:
            name: One of these.
            options: What shall be different.
        """
        if name not in PUBLISHED:
            raise ValueError(f"name must be one of {tuple(PUBLISHED)}, got {name!r}")
        return cls(**{**PUBLISHED[name], **options})

    @property
    def mirrored(self) -> bool:
        """Whether mirror images are respected."""
        return self.form != "escn" if self.reflections is None else self.reflections

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


_ESCN = {
    "form": "escn", "activation": "s2", "mlp": "grid", "norm": None, "readout": "grid", "forces": "direct",
    "channels": 128, "hidden_channels": 256, "num_layers": 12, "cutoff": 12.0, "radial": "gaussian",
    "num_radial": 600, "edge_channels": 128, "radial_hidden": (128,), "degree_embedding": False, "average_degree": 1.0,
}  # fmt: skip
_EQUIFORMER = {
    "activation": "separable_s2", "mlp": "separable_grid", "norm": "layer", "forces": "direct", "channels": 128,
    "hidden_channels": 64, "attention_heads": 8, "attention_channels": 64, "value_channels": 16, "mlp_channels": 128,
    "cutoff": 12.0, "radial": "gaussian", "num_radial": 600, "edge_channels": 128, "radial_hidden": (128,),
    "nlat": 18, "nlon": 18, "average_degree": 23.4, "reflections": False,
}  # fmt: skip
PUBLISHED: dict[str, dict[str, Any]] = {
    "escn-l4-m2": {**_ESCN, "lmax": 4, "mmax": 2},
    "escn-l6-m2": {**_ESCN, "lmax": 6, "mmax": 2},
    "escn-l6-m3": {**_ESCN, "lmax": 6, "mmax": 3, "num_layers": 20, "channels": 160, "hidden_channels": 384},
    "equiformer-v2-31m": {**_EQUIFORMER, "lmax": 4, "mmax": 2, "num_layers": 8},
    "equiformer-v2-83m": {**_EQUIFORMER, "lmax": 6, "mmax": 2, "num_layers": 12},
    "equiformer-v2-153m": {**_EQUIFORMER, "lmax": 6, "mmax": 3, "num_layers": 20},
    "esen-30m": {
        "lmax": 3, "mmax": 2, "channels": 128, "num_layers": 10, "cutoff": 6.0, "edge_channels": 128,
        "radial_hidden": (128,), "num_radial": 64, "radial": "gaussian", "average_degree": 30.0,
        "reflections": False,
    },
}  # fmt: skip

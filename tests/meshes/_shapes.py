"""Meshes whose defects and quantities are known, and the real ones."""

import math
import os
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from geomeq.groups import icosphere

F64 = torch.float64
REAL = {  # file: Euler characteristic, boundary edges, as published with the meshes
    "spot": (2, 0),
    "blub_fish": (2, 0),
    "nefertiti": (2, 0),
    "penguin": (2, 0),
    "koala": (2, 0),
    "cat": (2, 0),
    "human_man": (2, 0),
    "human_woman": (2, 0),
    "hand": (1, 16),
    "goathead": (2, 0),
    "plane": (2, 0),
    "scorpion": (2, 0),
    "skull": (-2, 0),
    "boat": (2, 0),
    "wingnut": (2, 0),
    "torus": (0, 0),
    "cube": (2, 0),
    "sword": (2, 0),
    "boot": (-22, 0),
    "mountain": (1, 636),
}


def real_path(name):
    """A mesh file of the data folder; skips the test where there is none."""
    folder = os.environ.get("GEOMEQ_DATA")
    path = Path(folder or "missing") / "meshes" / f"{name}.ply"
    if not path.is_file():
        pytest.skip("needs the meshes of the data folder; set GEOMEQ_DATA")
    return path


def sphere(level=2, dtype=F64):
    s = icosphere(level)
    return Data(pos=s.pos.to(dtype), face=s.face)


def grid(rows=4, columns=5, dtype=F64):
    """A flat rectangle of unit squares, each cut in two, in the plane z = 0, facing up."""
    v = torch.arange(rows * columns).view(rows, columns)
    a, b, c, d = v[:-1, :-1], v[:-1, 1:], v[1:, 1:], v[1:, :-1]
    face = torch.stack([torch.stack([a, b, c]).flatten(1), torch.stack([a, c, d]).flatten(1)], dim=2).flatten(1)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return Data(pos=torch.stack([x, y, 0 * x], dim=-1).view(-1, 3).to(dtype), face=face)


def _rolled(around, across, twist, dtype):
    """A strip of ``around`` squares closed to a ring; ``twist`` glues it upside down."""
    v = torch.arange(around * (across + 1)).view(around, across + 1)
    last = v[:1].flip(1) if twist else v[:1]
    full = torch.cat([v, last])
    a, b, c, d = full[:-1, :-1], full[1:, :-1], full[1:, 1:], full[:-1, 1:]
    face = torch.stack([torch.stack([a, b, c]).flatten(1), torch.stack([a, c, d]).flatten(1)], dim=2).flatten(1)
    t = torch.arange(around, dtype=F64) * 2 * math.pi / around
    s = torch.linspace(-0.5, 0.5, across + 1, dtype=F64)
    t, s = torch.meshgrid(t, s, indexing="ij")
    half = t / 2 if twist else 0 * t
    radius = 2 + s * half.cos()
    pos = torch.stack([radius * t.cos(), radius * t.sin(), s * half.sin() if twist else s], dim=-1)
    return Data(pos=pos.view(-1, 3).to(dtype), face=face)


def moebius(around=12, across=2, dtype=F64):
    return _rolled(around, across, True, dtype)


def annulus(around=12, across=2, dtype=F64):
    return _rolled(around, across, False, dtype)


def torus(around=24, across=12, outer=2.0, inner=0.7, dtype=F64):
    return _wrapped(around, across, False, outer, inner, dtype)


def klein(around=12, across=8, dtype=F64):
    """Without a boundary and without an orientation; lies on a torus-like surface, so positions overlap nowhere."""
    return _wrapped(around, across, True, 2.0, 0.7, dtype)


def _wrapped(around, across, flip, outer, inner, dtype):
    v = torch.arange(around * across).view(around, across)
    last = v[:1, (-torch.arange(across)) % across] if flip else v[:1]
    full = torch.cat([v, last])
    full = torch.cat([full, full[:, :1]], dim=1)
    a, b, c, d = full[:-1, :-1], full[1:, :-1], full[1:, 1:], full[:-1, 1:]
    face = torch.stack([torch.stack([a, b, c]).flatten(1), torch.stack([a, c, d]).flatten(1)], dim=2).flatten(1)
    t, s = torch.meshgrid(
        torch.arange(around, dtype=F64) * 2 * math.pi / around,
        torch.arange(across, dtype=F64) * 2 * math.pi / across,
        indexing="ij",
    )
    radius = outer + inner * s.cos()
    pos = torch.stack([radius * t.cos(), radius * t.sin(), inner * s.sin()], dim=-1)
    return Data(pos=pos.view(-1, 3).to(dtype), face=face)


def bow_tie(dtype=F64):
    """Two triangles that touch in vertex 0 only."""
    pos = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]], dtype=dtype)
    return Data(pos=pos, face=torch.tensor([[0, 0], [1, 3], [2, 4]]))


def t_edge(dtype=F64):
    """Three triangles on the edge 0-1."""
    pos = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]], dtype=dtype)
    return Data(pos=pos, face=torch.tensor([[0, 1, 0], [1, 0, 1], [2, 3, 4]]))


def two_parts(dtype=F64):
    """Two spheres, and vertex 84 on its own."""
    s = sphere(1, dtype)
    apart = torch.tensor([5.0, 0, 0], dtype=dtype)
    pos = torch.cat([s.pos, s.pos + apart, torch.full((1, 3), 9.0, dtype=dtype)])
    return Data(pos=pos, face=torch.cat([s.face, s.face + 42], dim=1))

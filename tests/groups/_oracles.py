"""Matrices of group elements and of algebra vectors, written down from the definition."""

import numpy as np
import torch

from geomeq.groups import SE2, SE3, SO2, SO3, Rn, ScaleTranslation

GROUPS = [
    Rn(1),
    Rn(2),
    Rn(3),
    SO2(),
    SE2(),
    SE2(period=2 * torch.pi),
    SO3(),
    SO3(period=2 * torch.pi),
    SE3(),
    ScaleTranslation(1),
    ScaleTranslation(2),
    ScaleTranslation(3, ratio=2.0),
]
names = {"argvalues": GROUPS, "ids": repr}


def element_matrix(group, a):
    """The element as a matrix that acts on (x, 1), float64."""
    a = a.detach().double().numpy()
    n = group.space_dim
    if isinstance(group, SE3):
        return a
    matrix = np.eye(n + 1)
    if isinstance(group, Rn):
        matrix[:n, n] = a
    elif isinstance(group, SO3):
        matrix[:n, :n] = a
    elif isinstance(group, ScaleTranslation):
        matrix[:n, :n] *= np.exp(a[-1])
        matrix[:n, n] = a[:-1]
    else:
        angle = a if isinstance(group, SO2) else a[2]
        matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix[:2, 2] = 0 if isinstance(group, SO2) else a[:2]
    return matrix


def algebra_matrix(group, v):
    """The generator of an algebra vector, float64: its matrix exponential is the element of ``exp(v)``."""
    v = v.detach().double().numpy()
    n = group.space_dim
    matrix = np.zeros((n + 1, n + 1))
    if isinstance(group, (Rn, SE2, SE3, ScaleTranslation)):
        matrix[:n, n] = v[:n]
    if isinstance(group, ScaleTranslation):
        matrix[:n, :n] = v[-1] * np.eye(n)
    elif isinstance(group, (SO2, SE2)):
        matrix[:2, :2] = v[-1] * np.array([[0, -1], [1, 0]])
    elif isinstance(group, (SO3, SE3)):
        x, y, z = v[-3:]
        matrix[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    return matrix


def algebra_vectors(group, count, seed=0, reach=3.0):
    """Random algebra vectors with rotations shorter than ``reach``, so that exp is one-to-one on them."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(count, group.dim, generator=generator, dtype=torch.float64)
    if isinstance(group, (SO2, SE2)):
        v[:, -1] = (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1) * reach
    if isinstance(group, (SO3, SE3)):
        w = v[:, -3:]
        length = torch.rand(count, 1, generator=generator, dtype=torch.float64) * reach
        v[:, -3:] = w / w.norm(dim=1, keepdim=True) * length
    return v


def tolerance(dtype):
    return {"atol": 1e-12 if dtype == torch.float64 else 3e-5, "rtol": 0 if dtype == torch.float64 else 1e-5}

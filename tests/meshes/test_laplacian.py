"""Laplacian and mass: definition by finite elements, kernels, spheres, the tufted cover."""

import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from geomeq.meshes import (
    cotangent_laplacian,
    edge_lengths,
    face_areas,
    flip_to_delaunay,
    load,
    mass_matrix,
    tufted_laplacian,
)

from ._shapes import annulus, bow_tie, grid, klein, moebius, real_path, sphere, t_edge, torus, two_parts


def operators(mesh, kind="lumped"):
    length, num = edge_lengths(mesh.pos, mesh.face), mesh.pos.size(0)
    return cotangent_laplacian(mesh.face, length, num), mass_matrix(mesh.face, length, num, kind)


def brute(mesh):
    """Stiffness and mass by integrating gradients and products of hat functions, triangle by triangle."""
    num = mesh.pos.size(0)
    stiff, mass = np.zeros((num, num)), np.zeros((num, num))
    for corners in mesh.face.t().tolist():
        p = mesh.pos[corners].numpy()
        across = [p[(c + 2) % 3] - p[(c + 1) % 3] for c in range(3)]
        normal = np.cross(p[1] - p[0], p[2] - p[0])
        area = np.linalg.norm(normal) / 2
        gradient = [np.cross(normal / (2 * area), a) / (2 * area) for a in across]
        for a in range(3):
            for b in range(3):
                stiff[corners[a], corners[b]] += area * gradient[a] @ gradient[b]
                mass[corners[a], corners[b]] += area / 12 * (1 + (a == b))
    return stiff, mass


@pytest.mark.parametrize("mesh", [sphere(1), grid(), annulus(), moebius(), t_edge(), bow_tie(), two_parts()])
def test_equals_integrals_over_triangles(mesh):
    stiff, mass = brute(mesh)
    laplacian, full = operators(mesh, "full")
    np.testing.assert_allclose(laplacian.toarray(), stiff, atol=1e-12)
    np.testing.assert_allclose(full.toarray(), mass, atol=1e-12)
    np.testing.assert_allclose(operators(mesh)[1].diagonal(), mass.sum(axis=1), atol=1e-12)


@pytest.mark.parametrize("mesh", [sphere(2), torus(), grid(), klein()])
def test_symmetric_semidefinite_and_blind_to_constants(mesh):
    laplacian, _ = operators(mesh)
    assert abs(laplacian - laplacian.T).max() < 1e-14
    np.testing.assert_allclose(laplacian @ np.ones(mesh.pos.size(0)), 0, atol=1e-11)
    values = np.linalg.eigvalsh(laplacian.toarray())
    assert values[0] > -1e-10
    assert values[1] > 1e-3  # one component: one constant
    assert np.isclose(np.linalg.eigvalsh(operators(two_parts())[0].toarray())[:4], 0, atol=1e-10).sum() == 3


@pytest.mark.parametrize("kind", ["lumped", "mixed", "full"])
def test_masses_add_up_to_the_area(kind):
    for mesh in (sphere(2), annulus(), two_parts()):
        area = float(face_areas(edge_lengths(mesh.pos, mesh.face)).sum())
        assert operators(mesh, kind)[1].sum() == pytest.approx(area, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_spectrum_of_the_sphere(dtype):
    laplacian, mass = operators(sphere(4, dtype))
    values = np.sort(scipy.sparse.linalg.eigsh(laplacian, k=16, M=mass, sigma=-0.1, return_eigenvectors=False))
    expected = np.repeat([0.0, 2, 6, 12], [1, 3, 5, 7])
    np.testing.assert_allclose(values, expected, rtol=0.01, atol=1e-6)
    assert not np.allclose(values, expected, rtol=1e-5, atol=1e-6)  # a mesh is not the sphere


def test_linear_functions_on_a_plane_are_harmonic_inside():
    mesh = grid(5, 6)
    laplacian, _ = operators(mesh)
    inside = torch.zeros(5, 6, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    residual = laplacian @ (mesh.pos[:, :2] @ torch.tensor([[2.0], [-3.0]], dtype=torch.float64)).numpy()
    assert abs(residual[inside.flatten().numpy()]).max() < 1e-12
    assert abs(residual).max() > 0.1


def test_bending_changes_nothing():
    flat = grid(6, 8)
    x, y, _ = flat.pos.t()
    rolled = flat.clone()
    step = 2 * math.pi / 20
    rolled.pos = torch.stack([torch.cos(step * x), y * 2 * math.sin(step / 2), torch.sin(step * x)], dim=1)
    flat.pos = flat.pos * 2 * math.sin(step / 2)
    # diagonals of a square on the cylinder: chords keep the lengths along the axis and across, hence also these
    np.testing.assert_allclose(operators(flat)[0].toarray(), operators(rolled)[0].toarray(), atol=1e-12)


def test_the_tufted_laplacian_equals_the_cotangent_one_on_a_delaunay_mesh():
    pytest.importorskip("robust_laplacian", reason="needs robust-laplacian: pip install 'geomeq[mesh]'")
    mesh = sphere(2)
    laplacian, mass = tufted_laplacian(mesh.pos, mesh.face, mollify=0.0)
    expected, area = operators(mesh)
    np.testing.assert_allclose(laplacian.toarray(), expected.toarray(), atol=1e-9)
    np.testing.assert_allclose(mass.toarray(), area.toarray(), atol=1e-9)


@pytest.mark.parametrize("name", ["spot", "hand", "wingnut"])
def test_our_flips_give_the_laplacian_of_robust_laplacian(name):
    pytest.importorskip("robust_laplacian", reason="needs robust-laplacian: pip install 'geomeq[mesh]'")
    mesh = load(real_path(name), dtype=torch.float64)
    face, length, flips = flip_to_delaunay(mesh.face, edge_lengths(mesh.pos, mesh.face), simple=False)
    ours = cotangent_laplacian(face, length, mesh.pos.size(0))
    theirs, mass = tufted_laplacian(mesh.pos, mesh.face, mollify=0.0)
    closed = name != "hand"  # the tufted cover glues the boundary of its two sheets: a boundary edge becomes inner
    if closed:
        assert abs(ours - theirs).max() < 1e-6 * abs(theirs).max()
        before = operators(mesh)[0]
        assert abs(before - theirs).max() > 1e-3 * abs(theirs).max()  # flips matter
    assert flips > 0
    np.testing.assert_allclose(theirs.sum(axis=1), 0, atol=1e-7)
    assert mass.sum() == pytest.approx(float(face_areas(length).sum()), rel=1e-6)


@pytest.mark.parametrize("mesh", [t_edge(), bow_tie(), moebius(), klein(), two_parts()])
def test_the_tufted_laplacian_takes_any_triangles(mesh):
    pytest.importorskip("robust_laplacian", reason="needs robust-laplacian: pip install 'geomeq[mesh]'")
    laplacian, mass = tufted_laplacian(mesh.pos, mesh.face)
    assert laplacian.shape == mass.shape == (mesh.pos.size(0),) * 2
    dense = laplacian.toarray()
    assert np.isfinite(dense).all()
    np.testing.assert_allclose(dense.sum(axis=1), 0, atol=1e-9)
    assert (dense - np.diag(dense.diagonal()) <= 1e-9).all()
    assert np.linalg.eigvalsh(dense)[0] > -1e-9
    unused = np.setdiff1d(np.arange(mesh.pos.size(0)), mesh.face.numpy())
    assert (mass.diagonal()[unused] == 0).all()


def test_bad_input_is_named():
    mesh = grid()
    length = edge_lengths(mesh.pos, mesh.face)
    with pytest.raises(ValueError, match="'lumped', 'mixed' or 'full', got 'voronoi'"):
        mass_matrix(mesh.face, length, 20, "voronoi")
    with pytest.raises(ValueError, match="have no area"):
        cotangent_laplacian(mesh.face, torch.zeros_like(length), 20)
    with pytest.raises(ValueError, match="at least one face"):
        tufted_laplacian(mesh.pos, mesh.face[:, :0])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "robust_laplacian", None)
    with pytest.raises(ImportError, match=r"pip install 'geomeq\[mesh\]'"):
        tufted_laplacian(grid().pos, grid().face)

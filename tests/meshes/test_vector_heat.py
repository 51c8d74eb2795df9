"""Vector heat log maps: frames and signs against the sphere, the paths of path_log, and what cannot be done."""

import sys

import pytest
import torch

from geomeq.groups import wrap_angle
from geomeq.meshes import (
    edge_lengths,
    half_edges,
    one_ring,
    path_log,
    project,
    tangent_frames,
    turn_frames,
    vector_heat_log,
)

from ._shapes import F64, sphere, two_parts


def wide(mesh, radius):
    """One ring, frames and the pairs within a radius."""
    num = mesh.pos.size(0)
    log = one_ring(half_edges(mesh.face, num), edge_lengths(mesh.pos, mesh.face))
    frame = tangent_frames(mesh.pos, torch.nn.functional.normalize(mesh.pos), log)
    return log, frame, path_log(log, num, radius=radius, pos=mesh.pos)


def test_on_a_sphere_it_is_nearer_to_great_circles_than_paths():
    pytest.importorskip("potpourri3d")
    mesh = sphere(3)
    log, frame, paths = wide(mesh, 0.6)
    heat = vector_heat_log(mesh.pos, mesh.face, frame, log, paths.edge_index)
    assert torch.equal(heat.edge_index, paths.edge_index)
    exact = project(mesh.pos, frame, paths.edge_index)
    arc = 2 * torch.asin(exact.polar[:, 0] / 2)
    assert float((heat.polar[:, 0] / arc - 1).abs().max()) < 0.015

    def error(found, column):
        angles = (found.polar[:, 1], exact.polar[:, 1]) if column == "angle" else (found.transport, exact.transport)
        return float(wrap_angle(angles[0] - angles[1]).abs().max())

    for column in ("angle", "transport"):
        assert error(heat, column) < 0.004
        assert error(heat, column) < 0.3 * error(paths, column)
    assert float(wrap_angle(heat.transport + exact.transport).abs().max()) > 0.1


def test_it_follows_the_frames_and_keeps_the_ring():
    pytest.importorskip("potpourri3d")
    mesh = sphere(2)
    log, frame, paths = wide(mesh, 0.6)
    heat = vector_heat_log(mesh.pos, mesh.face, frame, log, paths.edge_index)
    turn = torch.rand(162, dtype=F64)
    j, i = log.edge_index
    polar = torch.stack([log.polar[:, 0], wrap_angle(log.polar[:, 1] - turn[i])], dim=1)
    turned = type(log)(log.edge_index, polar, wrap_angle(log.transport - turn[i] + turn[j]))
    again = vector_heat_log(mesh.pos, mesh.face, turn_frames(frame, turn), turned, paths.edge_index)
    j, i = heat.edge_index
    assert float(wrap_angle(again.polar[:, 1] - heat.polar[:, 1] + turn[i]).abs().max()) < 1e-8
    assert float(wrap_angle(again.transport - heat.transport + turn[i] - turn[j]).abs().max()) < 1e-8
    key = heat.edge_index[1] * 162 + heat.edge_index[0]
    at = torch.searchsorted(key, log.edge_index[1] * 162 + log.edge_index[0])
    assert torch.equal(heat.polar[at], log.polar)


def test_isolated_vertices_and_pieces_stay_apart():
    pytest.importorskip("potpourri3d")
    mesh = two_parts()
    log, frame, paths = wide(mesh, 0.9)
    heat = vector_heat_log(mesh.pos, mesh.face, frame, log, paths.edge_index)
    assert torch.equal(heat.edge_index, paths.edge_index)
    assert bool(torch.isfinite(heat.polar).all() and torch.isfinite(heat.transport).all())
    j, i = heat.edge_index
    assert torch.equal(j < 42, i < 42)


def test_without_potpourri3d_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "potpourri3d", None)
    mesh = sphere(0)
    log, frame, paths = wide(mesh, 1.2)
    with pytest.raises(ImportError, match=r"pip install 'geomeq\[mesh\]'"):
        vector_heat_log(mesh.pos, mesh.face, frame, log, paths.edge_index)

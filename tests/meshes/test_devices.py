"""What is computed with torch gives the same on a GPU; what needs scipy comes back to it."""

import pytest
import torch
from torch_geometric.data import Data

from geomeq import meshes

from ._shapes import grid, moebius, sphere, t_edge, torus, two_parts

SHAPES = [sphere(2), torus(), grid(), moebius(), t_edge(), two_parts()]


def everything(mesh):
    """Tensors of all kinds, on the device of the mesh."""
    pos, face, num = mesh.pos, mesh.face, mesh.pos.size(0)
    length = meshes.edge_lengths(pos, face)
    he = meshes.half_edges(face, num)
    stretched = meshes.edge_lengths(pos * torch.tensor([1.0, 3.0, 0.4], device=pos.device), face)
    coarse = meshes.coarsen(mesh, 0.4)
    quadric = meshes.coarsen(mesh, 0.4, "quadric")
    return [
        *(he.twin, he.edge, he.edges, he.edge_count, he.boundary_vertex, he.inconsistent_edge),
        *(length, meshes.corner_angles(length), meshes.face_areas(length), meshes.mollify(length, 0.5)[0]),
        *(meshes.vertex_area(face, length, num, "mixed"), meshes.vertex_normals(pos, face)),
        *(meshes.gaussian_curvature(face, length, num), meshes.mean_curvature(pos, face)),
        *(meshes.shape_operator(pos, face), meshes.orient(face.flip(0), pos)[0]),
        *meshes.flip_to_delaunay(face, stretched)[:2],
        *(meshes.clean(mesh, merge_duplicates=True, split_nonmanifold=True)[0].face,),
        *(coarse.pool_index, coarse.centre, coarse.mesh.face, quadric.pool_index, quadric.mesh.pos),
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mesh", SHAPES)
def test_cuda_equals_cpu(mesh):
    moved = Data(pos=mesh.pos.cuda(), face=mesh.face.cuda())
    found = everything(moved)
    assert all(x.is_cuda for x in found)
    torch.testing.assert_close([x.cpu() for x in found], everything(mesh), atol=1e-9, rtol=1e-9)
    assert meshes.inspect(moved) == meshes.inspect(mesh)


@pytest.mark.parametrize("mesh", SHAPES)
def test_everything_has_a_value_on_the_cpu(mesh):
    found = everything(mesh)
    assert all(x.device == mesh.pos.device for x in found)
    assert all(torch.isfinite(x).all() for x in found)

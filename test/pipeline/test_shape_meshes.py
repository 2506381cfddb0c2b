import dataclasses
import threading

import numpy as np
import torch
from analytic import household
from analytic_scene import TruthfulNetwork
from pipeline.three_objects import SETTINGS, SHAPES, estimator

from crisp_ros.geometry.decimation import is_closed
from crisp_ros.pipeline import decoded_shapes


def test_decoded_shapes_take_points_of_all_shapes_at_once():
    shapes = household()[:3]
    decoder = TruthfulNetwork(shapes, (0,)).decoder
    points = torch.randn(50, 3) * 0.05
    index = torch.tensor([0] * 20 + [2] * 30)
    found = decoded_shapes(decoder, torch.eye(3))(points, index)
    expected = torch.cat((shapes[0].sdf(points[:20]), shapes[2].sdf(points[20:])))
    torch.testing.assert_close(found, expected)


def test_surfaces_grow_outwards_by_so_many_metres(scene):
    tested = estimator()
    found = tested.estimate(scene.frame).objects
    for e, plain, grown in zip(
        found, tested.meshes(found), tested.meshes(found, 0.006), strict=True
    ):
        assert is_closed(grown.faces)
        reach = np.array([grown.vertices.min(0), grown.vertices.max(0)])
        expected = np.array([e.lower - 0.006, e.upper + 0.006])
        edge = (e.upper - e.lower + 0.012).max() / SETTINGS.isosurface.voxels
        np.testing.assert_allclose(reach, expected, atol=edge)
        shape = SHAPES[int(e.code.argmax())]
        distance = shape.sdf(torch.from_numpy(grown.vertices))
        assert abs(distance.median().item() - 0.006) < 1e-3
        assert grown.vertices.max() > plain.vertices.max()


def test_meshes_are_closed_in_the_object_frame_and_kept(scene):
    tested = estimator()
    objects = tested.estimate(scene.frame).objects
    meshes = tested.meshes(objects)
    for mesh, shape in zip(meshes, SHAPES, strict=True):
        assert is_closed(mesh.faces)
        size = max(np.subtract(shape.upper, shape.lower))
        assert shape.sdf(torch.tensor(mesh.vertices)).abs().max() < 0.5 * 1.1 * size / 24
    assert tested.mesh(objects[1]) is meshes[1]
    assert tested.meshes([objects[2], objects[0], objects[2]]) == [meshes[2], meshes[0], meshes[2]]
    assert tested.meshes([]) == []


def test_only_the_latest_meshes_are_kept(scene):
    tested = estimator(settings=dataclasses.replace(SETTINGS, cached_meshes=2))
    objects = tested.estimate(scene.frame).objects
    first = tested.mesh(objects[0])
    assert len(tested.meshes(objects)) == 3, "more than fit are returned all the same"
    assert tested.mesh(objects[2]) is tested.mesh(objects[2])
    assert tested.mesh(objects[0]) is not first


def test_meshes_may_be_made_in_another_thread(scene):
    tested = estimator()
    objects = tested.estimate(scene.frame).objects
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(tested.mesh(objects[0]))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(mesh is found[0] for mesh in found)

"""The overlay: outlines where a renderer sees the object, colours by certificate."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trimesh
from node.fakes import AMBIGUOUS, estimate
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.outputs.overlay import OverlayObject, certificate_text, overlay, silhouette
from crisp_ros.observation.frame import Camera

CAMERA = Camera(fx=300.0, fy=320.0, cx=155.0, cy=118.0, width=320, height=240)
GREEN, ORANGE = (60, 220, 90), (255, 150, 40)


def sphere(radius: float) -> TriangleMesh:
    made = trimesh.creation.icosphere(4, radius)
    return TriangleMesh(made.vertices.astype(np.float32), made.faces.astype(np.int32))


def pose(x: float, y: float, z: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", [0.3, -0.8, 0.5]).as_matrix()
    T[:3, 3] = x, y, z
    return T


def filled(outlines: list[np.ndarray]) -> np.ndarray:
    import cv2

    mask = np.zeros((CAMERA.height, CAMERA.width), np.uint8)
    cv2.drawContours(mask, outlines, -1, 1, cv2.FILLED)
    return mask.astype(bool)


def rays() -> np.ndarray:
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    d = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1)
    return d / np.linalg.norm(d, axis=-1, keepdims=True)


@pytest.mark.parametrize("centre", [(0.05, -0.03, 0.6), (0.3, 0.2, 0.6)])
def test_silhouette_is_where_rays_hit_a_sphere(centre: tuple[float, float, float]) -> None:
    found = filled(silhouette(sphere(0.08), pose(*centre), CAMERA))
    along = rays() @ np.array(centre)
    hit = np.dot(centre, centre) - along**2 <= 0.08**2
    assert hit.any()
    differs = np.count_nonzero(found ^ hit)
    assert differs < 0.04 * np.count_nonzero(hit)  # the rim's pixels alone


def test_objects_behind_the_camera_or_without_mesh_are_not_drawn() -> None:
    assert silhouette(sphere(0.1), pose(0, 0, -0.5), CAMERA) == []
    empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert silhouette(empty, pose(0, 0, 0.5), CAMERA) == []


def test_overlay_colours_certified_and_uncertified_objects() -> None:
    image = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    left = estimate(1, pose(-0.15, 0, 0.6), certified=True)
    right = estimate(2, pose(0.15, 0, 0.6), certified=False)
    objects = [
        OverlayObject("mug_1", left, sphere(0.06)),
        OverlayObject("bowl_2", right, sphere(0.06)),
    ]
    drawn = overlay(image, CAMERA, objects)
    assert (image == 90).all() and drawn.shape == image.shape
    middle = CAMERA.width // 2
    for colour, side in ((GREEN, drawn[:, :middle]), (ORANGE, drawn[:, middle:])):
        assert (side == colour).all(-1).sum() > 50
    assert not (drawn[:, :middle] == ORANGE).all(-1).any()


def test_texts_of_overlapping_objects_do_not_overlap() -> None:
    image = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    behind_one_another = [
        OverlayObject(f"tomato_soup_can_{i}", estimate(i, pose(0.01 * i, 0, z)), empty)
        for i, z in enumerate((-1.0, 0.5, 0.6, 0.7, 0.8, -0.3))
    ]
    alone = [overlay(image, CAMERA, [drawn]) for drawn in behind_one_another]
    black = [np.count_nonzero((drawn == 0).all(-1)) for drawn in alone]
    together = overlay(image, CAMERA, behind_one_another)
    # Of a text that is written over, the rim would be lost.
    assert np.count_nonzero((together == 0).all(-1)) > 0.9 * sum(black) > 0


def test_an_object_behind_the_camera_keeps_others_drawn() -> None:
    image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    behind = OverlayObject("a", estimate(1, pose(0, 0, -0.4)), sphere(0.05))
    ahead = OverlayObject("b", estimate(2, pose(0, 0, 0.5)), sphere(0.05))
    assert (overlay(image, CAMERA, [behind, ahead]) != 0).any()


def test_certificate_text() -> None:
    assert certificate_text(estimate(1, np.eye(4), residual_m=0.0042)) == "q98 4.2 mm"
    withheld = estimate(1, np.eye(4), certified=False)
    assert certificate_text(withheld) == "q98 13 mm > 10 mm"
    ambiguous = estimate(AMBIGUOUS, np.eye(4), residual_m=0.0042)
    assert certificate_text(ambiguous) == "q98 4.2 mm, rotation?"


def test_a_long_reason_is_cut_at_its_explanation() -> None:
    found = estimate(1, pose(0, 0, 0.6), certified=False)
    assert certificate_text(found) == found.reason
    unknown = dataclasses.replace(found, reason="unknown object: no shape is certified, and so on")
    assert certificate_text(unknown) == "unknown object"

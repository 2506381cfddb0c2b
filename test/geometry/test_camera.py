import numpy as np
import pytest

from crisp_ros.geometry.camera import Camera, FrameError

CAMERA = Camera(500.0, 510.0, 31.5, 23.5, 64, 48)


def test_camera_from_matrix():
    K = [[500.0, 0, 31.5], [0, 510.0, 23.5], [0, 0, 1]]
    assert Camera.from_matrix(K, 64, 48) == CAMERA
    assert Camera.from_matrix(np.array(K).ravel(), 64, 48) == CAMERA
    assert CAMERA.matrix.tolist() == K


def test_pixels_with_depth_project_back_to_themselves():
    u, v, depth = np.array([[0.0, 31.5]]), np.array([[47.0], [3.0]]), np.full((2, 2), 0.8)
    points = CAMERA.back_project(u, v, depth)
    assert points[0, 1].tolist() == pytest.approx([0.0, (47.0 - 23.5) / 510.0 * 0.8, 0.8])
    u, v = np.broadcast_arrays(u, v)
    np.testing.assert_allclose(CAMERA.project(points), np.stack((u, v), -1), atol=1e-12)


@pytest.mark.parametrize(
    "K, cause",
    [
        (np.zeros((3, 3)), "not calibrated"),
        ([500, 0, 32, 0, np.nan, 24, 0, 0, 1], "fy is nan"),
        ([500, 0, np.inf, 0, 500, 24, 0, 0, 1], "cx is inf"),
        ([500, 7, 32, 0, 500, 24, 0, 0, 1], "rectify"),
        ([500, 0, 32, 0, 500, 24, 0, 0, 0], "rectify"),
        ([500, 0, 0, 500], r"expected \(3, 3\)"),
    ],
)
def test_bad_cameras_are_refused_with_the_cause(K, cause):
    with pytest.raises(FrameError, match=cause):
        Camera.from_matrix(K, 64, 48)


def test_a_camera_needs_a_size():
    with pytest.raises(FrameError, match="0 x 48"):
        Camera(500, 500, 32, 24, 0, 48)

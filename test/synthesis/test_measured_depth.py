import numpy as np

from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.measured_depth import depth_behind, measured_depth, random_depth_sensor
from crisp_ros.synthesis.renderer import Rendering


def rendering(depth: np.ndarray) -> Rendering:
    instances = (depth > 0).astype(np.int32)
    nothing = np.zeros((*depth.shape, 3))
    return Rendering(nothing.astype(np.uint8), depth, instances, nothing.astype(np.float32))


def two_boxes() -> np.ndarray:
    depth = np.zeros((240, 320), np.float32)
    depth[60:120, 40:100] = 0.7
    depth[90:200, 180:260] = 1.1
    return depth


def test_what_is_behind_is_behind_the_nearest_object():
    for seed in range(30):
        behind = depth_behind(two_boxes(), np.random.default_rng(seed))
        assert np.isfinite(behind).all()
        # Blurred between objects, so the middle of each is looked at.
        assert behind[90, 70] > 0.69 and behind[150, 220] > 1.09
        assert behind.max() < 1.1 + 1.5 * 2 + 0.01


def test_behind_is_now_in_touch_and_now_far():
    gaps = np.array(
        [depth_behind(two_boxes(), np.random.default_rng(s))[150, 220] - 1.1 for s in range(40)]
    )
    assert 10 < (gaps < 0.05).sum() < 30 and (gaps > 0.2).sum() > 5


def test_a_frame_without_objects_has_a_wall():
    behind = depth_behind(np.zeros((240, 320), np.float32), np.random.default_rng(0))
    assert np.ptp(behind) == 0 and 0.8 <= behind[0, 0] <= 3.0


def test_the_measurement_is_near_the_truth_and_has_gaps():
    depth = two_boxes()
    camera = Camera(300, 300, 160, 120, 320, 240)
    seen = measured_depth(rendering(depth), camera, np.random.default_rng(3))
    inner = np.zeros_like(depth, bool)
    inner[70:110, 50:90] = inner[100:190, 190:250] = True
    measured = inner & (seen > 0)
    assert measured.sum() > 0.9 * inner.sum() and (seen == 0).any()
    assert np.abs(seen - depth)[measured].max() < 0.05
    assert (seen > 0)[~(depth > 0)].mean() > 0.5


def test_sensors_differ():
    sensors = [random_depth_sensor(np.random.default_rng(s)) for s in range(20)]
    assert len({s.noise_px for s in sensors}) == 20 and len({s.step_px for s in sensors}) == 3

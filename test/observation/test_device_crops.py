"""Crops made by the device against those that the host makes."""

import numpy as np
import pytest
import torch

from crisp_ros.observation.device_crops import CropRecipe, device_crops
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.observe import ObservationSettings, observe

SETTINGS = ObservationSettings(min_depth_m=0.6, max_depth_m=1.9, max_objects=None)
SIZE = 32
CAMERA = Camera(500.0, 510.0, 99.5, 74.5, 200, 150)


@pytest.fixture
def frame() -> Frame:
    """Objects smaller and larger than a crop, two of them cut off by the border of the image."""
    rng = np.random.default_rng(0)
    labels = np.zeros((150, 200), np.int32)
    labels[10:26, 20:38], labels[60:149, 70:190] = 3, 5
    labels[0:40, 160:200], labels[130:150, 0:13] = 8, 9
    depth = rng.uniform(0.5, 2.0, labels.shape).astype(np.float32)
    depth[rng.random(labels.shape) < 0.1] = 0.0
    colours = rng.integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    return Frame(colours, depth, labels, CAMERA)


@pytest.mark.parametrize(
    ("crop_rule", "geometry"),
    [("square", True), ("square", False), ("tight", False), ("image", False)],
)
def test_crops_are_those_of_the_host_within_a_grey_level(
    frame: Frame, crop_rule: str, geometry: bool
) -> None:
    expected = observe(frame, SETTINGS, SIZE, geometry, crop_rule)
    seen = observe(frame, SETTINGS, SIZE, geometry, crop_rule, masks_alone=True)
    assert seen.labels.tolist() == [3, 5, 8, 9] and seen.crops.dtype == torch.bool
    limits = (SETTINGS.min_depth_m, SETTINGS.max_depth_m) if geometry else None
    rgb, depth = torch.from_numpy(frame.rgb), torch.from_numpy(frame.depth)
    recipe = CropRecipe(CAMERA, SIZE, crop_rule, limits)
    crops = device_crops(recipe, rgb, depth, seen.crops[:, 0], seen.boxes)
    levels = 255.0 * (crops - expected.crops)[:, :3].abs()
    assert crops.shape == expected.crops.shape and levels.max() < 1.001
    assert levels.mean() < 0.2  # OpenCV interpolates in integers
    torch.testing.assert_close(crops[:, 3:], expected.crops[:, 3:], atol=1e-5, rtol=0)

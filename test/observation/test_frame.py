import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from crisp_ros.observation.frame import Camera, Frame, FrameError, depth_mm_to_m

CAMERA = Camera(500.0, 510.0, 31.5, 23.5, 64, 48)


def images():
    return {
        "rgb": np.zeros((48, 64, 3), np.uint8),
        "depth": np.ones((48, 64), np.float32),
        "labels": np.zeros((48, 64), np.int32),
    }


def test_a_good_frame_is_taken_as_it_is():
    given = images()
    frame = Frame(**given, camera=CAMERA)
    assert frame.rgb is given["rgb"] and frame.labels is given["labels"]
    assert frame.depth.dtype == np.float32 and (frame.depth == 1).all()
    with pytest.raises(dataclasses.FrozenInstanceError):
        frame.depth = frame.depth


def test_depth_that_is_no_distance_becomes_zero():
    given = images()
    given["depth"][0, :5] = [np.nan, np.inf, -np.inf, -1.0, 0.0]
    frame = Frame(**given, camera=CAMERA)
    assert frame.depth[0, :5].tolist() == [0.0] * 5
    assert (frame.depth[0, 5:] == 1).all()
    assert np.isnan(given["depth"][0, 0]), "the caller's image is left alone"


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64])
def test_label_types_are_unified(dtype):
    given = images() | {"labels": np.ones((48, 64), dtype)}
    frame = Frame(**given, camera=CAMERA)
    assert frame.labels.dtype == np.int32 and (frame.labels == 1).all()


def test_strided_images_become_contiguous():
    given = images() | {"rgb": np.zeros((48, 64, 4), np.uint8)[..., :3]}
    frame = Frame(**given, camera=CAMERA)
    assert frame.rgb.flags.c_contiguous


@pytest.mark.parametrize(
    "name, value, cause",
    [
        ("rgb", np.zeros((48, 64), np.uint8), r"rgb has shape \(48, 64\)"),
        ("rgb", np.zeros((48, 64, 3), np.float32), "rgb is float32"),
        ("rgb", None, "rgb is a NoneType"),
        (
            "depth",
            np.ones((24, 32), np.float32),
            r"depth has shape \(24, 32\), expected \(48, 64\)",
        ),
        ("depth", np.ones((48, 64), np.uint16), "depth_mm_to_m"),
        ("labels", np.zeros((64, 48), np.int32), "registered"),
        ("labels", np.zeros((48, 64), np.float32), "labels are float32"),
        ("labels", np.full((48, 64), -1, np.int32), "labels go down to -1"),
        ("labels", np.full((48, 64), 2**40, np.int64), "32 bits"),
    ],
)
def test_bad_images_are_refused_with_the_cause(name, value, cause):
    with pytest.raises(FrameError, match=cause):
        Frame(**(images() | {name: value}), camera=CAMERA)


def test_millimetres():
    depth = depth_mm_to_m(np.array([[0, 1234]], np.uint16))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 1.234]], rtol=1e-6)
    with pytest.raises(FrameError, match="float32"):
        depth_mm_to_m(np.ones((2, 2), np.float32))


def test_recorded_images_in_millimetres_or_metres_become_a_frame():
    given = images() | {"intrinsics": CAMERA.matrix}
    metres = Frame.from_recorded(SimpleNamespace(**given))
    given["depth"] = np.full((48, 64), 1000, np.uint16)
    millimetres = Frame.from_recorded(SimpleNamespace(**given))
    assert metres.camera == millimetres.camera == CAMERA
    np.testing.assert_allclose(millimetres.depth, metres.depth)
    given["depth"] = np.full((48, 64), 1000, np.int32)
    with pytest.raises(FrameError, match="depth is int32"):
        Frame.from_recorded(SimpleNamespace(**given))

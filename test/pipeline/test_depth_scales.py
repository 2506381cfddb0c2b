"""The widths of known objects in the image tell a wrong scale of depth."""

import dataclasses

import numpy as np
import pytest

from crisp_ros.data.depth_units import scale_by_widths
from crisp_ros.data.recording import Recording
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.share import bundled_recording, checkpoint_path


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(load_model(checkpoint_path()))


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    recorded = list(Recording(bundled_recording()).frames())
    return [Frame.from_recorded(recorded[i]) for i in (3, 17, 31)]


@pytest.mark.parametrize("scale", [1.0, 1.05, 1.1, 1.15])
def test_the_scale_of_a_recording_is_found(
    estimator: Estimator, frames: list[Frame], scale: float
) -> None:
    scaled = [dataclasses.replace(f, depth=f.depth * np.float32(scale)) for f in frames]
    found = [[e.depth_scale for e in estimator.estimate(f).objects] for f in scaled]
    expected = None if scale == 1.0 else pytest.approx(scale, abs=0.02)
    assert scale_by_widths(found) == expected


def test_hidden_and_truncated_objects_say_nothing(
    estimator: Estimator, frames: list[Frame]
) -> None:
    """The right half of an image is all that the camera has seen."""
    frame = frames[0]
    labels = frame.labels.copy()
    cut = int(np.median(np.nonzero(labels == 4)[1]))
    labels[:, cut:] = 0
    depth = frame.depth.copy()
    depth[:, cut:] = 0.3  # something is in front
    estimates = estimator.estimate(dataclasses.replace(frame, labels=labels, depth=depth)).objects
    (scale,) = [e.depth_scale for e in estimates if e.label == 4]
    assert np.isnan(scale)

"""Frame dumps: written and read without loss, and refused when they are not what they claim."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from analytic import box, mug
from analytic_scene import rendered, truthful_model

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.evaluation.estimate_difference import estimate_differences
from crisp_ros.observation.observe import ObservationSettings, Rejected
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.pipeline.frame_dump import FrameDump, read_frame_dump

SHAPES = (box((0.04, 0.025, 0.055)), mug(0.04, 0.045, 0.008, 0.03))
SETTINGS = EstimatorSettings(
    observation=ObservationSettings(points=300),
    certificate=CertificateSettings(threshold_m=0.02),
    corrector=CorrectorSettings(shape_ratio=math.inf),
    visibility=None,
)


def at(x: float, z: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, 0.0, z
    return T


@pytest.fixture(scope="module")
def dump() -> FrameDump:
    frame = rendered(SHAPES, (at(-0.1, 0.7), at(0.1, 0.7)), (4, 7)).frame
    estimate = Estimator(truthful_model(SHAPES, (0, 1)), SETTINGS).estimate(frame)
    estimate = dataclasses.replace(estimate, rejected=(Rejected(9, "too few points"),))
    known = ExpectedObject(at(0.1, 0.7), np.full(3, -0.05), np.full(3, 0.05), 1, 12, True)
    context = {"stamp": "1.5"}
    return FrameDump(
        frame, estimate, SETTINGS, "model.safetensors", "cpu", 1, context, expected=(known,)
    )


def test_everything_comes_back_to_the_last_bit(dump: FrameDump, tmp_path: Path) -> None:
    dump.write(tmp_path / "frame.safetensors")
    read = read_frame_dump(tmp_path / "frame.safetensors")
    for name in ("rgb", "depth", "labels"):
        before, after = getattr(dump.frame, name), getattr(read.frame, name)
        assert before.dtype == after.dtype and np.array_equal(before, after)
    assert read.frame.camera == dump.frame.camera
    assert read.settings == dump.settings
    assert read.estimate.rejected == dump.estimate.rejected
    assert read.estimate.stage_ms == dump.estimate.stage_ms
    assert (read.device, read.threads, read.context) == ("cpu", 1, {"stamp": "1.5"})
    for before, after in zip(dump.expected[0], read.expected[0], strict=True):
        assert type(before) is type(after) and np.array_equal(before, after)
    differences = estimate_differences(dump.estimate, read.estimate)
    assert [(d.label, d.metres, d.identical) for d in differences] == [(4, 0, True), (7, 0, True)]
    repeated = Estimator(truthful_model(SHAPES, (0, 1)), read.settings).estimate(read.frame)
    assert all(d.identical for d in estimate_differences(read.estimate, repeated))
    assert list(tmp_path.iterdir()) == [tmp_path / "frame.safetensors"]
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1  # others may read it as they may any file


def test_no_covariance_and_no_residual_are_kept_as_such(dump: FrameDump, tmp_path: Path) -> None:
    bare = [
        dataclasses.replace(e, covariance=None, residual_m=math.inf) for e in dump.estimate.objects
    ]
    estimate = dataclasses.replace(dump.estimate, objects=tuple(bare))
    dataclasses.replace(dump, estimate=estimate).write(tmp_path / "frame.safetensors")
    read = read_frame_dump(tmp_path / "frame.safetensors").estimate.objects
    assert all(e.covariance is None and e.residual_m == math.inf for e in read)


def test_a_failed_write_leaves_nothing(dump: FrameDump, tmp_path: Path) -> None:
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(OSError):
        dump.write(tmp_path / "taken.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["taken.safetensors"]

"""Percentiles of the node's latency, from made-up measurements of the probe."""

import pytest

from crisp_ros.pipeline import STAGES
from crisp_ros.studies.latency import LatencyError, latency


def answered(transform_ms: float, fits_ms: float) -> dict[str, object]:
    """One frame whose inference stages take 2 ms each."""
    stages = {name: 2.0 for name in STAGES} | {"fits": fits_ms}
    return {"transform_ms": transform_ms, "stage_ms": stages, "objects": 3}


def test_inference_and_fits_are_subtracted() -> None:
    inference = 2.0 * len(STAGES)
    frames = [answered(inference + 30.0, 20.0), answered(inference + 40.0, 20.0)]
    figures = latency({"image": "640x480", "sent": 3, "answered": frames}, 1.0)
    assert figures["frames"] == 3 and figures["answered"] == 2 and figures["objects_median"] == 3
    assert figures["stamp_to_transform"]["median_ms"] == inference + 35.0
    assert figures["without_inference_with_fits"]["median_ms"] == 35.0
    assert figures["without_inference"] == {"median_ms": 15.0, "p95_ms": 19.5}
    assert figures["stages"]["fits"]["median_ms"] == 20.0


def test_a_node_that_answers_too_little_is_an_error() -> None:
    with pytest.raises(LatencyError, match="only 1 of 3 frames"):
        latency({"image": "640x480", "sent": 3, "answered": [answered(50.0, 1.0)]}, 1.0)

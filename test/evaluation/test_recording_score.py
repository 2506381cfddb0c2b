"""Scores of a recording against errors that are known by construction."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from crisp_ros.evaluation.recording_score import RecordingScore, frame_score
from crisp_ros.evaluation.true_shapes import (
    TrueShape,
)

# Points far apart, so that the nearest neighbour of a slightly moved one is itself.
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.1
HALF_TURN = Rotation.from_euler("z", 180, degrees=True).as_matrix()
SHAPES = {"box": TrueShape(CORNERS * [1.0, 2.0, 3.0], np.stack([np.eye(3), HALF_TURN]))}


def moved(degrees: float = 0.0, x: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    T[:3, 3] = x, 0.0, 1.0
    return T


def estimate(label: int, T: np.ndarray, certified: bool = True, name: str = "") -> dict[str, Any]:
    return {
        "id": f"{name}_{label}", "label": label, "class_name": name, "certified": certified,
        "T_camera_object": T.tolist(), "score": 0.7, "residual": 0.004, "mesh_version": 2,
        "reason": "" if certified else "q98 13 mm > 10 mm",
    }  # fmt: skip


def truth(
    label: int, T: np.ndarray, share: float | None = 1.0, name: str = "box"
) -> dict[str, Any]:
    return {"label": label, "name": name, "visible_share": share, "T_camera_object": T.tolist()}


def note(
    index: int,
    estimates: list[dict],
    truths: list[dict],
    round_trip_ms: float | None = 30.0,
    network_ms: float = 20.0,
) -> dict[str, Any]:
    return {
        "index": index, "estimates": estimates, "truth": truths, "round_trip_ms": round_trip_ms,
        "stage_ms": {"network": network_ms} if round_trip_ms else {},
    }  # fmt: skip


def test_errors_of_one_object() -> None:
    # Turned half around it is the same box; then 10 degrees and 4 mm are left.
    entry = note(5, [estimate(3, moved(190, 0.004))], [truth(3, moved(0), 0.6)])
    score = frame_score(entry, SHAPES)
    (o,) = score.objects
    assert (o.frame, o.label, o.name, o.id, o.mesh_version) == (5, 3, "box", "_3", 2)
    assert o.certified and o.reason == "" and o.residual_m == 0.004 and o.visible_share == 0.6
    assert math.degrees(o.rotation_error_rad) == pytest.approx(10.0)
    assert o.translation_error_m == pytest.approx(0.004)
    assert score.answered and score.stage_ms == {"network": 20.0}
    (shifted,) = frame_score(
        note(0, [estimate(1, moved(0, 0.004))], [truth(1, moved())]), SHAPES
    ).objects
    assert shifted.add_s_m == pytest.approx(0.004)


def test_missed_is_infinite_and_unknown_is_not_measured() -> None:
    entry = note(0, [estimate(2, moved(), name="mug"), estimate(4, moved())], [truth(1, moved())])
    frame = frame_score(entry, SHAPES)
    missed, named, unnamed = frame.objects
    assert math.isinf(missed.add_s_m) and math.isinf(missed.rotation_error_rad)
    assert missed.T_camera_object is None and not missed.certified
    assert named.name == "mug" and math.isnan(named.add_s_m) and unnamed.name == "object 4"
    score = RecordingScore((frame,))
    assert score.objects == [missed] and score.names == ["box", "mug", "object 4"]
    assert score.of_object("mug") == [named]
    assert score.auc_add_s == {"1cm": 0.0, "2cm": 0.0, "3cm": 0.0}
    json_object = missed.to_json()
    assert json_object["add_s_m"] is None and json_object["estimated"] is False
    # The truth of an object whose shape is not known cannot be measured either.
    other = frame_score(note(0, [], [truth(1, moved(), name="unknown")]), SHAPES)
    assert not RecordingScore((other,)).has_truth


def test_figures_of_a_recording() -> None:
    shifts = [0.001, 0.004, 0.015, 0.5]
    frames = [
        note(i, [estimate(1, moved(0, x), certified=x < 0.01)], [truth(1, moved(), share)])
        for i, (x, share) in enumerate(zip(shifts, (1.0, None, 0.9, 0.5), strict=True))
    ]
    score = RecordingScore(tuple(frame_score(entry, SHAPES) for entry in frames))
    errors = [o.add_s_m for o in score.objects]
    np.testing.assert_allclose(errors[:3], shifts[:3])
    assert score.median_add_s_m == pytest.approx(0.0095)
    assert score.share_within_2cm == 1.0  # half visible does not count, unknown does
    assert score.certified_share == 0.5 and score.certified_within_2cm == 1.0
    # The mean over the objects of the threshold's part that is above their error.
    assert score.auc_add_s["2cm"] == pytest.approx((19 + 16 + 5 + 0) / 80)
    report = score.to_json()
    assert report["answered"] == report["frames"] == 4
    assert report["auc_add_s"] == score.auc_add_s and len(report["instances"]) == 4
    assert report["instances"][1]["visible_share"] is None


def test_latency_leaves_out_first_and_unanswered_frames() -> None:
    entries = [note(0, [], [], 900.0, 800.0), note(1, [], [], None)]
    entries += [note(i, [], [], 10.0 * i, 5.0 * i) for i in (2, 3, 4)]
    score = RecordingScore(tuple(frame_score(entry, {}) for entry in entries))
    assert not score.frames[1].answered and score.round_trip_ms == [20.0, 30.0, 40.0]
    assert score.stage_ms == {"network": [10.0, 15.0, 20.0]}
    report = score.to_json()
    assert report["answered"] == 4 and "median_add_s_m" not in report
    assert report["round_trip_ms"] == {"median": 30.0, "p95": pytest.approx(39.0)}
    nothing = RecordingScore(())
    assert nothing.to_json()["round_trip_ms"] == {"median": None, "p95": None}


def test_jitter_of_an_object_at_rest_ignores_camera_motion() -> None:
    frames = []
    for i in range(6):
        camera = moved(5.0 * i, x=0.3 * i)
        found = np.linalg.inv(camera) @ moved(1.0 if i % 2 else 0.0, x=0.002 * (i % 2))
        entry = note(i, [estimate(1, found), estimate(2, found, certified=False)], [])
        frames.append(frame_score(entry | {"T_world_camera": camera.tolist()}, SHAPES))
    (found,) = RecordingScore(tuple(frames)).jitter.values()
    assert found.step_m == pytest.approx(0.002) and found.step_rad == pytest.approx(np.radians(1.0))
    report = RecordingScore(tuple(frames)).to_json()["jitter"]
    assert report["median_step_m"] == pytest.approx(0.002)
    assert report["median_step_deg"] == pytest.approx(1.0)
    still = [frame_score(note(i, [estimate(1, moved())], []), SHAPES) for i in range(4)]
    assert "jitter" not in RecordingScore(tuple(still)).to_json()  # where is the camera?

"""The report of `crisp demo`, from records of the player."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.reports.demo_report import DemoAnswers, demo_page, write_overlays

ORIGIN = {
    "version": "1.2.3",
    "command": "crisp demo",
    "machine": {"device": "cpu", "cpu": "a CPU", "cores": 2, "python": "3.12", "torch": "2.5"},
}
FRAME = RecordedFrame(
    0,
    "camera",
    rgb=np.zeros((12, 16, 3), np.uint8),
    depth=np.full((12, 16), 600, np.uint16),
    labels=np.ones((12, 16), np.uint8),
    intrinsics=np.array([[20.0, 0, 8], [0, 20.0, 6], [0, 0, 1]]),
)


def frame_note(index: int, overlay: str = "") -> dict[str, Any]:
    estimate = {
        "id": "mug-1",
        "label": 1,
        "class_name": "mug",
        "certified": True,
        "T_camera_object": np.eye(4).tolist(),
        "residual": 0.004,
        "mesh_version": 2,
        "reason": "",
    }
    return {
        "kind": "frame",
        "index": index,
        "overlay": overlay,
        "estimates": [estimate],
        "truth": [],
        "stage_ms": {"network": 5.0},
        "round_trip_ms": 9.0,
        "model_version": "7.0",
        "T_world_camera": None,
    }


@pytest.fixture
def answers(tmp_path: Path) -> DemoAnswers:
    """An empty collection in a new folder."""
    results = tmp_path / "results"
    results.mkdir()
    return DemoAnswers(results, {})


def test_records_of_frames_become_scores(answers: DemoAnswers) -> None:
    assert answers.add({"kind": "state", "text": "starting"}) is None
    score = answers.add(frame_note(0))
    assert score is not None and score.round_trip_ms == 9.0
    assert answers.add({"kind": "left_out", "text": "1 frame left out"}) is None
    figures = answers.to_json()
    assert figures["frames"] == 1 and figures["model_version"] == "7.0"
    assert figures["left_out"] == "1 frame left out"


def test_records_of_meshes_become_surfaces(answers: DemoAnswers) -> None:
    vertices, faces = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32)
    np.savez(answers.results / "mug.npz", vertices=vertices, faces=faces)
    answers.add({"kind": "mesh", "id": "mug-1", "mesh_version": 2, "file": "mug.npz"})
    np.testing.assert_array_equal(answers.surfaces["mug-1", 2].vertices, vertices)


@pytest.mark.parametrize("count, shape", [(1, (4, 6)), (2, (4, 12)), (8, (8, 18))])
def test_overlays_are_also_written_on_one_sheet(
    answers: DemoAnswers, tmp_path: Path, count: int, shape: tuple[int, int]
) -> None:
    for index in range(count):
        cv2.imwrite(str(answers.results / f"{index}.png"), np.full((4, 6, 3), index, np.uint8))
        answers.add(frame_note(index, f"{index}.png"))
    write_overlays(tmp_path, answers)
    assert cv2.imread(str(tmp_path / "overlays.png")).shape[:2] == shape
    assert len(list(tmp_path.glob("overlay_*.png"))) == min(count, 6)


def test_without_overlays_no_picture_is_written(answers: DemoAnswers, tmp_path: Path) -> None:
    answers.add(frame_note(0))
    write_overlays(tmp_path, answers)
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("bundled", [False, True])
def test_the_page_names_its_origin(answers: DemoAnswers, bundled: bool) -> None:
    answers.add(frame_note(0))
    answers.add({"kind": "left_out", "text": "1 frame left out"})
    page = demo_page(answers, "table", [FRAME], ORIGIN, bundled)
    assert "1 frames of table" in page and "Model 7.0, crisp_ros 1.2.3, crisp demo" in page
    assert "1 frame left out" in page and ("Yale-CMU-Berkeley" in page) is bundled

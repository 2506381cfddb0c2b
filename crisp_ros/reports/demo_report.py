"""The report of `crisp demo`: the node's answers to a recording as pictures and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.evaluation.recording_score import FrameScore, RecordingScore, frame_score
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.reports.html_report import Report, html_report
from crisp_ros.reports.scene_data import SceneFrame, Surface, shown_frames
from crisp_ros.reports.scene_points import scene_points

_ATTRIBUTION = (
    "The objects of the bundled recording are those of the YCB object and model set"
    " (Calli et al., Yale-CMU-Berkeley), used under CC BY 4.0; the recording is rendered."
)
_SHEET_FRAMES, _SHEET_COLUMNS = 6, 3


@dataclass
class DemoAnswers:
    """The player's records of the node's answers.

    Attributes:
        results: folder in which the player writes.
        shapes: the true shapes by name, as far as known.
        scores: one per frame.
        notes: the player's record of each frame.
        surfaces: the reconstructed surfaces, by object id and mesh version.
        model_version: of the newest answer.
        left_out: the messages or frames that could not be played, as text.
    """

    results: Path
    shapes: Mapping[str, TrueShape]
    scores: list[FrameScore] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    surfaces: dict[tuple[str, int], Surface] = field(default_factory=dict)
    model_version: str = ""
    left_out: str = ""

    @property
    def score(self) -> RecordingScore:
        """The score of all frames so far."""
        return RecordingScore(tuple(self.scores))

    def add(self, note: dict[str, Any]) -> FrameScore | None:
        """Add a record of the player and return the score, if it is the record of a frame."""
        if note["kind"] == "left_out":
            self.left_out = note["text"]
        elif note["kind"] == "mesh":
            with np.load(self.results / note["file"]) as arrays:
                surface = Surface(arrays["vertices"], arrays["faces"])
            self.surfaces[note["id"], int(note["mesh_version"])] = surface
        elif note["kind"] == "frame":
            self.scores.append(frame_score(note, self.shapes))
            self.notes.append(note)
            self.model_version = note["model_version"] or self.model_version
            return self.scores[-1]
        return None

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        answers = {"model_version": self.model_version, "left_out": self.left_out}
        return {**self.score.to_json(), **answers}


def write_overlays(folder: Path, answers: DemoAnswers) -> None:
    """Write some images with the estimates drawn into them, and all of these on one sheet."""
    overlays = [note for note in answers.notes if note["overlay"]]
    if not overlays:
        return
    count = min(_SHEET_FRAMES, len(overlays))
    images = []
    for i in np.linspace(0, len(overlays) - 1, count).round().astype(int):
        image = cv2.imread(str(answers.results / overlays[i]["overlay"]))
        cv2.imwrite(str(folder / f"overlay_{overlays[i]['index']:04d}.png"), image)
        images.append(image)
    cv2.imwrite(str(folder / "overlays.png"), _sheet(images))


def _sheet(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images side by side, at the size of the first one."""
    height, width = images[0].shape[:2]
    columns = min(_SHEET_COLUMNS, len(images))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for i, image in enumerate(images):
        top, left = height * (i // columns), width * (i % columns)
        sheet[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    return sheet


def demo_page(
    answers: DemoAnswers,
    name: str,
    frames: Iterable[RecordedFrame],
    origin: Mapping[str, Any],
    bundled: bool,
) -> str:
    """The page about the answers as text.

    Args:
        answers: at least one frame.
        name: of the recording.
        frames: of the recording, in the order in which they were played.
        origin: command, versions and machine (see `provenance`).
        bundled: whether it is the recording of the package.
    """
    score = answers.score
    shown = shown_frames(len(score.frames))
    footer = [answers.left_out] if answers.left_out else []
    footer += _origin_lines(answers.model_version, origin)
    footer += [_ATTRIBUTION] if bundled else []
    report = Report(
        title="Poses and shapes, estimated by crisp_ros",
        lead=(
            f"What crisp_node published for {len(score.frames)} frames of {name}: each"
            " object's pose and reconstructed surface from one colour and depth image, without"
            " a CAD model, and a certificate where the surface explains the measured depth."
        ),
        footer="\n".join(footer),
        score=score,
        frames=[_scene_frame(answers, index) for index in shown],
        surfaces=answers.surfaces,
        shapes=answers.shapes,
        points=scene_points(frames, shown),
    )
    return html_report(report)


def _origin_lines(model_version: str, origin: Mapping[str, Any]) -> list[str]:
    machine = origin["machine"]
    device = f" and {machine['device']}" if machine["device"] != "cpu" else ""
    return [
        f"Model {model_version}, crisp_ros {origin['version']}, {origin['command']}",
        f"{machine['cpu']}, {machine['cores']} cores{device}, Python {machine['python']},"
        f" torch {machine['torch']}",
    ]


def _scene_frame(answers: DemoAnswers, index: int) -> SceneFrame:
    note = answers.notes[index]
    T = note["T_world_camera"]
    return SceneFrame(
        index=index,
        overlay=(answers.results / note["overlay"]).read_bytes() if note["overlay"] else b"",
        T_world_camera=None if T is None else np.array(T),
        truth=[(t["name"], np.array(t["T_camera_object"])) for t in note["truth"]],
    )

"""The timed task of a whole frame, as in the node: estimates, tracks and meshes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.benchmark.stopwatch import Task
from crisp_ros.data.recorded_frame import RecordedFrame, RecordingError
from crisp_ros.data.recording import Recording
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.precision import Precision
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.tracking.tracker import Tracker


class FrameAnswer(NamedTuple):
    """Result of one frame.

    Attributes:
        objects: number of tracked objects.
        certified: number of certified estimates.
        meshes: number of extracted meshes.
        stage_ms: time of each stage, milliseconds.
    """

    objects: int
    certified: int
    meshes: int
    stage_ms: dict[str, float]


def frame_task(
    model: Model,
    recording: Path,
    objects: int,
    frames: int,
    device: str,
    repetitions: int,
    precision: Precision = "auto",
) -> Task:  # seven parameters: `version_worker` calls it like this in all versions
    """Return the task of the whole pipeline, from images to poses and meshes, on a sequence.

    Args:
        model: on the device.
        recording: a rosbag2 folder or file.
        objects: number of objects, the largest of the first frame.
        frames: maximum number of frames.
        device: of the estimator.
        repetitions: of the task; after the last frame the first one follows.
        precision: of the network's arithmetic; "auto" is the fastest one, as in the node.

    Raises:
        RecordingError: the recording cannot be read, or shows fewer objects.
    """
    given: list[_Moment] = []
    kept: NDArray[np.integer] | None = None
    for recorded in Recording(recording).frames():
        if kept is None:
            kept = _largest(recorded, objects, recording)
        T = recorded.T_world_camera
        given.append(_Moment(_frame(recorded, kept), 1e-9 * recorded.stamp_ns, T))
        if len(given) == frames:
            break
    pipeline = _Pipeline(model, device, precision)
    return Task(
        "frame",
        lambda i: pipeline.run(given[i]),
        len(given),
        repetitions,
        objects,
        pipeline.points,
        f"estimate ({pipeline.precision}), track, new meshes",
        device,
    )


class _Moment(NamedTuple):
    """A frame of the recording.

    Attributes:
        frame: input of the estimator.
        stamp_s: of the frame, seconds.
        T_world_camera: (4, 4), None where the camera pose is not known.
    """

    frame: Frame
    stamp_s: float
    T_world_camera: NDArray[np.float64] | None


class _Pipeline:
    """Estimator, tracker and the versions of the extracted meshes."""

    def __init__(self, model: Model, device: str, precision: Precision) -> None:
        self._estimator = Estimator(model, EstimatorSettings(precision=precision), device)
        self._estimator.warm_up()
        settings = self._estimator.settings
        self._tracker = Tracker(
            self._estimator.field,
            self._estimator.prepared_library,
            verification=settings.verification,
            device=device,
        )
        self._meshed: dict[str, int] = {}
        self.points, self.precision = settings.observation.points, settings.precision

    def run(self, moment: _Moment) -> FrameAnswer:
        trace = self._estimator.trace(moment.frame, expected=self._tracker.expected)
        start = time.perf_counter()
        tracked = self._tracker.update(moment.stamp_s, trace, moment.T_world_camera)
        middle = time.perf_counter()
        new = [o for o in tracked.objects if self._meshed.get(o.id) != o.mesh_version]
        if new:
            self._estimator.meshes([o.shape for o in new])
            self._meshed.update({o.id: o.mesh_version for o in new})
        end = time.perf_counter()
        return FrameAnswer(
            len(tracked.objects),
            sum(o.estimate.certified for o in tracked.objects),
            len(new),
            {
                **trace.estimate.stage_ms,
                "tracking": 1e3 * (middle - start),
                "mesh": 1e3 * (end - middle),
            },
        )


def _largest(recorded: RecordedFrame, objects: int, recording: Path) -> NDArray[np.integer]:
    labels, pixels = np.unique(recorded.labels[recorded.labels > 0], return_counts=True)
    if len(labels) < objects:
        raise RecordingError(
            f"{recording}: {len(labels)} objects in the first frame, expected at least {objects}"
        )
    return labels[np.argsort(-pixels, kind="stable")[:objects]]


def _frame(recorded: RecordedFrame, kept: NDArray[np.integer]) -> Frame:
    labels = np.where(np.isin(recorded.labels, kept), recorded.labels, 0)
    return Frame.from_recorded(replace(recorded, labels=labels))

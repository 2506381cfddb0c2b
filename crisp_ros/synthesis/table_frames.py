"""Rendered test images: objects standing on tables, each table seen from a few sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import trimesh

from crisp_ros.data.bop import BopFrame, BopInstance
from crisp_ros.data.recorded_frame import RecordedFrame

from .recording import RecordingSettings, table_recording


@dataclass(frozen=True)
class TableFrameSettings:
    """How test images are made.

    Attributes:
        scenes: tables. views: images of each.
        objects: on one table, at most.
        recording: camera, sensors and layout; its number of frames is `views`.
    """

    scenes: int = 8
    views: int = 3
    objects: int = 6
    recording: RecordingSettings = field(default_factory=RecordingSettings)


def table_frames(
    models: Mapping[int, trimesh.Trimesh],
    settings: TableFrameSettings,
    seed: int,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[BopFrame]:
    """Renders the images one after the other, scenes numbered from 1; objects take turns.

    Args:
        models: textured meshes by object id, metres, z up.
        settings: see `TableFrameSettings`.
        seed: of everything.
        on_frame: called after each image with the number done and the total.

    Raises:
        RecordingError: the objects do not fit on a table.
    """
    rng = np.random.default_rng(seed)
    waiting: list[int] = []
    recording = replace(settings.recording, frames=settings.views)
    total = settings.scenes * settings.views
    for scene in range(settings.scenes):
        chosen: list[int] = []
        while len(chosen) < min(settings.objects, len(models)):
            waiting = waiting or [int(i) for i in rng.permutation(list(models))]
            chosen.append(next(i for i in waiting if i not in chosen))
            waiting.remove(chosen[-1])
        named = {str(i): models[i] for i in chosen}
        frames = table_recording(named, recording, int(rng.integers(2**31)))
        for index, frame in enumerate(frames):
            yield _bop_frame(frame, scene + 1, index)
            on_frame(scene * settings.views + index + 1, total)


def _bop_frame(frame: RecordedFrame, scene: int, image: int) -> BopFrame:
    labels = np.zeros(frame.labels.shape, np.int32)
    instances = []
    for truth in frame.truth:
        mask = frame.labels == truth.label
        if not mask.any():
            continue
        label = len(instances) + 1
        labels[mask] = label
        instances.append(
            BopInstance(
                int(truth.name),
                label,
                truth.T_camera_object,
                int(np.count_nonzero(mask)),
                min(truth.visible_share, 1.0),
            )
        )
    depth = (frame.depth * np.float32(1e-3)).astype(np.float32)
    return BopFrame(
        scene, image, frame.rgb, depth, labels, np.asarray(frame.intrinsics), tuple(instances)
    )

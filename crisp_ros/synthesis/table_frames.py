"""Rendered test images: objects standing on tables, each table seen from a few sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import trimesh

from crisp_ros.cluster import MapFunction
from crisp_ros.data.bop import BopFrame, BopInstance
from crisp_ros.data.recorded_frame import RecordedFrame, RecordingError

from .rendered_recording import RecordingSettings, table_recording

_ATTEMPTS = 10  # to place a table's objects, before one of them is left out


@dataclass(frozen=True)
class TableFrameSettings:
    """Settings of rendered test images.

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
    mapped: MapFunction = map,
) -> Iterator[BopFrame]:
    """Render the images table by table, scenes numbered from 1, each object in about as many.

    A table on which its objects find no room is drawn again, and after some attempts without the
    last of its objects.

    Args:
        models: textured meshes by object id, metres, z up.
        settings: see `TableFrameSettings`.
        seed: of everything.
        on_frame: called after each image with the number done and the total.
        mapped: renders the tables; see `crisp_ros.cluster.mapping`.

    Raises:
        RecordingError: not even one of the objects fits on a table.
    """
    table = partial(_images, dict(models), replace(settings.recording, frames=settings.views))
    total, done = settings.scenes * settings.views, 0
    for images in mapped(table, _tables(list(models), settings, seed)):
        for image in images:
            yield image
            done += 1
            on_frame(done, total)


class _Table(NamedTuple):
    """A table to render.

    Attributes:
        scene: its number.
        chosen: ids of the objects on it.
        seed: of everything else.
    """

    scene: int
    chosen: tuple[int, ...]
    seed: int


def _tables(ids: list[int], settings: TableFrameSettings, seed: int) -> list[_Table]:
    rng = np.random.default_rng(seed)
    waiting: list[int] = []
    tables = []
    for scene in range(1, settings.scenes + 1):
        chosen: list[int] = []
        while len(chosen) < min(settings.objects, len(ids)):
            waiting = waiting or [int(i) for i in rng.permutation(ids)]
            chosen.append(next(i for i in waiting if i not in chosen))
            waiting.remove(chosen[-1])
        tables.append(_Table(scene, tuple(chosen), int(rng.integers(2**31))))
    return tables


def table_views(
    models: Mapping[str, trimesh.Trimesh], settings: RecordingSettings, seed: int
) -> list[RecordedFrame]:
    """Render views of objects on a table, or on one with fewer objects where there is no room.

    Raises:
        RecordingError: not even one of the objects fits on a table.
    """
    left, attempt = dict(models), 0
    while True:
        try:
            return list(table_recording(left, settings, _seed(seed, attempt)))
        except RecordingError:
            attempt += 1
            if attempt % _ATTEMPTS == 0:
                if len(left) == 1:
                    raise
                left.popitem()


def _images(
    models: Mapping[int, trimesh.Trimesh], settings: RecordingSettings, table: _Table
) -> list[BopFrame]:
    named = {str(i): models[i] for i in table.chosen}
    frames = table_views(named, settings, table.seed)
    return [_bop_frame(frame, table.scene, index) for index, frame in enumerate(frames)]


def _seed(seed: int, attempt: int) -> int:
    """The table's seed, or one that follows from it."""
    if attempt == 0:
        return seed
    return int(np.random.default_rng([seed, attempt]).integers(2**31))


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

"""Leave one out: each object is estimated with a library that lacks its shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice

import numpy as np

from crisp_ros.data.recorded_frame import RecordedFrame, TrueObject
from crisp_ros.network.checkpoint import Model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.studies.posed_surfaces import PosedSurface, measured_instance
from crisp_ros.studies.resumable_parts import KeptParts
from crisp_ros.studies.self_training_run import FrameSet


def leave_one_out(
    model: Model,
    frame_set: FrameSet,
    make_estimator: Callable[[Model], Estimator],
    kept: KeptParts,
    every: int = 1,
    on_shape: Callable[[int, int], None] = lambda done, total: None,
) -> list[PosedSurface]:
    """Estimate each object alone, by its mask, with a library without its shape.

    Args:
        model: whose library knows the objects by their names, with or without a number in front.
        frame_set: with true poses and shapes.
        make_estimator: returns an estimator with a model.
        kept: results of earlier runs, one part a shape.
        every: only every N-th frame.
        on_shape: called after each shape with the number done and that of all.
    """
    names, found = model.library.names, []
    for done, name in enumerate(names, start=1):
        rows = kept.part(
            f"without_{name}",
            lambda: [asdict(i) for i in _without(model, frame_set, make_estimator, name, every)],  # noqa: B023
        )
        found += [PosedSurface(**row) for row in rows]
        on_shape(done, len(names))
    return found


def _without(
    model: Model,
    frame_set: FrameSet,
    make_estimator: Callable[[Model], Estimator],
    name: str,
    every: int,
) -> Iterator[PosedSurface]:
    """The instances of one shape, estimated without it."""
    shown = list(_frames_with(frame_set, name, every))
    if not shown:
        return
    library = model.library.subset([other for other in model.library.names if other != name])
    estimator = make_estimator(replace(model, library=library))
    for number, frame, true in shown:
        labels = np.where(frame.labels == true.label, frame.labels, 0)
        alone = Frame.from_recorded(frame).with_labels(labels.astype(np.int32))
        objects = estimator.estimate(alone).objects
        estimate = objects[0] if objects else None
        shape = frame_set.shapes[true.name]
        yield measured_instance(estimator, estimate, frame, number, true, shape)


def _frames_with(
    frame_set: FrameSet, name: str, every: int
) -> Iterator[tuple[int, RecordedFrame, TrueObject]]:
    """The frames that show a shape, with their numbers and the object."""
    for number, frame in islice(enumerate(frame_set.frames()), 0, None, every):
        for true in frame.truth:
            measured = (frame.labels == true.label) & (frame.depth > 0)
            if _plain(true.name) == _plain(name) and true.name in frame_set.shapes:
                if measured.any():
                    yield number, frame, true


def _plain(name: str) -> str:
    """The name without the number that data sets put first."""
    head, _, rest = name.partition("_")
    return rest if head.isdigit() else name

"""The shipped model and its reference set, whose crops simulate what a robot sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from crisp_ros.adaptation.reference_set import ReferenceSet, load_reference, reference_path
from crisp_ros.adaptation.samples import Sample
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.network.precision import in_fast_layout
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.share import share_directory

CPU = torch.device("cpu")
CHECKPOINT = share_directory() / "models" / "crisp_ycbv_compact.safetensors"


@cache
def shipped_model() -> Model:
    """Load the shipped model, which no test changes.

    Its weights are stored as an estimator stores them: that changes results by rounding errors, and
    with the order of the tests otherwise.
    """
    model = load_model(CHECKPOINT)
    in_fast_layout(model.network)
    return model


@cache
def shipped_reference() -> ReferenceSet:
    return load_reference(reference_path(CHECKPOINT), shipped_model())


@cache
def small_reference(count: int = 14) -> ReferenceSet:
    """Return some of the shipped crops, so that the guard takes a fraction of a second."""
    from crisp_ros.adaptation.guard import with_original_accuracy

    whole = shipped_reference()
    rows = torch.arange(len(whole))[:: len(whole) // count][:count]
    names = ("crops", "grid", "points", "T_object_camera", "shape")
    parts = {name: getattr(whole, name)[rows] for name in names}
    return with_original_accuracy(shipped_model(), dataclasses.replace(whole, **parts))


def samples(rows: Sequence[int] | range, certified: bool = True, offset: Tensor | None = None):
    """Return reference crops as samples; their solution is the truth moved by `offset`."""
    reference, codes = shipped_reference(), shipped_model().library.codes
    found = []
    for row in rows:
        T = reference.T_object_camera[row]
        if offset is not None:
            T = offset @ T
        found.append(
            Sample(
                str(int(reference.shape[row])),
                certified,
                reference.crops[row],
                reference.grid[row],
                reference.points[row],
                T,
                codes[reference.shape[row]],
            )
        )
    return found


def viewed_from(direction: Sequence[float], key: str = "a", certified: bool = True) -> Sample:
    """Return an empty sample whose camera is in a direction of the object frame."""
    T = torch.eye(4)
    T[:3, 3] = torch.tensor(direction)
    nothing = torch.zeros(8, 3)
    return Sample(
        key,
        certified,
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.zeros(8, 2),
        nothing,
        T,
        torch.zeros(5),
    )


def scene(rows=(0, 7, 14, 21)):
    """Return a frame with reference objects side by side, each with its depth."""
    reference, side = shipped_reference(), 96
    camera = Camera(500.0, 500.0, 0.0, 0.0, side * len(rows), side)
    shape = (side, side * len(rows))
    rgb, depth = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32)
    labels = np.zeros(shape, np.int32)
    for i, row in enumerate(rows):
        place = slice(i * side, (i + 1) * side)
        rgb[:, place] = reference.crops[row, :3].permute(1, 2, 0).numpy()
        depth[:, place] = float(reference.points[row, :, 2].median())
        labels[8:88, place][:, 8:88] = i + 1
    return Frame(rgb, depth, labels, camera)

"""Pooled views of objects over a sequence of frames (Remark 3): pseudo-labels of shapes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from crisp_ros.adaptation.samples import Sample
from crisp_ros.adaptation.tensor_file import (
    TensorFileError,
    encode_tensor_file,
    read_tensor_file,
)
from crisp_ros.correction.active_shape import least_squares
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_projected_gradient import projected_gradient
from crisp_ros.data.atomic_file import write_atomically

MOST_VIEWS = 50
"""Frames of an object in its buffer (Remark 3)."""
_FORMAT = "crisp_ros_views_1"
_POINTS = 2048  # of all views, in a solution


class ViewPool:
    """Certified coordinates Z* of each object's last 50 views, from which its shape is found.

    In a sequence an object has one shape, so that the shape of all its views is a better label for
    the shape head than that of one view. The shape step is that of the corrector: least squares
    (Algorithm 2) or projected gradient (Algorithm 1).
    """

    def __init__(
        self, field: ShapeField, library: PreparedLibrary, corrector: CorrectorSettings
    ) -> None:
        """Start without views.

        Args:
            field: f_d.
            library: the known shapes.
            corrector: whose shape step is used.
        """
        self._field, self._library, self._corrector = field, library, corrector
        self._views: dict[str, deque[Tensor]] = {}

    def __len__(self) -> int:
        return sum(len(views) for views in self._views.values())

    def save(self, path: Path, model: str) -> None:
        """Write the views atomically.

        Args:
            path: of the file.
            model: checksum of the model that self-training started from.

        Raises:
            OSError: the file cannot be written.
        """
        views = {
            f"{i}/{j}": z for i, seen in enumerate(self._views.values()) for j, z in enumerate(seen)
        }
        counts = [len(seen) for seen in self._views.values()]
        header = {"model": model, "keys": list(self._views), "views": counts}
        write_atomically(path, encode_tensor_file(_FORMAT, header, views))

    def restore(self, path: Path, model: str) -> None:
        """Replace the views by those of a file written by `save`.

        Raises:
            TensorFileError: the file is missing, damaged, of another format or of another model.
        """
        header, tensors = read_tensor_file(path, _FORMAT)
        if header["model"] != model:
            raise TensorFileError(f"of model {header['model']}, not of {model}")
        self._views = {
            key: deque((tensors[f"{i}/{j}"] for j in range(count)), maxlen=MOST_VIEWS)
            for i, (key, count) in enumerate(zip(header["keys"], header["views"], strict=True))
        }

    def with_pooled_codes(self, samples: Iterable[Sample]) -> list[Sample]:
        """Add the views of certified samples, and give these the shapes of all their views.

        Args:
            samples: of one frame; the key of a sample is the same in all frames of the sequence.
        """
        return [self._pooled(sample) if sample.certified else sample for sample in samples]

    @torch.no_grad()
    def _pooled(self, sample: Sample) -> Sample:
        views = self._views.setdefault(sample.key, deque(maxlen=MOST_VIEWS))
        views.append(sample.z)
        if len(views) < 2:
            return sample
        device = self._library.all_shapes.codes.device
        points = torch.cat(tuple(views))[None].to(device)
        pooled = ObjectPoints.of(points, torch.ones_like(points[..., 0], dtype=torch.bool))
        given = Shapes.of_codes(sample.code[None].to(device))
        if self._corrector.shape == "projected_gradient":
            settings = replace(self._corrector.projected_gradient, points=_POINTS)
            step = projected_gradient(self._field, pooled, given, self._library, settings)
        else:
            settings = replace(self._corrector.active_shape, points=_POINTS)
            step = least_squares(self._field, pooled, given, self._library, settings)
        return replace(sample, code=step.shapes.codes[0].cpu())

"""Scale of a depth image by the sizes of the known shapes that are seen in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.geometry.se3 import transform
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.mask_widths import WIDTH_DIRECTIONS, mask_widths
from crisp_ros.pipeline.estimates import ObjectEstimate

_HIDDEN_M = 0.02  # a point so much farther than the measured depth is behind something else
_HIDDEN_SHARE = 0.03  # of an object's points; with more, its mask shows only a part of it
# Width of a mask over that of the points of its shape, which are some millimetres apart: measured
# on rendered tables, the bundled recording and real images.
_SAMPLED = 1.035


class DepthScales:
    """Compares the widths of masks with those of library shapes at their estimated poses.

    A shape of known size at its measured distance has a certain width in the image. If its mask is
    wider by a factor, the object is closer by this factor than the depth says.
    """

    def __init__(self, library: PreparedLibrary) -> None:
        """Take the shapes of a library."""
        self._library = library
        self._points: dict[int, NDArray[np.float64]] = {}

    def added_to(self, estimates: Sequence[ObjectEstimate], frame: Frame) -> list[ObjectEstimate]:
        """The estimates with their `depth_scale`.

        Args:
            estimates: of a frame.
            frame: with refined labels.
        """
        widths = mask_widths(frame.labels, [e.label for e in estimates])
        return [
            dataclasses.replace(e, depth_scale=self._scale(e, frame, width))
            if e.shape_index >= 0
            else e
            for e, width in zip(estimates, widths, strict=True)
        ]

    def _scale(self, estimate: ObjectEstimate, frame: Frame, widths: NDArray[np.float32]) -> float:
        """NaN where the object is partly hidden or not entirely in the image, or has no surface."""
        camera = frame.camera
        x = transform(estimate.T_camera_object, self._surface(estimate.shape_index))
        z = x[:, 2]
        if np.isnan(widths).any() or len(z) == 0 or not z.min() > 0.0:
            return float("nan")
        pixels = camera.project(x)
        column, row = (
            np.clip(np.rint(part), 0, size - 1).astype(np.int64)
            for part, size in zip(pixels.T, (camera.width, camera.height), strict=True)
        )
        depth = frame.depth[row, column]
        hidden = (
            (depth > 0) & (depth < z - _HIDDEN_M) & (frame.labels[row, column] != estimate.label)
        )
        if hidden.mean() > _HIDDEN_SHARE:
            return float("nan")
        along = pixels @ WIDTH_DIRECTIONS
        return float(np.median(widths / (_SAMPLED * (along.max(0) - along.min(0)))))

    def _surface(self, index: int) -> NDArray[np.float64]:
        """Points on a library shape, object frame, metres; kept on the host."""
        if index not in self._points:
            shapes = self._library.all_shapes
            row = torch.tensor([index], device=shapes.index.device)
            surface = self._library.surfaces_of(shapes.rows(row))
            points = surface.points[0][surface.valid[0]]
            self._points[index] = points.double().cpu().numpy()
        return self._points[index]

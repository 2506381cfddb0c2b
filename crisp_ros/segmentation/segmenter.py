"""Instance masks of a colour and a depth image, without classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera, FrameError

from .geometric import GeometricSettings, geometric_masks, scene_geometry
from .known_surfaces import KnownObjects, MergeSettings, merged_parts, no_objects
from .label_tracker import LabelTracker, LabelTrackerSettings
from .learned import LearnedSettings, learned_masks
from .network import SegmenterNetwork
from .planes import Plane
from .weights import bundled_weights, load_weights


@dataclass(frozen=True)
class SegmenterSettings:
    """Settings of the segmenter, one part a stage.

    Attributes:
        geometry: planes, what stands on them, and its connected surfaces.
        learned: of the network's maps.
        merge: of the parts of known objects.
        tracker: labels from image to image.
    """

    geometry: GeometricSettings = field(default_factory=GeometricSettings)
    learned: LearnedSettings = field(default_factory=LearnedSettings)
    merge: MergeSettings = field(default_factory=MergeSettings)
    tracker: LabelTrackerSettings = field(default_factory=LabelTrackerSettings)


class Segmentation(NamedTuple):
    """Instance masks of an image.

    Attributes:
        labels: (H, W) int32, one label per object, 0 for the background.
        support: the plane on which most objects stand, None where none was found.
        reasons: why parts of the image, or all of it, are no objects.
    """

    labels: NDArray[np.int32]
    support: Plane | None
    reasons: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of objects."""
        return len(np.unique(self.labels[self.labels > 0]))


class Segmenter:
    """Segment the images of a camera one after the other, with labels that stay.

    Args:
        settings: see `SegmenterSettings`.
        network: separates the objects; None: geometry alone does.
    """

    def __init__(
        self,
        settings: SegmenterSettings | None = None,
        network: SegmenterNetwork | None = None,
    ) -> None:
        self.settings = settings or SegmenterSettings()
        self._network = network
        self._labels = LabelTracker(self.settings.tracker)
        self._planes: tuple[Plane, ...] = ()

    def change(self, settings: SegmenterSettings) -> None:
        """Use other settings of geometry and network for the next images; the tracker's stay."""
        self.settings = settings

    def reset(self) -> None:
        """Forget the earlier images."""
        self._labels.reset()
        self._planes = ()

    def segment(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.floating],
        camera: Camera,
        known: KnownObjects = no_objects,
    ) -> Segmentation:
        """Separate the objects of an image.

        Args:
            rgb: (H, W, 3) uint8.
            depth: (H, W) metres, registered to rgb; what is not positive is not measured.
            camera: of both.
            known: returns the objects that were certified in earlier images, at their poses in
                this one; their parts are merged. Called once the image is segmented, when the
                camera's pose is more likely to have arrived than before.

        Raises:
            FrameError: sizes or types do not fit.
        """
        _check(rgb, depth, camera)
        settings = self.settings
        geometry = scene_geometry(depth, camera, settings.geometry, self._planes)
        self._planes = tuple(geometry.planes)
        reasons = list(geometry.reasons)
        labels = np.zeros(geometry.image.valid.shape, np.int32)
        if geometry.image.valid.any():
            masks = (
                geometric_masks(geometry, camera.fx, settings.geometry)
                if self._network is None
                else learned_masks(
                    rgb, geometry, camera.fx, self._network, settings.learned, settings.geometry
                )
            )
            labels = merged_parts(masks.labels, geometry.image, known(), settings.merge)
            reasons += masks.reasons
        support = geometry.foreground.support
        return Segmentation(
            enlarged(self._labels.update(labels), geometry.image.step, depth.shape),
            None if support is None else geometry.planes[support],
            tuple(reasons),
        )


def builtin_segmenter(settings: SegmenterSettings | None = None) -> Segmenter:
    """Create a segmenter with the network of the package.

    Raises:
        NotInstalledError, SegmenterWeightsError: the package's weights cannot be read.
    """
    return Segmenter(settings, load_weights(bundled_weights()))


def enlarged(labels: NDArray[np.int32], step: int, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Bring labels of a reduced image to a size (H, W), each pixel to `step` x `step` of them."""
    whole = np.zeros(shape, np.int32)
    blocks = np.repeat(np.repeat(labels, step, axis=0), step, axis=1)
    whole[: blocks.shape[0], : blocks.shape[1]] = blocks
    return whole


def _check(rgb: NDArray[np.uint8], depth: NDArray[np.floating], camera: Camera) -> None:
    size = (camera.height, camera.width)
    if rgb.dtype != np.uint8 or rgb.shape != (*size, 3):
        raise FrameError(f"rgb is {rgb.dtype} {rgb.shape}, expected uint8 {(*size, 3)}")
    if depth.dtype.kind != "f" or depth.shape != size:
        raise FrameError(
            f"depth is {depth.dtype} {depth.shape}, expected floating-point metres {size}"
        )

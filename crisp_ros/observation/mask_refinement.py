"""Refinement of object masks: their borders are found from edges of depth and colour."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Frame

_FILL_PX = 3  # missing depth so close to a surface is taken for what is behind the surface
_DEPTH_STEP_PX = 2  # of the second difference of depth
_RELIEF_PX = 9  # of the surroundings with which depth is compared
_STEPS_PER_PX = 16  # of distances in 8 bits
_BACKGROUND = 1  # its watershed marker; objects follow


@dataclass(frozen=True)
class MaskRefinementSettings:
    """Settings of `refine_labels`.

    Attributes:
        band_px: how far the border of a given mask may be from that of the object.
        band_share: the same, as a share of the square root of the mask's area; the smaller one
            holds.
        core_share: where a mask or the background is too thin for `band_px`, this share of the
            largest distance to the border that occurs there is certain.
        depth_edge: a crease or a step of depth by this share of it is a border of a surface.
        depth_gain: weight of edges of depth: a step by 1 % is as strong as one of 2.55 times this
            gain in an 8-bit colour channel of weight 1.
        colour_gain: weight of edges of colour.
        least_part: a surface that depth edges bound is not the object's where most of it is outside
            of the mask, and it is less than this share of the mask.
        open_border: such a surface goes on outside of the mask where its border without a depth
            edge is longer than this share of the square root of its area.
        least_kept: masks of which less than this share would be left stay as they are.
        max_labels: with more objects than this, labels stay as they are.
    """

    band_px: int = 8
    band_share: float = 0.14
    core_share: float = 0.7
    depth_edge: float = 0.01
    depth_gain: float = 6.0
    colour_gain: float = 1.0
    least_part: float = 0.2
    open_border: float = 0.5
    least_kept: float = 0.4
    max_labels: int = 255

    def __post_init__(self) -> None:
        if self.band_px < 1 or not 0 < self.core_share <= 1:
            raise ValueError(
                f"band_px {self.band_px}, core_share {self.core_share}: expected band_px >= 1 and "
                "core_share in (0, 1]"
            )
        if self.depth_edge <= 0 or self.colour_gain <= 0:
            raise ValueError(
                f"depth_edge {self.depth_edge}, colour_gain {self.colour_gain}: expected them > 0"
            )


def refine_labels(
    frame: Frame, settings: MaskRefinementSettings | None = None
) -> NDArray[np.int32]:
    """Move the borders of masks to edges of depth and colour, and drop other surfaces.

    A given mask is a hint: segmenters bleed over an object's border, or stop short of it. What is
    at least `band_px` inside of a mask belongs to the object, what is as far outside of all masks
    does not, and a watershed in between finds the strongest edges. Where there is none, the border
    stays. Of the result, parts that depth edges separate from the rest are dropped where they are
    small or at the border: background that the mask covers, and occluders.

    Args:
        frame: with the given labels.
        settings: see `MaskRefinementSettings`.

    Returns:
        Labels (H, W), 0 for the background.
    """
    settings = settings or MaskRefinementSettings()
    given = frame.labels
    labels = np.unique(given)
    labels = labels[labels > 0]
    # OpenCV takes an image of four pixels in a column for four numbers.
    if not 0 < len(labels) <= settings.max_labels or min(given.shape) < 2:
        return given
    # What is farther away changes nothing.
    seen = _window(given > 0, 2 * settings.band_px + _RELIEF_PX + _FILL_PX)
    refined = np.zeros_like(given)
    refined[seen] = _refined(given[seen], labels, frame.rgb[seen], frame.depth[seen], settings)
    return refined


def _refined(
    given: NDArray[np.int32],
    labels: NDArray[np.int32],
    rgb: NDArray[np.uint8],
    depth: NDArray[np.float32],
    settings: MaskRefinementSettings,
) -> NDArray[np.int32]:
    """`refine_labels` of an image of two rows and columns at least, with these labels."""
    filled = _filled(depth)
    smooth = _smooth_surfaces(filled, settings)
    markers, windows = _markers(given, labels, smooth, settings)
    cv2.watershed(_relief(rgb, filled, settings), markers)
    refined = np.zeros_like(given)
    for number, (label, window) in enumerate(zip(labels, windows, strict=True)):
        mask = given[window] == label
        found = markers[window] == number + 1 + _BACKGROUND
        found |= (markers[window] < 0) & mask
        found &= ~_other_surfaces(found, smooth[window], settings)
        if np.count_nonzero(found) < settings.least_kept * np.count_nonzero(mask):
            found = mask
        refined[window][found] = label
    return refined


def _other_surfaces(
    mask: NDArray[np.bool_], smooth: NDArray[np.bool_], settings: MaskRefinementSettings
) -> NDArray[np.bool_]:
    """Find the parts of a mask (H, W) that show another surface than its object.

    Depth edges separate such a part from the rest, it is small, and no depth edge is where it
    reaches the mask's border, as it goes on there: a background or a neighbour of which the mask
    covers a little, but not the handle of a mug.
    """
    count, part, statistics, _ = cv2.connectedComponentsWithStats(
        (mask & smooth).view(np.uint8), connectivity=4
    )
    if count <= 2:
        return np.zeros_like(mask)
    areas = statistics[:, cv2.CC_STAT_AREA]
    next_to_outside = cv2.dilate((smooth & ~mask).view(np.uint8), _plus(3)).view(bool)
    open_border = np.bincount(part[mask & next_to_outside], minlength=count)
    other = areas < settings.least_part * areas[1:].sum()
    other &= open_border > settings.open_border * np.sqrt(areas)
    other[0] = False
    return other[part]


def _filled(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth (H, W) without speckles, and with small gaps closed by what is farthest around them."""
    filled = cv2.medianBlur(depth, 3)
    missing = cv2.compare(filled, 0, cv2.CMP_LE)
    cv2.copyTo(cv2.dilate(filled, _square(2 * _FILL_PX + 1)), missing, filled)
    return filled


def _smooth_surfaces(
    filled: NDArray[np.float32], settings: MaskRefinementSettings
) -> NDArray[np.bool_]:
    """Find the pixels (H, W) without a crease or step of depth next to them.

    Second differences: a slanted plane has none, however steep.
    """
    kernel = np.zeros((1, 2 * _DEPTH_STEP_PX + 1), np.float32)
    kernel[0, [0, _DEPTH_STEP_PX, -1]] = 1, -2, 1
    across, along = (
        cv2.absdiff(cv2.filter2D(filled, -1, k, borderType=cv2.BORDER_REPLICATE), 0)
        for k in (kernel, kernel.T)
    )
    edges = cv2.max(across, along) > settings.depth_edge * filled
    unknown = cv2.dilate(cv2.compare(filled, 0, cv2.CMP_LE), _square(kernel.size))
    return ~edges | (unknown > 0)


def _relief(
    rgb: NDArray[np.uint8], filled: NDArray[np.float32], settings: MaskRefinementSettings
) -> NDArray[np.uint8]:
    """Image (H, W, 3) whose differences between neighbouring pixels are those of surfaces.

    Depth relative to its surroundings, in which slanted planes are flat, and the brightness and
    one difference of colours.
    """
    known = cv2.compare(filled, 0, cv2.CMP_GT)
    logarithm = cv2.log(cv2.max(filled, 1e-3))
    size = (_RELIEF_PX, _RELIEF_PX)
    weight = cv2.blur((known > 0).astype(np.float32), size)
    mean = cv2.divide(cv2.blur(cv2.copyTo(logarithm, known), size), cv2.max(weight, 1e-3))
    gain = 255 * settings.depth_gain
    depth = cv2.copyTo(cv2.subtract(logarithm, mean), known) * gain + 128
    red, green, blue = cv2.split(cv2.GaussianBlur(rgb, (3, 3), 0))
    brightness = cv2.addWeighted(cv2.addWeighted(red, 0.5, blue, 0.5, 0), 0.5, green, 0.5, 0)
    colour = cv2.addWeighted(red, 0.5, blue, -0.5, 128)
    scale = settings.colour_gain
    return cv2.merge(
        (
            np.clip(depth, 0, 255).astype(np.uint8),
            cv2.convertScaleAbs(brightness, alpha=scale),
            cv2.convertScaleAbs(colour, alpha=scale),
        )
    )


def _square(size: int) -> NDArray[np.uint8]:
    return np.ones((size, size), np.uint8)


def _plus(size: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_CROSS, (size, size))


def _markers(
    given: NDArray[np.int32],
    labels: NDArray[np.int32],
    smooth: NDArray[np.bool_],
    settings: MaskRefinementSettings,
) -> tuple[NDArray[np.int32], list[tuple[slice, slice]]]:
    """Watershed markers (H, W): 1 for certain background, 2 and up for certain pixels of each
    object, 0 where neither is certain; and the window of each object."""
    markers = np.zeros(given.shape, np.int32)
    markers[_core(given == 0, settings)] = _BACKGROUND
    windows = []
    for number, label in enumerate(labels):
        mask = given == label
        window = _window(mask, settings.band_px + 1)
        windows.append(window)
        mask = mask[window]
        core = _core(mask, settings) & ~_other_surfaces(mask, smooth[window], settings)
        markers[window][core] = number + 1 + _BACKGROUND
    return markers, windows


def _window(mask: NDArray[np.bool_], room: int) -> tuple[slice, slice]:
    """The rows and columns around a mask (H, W), with so many pixels more on all sides."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (
        slice(max(top - room, 0), top + height + room),
        slice(max(left - room, 0), left + width + room),
    )


def _core(mask: NDArray[np.bool_], settings: MaskRefinementSettings) -> NDArray[np.bool_]:
    """Find the pixels of a mask that are far from its border, as far as there are such."""
    area = np.count_nonzero(mask)
    if area == mask.size:
        return mask
    band = float(np.clip(settings.band_share * np.sqrt(area), 1, settings.band_px))
    to_border = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
    to_border = cv2.convertScaleAbs(to_border, alpha=_STEPS_PER_PX)
    farthest = cv2.dilate(to_border, _square(2 * settings.band_px + 1))
    certain = np.minimum(settings.core_share * farthest, _STEPS_PER_PX * band)
    return mask & (to_border >= certain)

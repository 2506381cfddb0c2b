"""The length of a step of depth images: what cameras use, and which one explains what is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Metres in floats; millimetres; RealSense L515; TUM and ICL-NUIM data; SUN RGB-D; RealSense D405
# and BOP data; hundredths of a millimetre.
KNOWN_UNITS_M = (1.0, 1e-3, 2.5e-4, 2e-4, 1.25e-4, 1e-4, 1e-5)
PLAUSIBLE_DEPTH_M = (0.1, 10.0)  # of the median of an image
_USUAL_DEPTH_M = (0.25, 4.0)
_NEAR = 0.15  # relative distance from a known unit, up to which that one is meant
_FEWEST_OBJECTS, _FEWEST_FRAMES = 4, 2
_WRONG = 1.7  # factor between sizes by depth and by appearance that no object explains
_SPREAD = 1.3  # factor within which most objects agree on it
_FEWEST_WIDTHS = 6
_SCALED = 1.035  # factor of the median width that grown or shrunk masks do not explain
_SCALE_SPREAD = 1.15  # factor within which most widths are
_MOST = (20.0, 80.0)  # percentiles


def unit_in_use(encoding: str, depth_unit_m: float) -> float:
    """Length of one step, metres: the parameter, or the encoding's (REP 118) where that is 0."""
    if depth_unit_m > 0.0:
        return depth_unit_m
    return 1.0 if encoding.startswith("32F") else 1e-3


def unit_by_sizes(unit_m: float, size_ratios: Sequence[Sequence[float]]) -> float | None:
    """The unit that makes objects as large as they look; None without a clear case.

    A wrong unit makes all objects too large, or too small, by the same factor.

    Args:
        unit_m: in use.
        size_ratios: by frame and object, the size by depth over that by appearance; NaN unknown.

    Returns:
        A known unit where one is meant, otherwise the computed one with two digits.
    """
    frames = [[r for r in frame if np.isfinite(r) and r > 0.0] for frame in size_ratios]
    ratios = [ratio for frame in frames for ratio in frame]
    if sum(map(bool, frames)) < _FEWEST_FRAMES or len(ratios) < _FEWEST_OBJECTS:
        return None
    low, high = np.percentile(ratios, _MOST)
    ratio = float(np.median(ratios))
    if 1.0 / _WRONG < ratio < _WRONG or high > _SPREAD * ratio or low < ratio / _SPREAD:
        return None
    return _nearest(unit_m / ratio)


def scale_by_widths(depth_scales: Sequence[Sequence[float]]) -> float | None:
    """The factor by which depth is too large, rounded to two digits; None without a clear case.

    Args:
        depth_scales: by frame and object, the width of the object's mask over that of its shape at
            its distance; NaN unknown.
    """
    frames = [[s for s in frame if np.isfinite(s) and s > 0.0] for frame in depth_scales]
    scales = [scale for frame in frames for scale in frame]
    if sum(map(bool, frames)) < _FEWEST_FRAMES or len(scales) < _FEWEST_WIDTHS:
        return None
    low, scale, high = np.percentile(scales, (_MOST[0], 50.0, _MOST[1]))
    if abs(np.log(scale)) < np.log(_SCALED) or high > _SCALE_SPREAD * low:
        return None
    return round(float(scale), 2)


def explain_scale(scale: float) -> str:
    """The text that names a factor of `scale_by_widths` and its remedy."""
    return (
        f"depth appears scaled by {scale:.2f}: check depth unit / calibration; objects of known "
        "size are wider in the image by this factor than their depth explains"
    )


def unit_by_distance(unit_m: float, median_m: float) -> float | None:
    """The only known unit with which a scene is at a usual distance; None where several would do.

    Args:
        unit_m: in use.
        median_m: of the valid depth.
    """
    low, high = _USUAL_DEPTH_M
    fitting = [u for u in KNOWN_UNITS_M if low <= median_m * u / unit_m <= high]
    return fitting[0] if len(fitting) == 1 else None


def _nearest(unit_m: float) -> float:
    known = min(KNOWN_UNITS_M, key=lambda u: abs(np.log(u / unit_m)))
    return known if abs(known / unit_m - 1.0) <= _NEAR else float(f"{unit_m:.2g}")

"""Rendered scenes for studies: half are clean, half have bad masks, depth and light."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.data.recording import Recording
from crisp_ros.data.recording_writer import write_recording
from crisp_ros.studies.resumable_parts import fingerprint
from crisp_ros.synthesis.rendered_recording import RecordingSettings, table_recording
from crisp_ros.synthesis.sensor import ColourSensor, DepthSensor

_SPREAD_M = 0.27
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class MaskErrors:
    """Errors of a segmenter's masks.

    Attributes:
        shift_px: largest shift of a mask in each direction.
        border_px: largest dilation or erosion; a dilated mask covers its neighbours.
        bitten: share of the masks that lose a disc.
        bite: least and largest radius of the disc over the longer side of the mask's box.
    """

    shift_px: int = 3
    border_px: int = 5
    bitten: float = 0.3
    bite: tuple[float, float] = (0.15, 0.3)


@dataclass(frozen=True)
class StudyScene:
    """A table with objects, and a camera that moves around it.

    Attributes:
        names: of the objects.
        seed: of all random choices.
        disturbed: masks, depth and light are bad.
    """

    names: tuple[str, ...]
    seed: int
    disturbed: bool

    @property
    def name(self) -> str:
        """A name that is unique within a study."""
        return f"{'disturbed' if self.disturbed else 'clean'}_{self.seed}"

    @property
    def key(self) -> str:
        """A file name that is unique for these objects, too."""
        return f"{self.name}_{fingerprint(self.names)}"


def study_scenes(names: Sequence[str], each: int, objects: int, seed: int) -> list[StudyScene]:
    """Plan clean and disturbed scenes in which all objects appear about equally often.

    Args:
        names: of all objects.
        each: number of clean scenes, and of disturbed ones.
        objects: on one table, at most.
        seed: of the first scene; the others have the next numbers.
    """
    rng = np.random.default_rng(seed)
    scenes = []
    for disturbed in (False, True):
        waiting: list[str] = []
        for _ in range(each):
            chosen: list[str] = []
            while len(chosen) < min(objects, len(names)):
                waiting = waiting or [names[i] for i in rng.permutation(len(names))]
                chosen.append(next(name for name in waiting if name not in chosen))
                waiting.remove(chosen[-1])
            scenes.append(StudyScene(tuple(chosen), seed + len(scenes), disturbed))
    return scenes


def scene_frames(
    scene: StudyScene,
    meshes: Mapping[str, trimesh.Trimesh],
    frames: int,
    folder: Path,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> list[RecordedFrame]:
    """Render the frames of a scene, or read them from `folder` if they are there.

    Args:
        scene: one of `study_scenes`.
        meshes: textured, by name, metres.
        frames: their number.
        folder: of the recordings with these meshes.
        on_frame: called after each rendered frame with the number done and the total.

    Raises:
        RecordingError: the objects do not fit on the table.
    """
    path = folder / f"{scene.key}_{frames}"
    if not path.exists():
        settings = RecordingSettings(frames=frames, spread_m=_SPREAD_M)
        rng = np.random.default_rng([scene.seed, 7])
        if scene.disturbed:
            settings = dataclasses.replace(
                settings, depth_sensor=_poor_depth(), colour_sensor=_poor_colour(rng)
            )
        chosen = {name: meshes[name] for name in scene.names}
        rendered = table_recording(chosen, settings, scene.seed, on_frame)
        if scene.disturbed:
            rendered = _with_mask_errors(rendered, MaskErrors(), rng)
        write_recording(path, rendered, _JPEG_QUALITY)
    return list(Recording(path).frames())


def disturbed_labels(
    labels: NDArray[np.integer], errors: MaskErrors, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Degrade labels (H, W) as a poor segmenter would: shifts, missing parts, wrong borders."""
    result = np.zeros_like(labels)
    found = np.unique(labels[labels > 0])
    for label in rng.permutation(found):
        mask = (labels == label).astype(np.uint8)
        _, _, width, height = cv2.boundingRect(mask)
        shift = np.eye(2, 3)
        shift[:, 2] = rng.integers(-errors.shift_px, errors.shift_px + 1, 2)
        mask = cv2.warpAffine(mask, shift, mask.shape[::-1], flags=cv2.INTER_NEAREST)
        border = int(rng.integers(-errors.border_px, errors.border_px + 1))
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(border) + 1,) * 2)
        mask = cv2.dilate(mask, element) if border > 0 else cv2.erode(mask, element)
        if rng.random() < errors.bitten and mask.any():
            v, u = np.nonzero(mask)
            middle = rng.integers(len(u))
            radius = round(rng.uniform(*errors.bite) * max(width, height))
            cv2.circle(mask, (int(u[middle]), int(v[middle])), radius, 0, -1)
        result[mask > 0] = label
    return result


def _poor_depth() -> DepthSensor:
    """A depth sensor with twice the noise and the steps, wider blur and many holes."""
    return DepthSensor(step_px=0.25, noise_px=0.13, lateral_px=1.0, edge_loss=0.6, random_loss=0.1)


def _poor_colour(rng: np.random.Generator) -> ColourSensor:
    """A colour sensor that is too dark or too bright, off in colour, blurred and noisy."""
    return ColourSensor(
        blur_px=1.1,
        exposure=float(rng.choice([0.35, 1.7]) * rng.uniform(0.85, 1.15)),
        white_balance=tuple(rng.uniform(0.85, 1.15, 3).tolist()),
        full_well=900.0,
        read_noise=0.01,
    )


def _with_mask_errors(
    frames: Iterator[RecordedFrame], errors: MaskErrors, rng: np.random.Generator
) -> Iterator[RecordedFrame]:
    for frame in frames:
        yield dataclasses.replace(frame, labels=disturbed_labels(frame.labels, errors, rng))

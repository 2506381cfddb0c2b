"""Masks of the built-in segmenter on rendered tables or a data set, against the true ones.

    python -m crisp_ros.studies.segmenter_masks --models DIR --json FILE

Renders tables with objects that touch each other and stand on each other, at the depth noise of
the recordings and at twice that noise. `--bop` and `--recording` take other frames instead.
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset, read_models
from crisp_ros.data.recording import Recording
from crisp_ros.evaluation.mask_overlap import (
    InstanceOverlap,
    mask_overlaps,
    summarize_overlaps,
    touching_labels,
)
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.summary_statistics import finite_or_none
from crisp_ros.observation.frame import Frame
from crisp_ros.segmentation.segmenter import Segmenter, builtin_segmenter
from crisp_ros.synthesis.clutter_frames import ClutterSettings, clutter_frames
from crisp_ros.synthesis.sensor import DepthSensor

TABLES = ClutterSettings(
    width=640,
    height=480,
    focal_share=(0.9, 1.4),
    objects=(3, 12),
    distance_m=(0.6, 1.1),
    elevation_deg=(25.0, 65.0),
    bin_share=0.0,
    shelf_share=0.0,
    holes_share=0.0,
    depth_sensor=DepthSensor(),
)
"""Tables and stacks seen by the depth camera of the recordings."""
NOISES = (1.0, 2.0)
MIN_PIXELS = 400  # of a true instance, 20 x 20


class MaskFigures(NamedTuple):
    """Agreement of masks over frames.

    Attributes:
        instances: true instances of at least `MIN_PIXELS`.
        overlap_f, boundary_f, above_75: see `OverlapSummary`.
        touching_share: of instances that touch another one.
        touching_f: mean F measure of these.
        cpu_ms: median CPU time of a frame, milliseconds.
    """

    instances: int
    overlap_f: float
    boundary_f: float
    above_75: float
    touching_share: float
    touching_f: float
    cpu_ms: float

    def to_json(self) -> dict[str, Any]:
        """Rounded figures."""
        return {
            name: value if isinstance(value, int) else finite_or_none(round(value, 4))
            for name, value in self._asdict().items()
        }


def table_frames(
    meshes: Sequence[trimesh.Trimesh], noise: float, seed: int, frames: int
) -> Iterator[Frame]:
    """Render tables.

    Args:
        meshes: objects that are mixed with procedural shapes, metres; may be empty.
        noise: factor on the noise of the depth; the scenes are the same at any.
        seed: of the scenes.
        frames: how many.
    """
    settings = replace(TABLES, depth_noise=noise)
    for rendered in clutter_frames(meshes, settings, seed, frames):
        labels = rendered.labels.astype(np.int32)
        yield Frame(rendered.rgb, rendered.depth, labels, rendered.camera)


def mask_figures(segmenter: Segmenter, frames: Iterable[Frame]) -> MaskFigures:
    """Segment each frame on its own, and compare with its labels."""
    found: list[InstanceOverlap] = []
    touching: list[bool] = []
    durations_s: list[float] = []
    for frame in frames:
        segmenter.reset()
        start = time.process_time()
        masks = segmenter.segment(frame.rgb, frame.depth, frame.camera).labels
        durations_s.append(time.process_time() - start)
        overlaps = mask_overlaps(masks, frame.labels, MIN_PIXELS)
        contacts = touching_labels(frame.labels, frame.depth)
        found += overlaps
        touching += [overlap.label in contacts for overlap in overlaps]
    summary = summarize_overlaps(found)
    touched = summarize_overlaps([o for o, t in zip(found, touching, strict=True) if t])
    share = touched.instances / max(summary.instances, 1)
    cpu_ms = 1e3 * statistics.median(durations_s) if durations_s else float("nan")
    return MaskFigures(*summary, share, touched.overlap_f, cpu_ms)


def picture(segmenter: Segmenter, frames: Sequence[Frame]) -> NDArray[np.uint8]:
    """Draw masks over their images (H, W, 3), frames next to each other, at half the size."""
    tiles = []
    for frame in frames:
        segmenter.reset()
        labels = segmenter.segment(frame.rgb, frame.depth, frame.camera).labels[::2, ::2]
        hue = (labels * 67 % 180).astype(np.uint8)  # neighbouring labels differ clearly
        full = np.full_like(hue, 255)
        colours = cv2.cvtColor(np.stack([hue, full, full], axis=-1), cv2.COLOR_HSV2RGB)
        image = cv2.resize(frame.rgb, labels.shape[::-1], interpolation=cv2.INTER_AREA)
        drawn = np.where(labels[..., None] > 0, image // 2 + colours // 2, image)
        edges = cv2.morphologyEx(labels.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3)))
        drawn[edges > 0] = 255
        tiles.append(np.vstack([image, drawn]))
    return np.hstack(tiles).astype(np.uint8)


def _frames(args: argparse.Namespace) -> Iterator[tuple[str, Iterable[Frame]]]:
    """Name and frames of each row."""
    source = args.bop or args.recording
    if source:
        opened = BopDataset(source) if args.bop else Recording(source)
        every = itertools.islice(opened.frames(), 0, None, args.step)
        yield source.name, map(Frame.from_recorded, every)
        return
    meshes = [model.mesh for model in read_models(args.models).values()] if args.models else []
    for noise in NOISES:
        frames = table_frames(meshes, noise, args.seed, args.frames)
        yield f"tables, depth noise x{noise:g}", frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, help="mix these objects in, in the BOP layout")
    parser.add_argument("--bop", type=Path, help="take the frames of a data set instead")
    parser.add_argument("--recording", type=Path, help="take the frames of a recording instead")
    parser.add_argument("--step", type=int, default=1, help="every n-th frame of it (default: 1)")
    parser.add_argument("--frames", type=int, default=200, help="rendered (default: 200)")
    parser.add_argument("--seed", type=int, default=880200, help="of the scenes (default: 880200)")
    parser.add_argument("--geometry", action="store_true", help="without the network")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--png", type=Path, help="only draw the first three frames to this file")
    args = parser.parse_args()
    segmenter = Segmenter() if args.geometry else builtin_segmenter()
    if args.png:
        _, frames = next(_frames(args))
        drawn = picture(segmenter, list(itertools.islice(frames, 3)))
        Image.fromarray(drawn).quantize(128).save(args.png, optimize=True)
        return
    rows = {name: mask_figures(segmenter, frames) for name, frames in _frames(args)}
    table = Table("frames", *MaskFigures._fields)
    for name, figures in rows.items():
        table.add_row(name, *(f"{value:.3g}" for value in figures))
    Console().print(table)
    if args.json:
        command = shlex.join(["python", "-m", "crisp_ros.studies.segmenter_masks", *sys.argv[1:]])
        figures = {name: row.to_json() for name, row in rows.items()}
        write_json(args.json, {**provenance(command), "figures": figures})


if __name__ == "__main__":
    main()

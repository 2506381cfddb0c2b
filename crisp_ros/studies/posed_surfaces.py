"""Surfaces in place: estimates of objects whose shapes are not known, against the truth.

    python -m crisp_ros.studies.posed_surfaces DIR --checkpoint FILE --json FILE

The object frame of an unknown shape is arbitrary, so that errors of pose and shape apart say
nothing. Compared are the surfaces where they are: the estimate's against that of the true mesh at
its true pose.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray
from rich.console import Console

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset, BopModel
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.summary_statistics import finite_or_none
from crisp_ros.geometry.chamfer import sampled_chamfer
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, ObjectEstimate
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path

GOOD_M, GOOD_SHARE = 0.01, 0.1
"""Chamfer distance up to which a surface is right: metres, and a share of the diameter."""
_SAMPLES = 4000


@dataclass(frozen=True)
class PosedSurface:
    """One instance.

    Attributes:
        name: of the object.
        scene, image: in the data set.
        chamfer_m: between the posed surfaces, None where there is no surface.
        box_iou: of the surfaces' boxes along the axes of the true object.
        certified: by the estimator.
        right: the distance is below `GOOD_M` and below `GOOD_SHARE` of the diameter.
        reason: why it is not certified.
    """

    name: str
    scene: int
    image: int
    chamfer_m: float | None
    box_iou: float
    certified: bool
    right: bool
    reason: str


def posed_surfaces(
    estimator: Estimator,
    dataset: BopDataset,
    scenes: Sequence[int] = (),
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[PosedSurface]:
    """Estimate the objects of a data set with its true masks and compare the surfaces in place.

    Args:
        estimator: of a model that does not know the objects.
        dataset: with their true poses.
        scenes: to take; none takes all.
        on_frame: called with the number of images done and of all.
    """
    truth = {k: _surface(m.mesh) for k, m in dataset.models.items()}
    for done, frame in enumerate(dataset.frames(), start=1):
        on_frame(done, len(dataset.images))
        if scenes and frame.scene_id not in scenes:
            continue
        found = {o.label: o for o in estimator.estimate(Frame.from_recorded(frame)).objects}
        for instance in frame.instances:
            model, estimate = dataset.models[instance.obj_id], found.get(instance.label)
            points = None
            if estimate is not None:
                points = _posed(estimator, estimate, instance.T_camera_object)
            where = (model.name, frame.scene_id, frame.image_id)
            yield _compared(where, points, truth[instance.obj_id], model, estimate)


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Intersection over union of the axis-aligned boxes of two point sets (N, 3) and (M, 3)."""
    lower, upper = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    shared = np.prod(np.clip(upper - lower, 0.0, None))
    return float(shared / (np.prod(np.ptp(a, axis=0)) + np.prod(np.ptp(b, axis=0)) - shared))


def summary(found: Sequence[PosedSurface]) -> dict[str, Any]:
    """The figures of instances; one without a surface counts as infinitely far off."""
    distances = np.array([np.inf if f.chamfer_m is None else f.chamfer_m for f in found])
    certified = np.array([f.certified for f in found])
    right = np.array([f.right for f in found])
    return {
        "instances": len(found),
        "median_chamfer_m": finite_or_none(float(np.median(distances))),
        "within_1cm": float((distances < GOOD_M).mean()),
        "median_box_iou": float(np.median([f.box_iou for f in found])),
        "certified": float(certified.mean()),
        "right_of_certified": float(right[certified].mean()) if certified.any() else None,
    }


def _compared(
    where: tuple[str, int, int],
    points: NDArray[np.float64] | None,
    truth: NDArray[np.float64],
    model: BopModel,
    estimate: ObjectEstimate | None,
) -> PosedSurface:
    distance, overlap = None, 0.0
    if points is not None:
        distance, overlap = sampled_chamfer(points, truth), box_iou(points, truth)
    right = distance is not None and distance < min(GOOD_M, GOOD_SHARE * model.diameter_m)
    certified = estimate is not None and estimate.certified
    reason = "not estimated" if estimate is None else estimate.reason
    return PosedSurface(*where, distance, overlap, certified, right, reason)


def _posed(
    estimator: Estimator, estimate: ObjectEstimate, T_camera_true: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Points on the estimated surface in the frame of the true object; None without a surface."""
    mesh = estimator.mesh(estimate)
    if len(mesh.faces) == 0:
        return None
    points = _surface(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False))
    return transform(invert(T_camera_true) @ estimate.T_camera_object, points)


def _surface(mesh: trimesh.Trimesh) -> NDArray[np.float64]:
    return trimesh.sample.sample_surface(mesh, _SAMPLES, seed=0)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="data set in the BOP layout")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the package's)")
    parser.add_argument("--scenes", type=int, nargs="+", default=(), help="(default: all)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    estimator = Estimator(load_model(checkpoint_path(args.checkpoint)))
    with progress("images") as on_frame:
        dataset = BopDataset(args.folder, "test")
        found = list(posed_surfaces(estimator, dataset, args.scenes, on_frame))
    figures = summary(found)
    console = Console()
    for name, value in figures.items():
        console.print(f"{name}: {'none' if value is None else format(value, '.4g')}")
    if args.json:
        command = " ".join(["python -m crisp_ros.studies.posed_surfaces", *sys.argv[1:]])
        instances = [asdict(f) for f in found]
        figures["model_version"] = estimator.model_version
        write_json(args.json, {**provenance(command), **figures, "instances": instances})


if __name__ == "__main__":
    main()

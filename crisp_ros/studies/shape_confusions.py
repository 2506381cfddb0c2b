"""Confusions between known shapes: by the network alone, and after the corrector.

    python -m crisp_ros.studies.shape_confusions --models DIR --objects 19,20,... --json FILE

Renders scattered objects, estimates them and counts the shapes that they are taken for.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopFrame, read_models
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.metrics import chamfer
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.synthesis.scattered_frames import DOMAINS, scattered_frames
from crisp_ros.synthesis.scenes import load_observed_poses, viewpoints

_SURFACE_POINTS = 4000


class Naming(NamedTuple):
    """One object in one image: its true name, the library shapes nearest to the network's code and
    to the corrected one, whether that is certified, and its visible share (NaN where unknown)."""

    true: str
    network: str
    corrected: str
    certified: bool
    visible_share: float


def namings(
    estimator: Estimator, frames: Iterable[BopFrame], names: Mapping[int, str]
) -> list[Naming]:
    """Of all objects that are estimated in annotated frames.

    Args:
        estimator: its model has a shape library.
        names: of the objects, by id.
    """
    library = estimator.prepared_library
    found = []
    for frame in frames:
        trace = estimator.trace(Frame.from_recorded(frame))
        instances = {instance.label: instance for instance in frame.instances}
        for solution in trace.solutions:
            by_network = library.distances(solution.codes.float()).argmin(-1).tolist()
            corrected = solution.correction.shapes.index.tolist()
            certified = solution.verification.certificate.certified.tolist()
            for i, label in enumerate(solution.observations.labels.tolist()):
                instance = instances[label]
                share = instance.visible_share
                found.append(
                    Naming(
                        names[instance.obj_id],
                        library.names[by_network[i]],
                        library.names[corrected[i]],
                        certified[i],
                        float("nan") if share is None else share,
                    )
                )
    return found


def confusion_rows(found: Iterable[Naming]) -> list[dict[str, Any]]:
    """JSON values, one row for each true name, in alphabetical order.

    objects: how many. network, corrected: names with their counts, the most frequent first.
    wrong_certified: of those with a wrong corrected name how many are certified. visible_right and
    visible_wrong: median visible share of those with the right and with a wrong corrected name.
    """
    found = list(found)
    rows = []
    for true in sorted({naming.true for naming in found}):
        mine = [naming for naming in found if naming.true == true]
        right = [naming for naming in mine if naming.corrected == true]
        wrong = [naming for naming in mine if naming.corrected != true]
        rows.append(
            {
                "true": true,
                "objects": len(mine),
                "network": dict(Counter(naming.network for naming in mine).most_common()),
                "corrected": dict(Counter(naming.corrected for naming in mine).most_common()),
                "wrong_certified": sum(naming.certified for naming in wrong),
                "visible_right": _median(right),
                "visible_wrong": _median(wrong),
            }
        )
    return rows


def _median(found: list[Naming]) -> float | None:
    return float(np.median([naming.visible_share for naming in found])) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="in the BOP layout")
    parser.add_argument("--objects", help="ids of those shown, such as 19,20 (default: all)")
    parser.add_argument("--observed-poses", type=Path, help="to draw likely viewpoints from")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the package's)")
    parser.add_argument("--frames", type=int, default=30, help="number (default: 30)")
    parser.add_argument("--seed", type=int, default=31, help="of the frames (default: 31)")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    models = read_models(args.models)
    chosen = [int(i) for i in args.objects.split(",")] if args.objects else list(models)
    meshes = {i: models[i].mesh for i in chosen}
    observed = load_observed_poses(args.observed_poses) if args.observed_poses else {}
    views = [viewpoints(mesh, observed.get(i)) for i, mesh in meshes.items()]
    estimator = Estimator(load_model(checkpoint_path(args.checkpoint)))
    with progress("frames") as on_frame:
        frames = scattered_frames(meshes, views, DOMAINS["day"], args.frames, args.seed, on_frame)
        rows = confusion_rows(namings(estimator, frames, {i: models[i].name for i in chosen}))
    points = {
        i: surface_samples(mesh, _SURFACE_POINTS, np.random.default_rng(0)).points
        for i, mesh in meshes.items()
    }
    figures = {
        "frames": args.frames,
        "rows": rows,
        "chamfer_mm": {
            f"{models[a].name}, {models[b].name}": 1e3 * chamfer(points[a], points[b])
            for a, b in combinations(chosen, 2)
        },
        "model_version": estimator.model_version,
    }
    command = " ".join(["python -m crisp_ros.studies.shape_confusions", *sys.argv[1:]])
    write_json(args.json, {**provenance(command), **figures})


if __name__ == "__main__":
    main()

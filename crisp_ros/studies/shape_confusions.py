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
import trimesh

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopFrame
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.summary_statistics import known_or_nan
from crisp_ros.geometry.chamfer import sampled_chamfer
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.synthesis.scattered_frames import DOMAINS
from crisp_ros.synthesis.scattered_models import ScatteredModels

_SURFACE_POINTS = 4000
_UNKNOWN = "no library shape"


class Naming(NamedTuple):
    """The names that one object in one image gets.

    Attributes:
        true: of the object.
        network: library shape nearest to the network's code.
        corrected: library shape after the corrector.
        certified: the estimate has a certificate.
        visible_share: of the object, NaN where unknown.
    """

    true: str
    network: str
    corrected: str
    certified: bool
    visible_share: float


def namings(
    estimator: Estimator, frames: Iterable[BopFrame], names: Mapping[int, str]
) -> list[Naming]:
    """Name all objects that are estimated in annotated frames.

    Args:
        estimator: its model has a shape library.
        frames: of a data set.
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
                found.append(
                    Naming(
                        names[instance.obj_id],
                        library.names[by_network[i]],
                        library.names[corrected[i]] if corrected[i] >= 0 else _UNKNOWN,
                        certified[i],
                        known_or_nan(instance.visible_share),
                    )
                )
    return found


def confusion_rows(found: Iterable[Naming]) -> list[dict[str, Any]]:
    """Count the names of each object.

    Returns:
        JSON values, one row per true name, in alphabetical order: the number of `objects`; the
        names by `network` and `corrected` with their counts, the most frequent first;
        `wrong_certified`, the number of certified objects with a wrong corrected name;
        `visible_right` and `visible_wrong`, the median visible share with the right and with a
        wrong corrected name.
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
                "visible_right": _median_share(right),
                "visible_wrong": _median_share(wrong),
            }
        )
    return rows


def shape_distances(meshes: Mapping[str, trimesh.Trimesh]) -> dict[str, float]:
    """Compute the Chamfer distance in mm of each pair of meshes, by both names."""
    points = {
        name: surface_samples(mesh, _SURFACE_POINTS, np.random.default_rng(0)).points
        for name, mesh in meshes.items()
    }
    return {
        f"{a}, {b}": 1e3 * sampled_chamfer(points[a], points[b]) for a, b in combinations(points, 2)
    }


def _median_share(found: list[Naming]) -> float | None:
    return float(np.median([naming.visible_share for naming in found])) if found else None


def _ids(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="in the BOP layout")
    parser.add_argument(
        "--objects", type=_ids, default=(), help="ids of those shown, such as 19,20 (default: all)"
    )
    parser.add_argument("--observed-poses", type=Path, help="to sample likely viewpoints from")
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the package's)")
    parser.add_argument("--frames", type=int, default=30, help="number (default: 30)")
    parser.add_argument("--seed", type=int, default=31, help="of the frames (default: 31)")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    objects = ScatteredModels.read(args.models, args.observed_poses, args.objects)
    estimator = Estimator(load_model(checkpoint_path(args.checkpoint)))
    with progress("frames") as on_frame:
        frames = objects.frames(DOMAINS["day"], args.frames, args.seed, on_frame)
        rows = confusion_rows(namings(estimator, frames, objects.names))
    meshes = {objects.names[obj_id]: mesh for obj_id, mesh in objects.meshes.items()}
    command = " ".join(["python -m crisp_ros.studies.shape_confusions", *sys.argv[1:]])
    figures = {
        "frames": args.frames,
        "rows": rows,
        "chamfer_mm": shape_distances(meshes),
        "model_version": estimator.model_version,
    }
    write_json(args.json, {**provenance(command), **figures})


if __name__ == "__main__":
    main()

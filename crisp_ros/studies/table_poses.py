"""Poses from tables of signed distances against those from the decoder, on a recording.

    python -m crisp_ros.studies.table_poses [--every N] [--evaluations N ...] [--json FILE]

Both estimators get the same frames and network outputs, and leave the print of shapes out. The
comparison is made for several limits of the solver's iterations, as objects on which it does not
converge within them end where the last step has taken them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.recording import Recording
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings, ObjectEstimate, Trace
from crisp_ros.progress import progress
from crisp_ros.share import bundled_recording, checkpoint_path

SAME_MM, SAME_DEG = 0.1, 0.1


class Difference(NamedTuple):
    """The difference of one object's estimates.

    Attributes:
        shape: name of the shape by the tables.
        mm: between the positions.
        deg: between the rotations, symmetric ones not regarded as the same.
        certified: by the tables, by the decoder.
        converged: both solvers stopped before their last iteration.
    """

    shape: str
    mm: float
    deg: float
    certified: tuple[bool, bool]
    converged: bool

    @property
    def is_same(self) -> bool:
        """Whether the poses are the same."""
        return self.mm <= SAME_MM and self.deg <= SAME_DEG


def differences(model: Model, frames: Sequence[Frame], evaluations: int) -> list[Difference]:
    """Estimate frames with tables and with the decoder, and compare the objects.

    Args:
        model: with a library.
        frames: of a recording.
        evaluations: of the signed distances in a run of the pose solver, at most.
    """
    settings = EstimatorSettings(orientation=None)
    limited = replace(settings.corrector.second_order, evaluations=evaluations)
    corrector = replace(settings.corrector, second_order=limited)
    settings = replace(settings, corrector=corrector)
    pair = [Estimator(model, replace(settings, shape_tables=tables)) for tables in (True, False)]
    found = []
    with progress(f"frames, {evaluations} evaluations") as on_frame:
        for done, frame in enumerate(frames, start=1):
            traces = [estimator.trace(frame) for estimator in pair]
            steps = zip(*(_iterations(trace) for trace in traces), strict=True)
            both = zip(*(trace.estimate.objects for trace in traces), strict=True)
            for objects, counts in zip(both, steps, strict=True):
                # A run begins again where the objects have far to go.
                converged = all(count % (evaluations - 4) for count in counts)
                found.append(_difference(model, *objects, converged))
            on_frame(done, len(frames))
    return found


def _iterations(trace: Trace) -> list[int]:
    """The solver's iterations of a frame's objects, in the order of the estimates."""
    labels = [label for s in trace.solutions for label in s.observations.labels.tolist()]
    counts = [count for s in trace.solutions for count in s.correction.iterations.tolist()]
    return [count for _, count in sorted(zip(labels, counts, strict=True))]


def _difference(
    model: Model, table: ObjectEstimate, decoder: ObjectEstimate, converged: bool
) -> Difference:
    apart = np.linalg.inv(decoder.T_camera_object) @ table.T_camera_object
    shift = table.T_camera_object[:3, 3] - decoder.T_camera_object[:3, 3]
    cosine = np.clip((np.trace(apart[:3, :3]) - 1) / 2, -1.0, 1.0)
    index = table.shape_index
    return Difference(
        model.library.names[index] if index >= 0 else "other",
        1e3 * float(np.linalg.norm(shift)),
        float(np.degrees(np.arccos(cosine))),
        (table.certified, decoder.certified),
        converged,
    )


def summary(found: Sequence[Difference]) -> dict[str, Any]:
    """The figures of a comparison as JSON values."""
    other = [one for one in found if not one.is_same]
    certified = [one for one in found if all(one.certified)]
    return {
        "objects": len(found),
        "same_pose": len(found) - len(other),
        "same_certificate": sum(one.certified[0] == one.certified[1] for one in found),
        "other_pose_by_shape": dict(Counter(one.shape for one in other).most_common()),
        "other_pose_not_converged": sum(not one.converged for one in other),
        "certified": len(certified),
        "certified_same_pose": sum(one.is_same for one in certified),
        "certified_p99_mm": round(float(np.quantile([one.mm for one in certified], 0.99)), 3),
        "certified_p99_deg": round(float(np.quantile([one.deg for one in certified], 0.99)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--every", type=int, default=1, help="of the frames (default: 1)")
    parser.add_argument(
        "--evaluations", type=int, nargs="+", default=[12, 24], help="limits (default: 12 24)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args()
    if args.every < 1 or min(args.evaluations) < 6:
        parser.error("--every has to be positive, and --evaluations from 6 on")
    model = load_model(checkpoint_path())
    recorded = islice(Recording(bundled_recording()).frames(), None, None, args.every)
    frames = [Frame.from_recorded(one) for one in recorded]
    figures = {str(n): summary(differences(model, frames, n)) for n in args.evaluations}
    console = Console(highlight=False)
    for limit, found in figures.items():
        same = f"{found['same_pose']} of {found['objects']} poses"
        console.print(f"{limit} evaluations: {same} within {SAME_MM} mm and {SAME_DEG} degrees")
    if args.json:
        limits = " ".join(map(str, args.evaluations))
        command = f"python -m crisp_ros.studies.table_poses --every {args.every}"
        origin = provenance(f"{command} --evaluations {limits}")
        write_json(args.json, {**origin, "by_evaluations": figures})


if __name__ == "__main__":
    main()

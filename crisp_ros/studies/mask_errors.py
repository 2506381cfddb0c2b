"""Certificates under faults of masks and depth: which conditions refuse right poses?

    python -m crisp_ros.studies.mask_errors --models DIR --json FILE

Renders tables (`study_scenes`), or takes a recording or a data set, adds one fault at a time to
masks or depth (`image_faults`), and compares certificate and conditions with the true poses.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from crisp_ros.correction.verification import Verifier
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset, read_models
from crisp_ros.data.recorded_frame import RecordedFrame, TrueObject, bop_frames
from crisp_ros.data.recording import Recording
from crisp_ros.evaluation.metrics import add_s, rotation_error
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.evaluation.summary_statistics import finite_or_none
from crisp_ros.evaluation.true_shapes import SHAPES_NAME, ModelShapes, TrueShape, load_shapes
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings, Trace
from crisp_ros.progress import progress
from crisp_ros.share import checkpoint_path
from crisp_ros.studies.image_faults import FAULTS, SCALED
from crisp_ros.studies.study_scenes import scene_frames, study_scenes

RIGHT_M, WRONG_M = 0.01, 0.02
"""ADD-S up to which a pose is right, and above which it is wrong, metres."""
_WRONG_RAD = math.radians(30.0)
_SURFACE_POINTS = 2000
_MIN_VISIBLE_SHARE = 0.1
_OBJECTS_PER_SCENE = 7


class Verdict(NamedTuple):
    """The certificate of one object under one fault, and the truth.

    Attributes:
        fault: key of `FAULTS`.
        scene: of the frame.
        frame: index in the scene.
        name: of the true object.
        visible_share: of its silhouette, NaN where unknown.
        add_s_m: infinite where there is no estimate.
        rotation_rad: up to the object's symmetries, infinite where there is no estimate.
        certified: the estimate has a certificate.
        orientation_certified: also of the orientation.
        reason: why there is no certificate.
        held: whether each condition holds, by name.
        values: what each condition compares, by name.
    """

    fault: str
    scene: str
    frame: int
    name: str
    visible_share: float
    add_s_m: float
    rotation_rad: float
    certified: bool = False
    orientation_certified: bool = False
    reason: str = "not estimated"
    held: Mapping[str, bool] = {}
    values: Mapping[str, float] = {}

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        numbers = {
            name: finite_or_none(getattr(self, name))
            for name in ("visible_share", "add_s_m", "rotation_rad")
        }
        values = {name: finite_or_none(value) for name, value in self.values.items()}
        return {**self._asdict(), **numbers, "values": values}


@dataclass(frozen=True)
class Scene:
    """Frames with ground truth.

    Attributes:
        name: of the scene.
        frames: of it.
        shapes: true ones by name.
    """

    name: str
    frames: Sequence[RecordedFrame]
    shapes: Mapping[str, TrueShape]


def verdicts(
    estimator: Estimator,
    scenes: Sequence[Scene],
    faults: Sequence[str] = tuple(FAULTS),
    seed: int = 0,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> list[Verdict]:
    """Estimate all objects of all scenes under each fault.

    Args:
        estimator: whose certificate is studied.
        scenes: with ground truth.
        faults: keys of `FAULTS`.
        seed: of the faults.
        on_frame: called after each frame with the number done and the total.
    """
    found: list[Verdict] = []
    total, done = sum(len(scene.frames) for scene in scenes), 0
    for scene in scenes:
        for index, recorded in enumerate(scene.frames):
            frame = Frame.from_recorded(recorded)
            for fault in faults:
                rng = np.random.default_rng((seed, index))
                damaged = FAULTS[fault](frame, rng)
                found += _of_frame(estimator, damaged, fault, scene, index)
            done += 1
            on_frame(done, total)
    return found


class FaultRow(NamedTuple):
    """Certificates under one fault.

    Attributes:
        fault: key of `FAULTS`.
        objects: number of instances.
        right: of these, poses within `RIGHT_M`.
        certified: instances with a certificate.
        missed: right poses without one.
        false: certified poses farther off than `RIGHT_M`.
        wrong: certified poses farther off than `WRONG_M`.
        kept: share of the certificates under the fault "none" that stay; NaN where there are none.
        orientation_certified: instances whose orientation is certified.
        orientation_wrong: of these, rotations that are more than 30 degrees off.
    """

    fault: str
    objects: int
    right: int
    certified: int
    missed: int
    false: int
    wrong: int
    kept: float
    orientation_certified: int
    orientation_wrong: int


class ConditionRow(NamedTuple):
    """One condition over all faults.

    Attributes:
        condition: its name.
        missed: right poses that it refuses.
        missed_alone: those that no other condition refuses.
        refused: wrong poses that it refuses.
        refused_alone: those that no other condition refuses.
    """

    condition: str
    missed: int
    missed_alone: int
    refused: int
    refused_alone: int


def fault_rows(found: Sequence[Verdict]) -> list[FaultRow]:
    """Count false and missed certificates under each fault."""
    before = {_instance(v) for v in found if v.fault == "none" and v.certified}
    rows = []
    for fault in dict.fromkeys(v.fault for v in found):
        some = [v for v in found if v.fault == fault]
        certified = [v for v in some if v.certified]
        right = [v for v in some if v.add_s_m <= RIGHT_M]
        sure = [v for v in some if v.orientation_certified]
        kept = sum(_instance(v) in before for v in certified)
        rows.append(
            FaultRow(
                fault,
                len(some),
                len(right),
                len(certified),
                sum(not v.certified for v in right),
                sum(v.add_s_m > RIGHT_M for v in certified),
                sum(v.add_s_m > WRONG_M for v in certified),
                kept / len(before) if before else math.nan,
                len(sure),
                sum(v.rotation_rad > _WRONG_RAD for v in sure),
            )
        )
    return rows


def condition_rows(found: Sequence[Verdict]) -> list[ConditionRow]:
    """Count what each condition refuses: right poses (within `RIGHT_M`) and wrong ones.

    Instances with a scaled depth are left out: all their poses are wrong, but none contradicts it.
    """
    judged = [v for v in found if v.held and not v.fault.startswith(SCALED)]
    rows = []
    for name in dict.fromkeys(name for v in judged for name in v.held):
        refusing = [v for v in judged if not v.held.get(name, True)]
        alone = [v for v in refusing if sum(not ok for ok in v.held.values()) == 1]
        missed, missed_alone = (
            sum(v.add_s_m <= RIGHT_M for v in some) for some in (refusing, alone)
        )
        rows.append(
            ConditionRow(
                name, missed, missed_alone, len(refusing) - missed, len(alone) - missed_alone
            )
        )
    return rows


def rendered_scenes(models: Path, each: int, frames: int, seed: int, work: Path) -> Iterator[Scene]:
    """Clean and degraded tables, as in the study of the corrector.

    Args:
        models: folder of the objects, in the BOP layout.
        each: number of clean scenes, and of degraded ones.
        frames: of a scene.
        seed: of the first scene.
        work: folder in which rendered scenes are kept.
    """
    known = {model.name: model for model in read_models(models).values()}
    shapes = ModelShapes(known.values(), _SURFACE_POINTS)
    meshes = {name: model.mesh for name, model in known.items()}
    for scene in study_scenes(list(known), each, _OBJECTS_PER_SCENE, seed):
        yield Scene(scene.name, scene_frames(scene, meshes, frames, work), shapes)


def recorded_scene(folder: Path, step: int) -> Scene:
    """Every `step`-th frame of a recording with ground truth."""
    frames = [frame for i, frame in enumerate(Recording(folder).frames()) if i % step == 0]
    return Scene(folder.name, frames, load_shapes(folder / SHAPES_NAME))


def dataset_scene(folder: Path) -> Scene:
    """All images of a BOP data set."""
    dataset = BopDataset(folder)
    shapes = ModelShapes(dataset.models.values(), _SURFACE_POINTS)
    return Scene(folder.name, list(bop_frames(dataset)), shapes)


def _of_frame(
    estimator: Estimator, frame: Frame, fault: str, scene: Scene, index: int
) -> Iterator[Verdict]:
    trace = estimator.trace(frame)
    estimates = {e.label: e for e in trace.estimate.objects}
    conditions = dict(_conditions(estimator, trace))
    recorded = scene.frames[index]
    for true in recorded.truth:
        if true.visible_share < _MIN_VISIBLE_SHARE:
            continue
        place = (fault, scene.name, index, true.name, true.visible_share)
        estimate = estimates.get(true.label)
        if estimate is None:
            yield Verdict(*place, math.inf, math.inf)
            continue
        held, values = conditions[true.label]
        yield Verdict(
            *place,
            *_errors(true, estimate.T_camera_object, scene.shapes[true.name]),
            estimate.certified,
            estimate.orientation_certified,
            estimate.reason,
            held | {"known shape": not estimate.unknown},
            values,
        )


def _conditions(
    estimator: Estimator, trace: Trace
) -> Iterator[tuple[int, tuple[dict[str, bool], dict[str, float]]]]:
    """Label, and whether each condition holds and what it compares, of each object."""
    if not trace.solutions:
        return
    hypotheses = trace.hypotheses
    verifier = Verifier(
        estimator.field, estimator.prepared_library, estimator.settings.verification
    )
    found = verifier.conditions(hypotheses, trace.images)
    held = {c.name: c.held.tolist() for c in found}
    values = {c.name: c.value.tolist() for c in found}
    for row, label in enumerate(hypotheses.labels.tolist()):
        yield (
            label,
            tuple({name: part[row] for name, part in table.items()} for table in (held, values)),
        )


def _errors(true: TrueObject, T_camera_object: Any, shape: TrueShape) -> tuple[float, float]:
    """ADD-S in metres, and the rotation error in radians."""
    points = shape.points[:_SURFACE_POINTS]
    distance = add_s(points, T_camera_object, true.T_camera_object)
    angle = rotation_error(T_camera_object[:3, :3], true.T_camera_object[:3, :3], shape.symmetries)
    return float(distance), float(angle)


def _instance(verdict: Verdict) -> tuple[str, int, str]:
    return verdict.scene, verdict.frame, verdict.name


def _json(row: FaultRow | ConditionRow) -> dict[str, Any]:
    return {
        name: finite_or_none(value) if isinstance(value, float) else value
        for name, value in row._asdict().items()
    }


def _table(title: str, rows: Sequence[Any]) -> Table:
    table = Table(title=title)
    for column, name in enumerate(rows[0]._fields):
        table.add_column(name.replace("_", " "), no_wrap=column == 0)
    for row in rows:
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    return table


def _scenes(args: argparse.Namespace) -> list[Scene]:
    if args.recording is not None:
        return [recorded_scene(args.recording, args.step)]
    if args.bop is not None:
        return [dataset_scene(args.bop)]
    with progress("scenes") as on_scene:
        scenes = []
        for scene in rendered_scenes(args.models, args.scenes, args.frames, args.seed, args.work):
            scenes.append(scene)
            on_scene(len(scenes), 2 * args.scenes)
    return scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--models", type=Path, help="render tables of these, in the BOP layout")
    source.add_argument("--recording", type=Path, help="take a recording with ground truth")
    source.add_argument("--bop", type=Path, help="take a data set")
    parser.add_argument("--step", type=int, default=4, help="every n-th frame of it (default: 4)")
    parser.add_argument("--scenes", type=int, default=3, help="of either half (default: 3)")
    parser.add_argument("--frames", type=int, default=4, help="of a scene (default: 4)")
    parser.add_argument("--seed", type=int, default=900, help="of the scenes (default: 900)")
    parser.add_argument(
        "--work", type=Path, default=Path("out/mask_errors"), help="folder for rendered scenes"
    )
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument(
        "--given-masks", action="store_true", help="take masks as they are, without refinement"
    )
    parser.add_argument("--checkpoint", type=Path, help="model file (default: the package's)")
    parser.add_argument("--json", type=Path, help="write the tables to this file")
    parser.add_argument("--verdicts", action="store_true", help="also write each object's verdict")
    args = parser.parse_args()
    settings = EstimatorSettings()
    if args.given_masks:
        settings = dataclasses.replace(settings, masks=None)
    estimator = Estimator(load_model(checkpoint_path(args.checkpoint)), settings)
    scenes = _scenes(args)
    with progress("frames") as on_frame:
        found = verdicts(estimator, scenes, args.faults, on_frame=on_frame)
    faults, conditions = fault_rows(found), condition_rows(found)
    console = Console()
    console.print(_table("certificates", faults))
    console.print(_table("conditions", conditions))
    if args.json:
        command = shlex.join(["python", "-m", "crisp_ros.studies.mask_errors", *sys.argv[1:]])
        figures = {
            "model_version": estimator.model_version,
            "faults": [_json(row) for row in faults],
            "conditions": [_json(row) for row in conditions],
        }
        if args.verdicts:
            figures["verdicts"] = [verdict.to_json() for verdict in found]
        write_json(args.json, {**provenance(command), **figures})


if __name__ == "__main__":
    main()

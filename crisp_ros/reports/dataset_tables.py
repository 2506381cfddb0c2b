"""Tables, curves and captions of the reports of the three data sets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from crisp_ros.data.nocs import CLASSES
from crisp_ros.evaluation.bop_evaluation import BopEvaluation, InstanceErrors
from crisp_ros.evaluation.metrics import auc
from crisp_ros.evaluation.nocs_evaluation import NocsErrors, NocsEvaluation
from crisp_ros.evaluation.nocs_metrics import NocsPrecision
from crisp_ros.evaluation.spe3r_evaluation import SatelliteErrors, Spe3rEvaluation
from crisp_ros.reports import published_figures
from crisp_ros.reports.estimate_pictures import Picture
from crisp_ros.reports.number_text import number
from crisp_ros.reports.published_figures import Published
from crisp_ros.reports.report_parts import Curves, DataReport, ReportTable

_OURS = "*crisp_ros"
_WHOLE = "The paper's rows are of the whole test set with its own networks."


def bop_report(
    evaluation: BopEvaluation, names: Mapping[int, str], pictures: Sequence[Picture]
) -> DataReport:
    """Report as Tables 11 to 14 and Figs. 11 to 13, with a row per object and BOP's recall.

    Args:
        evaluation: on a BOP data set.
        names: of the objects by id.
        pictures: examples.
    """
    return DataReport(
        title="CRISP on a BOP data set",
        lead=_lead(evaluation.config, evaluation.instances),
        tables=(*_bop_tables(evaluation), _object_table(evaluation.instances, names)),
        curves=_bop_curves(evaluation),
        pictures=pictures,
        figures={
            **evaluation.to_json(),
            "auc_one_sided_normalised": evaluation.auc_one_sided,
            "average_recall": evaluation.average_recall,
        },
    )


def _bop_tables(evaluation: BopEvaluation) -> tuple[ReportTable, ...]:
    certified = [i for i in evaluation.instances if i.certified]
    poses = _table(
        "Pose: area under the ADD-S accuracy curve",
        f"{_WHOLE} A missed instance counts as infinitely wrong. Baseline: the model at the"
        " centroid of its depth, with the identity rotation.",
        ("1 cm", "2 cm", "3 cm"),
        [
            (f"{_OURS} ({len(evaluation.instances)} instances)", evaluation.auc_add_s.values()),
            (f"*certified alone ({len(certified)})", _area([i.add_s_m for i in certified])),
            ("*depth centroid", evaluation.baseline_auc_add_s.values()),
        ],
        published_figures.YCBV_ADD_S,
    )
    shapes = _table(
        "Shape: area under the accuracy curve of the Chamfer distance",
        f"{_WHOLE} They measure from the true surface to the reconstructed one, each in units of"
        " its diameter (blind to size), and call hundredths of it centimetres: compare the row"
        " 'one-sided'. The row 'Chamfer' is in true centimetres, mean of both directions.",
        ("3 cm", "5 cm", "10 cm"),
        [
            (f"{_OURS}, Chamfer", evaluation.auc_e_shape.values()),
            (f"{_OURS}, one-sided, normalised", evaluation.auc_one_sided.values()),
        ],
        published_figures.YCBV_SHAPE,
    )
    recall = evaluation.average_recall
    benchmark = _table(
        "BOP average recall",
        "Mean over ten thresholds, as in the BOP challenge; true masks and object ids are given,"
        " so the figures are not those of the challenge's full task. --vsd measures VSD.",
        tuple(name.upper() for name in recall),
        [(_OURS, recall.values())],
        (),
    )
    return poses, shapes, benchmark


def _bop_curves(evaluation: BopEvaluation) -> tuple[Curves, ...]:
    certified = [i for i in evaluation.instances if i.certified]
    groups = {"all": evaluation.instances, "certified": certified}
    shape = {name: [1e3 * i.chamfer_m for i in group] for name, group in groups.items()}
    add_s = {name: [1e3 * i.add_s_m for i in group] for name, group in groups.items()}
    add_s["depth centroid"] = [1e3 * i.baseline_add_s_m for i in evaluation.instances]
    return (
        Curves("chamfer.png", "Chamfer distance", "as the paper's Fig. 11",
               "Chamfer distance [mm]", shape, 40.0, (30.0,)),
        Curves("add_s.png", "ADD-S", "as the paper's Fig. 12", "ADD-S [mm]", add_s, 40.0,
               (10.0, 20.0, 30.0)),
    )  # fmt: skip


def bop_caption(errors: InstanceErrors, names: Mapping[int, str]) -> str:
    """Return the caption of a picture."""
    name = names.get(errors.obj_id, str(errors.obj_id))
    return f"{name}\nADD-S {1e3 * errors.add_s_m:.1f} mm, shape {1e3 * errors.chamfer_m:.1f} mm"


def spe3r_report(evaluation: Spe3rEvaluation, pictures: Sequence[Picture]) -> DataReport:
    """Report as Table 10, with a row per satellite, curves of both errors and examples."""
    measured = [(_OURS, evaluation)]
    if evaluation.uncorrected is not None:
        measured.insert(0, (f"{_OURS}, no corrector", evaluation.uncorrected))
    table = _table(
        "Shape and pose: L1 Chamfer distances",
        f"{_WHOLE} Both directions added, in the unit of the data set; e_pose: the true surface at"
        " the estimated and at the true pose.",
        ("e_shape mean", "median", "e_pose mean", "median"),
        [(name, (*one.e_shape_l1.values(), *one.e_pose_l1.values())) for name, one in measured],
        published_figures.SPE3R,
        3,
    )
    rows = []
    for name in sorted({errors.image.satellite for errors in evaluation.images}):
        mine = [errors for errors in evaluation.images if errors.image.satellite == name]
        rows.append((
            name, str(len(mine)), number(_median(e.e_shape_l1 for e in mine), 3),
            number(_median(e.e_pose_l1 for e in mine), 3),
            number(math.degrees(_median(e.rotation_error_rad for e in mine)), 1),
            number(_median(e.translation_error_m for e in mine), 3), _certified(mine),
        ))  # fmt: skip
    head = ("satellite", "images", "e_shape", "e_pose", "rotation deg", "shift", "certified")
    curves = tuple(
        Curves(f"{name}.png", title, "both directions added", title,
               {"all": values, "certified": [
                   v for v, e in zip(values, evaluation.images, strict=True) if e.certified]}, 0.6)
        for name, title, values in (
            ("e_shape", "e_shape, L1", [e.e_shape_l1 for e in evaluation.images]),
            ("e_pose", "e_pose, L1", [e.e_pose_l1 for e in evaluation.images]),
        )
    )  # fmt: skip
    return DataReport(
        title="CRISP on SPE3R",
        lead=_lead(evaluation.config, evaluation.images),
        tables=(table, ReportTable("Satellites", "Medians over the images.", head, rows)),
        curves=curves,
        pictures=pictures,
        figures=evaluation.to_json(),
    )


def spe3r_caption(errors: SatelliteErrors) -> str:
    """Return the caption of a picture."""
    return (
        f"{errors.image.satellite}\ne_pose {errors.e_pose_l1:.3f}, e_shape {errors.e_shape_l1:.3f}"
    )


def nocs_report(evaluation: NocsEvaluation, pictures: Sequence[Picture]) -> DataReport:
    """Report as Tables 8 and 9, with curves of the errors and examples."""
    e_shape, floor = evaluation.e_shape, evaluation.e_shape_floor
    shapes = _table(
        "Shape: e_shape by category",
        f"{_WHOLE} A thousand times the squared two-sided Chamfer distance of surfaces divided by"
        " the diagonal of the true box. Instances without an estimate do not count. Between points"
        " of one and the same surface it is not 0: compare the row 'true surface'. The paper's 0.18"
        " of cans and 0.16 of mugs lie below that, so that its surfaces are drawn or divided"
        " otherwise.",
        (*CLASSES, "average"),
        [
            (_OURS, [e_shape.get(name) for name in (*CLASSES, "average")]),
            ("*true surface, drawn twice", [floor.get(name) for name in (*CLASSES, "average")]),
        ],
        published_figures.NOCS_SHAPE,
    )
    masks = "Detected" if evaluation.config.get("detections") else "True"
    columns = (
        "IoU 25",
        "IoU 50",
        "IoU 75",
        "5° 5 cm",
        "5° 10 cm",
        "10° 5 cm",
        "10° 10 cm",
    )
    precision = _table(
        "Mean average precision, percent",
        f"{_WHOLE} {masks} masks and classes were given here; the others detect. The boxes of all"
        " but our first row are compared as the published script does, over the wrong axis.",
        columns,
        [
            (f"{_OURS}, right boxes", _percents(evaluation.precision)),
            (f"{_OURS}, published boxes", _percents(evaluation.published)),
        ],
        published_figures.NOCS_MAP,
        1,
    )
    known = evaluation.instances
    curves = tuple(
        Curves(f"{name}.png", title, note, f"{title} [{unit}]",
               {"all": [getattr(i, name) for i in known],
                "certified": [getattr(i, name) for i in known if i.certified]}, right, limits)
        for name, title, note, unit, right, limits in (
            ("degrees", "Rotation error", "without symmetries", "degrees", 40.0, (5.0, 10.0)),
            ("centimetres", "Shift", "between the origins", "cm", 15.0, (5.0, 10.0)),
        )
    )  # fmt: skip
    return DataReport(
        title="CRISP on NOCS",
        lead=_lead(evaluation.config, known),
        tables=(shapes, precision),
        curves=curves,
        pictures=pictures,
        figures=evaluation.to_json(),
    )


def nocs_caption(errors: NocsErrors) -> str:
    """Return the caption of a picture."""
    return f"{errors.category}\n{errors.degrees:.1f} deg, {errors.centimetres:.1f} cm"


def _object_table(instances: Sequence[InstanceErrors], names: Mapping[int, str]) -> ReportTable:
    rows = []
    for obj_id in sorted({i.obj_id for i in instances}):
        mine = [i for i in instances if i.obj_id == obj_id]
        rows.append((
            names.get(obj_id, str(obj_id)), str(len(mine)),
            number(auc([i.add_s_m for i in mine], 0.02), 2),
            number(1e3 * _median(i.add_s_m for i in mine), 1),
            number(1e3 * _median(i.add_m for i in mine), 1),
            number(math.degrees(_median(i.rotation_error_rad for i in mine)), 1),
            number(1e3 * _median(i.chamfer_m for i in mine), 1), _certified(mine),
        ))  # fmt: skip
    head = ("object", "seen", "AUC 2 cm", "ADD-S mm", "ADD mm", "rotation deg", "Chamfer mm",
            "certified")  # fmt: skip
    return ReportTable("Objects", "AUC of ADD-S; medians of the others.", head, rows)


def _table(
    title: str,
    note: str,
    columns: Sequence[str],
    ours: Iterable[tuple[str, Iterable[float | None]]],
    theirs: Iterable[Published],
    digits: int = 2,
) -> ReportTable:
    """A table with our rows first, then the published ones."""
    rows: list[list[str]] = []
    for name, values in ours:
        rows.append([name, *(number(value, digits) for value in values)])
    for row in theirs:
        values = [*row.values, *(None,) * (len(columns) - len(row.values))]
        rows.append(
            [f"{row.name} ({row.source})", *(_as_printed(value, digits) for value in values)]
        )
    return ReportTable(title, note, ("", *columns), rows)


def _lead(config: Mapping[str, Any], errors: Sequence[Any]) -> str:
    machine, certificate = config.get("machine", {}), config.get("estimator", {}).get("certificate")
    lines = [
        f"{len(errors)} instances of {config['dataset']}, {_certified(errors)} certified.",
        certificate
        and f"Certificate: p {certificate['quantile']:g}, eps {certificate['threshold_m']:g} m.",
        _missed([e.missed for e in errors if e.missed]),
        f"{config.get('command', '')}",
        f"crisp_ros {config.get('version', '')}, model {config.get('model_version', '')};"
        f" {machine.get('cpu', '')}, {machine.get('threads', '')} threads,"
        f" {machine.get('device', '')}, Python {machine.get('python', '')},"
        f" torch {machine.get('torch', '')}.",
    ]
    return "\n".join(line for line in lines if line)


def _missed(reasons: Sequence[str]) -> str:
    """Count the missed by reason; reasons that differ only in numbers count together."""
    if not reasons:
        return ""
    alike: dict[str, list[str]] = {}
    for reason in reasons:
        alike.setdefault(re.sub(r"\d+(\.\d+)?", "", reason), []).append(reason)
    listed = "; ".join(f'{len(group)} as "{group[0]}"' for group in alike.values())
    return f"{len(reasons)} without an estimate: {listed}."


def _area(errors: Sequence[float]) -> list[float | None]:
    return [auc(errors, limit) if errors else None for limit in (0.01, 0.02, 0.03)]


def _percents(precision: NocsPrecision) -> list[float | None]:
    values = (*precision.mean_iou.values(), *precision.mean_pose.values())
    return [None if math.isnan(value) else 100.0 * value for value in values]


def _certified(errors: Sequence[Any]) -> str:
    return f"{100 * np.mean([e.certified for e in errors]):.0f} %"


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def _as_printed(value: float | None, digits: int) -> str:
    """Format a value with all digits of the source, and at least `digits` decimals."""
    if value is None:
        return number(None, digits)
    return max(f"{value:g}", f"{value:.{digits}f}", key=len)

"""Measured errors as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.table import Table

from crisp_ros.data.depth_units import explain_scale
from crisp_ros.evaluation.bop_csv import median_image_time_s, median_score
from crisp_ros.evaluation.bop_evaluation import BopEvaluation, InstanceErrors
from crisp_ros.evaluation.mask_overlap import OverlapSummary
from crisp_ros.reports.number_text import number
from crisp_ros.reports.report_parts import ReportTable, cell, is_ours
from crisp_ros.training.library_quality import FitError, LibraryCheck


def instance_table(evaluation: BopEvaluation, names: Mapping[int, str]) -> Table:
    """The errors of each instance; `names` are those of the objects by id."""
    table = Table(title="Instances", box=SIMPLE_HEAD)
    table.add_column("image", justify="right")
    table.add_column("object", no_wrap=True)
    for column in ("ADD-S\nmm", "ADD\nmm", "rotation\ndeg", "shift\nmm", "Chamfer\nmm"):
        table.add_column(column, justify="right")
    table.add_column("certified", justify="center")
    for instance in evaluation.instances:
        table.add_row(*_cells(instance, names))
    return table


def summary_table(evaluation: BopEvaluation) -> Table:
    """The areas under the accuracy curves, of the estimator and of the baseline."""
    table = Table(
        title=f"{len(evaluation.instances)} instances,"
        f" {100 * evaluation.certified_share:.0f} % certified",
        caption=evaluation.depth_scale and explain_scale(evaluation.depth_scale),
        box=SIMPLE_HEAD,
    )
    table.add_column("measure")
    table.add_column("threshold", justify="right")
    for column in ("AUC", "AUC of the depth centroid"):
        table.add_column(column, justify="right")
    for name, area in evaluation.auc_add_s.items():
        baseline = evaluation.baseline_auc_add_s[name]
        table.add_row("ADD-S", name, f"{area:.3f}", f"{baseline:.3f}")
    for name, area in evaluation.poses.auc_add.items():
        table.add_row("ADD", name, f"{area:.3f}", "")
    for name, area in evaluation.auc_e_shape.items():
        table.add_row("Chamfer", name, f"{area:.3f}", "")
    seconds = median_image_time_s(evaluation.results)
    if seconds > 0.0:  # results of others may not state it
        table.add_row("time of an image", "median", f"{seconds:.2f} s", "")
    table.add_row("score of an estimate", "median", number(median_score(evaluation.results)), "")
    return table


def segmentation_table(masks: OverlapSummary) -> Table:
    """The agreement of predicted masks with the true ones."""
    table = Table(title=f"Masks of {masks.instances} instances", box=SIMPLE_HEAD)
    table.add_column("measure")
    table.add_column("", justify="right")
    table.add_row("overlap F", f"{masks.overlap_f:.3f}")
    table.add_row("boundary F", f"{masks.boundary_f:.3f}")
    table.add_row("instances with F above 0.75", f"{100 * masks.above_75:.0f} %")
    return table


def pose_table(evaluation: BopEvaluation, names: Mapping[int, str]) -> Table:
    """The rotations and the reliability of the certificates, by object and for all."""
    table = Table(
        title="Rotations and certificates",
        caption="wrong: of the certified, ADD-S above 2 cm (place), rotation error above 30 deg "
        "(rotation)",
        box=SIMPLE_HEAD,
    )
    table.add_column("object", no_wrap=True)
    for column in (
        "instances",
        "ADD AUC\n10 cm",
        "rotation\nmedian deg",
        "below\n5/15/30 deg",
        "certified",
        "wrong\nplace",
        "wrong\nrotation",
        "orientation\ncertified",
        "wrong",
    ):
        table.add_column(column, justify="right")
    rows = {names.get(k, str(k)): p for k, p in evaluation.poses_by_object.items()}
    for name, poses in (*rows.items(), ("all", evaluation.poses)):
        table.add_row(
            name,
            str(poses.instances),
            f"{poses.auc_add['10cm']:.3f}",
            number(poses.median_rotation_deg),
            "/".join(f"{100 * share:.0f}" for share in poses.rotations_within.values()) + " %",
            str(poses.certified),
            str(poses.certified_wrong_place),
            str(poses.certified_wrong_rotation),
            str(poses.orientation_certified),
            str(poses.orientation_certified_wrong),
            style="bold" if name == "all" else None,
        )
    return table


def report_table(report: ReportTable) -> Table:
    """A report's table for a terminal."""
    table = Table(title=report.title, caption=report.note, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, name in enumerate(report.head):
        table.add_column(name, justify="right" if index else "left", min_width=0 if index else 14)
    for row in report.rows:
        table.add_row(*map(cell, row), style="bold" if is_ours(row) else None)
    return table


def library_table(check: LibraryCheck) -> Table:
    """The shapes of a library, each with its nearest other shape; an open mesh has no volume."""
    table = Table(
        title=f"{len(check.shapes)} shapes, codes of length {check.code_dim}: "
        f"rank {check.rank}, condition {check.condition:.3g}",
        box=SIMPLE_HEAD,
    )
    table.add_column("shape", no_wrap=True)
    for column in ("size\nmm", "volume\ncm3"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("nearest shape", no_wrap=True)
    for column in ("Chamfer\nmm", "code\n%"):
        table.add_column(column, justify="right", no_wrap=True)
    for shape in check.shapes:
        volume = f"{1e6 * shape.volume_m3:.0f}" if shape.watertight else "open"
        row = [shape.name, f"{1e3 * shape.diameter_m:.0f}", volume]
        nearest = next((pair for pair in check.pairs if shape.name in pair.names), None)
        if nearest is not None:
            other = nearest.names[nearest.names[0] == shape.name]
            row += [other, _millimetres(nearest.chamfer_m), f"{100 * nearest.code_distance:.0f}"]
        table.add_row(*row)
    return table


def fit_table(errors: Mapping[str, FitError]) -> Table:
    """Return a table of the fits of decoded shapes to their meshes, one row per shape."""
    table = Table(title="Decoded shapes against their meshes", box=SIMPLE_HEAD)
    table.add_column("shape", no_wrap=True)
    for column in ("mean |SDF|\nmm", "95 %\nmm", "98 %\nmm", "Chamfer\nmm"):
        table.add_column(column, justify="right")
    for name, error in errors.items():
        table.add_row(name, *(f"{1e3 * value:.2f}" for value in error))
    return table


def _cells(instance: InstanceErrors, names: Mapping[int, str]) -> list[str]:
    return [
        f"{instance.scene}/{instance.image}",
        names.get(instance.obj_id, str(instance.obj_id)),
        _millimetres(instance.add_s_m),
        _millimetres(instance.add_m),
        number(math.degrees(instance.rotation_error_rad)),
        _millimetres(instance.translation_error_m),
        _millimetres(instance.chamfer_m),
        _certificate(instance),
    ]


def _certificate(instance: InstanceErrors) -> str:
    if not instance.certified:
        return "no" if _found(instance) else "missed"
    return "yes" if instance.orientation_certified else "place"


def _found(instance: InstanceErrors) -> bool:
    return math.isfinite(instance.add_s_m)


def _millimetres(metres: float) -> str:
    return number(1e3 * metres)

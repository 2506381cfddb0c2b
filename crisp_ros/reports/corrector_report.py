"""The corrector's study as tables, as JSON, and compared with its requirements."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from crisp_ros.studies.corrector_comparison import CorrectorParts
from crisp_ros.studies.corrector_instances import (
    ALGORITHM_1,
    ALGORITHM_2,
    MULTI_VIEW,
    NO_CORRECTOR,
    SECOND_ORDER,
    SETTINGS,
    SEVERAL_VIEWS,
    SYMMETRIES,
    CertifiedShares,
    Instance,
    Row,
    SymmetryChanges,
    certified_shares,
    rows,
    symmetry_changes,
)
from crisp_ros.studies.corrector_trials import ProgramTrial

_SAME_M = 1e-6  # medians that differ by less are equal

_SHORT = {
    ALGORITHM_1: "Alg. 1",
    ALGORITHM_2: "Alg. 2",
    SECOND_ORDER: "second order",
    SYMMETRIES: "the node",
    MULTI_VIEW: "all views so far",
}
_DEFINITIONS = {
    "e_pose": "L1 Chamfer distance, mean of both directions of nearest Euclidean distances, between"
    " the true surface at the estimated and at the true pose, metres",
    "e_shape": "the same distance between the estimated and the true surface in the object frame;"
    " two samplings of one surface are about 1 mm apart",
    "add_s": "mean distance from the true surface at the true pose to that at the estimated pose",
    "instances": "objects that are at least 10 % visible; means and medians leave out those"
    " without an estimate, whose number is `missed`",
    "turned": "instances whose rotation changes by more than a degree when near-symmetries are"
    " tested; near: within 30 degrees",
    "right_shape": "share whose code is that of the right library shape",
    "certified": "share with a certificate: eq. (12) alone with p 0.98 and eps 1 cm, on all points;"
    " of the node and of all views that of the node",
    "cpu_median_s": "processor time of the corrector, per object; all of them with the same"
    " points, as many as the second-order solver iterates on",
}


class Verdict(NamedTuple):
    """A requirement and whether it is met.

    Attributes:
        what: the figure.
        measured: its value.
        limit: of the value.
        holds: the requirement is met.
    """

    what: str
    measured: float
    limit: float
    holds: bool


def requirements(parts: CorrectorParts) -> list[Verdict]:
    """Compare the figures with the requirements on the corrector and its certificate."""
    verdicts: list[Verdict] = []
    if parts.instances:
        for half in ("clean", "disturbed"):
            verdicts += _error_requirements(half, parts.halves()[half])
        shares = certified_shares(parts.instances)
        clean = certified_shares(parts.halves()["clean"])
        verdicts += [
            _at_least("certified within 2 cm ADD-S", shares.within_2cm, 0.95),
            _at_least("certified within 1 cm ADD-S", shares.within_1cm, 0.80),
            _at_least("clean: visible instances certified", clean.certified, 0.40),
        ]
    for z in parts.z_steps:
        what = f"{1e3 * z['pnc_noise_m']:g} mm, {z['pnc_outliers']:.0%} outliers: ADD-S after"
        verdicts.append(_at_most(what, z["second_order_m"], z["before_m"] + _SAME_M))
    steps = parts.solvers["gradient_steps"]
    verdicts += [
        _at_least("LSQ finds the shape at the true pose", parts.shapes["lsq"], 0.95),
        _at_least("pose and shape together find it", parts.shapes["corrector"], 0.95),
        _at_least(
            f"second order no worse than {steps} gradient steps", parts.solvers["no_worse"], 1.0
        ),
    ]
    return verdicts


def corrector_json(parts: CorrectorParts) -> dict[str, Any]:
    """All figures as JSON values; only those of the trials where there are no scenes."""
    return {
        **(_instances_json(parts) if parts.instances else {}),
        "shape_trial": dict(parts.shapes),
        "z_trials": list(parts.z_steps),
        "solver_trial": dict(parts.solvers),
        "program_trial": None if parts.programs is None else _json(parts.programs),
        "must_hold": [_json(verdict) for verdict in requirements(parts)],
    }


def _instances_json(parts: CorrectorParts) -> dict[str, Any]:
    halves = parts.halves()
    return {
        "definitions": _DEFINITIONS,
        "methods": {method: repr(settings) for method, settings in SETTINGS.items()},
        "table": {name: [_json(row) for row in rows(found)] for name, found in halves.items()},
        f"table_from_{SEVERAL_VIEWS}_views": {
            name: [_json(row) for row in rows(_with_several_views(found))]
            for name, found in halves.items()
            if name != "real"
        },
        "certificate": {name: _json(certified_shares(found)) for name, found in halves.items()},
        "turned": {name: _json(symmetry_changes(found)) for name, found in halves.items()},
        "refused_because": {name: _reasons(found) for name, found in halves.items()},
    }


def error_tables(parts: CorrectorParts) -> Iterator[Table]:
    """One table for clean, disturbed and real images: mean and median errors of each method."""
    for name, found in parts.halves().items() if parts.instances else ():
        shares = certified_shares(found)
        table = Table(
            title=f"{name}: {shares.count} instances, {shares.certified:.0%} certified,\n"
            f"of these {shares.within_1cm:.0%} within 1 cm, {shares.within_2cm:.0%} within 2 cm",
            box=SIMPLE_HEAD,
        )
        table.add_column("method", no_wrap=True)
        for column in (
            "e_pose\nmean",
            "mm\nmedian",
            "e_shape\nmean",
            "mm\nmedian",
            "ADD-S\nmedian",
            "rotation\ndeg",
            "right\nshape",
            "certi-\nfied",
            "of these\n< 2 cm",
            "ms an\nobject",
        ):
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows(found):
            lengths = (
                row.e_pose_mean_m,
                row.e_pose_median_m,
                row.e_shape_mean_m,
                row.e_shape_median_m,
                row.add_s_median_m,
            )
            table.add_row(
                _SHORT.get(row.method, row.method),
                *(f"{1e3 * length:.2f}" for length in lengths),
                f"{math.degrees(row.rotation_median_rad):.1f}",
                f"{row.right_shape:.0%}",
                f"{row.certified:.0%}",
                _shown(row.certified_within_2cm, "{:.0%}"),
                _shown(1e3 * row.cpu_median_s, "{:.0f}"),
            )
        yield table


def requirement_table(verdicts: Sequence[Verdict]) -> Table:
    """The requirements, and whether they are met."""
    table = Table(title="Requirements", box=SIMPLE_HEAD)
    table.add_column("what")
    for column in ("measured", "limit", "holds"):
        table.add_column(column, justify="right")
    for verdict in verdicts:
        holds = "yes" if verdict.holds else "NO"
        table.add_row(verdict.what, f"{verdict.measured:.4g}", f"{verdict.limit:.4g}", holds)
    return table


def _shown(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)


def _error_requirements(half: str, instances: Sequence[Instance]) -> Iterator[Verdict]:
    by_method = {row.method: row for row in rows(instances)}
    before, after = by_method[NO_CORRECTOR], by_method[SYMMETRIES]
    yield _at_most(f"{half}: mean e_pose after", after.e_pose_mean_m, before.e_pose_mean_m)
    yield _at_most(f"{half}: median e_pose after", after.e_pose_median_m, before.e_pose_median_m)
    changes = symmetry_changes(instances)
    yield _at_least(
        f"{half}: changed rotations within 30 degrees", changes.near_after, changes.near_before
    )
    several = {row.method: row for row in rows(_with_several_views(instances))}
    if MULTI_VIEW in several:
        yield _at_most(
            f"{half}: mean e_shape from {SEVERAL_VIEWS} views on",
            several[MULTI_VIEW].e_shape_mean_m,
            several[NO_CORRECTOR].e_shape_mean_m,
        )


def _with_several_views(instances: Sequence[Instance]) -> list[Instance]:
    return [i for i in instances if i.frame + 1 >= SEVERAL_VIEWS]


def _at_most(what: str, measured: float, limit: float) -> Verdict:
    return Verdict(f"{what} at most", measured, limit, measured <= limit)


def _at_least(what: str, measured: float, limit: float) -> Verdict:
    return Verdict(f"{what}, at least", measured, limit, measured >= limit)


def _reasons(instances: Sequence[Instance]) -> dict[str, int]:
    """Count each kind of reason, whatever its figures."""
    counts: dict[str, int] = {}
    for instance in instances:
        if not instance.certified:
            kind = re.sub(r"(?<![a-z0-9.])[0-9][0-9.]*", "#", instance.reason)
            counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _json(
    values: Row | CertifiedShares | ProgramTrial | SymmetryChanges | Verdict,
) -> dict[str, Any]:
    """The fields; null where there is no finite number."""
    fields = values._asdict().items()
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields}

"""The corrector's study as tables, as JSON, and against what must hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from crisp_ros.studies.corrector_comparison import CorrectorParts
from crisp_ros.studies.corrector_study import (
    ALGORITHM_1,
    ALGORITHM_2,
    MULTI_VIEW,
    NO_CORRECTOR,
    SECOND_ORDER,
    SETTINGS,
    SEVERAL_VIEWS,
    TURNED,
    CertifiedShares,
    Instance,
    Row,
    Turns,
    certified_shares,
    rows,
    turns,
)
from crisp_ros.studies.corrector_trials import ProgramTrial

_SAME_M = 1e-6  # medians that differ by less are equal

_SHORT = {
    ALGORITHM_1: "Alg. 1",
    ALGORITHM_2: "Alg. 2",
    SECOND_ORDER: "second order",
    TURNED: "turned (the node)",
    MULTI_VIEW: "all views so far",
}
_DEFINITIONS = {
    "e_pose": "L1 Chamfer distance, mean of both directions of nearest Euclidean distances, between"
    " the true surface at the estimated and at the true pose, metres",
    "e_shape": "the same distance between the estimated and the true surface in the object frame;"
    " two samplings of one surface are about 1 mm apart",
    "add_s": "mean distance from the true surface at the true pose to that at the estimated pose",
    "instances": "objects of which at least a tenth is visible; means and medians leave out those"
    " without an estimate, which `missed` counts",
    "turned": "instances whose rotation differs by more than a degree where turns are tried; near:"
    " within 30 degrees",
    "right_shape": "share whose code is that of the right library shape",
}


class Verdict(NamedTuple):
    """Something that must hold: what it is, the value measured, the limit, and whether it does."""

    what: str
    measured: float
    limit: float
    holds: bool


def must_hold(parts: CorrectorParts) -> list[Verdict]:
    """What the corrector and its certificate have to meet."""
    verdicts = []
    for half in ("clean", "disturbed"):
        instances = parts.halves()[half]
        by_method = {row.method: row for row in rows(instances)}
        before, after = by_method[NO_CORRECTOR], by_method[TURNED]
        verdicts += [
            _at_most(f"{half}: mean e_pose after", after.e_pose_mean_m, before.e_pose_mean_m),
            _at_most(f"{half}: median e_pose after", after.e_pose_median_m, before.e_pose_median_m),
        ]
        turned = turns(instances)
        verdicts.append(
            _at_least(
                f"{half}: turned ones within 30 degrees", turned.near_after, turned.near_before
            )
        )
        several = {row.method: row for row in rows(_with_several_views(instances))}
        if MULTI_VIEW in several:
            verdicts.append(
                _at_most(
                    f"{half}: mean e_shape from {SEVERAL_VIEWS} views on",
                    several[MULTI_VIEW].e_shape_mean_m,
                    several[NO_CORRECTOR].e_shape_mean_m,
                )
            )
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
    verdicts += [
        _at_least("LSQ finds the shape at the true pose", parts.shapes["lsq"], 0.95),
        _at_least("pose and shape together find it", parts.shapes["corrector"], 0.95),
        _at_least(
            f"second order no worse than {parts.solvers['gradient_steps']} gradient steps",
            parts.solvers["no_worse"],
            1.0,
        ),
    ]
    return verdicts


def report(parts: CorrectorParts) -> dict[str, Any]:
    """All figures as JSON values."""
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
        "turned": {name: _json(turns(found)) for name, found in halves.items()},
        "refused_because": {name: _reasons(found) for name, found in halves.items()},
        "shape_trial": dict(parts.shapes),
        "z_trials": list(parts.z_steps),
        "solver_trial": dict(parts.solvers),
        "program_trial": None if parts.programs is None else _json(parts.programs),
        "must_hold": [_json(verdict) for verdict in must_hold(parts)],
    }


def row_table(parts: CorrectorParts) -> Iterator[Table]:
    """One table a half: mean and median errors of each method."""
    for name, found in parts.halves().items():
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
            "turn\ndeg",
            "right\nshape",
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
            )
        yield table


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """What must hold, and whether it does."""
    table = Table(title="Must hold", box=SIMPLE_HEAD)
    table.add_column("what")
    for column in ("measured", "limit", "holds"):
        table.add_column(column, justify="right")
    for verdict in verdicts:
        held = "yes" if verdict.holds else "NO"
        table.add_row(verdict.what, f"{verdict.measured:.4g}", f"{verdict.limit:.4g}", held)
    return table


def _with_several_views(instances: Sequence[Instance]) -> list[Instance]:
    return [i for i in instances if i.frame + 1 >= SEVERAL_VIEWS]


def _at_most(what: str, measured: float, limit: float) -> Verdict:
    return Verdict(f"{what} at most", measured, limit, measured <= limit)


def _at_least(what: str, measured: float, limit: float) -> Verdict:
    return Verdict(f"{what}, at least", measured, limit, measured >= limit)


def _reasons(instances: Sequence[Instance]) -> dict[str, int]:
    """How often each kind of reason was given, its figures left out."""
    counts: dict[str, int] = {}
    for instance in instances:
        if not instance.certified:
            kind = re.sub(r"(?<![a-z0-9.])[0-9][0-9.]*", "#", instance.reason)
            counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _json(values: Row | CertifiedShares | ProgramTrial | Turns | Verdict) -> dict[str, Any]:
    """The fields; null where there is no finite number."""
    fields = values._asdict().items()
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in fields}

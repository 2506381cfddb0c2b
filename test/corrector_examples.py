"""Made-up instances and parts of the corrector's study."""

from __future__ import annotations

import dataclasses
import math

from crisp_ros.studies.corrector_comparison import CorrectorParts
from crisp_ros.studies.corrector_instances import (
    METHODS,
    NO_CORRECTOR,
    SECOND_ORDER,
    SYMMETRIES,
    Errors,
    Instance,
)


def instance(
    scene: str, frame: int, error_m: float, certified: bool = True, before_m: float = 0.01
) -> Instance:
    """Give every method the error `error_m`, and `before_m` without the corrector."""
    errors = {m: Errors(error_m, error_m / 2, error_m, 0.1, "can", certified) for m in METHODS}
    errors[NO_CORRECTOR] = Errors(before_m, before_m / 2, before_m, 0.2, "", False)
    reason = "" if certified else "q98 13 mm > 10 mm"
    cpu_s = {SECOND_ORDER: 0.01 * (frame + 1)}
    return Instance(f"{scene}_1", frame, "can", 0.8, certified, reason, errors, cpu_s)


def parts(**changed: object) -> CorrectorParts:
    """Build a study that meets all requirements, with some parts replaced."""
    instances = [
        instance(half, frame, 0.001 * (frame + 1)) for half in ("clean", "disturbed")
        for frame in range(4)
    ]  # fmt: skip
    given = {
        "instances": instances,
        "real": [],
        "shapes": {"count": 2, "lsq": 1.0, "projected_gradient": 0.0, "corrector": 1.0},
        "z_steps": [
            {"pnc_noise_m": 0.0, "pnc_outliers": 0.0, "before_m": 1e-4, "second_order_m": 1e-4}
        ],
        "solvers": {"gradient_steps": 200, "no_worse": 1.0},
        "programs": None,
    }
    return CorrectorParts(**{**given, **changed})


def rotated(before_deg: float, after_deg: float) -> Instance:
    """Build an instance whose rotation error the search over symmetries changes."""
    found = instance("clean", 0, 0.002)
    before, after = (
        found.errors[SYMMETRIES]._replace(rotation_rad=math.radians(deg))
        for deg in (before_deg, after_deg)
    )
    errors = {**found.errors, SECOND_ORDER: before, SYMMETRIES: after}
    return dataclasses.replace(found, errors=errors)

"""The rows of the training ablation: which training, corrector and self-training each measures."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from crisp_ros.correction.active_shape import ActiveShapeSettings
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.studies.corrector_instances import (
    ALGORITHM_1,
    ALGORITHM_2,
    NO_CORRECTOR,
    SECOND_ORDER,
    SETTINGS,
)
from crisp_ros.studies.resumable_parts import fingerprint
from crisp_ros.training.losses import SdfLossWeights


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        part: the part of the method that is compared.
        name: of the row within the part.
        paper: the paper's table with the same comparison, "" where there is none.
        training: one of `TRAININGS`, or of `BACKBONE_TRAININGS`.
        corrector: settings of the corrector, None for the registration alone.
        self_trained: measure after self-training with the same corrector.
    """

    part: str
    name: str
    paper: str
    training: str
    corrector: CorrectorSettings | None
    self_trained: bool = False

    @property
    def key(self) -> str:
        """A file name for the row's figures, equal for rows with the same figures."""
        kind = "self_trained_" if self.self_trained else ""
        return f"{kind}{self.training.replace(' ', '_')}_{fingerprint(self.corrector)}"


def _combined(**changes: Any) -> CorrectorSettings:
    active_shape = ActiveShapeSettings(one_hot=False, own_code=True)
    return CorrectorSettings(active_shape=dataclasses.replace(active_shape, **changes))


TRAININGS = (
    "reference",
    "colour",
    "no depth",
    "large crops",
    "normalised",
    "random backbone",
    "no symmetries",
)
_NODE = CorrectorSettings()
_FULL, _NO_CODE, _NO_D = (
    _combined(),
    _combined(own_code=False),
    _combined(diameter_weights=False),
)
_OWN_SHAPE = CorrectorSettings(shape="none")
ROWS = (
    Row("inputs", "colour", "", "colour", _NODE),
    Row("inputs", "colour and mask", "", "no depth", _NODE),
    Row("inputs", "colour, mask and geometry", "", "reference", _NODE),
    Row("crop side", "the recipe's", "", "reference", _NODE),
    Row("crop side", "half as much again", "", "large crops", _NODE),
    Row("coordinates", "PNC", "Table 11", "reference", _NODE),
    Row("coordinates", "NOCS", "Table 11", "normalised", _NODE),
    Row("coordinates", "PNC, no corrector", "Table 11", "reference", None),
    Row("coordinates", "NOCS, no corrector", "Table 11", "normalised", None),
    Row("backbone", "pretrained", "Table 12", "reference", _NODE),
    Row("backbone", "random", "Table 12", "random backbone", _NODE),
    Row("symmetries", "loss knows them", "", "reference", _NODE),
    Row("symmetries", "loss does not", "", "no symmetries", _NODE),
    Row("corrector", NO_CORRECTOR, "Table 10", "reference", None),
    Row("corrector", ALGORITHM_1, "Table 10", "reference", SETTINGS[ALGORITHM_1]),
    Row("corrector", ALGORITHM_2, "Table 10", "reference", SETTINGS[ALGORITHM_2]),
    Row("corrector", SECOND_ORDER, "Table 10", "reference", SETTINGS[SECOND_ORDER]),
    Row("corrector", "second order, the network's shape", "", "reference", _OWN_SHAPE),
    Row("self-training", "before", "", "reference", _FULL),
    Row("self-training", "after", "", "reference", _FULL, True),
    Row("code column", "with h = f_e(I)", "Table 13", "reference", _FULL, True),
    Row("code column", "without", "Table 13", "reference", _NO_CODE, True),
    Row("diameters", "with D", "Table 14", "reference", _FULL, True),
    Row("diameters", "without", "Table 14", "reference", _NO_D, True),
)
# Of a backbone from a file, which stays as it is; only the heads are trained.
BACKBONE_TRAININGS = ("frozen backbone", "random frozen backbone")
BACKBONE_ROWS = (
    Row("frozen backbone", "pretrained", "Table 12", "frozen backbone", _NODE),
    Row("frozen backbone", "random", "Table 12", "random frozen backbone", _NODE),
)
OFF_SURFACE = {
    "left out": SdfLossWeights(off_surface=0.0, eikonal_stride=5),
    "beyond 3 cm": SdfLossWeights(off_surface_from_m=0.03, eikonal_stride=5),
    "everywhere": SdfLossWeights(off_surface_from_m=0.0, eikonal_stride=5),
}

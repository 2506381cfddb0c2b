"""Metric and normalised coordinates compared: rendered crops, both trainings and the figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from crisp_ros.adaptation.reference_set import rendered_reference
from crisp_ros.adaptation.samples import POINTS
from crisp_ros.network.checkpoint import Model
from crisp_ros.progress import progress
from crisp_ros.studies.coordinates_study import (
    KINDS,
    AnnotatedCrops,
    CoordinatesSettings,
    CoordinatesStudy,
    annotated_crops,
)
from crisp_ros.studies.resumable_parts import KeptParts
from crisp_ros.synthesis.scattered_frames import DOMAINS
from crisp_ros.synthesis.scattered_models import ScatteredModels

_SEEDS = {"day": 5, "dusk": 6}
_DRAWN = "035_power_drill"  # the object of the picture, where the models have it


@dataclass(frozen=True)
class CoordinatesComparison:
    """Settings of the comparison.

    Attributes:
        models: folder of the objects, in the BOP layout.
        observed_poses: see `ScatteredModels.read`.
        crops_by_day: of each shape, with ground truth, to train the head on.
        crops_at_dusk: of each shape, to self-train on.
        work: folder in which each kind's result is kept.
        study: see `CoordinatesSettings`.
    """

    models: Path
    observed_poses: Path | None
    crops_by_day: int
    crops_at_dusk: int
    work: Path
    study: CoordinatesSettings

    def run(self, model: Model) -> dict[str, dict[str, Any]]:
        """Run the study for both kinds of coordinates; an interrupted run is continued.

        Args:
            model: with a shape library.

        Returns:
            By kind, as JSON values: `history`, the figures by step, and `picture`, points of one
            object before and after.
        """
        made_from = (self.study, model.header["sha256"], self.crops_by_day, self.crops_at_dusk)
        kept = KeptParts(self.work, made_from)

        @cache
        def crops(domain: str) -> AnnotatedCrops:
            return self._crops(model, domain)

        def studied(kind: str) -> dict[str, Any]:
            study = CoordinatesStudy(model, kind, self.study)
            with progress(f"head, {kind}") as on_step:
                study.train_head(crops("day"), on_step)
            return _self_trained(study, model, kind, crops("dusk"))

        return {kind: kept.part(kind, lambda kind=kind: studied(kind)) for kind in KINDS}

    def _crops(self, model: Model, domain: str) -> AnnotatedCrops:
        objects = ScatteredModels.read(self.models, self.observed_poses)
        each = {"day": self.crops_by_day, "dusk": self.crops_at_dusk}[domain]
        with progress(f"frames by {domain}, at most") as on_frame:
            crops = rendered_reference(
                model, objects, DOMAINS[domain], each, _SEEDS[domain], POINTS, on_frame
            )
        return annotated_crops(crops, model)

    def to_json(self, model: Model, kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The figures as JSON values.

        Args:
            model: that was studied.
            kinds: returned by `run`.
        """
        return {
            "shapes": len(model.library),
            "crops_by_day": self.crops_by_day,
            "crops_at_dusk": self.crops_at_dusk,
            "settings": dataclasses.asdict(self.study),
            **{
                kind: {"norm_ratio": norm_ratio(study["history"]), "history": study["history"]}
                for kind, study in kinds.items()
            },
        }


def norm_ratio(history: list[dict[str, float]]) -> float:
    """The norm of the coordinates at the end of the self-training over that at its start."""
    return history[-1]["norm_m"] / history[0]["norm_m"]


def _self_trained(
    study: CoordinatesStudy, model: Model, kind: str, crops: AnnotatedCrops
) -> dict[str, Any]:
    names = [model.library.names[k] for k in crops.shape]
    row = names.index(_DRAWN) if _DRAWN in names else 0
    before = study.coordinates(crops, row)
    with progress(f"self-training, {kind}") as on_step:
        history = study.self_train(crops, on_step)
    points = {
        "surface": study.surface(int(crops.shape[row])),
        "before": before,
        "after": study.coordinates(crops, row),
    }
    return {"history": history, "picture": {name: _rounded(v) for name, v in points.items()}}


def _rounded(points: torch.Tensor) -> list[list[float]]:
    return [[round(x, 5) for x in point] for point in points.tolist()]

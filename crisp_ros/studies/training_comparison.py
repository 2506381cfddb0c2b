"""The ablation of training and shape model: data set, trainings, self-training and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from crisp_ros.data.bop import BopDataset
from crisp_ros.data.bop_writer import write_frames, write_models
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.progress import progress
from crisp_ros.studies.resumable_parts import KeptParts, fingerprint
from crisp_ros.studies.study_error import StudyError
from crisp_ros.studies.training_ablation import TrainingAblation, fitted_shapes, measured
from crisp_ros.studies.training_rows import (
    BACKBONE_ROWS,
    BACKBONE_TRAININGS,
    OFF_SURFACE,
    ROWS,
    TRAININGS,
    Row,
)
from crisp_ros.synthesis.crop_set import CropSet
from crisp_ros.synthesis.table_frames import TableFrameSettings, table_frames
from crisp_ros.training.objects import TrainingObject, symmetries, training_objects
from crisp_ros.training.recipe import Recipe
from crisp_ros.training.run import TrainingRun
from crisp_ros.training.sdf_samples import SdfSamples

_VIEWS, _OBJECTS, _SEED = 2, 6, 77  # of the rendered tables


@dataclass(frozen=True)
class TrainingResults:
    """The figures of the ablation.

    Attributes:
        objects: names.
        training_crops: their number.
        images: number of the images that were measured on.
        rows: the figures of each row, as JSON values.
        off_surface: errors of the fitted shapes by the off-surface term.
        passes: of self-training.
        recipe: of all trainings.
    """

    objects: list[str]
    training_crops: int
    images: int
    rows: list[dict[str, Any]]
    off_surface: dict[str, dict[str, float | None]]
    passes: int
    recipe: Recipe

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "objects": self.objects,
            "training_crops": self.training_crops,
            "images": self.images,
            "rows": self.rows,
            "off_surface_term": self.off_surface,
            "self_training_passes": self.passes,
            "recipe": dataclasses.asdict(self.recipe),
        }


@dataclass(frozen=True)
class TrainingComparison:
    """Settings of the ablation.

    Attributes:
        models: folder of the objects, in the BOP layout.
        recipe: of all trainings.
        only: names of the objects; none takes all.
        imagenet: folder of the pretrained backbone.
        observed_poses: see `training_objects`.
        bop: data set to measure on; None renders tables with the objects.
        split: of that data set.
        scenes: number of the rendered tables.
        passes: of self-training over the images that are measured on.
        work: folder in which crops, states and parts of the result are kept.
        backbone: model file whose backbone two more rows compare with a random one, both frozen;
            None for no such rows.
    """

    models: Path
    recipe: Recipe
    only: tuple[str, ...]
    imagenet: Path
    observed_poses: Path | None
    bop: Path | None
    split: str
    scenes: int
    passes: int
    work: Path
    backbone: Path | None = None

    def run(self, known: Model) -> TrainingResults:
        """Train and measure all rows; an interrupted run is continued.

        Args:
            known: model whose decoder and shape codes all trainings use.

        Raises:
            StudyError: an object has no mesh, or the model does not know it.
            crisp_ros.network.checkpoint.CheckpointError: the backbone's file cannot be read.
        """
        recipe, objects = self.recipe, self._objects()
        given = None if self.backbone is None else load_model(self.backbone)
        names = [o.name for o in objects]
        if known.library is None or not set(names) <= set(known.library.names):
            raise StudyError(f"the model's library lacks some of {', '.join(names)}")
        dataset = self._dataset(objects)
        shared = self._shared(objects)
        groups = symmetries(objects, recipe.symmetric, recipe.symmetry_tolerance_m, recipe.seed)
        study = TrainingAblation(
            recipe,
            objects,
            [torch.from_numpy(group).float() for group in groups],
            known.network.decoder,
            known.library.codes[[known.library.names.index(name) for name in names]],
            CropSet(self.work / "shared" / "crops"),
            self.imagenet,
            self.work,
            self.passes,
        )
        made_from = (
            recipe,
            names,
            known.header["sha256"],
            str(dataset.folder.resolve()),
            dataset.split,
            len(dataset.images),
            self.passes,
        )
        rows = table_rows(study, dataset, KeptParts(self.work / "parts", made_from))
        if given is not None:
            own = self.work / f"backbone_{given.header['sha256'][:12]}"
            of_backbone = dataclasses.replace(study, backbone=given.network, folder=own)
            rows += table_rows(
                of_backbone, dataset, KeptParts(own / "parts", made_from), BACKBONE_ROWS
            )
        shapes = self._off_surface(objects, shared.sdf_samples())
        return TrainingResults(
            names, len(study.crops), len(dataset.images), rows, shapes, self.passes, recipe
        )

    def _objects(self) -> tuple[TrainingObject, ...]:
        objects = training_objects(self.models, observed_poses=self.observed_poses)
        if missing := sorted(set(self.only) - {o.name for o in objects}):
            raise StudyError(f"{self.models}: no model of {', '.join(missing)}")
        return tuple(o for o in objects if o.name in self.only or not self.only)

    def _shared(self, objects: tuple[TrainingObject, ...]) -> TrainingRun:
        """Render the crops that all trainings have in common."""
        with progress("crops") as on_crops:
            shared = TrainingRun(self.recipe, objects, self.work / "shared")
            shared.on_progress = lambda stage, done, total: on_crops(done, total)
            shared.render_crops()
        return shared

    def _dataset(self, objects: tuple[TrainingObject, ...]) -> BopDataset:
        if self.bop is not None:
            return BopDataset(self.bop, self.split)
        names = [o.name for o in objects]
        key = fingerprint(names, self.scenes, str(self.models.resolve()))
        folder = self.work / f"tables_{key}"
        looks = {i: o.look for i, o in enumerate(objects, start=1)}
        if not (folder / "done").exists():
            write_models(folder, looks, {i: {"name": n} for i, n in enumerate(names, start=1)})
            with progress("images") as on_frame:
                settings = TableFrameSettings(self.scenes, _VIEWS, _OBJECTS)
                write_frames(folder, table_frames(looks, settings, _SEED, on_frame))
            (folder / "done").touch()
        return BopDataset(folder)

    def _off_surface(
        self, objects: tuple[TrainingObject, ...], samples: SdfSamples
    ) -> dict[str, dict[str, float | None]]:
        names = [o.name for o in objects]
        kept = KeptParts(self.work / "parts", (self.recipe, names))  # whatever is measured on
        shapes = {}
        for name, weights in OFF_SURFACE.items():

            def fitted(name: str = name, weights: Any = weights) -> dict[str, float | None]:
                with progress(f"shapes, off-surface term {name}") as on_step:
                    return fitted_shapes(self.recipe, objects, samples, weights, on_step)

            shapes[name] = kept.part(f"shapes_{name.replace(' ', '_')}", fitted)
        return shapes


def table_rows(
    study: TrainingAblation,
    dataset: BopDataset,
    kept: KeptParts,
    rows: Sequence[Row] = ROWS,
) -> list[dict[str, Any]]:
    """Measure all rows, training by training; figures that are kept are not measured again."""
    figures_of: dict[str, dict[str, Any]] = {}
    for training in (*TRAININGS, *BACKBONE_TRAININGS):

        @cache
        def trained(training: str = training) -> tuple[Model, dict[str, float]]:
            with progress(f"training, {training}") as on_step:
                return study.trained(training, on_step)

        for row in (r for r in rows if r.training == training):

            def figures(row: Row = row, trained: Any = trained) -> dict[str, Any]:
                return _row_figures(study, row, dataset, *trained())

            figures_of[row.key] = kept.part(row.key, figures)
    return [
        {
            "part": row.part,
            "name": row.name,
            "paper": row.paper,
            "training": row.training,
            **figures_of[row.key],
        }
        for row in rows
    ]


def _row_figures(
    study: TrainingAblation,
    row: Row,
    dataset: BopDataset,
    model: Model,
    held_out: dict[str, float],
) -> dict[str, Any]:
    counts = {}
    if row.self_trained:
        with progress(f"self-training, {row.part}: {row.name}") as on_frame:
            model, learned = study.self_trained(row, model, dataset, on_frame)
        counts = {"self_training": learned}
    with progress(f"measuring, {row.part}: {row.name}") as on_frame:
        return {**measured(row, model, dataset, on_frame), **counts, "held_out": held_out}

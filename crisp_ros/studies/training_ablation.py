"""Ablation of the training: the same short training with and without each of its parts."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crisp_ros.adaptation.guard import with_original_accuracy
from crisp_ros.adaptation.recorded_self_training import RecordedSelfTraining, SequenceFrame
from crisp_ros.adaptation.reference_set import (
    ReferenceSet,
    load_reference,
    reference_path,
    rendered_reference,
    save_reference,
)
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recorded_frame import bop_frames
from crisp_ros.evaluation.bop_evaluation import evaluate_bop
from crisp_ros.evaluation.dataset_loop import DatasetLoop
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.dinov2 import DinoV2
from crisp_ros.network.library import ShapeLibrary, shape_boxes
from crisp_ros.network.model import COLOUR_CHANNELS, CrispNetwork, network_config
from crisp_ros.network.widening import colour_design
from crisp_ros.observation.crop_channels import geometry_channels
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.studies.normalised_coordinates import NormalisedCrops, NormalisedEstimator
from crisp_ros.studies.training_rows import BACKBONE_TRAININGS, Row
from crisp_ros.synthesis.crop_set import CropSet
from crisp_ros.synthesis.scattered_frames import DOMAINS
from crisp_ros.synthesis.scattered_models import ScatteredModels
from crisp_ros.training.library_quality import BoxedShape, fit_error
from crisp_ros.training.losses import SdfLossWeights
from crisp_ros.training.objects import TrainingObject
from crisp_ros.training.pretrained import imagenet_network
from crisp_ros.training.recipe import Recipe
from crisp_ros.training.sdf_samples import SdfSamples
from crisp_ros.training.shape_codes import fit_shape_codes, neutral_codes
from crisp_ros.training.supervised import ShapeTargets, SupervisedTrainer

_MODEL_NAME = "model.safetensors"
_COUNTS = ("steps", "swaps", "refused", "rollbacks")
_NORMALISED_ZETA = 0.1  # coordinates over the diagonal are about ten times as large as in metres


@dataclass(frozen=True)
class TrainingAblation:
    """The trainings of the ablation, and what they have in common.

    Attributes:
        recipe: of all trainings.
        objects: K of them.
        groups: per object the transforms (S, 4, 4) that leave its appearance unchanged.
        decoder: of the shapes; the trainings do not change it.
        codes: (K, C) of the shapes; the trainings do not change them.
        crops: of the training.
        imagenet: folder of the backbone's weights.
        folder: of the trainings' states.
        passes: of self-training over the data set that is measured on.
        backbone: network whose backbone is that of `BACKBONE_TRAININGS`; None for the others.
    """

    recipe: Recipe
    objects: tuple[TrainingObject, ...]
    groups: list[Tensor]
    decoder: ShapeDecoder
    codes: Tensor
    crops: CropSet
    imagenet: Path
    folder: Path
    passes: int
    backbone: CrispNetwork | None = None

    def trained(
        self, training: str, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[Model, dict[str, float]]:
        """Train one of `TRAININGS` or `BACKBONE_TRAININGS`; an interrupted one is continued.

        Returns:
            The model and its held-out figures; those of coordinates only where they are metric.
        """
        torch.manual_seed(self.recipe.seed)
        network = self._network(training)
        settings, crops, groups = self.recipe.training, self.crops, self.groups
        settings = dataclasses.replace(settings, crop_px=network.crop_size)
        if training == "random backbone" or training in BACKBONE_TRAININGS:
            settings = dataclasses.replace(settings, frozen=())
        if training == "no symmetries":
            groups = [torch.eye(4)[None]] * len(self.objects)
        if training == "normalised":
            diagonals = np.linalg.norm([o.look.extents for o in self.objects], axis=1)
            crops = NormalisedCrops(self.crops, diagonals)
            groups = [group.clone() for group in groups]
            for group, diagonal in zip(groups, diagonals, strict=True):
                group[:, :3, 3] /= diagonal
            settings = dataclasses.replace(settings, pnc_zeta_m=_NORMALISED_ZETA)
        folder = self._folder(training)
        trainer = SupervisedTrainer(
            network,
            ShapeTargets(groups, self.codes),
            crops,
            settings,
            folder,
            self.recipe.seed,
        )
        trainer.run(on_step=on_step)
        figures = trainer.evaluate()
        if training == "normalised":
            figures = {name: value for name, value in figures.items() if "pnc" not in name}
        save_model(folder / _MODEL_NAME, Model(network, self._library(), {"version": training}))
        model = load_model(folder / _MODEL_NAME)
        if training == "no depth":
            hide_depth(model.network)
        return model, figures

    def _network(self, training: str) -> CrispNetwork:
        """The network that a training begins with."""
        design = self.recipe.network
        if training == "colour":
            design = colour_design(design) or design
        config = network_config(design)
        side = self.recipe.training.crop_px or config.crop_size
        if training in BACKBONE_TRAININGS:
            config = dataclasses.replace(self.backbone.config, frozen_backbone=True)
            side -= side % DinoV2.patch if config.design == "dinov2_vits14" else 0
        config = dataclasses.replace(
            config,
            crop_size=side * 3 // 2 if training == "large crops" else side,
            decoder_hidden=self.decoder.hidden,
            decoder_layers=len(self.decoder.film_layers),
        )
        if training == "random backbone" or training in BACKBONE_TRAININGS:
            network = CrispNetwork(config)
        else:
            network = imagenet_network(config, self.imagenet)
        if training == "frozen backbone":
            network.backbone.load_state_dict(self.backbone.backbone.state_dict())
        network.decoder.load_state_dict(self.decoder.state_dict())
        if training == "no depth":
            hide_depth(network)
        return network

    def _library(self) -> ShapeLibrary:
        boxes = shape_boxes(self.decoder, self.codes)
        names = tuple(o.name for o in self.objects)
        return ShapeLibrary(names, self.codes, boxes.lower, boxes.upper, tuple(self.groups))

    def self_trained(
        self,
        row: Row,
        model: Model,
        dataset: BopDataset,
        on_frame: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Model, dict[str, int]]:
        """Self-train a row's model on the data set's images without their annotations, as in the
        paper; an interrupted self-training is continued.

        Returns:
            The model, and the counts of the self-training.
        """
        learned = RecordedSelfTraining(
            copy.deepcopy(model),
            self._reference_set(row.training, model),
            SelfTrainingSettings(seed=self.recipe.seed),
            EstimatorSettings(corrector=row.corrector),
            self.folder / "self_trained" / row.key,
        )
        learned.run(
            lambda: (SequenceFrame(Frame.from_recorded(f)) for f in bop_frames(dataset)),
            len(dataset.images),
            self.passes,
            on_frame,
        )
        after = learned.model()
        counted = after.header["self_training"]
        return after, {name: counted[name] for name in _COUNTS}

    def _reference_set(self, training: str, model: Model) -> ReferenceSet:
        """The guard's crops of these objects, stored next to the model."""
        path = reference_path(self._folder(training) / _MODEL_NAME)
        if not path.exists():
            objects = ScatteredModels(
                {i: o.look for i, o in enumerate(self.objects, start=1)},
                [o.views for o in self.objects],
                {i: o.name for i, o in enumerate(self.objects, start=1)},
            )
            crops = rendered_reference(model, objects, DOMAINS["day"])
            save_reference(path, with_original_accuracy(model, crops))
        return load_reference(path, model)

    def _folder(self, training: str) -> Path:
        return self.folder / training.replace(" ", "_")


def hide_depth(network: CrispNetwork) -> None:
    """Let a network see colour and mask alone, whatever geometry its crops have."""
    network.backbone.register_forward_pre_hook(_without_depth)


def _without_depth(backbone: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (crops,) = inputs
    if crops.shape[1] == COLOUR_CHANNELS:
        return inputs
    colour_and_mask = crops[:, : COLOUR_CHANNELS + 1]
    missing = geometry_channels(torch.zeros_like(crops[:, :3]), crops[:, COLOUR_CHANNELS] > 0)
    return (torch.cat([colour_and_mask, missing[:, 1:].to(crops.dtype)], dim=1),)


def measured(
    row: Row,
    model: Model,
    dataset: BopDataset,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure the figures of one row on a data set, as JSON values."""
    kind = NormalisedEstimator if row.training == "normalised" else Estimator
    estimator = kind(model, EstimatorSettings(corrector=row.corrector))
    evaluation = evaluate_bop(estimator, dataset, loop=DatasetLoop(on_frame))
    errors = [i.add_s_m for i in evaluation.instances]
    rotations = [i.rotation_error_rad for i in evaluation.instances]
    found = bool(np.isfinite(rotations).all())
    return {
        "instances": len(evaluation.instances),
        "auc_add_s": evaluation.auc_add_s,
        "auc_e_shape": evaluation.auc_e_shape,
        "certified_share": evaluation.certified_share,
        "median_rotation_deg": float(np.degrees(np.median(rotations))) if found else None,
        "median_add_s_mm": float(np.median(errors)) * 1e3 if np.isfinite(errors).all() else None,
    }


def fitted_shapes(
    recipe: Recipe,
    objects: Sequence[TrainingObject],
    samples: SdfSamples,
    weights: SdfLossWeights,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float | None]:
    """Fit a new decoder to the shapes and measure its errors.

    Args:
        weights: of the loss.
        on_step: called with the steps done and their number.

    Returns:
        Means over the objects, mm, as JSON values: of the mean and the 98 % quantile of |f_d| on
        the true surface, and of the Chamfer distance; None where a shape has no surface.
    """
    torch.manual_seed(recipe.seed)
    config = network_config(recipe.network)
    decoder = ShapeDecoder(config.decoder_hidden, config.decoder_layers)
    with torch.no_grad():
        decoder.film_layers[0].weight.mul_(recipe.first_layer_gain)
    settings = dataclasses.replace(recipe.shape_codes, weights=weights)
    codes = fit_shape_codes(
        decoder,
        neutral_codes(decoder, len(objects), settings.code_noise, recipe.seed),
        samples,
        settings,
        recipe.seed,
        report=lambda step, loss: on_step(step, settings.steps),
    )
    on_step(settings.steps, settings.steps)
    boxes = shape_boxes(decoder, codes)
    quantile = CertificateSettings().quantile
    errors = [
        fit_error(decoder, BoxedShape(code, lower, upper), o.solid, quantile, recipe.seed)
        for code, lower, upper, o in zip(codes, boxes.lower, boxes.upper, objects, strict=True)
    ]
    means = {
        f"{name[:-2]}_mm": float(np.mean([getattr(error, name) for error in errors])) * 1e3
        for name in errors[0]._fields
        if name.endswith("_m")
    }
    return {name: value if np.isfinite(value) else None for name, value in means.items()}

"""What parts of training and shape model are good for: the same short training without each."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.adaptation.guard import measured as guarded
from crisp_ros.adaptation.recorded_self_training import RecordedSelfTraining
from crisp_ros.adaptation.reference_set import (
    ReferenceSet,
    load_reference,
    reference_crops,
    reference_path,
    save_reference,
)
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.correction.active_shape import ActiveShapeSettings
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.corrector import CorrectorSettings
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.recorded_frame import bop_frames
from crisp_ros.evaluation.bop_evaluation import BopEvaluationSettings, evaluate_bop
from crisp_ros.evaluation.library_quality import fit_error
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary, shape_boxes
from crisp_ros.network.model import CrispNetwork, network_config
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import Observations
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.pipeline.solver import Solver
from crisp_ros.studies.corrector_study import (
    ALGORITHM_1,
    ALGORITHM_2,
    NO_CORRECTOR,
    SECOND_ORDER,
    SETTINGS,
)
from crisp_ros.studies.resumable_parts import fingerprint
from crisp_ros.synthesis.crop_set import Crops, CropSet
from crisp_ros.synthesis.scattered_frames import DOMAINS, scattered_frames
from crisp_ros.training.losses import SdfLossWeights
from crisp_ros.training.objects import TrainingObject
from crisp_ros.training.pretrained import load_imagenet_trunk
from crisp_ros.training.recipe import Recipe
from crisp_ros.training.sdf_samples import SdfSamples
from crisp_ros.training.shape_codes import fit_shape_codes, neutral_codes
from crisp_ros.training.supervised import SupervisedTrainer

_PAIRS = 2000
_MODEL_NAME = "model.safetensors"
_REFERENCE_FRAMES = 240  # at most
_REFERENCE_SEED = 2026
_COUNTS = ("steps", "swaps", "refused", "rollbacks")
_NORMALISED_ZETA = 0.1  # coordinates over the diagonal are about ten times as large as in metres


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        part: what is compared; name: this line of it; paper: which of the paper's tables asks.
        training: which training it uses, see `TRAININGS`.
        corrector: settings of the corrector.
        self_trained: measured after self-training with the same corrector.
    """

    part: str
    name: str
    paper: str
    training: str
    corrector: CorrectorSettings | None
    self_trained: bool = False

    @property
    def key(self) -> str:
        """Names what is measured: the same for rows that show the same figures."""
        kind = "self_trained_" if self.self_trained else ""
        return f"{kind}{self.training.replace(' ', '_')}_{fingerprint(self.corrector)}"


def _combined(**changes: Any) -> CorrectorSettings:
    active_shape = ActiveShapeSettings(one_hot=False, own_code=True)
    return CorrectorSettings(active_shape=dataclasses.replace(active_shape, **changes))


TRAININGS = ("reference", "normalised", "random backbone", "no symmetries")
_NODE = CorrectorSettings()
_FULL, _NO_CODE, _NO_D = (
    _combined(),
    _combined(own_code=False),
    _combined(diameter_weights=False),
)
_OWN_SHAPE = CorrectorSettings(shape="none")
ROWS = (
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
OFF_SURFACE = {
    "left out": SdfLossWeights(off_surface=0.0, eikonal_stride=5),
    "beyond 3 cm": SdfLossWeights(off_surface_from_m=0.03, eikonal_stride=5),
    "everywhere": SdfLossWeights(off_surface_from_m=0.0, eikonal_stride=5),
}


class NormalisedCrops:
    """Crops whose coordinates are divided by the diagonal of their object's box, as in NOCS.

    Args:
        crops: metric ones.
        diagonals: (K,) metres.
    """

    def __init__(self, crops: CropSet, diagonals: NDArray[np.float64]) -> None:
        self._crops, self._diagonals = crops, diagonals.astype(np.float32)

    @property
    def mesh(self) -> NDArray[np.int64]:
        return self._crops.mesh

    @property
    def scale(self) -> NDArray[np.float32]:
        return self._crops.scale

    def __len__(self) -> int:
        return len(self._crops)

    def batch(self, indices: NDArray[np.int64]) -> Crops:
        crops = self._crops.batch(indices)
        return crops._replace(pnc=crops.pnc / self._diagonals[crops.mesh][:, None, None, None])


class NormalisedSolver(Solver):
    """A solver for a network of normalised coordinates: depth gives the object's size.

    The scale of eq. (24) is the median ratio of distances between pairs of points, in coordinates
    and in depth.
    """

    def coordinates(self, maps: Tensor, observations: Observations) -> Tensor:
        """Of the points, metres; as those of `Solver`."""
        normalised = super().coordinates(maps, observations)
        scaled = []
        generator = torch.Generator().manual_seed(0)
        for z, x, valid in zip(normalised, observations.points, observations.valid, strict=True):
            rows = valid.nonzero().squeeze(-1)
            first, second = rows[torch.randint(len(rows), (2, _PAIRS), generator=generator)]
            depth = (x[first] - x[second]).norm(dim=-1)
            apart = depth > 0.01
            ratio = (z[first] - z[second]).norm(dim=-1)[apart] / depth[apart]
            scale = ratio.median() if len(ratio) else ratio.new_tensor(1.0)
            scaled.append(z / scale.clamp_min(1e-3))
        return torch.stack(scaled)


class NormalisedEstimator(Estimator):
    """An estimator for a network of normalised coordinates."""

    def __init__(
        self,
        model: Model,
        settings: EstimatorSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(model, settings, device)
        self._solver = NormalisedSolver(self._network, self._library, self.settings, self.device)


@dataclass(frozen=True)
class TrainingAblation:
    """Everything that the trainings share.

    Attributes:
        recipe: of all of them.
        objects: K.
        groups: per object the transforms (S, 4, 4) that leave its look unchanged.
        decoder, codes: of the shapes, (K, C); the trainings do not change them.
        crops: of the training.
        imagenet: folder of the backbone's weights.
        folder: where the trainings' states are kept.
        passes: of self-training over the data set that is measured on.
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

    def trained(
        self, training: str, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[Model, dict[str, float]]:
        """A model of one of `TRAININGS` and its held-out figures; a stopped training is continued.

        Figures of coordinates are only given where they are metric.
        """
        recipe, settings = self.recipe, self.recipe.training
        torch.manual_seed(recipe.seed)
        config = network_config(recipe.network)
        size = settings.crop_px or config.crop_size
        network = CrispNetwork(
            dataclasses.replace(
                config,
                crop_size=size,
                decoder_hidden=self.decoder.hidden,
                decoder_layers=len(self.decoder.film_layers),
            )
        )
        network.decoder.load_state_dict(self.decoder.state_dict())
        crops, groups = self.crops, self.groups
        if training == "random backbone":
            settings = dataclasses.replace(settings, frozen=())
        else:
            load_imagenet_trunk(network.backbone, self.imagenet)
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
            network, self.codes, groups, crops, settings, folder, recipe.seed
        )
        trainer.run(on_step=on_step)
        figures = trainer.evaluate()
        if training == "normalised":
            figures = {name: value for name, value in figures.items() if "pnc" not in name}
        boxes = shape_boxes(self.decoder, self.codes)
        names = tuple(o.name for o in self.objects)
        library = ShapeLibrary(names, self.codes, boxes.lower, boxes.upper, tuple(self.groups))
        save_model(folder / _MODEL_NAME, Model(network, library, {"version": training}))
        return load_model(folder / _MODEL_NAME), figures

    def self_trained(
        self,
        row: Row,
        model: Model,
        dataset: BopDataset,
        on_frame: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Model, dict[str, int]]:
        """What the row's model makes of the data set's images without their labels, as in the
        paper, and the counts of the self-training; one that was stopped is continued.
        """
        learned = RecordedSelfTraining(
            copy.deepcopy(model),
            self._reference_set(row.training, model),
            SelfTrainingSettings(seed=self.recipe.seed),
            EstimatorSettings(corrector=row.corrector),
            self.folder / "self_trained" / row.key,
        )
        learned.run(
            lambda: (Frame.from_recorded(frame) for frame in bop_frames(dataset)),
            len(dataset.images),
            self.passes,
            on_frame,
        )
        after = learned.model()
        counted = after.header["self_training"]
        return after, {name: counted[name] for name in _COUNTS}

    def _reference_set(self, training: str, model: Model) -> ReferenceSet:
        """The guard's crops of these objects, kept beside the model."""
        path = reference_path(self._folder(training) / _MODEL_NAME)
        if not path.exists():
            names = {i: o.name for i, o in enumerate(self.objects, start=1)}
            frames = scattered_frames(
                {i: o.look for i, o in enumerate(self.objects, start=1)},
                [o.views for o in self.objects],
                DOMAINS["day"],
                _REFERENCE_FRAMES,
                _REFERENCE_SEED,
            )
            save_reference(path, guarded(model, reference_crops(model, frames, names)))
        return load_reference(path, model)

    def _folder(self, training: str) -> Path:
        return self.folder / training.replace(" ", "_")


def measured(
    row: Row,
    model: Model,
    dataset: BopDataset,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Figures of one row on a data set, as JSON values."""
    kind = NormalisedEstimator if row.training == "normalised" else Estimator
    estimator = kind(model, EstimatorSettings(corrector=row.corrector))
    evaluation = evaluate_bop(estimator, dataset, BopEvaluationSettings(), on_frame)
    errors = [i.add_s_m for i in evaluation.instances]
    return {
        "instances": len(evaluation.instances),
        "auc_add_s": evaluation.auc_add_s,
        "auc_e_shape": evaluation.auc_e_shape,
        "certified_share": evaluation.certified_share,
        "median_add_s_mm": float(np.median(errors)) * 1e3 if np.isfinite(errors).all() else None,
    }


def fitted_shapes(
    recipe: Recipe,
    objects: Sequence[TrainingObject],
    samples: SdfSamples,
    weights: SdfLossWeights,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float | None]:
    """How well a new decoder, fitted with these weights, has the shapes; JSON values.

    Mean over the objects of the mean and the 98 % quantile of |f_d| on the true surface and of the
    Chamfer distance, mm; None where one of the shapes has no surface at all.
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
        fit_error(decoder, code, lower, upper, o.solid, quantile, recipe.seed)
        for code, lower, upper, o in zip(codes, boxes.lower, boxes.upper, objects, strict=True)
    ]
    means = {
        f"{name[:-2]}_mm": float(np.mean([getattr(error, name) for error in errors])) * 1e3
        for name in errors[0]._fields
        if name.endswith("_m")
    }
    return {name: value if np.isfinite(value) else None for name, value in means.items()}

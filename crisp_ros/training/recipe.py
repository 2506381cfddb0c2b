"""From a folder of meshes to a model file: crops, signed distances, codes, network, in one road."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
import yaml
from torch import Tensor

from crisp_ros.data.meshes import load_mesh, mesh_files, surface_samples
from crisp_ros.geometry.symmetry import rotational_symmetries
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.network.library import ShapeLibrary, shape_boxes
from crisp_ros.network.model import CrispNetwork, build_network
from crisp_ros.synthesis.crop_set import CropSet, write_shard
from crisp_ros.synthesis.renderer import Renderer
from crisp_ros.synthesis.scenes import ScatterSettings, load_observed_poses, viewpoints

from .augment import AugmentSettings
from .losses import SdfLossWeights
from .pretrained import load_imagenet_trunk
from .sdf_samples import SdfSamples, sdf_samples
from .settings import TrainingSettings
from .shape_codes import ShapeCodeSettings, fit_shape_codes, neutral_codes
from .shape_head_fit import fit_shape_head
from .supervised import SupervisedTrainer

_FRAME_PX = (640, 480)
_SAMPLES_PER_SHAPE = 150_000

Report = Callable[[str, dict[str, float]], None]


class RecipeError(ValueError):
    """A recipe or its inputs that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; everything but the meshes themselves.

    Attributes:
        network: a name that `build_network` knows.
        shards: crop shards rendered (2048 crops each).
        first_layer_gain: raises the decoder's first layer; narrow decoders learn detail sooner.
        decoder_refinement: a second fit of the decoder alone, at fixed codes; None leaves it out.
        shape_head_steps: last, the shape head alone is trained for so many steps.
        symmetric: names of objects whose look is symmetric, for the symmetry-aware PNC loss.
        symmetry_tolerance_m: mean distance up to which a turned surface counts as the same.
    """

    network: str = "compact"
    shards: int = 14
    seed: int = 1
    first_layer_gain: float = 1.0
    shape_head_steps: int = 0
    symmetric: tuple[str, ...] = ()
    symmetry_tolerance_m: float = 0.0015
    scatter: ScatterSettings = field(default_factory=ScatterSettings)
    shape_codes: ShapeCodeSettings = field(default_factory=ShapeCodeSettings)
    decoder_refinement: ShapeCodeSettings | None = None
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=10_000))


def load_recipe(path: Path) -> Recipe:
    """Reads a YAML recipe whose keys are the fields of `Recipe` and of its parts.

    Raises:
        RecipeError: not YAML, or an unknown field.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected a mapping of recipe fields")
    try:
        return _from_values(Recipe, values)
    except TypeError as error:
        raise RecipeError(f"{path}: {error}") from error


class TrainingRun:
    """Trains a model in a folder; every stage continues where a killed run left it.

    Args:
        recipe: what to do.
        models: folder of meshes (PLY, OBJ, GLB), one object each; a BOP models_info.json beside
            them gives names.
        unit_m: length of one mesh unit, metres.
        folder: crops, samples, codes and training state.
        observed_poses: npz of observed poses by object id, or None; ids are the numbers in the
            meshes' file names.
        imagenet: folder of ImageNet weights for the compact trunk, or None for random weights.
        report: called with a stage's name and its figures.
        initial: model file to go on from, or None. Its decoder and shape codes stay; backbone and
            heads are trained further. Its library must name the same objects in the same order.

    Raises:
        MeshError: no meshes, or one that cannot be read.
        CheckpointError: the initial model cannot be read.
        RecipeError: a symmetric object that is not among them, or an initial model of another
            network or of other objects.
    """

    def __init__(
        self,
        recipe: Recipe,
        models: Path,
        unit_m: float,
        folder: Path,
        observed_poses: Path | None,
        imagenet: Path | None,
        report: Report,
        initial: Path | None = None,
    ) -> None:
        self.recipe, self.folder, self._report = recipe, folder, report
        self._imagenet, self._observed = imagenet, observed_poses
        files = mesh_files(models)
        self.names, paths = tuple(files), tuple(files.values())
        missing = sorted(set(recipe.symmetric) - set(self.names))
        if missing:
            raise RecipeError(f"symmetric objects that have no mesh: {missing}; have {self.names}")
        self._ids = [int("".join(filter(str.isdigit, p.stem)) or 0) for p in paths]
        self.meshes: list[trimesh.Trimesh] = [load_mesh(p, unit_m) for p in paths]
        self._initial = self._initial_model(initial) if initial is not None else None
        folder.mkdir(parents=True, exist_ok=True)

    def _initial_model(self, path: Path) -> Model:
        model = load_model(path)
        design = model.network.config.design
        if design != self.recipe.network:
            raise RecipeError(
                f"{path}: network {design}, but the recipe's is {self.recipe.network}"
            )
        names = model.library.names if model.library is not None else ()
        if names != self.names:
            raise RecipeError(f"{path}: knows the objects {names}, the meshes are {self.names}")
        return model

    def render_crops(self, first: int = 0, step: int = 1) -> None:
        """Renders every `step`-th missing shard from `first`; several processes can share it."""
        observed = load_observed_poses(self._observed) if self._observed else {}
        views = [
            viewpoints(m, observed.get(i)) for m, i in zip(self.meshes, self._ids, strict=True)
        ]
        renderer = Renderer(self.meshes, *_FRAME_PX)
        for number in range(first, self.recipe.shards, step):
            write_shard(
                self.folder / "crops",
                number,
                self.meshes,
                views,
                self.recipe.scatter,
                self.recipe.seed,
                renderer,
            )
            self._report("crops", {"shard": number, "of": self.recipe.shards})
        renderer.release()

    def _start(self) -> tuple[CrispNetwork, Tensor]:
        """The network to train and the codes (K, C) that its shape head is to name."""
        if self._initial is not None:
            return self._initial.network, self._initial.library.codes
        network = build_network(self.recipe.network)
        if self._imagenet is not None:
            load_imagenet_trunk(network.backbone, self._imagenet)
        return network, self.fit_codes(network)

    def fit_codes(self, network: CrispNetwork) -> Tensor:
        """Fits decoder and codes, or reads them back; returns codes (K, C)."""
        recipe, decoder = self.recipe, network.decoder
        path = self.folder / "shape_codes.pt"
        if not path.exists():
            with torch.no_grad():
                decoder.film_layers[0].weight.mul_(recipe.first_layer_gain)
            noise = recipe.shape_codes.code_noise
            codes = neutral_codes(decoder, len(self.meshes), noise, recipe.seed)
            codes = fit_shape_codes(
                decoder,
                codes,
                self._sdf_samples(),
                recipe.shape_codes,
                recipe.seed,
                report=self._steps("codes"),
            )
            _save({"decoder": decoder.state_dict(), "codes": codes}, path)
        state = torch.load(path, weights_only=True)
        decoder.load_state_dict(state["decoder"])
        if recipe.decoder_refinement is None:
            return state["codes"]
        path = self.folder / "shape_decoder.pt"
        if not path.exists():
            fit_shape_codes(
                decoder,
                state["codes"],
                self._sdf_samples(),
                recipe.decoder_refinement,
                recipe.seed + 1,
                train="decoder",
                report=self._steps("decoder"),
            )
            _save(decoder.state_dict(), path)
        decoder.load_state_dict(torch.load(path, weights_only=True))
        return state["codes"]

    def _sdf_samples(self) -> SdfSamples:
        path = self.folder / "sdf_samples.pt"
        if not path.exists():
            rng = np.random.default_rng(self.recipe.seed)
            _save(tuple(sdf_samples(self.meshes, _SAMPLES_PER_SHAPE, rng)), path)
        return SdfSamples(*torch.load(path, weights_only=True))

    def _steps(self, stage: str) -> Callable[[int, float], None]:
        return lambda step, loss: self._report(stage, {"step": step, "loss": loss})

    def symmetries(self) -> list[Tensor]:
        """Per mesh, the transforms (S, 4, 4) that leave its look unchanged."""
        rng = np.random.default_rng(self.recipe.seed)
        groups = []
        for name, mesh in zip(self.names, self.meshes, strict=True):
            group = np.eye(4)[None]
            if name in self.recipe.symmetric:
                points = surface_samples(mesh, 20_000, rng).points
                group = rotational_symmetries(points, self.recipe.symmetry_tolerance_m)
            groups.append(torch.from_numpy(group).float())
        return groups

    def train(self) -> Model:
        """Runs all stages that are not done and returns the model."""
        torch.manual_seed(self.recipe.seed)
        self.render_crops()
        network, codes = self._start()
        symmetries = self.symmetries()
        trainer = SupervisedTrainer(
            network,
            codes,
            symmetries,
            CropSet(self.folder / "crops"),
            self.recipe.training,
            self.folder / "network",
            self.recipe.seed,
        )
        trainer.run(lambda figures: self._report("network", figures))
        if self.recipe.shape_head_steps > 0:
            steps = self.recipe.shape_head_steps
            fit_shape_head(trainer, codes, steps, self.recipe.seed, self._steps("shape head"))
        network.eval()
        boxes = shape_boxes(network.decoder, codes)
        library = ShapeLibrary(self.names, codes, boxes.lower, boxes.upper, tuple(symmetries))
        figures = trainer.evaluate()
        header = {
            "recipe": dataclasses.asdict(self.recipe),
            "data": {"objects": list(self.names), "crops": len(trainer.crops)},
            "figures": figures,
        }
        if self._initial is not None:
            before = {
                k: self._initial.header.get(k) for k in ("version", "sha256", "recipe", "data")
            }
            header["initial"] = before
        return Model(network, library, json.loads(json.dumps(header)))

    def save(self, path: Path, version: str) -> Model:
        """Trains where needed and writes the model file."""
        model = self.train()
        model.header["version"] = version
        save_model(path, model)
        return model


def _save(value: Any, path: Path) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(value, temporary)
    temporary.replace(path)


_PARTS = {
    "scatter": ScatterSettings,
    "shape_codes": ShapeCodeSettings,
    "decoder_refinement": ShapeCodeSettings,
    "training": TrainingSettings,
    "augment": AugmentSettings,
    "weights": SdfLossWeights,
}


def _from_values(kind: type, values: dict[str, Any]) -> Any:
    names = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise TypeError(f"unknown fields {unknown} of {kind.__name__}; known: {sorted(names)}")
    parts = {
        name: _from_values(_PARTS[name], value)
        if name in _PARTS
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in values.items()
    }
    return kind(**parts)

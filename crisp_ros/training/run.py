"""Training run from objects to a model file: crops, signed distances, codes and network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crisp_ros.cluster import MapFunction
from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.network.library import ShapeLibrary, shape_boxes
from crisp_ros.network.model import CrispNetwork, network_config
from crisp_ros.network.shape_prior import ShapePrior
from crisp_ros.synthesis.crop_set import CropSet

from .continued import continued, differences
from .initial_weights import load_for_training
from .objects import TrainingObject, symmetries
from .photographs import photograph_source, write_photograph_shards
from .pretrained import imagenet_network
from .processes import Processes
from .recipe import Recipe, RecipeError
from .rendered_crops import render_crops
from .saved_state import save_state
from .sdf_samples import SdfSamples
from .sdf_samples import sdf_samples as samples_around
from .shape_codes import neutral_codes
from .shape_head_fit import fit_shape_head
from .shape_stage import fitted_codes, mean_crop_codes
from .sources import TrainingSources
from .stage_times import StageTimes
from .supervised import ShapeTargets, SupervisedTrainer, crop_split
from .surface_colors import mesh_surface_colors

_SAMPLES_PER_SHAPE = 150_000
_SAMPLES = 20_000_000  # of all shapes together, at most
_SPLIT_SHARDS = 2000  # room for the shards of one split of photographs
# Seconds of one core with the compact network; only how they compare matters.
_SHARD_CROP_S = 0.016
_CODE_STEP_S = 0.008  # a shape
_LATENT_STEP_S = 0.0035  # the same, of batches of shapes
_STEP_CROP_S = 0.016
_HEAD_CROP_S = 0.005  # features of all crops come before the first step
_HEAD_STEP_S = 0.01
_BOX_S = 1.3

Report = Callable[[str, dict[str, float]], None]
OnProgress = Callable[[str, int, int], None]


class TrainingRun:
    """Train a model in a folder; every stage continues where a killed run left it.

    Args:
        recipe: what to do.
        objects: what to do it for.
        folder: crops, samples, codes and training state; shared by all processes.
        sources: files that it starts from; by default none.
        processes: those that train together.
        report: called with a stage's name and its figures.
        mapped: renders the crops; see `crisp_ros.cluster.mapping`.

    Attributes:
        on_progress: called with a stage's name, the number of its steps done and their total; a
            stage's first call says where it stands. May be set.

    Raises:
        CheckpointError: a model file cannot be read.
        RecipeError: a symmetric object that is not among the objects, photographs without a data
            set, a batch that the processes cannot share evenly, a model file of another network,
            more than one source of weights or none for a backbone that is frozen, or a folder of
            another run.
    """

    def __init__(
        self,
        recipe: Recipe,
        objects: Sequence[TrainingObject],
        folder: Path,
        sources: TrainingSources | None = None,
        processes: Processes | None = None,
        report: Report = lambda stage, figures: None,
        mapped: MapFunction = map,
    ) -> None:
        self.recipe, self.objects, self.folder = recipe, tuple(objects), folder
        self.names = tuple(o.name for o in objects)
        sources = sources or TrainingSources()
        photographs, weights = sources.photographs, sources.weights
        self._photographs, self._imagenet = photographs, weights.imagenet
        self._processes = processes or Processes()
        self._report, self._mapped = report, mapped
        self.on_progress: OnProgress = lambda stage, done, total: None
        self._times = StageTimes(folder / "seconds.json")
        self._processes.share(recipe.training.batch)
        if not isinstance(recipe.symmetric, str):
            missing = sorted(set(recipe.symmetric) - set(self.names))
            if missing:
                raise RecipeError(
                    f"symmetric objects that have no mesh: {missing}; have {self.names}"
                )
        if recipe.photographs and photographs is None:
            raise RecipeError(
                f"the recipe's photographs {list(recipe.photographs)} need a data set"
            )
        weights.check(recipe.network)
        self._backbone = weights.backbone and load_for_training(weights.backbone, recipe.network)
        self._initial = weights.initial and load_for_training(weights.initial, recipe.network)
        folder.mkdir(parents=True, exist_ok=True)
        if self._processes.is_first:
            self._check_folder()

    def expected_seconds(self) -> dict[str, float]:
        """Return the expected cost of each stage, for the remaining time; see `TimeLeft`."""
        recipe, count = self.recipe, len(self.objects)
        crops = recipe.shard_crops * max(1, recipe.shards)
        steps = recipe.training.total_steps(max(1, recipe.shards * recipe.shard_crops))
        expected = {
            "crops": _SHARD_CROP_S * crops,
            "network": _STEP_CROP_S * recipe.training.batch * steps,
            "boxes": _BOX_S * count,
        }
        if self._fits_codes():
            refinement, latents = recipe.decoder_refinement, recipe.shape_latents
            code_steps = recipe.shape_codes.steps + (refinement.steps if refinement else 0)
            expected["shapes"] = _CODE_STEP_S * count * code_steps
            if latents is not None:
                expected["shapes"] = _LATENT_STEP_S * min(latents.batch, count) * latents.steps
        if recipe.shape_head_steps > 0:
            head_s = _HEAD_CROP_S * crops + _HEAD_STEP_S * recipe.shape_head_steps
            expected["shape head"] = head_s
        return expected

    def render_crops(self) -> None:
        """Render the missing shards of crops; processes that train together share them."""
        if self.recipe.shards == 0:
            return
        rank, count = self._processes.rank, self._processes.count
        render_crops(
            self.folder / "crops",
            range(rank, self.recipe.shards, count),
            self.objects,
            self.recipe,
            lambda done, total: self.on_progress("crops", done, total),
            self._mapped,
        )

    def cut_photographs(self) -> None:
        """Cut the recipe's photographs into shards of crops; the first process alone."""
        for number, split in enumerate(self.recipe.photographs):
            looks = {o.name: o.look for o in self.objects}
            write_photograph_shards(
                self.folder / "crops",
                photograph_source(self.recipe.layout, self._photographs, split, looks),
                self.names,
                self.recipe.shards + _SPLIT_SHARDS * number,
                self.recipe.stored_px,
                lambda done, total: self.on_progress("crops", done, total),
            )

    def train(self) -> Model | None:
        """Run all stages that are not done and return the model; None in all other processes."""
        recipe, processes = self.recipe, self._processes
        torch.manual_seed(recipe.seed)
        with self._timed("crops"):
            self.render_crops()
            if processes.is_first:
                self.cut_photographs()
            processes.wait()
        crops = CropSet(self.folder / "crops")
        crop_split(crops.mesh, recipe.training)  # too few are refused before shapes are fitted
        network = self._network().to(processes.device)
        with self._timed("shapes"):
            codes = self._target_codes(network)
        found = symmetries(self.objects, recipe.symmetric, recipe.symmetry_tolerance_m, recipe.seed)
        groups = [torch.from_numpy(group).float() for group in found]
        trainer = SupervisedTrainer(
            network,
            ShapeTargets(groups, codes, self.sdf_samples() if codes is None else None),
            crops,
            recipe.training,
            self.folder / "network",
            recipe.seed,
            processes,
        )
        with self._timed("network"):
            self.on_progress("network", trainer.step, trainer.steps)
            trainer.run(
                lambda figures: self._report("network", figures),
                lambda done, total: self.on_progress("network", done, total),
            )
        if not processes.is_first:
            return None
        known = dict(enumerate(() if codes is None else codes))
        if codes is None:
            known = mean_crop_codes(trainer, len(self.objects))
        elif recipe.shape_head_steps > 0:
            steps = recipe.shape_head_steps
            self.on_progress("shape head", 0, steps)
            with self._timed("shape head"):
                fit_shape_head(
                    trainer,
                    codes,
                    steps,
                    recipe.seed,
                    lambda step, loss: self.on_progress("shape head", step, steps),
                )
            self.on_progress("shape head", steps, steps)
        return self._model(trainer, known, groups)

    def save(
        self, path: Path, version: str, about: Mapping[str, Any] | None = None
    ) -> Model | None:
        """Train where needed and write the model file; the first process alone does.

        Args:
            path: the file.
            version: of the model.
            about: goes into the header as well, such as the machine.
        """
        model = self.train()
        if model is not None:
            model.header.update({"version": version, **(about or {})})
            save_model(path, model)
        return model

    def _model(
        self, trainer: SupervisedTrainer, codes: dict[int, Tensor], groups: list[Tensor]
    ) -> Model:
        figures = {**trainer.evaluate(), "held_out_pnc_mm_of": trainer.errors(self.names)}
        network = trainer.network.cpu().eval()
        rows = torch.stack(list(codes.values())).cpu()
        self.on_progress("boxes", 0, len(rows))
        with self._timed("boxes"):
            boxes = shape_boxes(
                network.decoder, rows, lambda done, total: self.on_progress("boxes", done, total)
            )
        names = tuple(self.names[k] for k in codes)
        header = {
            "recipe": dataclasses.asdict(self.recipe),
            "data": {
                "objects": list(names),
                "crops": len(trainer.crops),
                "meshes": [
                    {
                        "name": o.name,
                        "file": o.source,
                        "sha256": o.digest,
                        "origin_in_object_frame_m": o.shift.tolist(),
                        "symmetries": len(group),
                        "notes": list(o.notes),
                    }
                    for o, group in zip(self.objects, groups, strict=True)
                ],
            },
            "figures": figures,
            "seconds": self._times.to_json(),
        }
        for name, source in (("backbone", self._backbone), ("initial", self._initial)):
            if source is not None:
                before = ("version", "sha256", "recipe", "data")
                header[name] = {key: source.header.get(key) for key in before}
        latents, prior, library = self.recipe.shape_latents, None, None
        if latents is not None and self._fits_codes():
            kinds = [name.rstrip("0123456789").rstrip("_") for name in names]
            prior = ShapePrior.of_codes(rows, latents.prior_dimensions or latents.dimensions)
            prior = prior.with_examples(rows, kinds, boxes.lower.cpu(), boxes.upper.cpu())
        if self.recipe.keep_library or prior is None:
            looks = (self.objects[k].look for k in codes)
            library = ShapeLibrary(
                names,
                rows,
                boxes.lower,
                boxes.upper,
                tuple(groups[k] for k in codes),
                tuple(mesh_surface_colors(look, self.recipe.seed) for look in looks),
            )
        return Model(network, library, json.loads(json.dumps(header)), prior)

    def _known(self) -> ShapeLibrary | None:
        """The initial model's library where it has all these objects."""
        library = self._initial.library if self._initial is not None else None
        return library if library is not None and set(self.names) <= set(library.names) else None

    def _fits_codes(self) -> bool:
        return self.recipe.training.sdf is None and self._known() is None

    def _network(self) -> CrispNetwork:
        if self._initial is not None:
            return self._initial.network
        config = network_config(self.recipe.network)
        if self.recipe.training.crop_px:
            config = dataclasses.replace(config, crop_size=self.recipe.training.crop_px)
        if self._imagenet is not None:
            network = imagenet_network(config, self._imagenet)
        else:
            network = CrispNetwork(config)
        if self._backbone is not None:
            network.backbone.load_state_dict(self._backbone.network.backbone.state_dict())
        if self.recipe.training.sdf is not None:
            # The decoder starts unmodulated, as it does where codes are fitted.
            with torch.no_grad():
                network.decoder.film_layers[0].weight.mul_(self.recipe.first_layer_gain)
                network.shape_head.layers[-1].bias.copy_(neutral_codes(network.decoder, 1, 0, 0)[0])
        return network

    def _target_codes(self, network: CrispNetwork) -> Tensor | None:
        """Codes (K, C) that the shape head is to name; None where the decoder learns with it."""
        processes = self._processes
        if self.recipe.training.sdf is not None:
            if processes.is_first:
                self.sdf_samples()
            processes.wait()
            return None
        known = self._known()
        if known is not None:
            rows = [known.names.index(name) for name in self.names]
            return known.codes[rows].to(processes.device)

        def codes() -> Tensor:
            library = self._initial.library if self._initial is not None else None
            return fitted_codes(
                network.decoder,
                None if library is None else library.codes.to(processes.device),
                lambda: SdfSamples(*(p.to(processes.device) for p in self.sdf_samples())),
                len(self.objects),
                self.recipe,
                self.folder,
                lambda done, total: self.on_progress("shapes", done, total),
            )

        # The first process fits, the others read what it wrote.
        if processes.is_first:
            codes()
        processes.wait()
        return codes()

    def sdf_samples(self) -> SdfSamples:
        """Points around the objects, made once."""
        path = self.folder / "sdf_samples.pt"
        if not path.exists():
            rng = np.random.default_rng(self.recipe.seed)
            solids = [o.solid for o in self.objects]
            each = min(_SAMPLES_PER_SHAPE, _SAMPLES // len(solids))
            save_state(tuple(samples_around(solids, each, rng)), path)
        return SdfSamples(*torch.load(path, weights_only=True))

    def _check_folder(self) -> None:
        """Write what the folder's files depend on, or compare it with what another run wrote."""
        own = {
            "recipe": dataclasses.asdict(self.recipe),
            "objects": {o.name: _identity(o) for o in self.objects},
            "initial": self._initial.header["sha256"] if self._initial else None,
            "backbone": self._backbone.header["sha256"] if self._backbone else None,
            "imagenet": self._imagenet is not None,
        }
        own = json.loads(json.dumps(own))
        path = self.folder / "run.json"
        if path.exists():
            there = json.loads(path.read_text())
            if "recipe" in there:
                recipe, training = there["recipe"], own["recipe"]["training"]
                recipe["training"] = continued(recipe["training"], training)
            differing = differences(there, own)
            if differing:
                raise RecipeError(
                    f"{self.folder}: holds another run, which differs in {differing}:"
                    " name another folder, or remove it"
                )
        write_atomically(path, json.dumps(own, indent=1) + "\n")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Keep the time that the first process takes for a stage."""
        if not self._processes.is_first:
            yield
            return
        on_progress = self.on_progress
        with self._times.timed(stage) as still_at_it:

            def report(stage: str, done: int, total: int) -> None:
                on_progress(stage, done, total)
                still_at_it()

            self.on_progress = report
            try:
                yield
            finally:
                self.on_progress = on_progress


def _identity(known: TrainingObject) -> dict[str, Any]:
    """Return what crops, samples and codes of an object depend on, as JSON values."""
    observed = known.views.observed.round(6)
    return {
        "sha256": known.digest,
        "extents_m": known.look.extents.round(6).tolist(),
        "shift_m": known.shift.round(6).tolist(),
        "observed_poses": hashlib.sha256(observed).hexdigest() if len(observed) else None,
    }

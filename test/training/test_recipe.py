"""The recipes of config/training: the paper's hyperparameters, and each trains at tiny size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from drawing import needs_egl
from prior_latents import latents_of
from small_nocs import write_small_nocs
from small_spe3r import write_small_spe3r
from tiny_bop import tiny_frames, write_tiny_bop

from crisp_ros.data.bop_writer import write_frames
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.network.checkpoint import load_model
from crisp_ros.share import share_directory
from crisp_ros.synthesis.spe3r_maps import write_maps
from crisp_ros.training import photographs
from crisp_ros.training.initial_weights import WeightSource
from crisp_ros.training.model_card import model_card
from crisp_ros.training.objects import TrainingObject, data_objects, training_objects
from crisp_ros.training.recipe import Recipe, RecipeError, load_recipe
from crisp_ros.training.run import TrainingRun
from crisp_ros.training.sources import TrainingSources
from crisp_ros.training.training_settings import TrainingSettings

FOLDER = share_directory() / "config" / "training"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

# Appendix D.1: alpha, beta, learning rate, weight decay, batch, epochs, schedule, factor.
PAPER = {
    "ycbv_syn": (5e3, 0.1, 3e-4, 1e-5, 16, 500, "constant", 1.0),
    "ycbv_real": (5e3, 0.1, 3e-4, 1e-5, 10, 50, "constant", 1.0),
    "spe3r": (50.0, 1.0, 1e-4, 1e-6, 16, 100, "restarts", 2.0),
    "nocs": (50.0, 1.0, 1e-4, 1e-6, 16, 50, "restarts", 1.0),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_hyperparameters(name: str) -> None:
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    training = recipe.training
    assert PAPER[name] == (
        training.pnc_weight,
        training.sdf.weight,
        training.learning_rate,
        training.weight_decay,
        training.batch,
        training.epochs,
        training.schedule,
        training.restart_factor,
    )
    weights = training.sdf.weights
    assert (weights.distance, weights.off_surface, weights.eikonal) == (3e3, 2e2, 50.0)
    sdf = training.sdf
    assert (sdf.surface_points, sdf.near_points, sdf.volume_points) == (1500, 1500, 4000)
    assert training.optimiser == "adam" and training.pnc_zeta_m == 0.1
    assert training.warmup == 0 and training.restart_every == 4000
    assert training.clip_norm is None and weights.eikonal_stride == 1
    assert recipe.network == "dinov2_vits14"


def test_ycbv_syn_learns_from_4200_renders() -> None:
    recipe = load_recipe(FOLDER / "ycbv_syn.yaml")
    assert recipe.shards * recipe.shard_crops - recipe.training.held_out_crops == 4200


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("- 1", "expected a mapping"),
        ("{", "not YAML"),
        ("sharts: 3", r"unknown fields \['sharts'\] of Recipe"),
        ("training: {steps: 1, rate: 2}", r"unknown fields \['rate'\] of TrainingSettings"),
        ("training: 3", "expected fields of TrainingSettings"),
        ("training: {batch: 3}", "either steps or epochs"),
        ("network: resnet", "network 'resnet'"),
        ("shards: 0", "at least one shard or split"),
        ("layout: coco", "expected bop, spe3r or nocs"),
        ("symmetric: bowl", "a list of names, auto, shape or listed"),
        ("symmetric: 3", "symmetric is 3: expected a list of words or auto"),
        ("seed: 1.5", "seed is 1.5: expected a whole number"),
        ("seed: -1", "seed is -1: expected at least 0"),
        ("first_layer_gain: .nan", "first_layer_gain is nan: expected a number"),
        ("scatter: {objects: 6}", "scatter: objects is 6: expected a list of 2 numbers"),
        ("scatter: {objects: [9, 6]}", r"scatter: objects is \(9, 6\): expected two positive ends"),
        ("shape_codes: {steps: 0}", "shape_codes: steps is 0: expected at least 1"),
        (
            "training: {steps: 1, augment: {scale: 1.0}}",
            "training: augment: scale is 1.0: expected a list of 2 numbers",
        ),
        (
            "training: {steps: 1, augment: {scale: [1.0, x]}}",
            r"training: augment: scale is \[1.0, 'x'\]: expected a list of 2 numbers",
        ),
        ("training: {steps: 1, clip_norm: yes}", "clip_norm is True: expected a number or null"),
        ("training: {steps: 1, learning_rate: 1e-3}", "learning_rate is '1e-3': expected a number"),
        ("training: {steps: 1, frozen: backbone.}", "frozen is 'backbone.': expected a list of"),
        ("training: {steps: 1, bfloat16: 1}", "bfloat16 is 1: expected true or false"),
        ("training: {steps: 1, crop_px: 33}", "crop_px is 33: expected a multiple of 2"),
        ("{shards: 1, shard_crops: 8}", "8 crops in all shards: .* and the 1024"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=complaint) as raised:
        load_recipe(path)
    assert str(path) in str(raised.value)


def test_a_recipe_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(path)


HouseholdRun = tuple[Recipe, list[TrainingObject]]


def tiny(recipe: Recipe, names: tuple[str, ...]) -> Recipe:
    """The recipe with everything that takes time cut down; its road stays."""
    sdf = recipe.training.sdf
    training: TrainingSettings = dataclasses.replace(
        recipe.training,
        steps=2,
        epochs=None,
        batch=2,
        crop_px=32,
        held_out_crops=2,
        evaluate_every=2,
        sdf=sdf and dataclasses.replace(sdf, surface_points=8, near_points=8, volume_points=8),
    )
    fit = dataclasses.replace(recipe.shape_codes, steps=5)
    return dataclasses.replace(
        recipe,
        network="compact",
        shards=min(recipe.shards, 1),
        shard_crops=8,
        stored_px=48,
        symmetric=names[:1] if isinstance(recipe.symmetric, tuple) else recipe.symmetric,
        shape_codes=fit,
        decoder_refinement=recipe.decoder_refinement and fit,
        shape_latents=recipe.shape_latents
        and dataclasses.replace(
            recipe.shape_latents, dimensions=1, prior_dimensions=None, steps=5, save_every=5
        ),
        shape_head_steps=min(recipe.shape_head_steps, 2),
        training=training,
    )


@pytest.fixture(scope="module")
def egl() -> None:
    needs_egl()


@pytest.fixture(scope="module")
def bop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_bop(tmp_path_factory.mktemp("tiny"))
    write_frames(folder, tiny_frames(), "train_real")
    return folder


@pytest.fixture(scope="module")
def spe3r(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_small_spe3r(tmp_path_factory.mktemp("spe3r"))
    write_maps(Spe3rDataset(folder, "all"))
    return folder


@pytest.fixture(scope="module")
def nocs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_nocs(tmp_path_factory.mktemp("nocs"))


@pytest.mark.usefixtures("egl")
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_trains_a_few_steps(
    name: str,
    bop: Path,
    spe3r: Path,
    nocs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(photographs, "MIN_VISIBLE_PX", 60)
    monkeypatch.setattr("crisp_ros.training.run._SAMPLES_PER_SHAPE", 300)
    recipe = load_recipe(FOLDER / f"{name}.yaml")
    data = {"bop": bop, "spe3r": spe3r, "nocs": nocs}[recipe.layout]
    if recipe.layout == "nocs":  # the small data set has no training images of CAMERA
        recipe = dataclasses.replace(recipe, photographs=("camera_val", "real_train"))
    if recipe.photographs:
        objects = data_objects(recipe.layout, data, recipe.photographs)
    else:
        objects = training_objects(bop / "models")
    recipe = dataclasses.replace(tiny(recipe, tuple(o.name for o in objects)), keep_library=True)
    run = TrainingRun(
        recipe, objects, tmp_path / "run", TrainingSources(data if recipe.photographs else None)
    )
    model = run.save(tmp_path / "model.safetensors", "0.1.0")
    read = load_model(tmp_path / "model.safetensors")
    assert read.library.names == model.library.names and len(model.library) >= 2
    assert read.network.crop_size == 32
    figures = read.header["figures"]
    assert ("held_out_sdf_mm" in figures) == (recipe.training.sdf is not None)
    assert f"network `{recipe.network}`" in model_card(read.header, "model.safetensors")


@pytest.fixture
def household(bop: Path, egl: None, monkeypatch: pytest.MonkeyPatch) -> HouseholdRun:
    """The recipe of the household model, cut down, and objects for it."""
    monkeypatch.setattr("crisp_ros.training.run._SAMPLES_PER_SHAPE", 300)
    objects = training_objects(bop / "models")
    return tiny(load_recipe(FOLDER / "household.yaml"), tuple(o.name for o in objects)), objects


def test_the_household_model_has_a_prior_and_listed_symmetries(
    household: HouseholdRun, tmp_path: Path
) -> None:
    recipe, objects = household
    assert not recipe.keep_library
    recipe = dataclasses.replace(recipe, keep_library=True)
    TrainingRun(recipe, objects, tmp_path / "run").save(tmp_path / "model.safetensors", "0.1.0")
    read = load_model(tmp_path / "model.safetensors")
    assert read.prior.dimensions == 1
    codes = read.prior.code(latents_of(read.prior, read.library.codes))
    assert torch.allclose(codes, read.library.codes, atol=1e-4)
    for known, group in zip(objects, read.library.symmetries, strict=True):
        assert len(group) == len(known.listed_symmetries)
    assert max(len(group) for group in read.library.symmetries) > 1


def test_shapes_that_stand_for_others_are_no_library(
    household: HouseholdRun, tmp_path: Path
) -> None:
    recipe, objects = household
    two = dataclasses.replace(recipe.shape_latents, dimensions=2, prior_dimensions=1)
    recipe = dataclasses.replace(recipe, shape_latents=two)
    run = TrainingRun(recipe, objects, tmp_path / "run")
    stages = []
    run.on_progress = lambda stage, done, total: stages.append((stage, done, total))
    run.save(tmp_path / "model.safetensors", "0.1.0")
    read = load_model(tmp_path / "model.safetensors")
    assert read.library is None
    assert read.prior.examples.latents.shape == (len(objects), 1)
    assert read.header["data"]["objects"] == [o.name for o in objects]
    assert stages[-1] == ("boxes", len(objects), len(objects))


def test_shapes_that_a_model_knew_stay_in_its_library(
    household: HouseholdRun, tmp_path: Path
) -> None:
    """Their codes are not fitted again, so that they get no prior, and would be lost."""
    recipe, objects = household
    first = dataclasses.replace(recipe, keep_library=True)
    TrainingRun(first, objects, tmp_path / "first").save(tmp_path / "first.safetensors", "0.1.0")
    known = WeightSource(initial=tmp_path / "first.safetensors")
    again = TrainingRun(recipe, objects, tmp_path / "again", TrainingSources(weights=known))
    model = again.save(tmp_path / "again.safetensors", "0.2.0")
    assert model.prior is None
    assert model.library.names == tuple(o.name for o in objects)


def test_a_run_that_keeps_no_shapes_is_refused():
    with pytest.raises(ValueError, match="keep_library"):
        Recipe(keep_library=False)

"""Continuation of a run folder: what is accepted, and what is refused at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.network.model import CrispNetwork, build_network
from crisp_ros.training.initial_weights import WeightSource
from crisp_ros.training.objects import TrainingObject, training_objects
from crisp_ros.training.recipe import Recipe, RecipeError
from crisp_ros.training.run import TrainingRun
from crisp_ros.training.sources import TrainingSources
from crisp_ros.training.training_settings import TrainingSettings

RECIPE = Recipe(training=TrainingSettings(steps=4, save_every=2))


@pytest.fixture
def meshes(tmp_path: Path) -> Path:
    folder = tmp_path / "meshes"
    folder.mkdir()
    for name, z in (("brick", 0.1), ("plank", 0.02)):
        box = trimesh.creation.box((0.2, 0.08, z)).apply_translation((0.0, 0.0, z / 2))
        box.export(folder / f"{name}.ply")
    return folder


def begin(recipe: Recipe, objects: tuple[TrainingObject, ...], folder: Path) -> TrainingRun:
    return TrainingRun(recipe, objects, folder / "run")


def training(**changes: object) -> Recipe:
    return dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, **changes))


def test_a_continued_run_may_change_steps_and_intervals(meshes: Path, tmp_path: Path) -> None:
    objects = training_objects(meshes)
    begin(RECIPE, objects, tmp_path)
    begin(RECIPE, training_objects(meshes), tmp_path)
    begin(training(steps=6, save_every=3, evaluate_every=7), objects, tmp_path)
    with pytest.raises(RecipeError, match=r"differs in recipe\.training\.steps:"):
        begin(RECIPE, objects, tmp_path)


@pytest.mark.parametrize(
    "recipe, names",
    [
        (training(steps=3), r"recipe\.training\.steps"),
        (training(steps=None, epochs=9), r"recipe\.training\.epochs, recipe\.training\.steps"),
        (training(learning_rate=1.0), r"recipe\.training\.learning_rate"),
        (dataclasses.replace(RECIPE, shards=15), r"recipe\.shards"),
        (dataclasses.replace(RECIPE, symmetric="auto"), r"recipe\.symmetric"),
        (
            dataclasses.replace(
                RECIPE, shape_codes=dataclasses.replace(RECIPE.shape_codes, steps=9_000)
            ),
            r"recipe\.shape_codes\.steps",
        ),
    ],
)
def test_a_folder_of_another_recipe_is_refused(
    meshes: Path, tmp_path: Path, recipe: Recipe, names: str
) -> None:
    objects = training_objects(meshes)
    begin(RECIPE, objects, tmp_path)
    with pytest.raises(RecipeError, match=rf"holds another run, which differs in {names}:"):
        begin(recipe, objects, tmp_path)


def test_a_folder_of_other_units_frames_or_views_is_refused(meshes: Path, tmp_path: Path) -> None:
    poses = tmp_path / "poses.npz"
    np.savez(poses, **{"1/0": [[1.0, 0, 0, 0, 0, 0, 1]]})
    begin(RECIPE, training_objects(meshes, "m", "box"), tmp_path)
    begin(RECIPE, training_objects(meshes, None, None), tmp_path)
    for objects, name in (
        (training_objects(meshes, "cm", "box"), r"objects\.brick\.extents_m"),
        (training_objects(meshes, "m", "mesh"), r"objects\.brick\.shift_m"),
        (training_objects(meshes, "m", "box", poses), r"objects\.brick\.observed_poses"),
        (training_objects(meshes, "m", "box")[:1], r"objects\.plank"),
    ):
        with pytest.raises(RecipeError, match=name):
            begin(RECIPE, objects, tmp_path)


def write_model(path: Path) -> CrispNetwork:
    torch.manual_seed(7)
    network = build_network("compact")
    save_model(path, Model(network, None, {"version": "2.0.0"}), torch.float32)
    return network


def test_a_backbone_is_loaded_without_heads_and_decoder(meshes: Path, tmp_path: Path) -> None:
    given = write_model(tmp_path / "other.safetensors").state_dict()
    source = WeightSource(backbone=tmp_path / "other.safetensors")
    objects = training_objects(meshes)
    run = TrainingRun(RECIPE, objects, tmp_path / "run", TrainingSources(weights=source))
    torch.manual_seed(1)
    network = run._network()
    assert network.crop_size == RECIPE.training.crop_px
    for name, value in network.state_dict().items():
        is_given = torch.equal(value, given[name])
        assert is_given == name.startswith("backbone.") or value.unique().numel() == 1, name
    with pytest.raises(RecipeError, match="differs in backbone:"):
        begin(RECIPE, objects, tmp_path)


@pytest.mark.parametrize(
    "network, sources, complaint",
    [
        ("dinov2_vits14", (), "name one by --backbone, or by --from"),
        ("dinov2_vits14", ("backbone",), "network compact, but the recipe's is dinov2_vits14"),
        ("dinov2_vits14", ("imagenet",), "weights of the network compact, not of dinov2_vits14"),
        ("compact", ("backbone", "initial"), "--backbone and --from: weights come from one"),
        ("compact", ("imagenet", "initial"), "--imagenet and --from: weights come from one"),
    ],
)
def test_weights_come_from_one_source_that_fits_the_network(
    meshes: Path, tmp_path: Path, network: str, sources: tuple[str, ...], complaint: str
) -> None:
    write_model(tmp_path / "other.safetensors")
    recipe = dataclasses.replace(training(crop_px=0), network=network)
    given = dict.fromkeys(sources, tmp_path / "other.safetensors")
    with pytest.raises(RecipeError, match=complaint):
        TrainingRun(
            recipe,
            training_objects(meshes),
            tmp_path / "run",
            TrainingSources(weights=WeightSource(**given)),
        )
    assert not (tmp_path / "run").exists()

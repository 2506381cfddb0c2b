"""Checks of data sets: kinds, facts, and every problem at once, each with its file."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import Damage, cut, edit, paint, remove, write
from drawing import needs_egl
from small_nocs import write_small_nocs
from small_spe3r import write_small_spe3r
from tiny_bop import HEIGHT, WIDTH, tiny_frames, write_tiny_bop

from crisp_ros.data.bop import BopDataset, BopImage
from crisp_ros.data.bop_writer import write_frames
from crisp_ros.data.files import DatasetError
from crisp_ros.data.health import check_dataset, detect_kind


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    needs_egl()
    folder = tmp_path_factory.mktemp("sound")
    return {
        "bop": write_tiny_bop(folder / "bop"),
        "spe3r": write_small_spe3r(folder / "spe3r", 2),
        "nocs": write_small_nocs(folder / "nocs"),
    }


def test_sound_data_sets_have_no_problem(sound: dict[str, Path]) -> None:
    for kind, folder in sound.items():
        assert detect_kind(folder) == kind
        health = check_dataset(folder)
        assert health.problems == [] and health.kind == kind
    assert check_dataset(sound["bop"]).facts == {
        "models": "3", "test": "3 images of 2 scenes", "test, instances": "7 of 3 objects",
    }  # fmt: skip
    assert check_dataset(sound["spe3r"]).facts == {
        "satellites": "3", "images": "6", "with depth and coordinate maps": "0",
    }  # fmt: skip
    facts = check_dataset(sound["nocs"]).facts
    assert facts["real_test"] == "2 images of 1 scenes, 2 with published poses"
    assert facts["real_train, instances"] == "1 bottle, 1 mug, 1 laptop"


def test_every_split_is_checked_and_each_second_image_on_demand(tmp_path: Path) -> None:
    write_tiny_bop(tmp_path)
    write_frames(tmp_path, tiny_frames()[:2], "train_pbr")
    calls: list[tuple[int, int]] = []
    health = check_dataset(tmp_path, 2, lambda *call: calls.append(call))
    assert health.facts["train_pbr"] == "2 images of 1 scenes"
    assert calls == [(1, 2), (2, 2), (1, 1)]


def test_missing_and_unannotated_targets_are_reported(tmp_path: Path) -> None:
    write_tiny_bop(tmp_path)
    entry = {"obj_id": 1, "inst_count": 1}
    targets = [{"scene_id": s, "im_id": i, **entry} for s, i in ((1, 3), (48, 1))]
    targets.append({"scene_id": 1, "im_id": 3, "obj_id": 77, "inst_count": 1})
    (tmp_path / "test_targets_bop19.json").write_text(json.dumps(targets))
    health = check_dataset(tmp_path)
    assert health.facts["test"] == "1 images of 1 scenes, 1 targets elsewhere"
    (problem,) = health.problems
    assert "object 77 is a target, but not annotated" in problem


SCENE = "test/000001/"


def unlabel(folder: Path) -> None:
    """An instance that is said to be visible without a pixel of its own."""
    paint(SCENE + "mask_visib/000003_000002.png", np.zeros((HEIGHT, WIDTH), np.uint8))(folder)


BOP_FLAWS: dict[str, tuple[Damage, int]] = {
    "rgb/000003.png: expected an image": (cut(SCENE + "rgb/000003.png"), 1),
    "scene_gt.json: not readable": (cut(SCENE + "scene_gt.json"), 1),
    "obj_000002.ply: not a readable mesh|obj_000002.ply: no faces|obj_000002.ply": (
        write("models/obj_000002.ply", "ply\n"), 1,
    ),
    "its depth is .* off its pose": (
        edit(SCENE + "scene_camera.json", lambda c: c["3"].update(depth_scale=1.0)), 3,
    ),
    "obj_000001.ply: its box is .* off": (
        edit("models/models_info.json", lambda c: c["1"].update(size_x=0.1)), 1,
    ),
    "object 9: expected a model of it": (
        edit(SCENE + "scene_gt.json", lambda c: c["3"][0].update(obj_id=9)), 1,
    ),
    "object 5: its mask is empty": (unlabel, 1),
    "no split; expected test/": (remove("test"), 1),
}  # fmt: skip


@pytest.mark.parametrize("message", BOP_FLAWS)
def test_problems_of_a_bop_folder(tmp_path: Path, message: str) -> None:
    import re

    damage, number = BOP_FLAWS[message]
    write_tiny_bop(tmp_path)
    damage(tmp_path)
    problems = check_dataset(tmp_path).problems
    assert len(problems) == number, problems
    assert all(re.search(message, problem) and str(tmp_path) in problem for problem in problems)


@pytest.mark.parametrize("orientation, size", [(3, None), (6, None), (1, "sound")])
def test_an_exif_orientation_is_ignored_and_reported(
    tmp_path: Path, orientation: int, size: str | None
) -> None:
    """As depth and masks have none, the stored pixels of all three count."""
    from PIL import Image

    write_tiny_bop(tmp_path)
    path = tmp_path / SCENE / "rgb/000003.png"
    image = Image.open(path).convert("RGB")
    stored = BopDataset(tmp_path).frame(BopImage(1, 3)).rgb
    path.unlink()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path.with_suffix(".jpg"), quality=100, subsampling=0, exif=exif)
    read = BopDataset(tmp_path).frame(BopImage(1, 3)).rgb
    assert read.shape == stored.shape
    assert np.abs(read.astype(int) - stored).mean() < 2
    problems = check_dataset(tmp_path).problems
    if size == "sound":
        assert problems == []
    else:
        (problem,) = problems
        assert f"000003.jpg: EXIF orientation {orientation}" in problem


def test_all_problems_are_found_in_one_go(tmp_path: Path) -> None:
    write_tiny_bop(tmp_path)
    write_frames(tmp_path, [replace(f, scene_id=9) for f in tiny_frames()[:2]])
    for path in ("test/000001/rgb/000012.png", "test/000009/depth/000003.png"):
        (tmp_path / path).unlink()
    (tmp_path / "models/obj_000005.ply").write_text("x")
    assert len(check_dataset(tmp_path).problems) == 3


def test_problems_of_spe3r_and_nocs(sound: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(sound["spe3r"], tmp_path / "spe3r")
    cut("drum/images/img000001.jpg")(tmp_path / "spe3r")
    write("cubesat/models/model_normalized.obj", "")(tmp_path / "spe3r")
    first, second = check_dataset(tmp_path / "spe3r").problems
    assert "cubesat/models/model_normalized.obj" in first and "img000001.jpg" in second

    shutil.copytree(sound["nocs"], tmp_path / "nocs")
    remove("Real/test/scene_1/0001_mask.png")(tmp_path / "nocs")
    write("obj_models/real_train/mug_a_norm.obj", "")(tmp_path / "nocs")
    remove("CAMERA")(tmp_path / "nocs")
    problems = check_dataset(tmp_path / "nocs").problems
    assert len(problems) == 2
    assert any("0001_mask.png" in p for p in problems)
    assert any("real_train/mug_a_norm.obj" in p for p in problems)


def test_a_folder_of_no_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no known data set: expected models/"):
        detect_kind(tmp_path)
    with pytest.raises(DatasetError, match="absent: no such folder"):
        check_dataset(tmp_path / "absent")

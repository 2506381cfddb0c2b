"""`crisp ablate`: studies that are made, reported and continued; bad input in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import trimesh
from tiny_bop import write_tiny_bop

from crisp_ros.cli.main import main
from crisp_ros.data.bop_writer import write_models
from crisp_ros.network.checkpoint import load_model, save_model
from crisp_ros.network.library import ShapeLibrary

MESHES = {
    1: trimesh.creation.box((0.08, 0.05, 0.11)),
    2: trimesh.creation.icosphere(3, radius=0.038),
    3: trimesh.creation.box((0.2, 0.06, 0.03)),
}
NAMES = {1: "box", 2: "sphere", 3: "bar"}


@pytest.fixture(scope="module")
def three(household: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Models of three shapes, and a model file whose library has just these."""
    folder = tmp_path_factory.mktemp("three")
    write_models(folder, MESHES, {i: {"name": name} for i, name in NAMES.items()})
    model = load_model(household)
    rows = [model.library.names.index(name) for name in NAMES.values()]
    library = ShapeLibrary(
        tuple(NAMES.values()),
        model.library.codes[rows],
        model.library.lower[rows],
        model.library.upper[rows],
    )
    save_model(folder / "model.safetensors", dataclasses.replace(model, library=library))
    return folder / "models", folder / "model.safetensors"


@pytest.mark.slow
def test_a_study_is_made_reported_and_resumed(
    three: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, checkpoint = three
    words = ["ablate", "corrector", "--models", str(models), "--checkpoint", str(checkpoint)]
    words += ["--scenes", "1", "--frames", "2", "--objects", "2", "--views", "1"]
    words += ["--work", str(tmp_path / "work"), "--json", str(tmp_path / "report.json")]
    assert main(words) == 0
    first = json.loads((tmp_path / "report.json").read_text())
    assert set(first["table"]) == {"clean", "disturbed"}
    for half in first["table"].values():
        assert [row["method"] for row in half][0] == "no corrector" and len(half) == 6
        assert all(row["count"] == 4 for row in half)
    assert first["shape_trial"]["count"] == 3 and first["shape_trial"]["lsq"] == 1.0
    assert len(first["z_trials"]) == 9
    assert first["command"].startswith("crisp ablate corrector")
    printed = capsys.readouterr()
    assert "Requirements" in printed.out and "rendering" in printed.err
    # What is there is neither rendered nor measured again.
    assert main(words) == 0
    assert "measuring" not in capsys.readouterr().err
    second = json.loads((tmp_path / "report.json").read_text())
    for changing in ("program_trial", "machine"):
        first.pop(changing), second.pop(changing)
    assert first == second
    assert main([*words, "--trials"]) == 0
    alone = json.loads((tmp_path / "report.json").read_text())
    assert "table" not in alone and alone["shape_trial"] == first["shape_trial"]


def test_models_that_are_missing_are_named(
    three: tuple[Path, Path], household: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models, _ = three
    words = ["ablate", "corrector", "--models", str(models), "--checkpoint", str(household)]
    assert main(words) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "no model of" in printed and "mug" in printed


def test_a_kind_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["ablate"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"--only": "mug,plate"}, "no model of mug, plate"),
        ({"--recipe": "absent.yaml"}, "absent.yaml"),
        ({"--models": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_of_a_training_is_one_line(tmp_path, capsys, changes, complaint):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("training: {steps: 1}\n")
    options = {
        "--models": str(write_tiny_bop(tmp_path / "tiny") / "models"),
        "--recipe": str(recipe),
        "--imagenet": str(tmp_path),
        "--work": str(tmp_path / "work"),
        **changes,
    }
    words = [word for pair in options.items() for word in pair]
    assert main(["ablate", "training", *words]) == 1
    printed = capsys.readouterr().err
    assert complaint in printed and printed.count("\n") == 1

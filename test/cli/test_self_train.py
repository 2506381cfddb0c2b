import dataclasses
import json
import shutil

import pytest
import torch
from small_spe3r import write_small_spe3r
from tiny_bop import write_tiny_bop

from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.cli.main import main
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.evaluation.self_training_comparison import ObjectResult, Results
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline import estimator
from crisp_ros.share import checkpoint_path
from crisp_ros.studies import self_training_run
from crisp_ros.synthesis.spe3r_maps import write_maps


def refused(capsys, *arguments):
    try:
        status = main(["self-train", *map(str, arguments)])
    except SystemExit as exit:
        status = exit.code
    printed = capsys.readouterr().err
    assert status != 0 and len(printed.splitlines()) == 1
    return printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--run", "run"], "--bop --bag --spe3r"),
        (["--bop", "nowhere", "--run", "run"], "nowhere"),
        (["--bag", "nowhere", "--run", "run"], "nowhere"),
        (["--bop", "a", "--bag", "b", "--run", "run"], "not allowed with"),
        (["--bop", "a", "--run", "run", "--corrector", "3"], "invalid choice"),
        (["--bop", "a", "--run", "run", "--passes", "0"], "from 1 on"),
        (["--bop", "a", "--run", "run", "--recipe", "nocs"], "invalid choice"),
        (["--spe3r", "nowhere", "--run", "run"], "nowhere"),
    ],
)
def test_bad_options_are_printed_in_one_line(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A set to learn from and another one to look at."""
    monkeypatch.chdir(tmp_path)
    write_tiny_bop(tmp_path / "seen")
    shutil.copytree("seen", "others")
    return tmp_path


SEEN = ["--bop", "seen", "--run", "run", "--passes", "1"]


def test_a_run_reports_training_and_check_data_and_continues(folder, capsys):
    files = ["--json", "a.json", "--html", "page.html", "--output", "own.safetensors"]
    assert main(["self-train", *SEEN, "--check", "others", *files]) == 0
    printed = capsys.readouterr()
    assert "learning: 3/3" in printed.err and "not learned from, others: certified" in printed.out
    report = json.loads((folder / "a.json").read_text())
    assert report["precision"] == "float32"
    assert report["before"]["objects"] == 7 == report["held_out"]["others"]["after"]["objects"]
    assert report["kept_passes"] == 1 and set(report["certified_share_after_passes"]) == {"0", "1"}
    assert report["self_training"]["broken"] == {"pose": 0, "shape": 0, "live": 0}
    assert set(report["per_object"]) == {"box", "can", "ball"}
    assert "Other frames" in (folder / "page.html").read_text()

    assert main(["self-train", *SEEN, "--check", "others", "--json", "b.json"]) == 0
    assert "measuring" not in capsys.readouterr().err, "it is all there"
    again = json.loads((folder / "b.json").read_text())
    for name in ("before", "after", "held_out", "self_training", "model_version"):
        assert again[name] == report[name]
    assert main(["self-train", "--bop", "seen", "--run", "run", "--passes", "2"]) == 0
    assert "learning: 6/6" in capsys.readouterr().err

    for other in (["--seed", "7"], ["--precision", "bfloat16"], ["--split", "train"]):
        if other[0] == "--split":
            shutil.copytree("seen/test", "seen/train")
        printed = refused(capsys, *SEEN, *other)
        assert "run holds a run with other options: name another folder" in printed
    shutil.copytree("seen", "deeper/others")
    assert main(["self-train", *SEEN, "--check", "deeper/others"]) == 0
    assert "measuring before, others" in capsys.readouterr().err, "of another folder's images"
    printed = refused(capsys, *SEEN, "--check", "others", "--check", "deeper/others")
    assert "need different names" in printed


def test_a_fall_of_the_certified_share_keeps_the_old_model(folder, capsys, monkeypatch):
    measured = []

    def fallen(estimator, frames, shapes, on_frame):
        measured.append(estimator.model_version)
        certified = len(measured) <= 2  # before, on both folders
        return Results((ObjectResult("box", certified, 0.01, 0.01),))

    monkeypatch.setattr(self_training_run, "measure", fallen)
    files = ["--json", "a.json", "--html", "page.html", "--output", "own.safetensors"]
    assert main(["self-train", *SEEN, "--check", "others", *files]) == 0
    words = "certified from pass to pass 100.0, 0.0 %, so the heads from before are kept"
    assert words in capsys.readouterr().out
    assert words in (folder / "page.html").read_text()
    report = json.loads((folder / "a.json").read_text())
    assert report["kept_passes"] == 0
    assert report["certified_share_after_passes"] == {"0": 1.0, "1": 0.0}
    assert report["after"] == report["before"]
    others = report["held_out"]["others"]
    assert others["after"] == others["before"] and len(measured) == 3
    old, own = load_model(checkpoint_path(None)), load_model(folder / "own.safetensors")
    for name, value in old.network.state_dict().items():
        assert torch.equal(own.network.state_dict()[name], value)


def test_without_a_reference_set_it_says_how_to_make_one(folder, capsys):
    shutil.copy(checkpoint_path(None), "bare.safetensors")
    printed = refused(capsys, *SEEN, "--checkpoint", "bare.safetensors")
    assert "crisp render reference" in printed and not (folder / "run").exists()


@pytest.mark.parametrize(
    "source", [["--bop", "seen"], ["--spe3r", "satellites", "--recipe", "spe3r"]]
)
def test_the_papers_recipes_need_no_reference_set(folder, source, monkeypatch):
    """Every certified sample is used once, and the last heads are kept."""
    write_small_spe3r(folder / "satellites", images=2)
    write_maps(Spe3rDataset(folder / "satellites", "all"))
    certified = CertificateSettings(quantile=0.5, threshold_m=100.0, minimum_coverage=0.0)
    for name, recipe in RECIPES.items():
        learner = dataclasses.replace(recipe.learner, batch=2)
        changed = dataclasses.replace(recipe, certificate=certified, learner=learner)
        monkeypatch.setitem(RECIPES, name, changed)
    shutil.copy(checkpoint_path(None), "alone.safetensors")
    recipe = [] if "--recipe" in source else ["--recipe", "ycbv"]
    options = ["--checkpoint", "alone.safetensors", "--run", "run", "--passes", "2"]
    # What was fastest when the run began is kept when it is continued.
    for fastest in ("bfloat16", "float32"):
        monkeypatch.setattr(estimator, "fastest_precision", lambda *_, found=fastest: found)
        more = ["--precision", "auto", "--json", "a.json"]
        assert main(["self-train", *source, *recipe, *options, *more]) == 0
    report = json.loads((folder / "a.json").read_text())
    assert report["precision"] == "bfloat16"
    assert report["recipe"] == (recipe or source)[-1] and report["kept_passes"] == 2
    assert report["certified_share_after_passes"] == {}
    # Every certified estimate of both passes is a sample, two of which make a step.
    assert report["before"]["certified_share"] > 0.9
    assert report["self_training"]["steps"] == report["before"]["objects"]

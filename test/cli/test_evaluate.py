"""`crisp evaluate bop`: the whole road from a folder to a report, with an untrained model."""

import json
from pathlib import Path

import pytest

from crisp_ros.cli.main import main


def test_a_report_with_the_fixed_names_is_written(
    folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = []
    for name in ("a.json", "b.json"):
        options = ["--checkpoint", str(checkpoint), "--json", str(tmp_path / name), "--seed", "3"]
        assert main(["evaluate", "bop", str(folder), *options]) == 0
        reports.append(json.loads((tmp_path / name).read_text()))
    report = reports[0]
    assert list(report) == [
        "instances", "auc_add_s", "auc_e_shape", "baseline_auc_add_s", "certified_share", "config",
    ]  # fmt: skip
    assert [(i["scene"], i["image"], i["obj_id"]) for i in report["instances"]] == [
        (1, 3, 1), (1, 3, 2), (1, 3, 5), (1, 12, 1), (1, 12, 2), (7, 0, 1), (7, 0, 1),
    ]  # fmt: skip
    assert report["baseline_auc_add_s"]["3cm"] > 0
    config = report["config"]
    assert config["model_version"].startswith("0.0.1") and config["device"] == "cpu"
    assert config["estimator"]["observation"]["seed"] == config["evaluation"]["seed"] == 3
    assert config["command"].startswith("crisp evaluate bop")
    assert reports[0]["instances"] == reports[1]["instances"]
    printed = capsys.readouterr()
    assert "box" in printed.out and "Chamfer" in printed.out and "images: 3/3" in printed.err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["absent"], "absent: no such folder"),
        (["FOLDER", "--split", "val"], "val: no such folder"),
        (["FOLDER", "--checkpoint", "absent.safetensors"], "absent.safetensors: missing"),
        (["FOLDER", "--checkpoint", "FOLDER"], "model file"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    given = [str(folder) if word == "FOLDER" else word for word in arguments]
    if "--checkpoint" not in given:
        given += ["--checkpoint", str(checkpoint)]
    assert main(["evaluate", "bop", *given]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("crisp evaluate: ") and printed.count("\n") == 1
    assert message in printed


def test_a_kind_of_data_set_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["evaluate"])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1

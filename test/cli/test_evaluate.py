"""`crisp evaluate`: the whole road from a folder to a report, with an untrained model."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import small_spe3r
from drawing import needs_egl
from numpy.typing import NDArray
from small_nocs import write_small_nocs
from small_spe3r import write_small_spe3r

from crisp_ros.cli.main import main
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.evaluation.bop_csv import read_bop_csv
from crisp_ros.synthesis.spe3r_maps import write_maps


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
        "instances", "auc_add_s", "auc_e_shape", "baseline_auc_add_s", "certified_share",
        "poses", "poses_by_object", "config",
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
    assert "Rotations and certificates" in printed.out


def test_registration_of_cad_models(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "bop", str(folder), "--method", "open3d_cad"]
    assert main([*arguments, "--json", str(tmp_path / "a.json")]) == 0
    report = json.loads((tmp_path / "a.json").read_text())
    assert report["config"]["method"] == "open3d_cad"
    assert report["config"]["registration"]["voxel_share"] > 0.0
    assert report["auc_add_s"]["3cm"] > report["baseline_auc_add_s"]["3cm"]
    assert 0.5 < report["config"]["median_score"] <= 1.0 and report["config"]["image_time_s"] > 0.0
    assert "time of an image" in capsys.readouterr().out
    assert main([*arguments, "--segment", "builtin"]) == 1
    assert "cannot be used together with --segment" in capsys.readouterr().err


def test_masks_of_the_segmenter_are_measured(
    folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "bop", str(folder), "--checkpoint", str(checkpoint)]
    report = tmp_path / "a.json"
    assert main([*arguments, "--segment", "builtin", "--json", str(report)]) == 0
    masks = json.loads(report.read_text())["segmentation"]
    assert masks["instances"] == 7
    assert 0.0 <= masks["boundary_f"] <= 1.0 and 0.0 <= masks["overlap_f"] <= 1.0
    assert "Masks of 7 instances" in capsys.readouterr().out
    assert main([*arguments, "--segment", "builtin", "--results", str(tmp_path / "x.csv")]) == 1


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


def test_a_report_and_poses_are_written(
    folder: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = [{"scene_id": 1, "im_id": 12, "obj_id": 2, "inst_count": 1}]
    (tmp_path / "mine.json").write_text(json.dumps(targets))
    page, poses = tmp_path / "report", tmp_path / "poses.csv"
    options = ["--checkpoint", str(checkpoint), "--report", str(page), "--csv", str(poses)]
    arguments = ["evaluate", "bop", str(folder), "--targets", str(tmp_path / "mine.json")]
    assert main([*arguments, *options]) == 0
    assert str(page / "index.html") in capsys.readouterr().out
    names = {path.name for path in page.iterdir()}
    assert {"index.html", "add_s.png", "chamfer.png", "tables.png", "figures.json"} <= names
    figures = json.loads((page / "figures.json").read_text())
    assert [(i["image"], i["obj_id"]) for i in figures["instances"]] == [(12, 2)]
    estimated = figures["instances"][0]["add_s_m"] is not None
    assert [(r.image_id, r.obj_id) for r in read_bop_csv(poses)] == [(12, 2)] * estimated
    again = tmp_path / "again.json"
    assert main([*arguments, "--results", str(poses), "--json", str(again)]) == 0
    (instance,) = json.loads(again.read_text())["instances"]
    assert instance["add_s_m"] == pytest.approx(figures["instances"][0]["add_s_m"])


def test_a_report_without_matplotlib_is_refused_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "crisp_ros.reports.dataset_page", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["evaluate", "bop", str(folder), "--report", "absent"]) == 1
    printed = capsys.readouterr().err
    assert "pip install matplotlib" in printed and printed.count("\n") == 1
    assert not Path("absent").exists()


def test_a_report_over_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit):
        main(["evaluate", "bop", "x", "--report", str(tmp_path / "file")])
    assert "is a file; expected a folder" in capsys.readouterr().err


def twelve_metres_away(name: str, index: int) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[2, 3] = 12.0
    return pose


def test_spe3r_is_evaluated(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_egl()
    monkeypatch.setattr(small_spe3r, "satellite_pose", twelve_metres_away)
    monkeypatch.setattr(small_spe3r, "FOCAL", 500.0)
    monkeypatch.setattr(
        small_spe3r, "INTRINSICS", np.array([[500, 0, 31.5], [0, 500, 31.5], [0, 0, 1]])
    )
    data = write_small_spe3r(tmp_path / "data", 2)
    options = ["--checkpoint", str(checkpoint), "--json", str(tmp_path / "x.json")]
    assert main(["evaluate", "spe3r", str(data), *options]) == 1
    assert "make them by: crisp data maps" in capsys.readouterr().err
    write_maps(Spe3rDataset(data))
    options += ["--report", str(tmp_path / "report"), "--compare", "--corrector", "alg1"]
    assert main(["evaluate", "spe3r", str(data), *options]) == 0
    printed = capsys.readouterr().out
    assert "crisp_ros, no corrector" in printed
    assert "Table 10" in printed and "Certificate: p 0.97, eps 0.02 m." in printed
    report = json.loads((tmp_path / "x.json").read_text())
    assert [(i["satellite"], i["missed"]) for i in report["images"]] == [("drum", "")] * 2
    settings = report["config"]["estimator"]
    assert settings["observation"]["max_depth_m"] == 100.0
    assert settings["certificate"]["quantile"] == 0.97
    assert settings["certificate"]["threshold_m"] == 0.02
    assert report["config"]["command"].startswith("crisp evaluate spe3r")
    assert settings["corrector"]["solver"] == "gradient"
    assert len(report["uncorrected"]["images"]) == 2
    assert report["uncorrected"]["e_pose_l1"] != report["e_pose_l1"]
    assert (tmp_path / "report" / "e_pose.png").is_file()


def test_nocs_is_evaluated(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_egl()
    data = write_small_nocs(tmp_path / "data")
    options = ["--checkpoint", str(checkpoint), "--json", str(tmp_path / "x.json"), "--every", "2"]
    options += ["--report", str(tmp_path / "report")]
    assert main(["evaluate", "nocs", str(data), *options]) == 0
    assert "Table 9" in capsys.readouterr().out
    report = json.loads((tmp_path / "x.json").read_text())
    assert [i["category"] for i in report["instances"]] == ["bottle", "mug", "laptop"]
    assert set(report["map_iou"]) == {"25", "50", "75"}
    assert (tmp_path / "report" / "degrees.png").is_file()
    assert main(["evaluate", "nocs", str(data), "--detections", "absent", *options[:2]]) == 1
    assert "absent: no such folder" in capsys.readouterr().err

"""Results in BOP's form: a round trip, units, and lines that are refused by their number."""

from pathlib import Path

import numpy as np
import pytest
from tiny_bop import pose

from crisp_ros.data.files import DatasetError
from crisp_ros.evaluation.bop_csv import BopResult, read_bop_csv, write_bop_csv

RESULTS = [
    BopResult(48, 1, 5, 0.75, pose((10, 20, 30), (0.1, -0.2, 0.8)), 0.25),
    BopResult(48, 36, 21, 1.0, pose((0, 90, 0), (0.0, 0.0, 1.0))),
]


def test_results_survive_the_round_trip(tmp_path: Path) -> None:
    write_bop_csv(tmp_path / "x.csv", RESULTS)
    for read, written in zip(read_bop_csv(tmp_path / "x.csv"), RESULTS, strict=True):
        assert read[:4] == written[:4] and read.time_s == written.time_s
        np.testing.assert_allclose(read.T_camera_object, written.T_camera_object, atol=1e-15)


def test_files_hold_millimetres_in_the_order_of_the_benchmark(tmp_path: Path) -> None:
    write_bop_csv(tmp_path / "x.csv", RESULTS[1:])
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert lines[0] == "scene_id,im_id,obj_id,score,R,t,time"
    fields = lines[1].split(",")
    assert fields[:4] == ["48", "36", "21", "1.0"] and fields[6] == "-1.0"
    rotation = [0, 0, 1, 0, 1, 0, -1, 0, 0]
    assert [float(x) for x in fields[4].split(" ")] == pytest.approx(rotation, abs=1e-12)
    assert [float(x) for x in fields[5].split(" ")] == [0, 0, 1000]


IDENTITY = "1 0 0 0 1 0 0 0 1"


@pytest.mark.parametrize(
    "line",
    [
        f"1,2,3,0.5,{IDENTITY},0 0 1",
        f"1,2,3,0.5,{IDENTITY},0 0,1",
        f"1,2,3,0.5,{IDENTITY},0 0 1 2,1",
        "1,2,3,0.5,1 0 0,0 0 1,1",
        f"1,2,x,0.5,{IDENTITY},0 0 1,1",
        f"1,2,3,nan,{IDENTITY},0 0 1,1",
        f"1,2,3,0.5,{IDENTITY},0 inf 1,1",
        f"1,2,3,0.5,{IDENTITY},0 0 1,1,9",
        "1,2,3,0.5,1 0 0 0 1 0 0 0 -1,0 0 1,1",
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    text = f"scene_id,im_id,obj_id,score,R,t,time\n1,2,3,0.5,{IDENTITY},0 0 1,1\n{line}\n"
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DatasetError, match="x.csv: line 3: expected"):
        read_bop_csv(tmp_path / "x.csv")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(DatasetError, match="x.csv: expected a first line scene_id"):
        read_bop_csv(tmp_path / "x.csv")
    with pytest.raises(DatasetError, match="absent.csv: no such file"):
        read_bop_csv(tmp_path / "absent.csv")

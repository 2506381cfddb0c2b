"""`crisp data`: checks in one line and in a file, bags that are read again, maps of SPE3R."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawing import needs_egl
from small_spe3r import write_small_spe3r
from tiny_bop import pose, primitives, tiny_frames, write_tiny_bop

from crisp_ros.cli.main import main
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.bop_models import read_models
from crisp_ros.data.bop_writer import write_frames, write_models
from crisp_ros.data.recorded_frame import scene_frames
from crisp_ros.data.recording import Recording


def test_a_sound_folder_is_reported_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_bop(tmp_path / "data")
    arguments = ["data", "check", str(tmp_path / "data"), "--json", str(tmp_path / "x.json")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "no problem found" in printed.out and "3 images of 2 scenes" in printed.out
    assert json.loads((tmp_path / "x.json").read_text())["kind"] == "bop"


def test_problems_are_listed_and_end_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_bop(tmp_path / "data")
    lost = tmp_path / "data/test/000001/rgb/000003.png"
    lost.unlink()
    arguments = ["data", "check", str(tmp_path / "data"), "--json", str(tmp_path / "x.json")]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert str(lost.with_suffix("")) in printed.out
    assert printed.err.splitlines()[-1] == f"crisp data: {tmp_path / 'data'}: 1 problem found"
    (problem,) = json.loads((tmp_path / "x.json").read_text())["problems"]
    assert str(lost.with_suffix("")) in problem


def test_a_scene_becomes_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_models(tmp_path / "data", primitives())
    place = pose((10, 20, 30), (0.1, -0.2, 0.3))
    frames = [replace(frame, scene_id=1, T_world_camera=place) for frame in tiny_frames()]
    frames[2] = replace(frames[2], image_id=20)
    write_frames(tmp_path / "data", frames)
    options = ["--scene", "1", "--output", str(tmp_path / "bag"), "--rate", "4"]
    assert main(["data", "to-bag", str(tmp_path / "data"), *options]) == 0
    assert "bag: " in capsys.readouterr().out
    read = list(Recording(tmp_path / "bag").frames())
    dataset = BopDataset(tmp_path / "data")
    assert [frame.stamp_ns for frame in read] == [250_000_000, 500_000_000, 750_000_000]
    for frame, true in zip(read, scene_frames(dataset, 1), strict=True):
        assert np.abs(1e-3 * frame.depth - true.depth).max() < 0.51e-3
        assert np.array_equal(frame.labels, true.labels)
        np.testing.assert_allclose(frame.intrinsics, true.intrinsics)
        np.testing.assert_allclose(frame.T_world_camera, place, atol=1e-9)
        for a, b in zip(frame.truth, true.truth, strict=True):
            assert (a.label, a.name) == (b.label, b.name)
            np.testing.assert_allclose(a.T_camera_object, b.T_camera_object, atol=1e-9)


def test_an_object_keeps_its_label_through_a_scene(tmp_path: Path) -> None:
    """In scene_gt.json an image may list its objects in any order, and not all of them."""
    write_models(tmp_path, primitives())
    first, second, third = (replace(frame, scene_id=1) for frame in tiny_frames())
    third = replace(third, image_id=20)
    write_frames(tmp_path, [first, second, third])
    path = tmp_path / "test/000001/scene_gt.json"
    content = json.loads(path.read_text())
    content["12"].reverse()
    path.write_text(json.dumps(content))
    frames = list(scene_frames(BopDataset(tmp_path), 1))
    names = {1: "obj_000001", 2: "obj_000001", 3: "obj_000002", 4: "obj_000005"}
    assert all(frame.label_names == names for frame in frames)
    assert [[t.label for t in frame.truth] for frame in frames] == [[1, 3, 4], [3, 1], [1, 2]]
    for frame in frames:
        assert all(names[true.label] == true.name for true in frame.truth)
        assert set(np.unique(frame.labels)) - {0} == {true.label for true in frame.truth}


@pytest.mark.parametrize(
    "options, message",
    [
        (["--scene", "5"], "test: no scene 5; it has 1, 7"),
        (["--scene", "1", "--split", "val"], "val: no such folder"),
    ],
)
def test_a_missing_scene_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    write_tiny_bop(tmp_path / "data")
    bag = tmp_path / "bag"
    assert main(["data", "to-bag", str(tmp_path / "data"), *options, "--output", str(bag)]) == 1
    assert message in capsys.readouterr().err and not bag.exists()


def test_maps_are_drawn_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_egl()
    write_small_spe3r(tmp_path, 2)
    assert main(["data", "maps", str(tmp_path)]) == 0
    assert main(["data", "maps", str(tmp_path)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "6 images' maps written" and second == "0 images' maps written"


def test_procedural_objects_are_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("manifold3d")
    command = ["data", "procedural", "--count", "2", "--kinds", "can", "box"]
    assert main([*command, "--output", str(tmp_path)]) == 0
    assert sorted(m.name for m in read_models(tmp_path / "models").values()) == [
        "box_0002",
        "can_0001",
    ]
    assert main([*command, "--output", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["data", "procedural", "--kinds", "teapot", "--output", str(tmp_path / "b")]) == 1
    assert "no kind teapot" in capsys.readouterr().err

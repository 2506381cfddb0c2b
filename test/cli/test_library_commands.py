"""`crisp library`: checks, additions and new libraries, on a decoder that knows simple shapes."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from crisp_ros.cli.main import main
from crisp_ros.network.checkpoint import load_model, save_model
from crisp_ros.training import library_builder
from crisp_ros.training.mesh_codes import MeshCodeSettings
from crisp_ros.training.shape_codes import ShapeCodeSettings


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes are fitted in fewer steps; the shapes of these tests are simple."""
    fit = ShapeCodeSettings(
        steps=150, learning_rate=1e-2, surface_points=96, near_points=96, volume_points=32
    )
    settings = MeshCodeSettings(samples=3000, starts=3, trial_steps=60, fit=fit)
    quick = functools.partial(library_builder.fit_mesh_code, settings=settings)
    monkeypatch.setattr(library_builder, "fit_mesh_code", quick)


def crisp(*words: object) -> int:
    return main(["library", *map(str, words)])


def ball(folder: Path, radius: float = 36.0) -> Path:
    """A ball's mesh in millimetres, off its file's origin."""
    mesh = trimesh.creation.icosphere(3, radius=radius)
    mesh.apply_translation([0.0, 0.0, radius])
    path = folder / "ball.ply"
    mesh.export(path)
    return path


def test_a_sound_library_is_tabled_and_reported(
    household: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "check.json"
    # The mug's code and the cup's are alike, their surfaces not: no duplicates.
    assert crisp("check", "--checkpoint", household, "--json", report) == 0
    printed = capsys.readouterr().out
    assert "mug" in printed and "rank 8" in printed
    found = json.loads(report.read_text())
    assert found["rank"] == 8 and found["problems"] == []
    assert {s["name"] for s in found["shapes"]} >= {"box", "mug", "bar"}
    assert all(s["watertight"] and s["volume_m3"] > 0 for s in found["shapes"])
    assert found["command"].startswith("crisp library check")


def test_a_shape_that_is_there_twice_or_broken_is_named(
    household: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(household)
    known = model.library
    again = known.with_shape("ball", known.codes[1], known.lower[1], known.upper[1])
    twice = again.with_shape("wide", known.codes[0], 1.5 * known.lower[0], 1.5 * known.upper[0])
    path = tmp_path / "twice.safetensors"
    save_model(path, dataclasses.replace(model, library=twice))
    assert crisp("check", "--checkpoint", path) == 1
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "sphere and ball" in printed and "the box of wide is" in printed and "rank 8" in printed


@pytest.mark.usefixtures("hasty")
def test_a_mesh_in_millimetres_is_added_and_found_again(
    household: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "more" / "model.safetensors", tmp_path / "add.json"
    words = ("add", ball(tmp_path), "--name", "ball", "--checkpoint", household)
    assert crisp(*words, "--output", output, "--json", report) == 0
    printed = capsys.readouterr()
    assert "taken for millimetres" in printed.err and "9 shapes" in printed.out
    model, before = load_model(output), load_model(household)
    assert model.library.names == (*before.library.names, "ball")
    assert torch.equal(model.library.codes[:8], before.library.codes)
    assert model.header["version"] == "1.3.0"
    (entry,) = model.header["added_shapes"]
    assert entry["mesh"] == "ball.ply" and entry["mean_m"] < 0.002
    np.testing.assert_allclose(entry["mesh_origin_in_object_frame_m"], [0, 0, -0.036], atol=1e-5)
    np.testing.assert_allclose(model.library.upper[8], [0.036] * 3, atol=0.003)
    # The decoder's surface is the mesh's.
    surface = 0.036 * torch.nn.functional.normalize(torch.randn(500, 3), dim=-1)
    assert model.network.decoder.sdf(surface, model.library.codes[8]).abs().mean() < 0.002
    (entry_written,) = json.loads(report.read_text())["shapes"]
    assert entry_written == entry


@pytest.mark.usefixtures("hasty")
def test_shapes_beyond_the_decoder_are_refused_unless_forced(
    household: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.safetensors"
    huge = ("add", ball(tmp_path, 400.0), "--name", "balloon", "--checkpoint", household)
    assert crisp(*huge, "--units", "mm", "--output", output) == 1
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "the decoder cannot express balloon" in printed and "--force" in printed
    assert not output.exists()
    assert crisp(*huge, "--units", "mm", "--output", output, "--force") == 0
    assert "balloon" in load_model(output).library.names


@pytest.mark.usefixtures("hasty")
def test_a_library_is_built_from_a_folder_of_meshes(household: Path, tmp_path: Path) -> None:
    meshes = tmp_path / "meshes"
    meshes.mkdir()
    trimesh.creation.box((0.08, 0.05, 0.11)).export(meshes / "block.obj")
    trimesh.creation.icosphere(3, radius=0.038).export(meshes / "globe.stl")
    output = tmp_path / "built.safetensors"
    words = ("build", "--models", meshes, "--checkpoint", household, "--output", output)
    assert crisp(*words) == 0
    model = load_model(output)
    assert model.library.names == ("block", "globe")
    assert model.header["version"] == "2.0.0" and model.header["library_codes"] == "fit"
    np.testing.assert_allclose(model.library.upper[0], [0.04, 0.025, 0.055], atol=0.004)


def test_codes_of_the_network_are_means_over_a_data_sets_images(
    folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    output = tmp_path / "network.safetensors"
    words = ("build", "--bop", folder, "--codes", "network", "--checkpoint", checkpoint)
    # An untrained network's codes are no shapes of these meshes.
    assert crisp(*words, "--output", output) == 1
    assert crisp(*words, "--output", output, "--force") == 0
    model = load_model(output)
    assert model.library.names == ("box", "can", "ball")
    # The data set's symmetries come along: a can is rotationally symmetric.
    assert [len(group) for group in model.library.symmetries] == [2, 72, 1]


@pytest.mark.parametrize(
    "words, message",
    [
        (("add", "MESH", "--name", "box", "--output", "OUT"), "a shape named 'box' already"),
        (("add", "absent.ply", "--name", "ball", "--output", "OUT"), "absent.ply"),
        (("add", "FLAT", "--name", "flat", "--output", "OUT"), "flat.ply"),
        (("build", "--models", "EMPTY", "--output", "OUT"), "no mesh"),
        (("build", "--models", "EMPTY", "--codes", "network", "--output", "OUT"), "--bop"),
        (("check", "--checkpoint", "MESH"), "ball.ply"),
    ],
)
def test_bad_input_is_one_line(
    household: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    flat, empty = tmp_path / "flat.ply", tmp_path / "empty"
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]).export(flat)
    empty.mkdir()
    places = {"MESH": ball(tmp_path), "FLAT": flat, "EMPTY": empty, "OUT": tmp_path / "out"}
    given = [str(places.get(word, word)) for word in words]
    if "--checkpoint" not in given:
        given += ["--checkpoint", str(household)]
    assert crisp(*given) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("crisp library: ") and printed.count("\n") == 1 and message in printed
    assert not (tmp_path / "out").exists()


def test_a_scale_must_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        crisp("add", "m.ply", "--name", "m", "--scale", "-1", "--output", "o")
    assert end.value.code == 2
    assert "expected a positive number" in capsys.readouterr().err


def painted(folder: Path, name: str) -> None:
    """Write a box mesh whose lower half is red and whose upper half is blue, in metres."""
    mesh = trimesh.creation.box((0.08, 0.05, 0.11)).subdivide().subdivide()
    upper = mesh.triangles_center[:, 2] > 0
    mesh.visual.face_colors = np.where(upper[:, None], [0, 0, 255, 255], [255, 0, 0, 255])
    mesh.export(folder / f"{name}.ply")


def test_shapes_get_the_colours_of_their_meshes(household: Path, tmp_path: Path) -> None:
    meshes, output = tmp_path / "meshes", tmp_path / "painted.safetensors"
    meshes.mkdir()
    painted(meshes, "box")
    painted(meshes, "unrelated")
    arguments = ("--checkpoint", household, "--output", output, "--json", tmp_path / "report.json")
    assert crisp("colors", "--models", meshes, *arguments) == 0
    model = load_model(output)
    colors = dict(zip(model.library.names, model.library.colors, strict=True))
    assert [name for name, part in colors.items() if part is not None] == ["box"]
    points, rgb = colors["box"]
    assert points.abs().amax(0).tolist() == pytest.approx([0.04, 0.025, 0.055], abs=1e-3)
    assert (rgb[points[:, 2] > 0.01] == torch.tensor([0, 0, 255])).all()
    assert (rgb[points[:, 2] < -0.01] == torch.tensor([255, 0, 0])).all()
    assert json.loads((tmp_path / "report.json").read_text())["colors"] == ["box"]


def test_meshes_without_colours_or_names_are_refused(
    household: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "painted.safetensors"
    trimesh.creation.box((0.08, 0.05, 0.11)).export(tmp_path / "box.stl")
    painted(tmp_path, "unrelated")
    assert crisp("colors", "--models", tmp_path, "--checkpoint", household, "--output", output) == 1
    assert "no mesh has colours and the name of a shape" in capsys.readouterr().err
    assert not output.exists()

"""`crisp export`: one closed mesh in metres for every code of the library."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from crisp_ros.cli.main import main
from crisp_ros.data.bop import BopDataset
from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.model import CrispNetwork, network_config

RADII = (0.03, 0.05)


def model_file(path: Path, library: ShapeLibrary | None) -> Path:
    config = dataclasses.replace(
        network_config("compact"), shape_hidden=(8,), decoder_hidden=4, decoder_layers=2
    )
    save_model(path, Model(CrispNetwork(config), library, {}))
    return path


def spheres() -> ShapeLibrary:
    """Codes whose first entry is a radius, for the decoder below."""
    codes = torch.zeros(2, 16)
    codes[:, 0] = torch.tensor(RADII)
    corner = codes[:, :1].expand(-1, 3)
    return ShapeLibrary(("small ball", "../large"), codes, -corner, corner)


@pytest.fixture
def round_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def sdf(self: ShapeDecoder, points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return points.norm(dim=-1) - codes[..., :1]

    monkeypatch.setattr(ShapeDecoder, "sdf", sdf)


@pytest.mark.usefixtures("round_decoder")
def test_every_shape_becomes_a_closed_mesh_in_metres(tmp_path: Path) -> None:
    checkpoint = model_file(tmp_path / "model.safetensors", spheres())
    folder = tmp_path / "out/meshes"
    arguments = ["--checkpoint", str(checkpoint), "--output", str(folder), "--voxels", "32"]
    assert main(["export", "--library", *arguments]) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["_large.ply", "small_ball.ply"]
    for name, radius in zip(("small_ball", "_large"), RADII, strict=True):
        mesh = trimesh.load(folder / f"{name}.ply")
        assert mesh.is_watertight and mesh.volume > 0
        assert abs(mesh.vertices).max() == pytest.approx(radius, rel=0.02)


PLY_TYPES = {"float": "<f4", "uchar": "u1", "int": "<i4"}


def ply_vertices(path: Path) -> np.ndarray:
    """The vertices of a binary PLY without faces, by property."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = [line.split() for line in header.decode().splitlines()]
    properties = [(words[2], PLY_TYPES[words[1]]) for words in lines if words[0] == "property"]
    return np.frombuffer(body, properties)


def test_points_of_objects_are_written(folder: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "points"
    arguments = ["--bop", str(folder), "--checkpoint", str(checkpoint), "--output", str(out)]
    assert main(["export", "--points", *arguments, "--every", "2"]) == 0
    frames = list(BopDataset(folder).frames())[::2]
    assert len(frames) == 2 and sorted(p.name for p in out.iterdir()) == [
        "000000.ply",
        "000001.ply",
    ]
    for frame, path in zip(frames, sorted(out.iterdir()), strict=True):
        v, u = np.nonzero((frame.labels > 0) & (frame.depth > 0))
        element = ply_vertices(path)
        np.testing.assert_array_equal(element["label"], frame.labels[v, u])
        np.testing.assert_allclose(element["z"], frame.depth[v, u], atol=1e-6)
        np.testing.assert_array_equal(element["red"], frame.rgb[v, u, 0])
        assert set(np.unique(element["certified"])) <= {0, 1}


def test_a_code_without_a_surface_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShapeDecoder, "sdf", lambda self, points, codes: points.norm(dim=-1) + 1)
    checkpoint = model_file(tmp_path / "model.safetensors", spheres())
    arguments = ["--checkpoint", str(checkpoint), "--output", str(tmp_path), "--voxels", "16"]
    assert main(["export", "--library", *arguments]) == 1
    printed = capsys.readouterr().err
    assert "small ball has no surface" in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    "extra, message",
    [
        (["--checkpoint", "absent.safetensors"], "absent.safetensors"),
        (["--checkpoint", "FILE"], "no shape code library"),
        (["--checkpoint", "FILE", "--voxels", "2"], "expected at least 8"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    bare = model_file(tmp_path / "bare.safetensors", None)
    arguments = [str(bare) if word == "FILE" else word for word in extra]
    assert main(["export", "--library", "--output", str(tmp_path), *arguments]) == 1
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1

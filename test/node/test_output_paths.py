"""Paths of files that services write: default names never replace a file."""

from __future__ import annotations

from pathlib import Path

from crisp_ros.node.output_paths import output_file, output_folder


def test_a_default_file_never_replaces_another(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = output_file("", tmp_path / "base", "model_1.0.0+2-ab.safetensors", ".safetensors")
        path.touch()
        names.append(path.relative_to(tmp_path / "base").name)
    assert names == [f"model_1.0.0+2-ab{end}.safetensors" for end in ("", "_2", "_3")]


def test_a_default_folder_is_always_new(tmp_path: Path) -> None:
    found = [output_folder("", tmp_path, "meshes_12_000000005") for _ in range(2)]
    assert [path.name for path in found] == ["meshes_12_000000005", "meshes_12_000000005_2"]
    assert all(path.is_dir() for path in found)


def test_a_named_file_is_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        path = output_file("mine", tmp_path, "default.safetensors", ".safetensors")
        path.touch()
        assert path == tmp_path / "mine.safetensors"
        assert output_folder("shapes", tmp_path, "default") == tmp_path / "shapes"

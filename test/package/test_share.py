"""Finding the shared files for each way to install the package."""

import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from crisp_ros import share


def share_module_at(package: Path) -> ModuleType:
    """Load the module as if the package were installed in this folder."""
    package.mkdir(parents=True)
    shutil.copy(share.__file__, package / "share.py")
    spec = spec_from_file_location("share_elsewhere", package / "share.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_package_xml(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.xml").touch()
    return folder


def test_in_a_source_tree_it_is_the_root(tmp_path: Path) -> None:
    root = with_package_xml(tmp_path / "clone")
    assert share_module_at(root / "crisp_ros").share_directory() == root


@pytest.mark.parametrize("modules", ["lib/python3.11/site-packages", "lib/python3/dist-packages"])
def test_installed_it_is_under_the_same_prefix(tmp_path: Path, modules: str) -> None:
    expected = with_package_xml(tmp_path / "share/crisp_ros")
    assert share_module_at(tmp_path / modules / "crisp_ros").share_directory() == expected


def test_otherwise_the_prefix_is_that_of_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = with_package_xml(tmp_path / "prefix/share/crisp_ros")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    assert share_module_at(tmp_path / "modules/crisp_ros").share_directory() == expected


def test_missing_shared_files_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="install crisp_ros"):
        share_module_at(tmp_path / "modules/crisp_ros").share_directory()


@pytest.mark.parametrize("folder", [".", "share/crisp_ros"])
def test_the_default_model_and_recording_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr(share, "__file__", str(tmp_path / "crisp_ros" / "share.py"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "nowhere"))
    with pytest.raises(share.NotInstalledError, match="package.xml.*--checkpoint"):
        share.checkpoint_path(None)
    place = tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.xml").touch()
    with pytest.raises(share.NotInstalledError, match="not part of.*--checkpoint"):
        share.checkpoint_path(None)
    (place / share.DEFAULT_CHECKPOINT).parent.mkdir()
    (place / share.DEFAULT_CHECKPOINT).touch()
    assert share.checkpoint_path(None) == place / share.DEFAULT_CHECKPOINT
    assert share.checkpoint_path(Path("other")) == Path("other")
    with pytest.raises(share.NotInstalledError, match="not part of.*--bag"):
        share.bundled_recording()
    (place / "recordings" / "table").mkdir(parents=True)
    assert share.bundled_recording() == place / "recordings" / "table"
    assert share.bundled_recording(Path("other")) == Path("other")

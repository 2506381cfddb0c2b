"""The page of dependencies against the code: what is imported where, and what only when used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.observation.object_points import ObjectPoints
from crisp_ros.reports import scene_view
from crisp_ros.share import share_directory

ROOT = share_directory()
PAGE = (ROOT / "docs" / "dependencies.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `")]
USES = [
    (package, path)
    for cells in ROWS
    for package in re.findall(r"`(\w+)`", cells[0])
    for path in re.findall(r"`(crisp_ros/[\w/]+\.py)`", cells[-1])
]
ASKED_FOR = {
    "rclpy",
    "torch",
    "cv_bridge",
    "cv2",
    "numpy",
    "open3d",
    "tf_transformations",
    "message_filters",
}
MODULES = {
    "fast-simplification": "fast_simplification",
    "open3d-cpu": "open3d",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
}


def imported(nodes: list[ast.stmt] | ast.AST) -> set[str]:
    """The packages that statements import."""
    found = set()
    for node in nodes if isinstance(nodes, list) else ast.walk(nodes):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize(("package", "path"), USES)
def test_package_is_imported_where_the_page_says(package: str, path: str) -> None:
    assert package in imported(ast.parse((ROOT / path).read_text()))


def test_page_has_every_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    names = [Requirement(entry).name for entry in re.findall(r'"([^"]+)"', listed)]
    needed = {MODULES.get(name, name) for name in names}
    assert needed | ASKED_FOR <= {package for package, _ in USES}


@pytest.mark.parametrize("package", sorted(ASKED_FOR - {"open3d"}))
def test_package_is_needed_to_import_its_users(package: str) -> None:
    """An import at the top of a module that the node or a command loads, without a fallback."""
    paths = [path for name, path in USES if name == package]
    assert all(package in imported(ast.parse((ROOT / p).read_text()).body) for p in paths)


def test_open3d_is_loaded_only_where_it_is_used() -> None:
    script = (
        "import sys; from importlib import import_module; from crisp_ros.cli.main import COMMANDS\n"
        "for command in COMMANDS.values(): import_module(command.module)\n"
        "try: import crisp_ros.node.main, crisp_ros.node.crisp_node\n"
        "except ModuleNotFoundError as error: assert error.name == 'rclpy', error\n"
        "sys.exit('open3d' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_commands_need_open3d(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from crisp_ros.geometry.decimation import _manifold_collapses
    from crisp_ros.observation.object_points import write_points

    monkeypatch.setitem(sys.modules, "open3d", None)
    mesh = TriangleMesh(*(None, None))
    viewed = scene_view.ViewedFrame("", None, [], [])
    for use in (
        lambda: _manifold_collapses(mesh, 10),
        lambda: write_points(tmp_path / "a.ply", ObjectPoints(None, None, None, None)),
        lambda: scene_view.show(iter([viewed])),
    ):
        with pytest.raises(ModuleNotFoundError, match="open3d"):
            use()

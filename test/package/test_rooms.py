"""The house: a room imports only rooms named before it, and only node/ knows of ROS."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from crisp_ros.share import share_directory

PACKAGE = share_directory() / "crisp_ros"
# In the order in which they may import one another; share, cluster and validation serve all.
ROOMS = [
    "share",
    "cluster",
    "progress",
    "validation",
    "geometry",
    "data",
    "observation",
    "segmentation",
    "network",
    "correction",
    "pipeline",
    "tracking",
    "synthesis",
    "training",
    "adaptation",
    "evaluation",
    "benchmark",
    "studies",
    "reports",
    "doctor",
    "node",
    "cli",
]
NOT_IN_A_NODE = {"evaluation", "benchmark", "studies", "reports"}
ROS = {
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "diagnostic_updater",
    "launch",
    "launch_ros",
    "message_filters",
    "rclpy",
    "std_srvs",
    "tf2_ros",
    "tf_transformations",
}


def modules() -> list[Path]:
    paths = (path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
    return sorted(path for path in paths if path.parts[0] not in ("_messages", "__init__.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ["crisp_ros", *path.parent.parts]
            parents = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_imports_only_rooms_before_its_own(path: Path) -> None:
    assert room_of(path) in ROOMS, f"{path} is in no room"
    parts = [name.split(".") for name in imports(path)]
    used = {names[1] for names in parts if names[0] == "crisp_ros" and len(names) > 1}
    later = ROOMS[ROOMS.index(room_of(path)) + 1 :]
    assert not used & set(later)


@pytest.mark.parametrize("path", [p for p in modules() if room_of(p) == "node"], ids=str)
def test_the_node_needs_no_evaluation(path: Path) -> None:
    used = {".".join(name.split(".")[:2]) for name in imports(path)}
    assert not used & {f"crisp_ros.{room}" for room in NOT_IN_A_NODE}


@pytest.mark.parametrize("path", [p for p in modules() if room_of(p) != "node"], ids=str)
def test_only_the_node_imports_ros(path: Path) -> None:
    names = list(imports(path))
    assert not {name.split(".")[0] for name in names} & ROS
    assert not [name for name in names if name.split(".")[0].endswith("_msgs")]
    assert not [name for name in names if name.startswith(("crisp_ros.msg", "crisp_ros.srv"))]


def test_the_architecture_page_has_the_rooms_in_order() -> None:
    page = (share_directory() / "docs" / "architecture.md").read_text()
    described = re.findall(r"^\*\*(\w+)\.\*\*", page, re.MULTILINE)
    assert described == [room for room in ROOMS if (PACKAGE / room).is_dir()]

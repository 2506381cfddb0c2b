"""pip's way into CMakeLists.txt: builds the messages and puts them inside the Python package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
SHARE = Path("share/crisp_ros")

# ROS 2 Jazzy as wheels. Their metadata leave out what only CMake asks for, hence the whole list.
ROS_BUILD_REQUIREMENTS = [
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


def ros_prefixes() -> list[Path]:
    """The folders that hold ROS 2: those that are sourced, else those of the wheels on sys.path."""
    sourced = os.environ.get("AMENT_PREFIX_PATH", "")
    if sourced:
        return [Path(folder) for folder in sourced.split(os.pathsep) if folder]
    prefixes = [parent for entry in sys.path for parent in Path(entry).resolve().parents[2:3]]
    return [prefix for prefix in dict.fromkeys(prefixes) if (prefix / "share/ament_cmake").is_dir()]


class BuildMessages(build_ext):
    """Installs with CMake into a temporary prefix and copies the messages out of it.

    They go to crisp_ros/_messages: in the wheel, or in the source tree for an editable install.
    """

    def run(self) -> None:
        package = (ROOT if self.inplace else Path(self.build_lib)) / "crisp_ros"
        with tempfile.TemporaryDirectory() as temporary:
            prefix = Path(temporary) / "prefix"
            self._install(Path(temporary) / "build", prefix)
            generated = next(prefix.glob("**/crisp_ros/msg/__init__.py")).parents[1]
            target = package / "_messages"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(generated / "msg", target / "msg")
            for library in [*generated.glob("*.so"), *prefix.glob("lib*/libcrisp_ros__*.so")]:
                shutil.copy2(library, target)

    def _install(self, build: Path, prefix: Path) -> None:
        prefixes = ros_prefixes()
        if not prefixes:
            raise SystemExit(
                "crisp_ros: no ROS 2 found to build the messages with. Source one, or let pip "
                "install the build requirements (no --no-build-isolation)."
            )
        search = os.pathsep.join(map(str, prefixes))
        environment = {**os.environ, "AMENT_PREFIX_PATH": search, "CMAKE_PREFIX_PATH": search}
        configure = [
            *("cmake", "-S", ROOT, "-B", build, "-G", "Ninja"),
            f"-DCMAKE_INSTALL_PREFIX={prefix}",
            f"-DPython3_EXECUTABLE={sys.executable}",
            "-DCMAKE_BUILD_TYPE=Release",
            "-DBUILD_TESTING=OFF",
            "-DCRISP_ROS_SELF_CONTAINED=ON",
        ]
        subprocess.run(configure, env=environment, check=True)
        subprocess.run(["cmake", "--build", build, "--target", "install"], env=environment, check=True)

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return ["CMakeLists.txt", "package.xml", *map(str, sorted(Path("msg").glob("*.msg")))]


def share_files() -> list[tuple[str, list[str]]]:
    """What ROS 2 keeps under share/, as (folder, files) pairs."""
    files = [path for path in Path(".").glob("package.xml")]
    for folder in ("config", "launch", "models", "msg"):
        files += [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    folders: dict[str, list[str]] = {}
    for path in sorted(files):
        folders.setdefault(str(SHARE / path.parent), []).append(str(path))
    return list(folders.items())


setup(
    ext_modules=[Extension("crisp_ros._messages", sources=[])],
    cmdclass={"build_ext": BuildMessages},
    data_files=share_files(),
    setup_requires=[] if os.environ.get("AMENT_PREFIX_PATH") else ROS_BUILD_REQUIREMENTS,
)

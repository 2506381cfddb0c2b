"""Build with pip: run CMakeLists.txt for the messages and put them into the Python package."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "cmake"))

from build_messages import copy_messages, install_messages, ros_build_requirements  # noqa: E402


class BuildMessages(build_ext):
    """Build crisp_ros/_messages: in the wheel, or in the source tree for an editable install."""

    def run(self) -> None:
        package = (ROOT if self.inplace else Path(self.build_lib)) / "crisp_ros"
        with tempfile.TemporaryDirectory() as folder:
            prefix = Path(folder) / "prefix"
            install_messages(ROOT, prefix, Path(folder) / "build")
            copy_messages("crisp_ros", prefix, package / "_messages")

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return ["CMakeLists.txt", "package.xml"]


def share_files() -> list[tuple[str, list[str]]]:
    """Return the files of share/crisp_ros, as (folder, files) pairs."""
    files = [Path("package.xml")]
    for folder in ("config", "launch", "models", "recordings"):
        files += [p for p in Path(folder).rglob("*") if p.is_file() and p.suffix != ".pyc"]
    folders = sorted({path.parent for path in files})
    return [
        (str(Path("share/crisp_ros") / folder), [str(p) for p in files if p.parent == folder])
        for folder in folders
    ]


setup(
    ext_modules=[Extension("crisp_ros._messages", sources=[])],
    cmdclass={"build_ext": BuildMessages},
    data_files=share_files(),
    setup_requires=ros_build_requirements(),
)

"""Build the message packages of the stand-ins and add them to the wheel."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent / "cmake"))

from build_messages import copy_messages, install_messages, ros_build_requirements  # noqa: E402

# In this order: moveit_msgs contains a message of object_recognition_msgs.
MESSAGE_PACKAGES = ["tf2_msgs", "vision_msgs", "object_recognition_msgs", "moveit_msgs"]


class BuildMessages(build_ext):
    """Put every message package next to the Python modules."""

    def run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            prefix = Path(folder) / "prefix"
            for package in MESSAGE_PACKAGES:
                install_messages(ROOT / "interfaces" / package, prefix, Path(folder) / package)
                target = Path(self.build_lib) / package
                copy_messages(package, prefix, target)
                (target / "__init__.py").touch()

    def get_outputs(self) -> list[str]:
        return []

    def get_source_files(self) -> list[str]:
        return []


setup(
    ext_modules=[Extension("tf2_msgs", sources=[])],
    cmdclass={"build_ext": BuildMessages},
    setup_requires=ros_build_requirements(),
)

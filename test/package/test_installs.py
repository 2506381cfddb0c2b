"""Content of an installation, with CMake as run by colcon, and with pip."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from crisp_ros.share import share_directory

ROOT = share_directory()
sys.path.insert(0, str(ROOT / "cmake"))

from build_messages import ros_prefixes  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ros_prefixes(), reason="needs a ROS 2 to build messages with"),
]

MODULE = "crisp_ros/geometry/se3.py"


def environment(*prefixes: Path) -> dict[str, str]:
    search = os.pathsep.join(map(str, [*prefixes, *ros_prefixes()]))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # A child must not use this tree's package, which is found from the current folder.
    names = {"PATH": path, "AMENT_PREFIX_PATH": search, "CMAKE_PREFIX_PATH": search}
    return {**os.environ, **names}


@pytest.mark.parametrize("links", [False, True], ids=["copies", "links"])
def test_colcon(tmp_path: Path, links: bool) -> None:
    prefix, build = tmp_path / "install", tmp_path / "build"
    configure = ["cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja"]
    configure += [f"-DCMAKE_INSTALL_PREFIX={prefix}", f"-DPython3_EXECUTABLE={sys.executable}"]
    configure += ["-DBUILD_TESTING=OFF", f"-DAMENT_CMAKE_SYMLINK_INSTALL={int(links)}"]
    subprocess.run(configure, env=environment(), check=True)
    install = ["cmake", "--build", str(build), "--target", "install"]
    subprocess.run(install, env=environment(), check=True)

    (modules,) = prefix.glob("lib/python*/site-packages")
    assert (modules / MODULE).is_symlink() == links
    assert (modules / "crisp_ros/__init__.py").read_text() == (
        ROOT / "crisp_ros/__init__.py"
    ).read_text()
    assert not (modules / "crisp_ros/_messages/msg").exists()
    for shared in ("package.xml", "config", "launch", "models", "recordings"):
        assert (prefix / "share/crisp_ros" / shared).exists() == (ROOT / shared).exists()

    libraries = os.pathsep.join([str(prefix / "lib"), os.environ.get("LD_LIBRARY_PATH", "")])
    sourced = {**environment(prefix), "PYTHONPATH": str(modules), "LD_LIBRARY_PATH": libraries}
    for executable in (
        "crisp",
        "crisp_node",
        "crisp_player",
        "crisp_viewer",
        "crisp_segmenter",
        "crisp_with_segmenter",
    ):
        assert os.access(prefix / "lib/crisp_ros" / executable, os.X_OK)
    version = subprocess.run(
        [prefix / "lib/crisp_ros/crisp", "--version"],
        env=sourced,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert version.stdout.startswith("crisp")
    script = (
        "import crisp_ros.srv; from crisp_ros.msg import ObjectMesh;"
        "from crisp_ros.share import share_directory;"
        "from rclpy.serialization import serialize_message as serialize;"
        "print(share_directory(), len(serialize(ObjectMesh(id='mug'))) > 0)"
    )
    printed = subprocess.check_output(
        [sys.executable, "-c", script], env=sourced, cwd=tmp_path, text=True
    )
    assert printed.split() == [str(prefix / "share/crisp_ros"), "True"]


@pytest.mark.skipif(find_spec("pip") is None, reason="needs pip")
def test_wheel(tmp_path: Path) -> None:
    source = tmp_path / "source"  # pip leaves a build/ behind, and would reuse an old one
    ignored = shutil.ignore_patterns(".*", "_messages", "build", "install", "log", "out", "runs")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", tmp_path, source], env=environment(), check=True)
    (wheel,) = tmp_path.glob("crisp_ros-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    interfaces = {f"crisp_ros/_messages/{kind}/__init__.py" for kind in ("msg", "srv")}
    assert {MODULE} | interfaces <= names
    assert any(n.endswith("libcrisp_ros__rosidl_typesupport_fastrtps_c.so") for n in names)
    shared = {name.partition(".data/data/share/crisp_ros/")[2] for name in names} - {""}
    expected = {"package.xml"}
    for folder in ("config", "launch", "models", "recordings"):
        files = (p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc")
        expected |= {str(path.relative_to(ROOT)) for path in files}
    assert shared == expected

"""Versions of the package to compare: a checkout, a git revision, or an installation."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from crisp_ros.share import share_directory


class VersionError(ValueError):
    """A version that cannot be found, or that fails."""


class Version(NamedTuple):
    """A version of the package.

    Attributes:
        name: as the user gave it; "this version" for the running one.
        python: the interpreter that runs it.
        folder: that contains the package `crisp_ros`; None where the interpreter finds it.
        commit: of the folder; empty where that is no git repository, with "+" where it has changes.
    """

    name: str
    python: str
    folder: Path | None
    commit: str


def this_version() -> Version:
    """The version that is running."""
    folder = Path(__file__).parents[2]
    return Version("this version", sys.executable, folder, commit_of(folder))


def version_environment(version: Version, cache: Path) -> dict[str, str]:
    """Get the environment of a version's processes.

    Args:
        version: to be run.
        cache: folder of what it keeps from one start to the next.
    """
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_WAIT_POLICY": "passive"}
    path = environment.pop("PYTHONPATH", "")  # may hold dependencies, but of this interpreter
    if version.folder is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(version.folder), path]))
    return environment


@contextmanager
def opened_version(reference: str, with_messages: bool = False) -> Iterator[Version]:
    """Find a version; a git revision is checked out into a temporary folder.

    Args:
        reference: a folder that contains the package, such as a checkout or site-packages; the
            interpreter of an environment in which it is installed; or a revision of the git
            repository that the running version is from.
        with_messages: build the ROS messages of what is checked out.

    Raises:
        VersionError: there is no such version.
    """
    path = Path(reference).expanduser()
    if (path / "crisp_ros" / "__init__.py").is_file():
        folder = path.resolve()
        yield Version(reference, sys.executable, folder, commit_of(folder))
    elif path.is_file() and os.access(path, os.X_OK):
        yield Version(reference, str(path.absolute()), None, "")
    else:
        with tempfile.TemporaryDirectory(prefix="crisp_bench_") as folder:
            version = _checked_out(reference, Path(folder))
            if with_messages:
                _build_messages(version)
            yield version


def commit_of(folder: Path) -> str:
    """The commit of a checkout; empty for other folders, with "+" where files have changed."""
    try:
        root = _git(folder, "rev-parse", "--show-toplevel")
        if Path(root).resolve() != folder.resolve():
            return ""  # a folder of another repository
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return _git(folder, "rev-parse", "HEAD")[:12] + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _checked_out(reference: str, folder: Path) -> Version:
    expected = "a folder with the package crisp_ros, a Python interpreter or a git revision"
    try:
        root = share_directory()
        commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", reference)
        commit = _git(root, "rev-parse", f"{commit}^{{commit}}")
        _git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(folder))
        _git(folder, "checkout", "--quiet", "--detach", commit)
    except (OSError, subprocess.CalledProcessError) as error:
        text = (getattr(error, "stderr", "") or "").strip().splitlines()
        raise VersionError(
            f"no version {reference!r}: expected {expected}" + (f" ({text[-1]})" if text else "")
        ) from None
    return Version(reference, sys.executable, folder, commit[:12])


def _build_messages(version: Version) -> None:
    command = [version.python, "setup.py", "build_ext", "--inplace"]
    built = subprocess.run(command, cwd=version.folder, capture_output=True, text=True)
    if built.returncode != 0:
        last = (built.stderr.strip().splitlines() or ["no message"])[-1]
        raise VersionError(f"the messages of {version.name} cannot be built: {last}")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

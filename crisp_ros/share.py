"""The files that are not Python: launch files, configurations and models."""

from __future__ import annotations

import sys
from pathlib import Path

DEFAULT_CHECKPOINT = Path("models") / "crisp_ycbv_compact.safetensors"  # in the share directory


class NoCheckpointError(FileNotFoundError):
    """No model file was named and none came with the package."""


def checkpoint_path(given: Path | None = None) -> Path:
    """The given model file, or the one that comes with the package.

    Raises:
        NoCheckpointError: none was given and none came with the package.
    """
    if given is not None:
        return given
    try:
        path = share_directory() / DEFAULT_CHECKPOINT
    except FileNotFoundError as error:
        raise NoCheckpointError(f"{error}; or name a model file by --checkpoint") from error
    if not path.is_file():
        raise NoCheckpointError(
            f"{path} did not come with this installation; name a model file by --checkpoint"
        )
    return path


def share_directory() -> Path:
    """Return the folder that contains launch/, config/ and models/.

    In a source tree or an editable install this is the root of the tree; pip and colcon install
    the same folders under <prefix>/share/crisp_ros.

    Raises:
        FileNotFoundError: the package was copied without these folders.
    """
    package = Path(__file__).parent
    prefixes = [*package.parents, Path(sys.prefix)]  # of site-packages, and of a --target install
    candidates = [package.parent, *(prefix / "share" / "crisp_ros" for prefix in prefixes)]
    for folder in candidates:
        if (folder / "package.xml").is_file():
            return folder
    raise FileNotFoundError(
        f"no share/crisp_ros with a package.xml above {package} or in {sys.prefix}: "
        "install crisp_ros with pip or colcon, or run it from its source tree"
    )

"""The files that are not Python: launch files, configurations and models."""

from __future__ import annotations

import sys
from pathlib import Path

DEFAULT_CHECKPOINT = Path("models") / "crisp_ycbv_compact.safetensors"  # in the share directory
BUNDLED_MODELS = {
    "ycbv": DEFAULT_CHECKPOINT,
    "household": Path("models") / "crisp_household_compact.safetensors",
}
"""Model files of the package by name, in the share directory."""
BUNDLED_PRIOR = "household"  # the prior of that model, in a file of its own without the network
_PRIOR = Path("models") / "crisp_household_prior.safetensors"
_RECORDING = Path("recordings") / "table"


class NotInstalledError(FileNotFoundError):
    """A file that is neither given nor part of this installation."""


def checkpoint_path(given: Path | None = None) -> Path:
    """Return the given model file, or the one of the package.

    Raises:
        NotInstalledError: none is given, and the package has none.
    """
    return given or installed(DEFAULT_CHECKPOINT, "name a model file by --checkpoint")


def prior_path(given: str) -> Path | None:
    """Return the file of a prior over shapes.

    Args:
        given: a path, "household" for that of the package, or "none" or nothing for no prior.

    Raises:
        FileNotFoundError: the package was copied without its models.
    """
    if given in ("", "none"):
        return None
    return share_directory() / _PRIOR if given == BUNDLED_PRIOR else Path(given)


def bundled_recording(given: Path | None = None) -> Path:
    """Return the given recording, or the one of the package.

    Raises:
        NotInstalledError: none is given, and the package has none.
    """
    return given or installed(_RECORDING, "name a recording by --bag")


def installed(place: Path, remedy: str) -> Path:
    """Return a file or folder of the package by its place in the share directory.

    Raises:
        NotInstalledError: the package has none; the text ends with the remedy.
    """
    try:
        path = share_directory() / place
    except FileNotFoundError as error:
        raise NotInstalledError(f"{error}; or {remedy}") from error
    if not path.exists():
        raise NotInstalledError(f"{path} is not part of this installation; {remedy}")
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

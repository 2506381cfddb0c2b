"""Long studies in parts whose results are kept, so that an interrupted run is continued."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crisp_ros.data.atomic_file import write_json


def fingerprint(*made_from: Any) -> str:
    """Compute a short file name from the text of the values that a result depends on."""
    return hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]


class KeptParts:
    """The results of a study's parts, one JSON file each in a folder.

    Parts that depend on other values, such as another model, are computed again.
    """

    def __init__(self, folder: str | Path, made_from: Any) -> None:
        """Open the folder, which need not exist.

        Args:
            folder: of the files.
            made_from: all that the results depend on, compared by its text.
        """
        self._folder = Path(folder)
        self._key = fingerprint(made_from)

    def part(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of `make`, JSON values, of this run or an earlier one.

        Args:
            name: of the part, a valid file name.
            make: called only if there is no kept result.
        """
        path = self._folder / f"{name}.json"
        try:
            kept = json.loads(path.read_text())
            if kept["made_from"] == self._key:
                return kept["result"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # missing, or not such a part: it is computed
        result = make()
        write_json(path, {"made_from": self._key, "result": result})
        return json.loads(path.read_text())["result"]

"""Long studies in parts that are kept, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crisp_ros.data.atomic_file import write_json


def fingerprint(*made_from: Any) -> str:
    """A short name, fit for a file, of what something was made from; the values' text counts."""
    return hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]


class KeptParts:
    """The results of a study's parts, one JSON file each in a folder.

    Parts that were made from anything else, such as another model, are made again.
    """

    def __init__(self, folder: str | Path, made_from: Any) -> None:
        """Open the folder, which need not exist.

        Args:
            folder: of the files.
            made_from: everything that the results depend on; its text is what counts.
        """
        self._folder = Path(folder)
        self._key = fingerprint(made_from)

    def part(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the result of `make`, JSON values, from now or from an earlier run.

        Args:
            name: of the part, fit for a file.
            make: is only called where the part is not there.
        """
        path = self._folder / f"{name}.json"
        try:
            kept = json.loads(path.read_text())
            if kept["made_from"] == self._key:
                return kept["result"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or not such a part: it is made
        result = make()
        write_json(path, {"made_from": self._key, "result": result})
        return json.loads(path.read_text())["result"]

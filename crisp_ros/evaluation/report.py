"""Reports of measured figures: JSON files and the machine they were made on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crisp_ros import __version__
from crisp_ros.data.atomic_file import write_atomically


def provenance(command: str, device: str = "cpu") -> dict[str, Any]:
    """What makes a figure repeatable: the command, the version and the machine."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "command": command,
        "version": __version__,
        "machine": {
            "cpu": _cpu_name(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
    }


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Writes a report; folders on the way are made, and a reader never sees half a file.

    Raises:
        OSError: the file cannot be written.
        ValueError: a value has no JSON form, such as infinity.
    """
    path = Path(path)
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

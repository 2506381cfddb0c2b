"""The origin of measured figures: command, version and machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from crisp_ros import __version__


def provenance(command: str, device: str = "cpu") -> dict[str, Any]:
    """The command, version and machine of a measured figure, as JSON values."""
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


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

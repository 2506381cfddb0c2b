"""State files of a training: whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from crisp_ros.data.atomic_file import atomic_file


def save_state(value: Any, path: Path) -> None:
    """Write tensors for `torch.load`; a reader sees nothing or all of them."""
    with atomic_file(path) as file:
        torch.save(value, file)

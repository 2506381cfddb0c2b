"""Values of text parameters: parsing and checks."""

from __future__ import annotations

import re

import torch

from crisp_ros.geometry.convex import can_decompose
from crisp_ros.node.parameters.parameter_rules import one_of


def parse_label_names(text: str) -> dict[int, str]:
    """Parse names of labels, such as "1=mug, 2=bowl".

    Raises:
        ValueError: an entry is not LABEL=NAME with a positive label, or a label occurs twice.
    """
    names: dict[int, str] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        number, _, name = (part.strip() for part in entry.partition("="))
        if not (re.fullmatch("[0-9]{1,10}", number) and int(number) > 0 and name):
            raise ValueError(f"{entry!r} is not LABEL=NAME, such as 1=mug")
        if int(number) in names:
            raise ValueError(f"label {number} is named twice")
        names[int(number)] = name
    return names


def find_device(name: str) -> torch.device:
    """Get the device of a name; "auto" is the first GPU if there is one, otherwise the CPU.

    Raises:
        ValueError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,9})?", name):
        raise ValueError(f"{name!r} is not a device: expected auto, cpu, cuda or cuda:N")
    # Parsed here: torch.device wraps large numbers.
    index = int(name.partition(":")[2] or 0)
    if name != "cpu" and index >= torch.cuda.device_count():
        raise ValueError(f"no device {name}: this machine has {torch.cuda.device_count()} GPUs")
    return torch.device(name)


def tf_prefix_problem(prefix: str) -> str | None:
    """Describe why a text cannot be the prefix of TF frames, or return None."""
    if re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9_/.-]*)?", prefix):
        return None
    return f"{prefix!r} cannot begin a TF frame: letters, digits and _ / . - only, no leading /"


def frame_problem(name: str) -> str | None:
    """Describe why a text cannot be a TF frame, or return None."""
    if not name.startswith("/") and name == name.strip():
        return None
    return f"{name!r} is not a TF frame: no leading /, no spaces around"


def collision_shape_problem(shape: str) -> str | None:
    """Describe why obstacles cannot have a shape, or return None."""
    if shape == "parts" and not can_decompose():
        return "'parts' needs CoACD: pip install coacd"
    return one_of("mesh", "hull", "parts")(shape)

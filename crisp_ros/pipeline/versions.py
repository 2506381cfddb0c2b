"""Versions of models in estimates: equal versions mean equal models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from crisp_ros.network.checkpoint import Model, digest
from crisp_ros.network.model import HEADS

_LENGTH = 12  # of a checksum's start


def model_version(model: Model) -> str:
    """VERSION-CHECKSUM: the version that a model's maker gave it, the start of its file's checksum.

    That of a model that trained itself is the `learned_version` of its heads, in use and in a file.
    """
    number = int(_learned(model).get("number", 0))
    if number == 0:
        return original_version(model)
    parameters = model.network.named_parameters()
    heads = {name: value for name, value in parameters if name.startswith(HEADS)}
    return learned_version(original_version(model), number, heads)


def original_version(model: Model) -> str:
    """The version of the model that self-training began with; its own where there was none."""
    learned, header = _learned(model), model.header
    if "original_version" in learned:
        return str(learned["original_version"])
    version, checksum = str(header.get("version", "")), str(header.get("sha256", ""))
    if "original" in learned:
        version, checksum = version.rpartition("+")[0], str(learned["original"])
    return "-".join(part for part in (version, checksum[:_LENGTH]) if part) or "unsaved"


def learned_version(base: str, number: int, heads: Mapping[str, Tensor]) -> str:
    """BASE+NUMBER-CHECKSUM: the name of a model whose heads were learned.

    Args:
        base: version of the model whose heads they were, and with whose other parts they go.
        number: of swaps and rollbacks since that model.
        heads: parameters of the heads; their checksum distinguishes runs with the same number.
    """
    values = {name: value.detach().cpu() for name, value in heads.items()}
    return f"{base}+{number}-{digest('', values)[:_LENGTH]}"


def _learned(model: Model) -> dict[str, Any]:
    return model.header.get("self_training", {})

"""Models with self-trained heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from crisp_ros.adaptation.learner import Weights
from crisp_ros.adaptation.reference_set import original_of
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.model import CrispNetwork
from crisp_ros.pipeline import original_version


def trained_model(
    model: Model, weights: Weights, number: int, settings: Any, counts: Mapping[str, Any]
) -> Model:
    """A model with other heads and the original backbone, decoder, library and prior, on the CPU.

    Args:
        model: the one that self-training started from, original or not.
        weights: of the heads.
        number: of changes of the heads since the original model.
        settings: a dataclass, of the self-training.
        counts: JSON values for the header.
    """
    network = CrispNetwork(model.network.config)
    state = {k: v.detach().cpu() for k, v in model.network.state_dict().items()}
    state.update({k: v.detach().cpu() for k, v in weights.items()})
    network.load_state_dict(state)
    library = model.library.to("cpu") if model.library is not None else None
    header: dict[str, Any] = {k: v for k, v in model.header.items() if k != "sha256"}
    plain = str(header.get("version", ""))
    if "self_training" in header:
        plain = plain.rpartition("+")[0]
    header["version"] = f"{plain}+{number}"
    header["self_training"] = {
        "original": original_of(model),
        "original_version": original_version(model),
        "number": number,
        "settings": dataclasses.asdict(settings),
        **counts,
    }
    prior = model.prior.to("cpu") if model.prior is not None else None
    return Model(network.eval(), library, header, prior)

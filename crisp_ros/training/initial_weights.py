"""The weights that a training begins with: ImageNet's, a model's backbone or a whole model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.network.model import network_config
from crisp_ros.network.widening import colour_design, widen_to_geometry

from .pretrained import takes_imagenet
from .recipe import RecipeError


def check_weight_sources(
    network: str, imagenet: Path | None, backbone: Path | None, initial: Path | None
) -> None:
    """Check that a training's weights come from one source, which fits its network.

    Args:
        network: name of the recipe's network.
        imagenet: folder of ImageNet weights, or None.
        backbone: model file whose backbone is taken, or None.
        initial: model file that is trained further, or None.

    Raises:
        RecipeError: more than one source, ImageNet weights for a network that has none, or no
            source for a backbone that is frozen.
    """
    sources = {"imagenet": imagenet, "backbone": backbone, "from": initial}
    given = [f"--{name}" for name, path in sources.items() if path is not None]
    if len(given) > 1:
        raise RecipeError(f"{' and '.join(given)}: weights come from one of them")
    if imagenet is not None and not takes_imagenet(network):
        raise RecipeError(f"{imagenet}: weights of the network compact, not of {network}")
    if network_config(network).frozen_backbone and not given:
        raise RecipeError(
            f"network {network}: its backbone is not trained, so its weights have to come from"
            " a model file: name one by --backbone, or by --from"
        )


def load_for_training(path: Path, network: str) -> Model:
    """Read a model file to begin a training with.

    Args:
        path: the file. Where its network sees colour alone and the recipe's the same with
            geometry, it is widened.
        network: name of the recipe's network.

    Raises:
        CheckpointError: the file cannot be read.
        RecipeError: its network is another one.
    """
    model = load_model(path)
    design = model.network.config.design
    if design == colour_design(network):
        return dataclasses.replace(model, network=widen_to_geometry(model.network))
    if design != network:
        raise RecipeError(f"{path}: network {design}, but the recipe's is {network}")
    return model

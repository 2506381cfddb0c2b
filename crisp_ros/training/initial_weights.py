"""The weights that a training begins with: ImageNet's, a model's backbone or a whole model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.network.model import network_config
from crisp_ros.network.widening import colour_design, widen_to_geometry

from .pretrained import takes_imagenet
from .recipe import RecipeError


@dataclass(frozen=True)
class WeightSource:
    """Source of a training's first weights: one of these, or none for random weights.

    Attributes:
        imagenet: folder of ImageNet weights for the compact trunk.
        backbone: model file whose backbone is taken and nothing else.
        initial: model file to go on from. Where its library has all objects of the training,
            decoder and their codes stay and backbone and heads are trained further; for other
            objects its weights are where the training starts.
    """

    imagenet: Path | None = None
    backbone: Path | None = None
    initial: Path | None = None

    def check(self, network: str) -> None:
        """Check that there is one source at most and that it fits the recipe's network.

        Raises:
            RecipeError: more than one source, ImageNet weights for a network that has none, or no
                source for a backbone that is frozen.
        """
        sources = {"imagenet": self.imagenet, "backbone": self.backbone, "from": self.initial}
        given = [f"--{name}" for name, path in sources.items() if path is not None]
        if len(given) > 1:
            raise RecipeError(f"{' and '.join(given)}: weights come from one of them")
        if self.imagenet is not None and not takes_imagenet(network):
            raise RecipeError(f"{self.imagenet}: weights of the network compact, not of {network}")
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

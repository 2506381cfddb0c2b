"""Recipes: how a model is trained, everything but the objects themselves."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from crisp_ros.network.model import network_names
from crisp_ros.synthesis.crop_set import CROP_PX, SHARD_CROPS
from crisp_ros.synthesis.renderers import RENDERERS, RendererName
from crisp_ros.synthesis.scenes import ScatterSettings

from .augment import AugmentSettings
from .losses import SdfLossWeights
from .settings import JointSdfSettings, TrainingSettings
from .shape_codes import ShapeCodeSettings


class RecipeError(ValueError):
    """A recipe or its inputs that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; everything but the objects themselves.

    Attributes:
        network: a name that `build_network` knows.
        shards: shards of crops that are rendered; 0 where photographs serve.
        shard_crops: crops of each.
        stored_px: side of the stored crops, whose margin is larger than the network's.
        renderer: of the crops: fast, or cycles for path-traced ones.
        photographs: splits of the data set whose images are cut into crops, such as train_real.
        layout: of the data set.
        first_layer_gain: raises the decoder's first layer; narrow decoders learn detail sooner.
        decoder_refinement: a second fit of the decoder alone, at fixed codes; None leaves it out.
        shape_head_steps: last, the shape head alone is trained for so many steps.
        symmetric: names of objects whose look is symmetric, for the symmetry-aware PNC loss; "auto"
            looks for symmetries of shape and colour.
        symmetry_tolerance_m: mean distance up to which a turned surface counts as the same; in the
            layout nocs, whose objects have a diagonal of 1, a part of the diagonal.

    Raises:
        ValueError: an unknown network, or too few crops.
    """

    network: str = "compact"
    shards: int = 14
    shard_crops: int = SHARD_CROPS
    stored_px: int = CROP_PX
    renderer: RendererName = "fast"
    photographs: tuple[str, ...] = ()
    layout: Literal["bop", "spe3r", "nocs"] = "bop"
    seed: int = 1
    first_layer_gain: float = 1.0
    shape_head_steps: int = 0
    symmetric: tuple[str, ...] | Literal["auto"] = ()
    symmetry_tolerance_m: float = 0.0015
    scatter: ScatterSettings = field(default_factory=ScatterSettings)
    shape_codes: ShapeCodeSettings = field(default_factory=ShapeCodeSettings)
    decoder_refinement: ShapeCodeSettings | None = None
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=10_000))

    def __post_init__(self) -> None:
        if self.network not in network_names():
            raise ValueError(f"network {self.network!r}: expected one of {network_names()}")
        if isinstance(self.symmetric, str) and self.symmetric != "auto":
            raise ValueError(f"symmetric {self.symmetric!r}: expected a list of names, or auto")
        if self.renderer not in RENDERERS:
            raise ValueError(f"renderer {self.renderer!r}: expected one of {RENDERERS}")
        if self.layout not in ("bop", "spe3r", "nocs"):
            raise ValueError(f"layout {self.layout!r}: expected bop, spe3r or nocs")
        if self.shards + len(self.photographs) < 1 or self.shard_crops < 1 or self.stored_px < 1:
            raise ValueError("expected at least one shard or split of photographs")
        crops, training = self.shards * self.shard_crops, self.training
        if not self.photographs and crops < training.held_out_crops + training.batch:
            raise ValueError(
                f"{crops} crops in all shards: expected at least a batch of {training.batch} beside"
                f" the {training.held_out_crops} that are held out (held_out_crops)"
            )


def load_recipe(path: Path) -> Recipe:
    """Reads a YAML recipe whose keys are the fields of `Recipe` and of its parts.

    Raises:
        RecipeError: not YAML, an unknown field, or a value out of its range.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected a mapping of recipe fields")
    try:
        return _from_values(Recipe, values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from error


_PARTS = {
    "scatter": ScatterSettings,
    "shape_codes": ShapeCodeSettings,
    "decoder_refinement": ShapeCodeSettings,
    "training": TrainingSettings,
    "sdf": JointSdfSettings,
    "augment": AugmentSettings,
    "weights": SdfLossWeights,
}


def _from_values(kind: type, values: Any) -> Any:
    if not isinstance(values, dict):
        raise TypeError(f"expected fields of {kind.__name__}, got {values!r}")
    names = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise TypeError(f"unknown fields {unknown} of {kind.__name__}; known: {sorted(names)}")
    parts = {
        name: _from_values(_PARTS[name], value)
        if name in _PARTS and value is not None
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in values.items()
    }
    return kind(**parts)

"""Recipes: how a model is trained, everything but the objects themselves."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from crisp_ros.network.model import crop_multiple, network_names, network_sees_geometry
from crisp_ros.synthesis.crop_set import CROP_PX, SHARD_CROPS
from crisp_ros.synthesis.renderers import RENDERERS, RendererName
from crisp_ros.synthesis.scenes import ScatterSettings
from crisp_ros.validation import at_least

from .shape_codes import ShapeCodeSettings
from .shape_latents import ShapeLatentSettings
from .training_settings import TrainingSettings


class RecipeError(ValueError):
    """A recipe or its inputs that cannot be used; the message says which and why."""


@dataclass(frozen=True)
class Recipe:
    """Training of a model; everything except the objects.

    Attributes:
        network: a name that `build_network` knows.
        shards: shards of crops that are rendered; 0 where photographs serve.
        shard_crops: crops of each.
        stored_px: side of the stored crops, whose margin is larger than the network's.
        renderer: of the crops: fast, or cycles for path-traced ones.
        photographs: splits of the data set whose images are cut into crops, such as train_real.
        layout: of the data set.
        first_layer_gain: raises the decoder's first layer; narrow decoders learn detail sooner.
        shape_latents: fit the codes as a linear function of a few numbers, in batches of shapes,
            in place of `shape_codes`: for hundreds of shapes, with a prior in the model file.
        keep_library: the model file has the shapes as a library; false for `shape_latents` that are
            to stand for all others of their kinds, and not to be recognised. Shapes that an initial
            model knows are kept in any case, as they get no prior.
        decoder_refinement: a second fit of the decoder alone, at fixed codes; None leaves it out.
        shape_head_steps: last, the shape head alone is trained for so many steps.
        symmetric: names of objects whose look is symmetric, for the symmetry-aware PNC loss; "auto"
            looks for symmetries of shape and colour; "shape" looks for those of the shape, and
            "listed" takes those of models_info.json, both whatever the colours: for objects that
            are to stand for others of their shape.
        symmetry_tolerance_m: mean distance up to which a rotated surface counts as the same; in the
            layout nocs, whose objects have a diagonal of 1, a part of the diagonal.

    Raises:
        ValueError: an unknown network, a number out of its range, or too few crops.
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
    symmetric: tuple[str, ...] | Literal["auto", "shape", "listed"] = ()
    symmetry_tolerance_m: float = 0.0015
    scatter: ScatterSettings = field(default_factory=ScatterSettings)
    shape_codes: ShapeCodeSettings = field(default_factory=ShapeCodeSettings)
    shape_latents: ShapeLatentSettings | None = None
    keep_library: bool = True
    decoder_refinement: ShapeCodeSettings | None = None
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(steps=10_000))

    def __post_init__(self) -> None:
        if self.network not in network_names():
            raise ValueError(f"network {self.network!r}: expected one of {network_names()}")
        if isinstance(self.symmetric, str) and self.symmetric not in (
            "auto",
            "shape",
            "listed",
        ):
            raise ValueError(
                f"symmetric {self.symmetric!r}: expected a list of names, auto, shape or listed"
            )
        if self.renderer not in RENDERERS:
            raise ValueError(f"renderer {self.renderer!r}: expected one of {RENDERERS}")
        if self.layout not in ("bop", "spe3r", "nocs"):
            raise ValueError(f"layout {self.layout!r}: expected bop, spe3r or nocs")
        if not self.keep_library and self.shape_latents is None:
            raise ValueError("keep_library is false: without shape_latents no shape would be left")
        at_least(self, 0, "shards", "seed", "shape_head_steps")
        at_least(self, 1, "shard_crops", "stored_px")
        if self.shards + len(self.photographs) < 1:
            raise ValueError("expected at least one shard or split of photographs")
        if self.photographs and network_sees_geometry(self.network):
            raise ValueError(
                f"network {self.network}: needs crops with depth, which photographs do not give;"
                " train on renders, or take a network of colour"
            )
        multiple = crop_multiple(self.network)
        if self.training.crop_px % multiple:
            raise ValueError(
                f"training: crop_px is {self.training.crop_px}: expected a multiple of {multiple}"
                f" for the network {self.network}"
            )
        crops, training = self.shards * self.shard_crops, self.training
        if not self.photographs and crops < training.held_out_crops + training.batch:
            raise ValueError(
                f"{crops} crops in all shards: expected at least a batch of {training.batch} and"
                f" the {training.held_out_crops} that are held out (held_out_crops)"
            )


def load_recipe(path: Path) -> Recipe:
    """Read a YAML recipe whose keys are the fields of `Recipe` and of its parts.

    Raises:
        RecipeError: not YAML, an unknown field, or a value of another type or out of its range.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected a mapping of recipe fields")
    try:
        return _from_values(Recipe, values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from error


def _from_values(kind: type, values: Any, where: str = "") -> Any:
    """A settings class made of the values of a mapping, each checked against its field's type."""
    if not isinstance(values, dict):
        raise TypeError(f"{where}expected fields of {kind.__name__}, got {values!r}")
    hints = get_type_hints(kind)
    unknown = sorted(str(name) for name in set(values) - set(hints))
    if unknown:
        known = sorted(hints)
        raise TypeError(f"{where}unknown fields {unknown} of {kind.__name__}; known: {known}")
    fields = {name: _typed(hints[name], value, name, where) for name, value in values.items()}
    try:
        return kind(**fields)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from error


def _typed(hint: Any, value: Any, name: str, where: str) -> Any:
    """A value of YAML as a field of this type holds it."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    part = next((c for c in choices if dataclasses.is_dataclass(c)), None)
    if part is not None and not (value is None and NoneType in choices):
        return _from_values(part, value, f"{where}{name}: ")
    for choice in choices:
        try:
            return _plain(choice, value)
        except TypeError:
            continue
    expected = " or ".join(_described(choice) for choice in choices)
    raise TypeError(f"{where}{name} is {value!r}: expected {expected}")


def _plain(kind: Any, value: Any) -> Any:
    """A value as this kind of it, which is not a part of its own; TypeError where it is none."""
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) == len(value):
            return tuple(map(_plain, kinds, value))
    elif kind is float:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    elif type(value) is (str if get_origin(kind) is Literal else kind):
        return value  # which words there are the class itself knows
    raise TypeError


def _described(kind: Any) -> str:
    kinds = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(kinds)
    if get_origin(kind) is tuple:
        each = "words" if kinds[0] is str else "numbers"
        return f"a list of {each}" if kinds[-1] is Ellipsis else f"a list of {len(kinds)} {each}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
    return {**names, NoneType: "null"}[kind]

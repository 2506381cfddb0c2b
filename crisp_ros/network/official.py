"""Import of checkpoints of the authors' released code (MIT-SPARK/CRISP)."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crisp_ros.data.files import DatasetError
from crisp_ros.network.checkpoint import CheckpointError, Model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.dinov2 import DinoV2
from crisp_ros.network.library import ShapeLibrary, shape_boxes
from crisp_ros.network.model import CrispNetwork, NetworkConfig, network_config
from crisp_ros.network.official_library import read_library_codes, read_unit_sizes
from crisp_ros.network.torch_archive import plain_weights, read_archive

# Names of our layers, and of the same layers in the released state dict; \1 is a layer's number.
_OFFICIAL_PREFIXES = tuple(
    (re.compile(ours), official)
    for ours, official in (
        (r"backbone", r"backbone"),
        (
            r"pnc_head\.reassemble\.(\d)\.readout",
            r"nocs_net.reassemble_blocks.readout_projects.\1.0",
        ),
        (r"pnc_head\.reassemble\.(\d)\.project", r"nocs_net.reassemble_blocks.projects.\1"),
        (r"pnc_head\.reassemble\.(\d)\.resize", r"nocs_net.reassemble_blocks.resize_layers.\1"),
        (r"pnc_head\.reassemble\.(\d)\.widen", r"nocs_net.convs.\1"),
        (r"pnc_head\.fusion\.(\d)\.project", r"nocs_net.fusion_blocks.\1.project"),
        (r"pnc_head\.fusion\.(\d)\.skip_unit", r"nocs_net.fusion_blocks.\1.res_conv_unit1"),
        (r"pnc_head\.fusion\.(\d)\.unit", r"nocs_net.fusion_blocks.\1.res_conv_unit2"),
        (r"pnc_head\.project", r"nocs_net.project"),
        (r"pnc_head\.output\.conv1", r"nocs_net.conv_nocs.head.0"),
        (r"pnc_head\.output\.norm", r"nocs_net.conv_nocs.head.2"),
        (r"pnc_head\.output\.conv2", r"nocs_net.conv_nocs.head.3"),
        (r"pnc_head\.output\.conv3", r"nocs_net.conv_nocs.head.5"),
        (r"decoder\.film_layers\.(\d)", r"recons_net.filmed_sdf.\1.0.layer"),
        (r"decoder\.final_layer", r"recons_net.final_layer"),
        (r"shape_head\.layers", r"recons_backbone_adaptor.net"),
    )
)
_LAST_LAYER = "decoder.final_layer"
_MODULATED_LAST_LAYER = "recons_net.final_layer.layer"  # as the other FiLM layers

# Settings of the released code that change the output but leave no trace in the weights.
_REQUIRED_SETTINGS: Mapping[str, Any] = {
    "nocs_lateral_layers_type": "spaced",
    "nocs_network_type": "dpt_gnfusion_gnnocs",
    "recons_nonlinearity": "sine",
    "recons_normalization_type": "none",
    "recons_shape_code_normalization": None,
}


@dataclasses.dataclass(frozen=True)
class OfficialOptions:
    """Settings that a released checkpoint may not say about itself; None takes what it says.

    Attributes:
        shapes: "metric" or "normalised" coordinates and signed distances (`normalized_recons`).
        crop_size: side of the crops, px (`backbone_input_res`).
        crop_rule: of `CROP_RULES`; the released code stretches the mask's box, on SPE3R the image.
        library: the separately published `shape_code_lib.pkl`; replaces a library in the file.
        objects_info: the separately published `objects_info.yaml`, with the sizes of shapes.
        with_library: False leaves any library out.
    """

    shapes: str | None = None
    crop_size: int | None = None
    crop_rule: str = "tight"
    library: Path | None = None
    objects_info: Path | None = None
    with_library: bool = True


@dataclasses.dataclass(frozen=True)
class OfficialCheckpoint:
    """The contents of a released checkpoint under their own names.

    Attributes:
        weights: the state dict, wrapper prefixes removed, float32.
        codes: shape codes (C,) by object name, sorted by name; empty when it holds no library.
        settings: the training settings it was saved with; empty when it holds none.
    """

    weights: dict[str, Tensor]
    codes: dict[str, Tensor]
    settings: dict[str, Any]


def read_official(path: Path | str) -> OfficialCheckpoint:
    """Read a checkpoint of the released code without running any code it may carry.

    Raises:
        CheckpointError: the file is missing, damaged, not a zip-format PyTorch checkpoint, asks for
            anything but tensors, numeric arrays and plain containers, or holds no model.
    """
    path = Path(path)
    state = read_archive(path)
    if not isinstance(state, dict) or not isinstance(state.get("model"), Mapping):
        raise CheckpointError(path, "wrong format", 'it is no dictionary with a "model" entry')
    weights = plain_weights(path, state["model"])
    settings = state.get("hparams")
    return OfficialCheckpoint(
        weights,
        _codes(path, state.get("shape_code_library") or {}),
        dict(settings) if isinstance(settings, Mapping) else {},
    )


def import_official(
    path: Path | str,
    on_shape: Callable[[int, int], None] | None = None,
    options: OfficialOptions | None = None,
) -> Model:
    """A model with the weights, and the library if there is one, of a released checkpoint.

    The library's boxes come from the decoder. `header["open_shapes"]` names the codes whose decoded
    surface does not close, and whose box is therefore meaningless.

    Args:
        path: the checkpoint.
        on_shape: called after every shape of the library with the number done and their count.
        options: what the checkpoint does not say.

    Raises:
        CheckpointError: see `read_official`; also when weights are missing, unexpected or of
            another shape, or the settings are missing or of a variant that is not reproduced.
    """
    path, options = Path(path), options or OfficialOptions()
    official = read_official(path)
    config = _config(path, official, options)
    with torch.device("meta"):
        network = CrispNetwork(config)
    weights = _renamed(path, official.weights, network)
    if config.normalised_shapes:
        # The released head predicts [0, 1], of which 2 (v - 1/2) is taken.
        weights["pnc_head.output.conv3.weight"] *= 2.0
        weights["pnc_head.output.conv3.bias"] = 2.0 * weights["pnc_head.output.conv3.bias"] - 1.0
    network.load_state_dict(weights, assign=True)
    network.eval()
    codes = _library_codes(path, official, config, options) if options.with_library else {}
    library, open_shapes = _library(path, codes, network.decoder, on_shape)
    header = {
        "recipe": "imported from a checkpoint of the authors' released code",
        "data": {"file": path.name, "sha256": _sha256(path)},
        "figures": {},
        "version": f"official-{path.stem}",
        "open_shapes": open_shapes,
    }
    return Model(network, library, header)


def _codes(path: Path, library: Any) -> dict[str, Tensor]:
    """Shape codes by name, sorted by name, each flattened to (C,)."""
    if not isinstance(library, Mapping):
        raise CheckpointError(path, "corrupt", "its shape_code_library is no dictionary")
    codes = {}
    for name in sorted(library, key=str):
        try:
            code = torch.as_tensor(library[name], dtype=torch.float32).flatten()
        except (TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(path, "corrupt", f"shape code of {name}: {error}") from error
        if not bool(torch.isfinite(code).all()):
            raise CheckpointError(path, "corrupt", f"shape code of {name} is not finite")
        codes[str(name)] = code
    return codes


def _config(path: Path, official: OfficialCheckpoint, options: OfficialOptions) -> NetworkConfig:
    """The network's settings, once those of the checkpoint are known to describe the same one."""
    settings = official.settings
    for name, expected in _REQUIRED_SETTINGS.items():
        if settings.get(name, expected) != expected:
            raise CheckpointError(
                path,
                "incompatible",
                f"it was trained with {name} = {settings[name]!r}, supported is {expected!r}",
            )
    config = network_config("dinov2_vits14")
    given = None if options.crop_size is None else (options.crop_size, options.crop_size)
    sides = settings.get("backbone_input_res", given or (config.crop_size, config.crop_size))
    patch = DinoV2.patch
    if (
        not isinstance(sides, (list, tuple))
        or [type(side) for side in sides] != [int, int]
        or sides[0] != sides[1]
        or sides[0] < patch
        or sides[0] % patch
    ):
        raise CheckpointError(
            path,
            "incompatible",
            f"its backbone_input_res is {sides!r}, supported are squares of a multiple of {patch}",
        )
    if given is not None and tuple(sides) != given:
        raise CheckpointError(
            path, "incompatible", f"--crop-size {given[0]}: its backbone_input_res is {sides!r}"
        )
    return dataclasses.replace(
        config,
        crop_size=sides[0],
        crop_rule=options.crop_rule,
        modulated_output=f"{_MODULATED_LAST_LAYER}.weight" in official.weights,
        normalised_shapes=_are_normalised(path, settings, options.shapes),
    )


def _are_normalised(path: Path, settings: Mapping[str, Any], shapes: str | None) -> bool:
    """Whether coordinates are normalised: nothing in the weights shows it."""
    stated = settings.get("normalized_recons")
    if shapes is None and not isinstance(stated, bool):
        where = "hparams lack normalized_recons" if settings else "it holds no settings (hparams)"
        raise CheckpointError(
            path,
            "incomplete",
            f"{where}: name them by hand with --shapes metric or --shapes normalised, and with "
            "--crop-size where crops do not have 420 px a side",
        )
    if shapes is not None and isinstance(stated, bool) and stated != (shapes == "normalised"):
        raise CheckpointError(
            path, "incompatible", f"--shapes {shapes}: its normalized_recons is {stated}"
        )
    return stated if shapes is None else shapes == "normalised"


def official_name(name: str, modulated_output: bool = False) -> str:
    """The name that the released code gives to one of our weights.

    Args:
        name: ours.
        modulated_output: the last layer of the decoder is modulated.
    """
    if modulated_output and name.startswith(f"{_LAST_LAYER}."):
        return _MODULATED_LAST_LAYER + name.removeprefix(_LAST_LAYER)
    for ours, official in _OFFICIAL_PREFIXES:
        if (start := ours.match(name)) and name[start.end()] == ".":
            rest = name[start.end() :]
            if "res_conv_unit" in official:
                rest = rest.replace(".norm", ".bn")  # group normalisations under an older name
            return start.expand(official) + rest
    raise KeyError(name)


def _renamed(path: Path, weights: Mapping[str, Tensor], network: CrispNetwork) -> dict[str, Tensor]:
    """The weights under this network's names, with every layer present and of its shape."""
    expected = network.state_dict()
    modulated = network.config.modulated_output
    ours = {official_name(name, modulated): name for name in expected}
    mismatched = [
        f"{name} {tuple(weight.shape)} instead of {tuple(expected[ours[name]].shape)}"
        for name, weight in weights.items()
        if name in ours and weight.shape != expected[ours[name]].shape
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for kind, names in (
            ("missing", [name for name in ours if name not in weights]),
            ("unexpected", [name for name in weights if name not in ours]),
            ("of another shape", mismatched),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            path,
            "incompatible",
            f"its weights are not those of {network.config.design}: {'; '.join(problems)}",
        )
    return {ours[name]: weight for name, weight in weights.items()}


def _library_codes(
    path: Path, official: OfficialCheckpoint, config: NetworkConfig, options: OfficialOptions
) -> dict[str, Tensor]:
    """Codes of the library by name; those of normalised shapes end with the size of their unit."""
    try:
        codes = official.codes
        if options.library is not None:
            codes = _codes(options.library, read_library_codes(options.library))
        if not codes or not config.normalised_shapes:
            return codes
        if options.objects_info is None:
            raise CheckpointError(
                path,
                "incomplete",
                "its library has normalised shapes, which need sizes: name objects_info.yaml with "
                "--objects-info, or leave the library out with --no-library",
            )
        sizes = read_unit_sizes(options.objects_info, list(codes))
    except DatasetError as error:
        raise CheckpointError(path, "incomplete", str(error)) from error
    return {name: torch.cat([code, torch.tensor([sizes[name]])]) for name, code in codes.items()}


def _library(
    path: Path,
    codes: Mapping[str, Tensor],
    decoder: ShapeDecoder,
    on_shape: Callable[[int, int], None] | None,
) -> tuple[ShapeLibrary | None, list[str]]:
    """The library of these codes, and the names whose decoded surface does not close."""
    if not codes:
        return None, []
    for name, code in codes.items():
        if len(code) != decoder.code_dim:
            raise CheckpointError(
                path,
                "incompatible",
                f"shape code of {name} has length {len(code)}, the decoder's {decoder.code_dim}",
            )
    stacked = torch.stack(list(codes.values()))
    boxes = shape_boxes(decoder, stacked, on_shape)
    library = ShapeLibrary(tuple(codes), stacked, boxes.lower, boxes.upper)
    closed = boxes.closed.tolist()
    return library, [name for name, is_closed in zip(codes, closed, strict=True) if not is_closed]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

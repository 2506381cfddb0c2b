"""The CRISP network: a backbone, a PNC head, a shape head and the shape decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crisp_ros.network.compact import FusionHead, ResNetTrunk, RgbdTrunk
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.depth_only import BlindTrunk, NoCoordinates
from crisp_ros.network.dinov2 import DinoV2
from crisp_ros.network.dpt import DptHead
from crisp_ros.network.features import BackboneFeatures
from crisp_ros.network.shape_head import ShapeHead
from crisp_ros.observation.crop_channels import CROP_RULES, GEOMETRY_CHANNELS

COLOUR_CHANNELS = 3
_RGB_MEAN = (0.485, 0.456, 0.406)
_RGB_STD = (0.229, 0.224, 0.225)
HEADS = ("pnc_head.", "shape_head.")
"""Beginnings of the names of the parameters that self-training changes."""


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Everything that fixes a network's layers; all of it can be written as JSON.

    Attributes:
        design: name of the backbone and PNC head, see `network_names`.
        crop_size: side S of the square input crop, px.
        pnc_stride: the PNC map has S / pnc_stride px a side.
        fusion_channels: width of the PNC head.
        shape_hidden: widths of the shape head's hidden layers.
        decoder_hidden: width of the shape decoder.
        decoder_layers: number of FiLM layers of the shape decoder.
        frozen_backbone: the backbone runs without gradients and is never trained.
        crop_rule: which part of the image a crop shows, one of `CROP_RULES`.
        modulated_output: the shape code modulates the decoder's last layer too.
        normalised_shapes: coordinates and shapes have a unit of their own, whose size in metres
            the registration finds.
    """

    design: str
    crop_size: int
    pnc_stride: int
    fusion_channels: int
    shape_hidden: tuple[int, ...]
    decoder_hidden: int
    decoder_layers: int
    frozen_backbone: bool
    crop_rule: str = "square"
    modulated_output: bool = False
    normalised_shapes: bool = False

    def __post_init__(self) -> None:
        if self.design not in _DESIGNS:
            raise ValueError(f"unknown network {self.design!r}: expected one of {network_names()}")
        widths = {
            "crop_size": self.crop_size,
            "pnc_stride": self.pnc_stride,
            "fusion_channels": self.fusion_channels,
            "decoder_hidden": self.decoder_hidden,
            "decoder_layers": self.decoder_layers,
            **{f"shape_hidden[{i}]": width for i, width in enumerate(self.shape_hidden)},
        }
        for name, width in widths.items():
            if type(width) is not int or not 1 <= width <= 8192:
                raise ValueError(
                    f"network setting {name} is {width!r}: expected an integer in 1..8192"
                )
        for name in ("frozen_backbone", "modulated_output", "normalised_shapes"):
            if type(getattr(self, name)) is not bool:
                value = getattr(self, name)
                raise ValueError(f"network setting {name} is {value!r}: expected a boolean")
        if self.crop_rule not in CROP_RULES:
            raise ValueError(
                f"network setting crop_rule is {self.crop_rule!r}: expected one of {CROP_RULES}"
            )
        if self.crop_rule != "square" and network_sees_geometry(self.design):
            raise ValueError(f"the network {self.design} needs crop_rule square")

    def to_json(self) -> dict[str, Any]:
        """The settings as a dictionary of JSON values."""
        return {**dataclasses.asdict(self), "shape_hidden": list(self.shape_hidden)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """The inverse of `to_json`; settings that older files lack have their defaults.

        Raises:
            ValueError: a setting is missing, unknown, or out of its range.
        """
        fields = dataclasses.fields(cls)
        missing = {f.name for f in fields if f.default is dataclasses.MISSING} - set(values)
        unknown = set(values) - {f.name for f in fields}
        if missing or unknown:
            raise ValueError(
                f"network settings do not match this version: missing {sorted(missing)}"
                f", unknown {sorted(unknown)}"
            )
        hidden = values["shape_hidden"]
        if not isinstance(hidden, (list, tuple)):
            raise ValueError(f"network setting shape_hidden is {hidden!r}: expected a list")
        return cls(**{**values, "shape_hidden": tuple(hidden)})


class NetworkOutput(NamedTuple):
    """Output of the network for a batch of crops.

    Attributes:
        pnc: pose-normalised coordinates (B, 3, S', S') of every pixel, object frame, metres (or
            units of the shape, see `NetworkConfig.normalised_shapes`).
        code: shape codes (B, C), without the size of the unit.
    """

    pnc: Tensor
    code: Tensor


class _Parts(NamedTuple):
    """The parts of a design besides the shape head and decoder, which all designs share.

    Attributes:
        backbone: a module from normalised crops (B, C, S, S) to `BackboneFeatures`, with the length
            of their pooled vector as the attribute `pooled_features`.
        pnc_head: a module from (`BackboneFeatures`, side in px) to PNC maps (B, 3, side, side).

    Both keep their whole state in parameters and persistent buffers, because a model file is loaded
    into modules that were made without memory (on the meta device, where nn.init.normal_ takes
    seconds: use nn.init.trunc_normal_).
    """

    backbone: nn.Module
    pnc_head: nn.Module


class _Design(NamedTuple):
    """A named network.

    Attributes:
        settings: its default settings.
        parts: builds its own parts from settings.
        crop_multiple: what the side of its crops has to be a multiple of, px.
        input_channels: of its crops: 3 (colour), or 8 (colour, then `geometry_channels`).
    """

    settings: Mapping[str, Any]
    parts: Callable[[NetworkConfig], _Parts]
    crop_multiple: int = 1
    input_channels: int = COLOUR_CHANNELS


def _dinov2_parts(config: NetworkConfig) -> _Parts:
    return _Parts(DinoV2(), DptHead(DinoV2.channels, fusion_channels=config.fusion_channels))


def _compact_parts(config: NetworkConfig) -> _Parts:
    return _with_fusion_head(ResNetTrunk(), config)


def _compact_rgbd_parts(config: NetworkConfig) -> _Parts:
    return _with_fusion_head(RgbdTrunk(), config)


def _depth_only_parts(config: NetworkConfig) -> _Parts:
    return _Parts(BlindTrunk(), NoCoordinates())


def _with_fusion_head(trunk: ResNetTrunk | RgbdTrunk, config: NetworkConfig) -> _Parts:
    return _Parts(trunk, FusionHead(trunk.channels, trunk.pooled_features, config.fusion_channels))


_COMPACT_SETTINGS: Mapping[str, Any] = {
    "crop_size": 96,
    "pnc_stride": 2,
    "fusion_channels": 80,
    "shape_hidden": (256, 256),
    "decoder_hidden": 128,
    "decoder_layers": 5,
    "frozen_backbone": False,
}
_DESIGNS: dict[str, _Design] = {
    "dinov2_vits14": _Design(
        {
            "crop_size": 420,
            "pnc_stride": 1,
            "fusion_channels": 256,
            "shape_hidden": (512, 512, 512),
            "decoder_hidden": 256,
            "decoder_layers": 5,
            "frozen_backbone": True,
        },
        _dinov2_parts,
        DinoV2.patch,
    ),
    "compact": _Design(_COMPACT_SETTINGS, _compact_parts, 2),
    "compact_rgbd": _Design(
        _COMPACT_SETTINGS, _compact_rgbd_parts, 2, COLOUR_CHANNELS + GEOMETRY_CHANNELS
    ),
    "depth_only": _Design(
        {
            "crop_size": 16,
            "pnc_stride": 1,
            "fusion_channels": 1,
            "shape_hidden": (1,),
            "decoder_hidden": 128,
            "decoder_layers": 5,
            "frozen_backbone": True,
        },
        _depth_only_parts,
    ),
}


class CrispNetwork(nn.Module):
    """Map crops to pose-normalised coordinates and shape codes (paper, appendix B).

    A crop (C, S, S) has `input_channels` C: RGB in [0, 1], and for designs that see geometry those
    of `crisp_ros.observation.crop_channels.geometry_channels`.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone, self.pnc_head = _DESIGNS[config.design].parts(config)
        self.decoder = ShapeDecoder(
            config.decoder_hidden,
            config.decoder_layers,
            config.modulated_output,
            config.normalised_shapes,
        )
        self.shape_head = ShapeHead(
            self.backbone.pooled_features, config.shape_hidden, self.decoder.predicted_dim
        )
        if config.frozen_backbone:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> CrispNetwork:
        """Switch to training mode or back; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.config.frozen_backbone:
            self.backbone.eval()
        return self

    @property
    def crop_size(self) -> int:
        """Side S of the square crops, px."""
        return self.config.crop_size

    @property
    def input_channels(self) -> int:
        """Channels of the crops: 3 for colour alone, 8 with mask and geometry."""
        return _design(self.config.design).input_channels

    @property
    def predicts_coordinates(self) -> bool:
        """Whether there is a PNC head; false for a model of a decoder and a prior alone."""
        return not isinstance(self.pnc_head, NoCoordinates)

    @property
    def sees_geometry(self) -> bool:
        """Whether the crops have mask and geometry after colour."""
        return self.input_channels > COLOUR_CHANNELS

    @property
    def crop_rule(self) -> str:
        """Rule of what the crops show, one of `CROP_RULES`."""
        return self.config.crop_rule

    @property
    def has_normalised_shapes(self) -> bool:
        """Whether coordinates and shapes have their own unit, see `in_metres`."""
        return self.config.normalised_shapes

    def forward(self, crops: Tensor) -> NetworkOutput:
        """PNC maps and shape codes of crops (B, C, S, S)."""
        return self.heads(self.features(crops), crops.shape[-1] // self.config.pnc_stride)

    def features(self, crops: Tensor) -> BackboneFeatures:
        """Backbone features of crops (B, C, S, S).

        With a frozen backbone they carry no gradient, so that they can be kept and used again.

        Raises:
            ValueError: the crops are not (B, C, S, S).
        """
        channels = self.input_channels
        if crops.ndim != 4 or crops.shape[1] != channels or crops.shape[2] != crops.shape[3]:
            raise ValueError(
                f"crops have shape {tuple(crops.shape)}: expected square crops (B, {channels}, S,"
                f" S) for the network {self.config.design}"
            )
        mean = crops.new_tensor(_RGB_MEAN)[:, None, None]
        std = crops.new_tensor(_RGB_STD)[:, None, None]
        normalised = (crops[:, :3] - mean) / std
        if channels > COLOUR_CHANNELS:
            normalised = torch.cat([normalised, crops[:, COLOUR_CHANNELS:]], dim=1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.frozen_backbone):
            return self.backbone(normalised)

    def heads(self, features: BackboneFeatures, pnc_size: int) -> NetworkOutput:
        """PNC maps (B, 3, pnc_size, pnc_size) and shape codes (B, C) of backbone features."""
        pnc = self.pnc_head(features, pnc_size)
        with torch.autocast(pnc.device.type, enabled=False):  # small, and codes need the accuracy
            return NetworkOutput(pnc, self.shape_head(features.pooled.float()))

    def in_metres(self, output: NetworkOutput, size: Tensor) -> NetworkOutput:
        """The output of a network of normalised shapes, in metres and with whole shape codes.

        Args:
            output: of B crops.
            size: (B,) metres per unit.
        """
        code = torch.cat([output.code, size[:, None].to(output.code)], dim=-1)
        return NetworkOutput(output.pnc * size[:, None, None, None], code)


def network_names() -> tuple[str, ...]:
    """Names that `build_network` knows."""
    return tuple(_DESIGNS)


def crop_multiple(name: str) -> int:
    """Return the number of pixels that divides the crop side of a named network.

    Raises:
        ValueError: no network has this name.
    """
    return _design(name).crop_multiple


def network_sees_geometry(name: str) -> bool:
    """Whether a named network's crops have mask and geometry after colour.

    Raises:
        ValueError: no network has this name.
    """
    return _design(name).input_channels > COLOUR_CHANNELS


def network_config(name: str) -> NetworkConfig:
    """The default settings of a named network.

    Raises:
        ValueError: no network has this name.
    """
    return NetworkConfig(design=name, **_design(name).settings)


def _design(name: str) -> _Design:
    if name not in _DESIGNS:
        raise ValueError(f"unknown network {name!r}: expected one of {network_names()}")
    return _DESIGNS[name]


def build_network(name: str) -> CrispNetwork:
    """A named network with its default settings and random weights.

    Raises:
        ValueError: no network has this name.
    """
    return CrispNetwork(network_config(name))

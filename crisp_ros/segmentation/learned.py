"""Objects by the network together with geometry."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from .clusters import connected_surfaces
from .fusion import FusionSettings, fused_labels
from .geometric import GeometricSettings, Geometry, Masks, of_object_size
from .network import OFFSET_PX, SegmenterNetwork
from .network_input import network_input
from .votes import VoteSettings, voted_labels

_VOTING = 0.8  # pixels vote from this share of the foreground's threshold on


@dataclass(frozen=True)
class LearnedSettings:
    """Settings of the segmentation by the network.

    Attributes:
        votes: see `VoteSettings`.
        fusion: with the surfaces that geometry finds; see `FusionSettings`.
    """

    votes: VoteSettings = field(default_factory=VoteSettings)
    fusion: FusionSettings = field(default_factory=FusionSettings)


def learned_masks(
    rgb: NDArray[np.uint8],
    geometry: Geometry,
    focal_px: float,
    network: SegmenterNetwork,
    settings: LearnedSettings,
    limits: GeometricSettings,
) -> Masks:
    """Separate the objects of an image by network and geometry.

    Args:
        rgb: (H, W, 3) the full image.
        geometry: its planes and points, at the reduced size.
        focal_px: focal length of the full image, pixels.
        network: in evaluation mode.
        settings: see `LearnedSettings`.
        limits: sizes of objects.
    """
    image = geometry.image
    height, width = image.valid.shape
    whole = rgb[: height * image.step, : width * image.step]
    small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    inputs = network_input(small, image.points, geometry.foreground.height, image.valid)
    with torch.inference_mode():
        maps = network(torch.from_numpy(inputs)[None])
    offset = maps.offset[0].numpy() * np.float32(OFFSET_PX)
    probability, border = (
        torch.sigmoid(logit[0]).numpy() for logit in (maps.foreground, maps.border)
    )
    votes = voted_labels(probability > _VOTING * settings.fusion.foreground, offset, settings.votes)
    size = (width, height)
    surfaces = connected_surfaces(
        image, geometry.foreground.mask, image.step / focal_px, limits.cluster
    )
    labels = fused_labels(
        of_object_size(surfaces, image, geometry.foreground, limits).labels,
        cv2.resize(votes.astype(np.float32), size, interpolation=cv2.INTER_NEAREST).astype(
            np.int32
        ),
        cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR),
        cv2.resize(border, size, interpolation=cv2.INTER_LINEAR),
        settings.fusion,
    )
    masks = of_object_size(labels, image, geometry.foreground, limits)
    if not labels.any():
        return masks._replace(reasons=["no pixel looks like a part of an object"])
    return masks

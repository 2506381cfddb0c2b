"""Features from a backbone for the PNC head and the shape head."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BackboneFeatures(NamedTuple):
    """Feature maps of one batch of crops.

    Attributes:
        levels: feature maps (B, C_i, H_i, W_i), the earliest layer first.
        class_tokens: the class token (B, C_i) of each level; empty for a convolutional backbone.
        pooled: (B, P), the shape head's input.
    """

    levels: tuple[Tensor, ...]
    class_tokens: tuple[Tensor, ...]
    pooled: Tensor

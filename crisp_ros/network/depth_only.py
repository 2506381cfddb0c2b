"""The network of a model that has only a decoder and a prior: it looks at nothing."""

from __future__ import annotations

from torch import Tensor, nn

from crisp_ros.network.features import BackboneFeatures


class BlindTrunk(nn.Module):
    """A backbone without parameters whose features are zero."""

    pooled_features = 1

    def forward(self, images: Tensor) -> BackboneFeatures:
        """Features of crops (B, 3, S, S)."""
        return BackboneFeatures((), (), images.new_zeros((len(images), 1)))


class NoCoordinates(nn.Module):
    """A PNC head that answers the origin of the object frame everywhere."""

    def forward(self, features: BackboneFeatures, side: int) -> Tensor:
        """PNC maps (B, 3, side, side), metres."""
        return features.pooled.new_zeros((len(features.pooled), 3, side, side))

"""Starts of a search under a prior at what a network says of an object: its pose and its shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.prior_solutions import Solutions
from crisp_ros.correction.shape_mixture import ShapeMixture


class NetworkGuess(NamedTuple):
    """A network's pose and shape of one object.

    Attributes:
        T_object_camera: (4, 4), registered from its coordinates.
        latent: (D,) of its shape code under the prior.
    """

    T_object_camera: Tensor
    latent: Tensor


@dataclass(frozen=True)
class NetworkStartSettings:
    """Settings of `network_starts`.

    Attributes:
        kinds: most likely ones whose priors the network's shape is tried under.
        examples: most like the network's shape, tried at its pose.
        farthest: a shape farther from a kind's mean is drawn towards it, standard deviations.
    """

    kinds: int = 2
    examples: int = 4
    farthest: float = 2.0


def network_starts(
    guess: NetworkGuess, mixture: ShapeMixture, settings: NetworkStartSettings
) -> Solutions:
    """The network's own shape under its likely kinds, and the examples most like it.

    Args:
        guess: of one object.
        mixture: kinds of shapes and their examples.
        settings: see `NetworkStartSettings`.
    """
    log_density = mixture.log_density(guess.latent)
    kinds = log_density.topk(min(settings.kinds, len(log_density))).indices
    priors = mixture.prior(kinds)
    deviations = priors.deviations(guess.latent.expand(len(kinds), -1))
    typical = settings.farthest * deviations.shape[1] ** 0.5
    length = deviations.norm(dim=1, keepdim=True).clamp_min(1e-9)
    own = priors.latents(deviations * (typical / length).clamp_max(1.0))
    distance = (mixture.latents - guess.latent).norm(dim=1)
    count = min(settings.examples, len(distance))
    nearest = distance.topk(count, largest=False).indices
    latents = torch.cat([own, mixture.latents[nearest]])
    poses = guess.T_object_camera.expand(len(latents), 4, 4)
    return Solutions.starting(poses, latents, torch.cat([kinds, mixture.kinds[nearest]]))

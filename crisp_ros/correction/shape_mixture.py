"""Kinds of shapes, each with a prior of its own, and examples of them.

One Gaussian over the latents of boxes, bottles and mugs together expects shapes between them that
no object has. So each kind has its own: the covariance of its examples, drawn towards the mean
covariance of all kinds as if some examples more had been seen with that. A wider prior about the
same mean is for objects that are not quite of any kind.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import take_rows
from crisp_ros.correction.latent_prior import LatentPrior
from crisp_ros.network.shape_prior import ShapePrior

_POOLED_EXAMPLES = 5.0  # as that many examples counts the mean covariance of all kinds
_WIDENING = 3.0  # of the deviations that the wider prior of a kind allows
_LEAST_DEVIATION = 0.02  # of a kind in any direction, standard deviations of all shapes


class ShapeMixture(NamedTuple):
    """Kinds of shapes and their examples.

    Attributes:
        latents: (K, D) of the examples.
        kinds: (K,) numbers of their kinds.
        lower: (K, 3) lowest corners of the examples' boxes, object frame, metres; NaN for those
            that are not known.
        upper: (K, 3) highest corners.
        priors: of the kinds, G of them.
    """

    latents: Tensor
    kinds: Tensor
    lower: Tensor
    upper: Tensor
    priors: LatentPrior

    @classmethod
    def standard(cls, mean: Tensor) -> ShapeMixture:
        """One kind with a standard normal prior, whose example is the mean (D,), all zeros."""
        unknown = torch.full_like(mean.new_zeros(1, 3), torch.nan)
        kinds = torch.zeros(1, dtype=torch.long, device=mean.device)
        return cls(mean[None], kinds, unknown, unknown, LatentPrior.standard(mean[None]))

    @classmethod
    def of_prior(cls, prior: ShapePrior) -> ShapeMixture:
        """The kinds of a model's prior; a standard one where it has no examples."""
        if prior.examples is None:
            return cls.standard(torch.zeros_like(prior.basis[:, 0]))
        latents, kinds, lower, upper = prior.examples
        return cls(latents, kinds, lower, upper, _priors(latents, kinds))

    @property
    def has_examples(self) -> bool:
        """Whether the boxes of the examples are known."""
        return not bool(self.lower.isnan().any())

    def prior(self, kinds: Tensor) -> LatentPrior:
        """The priors of objects of kinds (B,), the wider ones for numbers of `wider_kinds`."""
        count = len(self.priors.mean)
        mean, factor, inverse = take_rows(self.priors, kinds % count)
        width = torch.where(kinds < count, 1.0, _WIDENING).to(factor)[:, None, None]
        return LatentPrior(mean, factor * width, inverse / width)

    def wider_kinds(self, kinds: Tensor) -> Tensor:
        """Numbers (B,) of the wider priors of kinds (B,), for objects that are unlike all kinds."""
        return kinds % len(self.priors.mean) + len(self.priors.mean)

    @property
    def log_widening(self) -> float:
        """The logarithm of the ratio of the wider prior's volume to that of the kind's."""
        return self.latents.shape[1] * math.log(_WIDENING)

    def log_density(self, latent: Tensor) -> Tensor:
        """Logarithms (G,) of the kinds' densities at a latent (D,), up to a constant."""
        return self.priors.log_density(latent.expand(len(self.priors.mean), -1))


def _priors(latents: Tensor, kinds: Tensor) -> LatentPrior:
    """The priors of all kinds of examples with latents (K, D)."""
    members = torch.nn.functional.one_hot(kinds).to(latents).T.double()  # (G, K)
    counts = members.sum(1)
    means = members @ latents.double() / counts[:, None]
    offsets = latents.double() - means[kinds]
    scatter = torch.einsum("gk,kd,ke->gde", members, offsets, offsets)
    freedom = (counts - 1.0).sum()
    unit = torch.eye(latents.shape[1]).to(scatter)
    pooled = scatter.sum(0) / freedom if freedom > 0 else unit
    weights = (counts - 1.0 + _POOLED_EXAMPLES)[:, None, None]
    covariance = (scatter + _POOLED_EXAMPLES * pooled) / weights + _LEAST_DEVIATION**2 * unit
    return LatentPrior.of_covariances(means.to(latents), covariance)

"""Why coordinates are metric: with normalised ones self-training shrinks what the head answers.

Table 11 and Fig. 14 of the paper. Both kinds go the same way: the PNC head is trained anew on
crops with truth, then learns from its own corrected and certified answers. Normalised coordinates
leave the size to the pose, z = s R x + t, and the corrector moves s, too; scaling s, t and z by b
scales its loss by b^2 (eq. 24), so small is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crisp_ros.adaptation.learner import Learner, LearnerSettings
from crisp_ros.adaptation.reference_set import ReferenceSet
from crisp_ros.adaptation.samples import Batch, FeatureCache, Sample
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.surface import surface_points
from crisp_ros.evaluation.metrics import auc
from crisp_ros.geometry.chamfer import nearest_distances
from crisp_ros.geometry.registration import RegistrationSettings, align, register
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.maps import read_maps

KINDS = ("metric", "normalised")
ADD_S_M = 0.02
_REGISTRATION = RegistrationSettings(triples=256, hypotheses=32, scored_points=128)
_PAIRS = 512
_SURFACE_POINTS = 256
_CHUNK = 21


@dataclass(frozen=True)
class CoordinatesSettings:
    """Settings of the study; of both kinds the same.

    Attributes:
        head_steps, head_rate, head_batch: of the supervised training of the PNC head, by Adam.
        learner: of the self-training, the paper's plain SGD.
        steps: of the self-training.
        measured_every: steps.
        iterations, rate: of the corrector, the paper's Algorithm 1: Adam on the coordinates.
        certificate: of the pseudo-labels.
        seed: of all draws.
    """

    head_steps: int = 120
    head_rate: float = 3e-4
    head_batch: int = 12
    learner: LearnerSettings = field(
        default_factory=lambda: LearnerSettings(batch=10, pnc_scale=1e4, code_scale=0.0)
    )
    steps: int = 80
    measured_every: int = 20
    iterations: int = 50
    rate: float = 1e-3
    certificate: CertificateSettings = field(default_factory=CertificateSettings)
    seed: int = 0


class Seen(NamedTuple):
    """Crops with truth: samples B whose pose and code are true, and their library index (B,)."""

    samples: tuple[Sample, ...]
    shape: Tensor


def seen(truth: ReferenceSet, model: Model) -> Seen:
    """The crops of a set, of whatever light, as samples of self-training."""
    parts = (truth.crops, truth.grid, truth.points, truth.T_object_camera)
    codes = model.library.codes[truth.shape]
    rows = zip(*parts, codes, strict=True)
    return Seen(tuple(Sample(str(i), True, *row) for i, row in enumerate(rows)), truth.shape)


class Similarity(NamedTuple):
    """z = scale R x + translation: scale (B,), rotation (B, 3, 3), translation (B, 3) metres."""

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def of(self, points: Tensor) -> Tensor:
        """Points (B, N, 3) of the camera frame in the object frame."""
        turned = points @ self.rotation.transpose(-1, -2)
        return self.scale[:, None, None] * turned + self.translation[:, None]

    def undone(self, points: Tensor) -> Tensor:
        """Points (B, N, 3) of the object frame in the camera frame."""
        return (points - self.translation[:, None]) @ self.rotation / self.scale[:, None, None]


class Labels(NamedTuple):
    """Pseudo-labels: z (B, N, 3) metres; certified (B,); motion that made them."""

    z: Tensor
    certified: Tensor
    motion: Similarity


def similarity(points: Tensor, z: Tensor, weights: Tensor, scaled: bool) -> Similarity:
    """The motion that minimises sum_i w_i ||s R x_i + t - z_i||^2 (Umeyama); s is 1 if not scaled.

    Differentiable. Args: points, z (B, N, 3) metres; weights (B, N).
    """
    rotation = align(points, z, weights).rotation
    share = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-9))[..., None]
    centre, middle = (share * points).sum(1), (share * z).sum(1)
    turned = (points - centre[:, None]) @ rotation.transpose(-1, -2)
    scale = torch.ones_like(centre[:, 0])
    if scaled:
        agreement = (share * turned * (z - middle[:, None])).sum((1, 2))
        scale = (agreement / (share * turned.square()).sum((1, 2)).clamp_min(1e-9)).clamp_min(1e-3)
    shift = middle - scale[:, None] * (rotation @ centre[..., None])[..., 0]
    return Similarity(scale, rotation, shift)


@torch.no_grad()
def inliers(points: Tensor, z: Tensor, scaled: bool, seed: int) -> Tensor:
    """Weights (B, N) of the points that agree on a pose, 0 or 1.

    Where the scale is free it is first taken as the median ratio of distances between pairs.
    """
    if scaled:
        generator = torch.Generator().manual_seed(seed)
        first, second = torch.randint(points.shape[1], (2, _PAIRS), generator=generator)
        depth = (points[:, first] - points[:, second]).norm(dim=-1)
        ratio = (z[:, first] - z[:, second]).norm(dim=-1) / depth.clamp_min(1e-6)
        ratio = torch.where(depth > 0.01, ratio, torch.nan).nanmedian(-1).values
        points = points * ratio.nan_to_num(1.0).clamp_min(1e-3)[:, None, None]
    valid = torch.ones_like(points[..., 0], dtype=torch.bool)
    return register(points, z, valid, _REGISTRATION).inliers.to(points.dtype)


def labels(
    decoder: ShapeDecoder,
    codes: Tensor,
    points: Tensor,
    z: Tensor,
    scaled: bool,
    settings: CoordinatesSettings,
) -> Labels:
    """Corrects coordinates by Algorithm 1's pose step through the pose layer; keeps the best.

    Args:
        decoder: f_d, metres.
        codes: (B, C) of the shapes that the shape head named; they are kept.
        points: (B, N, 3) depth points, camera frame, metres.
        z: (B, N, 3) what the PNC head said, metres at the named shape's size.
        scaled: the pose has a scale.
        settings: see `CoordinatesSettings`.
    """
    weights = inliers(points, z, scaled, settings.seed)
    offset = torch.zeros_like(z, requires_grad=True)
    adam = torch.optim.Adam([offset], settings.rate)
    lowest = torch.full_like(z[:, 0, 0], torch.inf)
    best = similarity(points, z, weights, scaled)
    for _ in range(settings.iterations + 1):
        motion = similarity(points, z + offset, weights, scaled)
        posed = motion.of(points)
        sdf, gradient = decoder.sdf_and_gradient(posed.detach(), codes)
        objective = sdf.square().mean(-1)
        better = objective < lowest
        lowest = torch.where(better, objective, lowest)
        parts = zip(motion, best, strict=True)
        best = Similarity(*(torch.where(_like(better, a), a.detach(), b) for a, b in parts))
        adam.zero_grad()
        (2 * sdf[..., None] * gradient * posed).mean(1).sum().backward()
        adam.step()
    answer = best.of(points)
    distance = decoder.sdf(answer, codes).abs().quantile(settings.certificate.quantile, dim=-1)
    known = weights.sum(-1) >= _REGISTRATION.min_inlier_share * weights.shape[-1]
    return Labels(answer, known & (distance <= settings.certificate.threshold_m), best)


def _like(flags: Tensor, other: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (other.ndim - 1))


class CoordinatesStudy:
    """One kind of coordinates: a head that answers in them, trained, then self-trained."""

    def __init__(self, model: Model, kind: str, settings: CoordinatesSettings) -> None:
        """Copies the heads; the model is not changed.

        Args:
            model: has a shape library.
            kind: one of `KINDS`.
            settings: see `CoordinatesSettings`.
        """
        self.scaled = kind == "normalised"
        self._model, self._settings = model, settings
        # What the head says is z times this: 1, or the mean diagonal over the object's. So both
        # kinds of answer have the same magnitude, and the same rates and scales suit them.
        diagonals = model.library.diameters
        self._ratio = diagonals.mean() / diagonals if self.scaled else torch.ones_like(diagonals)
        self.learner = Learner(model.network, settings.learner)
        self._cache = FeatureCache(model.network, model.library.codes.device)
        field = DecoderField(model.network.decoder)
        shapes = PreparedLibrary(field, model.library).all_shapes
        surfaces = surface_points(field, shapes, _SURFACE_POINTS)
        first = surfaces.valid.int().argmax(-1)
        spare = surfaces.points[torch.arange(len(first)), first]
        self._surfaces = torch.where(surfaces.valid[..., None], surfaces.points, spare[:, None])

    def train_head(
        self, crops: Seen, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Trains the PNC head on crops with truth: loss (20), the smallest over symmetries."""
        settings, head = self._settings, self.learner.heads["pnc_head"]
        samples = crops.samples
        rng = np.random.default_rng(settings.seed)
        adam = torch.optim.Adam(head.parameters(), settings.head_rate)
        slower = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.head_steps)
        for step in range(settings.head_steps):
            rows = rng.choice(len(samples), min(settings.head_batch, len(samples)), replace=False)
            batch = self._cache.batch([samples[row] for row in rows])
            shape = crops.shape[torch.from_numpy(rows)]
            said = self._said(batch) / self._ratio[shape][:, None, None]
            symmetric = [
                (one - transform(group, z)).square().sum(-1).mean(-1).min()
                for one, z, group in zip(
                    said, batch.z, (self._model.library.symmetries[k] for k in shape), strict=True
                )
            ]
            adam.zero_grad()
            torch.stack(symmetric).mean().backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            adam.step()
            slower.step()
            on_step(step + 1, settings.head_steps)
        self.learner.load(dict(self.learner.heads.named_parameters()))

    def self_train(
        self, crops: Seen, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> list[dict[str, Any]]:
        """Self-training on crops whose truth is only measured by; the figures, as JSON values.

        Returns:
            At the start and every `measured_every` steps what `measured` says.
        """
        settings = self._settings
        samples = crops.samples
        shape = self._named(samples)
        rng = np.random.default_rng(settings.seed)
        history = [{"step": 0, **self.measured(crops)}]
        for step in range(1, settings.steps + 1):
            count = min(settings.learner.batch, len(samples))
            rows = torch.from_numpy(rng.choice(len(samples), count, replace=False))
            batch = self._cache.batch([samples[row] for row in rows])
            with torch.no_grad():
                said = self._said(batch)
            found = self._labels(batch, said, shape[rows])
            chosen = found.certified.nonzero()[:, 0].tolist()
            if chosen:
                kept = self._cache.batch([samples[rows[i]] for i in chosen])
                wanted = found.z[chosen] * self._ratio[shape[rows][chosen]][:, None, None]
                self.learner.step(kept._replace(z=wanted))
            if step % settings.measured_every == 0 or step == settings.steps:
                history.append({"step": step, **self.measured(crops)})
            on_step(step, settings.steps)
        return history

    def measured(self, crops: Seen) -> dict[str, float]:
        """Figures of the head on crops, with truth.

        norm_m: root mean square of ||Z||. size: that over the truth's. scale: of the pose, median.
        auc_add_s_2cm: of the true shape posed by registration alone, at the size that the pose's
        scale gives it. certified: the share of pseudo-labels that are certified.
        """
        norms, true, scales, errors, certified = [], [], [], [], []
        named = self._named(crops.samples)
        for rows in torch.arange(len(crops.samples)).split(_CHUNK):
            kept = [crops.samples[row] for row in rows]
            shape, batch = crops.shape[rows], self._cache.batch(kept)
            with torch.no_grad():
                said = self._said(batch)
            z = said / self._ratio[shape][:, None, None]
            norms.append(z.square().sum(-1).mean(-1))
            true.append(batch.z.square().sum(-1).mean(-1))
            weights = inliers(batch.points, z, self.scaled, self._settings.seed)
            motion = similarity(batch.points, z, weights, self.scaled)
            scales.append(motion.scale)
            surface = self._surfaces[shape]
            T_camera_object = invert(torch.stack([sample.T_object_camera for sample in kept]))
            at_truth = transform(T_camera_object, surface)
            errors.append(nearest_distances(at_truth, motion.undone(surface)).mean(-1))
            certified.append(self._labels(batch, said, named[rows]).certified)
        norm, truth = (torch.cat(part).mean().sqrt().item() for part in (norms, true))
        return {
            "norm_m": norm,
            "size": norm / truth,
            "scale": torch.cat(scales).median().item(),
            "auc_add_s_2cm": auc(torch.cat(errors).tolist(), ADD_S_M),
            "certified": torch.cat(certified).float().mean().item(),
        }

    @torch.no_grad()
    def coordinates(self, crops: Seen, row: int) -> Tensor:
        """What the head says of one crop (N, 3), metres at the true shape's size."""
        batch = self._cache.batch([crops.samples[row]])
        return (self._said(batch) / self._ratio[crops.shape[row]])[0]

    def surface(self, shape: int) -> Tensor:
        """Points (M, 3) on a library shape, object frame, metres."""
        return self._surfaces[shape]

    def _said(self, batch: Batch) -> Tensor:
        return read_maps(self.learner.answer(batch.features).pnc, batch.grid)

    def _labels(self, batch: Batch, said: Tensor, shape: Tensor) -> Labels:
        z = said / self._ratio[shape][:, None, None]
        codes = self._model.library.codes[shape]
        decoder = self._model.network.decoder
        return labels(decoder, codes, batch.points, z, self.scaled, self._settings)

    @torch.no_grad()
    def _named(self, samples: Sequence[Sample]) -> Tensor:
        """Library index (B,) that the shape head, which is not trained here, gives each sample."""
        found = []
        for start in range(0, len(samples), _CHUNK):
            batch = self._cache.batch(samples[start : start + _CHUNK])
            codes = self.learner.answer(batch.features).code
            found.append(torch.cdist(codes, self._model.library.codes).argmin(-1))
        return torch.cat(found)

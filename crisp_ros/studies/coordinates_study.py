"""Self-training of a head with metric and with normalised coordinates, which then shrink.

Table 11 and Fig. 14 of the paper. For both kinds the PNC head is first trained on crops with ground
truth, then on its own corrected and certified predictions. Normalised coordinates leave the size to
the pose, z = s R x + t, and the corrector optimises s, too; scaling s, t and z by b scales its loss
by b^2 (eq. 24), so small coordinates are favoured.
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
from crisp_ros.geometry.chamfer import nearest_distances, pairwise_distances
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
    """Settings of the study, the same for both kinds.

    Attributes:
        head_steps: of the supervised training of the PNC head, by Adam.
        head_rate: its learning rate.
        head_batch: its batch size.
        learner: of the self-training, the paper's plain SGD.
        steps: of the self-training.
        measured_every: steps between two measurements.
        iterations: of the corrector, the paper's Algorithm 1: Adam on the coordinates.
        rate: learning rate of the corrector.
        certificate: of the pseudo-labels.
        seed: of all random choices.
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


class AnnotatedCrops(NamedTuple):
    """Crops with ground truth.

    Attributes:
        samples: B of them, with true pose and code.
        shape: (B,) library index.
    """

    samples: tuple[Sample, ...]
    shape: Tensor


def annotated_crops(truth: ReferenceSet, model: Model) -> AnnotatedCrops:
    """Convert the crops of a set to samples of self-training."""
    parts = (truth.crops, truth.grid, truth.points, truth.T_object_camera)
    codes = model.library.codes[truth.shape]
    rows = zip(*parts, codes, strict=True)
    return AnnotatedCrops(
        tuple(Sample(str(i), True, *row) for i, row in enumerate(rows)), truth.shape
    )


class Similarity(NamedTuple):
    """A similarity transform z = s R x + t from the camera to the object frame.

    Attributes:
        scale: (B,).
        rotation: (B, 3, 3).
        translation: (B, 3) metres.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """Transform points (B, N, 3) from the camera to the object frame."""
        rotated = points @ self.rotation.transpose(-1, -2)
        return self.scale[:, None, None] * rotated + self.translation[:, None]

    def apply_inverse(self, points: Tensor) -> Tensor:
        """Transform points (B, N, 3) from the object to the camera frame."""
        return (points - self.translation[:, None]) @ self.rotation / self.scale[:, None, None]


class PseudoLabels(NamedTuple):
    """Pseudo-labels of B samples.

    Attributes:
        z: (B, N, 3) coordinates, metres.
        certified: (B,) bool.
        motion: of the depth points to z.
    """

    z: Tensor
    certified: Tensor
    motion: Similarity


def similarity(points: Tensor, z: Tensor, weights: Tensor, scaled: bool) -> Similarity:
    """Fit the similarity that minimises sum_i w_i ||s R x_i + t - z_i||^2 (Umeyama).

    The result is differentiable.

    Args:
        points: (B, N, 3) x, metres.
        z: (B, N, 3) metres.
        weights: (B, N).
        scaled: s is free; otherwise it is 1.
    """
    rotation = align(points, z, weights).rotation
    share = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-9))[..., None]
    centre, middle = (share * points).sum(1), (share * z).sum(1)
    rotated = (points - centre[:, None]) @ rotation.transpose(-1, -2)
    scale = torch.ones_like(centre[:, 0])
    if scaled:
        agreement = (share * rotated * (z - middle[:, None])).sum((1, 2))
        scale = (agreement / (share * rotated.square()).sum((1, 2)).clamp_min(1e-9)).clamp_min(1e-3)
    shift = middle - scale[:, None] * (rotation @ centre[..., None])[..., 0]
    return Similarity(scale, rotation, shift)


@torch.no_grad()
def inliers(points: Tensor, z: Tensor, scaled: bool, seed: int) -> Tensor:
    """Find the points that agree on a pose: weights (B, N), 0 or 1.

    A free scale is first estimated as the median ratio of distances between pairs of points.
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


def pseudo_labels(
    decoder: ShapeDecoder,
    codes: Tensor,
    points: Tensor,
    z: Tensor,
    scaled: bool,
    settings: CoordinatesSettings,
) -> PseudoLabels:
    """Correct coordinates by Algorithm 1's pose step through the pose layer, and keep the best.

    Args:
        decoder: f_d, metres.
        codes: (B, C) of the shapes that the shape head predicts; they are not changed.
        points: (B, N, 3) depth points, camera frame, metres.
        z: (B, N, 3) predictions of the PNC head, metres at the predicted shape's size.
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
        aligned = motion.apply(points)
        sdf, gradient = decoder.sdf_and_gradient(aligned.detach(), codes)
        objective = sdf.square().mean(-1)
        better = objective < lowest
        lowest = torch.where(better, objective, lowest)
        parts = zip(motion, best, strict=True)
        best = Similarity(*(torch.where(_like(better, a), a.detach(), b) for a, b in parts))
        adam.zero_grad()
        (2 * sdf[..., None] * gradient * aligned).mean(1).sum().backward()
        adam.step()
    z = best.apply(points)
    distance = decoder.sdf(z, codes).abs().quantile(settings.certificate.quantile, dim=-1)
    known = weights.sum(-1) >= _REGISTRATION.min_inlier_share * weights.shape[-1]
    return PseudoLabels(z, known & (distance <= settings.certificate.threshold_m), best)


def _like(flags: Tensor, other: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (other.ndim - 1))


class CoordinatesStudy:
    """One kind of coordinates: a head that predicts them, trained, then self-trained."""

    def __init__(self, model: Model, kind: str, settings: CoordinatesSettings) -> None:
        """Copy the heads of a model, which is not changed.

        Args:
            model: has a shape library.
            kind: one of `KINDS`.
            settings: see `CoordinatesSettings`.
        """
        self.scaled = kind == "normalised"
        self._model, self._settings = model, settings
        # The head predicts z times this: 1, or the mean diagonal over the object's. Both kinds of
        # predictions then have the same magnitude, for which the same rates and scales are right.
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
        self, crops: AnnotatedCrops, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> None:
        """Train the PNC head on crops with ground truth: loss (20), the minimum over symmetries."""
        settings, head = self._settings, self.learner.heads["pnc_head"]
        samples = crops.samples
        rng = np.random.default_rng(settings.seed)
        adam = torch.optim.Adam(head.parameters(), settings.head_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.head_steps)
        for step in range(settings.head_steps):
            rows = rng.choice(len(samples), min(settings.head_batch, len(samples)), replace=False)
            batch = self._cache.batch([samples[row] for row in rows])
            shape = crops.shape[torch.from_numpy(rows)]
            predicted = self._predicted(batch) / self._ratio[shape][:, None, None]
            symmetric = [
                (one - transform(group, z)).square().sum(-1).mean(-1).min()
                for one, z, group in zip(
                    predicted,
                    batch.z,
                    (self._model.library.symmetries[k] for k in shape),
                    strict=True,
                )
            ]
            adam.zero_grad()
            torch.stack(symmetric).mean().backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            adam.step()
            schedule.step()
            on_step(step + 1, settings.head_steps)
        self.learner.load(dict(self.learner.heads.named_parameters()))

    def self_train(
        self, crops: AnnotatedCrops, on_step: Callable[[int, int], None] = lambda done, total: None
    ) -> list[dict[str, Any]]:
        """Self-train on crops whose ground truth is only used to measure the progress.

        Returns:
            The figures of `measure` at the start and every `measured_every` steps, as JSON values.
        """
        settings = self._settings
        samples = crops.samples
        shape = self._nearest_shapes(samples)
        rng = np.random.default_rng(settings.seed)
        history = [{"step": 0, **self.measure(crops)}]
        for step in range(1, settings.steps + 1):
            count = min(settings.learner.batch, len(samples))
            rows = torch.from_numpy(rng.choice(len(samples), count, replace=False))
            batch = self._cache.batch([samples[row] for row in rows])
            with torch.no_grad():
                predicted = self._predicted(batch)
            found = self._pseudo_labels(batch, predicted, shape[rows])
            chosen = found.certified.nonzero()[:, 0].tolist()
            if chosen:
                kept = self._cache.batch([samples[rows[i]] for i in chosen])
                targets = found.z[chosen] * self._ratio[shape[rows][chosen]][:, None, None]
                self.learner.step(kept._replace(z=targets))
            if step % settings.measured_every == 0 or step == settings.steps:
                history.append({"step": step, **self.measure(crops)})
            on_step(step, settings.steps)
        return history

    def measure(self, crops: AnnotatedCrops) -> dict[str, float]:
        """Measure the figures of the head on crops with ground truth.

        Returns:
            `norm_m`, the root mean square of ||Z||; `size`, its ratio to the truth's; `scale`, the
            median scale of the poses; `auc_add_s_2cm` of the true shape at the pose of the
            registration, with its scale; `certified`, the share of certified pseudo-labels.
        """
        norms, true, scales, errors, certified = [], [], [], [], []
        named = self._nearest_shapes(crops.samples)
        for rows in torch.arange(len(crops.samples)).split(_CHUNK):
            kept = [crops.samples[row] for row in rows]
            shape, batch = crops.shape[rows], self._cache.batch(kept)
            with torch.no_grad():
                predicted = self._predicted(batch)
            z = predicted / self._ratio[shape][:, None, None]
            norms.append(z.square().sum(-1).mean(-1))
            true.append(batch.z.square().sum(-1).mean(-1))
            weights = inliers(batch.points, z, self.scaled, self._settings.seed)
            motion = similarity(batch.points, z, weights, self.scaled)
            scales.append(motion.scale)
            surface = self._surfaces[shape]
            T_camera_object = invert(torch.stack([sample.T_object_camera for sample in kept]))
            at_truth = transform(T_camera_object, surface)
            errors.append(nearest_distances(at_truth, motion.apply_inverse(surface)).mean(-1))
            certified.append(self._pseudo_labels(batch, predicted, named[rows]).certified)
        norm, truth = (torch.cat(part).mean().sqrt().item() for part in (norms, true))
        return {
            "norm_m": norm,
            "size": norm / truth,
            "scale": torch.cat(scales).median().item(),
            "auc_add_s_2cm": auc(torch.cat(errors).tolist(), ADD_S_M),
            "certified": torch.cat(certified).float().mean().item(),
        }

    @torch.no_grad()
    def coordinates(self, crops: AnnotatedCrops, row: int) -> Tensor:
        """Predict the coordinates of one crop (N, 3), metres at the true shape's size."""
        batch = self._cache.batch([crops.samples[row]])
        return (self._predicted(batch) / self._ratio[crops.shape[row]])[0]

    def surface(self, shape: int) -> Tensor:
        """Surface points (M, 3) of a library shape, object frame, metres."""
        return self._surfaces[shape]

    def _predicted(self, batch: Batch) -> Tensor:
        return read_maps(self.learner.answer(batch.features).pnc, batch.grid)

    def _pseudo_labels(self, batch: Batch, predicted: Tensor, shape: Tensor) -> PseudoLabels:
        z = predicted / self._ratio[shape][:, None, None]
        codes = self._model.library.codes[shape]
        decoder = self._model.network.decoder
        return pseudo_labels(decoder, codes, batch.points, z, self.scaled, self._settings)

    @torch.no_grad()
    def _nearest_shapes(self, samples: Sequence[Sample]) -> Tensor:
        """Library index (B,) that the shape head, which is not trained, predicts."""
        found = []
        for start in range(0, len(samples), _CHUNK):
            batch = self._cache.batch(samples[start : start + _CHUNK])
            codes = self.learner.answer(batch.features).code
            found.append(pairwise_distances(codes, self._model.library.codes).argmin(-1))
        return torch.cat(found)

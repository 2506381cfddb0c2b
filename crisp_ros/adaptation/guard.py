"""The guard decides whether new heads may replace those in use."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.adaptation.learner import Learner, run_all
from crisp_ros.adaptation.reference_set import Accuracy, ReferenceSet
from crisp_ros.adaptation.samples import PART, Batch, FeatureCache, Sample
from crisp_ros.correction.certificate import quantile_residual
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField, ShapeField
from crisp_ros.correction.surface import surface_points
from crisp_ros.geometry.chamfer import nearest_distances
from crisp_ros.geometry.registration import RegistrationSettings, register
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.maps import read_maps
from crisp_ros.observation.crop_channels import dequantise_crops

# Constants, so that the guard's figures do not depend on parameters of the node.
_REGISTRATION = RegistrationSettings(triples=256, hypotheses=32, scored_points=128)
_ADD_S_M = 0.02
_SURFACE_POINTS = 256
_CROPS = 12  # of the reference set, registered together

LIMITS = ("pose", "shape", "live")  # two accuracies on the reference set and the live score


class Verdict(NamedTuple):
    """The guard's decision about a candidate.

    Attributes:
        broken: the limits that are not met, of `LIMITS`.
        reason: how they are not met, "" if all are met.
        accuracy: of the candidate on the reference set.
        live: score of the candidate on the held-back samples, NaN without samples.
        live_before: score of the heads in use on these samples, NaN without samples.
    """

    broken: tuple[str, ...]
    reason: str
    accuracy: Accuracy
    live: float
    live_before: float

    @property
    def accepted(self) -> bool:
        """Whether all limits are met."""
        return not self.broken


class _Answer(NamedTuple):
    """Estimates of B objects without the corrector.

    Attributes:
        T_object_camera: (B, 4, 4), by registration.
        named: (B,) index of the nearest library shape.
    """

    T_object_camera: Tensor
    named: Tensor


class Guard:
    """Measures heads on the reference set and on live samples that are not trained on."""

    def __init__(
        self,
        model: Model,
        reference: ReferenceSet,
        device: torch.device,
        field: ShapeField | None = None,
    ) -> None:
        """Prepare the reference set.

        Args:
            model: with a shape library, on the device.
            reference: of this model, see `load_reference`.
            device: on which the heads are measured.
            field: f_d, of an estimator of the model; None evaluates the decoder.
        """
        self._network, self._library = model.network, model.library
        self._reference, self._device = reference, device
        self._field = field or DecoderField(model.network.decoder)
        self._shapes = PreparedLibrary(self._field, model.library)
        surfaces = surface_points(self._field, self._shapes.all_shapes, _SURFACE_POINTS)
        # Copies of a valid point replace the others: they do not change nearest distances.
        first = surfaces.valid.int().argmax(-1)
        spare = surfaces.points[torch.arange(len(first), device=device), first]
        self._surfaces = torch.where(surfaces.valid[..., None], surfaces.points, spare[:, None])

    def accuracy(self, learner: Learner) -> Accuracy:
        """Measure the accuracy of heads on the reference set."""
        return run_all(self._accuracy_in_parts(learner))

    @torch.no_grad()
    def live_score(self, learner: Learner, batch: Batch) -> float:
        """The mean of max(0, 1 - r / (2 eps)) over live samples.

        r is the certificate's quantile of the distances between the depth points and the nearest
        library shape, at the pose by registration. The score of a sample is 1 for r = 0, 1/2 for
        r = eps, and 0 from r = 2 eps.
        """
        limits = self._reference.limits
        output = learner.answer(batch.features)
        answer = self._answer(read_maps(output.pnc, batch.grid), output.code, batch.points)
        residual = quantile_residual(
            self._field,
            batch.points,
            torch.ones_like(batch.points[..., 0], dtype=torch.bool),
            answer.T_object_camera,
            self._shapes.shapes(answer.named),
            limits.quantile,
        )
        return (1.0 - residual / (2.0 * limits.threshold_m)).clamp_min(0.0).mean().item()

    @torch.no_grad()
    def with_library_codes(self, samples: Sequence[Sample]) -> list[Sample]:
        """Replace codes by the nearest library codes that are certified on the sample's points.

        Algorithm 1 results in blends of library shapes close to the prediction of the shape head,
        from which it learns little.
        """
        if not samples:
            return []
        limits = self._reference.limits
        codes, points, T = (
            torch.stack([getattr(sample, name) for sample in samples]).to(self._device)
            for name in ("code", "points", "T_object_camera")
        )
        nearest = self._shapes.shapes(self._shapes.distances(codes).argmin(-1))
        valid = torch.ones_like(points[..., 0], dtype=torch.bool)
        residual = quantile_residual(self._field, points, valid, T, nearest, limits.quantile)
        fits = (residual <= limits.threshold_m).tolist()
        return [
            replace(sample, code=code.clone()) if fit else sample
            for sample, code, fit in zip(samples, nearest.codes.cpu(), fits, strict=True)
        ]

    def judge(
        self,
        candidate: Learner,
        current: Learner,
        held_back: Sequence[Sample],
        cache: FeatureCache,
    ) -> Generator[None, None, Verdict]:
        """Decide whether a candidate may replace the heads in use, in parts of a few samples.

        Its accuracy on the reference set and its score on the held-back samples must not be lower
        than those of the original model and of the heads in use, up to the limits.
        """
        accuracy = yield from self._accuracy_in_parts(candidate)
        if not held_back:
            return self._verdict(accuracy)
        yield from cache.prepare(held_back)
        live, before = 0.0, 0.0
        for start in range(0, len(held_back), PART):
            samples = held_back[start : start + PART]
            share = len(samples) / len(held_back)
            live += share * self.live_score(candidate, cache.batch(samples))
            yield
            before += share * self.live_score(current, cache.batch(samples))
            yield
        return self._verdict(accuracy, live, before)

    def _verdict(
        self, accuracy: Accuracy, live: float | None = None, before: float | None = None
    ) -> Verdict:
        limits, original = self._reference.limits, self._reference.original
        broken = {
            name: f"{name} accuracy on the reference set fell from {then:.3f} to {now:.3f}"
            for name, now, then in zip(Accuracy._fields, accuracy, original, strict=True)
            if not now >= then - limits.accuracy_loss
        }
        if live is None or before is None:
            live = before = float("nan")
        elif not live >= before - limits.live_loss:
            broken["live"] = f"score on held-back frames fell from {before:.3f} to {live:.3f}"
        return Verdict(tuple(broken), ", ".join(broken.values()), accuracy, live, before)

    def _accuracy_in_parts(self, learner: Learner) -> Generator[None, None, Accuracy]:
        reference, inside, right = self._reference, [], []
        for rows in torch.arange(len(reference)).split(_CROPS):
            points = reference.points[rows].to(self._device)
            shape = reference.shape[rows].to(self._device)
            pnc, codes = [], []
            for part in rows.split(PART):
                predicted = self._predictions(learner, part)
                pnc.append(predicted[0])
                codes.append(predicted[1])
                yield
            answer = self._answer(torch.cat(pnc), torch.cat(codes), points)
            surface = self._surfaces[shape]
            truth = invert(reference.T_object_camera[rows].to(self._device))
            at_truth = transform(truth, surface)
            at_answer = transform(invert(answer.T_object_camera), surface)
            errors = nearest_distances(at_truth, at_answer).mean(-1)
            inside.append((1.0 - errors / _ADD_S_M).clamp_min(0.0))
            right.append((answer.named == shape).float())
            yield
        return Accuracy(torch.cat(inside).mean().item(), torch.cat(right).mean().item())

    @torch.no_grad()
    def _predictions(self, learner: Learner, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (B, N, 3) and codes (B, C) of crops of the reference set."""
        crops = dequantise_crops(self._reference.crops[rows].to(self._device))
        output = learner.answer(self._network.features(crops))
        return read_maps(output.pnc, self._reference.grid[rows].to(self._device)), output.code

    @torch.no_grad()
    def _answer(self, pnc: Tensor, codes: Tensor, points: Tensor) -> _Answer:
        valid = torch.ones_like(points[..., 0], dtype=torch.bool)
        registration = register(points, pnc, valid, _REGISTRATION)
        # The code of broken heads may be NaN.
        distances = self._shapes.distances(codes).nan_to_num(torch.inf)
        return _Answer(registration.T_object_camera, distances.argmin(-1))


def with_original_accuracy(model: Model, reference: ReferenceSet) -> ReferenceSet:
    """Return the reference set with the accuracy of its own model."""
    guard = Guard(model, reference, model.library.codes.device)
    return replace(reference, original=guard.accuracy(Learner(model.network)))

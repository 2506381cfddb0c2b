"""The guard: whether other heads may replace those in use."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.adaptation.learner import Learner, exhausted
from crisp_ros.adaptation.reference_set import Accuracy, ReferenceSet
from crisp_ros.adaptation.samples import PART, Batch, FeatureCache, Sample
from crisp_ros.correction.certificate import quantile_residual
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.surface import surface_points
from crisp_ros.geometry.chamfer import nearest_distances
from crisp_ros.geometry.registration import RegistrationSettings, register
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.maps import read_maps
from crisp_ros.observation.crop_channels import dequantise_crops

# Constants, not parameters: what the guard measures must not move with a node's settings.
_REGISTRATION = RegistrationSettings(triples=256, hypotheses=32, scored_points=128)
_ADD_S_M = 0.02
_SURFACE_POINTS = 256
_CROPS = 12  # of the reference set, registered at once

LIMITS = ("pose", "shape", "live")  # accuracies on the reference set, score on held-back frames


class Verdict(NamedTuple):
    """broken: the limits that it broke, of `LIMITS`; reason: how, in words, "" where none is;
    accuracy: on the reference set; live: score of the candidate on the held-back samples, and
    live_before: of the heads in use; NaN without any."""

    broken: tuple[str, ...]
    reason: str
    accuracy: Accuracy
    live: float
    live_before: float

    @property
    def accepted(self) -> bool:
        """No limit is broken."""
        return not self.broken


class _Answer(NamedTuple):
    """T_object_camera (B, 4, 4) by registration alone; named (B,) nearest library shape."""

    T_object_camera: Tensor
    named: Tensor


class Guard:
    """Measures heads on the reference set and on live samples that are never learned from."""

    def __init__(self, model: Model, reference: ReferenceSet, device: torch.device) -> None:
        """Prepare the reference set; the model is not changed.

        Args:
            model: has a shape library, and network and library on the device.
            reference: made for this model, see `load_reference`.
            device: where to measure.
        """
        self._network, self._library = model.network, model.library
        self._reference, self._device = reference, device
        self._field = DecoderField(model.network.decoder)
        self._shapes = PreparedLibrary(self._field, model.library)
        surfaces = surface_points(self._field, self._shapes.all_shapes, _SURFACE_POINTS)
        # Points that did not arrive stand in for one that did: the nearest neighbour ignores them.
        first = surfaces.valid.int().argmax(-1)
        spare = surfaces.points[torch.arange(len(first), device=device), first]
        self._surfaces = torch.where(surfaces.valid[..., None], surfaces.points, spare[:, None])

    def accuracy(self, learner: Learner) -> Accuracy:
        """Measure the accuracy of heads on the reference set."""
        return exhausted(self._accuracy_in_parts(learner))

    @torch.no_grad()
    def live_score(self, learner: Learner, batch: Batch) -> float:
        """The mean over live samples of 1 - r / (2 eps), from 0 on.

        r is the certificate's quantile of the distances of the depth points to the named library
        shape, posed by registration alone: 1 for a perfect fit, 1/2 just certified, 0 at twice eps.
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
        """Samples with the nearest library code for their own, where it fits their points as well.

        Algorithm 1 ends in blends of library shapes, not far from what the shape head said: they
        teach it little. Another code is only taken where the frozen certificate holds with it.
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
        """Whether a candidate may replace the heads in use; in parts of a few samples.

        It must keep the accuracy of the original model on the reference set, but for the frozen
        limit, and must not fit the held-back live samples worse than the heads in use.
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
                said = self._said(learner, part)
                pnc.append(said[0])
                codes.append(said[1])
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
    def _said(self, learner: Learner, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (B, N, 3) and codes (B, C) for crops of the reference set."""
        crops = dequantise_crops(self._reference.crops[rows].to(self._device))
        output = learner.answer(self._network.features(crops))
        return read_maps(output.pnc, self._reference.grid[rows].to(self._device)), output.code

    @torch.no_grad()
    def _answer(self, pnc: Tensor, codes: Tensor, points: Tensor) -> _Answer:
        valid = torch.ones_like(points[..., 0], dtype=torch.bool)
        registration = register(points, pnc, valid, _REGISTRATION)
        # Heads that answer nonsense name nothing.
        distances = self._shapes.distances(codes).nan_to_num(torch.inf)
        return _Answer(registration.T_object_camera, distances.argmin(-1))


def measured(model: Model, reference: ReferenceSet) -> ReferenceSet:
    """A reference set with the accuracy of its own model."""
    guard = Guard(model, reference, model.library.codes.device)
    return replace(reference, original=guard.accuracy(Learner(model.network)))

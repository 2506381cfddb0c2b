"""Training samples from estimated objects: crop, depth points and solution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from crisp_ros.correction.batch import evenly_spaced
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.features import BackboneFeatures
from crisp_ros.network.maps import crop_grid
from crisp_ros.network.model import CrispNetwork
from crisp_ros.observation.crop_channels import dequantise_crops, quantise_crops
from crisp_ros.pipeline import Solution

POINTS = 256  # of an object; with more points the gradient of the loss hardly changes
PART = 2  # samples that are processed together; more would delay the next estimation


@dataclass(frozen=True, eq=False)
class Sample:
    """One object in one frame, on the CPU.

    Attributes:
        key: identifies the object in all frames, such as the id of its track.
        certified: whether its estimate is certified.
        crop: (C, S, S) integers, input of the network (see `quantise_crops`).
        grid: (N, 2) in [-1, 1], positions (x, y) of the points in the crop.
        points: (N, 3) valid depth points, camera frame, metres.
        T_object_camera: (4, 4) corrected pose.
        code: (C,) corrected shape code h*.
    """

    key: str
    certified: bool
    crop: Tensor
    grid: Tensor
    points: Tensor
    T_object_camera: Tensor
    code: Tensor

    @property
    def z(self) -> Tensor:
        """Z* = R x + t of Lemma 5 (N, 3), object frame, metres: target of the PNC head."""
        return transform(self.T_object_camera, self.points)

    @property
    def view(self) -> Tensor:
        """Unit vector (3,) from the object's origin to the camera, object frame."""
        return functional.normalize(self.T_object_camera[:3, 3], dim=0)


def samples_of(
    solutions: Iterable[Solution], keys: Mapping[int, str], count: int = POINTS
) -> list[Sample]:
    """Return samples of a frame's objects, except for those with too few points.

    Args:
        solutions: of one frame, from `Estimator.trace`.
        keys: of the samples by label; objects without a key are left out.
        count: number of points per sample.
    """
    kept: list[Sample] = []
    for solution in solutions:
        seen, correction = solution.observations, solution.correction
        chosen = evenly_spaced(seen.valid, count)[..., None]
        points = seen.points.gather(1, chosen.expand(-1, -1, 3)).cpu()
        grid = crop_grid(seen.pixels, seen.boxes).gather(1, chosen.expand(-1, -1, 2)).cpu()
        crops = quantise_crops(seen.crops).cpu()
        T, codes = correction.T_object_camera.float().cpu(), correction.shapes.codes.float().cpu()
        certified = solution.verification.certificate.certified.tolist()
        enough = (seen.valid.sum(-1) >= count // 4).tolist()
        for i, label in enumerate(seen.labels.tolist()):
            finite = bool(torch.isfinite(T[i]).all() and torch.isfinite(codes[i]).all())
            if enough[i] and finite and label in keys:
                # A view would keep the whole batch in memory.
                parts = (crops[i], grid[i], points[i], T[i], codes[i])
                kept.append(Sample(keys[label], certified[i], *(part.clone() for part in parts)))
    return kept


class Batch(NamedTuple):
    """B samples on one device.

    Attributes:
        features: of the crops.
        grid: (B, N, 2), see `Sample`.
        points: (B, N, 3), see `Sample`.
        z: (B, N, 3), see `Sample`.
        codes: (B, C), see `Sample`.
    """

    features: BackboneFeatures
    grid: Tensor
    points: Tensor
    z: Tensor
    codes: Tensor

    def rows(self, start: int, end: int) -> Batch:
        """Return the samples from `start` up to `end`."""
        features = BackboneFeatures(
            tuple(level[start:end] for level in self.features.levels),
            tuple(token[start:end] for token in self.features.class_tokens),
            self.features.pooled[start:end],
        )
        return Batch(features, *(part[start:end] for part in self[1:]))


class FeatureCache:
    """Backbone features of samples, computed once because the backbone does not change.

    For the compact networks the features of a sample take 0.8 to 1.0 MB in half precision and save
    15 of the 35 ms of a training step per sample on one core.
    """

    def __init__(self, network: CrispNetwork, device: torch.device) -> None:
        self._network, self._device = network, device
        self._kept: dict[int, tuple[Sample, BackboneFeatures]] = {}

    def prepare(self, samples: Sequence[Sample]) -> Iterator[None]:
        """Compute missing features, in parts of a few samples."""
        new = [sample for sample in samples if id(sample) not in self._kept]
        for start in range(0, len(new), PART):
            self._complete(new[start : start + PART])
            yield

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Return samples as a batch on the device."""
        self._complete(samples)
        features = _stacked([self._kept[id(sample)][1] for sample in samples])
        return Batch(
            _to(features, self._device, torch.float32),
            *(
                torch.stack([getattr(sample, name) for sample in samples]).to(self._device)
                for name in ("grid", "points", "z", "code")
            ),
        )

    def keep_only(self, samples: Iterable[Sample]) -> None:
        """Remove the features of all other samples."""
        wanted = {id(sample) for sample in samples}
        self._kept = {key: value for key, value in self._kept.items() if key in wanted}

    @property
    def nbytes(self) -> int:
        """Memory of the features, bytes."""
        return sum(
            part.nbytes
            for _, features in self._kept.values()
            for part in (*features.levels, *features.class_tokens, features.pooled)
        )

    @torch.no_grad()
    def _complete(self, samples: Sequence[Sample]) -> None:
        new = [sample for sample in samples if id(sample) not in self._kept]
        if not new:
            return
        crops = dequantise_crops(torch.stack([sample.crop for sample in new]).to(self._device))
        features = _to(self._network.features(crops), torch.device("cpu"), torch.float16)
        for i, sample in enumerate(new):
            one = BackboneFeatures(
                tuple(level[i : i + 1].clone() for level in features.levels),
                tuple(token[i : i + 1].clone() for token in features.class_tokens),
                features.pooled[i : i + 1].clone(),
            )
            self._kept[id(sample)] = (sample, one)  # an id is unique while the sample exists


def _stacked(parts: Sequence[BackboneFeatures]) -> BackboneFeatures:
    return BackboneFeatures(
        tuple(torch.cat(levels) for levels in zip(*(p.levels for p in parts), strict=True)),
        tuple(torch.cat(tokens) for tokens in zip(*(p.class_tokens for p in parts), strict=True)),
        torch.cat([p.pooled for p in parts]),
    )


def _to(features: BackboneFeatures, device: torch.device, dtype: torch.dtype) -> BackboneFeatures:
    return BackboneFeatures(
        tuple(level.to(device, dtype) for level in features.levels),
        tuple(token.to(device, dtype) for token in features.class_tokens),
        features.pooled.to(device, dtype),
    )

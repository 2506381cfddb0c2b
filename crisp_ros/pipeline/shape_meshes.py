"""Meshes of estimated shapes, made on demand and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crisp_ros.geometry.isosurface import (
    IsosurfaceSettings,
    SignedDistanceFunction,
    TriangleMesh,
    extract_meshes,
)
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.pipeline.estimates import ObjectEstimate
from crisp_ros.pipeline.observed_hull import grown_hull

_Key = tuple[bytes, bool, float]


class ShapeMeshes:
    """The latest meshes by shape code; for several threads at once."""

    def __init__(
        self,
        decoder: ShapeDecoder,
        settings: IsosurfaceSettings,
        capacity: int,
        device: torch.device,
        prior_decoder: ShapeDecoder | None = None,
    ) -> None:
        """Start empty.

        Args:
            decoder: f_d, on the device.
            settings: of the meshing.
            capacity: most meshes that are kept.
            device: where to mesh.
            prior_decoder: f_d of the second model, see `ObjectEstimate.of_prior_model`.
        """
        self._decoders = {False: decoder, True: prior_decoder}
        self._settings = settings
        self._capacity, self._device = capacity, device
        self._kept: OrderedDict[_Key, TriangleMesh] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, estimates: Sequence[ObjectEstimate], grown_m: float) -> list[TriangleMesh]:
        """The surfaces of estimates; see `Estimator.meshes`."""

        def key(estimate: ObjectEstimate) -> _Key:
            return estimate.code.tobytes(), estimate.of_prior_model, grown_m

        coded = [e for e in estimates if not e.is_observed]
        with self._lock:
            new = {key(e): e for e in coded if key(e) not in self._kept}
            for of_prior_model in self._decoders:
                part = {k: e for k, e in new.items() if e.of_prior_model == of_prior_model}
                if part:
                    made = self._extracted(list(part.values()), of_prior_model, grown_m)
                    self._kept.update(zip(part, made, strict=True))
            found = []
            for estimate in estimates:
                if estimate.is_observed:
                    found.append(grown_hull(estimate.hull.mesh, grown_m))
                    continue
                self._kept.move_to_end(key(estimate))
                found.append(self._kept[key(estimate)])
            while len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
            return found

    def _extracted(
        self, estimates: Sequence[ObjectEstimate], of_prior_model: bool, grown_m: float
    ) -> list[TriangleMesh]:
        codes, lower, upper = (
            torch.from_numpy(np.stack([getattr(e, name) for e in estimates])).float()
            for name in ("code", "lower", "upper")
        )
        sdf = decoded_shapes(self._decoders[of_prior_model], codes.to(self._device))

        def grown(points: Tensor, shape_index: Tensor) -> Tensor:
            return sdf(points, shape_index) - grown_m

        box = (lower - grown_m).to(self._device), (upper + grown_m).to(self._device)
        return extract_meshes(grown, *box, self._settings)


def decoded_shapes(decoder: ShapeDecoder, codes: Tensor) -> SignedDistanceFunction:
    """The signed distance functions of shape codes (B, C), as `extract_meshes` wants them."""

    def sdf(points: Tensor, shape_index: Tensor) -> Tensor:
        counts = torch.bincount(shape_index, minlength=len(codes)).tolist()
        parts = points.split(counts)
        pairs = zip(parts, codes, strict=True)
        return torch.cat([decoder.sdf(part, code) for part, code in pairs if len(part) > 0])

    return sdf

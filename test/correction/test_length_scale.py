"""Lengths of the corrector grow with large objects, and only with these."""

from __future__ import annotations

import dataclasses

import torch
from known import Known
from observed import Noise, Observed, observe

from crisp_ros.correction.corrector import Correction, correct
from crisp_ros.correction.corrector_settings import CORRECTORS, CorrectorSettings
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.length_scale import length_scale, with_scaled_lengths
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_choice import ShapeChoiceSettings
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.geometry.registration import RegistrationSettings, register
from crisp_ros.network.decoder import SignedDistance

NAMES = ("box", "mug", "bracket", "bar")
NOISE = Noise(0.002, 0.05, 0.004, 0.1, along_ray=0.03, rotation=0.15)


class LargeDecoder:
    """The shapes of a decoder, larger by a factor."""

    def __init__(self, decoder, factor: float) -> None:
        self._decoder, self._factor = decoder, factor
        self.code_dim = decoder.code_dim

    def sdf(self, points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        return self._factor * self._decoder.sdf(points / self._factor, codes)

    def sdf_and_gradient(self, points: torch.Tensor, codes: torch.Tensor) -> SignedDistance:
        found = self._decoder.sdf_and_gradient(points / self._factor, codes)
        return SignedDistance(self._factor * found.sdf, found.gradient)


def corrected(
    known: Known, seen: Observed, factor: float, settings: CorrectorSettings
) -> Correction:
    """Correct the scene, everything in it larger by a factor."""
    field = DecoderField(LargeDecoder(known.decoder, factor))
    library = known.library
    large = dataclasses.replace(library, lower=factor * library.lower, upper=factor * library.upper)
    large_seen = seen._replace(points=factor * seen.points, pnc=factor * seen.pnc)
    least = RegistrationSettings(min_threshold_m=factor * RegistrationSettings().min_threshold_m)
    found = register(large_seen.points, large_seen.pnc, large_seen.valid, least)
    correspondences = large_seen.correspondences(found.inliers)
    shapes = Shapes.of_codes(known.codes(*NAMES))
    prepared = PreparedLibrary(field, large)
    return correct(field, correspondences, shapes, found.T_object_camera, prepared, settings)


def test_a_scene_of_ten_times_the_size_has_the_scaled_answer(known: Known) -> None:
    seen = observe(known.named(*NAMES), NOISE, seed=3, count=200)
    usual = CorrectorSettings()
    small = corrected(known, seen, 1.0, usual).T_object_camera
    scaled = corrected(known, seen, 10.0, with_scaled_lengths(usual, 10.0)).T_object_camera
    unscaled = corrected(known, seen, 10.0, usual).T_object_camera
    assert (scaled[:, :3, :3] - small[:, :3, :3]).abs().max() < 2e-3
    assert (scaled[:, :3, 3] - 10 * small[:, :3, 3]).abs().max() < 5e-3
    # With lengths of household objects it is another answer: centimetres off.
    assert (unscaled[:, :3, 3] - 10 * small[:, :3, 3]).abs().max() > 0.02


def test_household_objects_keep_the_very_settings() -> None:
    diameters = torch.tensor([0.05, 0.15, 0.3, 0.49])
    assert length_scale(diameters) == 1.0
    settings = CorrectorSettings()
    assert with_scaled_lengths(settings, length_scale(diameters)) is settings
    assert length_scale(torch.tensor([torch.nan])) == 1.0 and length_scale(torch.zeros(0)) == 1.0


def test_the_scale_follows_the_usual_shape_of_a_library() -> None:
    assert length_scale(torch.tensor([1.5, 1.0, 8.0])) == 3.0


def test_all_lengths_and_nothing_else_are_scaled() -> None:
    for settings in (*CORRECTORS.values(), ShapeChoiceSettings()):
        if settings is not None:
            _compare(settings, with_scaled_lengths(settings, 4.0), 4.0)
    assert with_scaled_lengths(None, 4.0) is None


def _compare(before, after, factor: float) -> None:
    for field in dataclasses.fields(before):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if dataclasses.is_dataclass(old):
            _compare(old, new, factor)
        elif field.name.endswith("_m"):
            old, new = (part if isinstance(part, tuple) else (part,) for part in (old, new))
            assert new == tuple(factor * length for length in old)
        else:
            assert old == new

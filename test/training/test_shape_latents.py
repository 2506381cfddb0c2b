"""The fit of many shapes with a few numbers each: boxes of several sizes, as an auto-decoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from prior_latents import latents_of

pytest.importorskip("igl")

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.shape_prior import ShapePrior
from crisp_ros.training.mesh_codes import sdf_error
from crisp_ros.training.sdf_samples import SdfSamples, sdf_samples
from crisp_ros.training.shape_latents import ShapeLatentSettings, fit_shape_latents

_SETTINGS = ShapeLatentSettings(dimensions=3, steps=300, batch=4, save_every=20)


@pytest.fixture(scope="module")
def samples() -> SdfSamples:
    """Points around eight boxes of different heights."""
    boxes = [trimesh.creation.box((0.08, 0.06, h)) for h in np.linspace(0.05, 0.2, 8)]
    return sdf_samples(boxes, 1500, np.random.default_rng(0))


def _decoder() -> ShapeDecoder:
    torch.manual_seed(0)
    return ShapeDecoder(32, 3)


def test_errors_fall_and_codes_span_no_more_than_asked(samples: SdfSamples, tmp_path: Path) -> None:
    decoder = _decoder()
    codes = fit_shape_latents(decoder, samples, _SETTINGS, tmp_path / "state.pt", 0)
    each = [SdfSamples(*(part[[k]] for part in samples)) for k in range(8)]
    own = torch.cat([sdf_error(decoder, codes[[k]], each[k]) for k in range(8)])
    common = torch.cat([sdf_error(decoder, codes.mean(0)[None], part) for part in each])
    assert own.max() < 0.007
    assert own[-1] < 0.5 * common[-1] and own[0] < 0.8 * common[0]
    prior = ShapePrior.of_codes(codes, 8)
    assert prior.dimensions <= 3
    assert torch.allclose(prior.code(latents_of(prior, codes)), codes, atol=1e-3)


def test_a_stopped_fit_goes_on_where_it_was(samples: SdfSamples, tmp_path: Path) -> None:
    settings = replace(_SETTINGS, steps=60)
    whole = fit_shape_latents(_decoder(), samples, settings, tmp_path / "whole.pt", 0)

    class Stopped(Exception):
        pass

    def stop(step: int, error_m: float) -> None:
        if step == 40:
            raise Stopped

    path = tmp_path / "parts.pt"
    with pytest.raises(Stopped):
        fit_shape_latents(_decoder(), samples, settings, path, 0, stop)
    steps: list[int] = []
    again = fit_shape_latents(
        _decoder(), samples, settings, path, 0, lambda step, error_m: steps.append(step)
    )
    assert steps == [60]
    assert torch.allclose(again, whole, atol=1e-5)


def test_a_finished_fit_is_read_back(samples: SdfSamples, tmp_path: Path) -> None:
    settings, path = replace(_SETTINGS, steps=20), tmp_path / "state.pt"
    first, decoder = fit_shape_latents(_decoder(), samples, settings, path, 0), ShapeDecoder(32, 3)
    assert torch.equal(fit_shape_latents(decoder, samples, settings, path, 0), first)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        ShapeLatentSettings(dimensions=0)
    with pytest.raises(ValueError, match="prior_dimensions is 65: expected 1 to 64"):
        ShapeLatentSettings(prior_dimensions=65)

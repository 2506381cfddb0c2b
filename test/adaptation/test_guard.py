from dataclasses import replace

import pytest
import torch
from adaptation_samples import CPU, samples, shipped_model, small_reference
from counting import CountingField

from crisp_ros.adaptation.guard import Guard
from crisp_ros.adaptation.learner import Learner
from crisp_ros.adaptation.samples import FeatureCache
from crisp_ros.correction.certificate import quantile_residual
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.pipeline import Estimator

LIBRARY = shipped_model().library.codes


def guard():
    return Guard(shipped_model(), small_reference(), CPU)


def fits(sample, code):
    limits, valid = small_reference().limits, torch.ones(1, len(sample.points), dtype=torch.bool)
    residual = quantile_residual(
        DecoderField(shipped_model().network.decoder),
        sample.points[None],
        valid,
        sample.T_object_camera[None],
        Shapes.of_codes(code[None]),
        limits.quantile,
    )
    return residual.item() <= limits.threshold_m


def test_a_blend_becomes_the_nearest_code_that_fits_the_points():
    right = samples(range(0, 126, 9))
    blends = [replace(s, code=torch.lerp(s.code, LIBRARY.mean(0), 0.2)) for s in right]
    kept = guard().with_library_codes(blends)
    assert all(torch.equal(a.code, b.code) for a, b in zip(kept, right, strict=True))
    assert all(a.points is b.points and a.key == b.key for a, b in zip(kept, right, strict=True))


def test_a_code_stays_if_the_nearest_library_shape_does_not_fit():
    for sample in samples(range(0, 126, 9)):
        other = next(code for code in LIBRARY if not fits(sample, code))
        wrong = replace(sample, code=torch.lerp(other, sample.code, 0.2))
        (kept,) = guard().with_library_codes([wrong])
        assert kept is wrong
    assert guard().with_library_codes([]) == []


def test_samples_do_not_keep_each_other_in_memory():
    kept = guard().with_library_codes(samples(range(0, 126, 9)))
    assert all(s.code.untyped_storage().nbytes() == s.code.nbytes for s in kept)


def test_tables_of_shapes_give_the_same_answers():
    """The guard of a node evaluates the estimator's field."""
    field = CountingField(Estimator(shipped_model()).field)
    tabulated = Guard(shipped_model(), small_reference(), CPU, field)
    given = [
        replace(s, code=torch.lerp(s.code, code, 0.2 if i % 2 else 0.8))
        for i, (s, code) in enumerate(zip(samples(range(0, 126, 9)), LIBRARY, strict=False))
    ]
    kept, expected = (tested.with_library_codes(given) for tested in (tabulated, guard()))
    assert all(torch.equal(a.code, b.code) for a, b in zip(kept, expected, strict=True))
    assert field.calls > 0
    assert any(a.code is not b.code for a, b in zip(expected, given, strict=True))
    cache = FeatureCache(shipped_model().network, CPU)
    learner, some = Learner(shipped_model().network), samples(range(0, 126, 30))
    list(cache.prepare(some))
    scores = [tested.live_score(learner, cache.batch(some)) for tested in (tabulated, guard())]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)

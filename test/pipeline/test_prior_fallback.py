"""A prior next to a library: unknown objects get shapes, and known ones do not change."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pipeline.table_scene import (
    CARTON,
    CARTON_PLACE,
    TIN,
    TIN_PLACE,
    UNKNOWN,
    known_model,
    standing,
    table_frame,
)
from pipeline.three_objects import SETTINGS

from crisp_ros.adaptation.samples import samples_of
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.pipeline import Estimator, EstimatorSettings, ObjectEstimate
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.share import prior_path

STILL = np.eye(4)


@pytest.fixture(scope="module")
def prior() -> Model:
    return load_model(prior_path("household"))


@pytest.fixture(scope="module")
def frame():
    """A tin and a carton that no library has, next to known objects."""
    return table_frame((TIN, TIN_PLACE), (CARTON, CARTON_PLACE))


@pytest.fixture(scope="module")
def alone(frame) -> tuple[ObjectEstimate, ...]:
    """The answer of the library alone."""
    return Estimator(known_model(2), SETTINGS).estimate(frame).objects


def with_prior(prior: Model, settings: EstimatorSettings = SETTINGS, unknown: int = 2) -> Estimator:
    return Estimator(known_model(unknown), settings, prior_model=prior)


def is_same(one: ObjectEstimate, other: ObjectEstimate) -> bool:
    """Whether two estimates are equal to the last bit; hulls are not compared."""
    parts = [dataclasses.asdict(dataclasses.replace(e, hull=None)) for e in (one, other)]
    np.testing.assert_equal(*parts)
    return True


def memory_of(estimator: Estimator):
    return estimator._fallback._solver.prior_shapes.memory


def test_unknown_objects_get_surfaces_next_to_known_ones(prior, frame, alone) -> None:
    assert [e.unknown for e in alone] == [False, False, True, True]
    estimator = with_prior(prior)
    trace = estimator.trace(frame)
    found = trace.estimate.objects
    assert all(is_same(*pair) for pair in zip(alone[:2], found[:2], strict=True))
    for i, (shape, place) in enumerate(((TIN, TIN_PLACE), (CARTON, CARTON_PLACE)), start=2):
        estimate = found[i]
        assert estimate.label == UNKNOWN + i - 2 and estimate.certified and not estimate.unknown
        assert estimate.shape_source == "prior" and estimate.of_prior_model
        assert estimate.hull is None and alone[i].hull is not None
        assert np.linalg.eigvalsh(estimate.covariance).min() > 0
        vertices = estimator.mesh(estimate).vertices.astype(np.float64)
        T = invert(standing(shape, place, 0.4 + i)) @ estimate.T_camera_object
        away = shape.sdf(torch.from_numpy(transform(T, vertices))).abs()
        assert away.mean() < 0.01 and away.max() < 0.03
        assert np.ptp(vertices, axis=0).min() > 0.04  # closed, with a side that is not seen
    # Self-training learns from the library's answers alone.
    samples = samples_of(trace.solutions, {e.label: str(e.label) for e in found})
    assert [s.certified for s in samples] == [True, True, False, False]


def test_known_objects_ask_no_prior(prior, monkeypatch) -> None:
    estimator = with_prior(prior, unknown=0)
    monkeypatch.setattr(estimator._fallback._solver, "solution", None)
    monkeypatch.setattr(memory_of(estimator), "plan", None)
    monkeypatch.setattr(type(estimator._fallback), "is_used", True)
    found = estimator.trace(table_frame(), T_fixed_camera=STILL).estimate.objects
    assert [e.certified for e in found] == [True, True]


def test_an_object_is_searched_once_and_one_in_a_frame(prior, frame) -> None:
    estimator = with_prior(prior)
    assert estimator.remembers
    sources, searches, codes = [], [], []
    for _ in range(3):
        found = estimator.trace(frame, T_fixed_camera=STILL).estimate.objects
        sources.append([e.shape_source for e in found[2:]])
        searches.append(memory_of(estimator).searches)
        codes.append(found[2].code)
    assert sources == [["prior", "library"], ["prior", "prior"], ["prior", "prior"]]
    assert searches == [1, 2, 2]
    assert all(np.array_equal(code, codes[0]) for code in codes)
    estimator.forget()
    assert len(memory_of(estimator)) == 0


@pytest.mark.parametrize(
    "changes",
    [{"shape_mode": "library"}, {"prior_searches": 0}, {"known_shapes": None}, {"corrector": None}],
)
def test_it_is_for_unknown_objects_in_mode_auto(prior, changes: dict) -> None:
    estimator = with_prior(prior, dataclasses.replace(SETTINGS, **changes))
    assert not estimator.remembers
    estimator.settings = SETTINGS
    assert estimator.remembers


def test_what_the_library_certified_before_needs_no_prior(prior, frame, alone) -> None:
    estimator = with_prior(prior)
    tin = alone[2]
    seen = ExpectedObject(tin.T_camera_object, tin.lower, tin.upper, 0, 5, shape_certified=True)
    of_prior = seen._replace(shape_index=-1, of_prior_model=True)
    expected = [seen._replace(T_camera_object=T) for T in _at_their_points(frame)]
    found = estimator.trace(frame, T_fixed_camera=STILL, expected=expected).estimate.objects
    assert memory_of(estimator).searches == 0
    assert [e.shape_source for e in found[2:]] == ["library", "library"]
    expected = [of_prior._replace(T_camera_object=T) for T in _at_their_points(frame)]
    estimator.trace(frame, T_fixed_camera=STILL, expected=expected)
    assert memory_of(estimator).searches == 1


def _at_their_points(frame) -> list[np.ndarray]:
    """Poses in the middle of the points of the unknown objects."""
    poses = []
    for label in (UNKNOWN, UNKNOWN + 1):
        v, u = np.nonzero(frame.labels == label)
        T = np.eye(4)
        T[:3, 3] = np.median(frame.camera.back_project(u, v, frame.depth[v, u]), axis=0)
        poses.append(T)
    return poses


def test_a_partly_hidden_object_is_not_certified(prior, frame) -> None:
    """A stripe across the carton's edge is nearer; an object found before is followed."""
    hidden = dataclasses.replace(frame, depth=frame.depth.copy(), labels=frame.labels.copy())
    v, u = np.nonzero(frame.labels == UNKNOWN + 1)
    stripe = slice(v.min(), v.max()), slice(u.max() - 4, u.max() + 6)
    hidden.depth[stripe], hidden.labels[stripe] = 0.45, 0
    estimator = with_prior(prior)
    assert not estimator.estimate(hidden).objects[3].of_prior_model
    answers = [
        estimator.trace(shown, T_fixed_camera=STILL).estimate.objects[3].of_prior_model
        for shown in (frame, frame, hidden)
    ]
    assert answers == [False, True, True] and memory_of(estimator).searches == 2


def test_a_patch_of_the_table_gets_no_certificate(prior) -> None:
    """Its points rise no more above the table than the table itself explains; the tin's do."""
    seen = table_frame((TIN, TIN_PLACE))
    seen.labels[180:220, 200:260] = np.where(seen.labels[180:220, 200:260] == 0, UNKNOWN + 1, 0)
    estimator = with_prior(prior)
    tin, patch = estimator.estimate(seen).objects[2:]
    (height,) = (c for c in estimator._fallback._solver.prior_shapes.conditions
                 if c.name == "height")  # fmt: skip
    assert height.held.tolist() == [True, False] and float(height.value[1]) < 0.002
    assert tin.of_prior_model and patch.unknown


def test_an_error_of_the_prior_leaves_the_librarys_answers(
    prior, frame, alone, monkeypatch
) -> None:
    estimator = with_prior(prior)

    def fail(*arguments):
        raise RuntimeError("no shape")

    monkeypatch.setattr(estimator._fallback._solver, "solution", fail)
    found = estimator.estimate(frame).objects
    assert all(is_same(*pair) for pair in zip(alone, found, strict=True))


def test_a_model_without_a_prior_is_refused(prior) -> None:
    with pytest.raises(ValueError, match="no prior over shapes"):
        with_prior(dataclasses.replace(prior, prior=None))


def test_a_model_without_a_library_takes_no_second_one(prior) -> None:
    estimator = Estimator(dataclasses.replace(known_model(0), library=None), SETTINGS, "cpu", prior)
    assert not estimator.remembers and estimator.prior_model is None


def test_a_copy_has_the_same_prior(prior) -> None:
    kind, arguments = with_prior(prior).__reduce__()
    assert kind is Estimator and arguments[3] is prior

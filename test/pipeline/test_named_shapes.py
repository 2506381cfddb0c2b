"""Objects whose coordinates lead nowhere: the shapes that the network names are searched for."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from analytic_scene import Rendered, TruthfulNetwork, analytic_library, rendered
from pipeline.three_objects import BOX, BRACKET, MUG, POSES, SHAPES, estimator, pose
from pipeline.three_objects import SETTINGS as THREE

from crisp_ros.correction.corrector_settings import CorrectorSettings
from crisp_ros.correction.global_registration import GlobalFit
from crisp_ros.correction.shape_choice import ShapeChoiceSettings
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.model import NetworkOutput
from crisp_ros.pipeline import Estimator, ObjectEstimate, named_shapes
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.pipeline.named_shape_settings import NamedShapeSettings

# With it, the wrong coordinates would sometimes lead to a certified pose, too.
SETTINGS = dataclasses.replace(THREE, empty_space=None)
BRACKET_INDEX = 2
LABEL = 11
POSE = pose(0.0, 0.12, 0.7, 1)  # leaves no motion of the bracket free


@pytest.fixture(scope="module")
def image() -> Rendered:
    return rendered((BOX, MUG, BRACKET), (*POSES[:2], POSE), (4, 7, LABEL))


def model(code: tuple[float, float, float], added: int = 0) -> Model:
    """It knows box and mug, and has a code, but no coordinates, of the third object."""
    network = TruthfulNetwork(SHAPES, (0, 1, 0, 0))

    def spoil(output: NetworkOutput) -> NetworkOutput:
        noise = torch.randn(output.pnc[0].shape, generator=torch.Generator().manual_seed(0))
        pnc, codes = output.pnc.clone(), output.code.clone()
        pnc[2:], codes[2:] = 0.05 * noise, torch.tensor(code)
        return NetworkOutput(pnc, codes)

    network.spoil = spoil
    library = dataclasses.replace(analytic_library(SHAPES), added=added)
    return Model(network, library, {})


def estimates(
    image: Rendered,
    code: tuple[float, float, float] = (0.2, 0.1, 0.7),
    expected: tuple[ExpectedObject, ...] = (),
    **changes: object,
) -> list[ObjectEstimate]:
    tested = Estimator(model(code), dataclasses.replace(SETTINGS, **changes))
    return list(tested.trace(image.frame, expected=expected).estimate.objects)


def is_right(found: ObjectEstimate) -> bool:
    error = np.linalg.inv(POSE) @ found.T_camera_object
    near = np.linalg.norm(error[:3, 3]) < 0.003 and np.trace(error[:3, :3]) > 2.99
    return bool(found.shape_index == BRACKET_INDEX and found.certified and near)


@pytest.mark.parametrize("mode", ["auto", "library"])
def test_a_named_shape_is_found_without_coordinates(image: Rendered, mode: str) -> None:
    found = estimates(image, shape_mode=mode)[2]
    assert is_right(found) and found.shape_source == "library" and not found.unknown
    without = estimates(image, shape_mode=mode, named_shapes=None)[2]
    assert not without.certified


def test_a_doubtful_name_needs_a_good_fit(image: Rendered) -> None:
    """What is seen of a drill may also be a brick, where the network is not sure of its name."""
    doubtful, clear = (0.2, 0.1, 0.7), (0.05, 0.0, 0.9)
    strict = ShapeChoiceSettings(explained_m=0.0)
    assert not estimates(image, doubtful, shape_choice=strict)[2].certified
    assert is_right(estimates(image, clear, shape_choice=strict)[2])
    assert is_right(estimates(image, doubtful)[2])
    no_guesses = NamedShapeSettings(most_doubt=0.3)
    assert not estimates(image, doubtful, named_shapes=no_guesses)[2].certified


def test_a_shape_that_is_not_named_needs_a_good_fit(image: Rendered) -> None:
    """The corrector takes the box for a box although the network calls it a mug."""
    any_shape = CorrectorSettings(shape_ratio=math.inf)
    for explained_m, certified in ((2.5e-3, True), (0.0, False)):
        choice = ShapeChoiceSettings(explained_m=explained_m)
        settings = dataclasses.replace(SETTINGS, corrector=any_shape, shape_choice=choice)
        found = estimator((1, 1, 2), settings).estimate(image.frame).objects[0]
        assert found.shape_index == 0 and found.certified == certified
    assert "the network names another one" in found.reason


def test_only_shapes_that_the_network_may_mean_are_tried(image: Rendered, monkeypatch) -> None:
    tried = []

    def recorded(field, library, candidates, *rest) -> None:
        tried.append(candidates.tolist())

    monkeypatch.setattr(named_shapes, "register_globally", recorded)
    estimates(image)
    for most in (1, 2, 5):
        wide = NamedShapeSettings(most_shapes=most, code_ratio=4.0)
        estimates(image, named_shapes=wide)
    estimates(image, named_shapes=NamedShapeSettings(code_ratio=3.0))
    clear, (one, two, most), less_clear = tried[0], tried[1:4], tried[4]
    assert clear == one == [BRACKET_INDEX]
    assert two == [BRACKET_INDEX, 0] and most == [BRACKET_INDEX, 0, 1]
    assert less_clear == [BRACKET_INDEX, 0]


def test_certified_objects_stay_as_they_were(image: Rendered) -> None:
    with_search, without = (
        estimates(image, named_shapes=settings)[:2] for settings in (NamedShapeSettings(), None)
    )
    for a, b in zip(with_search, without, strict=True):
        assert a.certified and a.shape_index == b.shape_index
        np.testing.assert_array_equal(a.T_camera_object, b.T_camera_object)
        assert (a.residual_m, a.score, a.reason) == (b.residual_m, b.score, b.reason)


def seen_before(
    T: np.ndarray, shape_index: int, detections: int, certified: bool = False
) -> ExpectedObject:
    lower, upper = (np.array(part, float) for part in (BRACKET.lower, BRACKET.upper))
    return ExpectedObject(T, lower, upper, shape_index, detections, certified)


def test_an_object_seen_before_is_followed(image: Rendered, monkeypatch) -> None:
    monkeypatch.setattr(named_shapes, "register_globally", None)  # not called
    T = POSE.copy()
    T[:3, 3] += 0.008, -0.006, 0.01
    assert is_right(estimates(image, expected=(seen_before(T, BRACKET_INDEX, 5),))[2])


def test_objects_are_searched_for_when_new_and_rarely_later(image: Rendered, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(named_shapes, "register_globally", lambda *args: calls.append(args))

    def searches(*expected: ExpectedObject) -> int:
        calls.clear()
        assert not estimates(image, expected=expected)[2].certified
        return len(calls)

    assert searches() == 1
    aside = POSE.copy()
    aside[:3, :3] = aside[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    for index in (-1, 0):
        found = [searches(seen_before(aside, index, n)) for n in (1, 2, 3, 29, 30, 31)]
        assert found == [1, 1, 0, 0, 1, 0]
        found = [searches(seen_before(aside, index, n, certified=True)) for n in (1, 30)]
        assert found == [0, 0]


def test_a_shape_once_certified_needs_no_hull(image: Rendered) -> None:
    """Here no shape explains the object any more."""

    def unknown(*expected: ExpectedObject) -> ObjectEstimate:
        found = estimates(image, named_shapes=None, expected=expected)[2]
        assert found.unknown and not found.certified
        return found

    assert unknown().hull is not None
    assert unknown(seen_before(POSE, BRACKET_INDEX, 5)).hull is not None
    assert unknown(seen_before(POSE, BRACKET_INDEX, 5, certified=True)).hull is None
    aside = POSE.copy()
    aside[:3, 3] += 0.3, 0.0, 0.0
    assert unknown(seen_before(aside, BRACKET_INDEX, 5, certified=True)).hull is not None


def test_objects_of_added_shapes_are_not_followed_as_named_ones(image: Rendered) -> None:
    """The network names two shapes; the third has been added, and is lost at this pose."""
    aside = POSE.copy()
    aside[:3, :3] = aside[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    tested = Estimator(model((0.5, 0.3, 0.0), added=1), SETTINGS)
    expected = (seen_before(aside, BRACKET_INDEX, 5),)
    estimate = tested.trace(image.frame, expected=expected).estimate
    assert len(estimate.objects) == 3 and not estimate.rejected
    # If the batch failed, the network of this test would take each object alone for a box.
    assert [o.shape_index for o in estimate.objects[:2]] == [0, 1]


def test_a_fit_without_a_certificate_changes_nothing(image: Rendered, monkeypatch) -> None:
    T = torch.from_numpy(np.linalg.inv(POSE)).float()[None]
    T[0, :3, 3] += 0.5

    def misplaced(field, library, candidates, *rest) -> GlobalFit:
        return GlobalFit(T, library.shapes(candidates[:1]), torch.zeros(1))

    monkeypatch.setattr(named_shapes, "register_globally", misplaced)
    tried, without = estimates(image)[2], estimates(image, named_shapes=None)[2]
    assert not tried.certified and tried.shape_index == without.shape_index
    np.testing.assert_array_equal(tried.T_camera_object, without.T_camera_object)


def test_the_number_of_objects_searched_for_is_limited(monkeypatch) -> None:
    poses = (*POSES[:2], pose(0.0, 0.12, 0.7, 3), pose(-0.05, -0.12, 0.7, 4))
    image = rendered((BOX, MUG, BRACKET, BRACKET), poses, (4, 7, 11, 12))
    calls = []
    monkeypatch.setattr(named_shapes, "register_globally", lambda *args: calls.append(args))
    for most in (1, 8):
        calls.clear()
        estimates(image, named_shapes=NamedShapeSettings(most_objects=most))
        assert len(calls) == min(most, 2)

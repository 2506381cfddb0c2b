"""Tests of the library shapes on objects: none explains it, or another one as well."""

import pytest
import torch
from known import Known
from observed import Noise, Observed, observe

from crisp_ros.correction.certificate import CertificateSettings, Condition
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.library_tests import (
    LibraryTestSettings,
    find_ambiguity,
    known_shape_condition,
    unknown_object_condition,
)
from crisp_ros.correction.pose_lm import PoseLmSettings

HANDLE_SEEN, HANDLE_HIDDEN = (0.4, 1.0, 0.6), (-1.0, 0.0, 0.5)
LIMITS = CertificateSettings(threshold_m=0.0035)


def from_the_front(known: Known, *names: str) -> Observed:
    views = [HANDLE_SEEN] * len(names)
    return observe(known.named(*names), Noise(0.001, 0, 0.002), seed=3, views=views)


def known_shape(
    known: Known,
    hypotheses: Hypotheses,
    tested: tuple[bool, ...] | None = None,
    settings: LibraryTestSettings | None = None,
) -> Condition:
    """Test whether these are shapes of the library; all of them by default."""
    count = len(hypotheses.labels)
    rows = torch.tensor(tested or [True] * count)
    limits = torch.full((count,), 0.01)
    return unknown_object_condition(known.field, hypotheses, rows, known.prepared, limits, settings)


def test_the_nearest_shape_decides_and_is_named() -> None:
    residual, names = torch.tensor([0.003, 0.021]), ("box", "can")
    found = known_shape_condition(residual, 0.01, names)
    assert found.held.tolist() == [True, False]
    assert found.value.tolist() == pytest.approx([0.003, 0.021])
    expected = "unknown object: the nearest library shape, can, is off by 21 mm"
    assert found.reasons == ("", expected)
    each = known_shape_condition(residual, torch.tensor([0.002, 0.03]), names)
    assert each.held.tolist() == [False, True]


def test_an_object_outside_the_library_is_unknown(known) -> None:
    few = known.only("mug", "sphere", "bar")
    seen = from_the_front(known, "mug", "bracket")
    found = known_shape(few, seen.hypotheses(few.shapes_of("mug", "mug")))
    assert found.name == "known shape" and found.held.tolist() == [True, False]
    assert found.reasons[0] == ""
    assert found.reasons[1].startswith("unknown object: the nearest library shape, ")


def test_an_object_that_another_shape_explains_is_known(known) -> None:
    few = known.only("mug", "sphere", "bar")
    seen = from_the_front(known, "mug", "bar", "bracket")
    hypotheses = seen.hypotheses(few.shapes_of(*["sphere"] * 3))
    found = known_shape(few, hypotheses)
    assert found.held.tolist() == [True, True, False]
    # The condition holds for what is not tested, and is the same for the others.
    some = known_shape(few, hypotheses, (True, False, False))
    assert some.held.all() and some.reasons == ("",) * 3
    torch.testing.assert_close(some.value[0], found.value[0])


def test_a_shape_of_the_networks_own_may_explain_the_object(known) -> None:
    few = known.without("bracket")
    seen = from_the_front(known, "bracket")
    own = Shapes.of_codes(known.codes("bracket"))
    assert known_shape(few, seen.hypotheses(own)).held.all()
    assert not known_shape(few, seen.hypotheses(few.shapes_of("bar"))).held.any()


def test_a_few_points_off_the_object_do_not_make_it_unknown(known) -> None:
    """A mask that includes 4 % of the surroundings, where 5 % are tolerated."""
    few, seen = known.only("mug", "sphere"), from_the_front(known, "mug")
    points = seen.points.clone()
    points[:, ::25] += 0.2
    hypotheses = seen._replace(points=points).hypotheses(few.shapes_of("mug"))
    tolerant, strict = (LibraryTestSettings(share=share, points=400) for share in (0.95, 0.98))
    assert known_shape(few, hypotheses, settings=tolerant).held.all()
    assert not known_shape(few, hypotheses, settings=strict).held.any()


def test_a_hidden_handle_makes_a_mug_ambiguous(known) -> None:
    views = [HANDLE_HIDDEN, HANDLE_SEEN]
    seen = observe(known.named("mug", "mug"), Noise(0.001, 0, 0.002), seed=3, views=views)
    few = known.only("mug", "cup", "box")
    hypotheses = seen.hypotheses(few.shapes_of("mug", "mug"))
    found = find_ambiguity(known.field, hypotheses, few.prepared, LIMITS)
    assert found.degenerate.tolist() == [True, False]
    assert found.tangent_eigenvalue[1] > 2 * found.tangent_eigenvalue[0]
    without_cup = known.only("mug", "box")
    hypotheses = hypotheses._replace(shapes=without_cup.shapes_of("mug", "mug"))
    alone = find_ambiguity(known.field, hypotheses, without_cup.prepared, LIMITS)
    assert not alone.degenerate.any()


def test_points_in_the_object_frame_need_no_pose(known) -> None:
    """As the tracker gives the points of several views, which have no common viewing ray."""
    few, seen = known.only("mug", "cup", "box"), from_the_front(known, "mug", "box")
    shapes, (points, weights) = few.shapes_of("mug", "box"), seen.object_points()
    settings = LibraryTestSettings(pose=PoseLmSettings(ray_offsets_m=()))
    given = few.prepared, LIMITS, settings
    at_rest = Hypotheses.of_points(points, weights > 0, shapes)
    found = find_ambiguity(known.field, at_rest, *given)
    # With coordinates without error, as such points have them.
    posed = seen._replace(pnc=points).hypotheses(shapes)
    expected = find_ambiguity(known.field, posed, *given)
    assert torch.equal(found.degenerate, expected.degenerate)
    torch.testing.assert_close(
        found.tangent_eigenvalue, expected.tangent_eigenvalue, rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.1}, {"points": 0}])
def test_bad_settings_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1, and at least 1"):
        LibraryTestSettings(**wrong)

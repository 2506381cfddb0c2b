"""Orientations that depth cannot tell apart: resolved by the print, or reported as ambiguous."""

import dataclasses
import math

import pytest
import torch
from analytic import box, cylinder, mug
from correction.painting import halves, painted_library, photograph, plain, sectors
from correction.rendering import LABEL
from correction.test_symmetry_search import about_axis, error_deg, looked_at
from scipy.spatial.transform import Rotation

from crisp_ros.correction.appearance import PrintAgreement, PrintComparison
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.orientation import (
    Orientations,
    OrientationSettings,
    add_ambiguity,
    resolve_orientations,
)
from crisp_ros.correction.symmetry_search import Rivals
from crisp_ros.geometry import se3
from crisp_ros.geometry.fixed_shapes import force_fixed_shapes
from crisp_ros.geometry.se3 import invert

CAN, BOX, MUG = cylinder(0.04, 0.05), box((0.04, 0.025, 0.055)), mug(0.04, 0.045, 0.008, 0.03)


def resolved(shape, T_true, T_given, known, shown, rivals=None, **settings) -> Orientations:
    """Orientations of an object with the print `known` to the library and `shown` in the image."""
    library = painted_library(shape, known)
    view, images = photograph(shape, T_true, shown)
    points = torch.zeros(1, 50, 3)
    hypotheses = Hypotheses.of_points(
        points, torch.ones(1, 50).bool(), library.shapes(torch.tensor([0]))
    )._replace(T_object_camera=T_given[None], labels=torch.tensor([LABEL]))
    found = Rivals.none(T_given)
    if rivals is not None:
        found = Rivals(rivals, torch.ones(len(rivals)).bool())
    chosen = dataclasses.replace(OrientationSettings(), **settings)
    return resolve_orientations(library, hypotheses, [view], images, [found], chosen)


@pytest.mark.parametrize("degrees", [0.0, 33.0, 118.0, -157.0])
def test_print_determines_the_rotation_of_a_can(degrees: float) -> None:
    T_true = looked_at(20.0)
    T_given = about_axis(degrees) @ T_true
    found = resolved(CAN, T_true, T_given, sectors, sectors)
    assert found.clear.held.all() and found.clear.reasons == ("",)
    assert error_deg(found.motions[0] @ T_given, T_true) < 6.0
    assert len(found.alternatives[0]) == 0


def two_labels(points: torch.Tensor) -> torch.Tensor:
    """White bars on two sides of a can, 172.5 degrees apart; one side lacks a part of its bars."""
    angle = torch.rad2deg(torch.atan2(points[..., 1], points[..., 0])) % 360.0
    bars = torch.zeros_like(angle)
    for middle, is_whole in ((0.0, True), (172.5, False)):
        off = (angle - middle + 180.0) % 360.0 - 180.0
        bar = (off.abs() < 24.0) & ((off / 7.0).round() % 2 == 0)
        bars = bars + (bar & (is_whole | (points[..., 2] < 0.04))).float()
    return torch.stack([bars.clamp(max=1.0)] * 3, dim=-1) * 0.8 + 0.1


@pytest.mark.parametrize("degrees", [172.5, 180.0, 187.5, 195.0])
def test_labels_that_nearly_repeat_are_distinguished(degrees: float) -> None:
    """Also where the rival is one of the coarse rotations and the true one half-way between two."""
    T_true = about_axis(270.0) @ looked_at(20.0)
    T_given = about_axis(degrees) @ T_true
    found = resolved(CAN, T_true, T_given, two_labels, two_labels, margin=0.0)
    assert error_deg(found.motions[0] @ T_given, T_true) < 6.0


def test_print_separates_a_box_from_its_half_rotation() -> None:
    T_true = looked_at(35.0)
    T_given = about_axis(180.0) @ T_true
    found = resolved(BOX, T_true, T_given, sectors, sectors)
    assert found.clear.held.all()
    assert error_deg(found.motions[0] @ T_given, T_true) < 3.0


@pytest.mark.parametrize("highest, clear", [(0.23, False), (0.28, True)])
def test_a_faint_likeness_decides_nothing(highest: float, clear: bool, monkeypatch) -> None:
    measured = PrintComparison.agreement

    def faint(self: PrintComparison, motions: torch.Tensor | None = None) -> PrintAgreement:
        found = measured(self, motions)
        scale = highest / found.correlation.max()
        return found._replace(correlation=scale * found.correlation)

    monkeypatch.setattr(PrintComparison, "agreement", faint)
    T_true = looked_at(35.0)
    found = resolved(BOX, T_true, about_axis(180.0) @ T_true, sectors, sectors)
    assert bool(found.clear.held.all()) == clear


def test_plain_objects_are_ambiguous_and_stay() -> None:
    T_true = looked_at(20.0)
    found = resolved(CAN, T_true, about_axis(70.0) @ T_true, plain, plain)
    assert not found.clear.held.any()
    assert torch.equal(found.motions[0], torch.eye(4))
    assert found.clear.reasons[0].endswith("look alike")
    assert len(found.alternatives[0]) > 3


def test_an_object_found_by_depth_alone_needs_its_print() -> None:
    T_true = looked_at(20.0)
    by_print = resolved(CAN, T_true, T_true, sectors, sectors).with_print_needed([0])
    assert by_print.clear.held.all() and by_print.clear.reasons == ("",)
    alone = resolved(MUG, T_true, T_true, sectors, sectors)
    assert alone.clear.held.all() and alone.clear.value.isinf().all()
    assert alone.with_print_needed([]).clear.held.all()
    found = alone.with_print_needed([0])
    assert not found.clear.held.any() and "confirm" in found.clear.reasons[0]


def test_symmetric_prints_are_ambiguous() -> None:
    """Half a rotation leaves this print as it is, and the reason says so."""
    T_true = looked_at(20.0)
    found = resolved(BOX, T_true, T_true, halves, halves)
    assert not found.clear.held.any()
    assert found.clear.reasons[0] == "two orientations 180 degrees apart look alike"
    assert torch.equal(found.motions[0], torch.eye(4))


def test_another_print_in_the_image_decides_nothing() -> None:
    T_true = looked_at(20.0)
    found = resolved(CAN, T_true, T_true, sectors, plain)
    assert not found.clear.held.any()
    assert torch.equal(found.motions[0], torch.eye(4))


def test_shapes_without_colours_are_not_clear() -> None:
    T_true = looked_at(20.0)
    found = resolved(CAN, T_true, T_true, None, sectors)
    assert not found.clear.held.any()
    assert found.clear.reasons[0].endswith("look alike: its colours are not known")
    assert len(found.alternatives[0]) == 0


def test_shapes_without_symmetry_are_clear() -> None:
    T_true = looked_at(0.0)
    found = resolved(MUG, T_true, T_true, None, plain)
    assert found.clear.held.all() and torch.isinf(found.clear.value).all()


def test_rivals_of_a_hidden_handle_are_not_clear() -> None:
    T_true = looked_at(90.0)
    rivals = torch.stack([about_axis(40.0), about_axis(60.0)])
    found = resolved(MUG, T_true, T_true, plain, plain, rivals)
    assert not found.clear.held.any()
    assert found.clear.reasons[0] == "3 orientations up to 60 degrees apart look alike"
    torch.testing.assert_close(found.alternatives[0], rivals)


def test_shapes_outside_the_library_are_not_clear() -> None:
    library = painted_library(CAN, sectors)
    view, images = photograph(CAN, looked_at(0.0), sectors)
    hypotheses = Hypotheses.of_points(
        torch.zeros(1, 50, 3), torch.ones(1, 50).bool(), Shapes.of_codes(torch.ones(1, 1))
    )
    found = resolve_orientations(library, hypotheses, [view], images, [Rivals.none(torch.eye(4))])
    assert not found.clear.held.any()
    assert "outside the library" in found.clear.reasons[0]


def test_no_objects_are_survived() -> None:
    library = painted_library(CAN, sectors)
    _, images = photograph(CAN, looked_at(0.0), sectors)
    nobody = Hypotheses.of_points(
        torch.zeros(0, 50, 3), torch.ones(0, 50).bool(), library.shapes(torch.zeros(0).long())
    )
    found = resolve_orientations(library, nobody, [], images, [])
    assert found.motions.shape == (0, 4, 4) and found.clear.reasons == ()


def test_ambiguity_of_several_objects_is_that_of_each() -> None:
    """Whatever the numbers of alternatives, with shapes of batches fixed or not."""
    g = torch.Generator().manual_seed(0)
    counts = (3, 0, 1, 5)
    T = se3.exp(torch.randn(4, 6, generator=g))
    alternatives = [se3.exp(torch.randn(count, 6, generator=g)) for count in counts]
    covariance = torch.eye(6).double().expand(4, 6, 6)
    expected = covariance.clone()
    for i, motions in enumerate(alternatives):
        for motion in motions:
            pose, other = invert(T[i]), invert(motion @ T[i])
            rotation = Rotation.from_matrix(other[:3, :3] @ pose[:3, :3].T).as_rotvec()
            apart = torch.cat((other[:3, 3] - pose[:3, 3], torch.as_tensor(rotation)))
            expected[i] += torch.outer(apart, apart) / (1 + len(motions))
    found = add_ambiguity(covariance, T, alternatives)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    with force_fixed_shapes():
        assert torch.equal(add_ambiguity(covariance, T, alternatives), found)


def test_ambiguity_makes_the_free_rotation_uncertain() -> None:
    """Half a rotation about the object's z axis, which points along the camera's y axis here."""
    T_camera_object = torch.eye(4)
    T_camera_object[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    T_camera_object[:3, 3] = torch.tensor([0.1, 0.2, 0.7])
    covariance = 1e-6 * torch.eye(6).double().expand(2, 6, 6)
    T = invert(T_camera_object).expand(2, 4, 4)
    motions = about_axis(180.0)[None]
    found = add_ambiguity(covariance, T, [motions, motions[:0]])
    assert torch.equal(found[1], covariance[1])
    added = (found[0] - covariance[0]).diagonal()
    expected = torch.tensor([0, 0, 0, 0, math.pi**2 / 2, 0]).double()
    torch.testing.assert_close(added, expected, atol=1e-4, rtol=0)

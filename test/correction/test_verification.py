"""The verifier: certificate, known shape and covariance by the same conditions for all."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from correction.rendering import CAMERA, LABEL, rendered, seen_points
from counting import CountingField
from known import Known
from observed import Noise, observe
from torch import Tensor

from crisp_ros.correction.certificate import (
    Certificate,
    CertificateSettings,
    certify,
    with_condition,
)
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.covariance import pose_covariance
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.surface import surface_points
from crisp_ros.correction.verification import VerificationSettings, Verifier
from crisp_ros.correction.visibility import Images, visibility_conditions
from crisp_ros.geometry.se3 import exp, from_rotation_translation, invert

NAMES = ("box", "mug", "bracket", "bar")
PLAIN = VerificationSettings(known_shapes=None)


def same(a: Certificate, b: Certificate) -> bool:
    tensors = all(torch.equal(*pair) for pair in zip(a[:-1], b[:-1], strict=True))
    return tensors and a.reasons == b.reasons


@pytest.fixture(scope="module")
def hypotheses(known) -> Hypotheses:
    """The truth for two objects, and wrong shapes for two others."""
    seen = observe(known.named(*NAMES), Noise(0.001, 0, 0.002), seed=1)
    return seen.hypotheses(known.shapes_of("box", "mug", "sphere", "cup"))


@pytest.fixture(scope="module")
def pose() -> Tensor:
    rotation = exp(torch.tensor([0, 0, 0, 0.5, 0.7, 0.1]).double())[:3, :3]
    return invert(from_rotation_translation(rotation, torch.tensor([0.02, -0.01, 0.6]).double()))


def before_a_wall(known: Known, name: str, pose: Tensor, *hypotheses: str):
    """Render a shape and give hypotheses of shapes by name at its pose, with the images."""
    depth, labels = rendered(known.named(name)[0], pose)
    points = seen_points(depth, labels)
    points = points[:: max(1, len(points) // 400)].expand(len(hypotheses), -1, -1)
    shapes = known.shapes_of(*hypotheses)
    found = Hypotheses.of_points(points, torch.ones(points.shape[:2]).bool(), shapes)
    labelled = torch.full((len(hypotheses),), LABEL)
    found = found._replace(
        T_object_camera=pose.float().expand(len(hypotheses), 4, 4),
        T_registered=pose.float().expand(len(hypotheses), 4, 4),
        labels=labelled,
    )
    return found, Images(depth, labels, CAMERA)


def test_it_certifies_by_equation_12(known, hypotheses) -> None:
    verifier = Verifier(known.field, known.prepared, PLAIN)
    found = verifier.verify(hypotheses, None)
    assert found.known is None and not found.unknown.any()
    assert same(found.certificate, certify(known.field, hypotheses))
    assert found.certificate.certified.tolist() == [True, True, False, False]
    strict = CertificateSettings(threshold_m=1e-4)
    verifier.settings = dataclasses.replace(PLAIN, certificate=strict)
    assert same(
        verifier.verify(hypotheses, None).certificate, certify(known.field, hypotheses, strict)
    )


@pytest.mark.parametrize("with_library", [True, False])
def test_free_space_and_silhouette_are_conditions(known, pose, with_library: bool) -> None:
    found, images = before_a_wall(known, "box", pose, "box", "bar")
    library = known.prepared if with_library else None
    verdict = Verifier(known.field, library, PLAIN).verify(found, images).certificate
    conditions = visibility_conditions(
        surface_points(known.field, found.shapes), found.T_object_camera, found.labels, images
    )
    assert same(verdict, certify(known.field, found, conditions=conditions))
    assert verdict.certified.tolist() == [True, False]
    # Without images, or where they are not wanted, the box's points are on the bar too.
    loose = CertificateSettings(threshold_m=0.05)
    for settings, given in (
        (dataclasses.replace(PLAIN, certificate=loose), None),
        (dataclasses.replace(PLAIN, certificate=loose, visibility=None), images),
    ):
        assert (
            Verifier(known.field, library, settings).verify(found, given).certificate.certified[1]
        )
    seen = dataclasses.replace(PLAIN, certificate=loose)
    refused = Verifier(known.field, library, seen).verify(found, images).certificate
    assert not refused.certified[1] and "of the shape" in refused.reasons[1]


def test_what_no_library_shape_explains_is_unknown(known) -> None:
    few = known.only("mug", "sphere", "bar")
    seen = observe(known.named("mug", "bracket", "bar"), Noise(0.001, 0, 0.002), seed=3)
    hypotheses = seen.hypotheses(few.shapes_of("mug", "mug", "sphere"))
    found = Verifier(known.field, few.prepared, VerificationSettings()).verify(hypotheses, None)
    assert found.unknown.tolist() == [False, True, False]
    assert found.known.held.tolist() == [True, False, True]
    assert found.certificate.certified.tolist() == [True, False, False]
    assert found.certificate.reasons[1].startswith("unknown object: the nearest library shape, ")
    assert found.certificate.reasons[2].startswith("q98")
    expected = with_condition(certify(known.field, hypotheses), found.known)
    assert same(found.certificate, expected)


def test_added_shapes_do_not_make_an_object_known(known) -> None:
    """At the pose of coordinates that do not know them: answers are those without them."""
    names = "mug", "sphere", "bar", "bracket"
    seen = observe(known.named("bracket"), Noise(0.001, 0, 0.002), seed=3)
    unknown = []
    for library in (
        dataclasses.replace(known.only(*names).library, added=1),
        known.only(*names[:3]).library,
        known.only(*names).library,
    ):
        verifier = Verifier(
            known.field, PreparedLibrary(known.field, library), VerificationSettings()
        )
        found = verifier.verify(seen.hypotheses(known.only(*names).shapes_of("mug")), None)
        unknown.append((found.unknown.tolist(), found.certificate.reasons[0]))
    assert unknown[0] == unknown[1] and unknown[0][0] == [True]
    assert unknown[2][0] == [False]


def test_only_what_was_registered_can_be_unknown(known) -> None:
    """Other shapes would be fitted from a wrong pose, or to too few points."""
    few = known.only("mug", "sphere", "bar")
    seen = observe(known.named("bracket", "bracket", "bracket"), Noise(0.001, 0, 0.002), seed=3)
    hypotheses = seen.hypotheses(few.shapes_of("mug", "mug", "mug"))
    valid = hypotheses.correspondences.valid.clone()
    valid[2, 49:] = False
    hypotheses = hypotheses._replace(
        inlier_share=torch.tensor([0.4, 0.39, 1.0]),
        correspondences=hypotheses.correspondences._replace(valid=valid),
    )
    found = Verifier(known.field, few.prepared, VerificationSettings()).verify(hypotheses, None)
    assert found.unknown.tolist() == [True, False, False]
    assert not found.certificate.certified.any()
    assert found.certificate.reasons[2] == "49 depth points < 50"


@pytest.mark.parametrize("left_out", ["library", "setting"])
def test_without_library_or_wish_nothing_is_unknown(known, hypotheses, left_out: str) -> None:
    settings = VerificationSettings() if left_out == "library" else PLAIN
    library = None if left_out == "library" else known.only("sphere").prepared
    found = Verifier(known.field, library, settings).verify(hypotheses, None)
    assert found.known is None and not found.unknown.any()
    assert same(found.certificate, certify(known.field, hypotheses))


def test_an_earlier_known_condition_is_not_tested_again(known) -> None:
    """As when a tracker refits what the estimator has tested."""
    few = known.only("mug", "sphere", "bar")
    seen = observe(known.named("mug", "bracket", "bracket"), Noise(0.001, 0, 0.002), seed=3)
    first = seen.hypotheses(few.shapes_of("mug", "mug", "mug"))
    field = CountingField(known.field)
    verifier = Verifier(field, few.prepared, VerificationSettings())
    before = verifier.verify(first, None)
    assert before.unknown.tolist() == [False, True, True]
    tested = field.calls
    # The second one gets a shape that the library lacks, and is certified with it.
    own = known.codes("mug", "bracket", "mug")
    box = known.shapes_of("mug", "bracket", "mug")
    again = first._replace(shapes=Shapes.of_codes(own)._replace(lower=box.lower, upper=box.upper))
    field.distances.clear()
    field.gradients.clear()
    found = verifier.verify(again, None, known=before.known)
    assert field.calls == 1 < tested, "the certificate alone"
    assert found.certificate.certified.tolist() == [True, True, False]
    assert found.known.held.tolist() == [True, True, False]
    assert found.unknown.tolist() == [False, False, True]
    assert found.certificate.reasons == ("", "", before.known.reasons[2])
    assert before.known.held.tolist() == [True, False, False], "it is left as it was"


def test_surfaces_are_those_of_the_library_or_decoded(known) -> None:
    shapes = known.shapes_of("bar", "mug")
    with_library, without = (
        Verifier(known.field, library, PLAIN).surfaces(shapes) for library in (known.prepared, None)
    )
    rows = shapes.index
    assert torch.equal(with_library.points, known.prepared.surfaces.points[rows])
    torch.testing.assert_close(with_library.points, without.points, atol=1e-4, rtol=0)


def test_covariances_are_those_of_the_settings_or_none(known, hypotheses) -> None:
    settings = VerificationSettings()
    verifier = Verifier(known.field, known.prepared, settings)
    expected = pose_covariance(known.field, hypotheses, settings.covariance)
    assert torch.equal(verifier.covariance(hypotheses), expected)
    coarse = dataclasses.replace(settings.covariance, independent_points=4.0)
    verifier.settings = dataclasses.replace(settings, covariance=coarse)
    found = verifier.covariance(hypotheses)
    assert (found.diagonal(dim1=-2, dim2=-1) > expected.diagonal(dim1=-2, dim2=-1)).all()
    field = CountingField(known.field)
    unwanted = dataclasses.replace(settings, covariance=None)
    assert Verifier(field, known.prepared, unwanted).covariance(hypotheses) is None
    assert field.calls == 0


def test_no_hypotheses_are_survived(known, hypotheses, pose) -> None:
    _, images = before_a_wall(known, "box", pose, "box")
    verifier = Verifier(known.field, known.prepared, VerificationSettings())
    none = verifier.verify(hypotheses.rows(slice(0)), images)
    assert none.certificate.certified.shape == none.unknown.shape == (0,)
    assert verifier.covariance(hypotheses.rows(slice(0))).shape == (0, 6, 6)

"""Uniqueness of the shape: eigenvalues by a loop, and what else explains a mug."""

import numpy as np
import pytest
import torch
from known import Known
from observed import Noise, observe

from crisp_ros.correction.active_shape import library_fits
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.degeneracy import Explanations, degeneracy, explanations

HANDLE_SEEN, HANDLE_HIDDEN = (0.4, 1.0, 0.6), (-1.0, 0.0, 0.5)


def test_eigenvalues_equal_a_plain_computation(known) -> None:
    seen = observe(known.named("mug", "box"), Noise(0.001), seed=0, count=150)
    valid = seen.valid.clone()
    valid[1, 100:] = False
    z = seen.object_points().points
    found = degeneracy(known.field, ObjectPoints.of(z, valid), known.prepared)
    for b in range(2):
        F = np.stack(
            [known.decoder.sdf(z[b][valid[b]], code).numpy() for code in known.library.codes], 1
        ).astype(np.float64)
        assert found.eigenvalue[b] == pytest.approx(np.linalg.eigvalsh(F.T @ F)[0], rel=1e-3)
        size = F.shape[1]
        centring = np.eye(size) - 1 / size
        scaled = F / known.library.diameters.numpy() @ centring
        # The ones vector adds a zero to the spectrum; the tangent value is the next.
        values = np.linalg.eigvalsh(scaled.T @ scaled / len(F))
        assert found.tangent_eigenvalue[b] == pytest.approx(values[1], rel=1e-3)


def test_the_tangent_eigenvalue_rises_when_the_handle_shows(known) -> None:
    library = known.only("mug", "cup", "box").prepared
    views = [HANDLE_HIDDEN, HANDLE_SEEN]
    seen = observe(known.named("mug", "mug"), Noise(0.0005), seed=1, count=600, views=views)
    found = degeneracy(known.field, seen.object_points(), library)
    hidden, shown = found.tangent_eigenvalue
    assert shown > 5 * hidden


def on_the_mug(known, count: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(2)
    return known.named("mug")[0].surface(count, g).float()[None]


def test_a_perfect_fit_is_degenerate_for_the_paper_only(known) -> None:
    """Points exactly on a library shape: F e_k = 0, though nothing else fits."""
    library = known.only("mug", "sphere", "box", "bar").prepared
    points, mug = on_the_mug(known, 400), known.shapes_of("mug")
    for _ in range(5):
        sdf, slope = known.field.sdf_and_gradient(points, mug)
        points = points - (sdf / slope.square().sum(-1))[..., None] * slope
    found = degeneracy(known.field, ObjectPoints.of(points, torch.ones(1, 400).bool()), library)
    assert found.eigenvalue < 1e-6
    assert found.tangent_eigenvalue > 1e-4


def test_a_library_of_one_is_never_degenerate(known) -> None:
    points = ObjectPoints.of(on_the_mug(known, 50), torch.ones(1, 50).bool())
    found = degeneracy(known.field, points, known.only("mug").prepared)
    assert torch.isinf(found.tangent_eigenvalue).all()


def explained(known: Known) -> Explanations:
    """Explain a mug with hidden handle and one with a visible one, both estimated as mugs."""
    views = [HANDLE_HIDDEN, HANDLE_SEEN]
    seen = observe(known.named("mug", "mug"), Noise(0.001, 0, 0.002), seed=3, views=views)
    hypotheses = seen.hypotheses(known.shapes_of("mug", "mug"))
    fits = library_fits(
        known.field,
        hypotheses.correspondences,
        known.prepared,
        hypotheses.T_object_camera,
        hypotheses.shapes.codes,
    )
    return explanations(known.field, hypotheses, fits, known.prepared, CertificateSettings())


def test_a_mug_with_hidden_handle_is_explained_by_the_cup_too(known) -> None:
    found = explained(known.only("mug", "cup", "sphere", "bar"))
    assert found.certified[0].tolist() == [True, True, False, False]
    assert found.certified[1, 0] and not found.certified[1, 2:].any()
    # On the whole surface the mug itself certifies at 1 mm, and the cup does not.
    assert found.whole_residual[0, 0] < 0.001 < 0.003 < found.whole_residual[0, 1]
    assert not found.degenerate[1] or found.certified[1, 1]

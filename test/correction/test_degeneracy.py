"""Uniqueness of the shape: eigenvalues by a loop, a mug that turns, shapes that explain a view."""

import numpy as np
import pytest
import torch
from observed import Noise, observe

from crisp_ros.correction.active_shape import library_fits
from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.degeneracy import degeneracy, explanations, known_shape
from crisp_ros.correction.surface import library_surfaces
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.library import ShapeLibrary

HANDLE_SEEN, HANDLE_HIDDEN = (0.4, 1.0, 0.6), (-1.0, 0.0, 0.5)


def chosen(known, *names: str) -> ShapeLibrary:
    keep = [known.library.names.index(name) for name in names]
    library = known.library
    return ShapeLibrary(names, library.codes[keep], library.lower[keep], library.upper[keep])


def test_eigenvalues_equal_a_plain_computation(known) -> None:
    seen = observe(known.named("mug", "box"), Noise(0.001), seed=0, count=150)
    z = transform(seen.T_object_camera.float(), seen.points)
    valid = seen.valid.clone()
    valid[1, 100:] = False
    found = degeneracy(known.decoder, z, valid, known.library)
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
    library = chosen(known, "mug", "cup", "box")
    seen = observe(
        known.named("mug", "mug"),
        Noise(0.0005),
        seed=1,
        count=600,
        views=[HANDLE_HIDDEN, HANDLE_SEEN],
    )
    z = transform(seen.T_object_camera.float(), seen.points)
    hidden, shown = degeneracy(known.decoder, z, seen.valid, library).tangent_eigenvalue
    assert shown > 5 * hidden


def test_a_perfect_fit_is_degenerate_for_the_paper_only(known) -> None:
    """Points exactly on a library shape: F e_k = 0, though nothing else fits."""
    library = chosen(known, "mug", "sphere", "box", "bar")
    g = torch.Generator().manual_seed(2)
    points = known.named("mug")[0].surface(400, g).float()
    for _ in range(5):
        sdf, slope = known.decoder.sdf_and_gradient(points, library.codes[0])
        points = points - (sdf / slope.square().sum(-1))[:, None] * slope
    found = degeneracy(known.decoder, points[None], torch.ones(1, 400).bool(), library)
    assert found.eigenvalue < 1e-6
    assert found.tangent_eigenvalue > 1e-4


def test_a_library_of_one_is_never_degenerate(known) -> None:
    g = torch.Generator().manual_seed(2)
    points = known.named("mug")[0].surface(50, g).float()[None]
    found = degeneracy(known.decoder, points, torch.ones(1, 50).bool(), chosen(known, "mug"))
    assert torch.isinf(found.tangent_eigenvalue).all()


def explained(known, library, names, views, estimate: str):
    seen = observe(known.named(*names), Noise(0.001, 0, 0.002), seed=3, views=views)
    T = seen.T_object_camera.float()
    fits = library_fits(
        known.decoder, seen.points, seen.pnc, torch.ones(seen.valid.shape), seen.valid, library, T
    )
    surfaces = library_surfaces(known.decoder, library)
    k = library.names.index(estimate)
    own = type(surfaces)(*(part[k].expand(len(names), *part[k].shape) for part in surfaces))
    limits = CertificateSettings()
    return explanations(
        known.decoder,
        seen.points,
        seen.valid,
        fits,
        library,
        surfaces,
        own,
        T,
        limits.quantile,
        limits.threshold_m,
    )


def test_a_mug_with_hidden_handle_is_explained_by_the_cup_too(known) -> None:
    library = chosen(known, "mug", "cup", "sphere", "bar")
    found = explained(known, library, ("mug", "mug"), [HANDLE_HIDDEN, HANDLE_SEEN], "mug")
    assert found.certified[0].tolist() == [True, True, False, False]
    assert found.certified[1, 0] and not found.certified[1, 2:].any()
    assert found.apart[0, 0] < 0.003 < found.apart[0, 1]
    assert not found.degenerate[1] or found.certified[1, 1]


def test_an_unknown_object_is_named_as_such(known) -> None:
    library = chosen(known, "mug", "sphere", "bar")
    found = explained(known, library, ("mug", "bracket"), [HANDLE_SEEN, HANDLE_SEEN], "mug")
    told = known_shape(found.residual, CertificateSettings().threshold_m, library)
    assert told.held.tolist() == [True, False]
    assert told.reasons[0] == ""
    assert told.reasons[1].startswith("unknown object: the nearest library shape, ")

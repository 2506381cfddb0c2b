"""Codes of new meshes for a frozen decoder that knows simple shapes."""

from __future__ import annotations

import pytest
import torch
import trimesh
from known import load_known

from crisp_ros.data.files import MeshError
from crisp_ros.training.mesh_codes import MeshCodeSettings, fit_mesh_code
from crisp_ros.training.shape_codes import ShapeCodeSettings

HASTY = MeshCodeSettings(
    samples=3000,
    starts=3,
    trial_steps=60,
    fit=ShapeCodeSettings(
        steps=150, learning_rate=1e-2, surface_points=96, near_points=96, volume_points=32
    ),
)


@pytest.fixture(scope="module")
def known():
    return load_known()


def test_a_new_shape_is_fitted_with_the_decoder_as_it_was(known) -> None:
    before = {name: value.clone() for name, value in known.decoder.state_dict().items()}
    mesh = trimesh.creation.box((0.076, 0.054, 0.104))
    steps: list[tuple[int, int]] = []
    fitted = fit_mesh_code(
        known.decoder, known.library.codes, mesh, HASTY, on_step=lambda *step: steps.append(step)
    )
    surface = torch.from_numpy(mesh.sample(2000, seed=0)).float()
    error = known.decoder.sdf(surface, fitted.code).abs()
    start = known.decoder.sdf(surface, known.library.codes).abs()
    assert error.mean() < 0.0015
    assert error.mean() < 0.7 * start.mean(-1).min()
    after = known.decoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert steps[-1] == (210, 210) and steps == sorted(steps)


def test_the_best_known_shape_is_where_it_starts(known) -> None:
    mesh = trimesh.creation.icosphere(3, radius=0.04)
    fitted = fit_mesh_code(known.decoder, known.library.codes, mesh, HASTY)
    assert fitted.start in (None, known.library.names.index("sphere"))
    again = fit_mesh_code(known.decoder, known.library.codes, mesh, HASTY)
    assert torch.equal(fitted.code, again.code)


def test_a_mesh_that_cannot_be_closed_is_refused(known) -> None:
    sheet = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], [[0, 1, 2]])
    with pytest.raises(MeshError):
        fit_mesh_code(known.decoder, known.library.codes, sheet, HASTY)

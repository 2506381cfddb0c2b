"""The covariance of a pose against the spread of poses from resampled noise, and in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from analytic import AnalyticShape, box, cylinder
from analytic_scene import analytic_field, analytic_prepared
from scipy.spatial.transform import Rotation

from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.covariance import CovarianceSettings, pose_covariance
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.residuals import ANY_FALL
from crisp_ros.data.recording import Recording
from crisp_ros.geometry.se3 import from_rotation_translation, invert, transform
from crisp_ros.network.checkpoint import load_model
from crisp_ros.observation.frame import Camera, Frame, depth_mm_to_m
from crisp_ros.pipeline import Estimator
from crisp_ros.share import share_directory

EVERY_POINT = CovarianceSettings(independent_points=math.inf)
ANY_GAIN = PoseLmSettings(evaluations=20, move=ANY_FALL)
NOISE_M = 0.003
BOX = box((0.04, 0.025, 0.055))
VIEW = (0.5, -0.6, 0.62)  # from the object to the camera
# Within which predicted and empirical standard deviations agree: the noise is along the viewing
# rays, so that faces seen at a slant have less of it than the average that the residuals show.
FACTOR = 2.5


def camera_from_object() -> torch.Tensor:
    """The object frame's origin is not on the camera's axis, where position and rotation mix."""
    rotation = torch.tensor(Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()).float()
    return from_rotation_translation(rotation, torch.tensor([0.12, -0.06, 0.73]))


def surface(shape: AnalyticShape) -> torch.Tensor:
    return shape.surface(256, torch.Generator().manual_seed(0), VIEW).float()


def observed(
    seen: torch.Tensor, shape: Shapes, runs: int, seed: int
) -> tuple[Hypotheses, torch.Tensor]:
    """One view with fresh depth noise in each run, at the true pose; and that T_camera_object."""
    T = camera_from_object()
    seen = seen.expand(runs, -1, -1)
    generator = torch.Generator().manual_seed(seed)
    along_ray = torch.nn.functional.normalize(transform(T, seen), dim=-1)
    noise = NOISE_M * torch.randn(*seen.shape[:2], 1, generator=generator)
    pnc = seen + 0.004 * torch.randn(seen.shape, generator=generator)
    valid = torch.ones(seen.shape[:2], dtype=torch.bool)
    points = transform(T, seen) + noise * along_ray
    hypotheses = Hypotheses.of_points(points, valid, shape.repeated(runs))
    correspondences = Correspondences(points, pnc, valid.float(), valid)
    true = invert(T).expand(runs, 4, 4)
    return hypotheses._replace(correspondences=correspondences, T_object_camera=true), T


def deviations(T_object_camera, T_true) -> torch.Tensor:
    """(runs, 6): origin's position and rotation vector along the camera's axes, from the truth."""
    T = invert(T_object_camera.double())
    shift = T[:, :3, 3] - T_true[:3, 3].double()
    rotation = Rotation.from_matrix((T[:, :3, :3] @ T_true[:3, :3].double().T).numpy())
    return torch.cat((shift, torch.tensor(rotation.as_rotvec())), dim=-1)


@pytest.mark.parametrize("name", ["bracket", "box", "mug"])
def test_predicted_deviations_agree_with_resampled_noise(known, name: str) -> None:
    (shape,) = known.named(name)
    given, T = observed(surface(shape), known.shapes_of(name), runs=50, seed=3)
    step = refine_pose(
        known.field, given.correspondences, given.shapes, given.T_object_camera, ANY_GAIN
    )
    spread = torch.cov(deviations(step.T_object_camera, T).T)
    found = given._replace(T_object_camera=step.T_object_camera)
    predicted = pose_covariance(known.field, found, EVERY_POINT).median(0).values
    # In every direction: along the axes, and along those of the predicted ellipsoid.
    for axes in (torch.eye(6).double(), torch.linalg.eigh(predicted).eigenvectors):
        ratio = (axes.T @ predicted @ axes).diagonal() / (axes.T @ spread @ axes).diagonal()
        assert ((ratio.sqrt() > 1 / FACTOR) & (ratio.sqrt() < FACTOR)).all(), ratio.sqrt()


def test_what_the_seen_surface_leaves_free_is_uncertain() -> None:
    """About a can's axis only the network's coordinates tell, and they scatter."""
    shape = cylinder(0.033, 0.05)
    given, T = observed(surface(shape), analytic_prepared(shape).all_shapes, 1, seed=0)
    covariance = pose_covariance(analytic_field(shape), given)[0]
    deviation, axes = torch.linalg.eigh(covariance[3:, 3:])
    assert (axes[:, -1] @ T[:3, 2].double()).abs() > 0.99
    assert 5 * deviation[1].sqrt() < deviation[2].sqrt() < math.pi
    assert deviation[2].sqrt() > 0.1


def test_a_plane_leaves_three_motions_free() -> None:
    shape = box((0.2, 0.2, 0.01))
    seen = surface(shape)
    seen = seen[(seen[:, 2] > 0.0099) & (seen[:, :2].abs() < 0.15).all(-1)]
    given, T = observed(seen, analytic_prepared(shape).all_shapes, 1, seed=0)
    covariance = pose_covariance(analytic_field(shape), given)[0]
    rotation = T[:3, :3].double()
    position = (rotation.T @ covariance[:3, :3] @ rotation).diagonal().sqrt()
    angle = (rotation.T @ covariance[3:, 3:] @ rotation).diagonal().sqrt()
    assert position[2] < 1e-3 < 3e-3 < position[:2].min()
    assert angle[2] > 4 * angle[:2].max()


def test_independent_points_limit_how_small_it_gets(known) -> None:
    (shape,) = known.named("bracket")
    given, _ = observed(surface(shape), known.shapes_of("bracket"), runs=1, seed=1)
    few, all_ = (
        pose_covariance(known.field, given, CovarianceSettings(independent_points=n))
        for n in (16.0, math.inf)
    )
    ratio = (torch.linalg.eigvalsh(few[0])[0] / torch.linalg.eigvalsh(all_[0])[0]).item()
    assert ratio == pytest.approx(256 / 16, rel=0.3)


def test_nothing_is_known_without_points_or_coordinates() -> None:
    library, field = analytic_prepared(BOX), analytic_field(BOX)
    valid = torch.zeros(2, 30, dtype=torch.bool)
    nowhere = torch.full((2, 30, 3), torch.nan)
    nothing = Hypotheses.of_points(nowhere, valid, library.all_shapes.repeated(2))
    covariance = pose_covariance(field, nothing)
    expected = torch.tensor([1.0] * 3 + [math.pi**2] * 3).double()
    torch.testing.assert_close(covariance, torch.diag(expected).expand(2, 6, 6))
    assert pose_covariance(field, nothing.rows(slice(0))).shape == (0, 6, 6)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="positive"):
        CovarianceSettings(least_error_m=0.0)


@pytest.mark.slow
def test_true_errors_are_as_large_as_predicted() -> None:
    """On the bundled recording: (error / deviation)^2, averaged over the six, is about one."""
    model = load_model(share_directory() / "models/crisp_ycbv_compact.safetensors", "cpu")
    estimator = Estimator(model)
    found = []
    for number, recorded in enumerate(Recording(share_directory() / "recordings/table").frames()):
        if number % 8:
            continue
        height, width = recorded.labels.shape
        depth = depth_mm_to_m(recorded.depth)
        camera = Camera.from_matrix(recorded.intrinsics, width, height)
        frame = Frame(recorded.rgb, depth, recorded.labels, camera)
        truth = {true.label: torch.tensor(true.T_camera_object) for true in recorded.truth}
        for estimate in estimator.estimate(frame).objects:
            if estimate.certified and estimate.label in truth:
                T = torch.tensor(estimate.T_camera_object)
                error = deviations(invert(T)[None], truth[estimate.label])[0]
                if error[3:].norm() < 0.35:  # else it is a mirrored pose of a symmetric object
                    covariance = torch.tensor(estimate.covariance)
                    found.append((error @ torch.linalg.solve(covariance, error) / 6).item())
    assert len(found) >= 20
    assert 0.2 < torch.tensor(found).median() < 1.5
    assert torch.tensor(found).quantile(0.9) < 3.0

"""Free space and silhouette on a depth image rendered from a closed-form shape."""

import pytest
import torch
from correction.rendering import CAMERA, LABEL, rendered

from crisp_ros.correction.surface import surface_points
from crisp_ros.correction.visibility import Images, visibility_conditions
from crisp_ros.geometry.se3 import exp, from_rotation_translation, invert


@pytest.fixture(scope="module")
def pose() -> torch.Tensor:
    rotation = exp(torch.tensor([0, 0, 0, 0.5, 0.7, 0.1]).double())[:3, :3]
    return invert(from_rotation_translation(rotation, torch.tensor([0.02, -0.01, 0.6]).double()))


def conditions(known, name, depth, labels, pose):
    surface = surface_points(known.field, known.shapes_of(name))
    return visibility_conditions(
        surface, pose[None], torch.tensor([LABEL]), Images(depth, labels, CAMERA)
    )


@pytest.mark.parametrize("name", ["box", "mug", "bracket"])
def test_the_truth_protrudes_nowhere(known, pose, name: str) -> None:
    depth, labels = rendered(known.named(name)[0], pose)
    free, silhouette = conditions(known, name, depth, labels, pose)
    assert free.held.all() and silhouette.held.all()
    assert free.reasons == silhouette.reasons == ("",)


def test_a_shape_before_the_measured_depth_is_refused(known, pose) -> None:
    depth, labels = rendered(known.named("box")[0], pose)
    nearer = pose @ exp(torch.tensor([0, 0, 0.05, 0, 0, 0]).double())
    free, _ = conditions(known, "box", depth, labels, nearer)
    assert not free.held.any()
    assert free.reasons[0].endswith("% of the shape lies in space seen to be empty")


def test_a_shape_outside_its_mask_is_refused(known, pose) -> None:
    """The bar explains the points of a box seen end on, but reaches into the background."""
    depth, labels = rendered(known.named("box")[0], pose)
    free, silhouette = conditions(known, "bar", depth, labels, pose)
    assert not silhouette.held.any()
    assert silhouette.reasons[0].endswith("% of the shape projects onto seen background")
    assert not free.held.any()


def test_what_an_obstacle_hides_may_protrude(known, pose) -> None:
    depth, labels = rendered(known.named("bar")[0], pose)
    hidden = torch.arange(CAMERA.width) < 80
    depth[:, hidden], labels[:, hidden] = 0.3, 3
    free, silhouette = conditions(known, "bar", depth, labels, pose)
    assert free.held.all() and silhouette.held.all()


def test_pixels_without_depth_prove_nothing(known, pose) -> None:
    depth, labels = rendered(known.named("box")[0], pose)
    free, silhouette = conditions(known, "bar", torch.zeros_like(depth), labels, pose)
    assert free.value == silhouette.value == 0


def test_shapes_out_of_sight_are_survived(known, pose) -> None:
    depth, labels = rendered(known.named("box")[0], pose)
    behind = pose @ exp(torch.tensor([0, 0, 3.0, 0, 0, 0]).double())
    broken = pose.clone()
    broken[0, 3] = torch.nan
    for T in (behind, broken):
        free, silhouette = conditions(known, "box", depth, labels, T)
        assert torch.isfinite(free.value).all() and torch.isfinite(silhouette.value).all()

"""The agreement of a print with the image: what changes it, and what must not."""

import pytest
import torch
from analytic import cylinder
from correction.painting import painted_library, photograph, plain, sectors
from correction.test_symmetry_search import about_axis, looked_at

from crisp_ros.correction.appearance import opponent_channels, print_agreement
from crisp_ros.correction.visibility import Images

CAN = cylinder(0.04, 0.05)
PRINT = painted_library(CAN, sectors).printed_surface(0)
T_TRUE = looked_at(20.0)


def correlations(view, images, *degrees: float) -> torch.Tensor:
    poses = torch.stack([about_axis(d) @ T_TRUE for d in degrees])
    return print_agreement(PRINT, poses, view, images).correlation


def test_the_true_pose_agrees_best() -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    found = correlations(view, images, *range(0, 360, 15))
    assert found[0] > 0.9
    assert found.argmax() == 0
    assert found[12] < 0.3


@pytest.mark.parametrize("gain, offset", [(0.3, 0.0), (0.6, 0.3), (1.0, -0.05)])
def test_exposure_changes_nothing(gain: float, offset: float) -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    plain_light = correlations(view, images, 0.0, 40.0)
    other = correlations(view._replace(crop=gain * view.crop + offset), images, 0.0, 40.0)
    torch.testing.assert_close(other, plain_light, atol=1e-4, rtol=0)


def test_white_balance_and_blur_change_little() -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    tinted = view.crop * torch.tensor([1.15, 1.0, 0.8])[:, None, None]
    blurred = torch.nn.functional.avg_pool2d(tinted[None], 5, 1, 2)[0]
    found = correlations(view._replace(crop=blurred), images, *range(0, 360, 15))
    assert found.argmax() == 0 and found[0] > 0.75


def test_hidden_points_do_not_take_part() -> None:
    """An obstacle in front of the left half leaves the right half, and its colours do not count."""
    view, images = photograph(CAN, T_TRUE, sectors)
    everything = print_agreement(PRINT, T_TRUE[None], view, images)
    depth, crop = images.depth.clone(), view.crop.clone()
    depth[:, :80], crop[:, :, :80] = 0.2, 1.0
    hidden = print_agreement(
        PRINT, T_TRUE[None], view._replace(crop=crop), images._replace(depth=depth)
    )
    assert 0.2 < hidden.visible[0] / everything.visible[0] < 0.8
    assert hidden.correlation[0] > 0.85
    unlabelled = Images(images.depth, torch.zeros_like(images.labels), images.camera)
    assert print_agreement(PRINT, T_TRUE[None], view, unlabelled).visible[0] == 0


def test_plain_surfaces_have_no_contrast() -> None:
    surface = painted_library(CAN, plain).printed_surface(0)
    view, images = photograph(CAN, T_TRUE, plain)
    found = print_agreement(surface, T_TRUE[None], view, images)
    assert found.contrast[0] < 1e-3


def test_print_is_on_the_decoded_surface() -> None:
    assert CAN.sdf(PRINT.points.double()).abs().max() < 5e-4
    outward = CAN.normals(PRINT.points.double()).float()
    assert ((PRINT.normals * outward).sum(-1) > 0.9).float().mean() > 0.95


def test_poses_behind_the_camera_see_nothing() -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    behind = T_TRUE.clone()
    behind[:3, 3] = behind[:3, 3] + 3.0 * behind[:3, 2]
    for T in (behind, torch.full((4, 4), torch.nan)):
        found = print_agreement(PRINT, T[None], view, images)
        assert found.visible[0] == 0 or torch.isfinite(found.correlation[0])


def test_opponent_channels_of_known_colours() -> None:
    channels = opponent_channels(torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(channels[0], torch.tensor([0.5, 0.0, 0.0]))
    assert channels[1, 1] > 0 and channels[2, 2] < 0

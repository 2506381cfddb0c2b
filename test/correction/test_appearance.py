"""The agreement of a print with the image: what changes it, and what must not."""

import pytest
import torch
from analytic import cylinder
from correction.painting import painted_library, photograph, plain, sectors
from correction.test_symmetry_search import about_axis, looked_at

from crisp_ros.correction.appearance import PrintComparison, opponent_channels
from crisp_ros.correction.visibility import Images

CAN = cylinder(0.04, 0.05)
PRINT = painted_library(CAN, sectors).printed_surface(0)
T_TRUE = looked_at(20.0)


AROUND = torch.stack([about_axis(d) for d in range(0, 360, 15)])


def agreement(view, images, surface=PRINT, T=T_TRUE):
    return PrintComparison(surface, T, AROUND, view, images).agreement()


def test_the_true_pose_agrees_best() -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    found = agreement(view, images)
    assert found.correlation[0] > 0.9
    assert found.correlation.argmax() == 0
    assert found.correlation[0] - found.correlation[12] > 0.7


@pytest.mark.parametrize("gain, offset", [(0.3, 0.0), (0.6, 0.3), (1.0, -0.05)])
def test_exposure_changes_nothing(gain: float, offset: float) -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    other = agreement(view._replace(crop=gain * view.crop + offset), images)
    expected = agreement(view, images)
    torch.testing.assert_close(other.correlation, expected.correlation, atol=1e-4, rtol=0)


def test_white_balance_and_blur_change_little() -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    tinted = view.crop * torch.tensor([1.15, 1.0, 0.8])[:, None, None]
    blurred = torch.nn.functional.avg_pool2d(tinted[None], 5, 1, 2)[0]
    found = agreement(view._replace(crop=blurred), images).correlation
    assert found.argmax() == 0 and found[0] > 0.75


def test_shading_changes_little() -> None:
    """Light that falls off to a fifth across the object, and a bright reflection along it."""
    view, images = photograph(CAN, T_TRUE, sectors)
    side = view.crop.shape[-1]
    across = torch.linspace(1.0, 0.2, side)
    reflected = 0.5 * torch.exp(-((torch.arange(side) - 0.6 * side) / (0.05 * side)).square())
    found = agreement(view._replace(crop=across * view.crop + reflected), images).correlation
    assert found.argmax() == 0 and found[0] > 0.6


def test_shifts_of_two_pixels_cost_little() -> None:
    """The print is found there, and 0.01 for each squared pixel of the shift is taken off."""
    view, images = photograph(CAN, T_TRUE, sectors)
    shifted = torch.roll(view.crop, (2, -2), (1, 2))
    found = agreement(view._replace(crop=shifted), images).correlation
    expected = agreement(view, images).correlation
    assert found.argmax() == 0 and abs(found[0] + 0.08 - expected[0]) < 0.03


def test_hidden_points_do_not_take_part() -> None:
    """An obstacle in front of the left half leaves the right half, and its colours do not count."""
    view, images = photograph(CAN, T_TRUE, sectors)
    everything = agreement(view, images)
    depth, crop = images.depth.clone(), view.crop.clone()
    depth[:, :80], crop[:, :, :80] = 0.2, 1.0
    hidden = agreement(view._replace(crop=crop), images._replace(depth=depth))
    assert 0.2 < hidden.visible / everything.visible < 0.8
    assert hidden.correlation[0] > 0.85
    unlabelled = Images(images.depth, torch.zeros_like(images.labels), images.camera)
    nothing = agreement(view, unlabelled)
    assert nothing.visible == 0 and (nothing.correlation == 0).all()


def test_what_all_poses_share_does_not_count() -> None:
    """A bright lid, the same at all rotations, neither helps nor harms; the band below decides."""

    def lidded(points: torch.Tensor) -> torch.Tensor:
        return torch.where(points[..., 2:] > 0.02, points.new_ones(3), sectors(points))

    def dark_lid(points: torch.Tensor) -> torch.Tensor:
        return torch.where(points[..., 2:] > 0.02, points.new_zeros(3), sectors(points))

    surface = painted_library(CAN, lidded).printed_surface(0)
    found = agreement(*photograph(CAN, T_TRUE, lidded), surface).correlation
    other = agreement(*photograph(CAN, T_TRUE, dark_lid), surface).correlation
    assert found[0] > 0.8 and other[0] > 0.6
    assert found.argmax() == other.argmax() == 0


def test_plain_surfaces_have_no_contrast() -> None:
    surface = painted_library(CAN, plain).printed_surface(0)
    view, images = photograph(CAN, T_TRUE, plain)
    found = agreement(view, images, surface)
    assert found.contrast.max() < 1e-3 and (found.correlation == 0).all()


def test_print_is_on_the_decoded_surface() -> None:
    assert CAN.sdf(PRINT.points.double()).abs().max() < 5e-4
    outward = CAN.normals(PRINT.points.double()).float()
    assert ((PRINT.normals * outward).sum(-1) > 0.9).float().mean() > 0.95


def test_poses_behind_the_camera_see_nothing() -> None:
    view, images = photograph(CAN, T_TRUE, sectors)
    behind = T_TRUE.clone()
    behind[:3, 3] = behind[:3, 3] + 3.0 * behind[:3, 2]
    for T in (behind, torch.full((4, 4), torch.nan)):
        found = agreement(view, images, PRINT, T)
        assert found.visible == 0 and torch.isfinite(found.correlation).all()


def test_opponent_channels_of_known_colours() -> None:
    channels = opponent_channels(torch.tensor([[0.5, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(channels[0], torch.tensor([0.5, 0.0, 0.0]))
    assert channels[1, 1] > 0 and channels[2, 2] < 0

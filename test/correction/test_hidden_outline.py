"""The share of an outline that something hides, or that is no end of the object."""

from __future__ import annotations

import torch

from crisp_ros.correction.hidden_outline import hidden_outline_shares, open_outline_shares
from crisp_ros.correction.shape_starts import Support
from crisp_ros.correction.visibility import Images
from crisp_ros.observation.frame import Camera

_CAMERA = Camera(300.0, 300.0, 40.0, 30.0, 80, 60)


def _images() -> Images:
    """A square of 20 px at 0.8 m in front of a table at 1 m."""
    depth, labels = torch.ones(60, 80), torch.zeros(60, 80, dtype=torch.long)
    depth[20:40, 30:50], labels[20:40, 30:50] = 0.8, 7
    return Images(depth, labels, _CAMERA)


def _support(known: bool = False, offset: float = 0.0) -> Support:
    """A plane at that distance under the camera, for three objects."""
    normal = torch.tensor([0.0, -1.0, 0.0]).expand(3, 3)
    return Support(normal, torch.full((3,), offset), torch.full((3,), known))


def _share(images: Images, support: Support | None = None) -> float:
    return float(hidden_outline_shares(torch.tensor([7]), images, support or _support())[0])


def test_nothing_hides_an_object_in_front_of_the_rest() -> None:
    assert _share(_images()) == 0.0


def test_something_nearer_at_one_of_four_sides_hides_a_quarter() -> None:
    for depth, expected in ((0.7, 0.25), (0.795, 0.0), (0.9, 0.0), (0.0, 0.0)):
        images = _images()
        images.depth[:, 50:] = depth
        assert abs(_share(images) - expected) < 0.06


def test_an_occluder_next_to_missing_depth_hides_as_well() -> None:
    """A stereo camera sees nothing of the object in a stripe along what is in front of it."""
    images = _images()
    images.depth[:, 50:], images.depth[:, 44:50] = 0.7, 0.0
    assert 0.25 < _share(images) < 0.4


def test_the_plane_that_it_stands_on_hides_nothing() -> None:
    """Below the object the plane comes towards the camera; a box on it does hide the object."""
    images = _images()
    images.depth[40:] = 0.7
    lowest = 0.7 * (40 - 30) / 300
    assert abs(_share(images) - 0.25) < 0.06
    assert _share(images, _support(True, lowest)) == 0.0
    assert abs(_share(images, _support(True, lowest + 0.05)) - 0.25) < 0.06


def test_the_border_of_the_image_hides_what_is_beyond_it() -> None:
    images = _images()
    images = images._replace(depth=images.depth[:, :50], labels=images.labels[:, :50])
    assert abs(_share(images) - 0.25) < 0.06


def test_objects_of_a_frame_have_shares_of_their_own() -> None:
    images = _images()
    images.depth[20:40, 50:70], images.labels[20:40, 50:70] = 0.7, 9
    shares = hidden_outline_shares(torch.tensor([7, 9, 3]), images, _support())
    assert shares[0] > 0.15 and shares[1] == 0.0 and shares[2] == 0.0
    assert len(hidden_outline_shares(torch.zeros(0, dtype=torch.long), images, _support())) == 0


def _open(images: Images, support: Support | None = None) -> float:
    return float(open_outline_shares(torch.tensor([7]), images, support or _support())[0])


def test_a_whole_mask_is_closed() -> None:
    assert _open(_images()) == 0.0


def test_a_mask_without_a_part_of_its_object_is_open_there() -> None:
    """One of four sides, where the surface goes on at the same or at a slowly changing depth."""
    for step in (0.0, 0.001):
        images = _images()
        images.depth[20:40, 50:60] = 0.8 + step * torch.arange(1, 11)
        assert 0.15 < _open(images) < 0.25


def test_a_step_in_depth_or_another_object_closes_a_mask() -> None:
    images = _images()
    images.depth[20:40, 50:60] = 0.82
    assert _open(images) == 0.0
    images.depth[20:40, 50:60], images.labels[20:40, 50:60] = 0.8, 8
    assert _open(images) == 0.0


def test_a_mask_is_not_open_towards_its_support() -> None:
    images = _images()
    images.depth[40:] = 0.8
    lowest = 0.8 * (46 - 30) / 300
    assert _open(images) > 0.15
    assert _open(images, _support(True, lowest)) < 0.1
    assert _open(images, _support(True, lowest + 0.05)) > 0.15


def test_objects_without_pixels_have_no_open_outline() -> None:
    none = open_outline_shares(torch.tensor([9]), _images(), _support())
    assert none.tolist() == [0.0]
    assert (
        open_outline_shares(torch.tensor([], dtype=torch.long), _images(), _support()).numel() == 0
    )

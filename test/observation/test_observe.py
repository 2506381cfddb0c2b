import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crisp_ros.network.maps import crop_grid, read_maps
from crisp_ros.observation import observe as observe_module
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.observe import ObservationSettings, mask_sizes, observe

CAMERA = Camera(500.0, 510.0, 99.5, 74.5, 200, 150)
EVERY_PIXEL = ObservationSettings(points=40_000, border_px=0, depth_jump=10.0)


def frame(labels, depth=None, rgb=None):
    height, width = labels.shape
    return Frame(
        rgb=np.zeros((height, width, 3), np.uint8) if rgb is None else rgb,
        depth=np.ones((height, width), np.float32) if depth is None else depth.astype(np.float32),
        labels=labels.astype(np.int32),
        camera=Camera(500.0, 510.0, width / 2 - 0.5, height / 2 - 0.5, width, height),
    )


def rectangle(top, bottom, left, right, label=1, shape=(150, 200)):
    labels = np.zeros(shape, np.int32)
    labels[top:bottom, left:right] = label
    return labels


def picked(observations, i=0):
    """The pixels (n, 2) of an object's valid points, as integers."""
    return observations.pixels[i][observations.valid[i]].numpy().astype(int)


def test_points_are_the_naive_back_projection():
    rng = np.random.default_rng(0)
    labels = rectangle(40, 70, 50, 90)
    depth = rng.uniform(0.5, 3.0, labels.shape)
    found = observe(frame(labels, depth), EVERY_PIXEL, 32)
    expected = []
    for v in range(40, 70):
        for u in range(50, 90):
            z = np.float32(depth[v, u])
            expected.append([(u - 99.5) / 500 * z, (v - 74.5) / 510 * z, z])
    assert found.valid.sum() == 1200
    np.testing.assert_allclose(found.points[0][found.valid[0]].numpy(), expected, rtol=1e-5)
    assert (found.points[0][~found.valid[0]] == 0).all()


def test_shapes_and_types():
    labels = rectangle(40, 70, 50, 90, 3) + rectangle(80, 120, 10, 60, 7)
    found = observe(frame(labels), ObservationSettings(points=500), 48)
    assert found.labels.tolist() == [3, 7] and found.labels.dtype == torch.int64
    assert found.crops.shape == (2, 3, 48, 48) and found.crops.dtype == torch.float32
    assert found.boxes.shape == (2, 4)
    assert found.points.shape == (2, 500, 3) and found.points.dtype == torch.float32
    assert found.pixels.shape == (2, 500, 2) and found.valid.shape == (2, 500)
    assert found.rejected == ()


@pytest.mark.parametrize("size", [24, 48, 150])
def test_a_pixel_is_where_the_crop_says(size):
    """Colours that are linear in u and v survive every resize, so they reveal the mapping."""
    height, width = 240, 250
    v, u = np.mgrid[:height, :width]
    rgb = np.stack((u, v, np.zeros_like(u)), -1).astype(np.uint8)
    found = observe(
        frame(rectangle(60, 140, 90, 150, shape=(height, width)), rgb=rgb),
        ObservationSettings(),
        size,
    )
    left, top, side, height = found.boxes[0].tolist()
    assert side == height
    assert side == np.ceil(1.2 * 80)
    pixels = picked(found)[::7]
    at = (torch.tensor(pixels) + 0.5 - torch.tensor([left, top])) / side * size - 0.5
    # grid_sample without aligned corners wants (2 x + 1) / size - 1.
    grid = (2 * at + 1) / size - 1
    colours = torch.nn.functional.grid_sample(
        found.crops[:1], grid[None, None].float(), align_corners=False
    )[0, :2, 0].T
    np.testing.assert_allclose(colours.numpy() * 255, pixels, atol=0.6)


def test_the_crop_is_centred_on_the_mask():
    found = observe(frame(rectangle(40, 70, 50, 90)), ObservationSettings(), 32)
    left, top, side, height = found.boxes[0].tolist()
    assert side == height
    assert (side, left, top) == (48, 46, 31)


def test_outside_the_image_is_grey():
    rgb = np.full((150, 200, 3), 255, np.uint8)
    labels = rectangle(0, 60, 0, 60)
    crop = observe(frame(labels, rgb=rgb), ObservationSettings(margin=2.0), 60).crops[0]
    np.testing.assert_allclose(crop[:, :14].numpy(), 128 / 255)
    np.testing.assert_allclose(crop[:, :, :14].numpy(), 128 / 255)
    np.testing.assert_allclose(crop[:, 16:, 16:].numpy(), 1.0)


def test_shrinking_averages():
    """One pixel in two, black and white: sampling without averaging would keep the extremes."""
    v, u = np.mgrid[:150, :200]
    rgb = np.repeat((255 * ((u + v) % 2))[..., None], 3, -1).astype(np.uint8)
    found = observe(frame(rectangle(10, 130, 20, 160), rgb=rgb), ObservationSettings(), 24)
    np.testing.assert_allclose(found.crops[0, :, 6:18, 6:18].numpy(), 0.5, atol=0.03)


def test_sampling_is_without_replacement_and_spread_out():
    labels = rectangle(20, 120, 30, 180)
    found = observe(frame(labels), ObservationSettings(points=1000, border_px=0), 32)
    pixels = picked(found)
    assert len(np.unique(pixels, axis=0)) == 1000
    share_of_rows = np.bincount(pixels[:, 1], minlength=150)[20:120]
    assert share_of_rows.min() >= 8 and share_of_rows.max() <= 12, "even, unlike a random choice"


@given(count=st.integers(30, 400), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_every_usable_pixel_is_taken_where_there_are_few(count, seed):
    labels = np.zeros((150, 200), np.int32)
    labels.ravel()[np.arange(count) + 3000] = 4
    chosen = ObservationSettings(points=200, border_px=0, seed=seed)
    found = observe(frame(labels), chosen, 16)
    pixels = picked(found)
    assert len(pixels) == min(count, 200) == len(np.unique(pixels, axis=0))
    assert (labels[pixels[:, 1], pixels[:, 0]] == 4).all()


def test_sampling_depends_on_the_seed_alone():
    labels = rectangle(20, 120, 30, 180)
    once = observe(frame(labels), ObservationSettings(), 32)
    again = observe(frame(labels), ObservationSettings(), 32)
    assert torch.equal(once.pixels, again.pixels)
    other = observe(frame(labels), ObservationSettings(seed=1), 32)
    assert not torch.equal(once.pixels, other.pixels)
    with_company = observe(frame(labels + rectangle(0, 15, 0, 60, 2)), ObservationSettings(), 32)
    assert torch.equal(once.pixels[0], with_company.pixels[0])


def test_depth_out_of_range_is_not_sampled():
    depth = np.ones((150, 200))
    depth[40:50], depth[50:60], depth[60:63] = 0.05, 11.0, np.nan
    found = observe(frame(rectangle(40, 80, 50, 90), depth), EVERY_PIXEL, 32)
    assert picked(found)[:, 1].min() == 63


def test_both_sides_of_a_depth_jump_are_left_out():
    depth = np.ones((150, 200))
    depth[:, 70:] = 1.1
    depth[60, 55] = 0
    found = observe(
        frame(rectangle(40, 80, 50, 90), depth), ObservationSettings(points=5000, border_px=0), 32
    )
    columns = set(picked(found)[:, 0].tolist())
    assert {69, 70}.isdisjoint(columns) and {67, 72} <= columns
    around_the_hole = [[54, 60], [56, 60], [55, 59]]
    assert all(p in picked(found).tolist() for p in around_the_hole), "a hole is no jump"


def test_a_slope_is_no_jump():
    depth = np.tile(1 + 0.004 * np.arange(200), (150, 1))
    found = observe(
        frame(rectangle(40, 80, 50, 90), depth), ObservationSettings(points=5000, border_px=0), 32
    )
    assert found.valid.sum() == 1600


def test_the_mask_border_is_left_out_but_not_that_of_the_image():
    found = observe(
        frame(rectangle(0, 60, 50, 110)), ObservationSettings(points=5000, border_px=4), 32
    )
    pixels = picked(found)
    assert pixels.min(0).tolist() == [54, 0] and pixels.max(0).tolist() == [105, 55]


def test_a_thin_part_keeps_its_core():
    labels = rectangle(40, 100, 40, 100) + rectangle(65, 71, 100, 140)
    pixels = picked(observe(frame(labels), ObservationSettings(points=9000, border_px=4), 32))
    handle = pixels[pixels[:, 0] > 110]
    assert len(handle) > 40 and set(handle[:, 1].tolist()) == {67, 68}


@pytest.mark.parametrize("shape", [(6, 6), (1, 40), (3, 15)])
def test_a_small_mask_is_not_eroded_away(shape):
    labels = rectangle(40, 40 + shape[0], 50, 50 + shape[1])
    found = observe(frame(labels), ObservationSettings(border_px=4), 32)
    assert found.valid.sum() >= 30


def test_a_mask_full_of_jumps_is_sampled_all_the_same():
    depth = np.random.default_rng(0).uniform(1, 2, (150, 200))
    found = observe(frame(rectangle(40, 70, 50, 90), depth), ObservationSettings(), 32)
    assert found.valid.sum() >= 0.3 * 1000


def test_specks_of_a_mask_are_ignored():
    labels = rectangle(40, 70, 50, 90) + rectangle(140, 142, 190, 193)
    alone = observe(frame(rectangle(40, 70, 50, 90)), ObservationSettings(), 32)
    found = observe(frame(labels), ObservationSettings(), 32)
    assert torch.equal(found.boxes, alone.boxes) and torch.equal(found.pixels, alone.pixels)
    halves = rectangle(40, 70, 50, 60) + rectangle(40, 70, 80, 90)
    assert observe(frame(halves), ObservationSettings(), 32).boxes[0, 2] == 48


@pytest.mark.parametrize(
    "labels, depth, reason",
    [
        (rectangle(40, 41, 50, 51), None, "mask of 1 px, needs 30"),
        (rectangle(40, 44, 50, 55), None, "mask of 20 px"),
        (rectangle(40, 70, 50, 90), np.zeros((150, 200)), "depth on 0 of 1200 px"),
        (rectangle(40, 70, 50, 90), np.full((150, 200), np.nan), "depth on 0 of 1200 px"),
        (rectangle(40, 70, 50, 90), np.full((150, 200), 800.0), "median 800 m"),
    ],
)
def test_unusable_objects_are_rejected_with_the_reason(labels, depth, reason):
    company = rectangle(90, 130, 50, 90, 9)
    merged = labels + company
    if depth is not None:
        depth = np.where(company > 0, 1.0, depth)
    found = observe(frame(merged, depth), ObservationSettings(), 32)
    assert found.labels.tolist() == [9]
    assert [r.label for r in found.rejected] == [1] and reason in found.rejected[0].reason


def test_an_empty_frame_has_no_objects():
    found = observe(frame(np.zeros((150, 200))), ObservationSettings(), 32)
    assert found.labels.shape == (0,) and found.crops.shape == (0, 3, 32, 32)
    assert found.points.shape == (0, 1000, 3) and found.boxes.shape == (0, 4)


def test_labels_may_be_large_and_fill_the_frame():
    found = observe(frame(np.full((150, 200), (21 << 16) | 3)), ObservationSettings(), 32)
    assert found.labels.tolist() == [(21 << 16) | 3]
    assert found.valid.all()


def test_surplus_masks_are_rejected_smallest_first_with_a_reason():
    labels = np.zeros((150, 200), np.int32)
    for i, side in enumerate((10, 12, 8, 14, 12)):
        labels[5 : 5 + side, 40 * i : 40 * i + side] = 6 + i
    found = observe(frame(labels), ObservationSettings(max_objects=2), 32)
    assert found.labels.tolist() == [7, 9]  # the lower one of two masks of a size
    reason = "one of 5 masks, of which the largest 2 are estimated (max_objects)"
    assert [r.label for r in found.rejected] == [6, 8, 10]
    assert {r.reason for r in found.rejected} == {reason}
    for all_of_them in (ObservationSettings(max_objects=None), ObservationSettings(max_objects=5)):
        assert observe(frame(labels), all_of_them, 32).labels.tolist() == [6, 7, 8, 9, 10]


def test_masks_beyond_the_limit_are_not_looked_at(monkeypatch):
    looked_at = []
    window = observe_module._window
    monkeypatch.setattr(observe_module, "_window", lambda *at: looked_at.append(at) or window(*at))
    v, u = np.mgrid[:150, :200]
    labels = 1 + 200 * v + u
    labels[50:100, 50:100] = 70_000
    labels[100:, 100:150] = 0
    found = observe(frame(labels), ObservationSettings(max_objects=3), 32)
    assert found.labels.tolist() == [70_000] and len(looked_at) == 3
    assert len(found.rejected) == 150 * 200 - 2 * 2500


@given(arrays(np.int32, (5, 7), elements=st.integers(0, 4)))
def test_sizes_of_masks_are_counted(labels):
    expected = {i: int((labels == i).sum()) for i in range(1, 5) if (labels == i).any()}
    assert list(mask_sizes(labels).items()) == list(expected.items())


def test_the_frame_is_left_as_it_was():
    given_frame = frame(rectangle(40, 70, 50, 90) + rectangle(140, 142, 190, 193))
    before = [given_frame.rgb.copy(), given_frame.depth.copy(), given_frame.labels.copy()]
    observe(given_frame, ObservationSettings(), 32)
    for a, b in zip(before, (given_frame.rgb, given_frame.depth, given_frame.labels), strict=True):
        np.testing.assert_array_equal(a, b)


def test_crop_agrees_with_area_averaging():
    rgb = np.random.default_rng(1).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    found = observe(frame(rectangle(40, 80, 60, 100), rgb=rgb), ObservationSettings(), 16)
    left, top, side, _ = (int(v) for v in found.boxes[0].tolist())
    assert side == 48
    square = rgb[top : top + side, left : left + side].astype(float)
    naive = square.reshape(16, 3, 16, 3, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(found.crops[0].permute(1, 2, 0).numpy(), naive, atol=0.003)


@pytest.mark.parametrize(
    "bad",
    [
        {"min_depth_m": 0.0},
        {"min_depth_m": 3.0, "max_depth_m": 2.0},
        {"min_points": 0},
        {"min_points": 2000},
        {"margin": 0.5},
        {"depth_jump": 0.0},
        {"min_fragment": 1.0},
        {"min_share": 0.0},
        {"max_objects": 0},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad)).split("_")[0]):
        ObservationSettings(**bad)


def test_connected_parts_are_those_of_eight_neighbours():
    """A diagonal chain of pixels is one part, not a trail of specks."""
    labels = np.zeros((150, 200), np.int32)
    cv2.line(labels, (50, 30), (110, 90), 1)
    assert observe(frame(labels), ObservationSettings(), 32).boxes[0, 2] == np.ceil(1.2 * 61)


@pytest.mark.parametrize("rule", ["tight", "image"])
def test_stretched_crops_are_those_of_the_released_code(rule):
    """The released code interpolates the box's pixels, without a margin and without averaging."""
    rng = np.random.default_rng(0)
    rgb = cv2.GaussianBlur(rng.integers(0, 256, (150, 200, 3)).astype(np.uint8), (0, 0), 2)
    labels = rectangle(31, 80, 20, 151)
    found = observe(frame(labels, rgb=rgb), ObservationSettings(), 42, crop_rule=rule)
    box = [20, 31, 131, 49] if rule == "tight" else [0, 0, 200, 150]
    assert found.boxes[0].tolist() == box
    left, top, width, height = box
    part = torch.from_numpy(rgb[top : top + height, left : left + width]).permute(2, 0, 1)
    expected = torch.nn.functional.interpolate(
        part[None].float() / 255, (42, 42), mode="bilinear", align_corners=False
    )
    assert (found.crops - expected).abs().max() < 1.01 / 255


def test_pixels_of_a_stretched_crop_keep_their_places():
    """A map that holds the pixels' own places gives each point its place back."""
    labels = rectangle(31, 80, 20, 151)
    found = observe(frame(labels), ObservationSettings(), 42, crop_rule="tight")
    across = (torch.arange(42) + 0.5) / 42 * 131 + 20 - 0.5
    down = (torch.arange(42) + 0.5) / 42 * 49 + 31 - 0.5
    v, u = torch.meshgrid(down, across, indexing="ij")
    read = read_maps(torch.stack([u, v])[None], crop_grid(found.pixels, found.boxes))
    inside = (found.pixels[0] > torch.tensor([22.0, 33.0])).all(-1)
    inside &= (found.pixels[0] < torch.tensor([148.0, 77.0])).all(-1)
    assert inside.sum() > 300
    torch.testing.assert_close(read[0][inside], found.pixels[0][inside], rtol=0, atol=1e-3)


def test_geometry_needs_square_crops():
    with pytest.raises(ValueError, match="square"):
        observe(frame(rectangle(31, 80, 20, 151)), ObservationSettings(), 42, True, "tight")

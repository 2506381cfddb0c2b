import numpy as np

from crisp_ros.observation.mask_widths import WIDTH_DIRECTIONS, mask_widths


def test_widths_are_those_of_the_mask() -> None:
    v, u = np.indices((120, 160))
    labels = np.where((u - 80) ** 2 + (v - 60) ** 2 <= 30**2, 2, 0)
    labels[20:30, 100:150] = 5
    disc, box = mask_widths(labels.astype(np.int32), [2, 5])
    np.testing.assert_allclose(disc, 61, atol=2.0)  # its tips are a pixel wide, and count as spurs
    assert box[0] == 50 and box[WIDTH_DIRECTIONS.shape[1] // 2] == 10


def test_spurs_do_not_count() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[20:30, 20:30], labels[25, 30:50] = 1, 1
    assert mask_widths(labels, [1])[0, 0] == 10


def test_truncated_and_missing_masks_have_no_width() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[0:10, 20:30], labels[40:41, 20:30] = 1, 2
    assert np.isnan(mask_widths(labels, [1, 2, 3])).all()

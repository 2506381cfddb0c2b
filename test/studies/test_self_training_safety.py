"""Wrong frames for the study of the guard."""

import numpy as np
from tiny_bop import tiny_frames

from crisp_ros.studies.self_training_safety import corrupted, unknown_objects


def test_images_become_black_and_masks_boxes() -> None:
    frame = tiny_frames()[0]
    black = corrupted("black", frame, np.random.default_rng(0))
    assert not black.rgb.any() and np.array_equal(black.labels, frame.labels)
    boxes = corrupted("masks", frame, np.random.default_rng(0))
    assert np.array_equal(boxes.rgb, frame.rgb) and boxes.labels.max() == 7
    v, u = np.nonzero(boxes.labels == 7)
    assert len(u) == (np.ptp(v) + 1) * (np.ptp(u) + 1), "the last box covers the others"
    same = corrupted("poisoned", frame, np.random.default_rng(0))
    assert np.array_equal(same.labels, frame.labels) and np.array_equal(same.rgb, frame.rgb)


def test_unknown_objects_are_coloured_solids_of_hand_size() -> None:
    objects = unknown_objects(np.random.default_rng(0))
    assert len(objects) == 12
    for mesh in objects.values():
        assert mesh.is_watertight and 0.03 < mesh.extents.max() < 0.4
        assert np.ptp(np.asarray(mesh.visual.vertex_colors)[:, :3], axis=0).max() > 10

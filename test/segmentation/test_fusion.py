"""Surfaces are split and completed by the network's votes."""

import numpy as np

from crisp_ros.segmentation.fusion import FusionSettings, fused_labels

SHAPE = (40, 60)


def image(value: float = 0.0, **areas: tuple[int, int, float]) -> np.ndarray:
    """Values of columns: a=(5, 20, 1.0) sets columns 5 to 19."""
    result = np.full(SHAPE, value)
    for start, stop, filled in areas.values():
        result[:, start:stop] = filled
    return result


def fused(surfaces: np.ndarray, votes: np.ndarray, foreground: float, border: np.ndarray):
    return fused_labels(
        surfaces.astype(np.int32),
        votes.astype(np.int32),
        np.where(votes > 0, np.float32(foreground), np.float32(0.0)),
        border.astype(np.float32),
        FusionSettings(),
    )


def test_a_surface_is_split_where_votes_and_border_say_so() -> None:
    surface = image(a=(10, 50, 1))
    votes = image(a=(10, 30, 1), b=(30, 50, 2))
    split = fused(surface, votes, 0.9, image(a=(28, 32, 0.8)))
    assert np.unique(split[:, 10:30]).tolist() == [1] and np.unique(split[:, 30:50]).tolist() == [2]
    whole = fused(surface, votes, 0.9, image(0.02))
    assert np.unique(whole[:, 10:50]).tolist() == [1]


def test_a_few_stray_votes_do_not_split_a_surface() -> None:
    votes = image(a=(10, 50, 1))
    votes[3:6, 20:24] = 2
    assert fused(image(a=(10, 50, 1)), votes, 0.9, image(0.9)).max() == 1


def test_pixels_without_depth_join_the_object_of_their_centre() -> None:
    """An object half of which has no depth, and one that has none at all."""
    surface = image(a=(10, 20, 1))
    votes = image(a=(10, 30, 4), b=(40, 50, 7))
    labels = fused(surface, votes, 0.9, image(0.0))
    assert np.unique(labels[:, 10:30]).tolist() == [1]
    assert np.unique(labels[:, 40:50]).tolist() == [2]


def test_a_surface_that_the_network_rules_out_is_dropped() -> None:
    labels = fused(image(a=(10, 20, 1), b=(30, 40, 2)), image(b=(30, 40, 1)), 0.9, image(0.0))
    assert (labels[:, 10:20] == 0).all() and (labels[:, 30:40] == 1).all()


def test_nothing_stays_nothing() -> None:
    assert fused(image(), image(), 0.0, image()).max() == 0

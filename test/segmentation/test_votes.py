"""Votes for centres become masks."""

import numpy as np
import pytest
from drawing import discs

from crisp_ros.segmentation.votes import VoteSettings, voted_labels


def offsets(labels: np.ndarray, noise_px: float = 0.0) -> np.ndarray:
    rows, columns = np.indices(labels.shape)
    result = np.random.default_rng(0).normal(0.0, noise_px, (2, *labels.shape))
    for label in np.unique(labels[labels > 0]):
        own = labels == label
        result[0][own] += columns[own].mean() - columns[own]
        result[1][own] += rows[own].mean() - rows[own]
    return result.astype(np.float32)


@pytest.mark.parametrize("noise_px", [0.0, 1.5])
def test_touching_masks_are_separated_by_their_centres(noise_px: float) -> None:
    true = discs((50, 60, 20), (89, 60, 20), (70, 20, 8))
    found = voted_labels(true > 0, offsets(true, noise_px), VoteSettings())
    assert found.max() == 3 and (found[true == 0] == 0).all()
    for label in (1, 2, 3):
        shares = np.bincount(found[true == label])
        assert shares.max() / shares.sum() > 0.98


def test_no_foreground_and_stray_votes_give_no_mask() -> None:
    nothing = np.zeros((20, 30), bool)
    assert voted_labels(nothing, np.zeros((2, 20, 30), np.float32), VoteSettings()).max() == 0
    single = nothing.copy()
    single[5, 5] = True
    assert voted_labels(single, np.zeros((2, 20, 30), np.float32), VoteSettings()).max() == 0


def test_far_votes_and_too_many_centres_are_bounded() -> None:
    true = discs(*((10 * i + 5, 10 * j + 5, 4) for i in range(15) for j in range(11)))
    settings = VoteSettings(max_objects=7, apart_px=2)
    assert voted_labels(true > 0, offsets(true), settings).max() <= 7
    far = np.full((2, *true.shape), 1e6, np.float32)
    assert voted_labels(true > 0, far, VoteSettings()).max() == 1

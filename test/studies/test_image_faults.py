import numpy as np
import pytest

from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.studies.image_faults import FAULTS, with_borders_moved, with_half_the_pixels

CAMERA = Camera(100.0, 100.0, 49.5, 39.5, 100, 80)


@pytest.fixture
def frame() -> Frame:
    """Two boxes next to one another, in front of a wall."""
    labels = np.zeros((80, 100), np.int32)
    labels[20:60, 20:50], labels[20:60, 50:80] = 3, 5
    depth = np.where(labels > 0, 0.8, 1.2).astype(np.float32)
    depth[:5] = 0.0
    return Frame(np.zeros((80, 100, 3), np.uint8), depth, labels, CAMERA)


@pytest.mark.parametrize("pixels", [-3, 4])
def test_borders_move_by_so_many_pixels(frame: Frame, pixels: int) -> None:
    """Grown masks cover a neighbour, shrunk ones leave a gap between two."""
    moved = with_borders_moved(frame, pixels, np.random.default_rng(0)).labels
    row = moved[40]
    assert np.flatnonzero(row)[[0, -1]].tolist() == [20 - pixels, 79 + pixels]
    inner = np.count_nonzero(row[50 - abs(pixels) : 50 + abs(pixels)] == 0)
    assert inner == (0 if pixels > 0 else 2 * abs(pixels))
    assert np.count_nonzero(np.diff(row.astype(int)) != 0) == (3 if pixels > 0 else 4)


@pytest.mark.parametrize("name", list(FAULTS))
def test_faults_do_what_they_say(frame: Frame, name: str) -> None:
    damaged = FAULTS[name](frame, np.random.default_rng(1))
    assert set(np.unique(damaged.labels)) <= {0, 3, 5}
    assert np.isfinite(damaged.depth).all() and (damaged.depth >= 0).all()
    if name == "none":
        assert damaged is frame
    elif "mask" in name or "neighbour" in name:
        assert (damaged.labels != frame.labels).any() and (damaged.depth == frame.depth).all()
    elif "twice" not in name:
        assert (damaged.labels == frame.labels).all() and (damaged.depth != frame.depth).any()
    if name == "flying pixels":
        assert damaged.depth.max() <= 1.2 and damaged.depth[frame.depth > 0].min() >= 0.8


def test_half_the_pixels_show_the_same_rays(frame: Frame) -> None:
    half = with_half_the_pixels(frame)
    assert half.depth.shape == (40, 50)
    whole, few = (
        f.camera.back_project(u, v, 1.0) for f, u, v in ((frame, 40.5, 30.5), (half, 20, 15))
    )
    np.testing.assert_allclose(whole, few, atol=1e-12)

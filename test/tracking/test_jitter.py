import numpy as np
import pytest
from poses import pose
from scipy.spatial.transform import Rotation

from crisp_ros.tracking.jitter import jitter


def test_a_track_at_rest_has_none():
    assert jitter([pose((0.1, 0.2, 0.9), (0.3, 0.1, 0.0))] * 5) == (0.0, 0.0, 0.0, 0.0)


def test_steady_motion_is_a_step_but_no_noise():
    track = [pose((0.01 * i, 0.0, 1.0), (0.0, 0.02 * i, 0.0)) for i in range(20)]
    found = jitter(track)
    assert found.step_m == pytest.approx(0.01)
    assert found.step_rad == pytest.approx(0.02)
    assert found.noise_m == pytest.approx(0.0, abs=1e-12)
    assert found.noise_rad == pytest.approx(0.0, abs=1e-9)


def test_noise_is_measured_on_a_moving_object():
    rng = np.random.default_rng(0)
    track = np.array([pose((0.01 * i, 0.0, 1.0)) for i in range(4000)])
    track[:, :3, 3] += rng.normal(0, 0.002, (4000, 3))
    track[:, :3, :3] = Rotation.from_rotvec(rng.normal(0, 0.01, (4000, 3))).as_matrix()
    found = jitter(track)
    assert found.noise_m == pytest.approx(0.002 * 3**0.5, rel=0.05)
    assert found.noise_rad == pytest.approx(0.01 * 3**0.5, rel=0.05)


def test_the_middle_of_the_object_counts_not_its_origin():
    about = np.array([0.0, 0.0, 0.3])
    track = []
    for i in range(4):
        T = pose((0, 0, 0), (0.1 * i, 0, 0))
        T[:3, 3] = about - T[:3, :3] @ about
        track.append(T)
    assert jitter(track, about).step_m == pytest.approx(0.0, abs=1e-12)
    assert jitter(track).step_m > 0.02


def test_too_short_tracks_give_nan():
    assert np.isnan(jitter([np.eye(4)])).all()
    found = jitter([np.eye(4)] * 2)
    assert found.step_m == 0.0
    assert np.isnan(found.noise_m)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(F, 4, 4\)"):
        jitter(np.eye(4))

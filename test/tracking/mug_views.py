"""A mug that looks like a cup while its handle is hidden, seen from all around."""

from __future__ import annotations

import numpy as np
from poses import rotations
from scipy.spatial.transform import Rotation
from tracking.scenes import CAN, CUP, MUG, estimate, looking_from, make_tracker, seen_points, trace

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.verification import VerificationSettings
from crisp_ros.tracking.shape_manager import ShapeManagerSettings
from crisp_ros.tracking.tracker import Tracker
from crisp_ros.tracking.tracker_settings import TrackerSettings

SHAPES = (CUP, MUG, CAN)
CUP_ID, MUG_ID, CAN_ID = range(3)
GROUPS = [rotations([0, 0, 1], 36), np.eye(4)[None], np.eye(4)[None]]
HANDLE_HIDDEN = ([-1, 0.2, 0.3], [-1, -0.5, 0.2], [-0.8, 0.1, -0.5])
HANDLE_SEEN = ([0.2, 1, 0.3], [0.9, -1, 0.4])


def tracker(**settings) -> Tracker:
    shapes = ShapeManagerSettings(**settings)
    return make_tracker(SHAPES, GROUPS, TrackerSettings(shapes=shapes))


def verifying(threshold_m) -> VerificationSettings:
    return VerificationSettings(certificate=CertificateSettings(threshold_m=threshold_m))


def shown(
    tracked, stamp, direction, named, shape=MUG, label=1, rotation=0.0, finished=True, **kwargs
):
    """The object after it was seen from a side and estimated as the `named`-th shape.

    The camera flies about the object, which rests at the origin of the fixed frame.
    """
    T = looking_from(direction)
    points = [seen_points(shape, T, seed=int(1e3 * stamp))]
    spin = rotations([0, 0, 1], 1)[0]
    spin[:3, :3] = Rotation.from_rotvec([0, 0, rotation]).as_matrix()
    seen = estimate(label, T @ spin, named, SHAPES, **kwargs)
    (found,) = tracked.update(stamp, trace([seen], points), np.linalg.inv(T)).objects
    if finished:
        tracked.finish()
    return found

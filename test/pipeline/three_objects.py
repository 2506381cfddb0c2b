"""Three objects that a truthful network names and places, and an estimator that uses it."""

from collections.abc import Sequence

import numpy as np
from analytic import AnalyticShape, box, bracket, mug
from analytic_scene import truthful_model
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.isosurface import IsosurfaceSettings
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline import Estimator, EstimatorSettings

BOX, MUG, BRACKET = (
    box((0.04, 0.025, 0.055)),
    mug(0.04, 0.045, 0.008, 0.03),
    bracket(0.12, 0.09, 0.05, 0.02),
)
SHAPES = (BOX, MUG, BRACKET)
SETTINGS = EstimatorSettings(
    masks=None,  # the colours of the images are coordinates: their edges say nothing of borders
    observation=ObservationSettings(points=400),
    isosurface=IsosurfaceSettings(voxels=24),
)


def pose(x: float, y: float, z: float, seed: int) -> NDArray[np.float64]:
    """T_camera_object: a place in metres and a random rotation."""
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    T[:3, 3] = x, y, z
    return T


POSES = (pose(-0.15, -0.08, 0.7, 1), pose(0.15, -0.05, 0.7, 5), pose(0.0, 0.12, 0.8, 3))


def estimator(
    answers: Sequence[int] = (0, 1, 2),
    settings: EstimatorSettings = SETTINGS,
    shapes: Sequence[AnalyticShape] = SHAPES,
) -> Estimator:
    """Its network gives the shapes of these indices to a frame's objects, in their order."""
    return Estimator(truthful_model(shapes, answers), settings)

"""The road: observations, network, pose, corrector, certificate, estimates; meshes on demand."""

from crisp_ros.pipeline.estimates import FrameEstimate, ObjectEstimate
from crisp_ros.pipeline.estimator import Estimator, Trace, model_version
from crisp_ros.pipeline.meshes import decoded_shapes
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.pipeline.solver import Solution
from crisp_ros.pipeline.stage_clock import STAGES

__all__ = [
    "STAGES",
    "Estimator",
    "EstimatorSettings",
    "FrameEstimate",
    "ObjectEstimate",
    "Solution",
    "Trace",
    "decoded_shapes",
    "model_version",
]

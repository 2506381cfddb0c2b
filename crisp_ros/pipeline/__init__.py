"""The road: observations, network, pose, corrector, certificate, estimates; meshes on demand."""

from crisp_ros.pipeline.estimates import FrameEstimate, ObjectEstimate
from crisp_ros.pipeline.estimator import Estimator
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.pipeline.shape_meshes import decoded_shapes
from crisp_ros.pipeline.solution import Solution
from crisp_ros.pipeline.stage_clock import STAGES
from crisp_ros.pipeline.trace import Trace
from crisp_ros.pipeline.versions import learned_version, model_version, original_version

__all__ = [
    "STAGES",
    "Estimator",
    "EstimatorSettings",
    "FrameEstimate",
    "ObjectEstimate",
    "Solution",
    "Trace",
    "decoded_shapes",
    "learned_version",
    "model_version",
    "original_version",
]

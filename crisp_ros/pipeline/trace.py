"""An estimate of a frame together with what led to it."""

from __future__ import annotations

from typing import NamedTuple

from crisp_ros.correction.batch import concatenate
from crisp_ros.correction.certificate import Condition
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.visibility import Images
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.pipeline.estimates import FrameEstimate
from crisp_ros.pipeline.prior_replay import PriorContext
from crisp_ros.pipeline.solution import Solution


class Trace(NamedTuple):
    """An estimate together with what led to it.

    Attributes:
        estimate: of the frame.
        solutions: of batches of objects; their rows together are those of `estimate.objects`.
        images: of the frame, on the estimator's device; None where that is not known.
        expected: objects of the frame before, as they were given.
        prior_context: what was known of the objects under a prior; None for a lone image.
    """

    estimate: FrameEstimate
    solutions: tuple[Solution, ...]
    images: Images | None = None
    expected: tuple[ExpectedObject, ...] = ()
    prior_context: PriorContext | None = None

    @property
    def hypotheses(self) -> Hypotheses:
        """Pose and shape of all objects, with the measurements; there must be a solution."""
        return concatenate([solution.hypotheses for solution in self.solutions])

    @property
    def known(self) -> Condition | None:
        """The condition that a library shape explains each object; None where not tested."""
        parts = [solution.verification.known for solution in self.solutions]
        if not parts or any(part is None for part in parts):
            return None
        return Condition.concatenate(parts)

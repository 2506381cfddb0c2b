"""Results of the solvers that improve the pose or the shape of a batch of objects."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from crisp_ros.correction.correspondences import Shapes


class PoseStep(NamedTuple):
    """Poses of B objects after a pose solver.

    Attributes:
        T_object_camera: (B, 4, 4).
        objective: (B,) square metres, `surface_objective` over all valid points at that pose.
        start_objective: (B,) the same at the pose that the solver was given.
        iterations: (B,) steps taken until the object stopped.
    """

    T_object_camera: Tensor
    objective: Tensor
    start_objective: Tensor
    iterations: Tensor

    def after(self, first: PoseStep) -> PoseStep:
        """The two steps, of which this one is the second, as one."""
        return self._replace(
            start_objective=first.start_objective, iterations=first.iterations + self.iterations
        )


class ShapeStep(NamedTuple):
    """Shapes of B objects after a shape solver.

    Attributes:
        shapes: of the objects; of the library where one of its shapes alone is left.
        coefficients: (B, K) of the library's codes; (B, K + 1) where the network's own code is a
            column too, the last.
        objective: (B,) square metres, `surface_objective` over all valid points with the new codes.
        start_objective: (B,) the same with the codes that the solver was given.
    """

    shapes: Shapes
    coefficients: Tensor
    objective: Tensor
    start_objective: Tensor

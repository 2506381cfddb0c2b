"""Settings of the corrector, and those of the paper's algorithms by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from crisp_ros.correction.active_shape import ActiveShapeSettings
from crisp_ros.correction.pose_gradient import GradientSettings
from crisp_ros.correction.pose_lm import PoseLmSettings
from crisp_ros.correction.residuals import ANY_FALL
from crisp_ros.correction.shape_projected_gradient import ProjectedGradientSettings

_SQUARES_M = 1e3  # scale of the robust loss from which on it is the plain square


@dataclass(frozen=True)
class CorrectorSettings:
    """Settings of `correct`.

    Attributes:
        solver: of the pose: Adam through the pose layer (Algorithm 1) or Levenberg-Marquardt.
        shape: "none" keeps the codes; "projected_gradient" is the h step of Algorithm 1; "lsq" is
            Algorithm 2, with the pose of the promising library shapes refined before they are
            compared.
        fit_poses: with "lsq", library shapes are compared each at its own best pose; otherwise at
            the pose of the object, after each pose step, as in Algorithm 2.
        rounds: alternations of pose and shape, at most. The last step is always one of the pose.
        round_tolerance: an object stops when a round lowers its objective by no more than this
            share.
        restarts: most restarts of the second-order solver from where it ended, for objects that it
            brought nearer to their shape, but not near enough.
        restart_above_m: root mean square distance that is not near enough, metres.
        gradient: settings of the gradient solver of the pose.
        second_order: settings of the second-order solver of the pose.
        projected_gradient: settings of the shape solver of Algorithm 1.
        active_shape: settings of the shape solver of Algorithm 2.
        shape_ratio: with "lsq", library shapes whose codes are at most this many times as far from
            the network's code as the nearest one's may explain the depth; infinity admits all.
        unexplained_above_m: where that shape leaves more than this root mean square distance,
            metres, all library shapes may. A motion that contradicts the coordinates counts as
            distance (see `residuals.correspondence_penalty`).
        shape_significance: the library shape nearest to the network's code is kept unless another
            one's objective is lower by this share of itself plus the squared surface error.
    """

    solver: Literal["gradient", "second_order"] = "second_order"
    shape: Literal["none", "projected_gradient", "lsq"] = "lsq"
    fit_poses: bool = True
    rounds: int = 1
    round_tolerance: float = 1e-3
    restarts: int = 2
    restart_above_m: float = 2.2e-3
    gradient: GradientSettings = field(default_factory=GradientSettings)
    second_order: PoseLmSettings = field(default_factory=PoseLmSettings)
    projected_gradient: ProjectedGradientSettings = field(default_factory=ProjectedGradientSettings)
    active_shape: ActiveShapeSettings = field(default_factory=ActiveShapeSettings)
    shape_ratio: float = 2.0
    unexplained_above_m: float = 4.3e-3
    shape_significance: float = 0.2

    def __post_init__(self) -> None:
        if self.solver not in ("gradient", "second_order"):
            raise ValueError(f"solver is {self.solver!r}: expected 'gradient' or 'second_order'")
        if self.shape not in ("none", "projected_gradient", "lsq"):
            raise ValueError(
                f"shape is {self.shape!r}: expected 'none', 'projected_gradient' or 'lsq'"
            )
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}: expected at least 1")
        if not self.shape_ratio >= 1.0:
            raise ValueError(f"shape_ratio is {self.shape_ratio}: expected at least 1")

    @property
    def updates_shape(self) -> bool:
        """Whether rounds have a shape step: without one the pose is that of the final shape."""
        if self.shape == "lsq":
            return not (self.fit_poses and self.active_shape.one_hot)
        return self.shape != "none"

    @property
    def returns_library_shapes(self) -> bool:
        """Whether the corrected shapes are library shapes, whatever the network's codes are."""
        active = self.active_shape
        return self.shape == "lsq" and active.one_hot and not active.own_code


NODE_CORRECTOR = "second_order"
"""The key of the node's corrector in `CORRECTORS`; the others are those of the paper."""

_PAPERS_POSE = GradientSettings(
    robust_scale_m=_SQUARES_M, patience=50, tolerance=0.0, move=ANY_FALL
)

# Algorithms 1 and 2 with the numbers of the paper's appendix D.2; docs/evaluation.md lists how they
# differ from it. The second-order solver is the node's. None leaves the network's answer.
CORRECTORS: Mapping[str, CorrectorSettings | None] = {
    "none": None,
    "alg1": CorrectorSettings(
        solver="gradient",
        shape="projected_gradient",
        rounds=3,
        gradient=_PAPERS_POSE,
        projected_gradient=ProjectedGradientSettings(robust_scale_m=_SQUARES_M, patience=25),
    ),
    "alg2": CorrectorSettings(
        solver="gradient",
        shape="lsq",
        fit_poses=False,
        rounds=3,
        gradient=_PAPERS_POSE,
        active_shape=ActiveShapeSettings(own_code=True, robust_scale_m=_SQUARES_M),
    ),
    NODE_CORRECTOR: CorrectorSettings(),
}

"""Settings of the tracker, one part an algorithm."""

from __future__ import annotations

from dataclasses import dataclass, field

from crisp_ros.tracking.association import AssociationSettings
from crisp_ros.tracking.pose_filter import PoseFilterSettings
from crisp_ros.tracking.shape_manager import ShapeManagerSettings
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of the `Tracker`.

    Attributes:
        association: of estimates with tracks.
        shapes: of the tracks' shapes.
        pose_filter: None leaves poses as they are estimated.
        birth_detections: a track is tentative until it is certified or was seen so often.
        tentative_s: a tentative track ends when it is not seen for longer, seconds.
        visible_s: a track that is not seen for longer is hidden, seconds.
        death_s: a confirmed track ends when it is not seen for longer, seconds.
        time_jump_s: a stamp that is earlier than the last by more than this is a jump back in time,
            and all tracks end; one that is earlier by less counts as equal to the last.
        reference_s: an uncertified pose becomes the reference of symmetric poses only when the last
            certified one is older than this, seconds.
        symmetry_votes: number of certified frames that decide between poses that look alike to
            depth; 1 follows every frame.
        hull_change_m: the hull of an unknown object is replaced when its outline differs by more,
            metres.
        max_tracks: the longest unseen end when there are more.
    """

    association: AssociationSettings = field(default_factory=AssociationSettings)
    shapes: ShapeManagerSettings = field(default_factory=ShapeManagerSettings)
    pose_filter: PoseFilterSettings | None = None
    birth_detections: int = ranged(3, 1, 1000)
    tentative_s: float = ranged(0.5, 0.0, 60.0)
    visible_s: float = ranged(0.3, 0.0, 60.0)
    death_s: float = ranged(5.0, 0.0, 86400.0)
    time_jump_s: float = ranged(0.1, 0.0, 60.0)
    reference_s: float = ranged(1.0, 0.0, 60.0)
    symmetry_votes: int = ranged(25, 1, 1000)
    hull_change_m: float = ranged(0.01, 0.0, 1.0)
    max_tracks: int = ranged(100, 1, 10000)

    def __post_init__(self) -> None:
        check_ranges(self)

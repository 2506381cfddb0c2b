"""Settings of the search for the shapes that the network names."""

from __future__ import annotations

from dataclasses import dataclass, field

from crisp_ros.correction.global_registration import GlobalRegistrationSettings
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class NamedShapeSettings:
    """Settings of `NamedShapeSearch`.

    Attributes:
        registration: of the named shapes.
        most_shapes: shapes that are tried on an object, those with the nearest codes.
        code_ratio: of these, shapes whose codes are at most this many times as far from the
            network's code as the nearest one's; and those that are similar to the nearest one.
        similar_ratio: similar ones whose codes are farther off than so many times have to explain
            the object well, see `ShapeChoiceSettings.explained_m`.
        name_doubt: where the network's name is more doubtful, see `name_doubts`, every shape has to
            explain the object well.
        most_doubt: where it is more doubtful than this, no shape is found by its name.
        most_objects: objects of a batch that are searched for.
        agreed_share: nothing is tried on an object without a certificate of whose points this share
            agrees with the coordinates, if these agree on the size too.
        searched_detections: an object is searched for in so many frames, and then followed, as one
            whose shape was certified.
        searched_every: and again each time that it was seen in so many frames more.
    """

    registration: GlobalRegistrationSettings = field(default_factory=GlobalRegistrationSettings)
    most_shapes: int = ranged(3, low=1)
    code_ratio: float = ranged(2.0, low=1.0)
    similar_ratio: float = ranged(4.0, low=1.0)
    name_doubt: float = ranged(0.15, low=0.0)
    most_doubt: float = ranged(0.5, low=0.0)
    most_objects: int = ranged(8, low=1)
    agreed_share: float = ranged(0.7, low=0.0, high=1.0)
    searched_detections: int = ranged(3, low=0)
    searched_every: int = ranged(30, low=1)

    def __post_init__(self) -> None:
        check_ranges(self)

"""What the node remembers of objects: versions of shapes, ends, ids."""

from __future__ import annotations

import numpy as np
import pytest
from node.fakes import estimate

from crisp_ros.node.identities import LabelIdentities, frame_name
from crisp_ros.node.objects import KnownObjects, code_distance


def seen(code: float, label: int = 1):
    return estimate(label, np.eye(4), code=np.array([1.0, code], np.float32))


def test_version_grows_only_when_the_code_moved_far_from_the_published_one() -> None:
    known = KnownObjects()
    versions = []
    for step, code in enumerate((0.0, 0.06, 0.09, 0.12, 0.13)):
        (found,) = known.updated(step, ["a"], [seen(code)], shape_change=0.1)
        versions.append(found.version)
    # 0.12 is far from 0.0, though near to 0.09; 0.13 is near to 0.12.
    assert versions == [1, 1, 1, 2, 2]
    assert found.shape.code[1] == np.float32(0.12)
    assert found.estimate.code[1] == np.float32(0.13)


def test_a_new_version_forgets_what_was_made_and_sent_of_the_old() -> None:
    known = KnownObjects()
    (found,) = known.updated(0, ["a"], [seen(0)], 0.1)
    found.mesh, found.has_frame = object(), True
    found.sent.add("mesh")
    known.updated(1, ["a"], [seen(0.05)], 0.1)
    assert found.sent == {"mesh"} and found.mesh is not None
    known.updated(2, ["a"], [seen(1)], 0.1)
    assert found.sent == set() and found.mesh is None and found.has_frame


def test_objects_end_after_the_timeout_and_come_back_with_a_higher_version() -> None:
    known = KnownObjects()
    known.updated(0.0, ["a", "b"], [seen(0), seen(0, 2)], 0.1)
    known.updated(1.0, ["b"], [seen(0, 2)], 0.1)
    assert known.ended(2.0, timeout_s=2.0) == []
    assert [o.id for o in known.ended(2.1, timeout_s=2.0)] == ["a"]
    (again,) = known.updated(3.0, ["a"], [seen(0)], 0.1)
    assert again.version == 2
    assert {o.id for o in known.clear()} == {"a", "b"} and len(known) == 0
    (again,) = known.updated(0.0, ["a"], [seen(0)], 0.1)
    assert again.version == 3


def test_code_distance() -> None:
    reference = np.array([3.0, 4.0], np.float32)
    assert code_distance(np.array([3.0, 4.5], np.float32), reference) == pytest.approx(0.1)
    assert code_distance(np.zeros(3, np.float32), reference) == np.inf
    assert code_distance(np.zeros(2, np.float32), np.zeros(2, np.float32)) == 0


def test_ids_hold_class_and_label_and_fit_tf() -> None:
    estimates = [estimate(3, np.eye(4)), estimate(7, np.eye(4)), estimate(9, np.eye(4))]
    names = {3: "mug", 9: "/cracker box (red)"}
    ids = LabelIdentities().assign(0.0, estimates, names)
    assert ids == ["mug_3", "object_7", "cracker_box_red_9"]
    assert frame_name("été") == "t"
    assert frame_name("//") == "object"

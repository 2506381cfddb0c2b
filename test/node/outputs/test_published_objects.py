"""Published objects keep what was sent of them until their tracks end."""

from __future__ import annotations

import numpy as np
from node.fakes import estimate, tracked

from crisp_ros.node.outputs.published_objects import PublishedObjects

SEEN = estimate(1, np.eye(4))


def test_sent_versions_stay_with_the_object() -> None:
    objects = PublishedObjects()
    objects.update([tracked("a", SEEN, version=1)])
    found = objects["a"]
    found.frame_id, found.sent_mesh = "a", (1, 2000)
    objects.update([tracked("b", SEEN), tracked("a", estimate(2, np.eye(4)), version=2)])
    assert objects["a"] is found and found.estimate.label == 2 and found.version == 2
    assert found.frame_id == "a" and found.sent_mesh == (1, 2000)


def test_a_held_object_stays_until_its_track_ends() -> None:
    objects = PublishedObjects()
    objects.update([tracked("a", SEEN), tracked("b", SEEN)])
    a, b = objects
    assert a.is_seen and b.is_seen
    objects.update([tracked("b", SEEN), tracked("a", SEEN, seen=False)])
    assert list(objects) == [b, a] and not a.is_seen
    objects.update([tracked("b", SEEN)])
    assert list(objects) == [b]
    objects.clear()
    assert len(objects) == 0

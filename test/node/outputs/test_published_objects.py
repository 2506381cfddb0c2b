"""What the node remembers of objects: what was made and sent of their shapes, and their ends."""

from __future__ import annotations

import numpy as np
from node.fakes import estimate, tracked

from crisp_ros.node.outputs.published_objects import KnownObjects

SEEN = estimate(1, np.eye(4))


def test_what_was_made_and_sent_stays_with_the_object() -> None:
    known = KnownObjects()
    known.update([tracked("a", SEEN, version=1)])
    found = known["a"]
    found.frame_id, found.mesh_sent = "a", (1, 2000)
    known.update([tracked("b", SEEN), tracked("a", estimate(2, np.eye(4)), version=2)])
    assert known["a"] is found and found.estimate.label == 2 and found.version == 2
    assert found.frame_id == "a" and found.mesh_sent == (1, 2000)


def test_a_held_object_stays_known_until_its_track_ends() -> None:
    known = KnownObjects()
    known.update([tracked("a", SEEN), tracked("b", SEEN)])
    a, b = known
    assert a.seen and b.seen
    known.update([tracked("b", SEEN), tracked("a", SEEN, seen=False)])
    assert list(known) == [b, a] and not a.seen
    known.update([tracked("b", SEEN)])
    assert list(known) == [b]
    known.clear()
    assert len(known) == 0

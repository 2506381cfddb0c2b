"""What the node remembers of objects: what was made and sent of their shapes, and their ends."""

from __future__ import annotations

import numpy as np
from node.fakes import estimate, tracked

from crisp_ros.node.objects import KnownObjects

SEEN = estimate(1, np.eye(4))


def test_a_new_version_forgets_what_was_made_and_sent_of_the_old() -> None:
    known = KnownObjects()
    known.update([tracked("a", SEEN, version=1)])
    found = known["a"]
    found.mesh, found.has_frame = object(), True
    found.sent.add("mesh")
    known.update([tracked("a", estimate(2, np.eye(4)), version=1)])
    assert known["a"] is found and found.sent == {"mesh"} and found.mesh is not None
    assert found.estimate.label == 2
    known.update([tracked("a", SEEN, version=2)])
    assert found.sent == set() and found.mesh is None and found.has_frame
    assert found.version == 2


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

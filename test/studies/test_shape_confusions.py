"""Names of estimated objects: found in a frame, and counted."""

from __future__ import annotations

from types import SimpleNamespace as Part

import numpy as np
import pytest
import torch
import trimesh
from known import load_known
from tiny_bop import tiny_frames

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.studies.shape_confusions import (
    Naming,
    confusion_rows,
    namings,
    shape_distances,
)


class _Knowing:
    """Names every object a mug by its network code, and the next shape after correction."""

    def __init__(self) -> None:
        known = load_known()
        self.prepared_library = PreparedLibrary(DecoderField(known.decoder), known.library)
        self.library = known.library

    def trace(self, frame):
        labels = torch.tensor(sorted(set(np.unique(frame.labels).tolist()) - {0}))
        mug = self.library.names.index("mug")
        rows = torch.full((len(labels),), mug)
        solution = Part(
            observations=Part(labels=labels),
            codes=self.library.codes[rows] + 1e-4,
            correction=Part(shapes=Part(index=torch.where(labels == 2, -1, labels))),
            verification=Part(certificate=Part(certified=labels == 1)),
        )
        return Part(solutions=[solution])


def test_names_are_those_of_the_nearest_codes() -> None:
    estimator = _Knowing()
    names = {1: "box", 2: "can", 5: "ball"}
    found = namings(estimator, tiny_frames()[:1], names)
    assert [naming.true for naming in found] == ["box", "can", "ball"]
    assert {naming.network for naming in found} == {"mug"}
    box, ball = estimator.library.names[1], estimator.library.names[3]
    assert [naming.corrected for naming in found] == [box, "no library shape", ball]
    assert [naming.certified for naming in found] == [True, False, False]


def test_rows_by_hand() -> None:
    found = [
        Naming("b", "b", "b", True, 1.0),
        Naming("a", "b", "a", True, 0.8),
        Naming("a", "b", "b", True, 0.3),
        Naming("a", "a", "b", False, 0.5),
        Naming("a", "c", "a", False, 0.6),
    ]
    first, second = confusion_rows(found)
    assert first == {
        "true": "a",
        "objects": 4,
        "network": {"b": 2, "a": 1, "c": 1},
        "corrected": {"a": 2, "b": 2},
        "wrong_certified": 1,
        "visible_right": pytest.approx(0.7),
        "visible_wrong": pytest.approx(0.4),
    }
    assert second["visible_wrong"] is None and second["wrong_certified"] == 0


def test_distances_are_those_of_each_pair() -> None:
    ball, larger = (trimesh.creation.icosphere(4, radius) for radius in (0.05, 0.053))
    found = shape_distances({"a": ball, "b": larger, "c": ball})
    assert list(found) == ["a, b", "a, c", "b, c"]
    assert found["a, b"] == found["b, c"] == pytest.approx(3.0, abs=0.1)
    assert found["a, c"] == 0.0, "equal surfaces are sampled equally"

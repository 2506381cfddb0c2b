"""Remark 3 in self-training: the shape of all views of an object labels each new one."""

from collections import deque

import pytest
import torch
from known import load_known

from crisp_ros.adaptation.samples import Sample
from crisp_ros.adaptation.view_pool import MOST_VIEWS, ViewPool
from crisp_ros.correction.active_shape import ActiveShapeSettings
from crisp_ros.correction.corrector import CorrectorSettings


@pytest.fixture(scope="module")
def known():
    return load_known().only("mug", "cylinder", "sphere")


def view(known, name, direction, code, key="scene 1/1", certified=True):
    """A sample whose points are the surface of a shape as seen from one side."""
    (shape,) = known.named(name)
    points = shape.surface(300, torch.Generator().manual_seed(0), direction).float()
    nothing = torch.zeros(3, 4, 4, dtype=torch.uint8)
    return Sample(key, certified, nothing, torch.zeros(300, 2), points, torch.eye(4), code)


def pool(known, one_hot=True):
    corrector = CorrectorSettings(active_shape=ActiveShapeSettings(one_hot=one_hot))
    return ViewPool(known.field, known.prepared, corrector)


HIDDEN, SHOWN = (-1.0, 0.0, 0.1), (0.0, 1.0, 0.2)  # the mug's handle is at +x


def test_a_view_of_the_handle_labels_the_views_without_it(known):
    """From behind, a mug may be a cylinder; in the views of the whole sequence it is a mug."""
    tested, wrong = pool(known), known.codes("cylinder")[0]
    (first,) = tested.with_pooled_codes([view(known, "mug", HIDDEN, wrong)])
    assert torch.equal(first.code, wrong), "one view has its own shape"
    tested.with_pooled_codes([view(known, "mug", SHOWN, wrong)])
    (third,) = tested.with_pooled_codes([view(known, "mug", HIDDEN, wrong)])
    assert torch.equal(third.code, known.codes("mug")[0])


def test_objects_are_pooled_by_key_and_only_if_certified(known):
    tested, wrong = pool(known), known.codes("cylinder")[0]
    tested.with_pooled_codes([view(known, "mug", SHOWN, wrong)])
    others = [
        view(known, "mug", HIDDEN, wrong, key="scene 1/2"),
        view(known, "mug", HIDDEN, wrong, certified=False),
    ]
    assert all(torch.equal(s.code, wrong) for s in tested.with_pooled_codes(others))
    assert len(tested) == 2


def test_the_buffer_holds_fifty_views(known):
    tested, code = pool(known), known.codes("sphere")[0]
    one = view(known, "sphere", SHOWN, code)
    tested._views["scene 1/1"] = deque([one.z[:10]] * MOST_VIEWS, maxlen=MOST_VIEWS)
    tested.with_pooled_codes([one])
    assert MOST_VIEWS == 50 == len(tested)

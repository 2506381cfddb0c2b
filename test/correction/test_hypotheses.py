"""Hypotheses: what belongs to one object stays together."""

import torch
from observed import Noise, observe

from crisp_ros.correction.hypotheses import Hypotheses


def test_rows_of_every_kind_belong_together(known) -> None:
    names = ("box", "mug", "bar")
    seen = observe(known.named(*names), Noise(0.001, 0, 0.002), seed=0, count=20)
    whole = seen.hypotheses(known.shapes_of(*names))
    for which in (torch.tensor([2, 0]), torch.tensor([True, False, True]), slice(1, 3)):
        some = whole.rows(which)
        assert torch.equal(some.labels, whole.labels[which])
        for name in ("T_object_camera", "T_registered", "inlier_share"):
            assert torch.equal(getattr(some, name), getattr(whole, name)[which])
        for name in ("correspondences", "shapes"):
            for part, all_parts in zip(getattr(some, name), getattr(whole, name), strict=True):
                assert torch.equal(part, all_parts[which])


def test_points_in_the_object_frame_are_at_rest(known) -> None:
    """Their pose is the identity, and they agree with it."""
    points, shapes = torch.randn(2, 5, 3), known.shapes_of("box", "mug")
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    found = Hypotheses.of_points(points, valid, shapes)
    assert torch.equal(found.T_object_camera, torch.eye(4).expand(2, 4, 4))
    assert torch.equal(found.T_registered, found.T_object_camera)
    assert torch.equal(found.correspondences.pnc, points)
    assert torch.equal(found.correspondences.weights, valid.float())
    assert (found.inlier_share == 1).all() and found.shapes is shapes

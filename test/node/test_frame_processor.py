"""Counts of a frame that fails in one of its steps."""

from unittest.mock import MagicMock

import pytest
from builtin_interfaces.msg import Time
from node.fakes import FakeEstimator

from crisp_ros.node.frame_processor import FrameProcessor, NumberedFrame
from crisp_ros.node.inputs.subscriptions import InputSubscriptions
from crisp_ros.node.monitor import DropReason, Monitor


@pytest.mark.parametrize("step", ["_publish_poses", "_publish_surfaces", "_answer_requests"])
def test_a_frame_that_fails_is_counted_once(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """As dropped, and not as estimated too: no frame would seem to be in progress forever."""
    monitor = Monitor({})
    inputs = MagicMock(spec=InputSubscriptions)
    inputs.drop_frame.side_effect = lambda stamp, reason: monitor.record_drop(reason)
    processor = FrameProcessor(
        MagicMock(), monitor, inputs, MagicMock(), MagicMock(), lambda: MagicMock(checkpoint="m")
    )
    processor.tracker = MagicMock()
    processor.configure(FakeEstimator(), MagicMock())
    for other in ("_require_current", "_convert", "_estimate", "_track", "_update_objects"):
        monkeypatch.setattr(processor, other, MagicMock())
    for other in ("_publish_poses", "_publish_surfaces", "_answer_requests"):
        error = RuntimeError("disk full") if other == step else None
        monkeypatch.setattr(processor, other, MagicMock(side_effect=error))
    monitor.record_set()
    received = MagicMock()
    received.messages.rgb.header.stamp = Time(sec=1)
    with pytest.raises(RuntimeError, match="disk full"):
        processor.process(NumberedFrame(1, received))
    assert monitor.work.frames == 0
    assert monitor.work.dropped == {DropReason.FAILED: 1}
    assert monitor.work.in_progress == 0


def test_transforms_leave_before_messages_and_surfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most users wait for them: nothing else is made, published or learnt from before."""
    order, publishers, learner = MagicMock(), MagicMock(), MagicMock()
    order.attach_mock(publishers, "publishers")
    order.attach_mock(learner, "learner")
    processor = FrameProcessor(
        MagicMock(), MagicMock(), MagicMock(), MagicMock(), learner, lambda: MagicMock()
    )
    processor.tracker = tracker = MagicMock()
    order.attach_mock(tracker.finish, "finish")
    processor.configure(FakeEstimator(), publishers)
    for other in ("_require_current", "_convert", "_estimate", "_track", "_update_objects"):
        monkeypatch.setattr(processor, other, MagicMock())
    monkeypatch.setattr(processor, "_answer_requests", MagicMock())
    monkeypatch.setattr("crisp_ros.node.frame_processor.Time", MagicMock())
    processor.process(NumberedFrame(1, MagicMock()))
    called = [name for name, _, _ in order.mock_calls if "__" not in name]
    assert called[0] == "publishers.broadcast_transforms"
    later = {
        "publishers.publish_estimates",
        "publishers.publish_scene",
        "publishers.publish_shapes",
        "publishers.publish_overlay",
        "publishers.publish_points",
        "learner.offer",
        "finish",
    }
    assert later <= set(called[1:])
    assert called.index("publishers.publish_estimates") < called.index("finish")


def test_the_estimator_gets_the_objects_seen_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that only new ones are searched for among added shapes."""
    processor = FrameProcessor(
        MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock(), lambda: MagicMock()
    )
    processor.tracker = MagicMock(expected=("an object",))
    estimator = MagicMock()
    processor.configure(estimator, MagicMock())
    monkeypatch.setattr("crisp_ros.node.frame_processor.estimator_settings", MagicMock())
    processor._estimate(MagicMock(stage_ms={}), "a frame")
    (frame, _, _, expected), _ = estimator.trace.call_args
    assert (frame, expected) == ("a frame", ("an object",))


@pytest.mark.parametrize("ending", ["stop", "stop_searches"])
def test_its_end_stops_the_searches(ending: str) -> None:
    """At deactivation and shutdown, also without a model."""
    processor = FrameProcessor(
        MagicMock(), MagicMock(), MagicMock(), MagicMock(), MagicMock(), lambda: MagicMock()
    )
    processor.tracker = MagicMock()
    getattr(processor, ending)()
    assert processor.search_status is None
    estimator = MagicMock()
    processor.configure(estimator, MagicMock())
    assert processor.search_status is estimator.search_status
    getattr(processor, ending)()
    estimator.stop_searches.assert_called_once_with()

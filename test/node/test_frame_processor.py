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

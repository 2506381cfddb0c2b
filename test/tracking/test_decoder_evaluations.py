"""Frames with known shapes, estimated and tracked, without one evaluation of the decoder."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from crisp_ros.data.recording import Recording
from crisp_ros.network.checkpoint import load_model
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.tracking.tracker import Tracker

ROOT = Path(__file__).parents[2]
METHODS = ("forward", "sdf", "sdf_and_gradient", "sdf_and_code_gradient")


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the decoder's methods, as they are called."""
    called: list[str] = []

    def counted(name: str) -> None:
        original = getattr(ShapeDecoder, name)

        def method(self, points, *rest):
            called.append(name)
            return original(self, points, *rest)

        monkeypatch.setattr(ShapeDecoder, name, method)

    for name in METHODS:
        counted(name)
    return called


@pytest.mark.parametrize("tables", [True, False])
def test_tracked_frames_evaluate_no_decoder(evaluations: list[str], tables: bool) -> None:
    """Solvers, certificate, refits to the tracks' shapes and shapes from views use the tables."""
    settings = EstimatorSettings(shape_tables=tables)
    estimator = Estimator(load_model(ROOT / "models" / "crisp_ycbv_compact.safetensors"), settings)
    if tables:
        estimator.warm_up()
    tracker = Tracker(
        estimator.field, estimator.prepared_library, verification=settings.verification
    )
    recorded = islice(Recording(ROOT / "recordings" / "table").frames(), 0, None, 4)
    evaluations.clear()
    refitted = 0
    for frame in islice(recorded, 4 if tables else 1):
        trace = estimator.trace(Frame.from_recorded(frame))
        tracked = tracker.update(1e-9 * frame.stamp_ns, trace, frame.T_world_camera)
        tracker.finish()
        own = {e.label: e.T_camera_object for e in trace.estimate.objects}
        refitted += sum(
            (o.estimate.T_camera_object != own[o.estimate.label]).any() for o in tracked.objects
        )
    assert refitted > 0 or not tables
    assert (evaluations == []) == tables

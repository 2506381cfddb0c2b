"""Frames estimated with tables of shapes against the same frames with the decoder."""

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.tabulated_field import TabulatedField
from crisp_ros.data.recording import Recording
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings

ROOT = Path(__file__).parents[2]
DECODED = EstimatorSettings(shape_tables=False)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(ROOT / "models" / "crisp_ycbv_compact.safetensors")


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Two frames of the bundled recording.

    In others a solver's branch may depend on the last digits: see docs/results/table_poses.json.
    """
    recorded = islice(Recording(ROOT / "recordings" / "table").frames(), 0, None, 10)
    return [Frame.from_recorded(frame) for frame in islice(recorded, 2)]


def apart(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Angle between the rotations of poses (4, 4), degrees."""
    cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1.0) / 2.0
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def test_the_same_objects_at_the_same_poses(model: Model, frames: list[Frame]) -> None:
    # Without colours: the search over the print may take another step for a tiny difference.
    plain = dataclasses.replace(model.library, colors=())
    model = dataclasses.replace(model, library=plain)
    with_tables, with_decoder = Estimator(model), Estimator(model, DECODED)
    assert isinstance(with_tables.field, TabulatedField)
    count = 0
    for frame in frames:
        pairs = zip(
            with_tables.estimate(frame).objects, with_decoder.estimate(frame).objects, strict=True
        )
        for found, expected in pairs:
            count += 1
            assert (found.code == expected.code).all()
            assert (found.certified, found.unknown) == (expected.certified, expected.unknown)
            assert found.residual_m == pytest.approx(expected.residual_m, abs=1e-4)
            middle = np.append((found.lower + found.upper) / 2, 1.0)
            poses = found.T_camera_object, expected.T_camera_object
            assert np.linalg.norm((poses[0] - poses[1]) @ middle) < 1e-4
            assert apart(*poses) < 0.1
    assert count > 8


def test_without_tables_or_library_the_decoder_answers(model: Model) -> None:
    assert isinstance(Estimator(model, DECODED).field, DecoderField)
    alone = dataclasses.replace(model, library=None)
    assert isinstance(Estimator(alone).field, DecoderField)


def test_warming_up_makes_the_tables_and_says_how_far_it_is(model: Model) -> None:
    library = model.library
    few = ShapeLibrary(library.names[:2], library.codes[:2], library.lower[:2], library.upper[:2])
    calls = []
    estimator = Estimator(dataclasses.replace(model, library=few))
    estimator.warm_up(lambda *call: calls.append(call))
    assert calls[:2] == [("tables of shapes", 1, 2), ("tables of shapes", 2, 2)]
    assert calls[-1] == ("symmetries of shapes", 2, 2)
    assert estimator.field.for_library() is not estimator.field

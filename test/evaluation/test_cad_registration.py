"""Registration of CAD models against true poses of drawn frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_bop import write_tiny_bop

from crisp_ros.data.bop import BopDataset
from crisp_ros.evaluation.bop_evaluation import BopEvaluationSettings, evaluate_bop
from crisp_ros.evaluation.cad_registration import CadRegistration, CadRegistrationSettings

ONE_START = CadRegistrationSettings(starts=1)
FEW_SAMPLES = BopEvaluationSettings(model_points=500, chamfer_samples=2_000)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BopDataset:
    return BopDataset(write_tiny_bop(tmp_path_factory.mktemp("tiny")))


def test_models_are_placed_on_their_depth(tiny: BopDataset) -> None:
    evaluation = evaluate_bop(CadRegistration(tiny.models, ONE_START), tiny, FEW_SAMPLES)
    assert np.median([i.add_s_m for i in evaluation.instances]) < 0.005
    assert np.mean([i.result.score for i in evaluation.instances]) > 0.9
    assert evaluation.certified_share > 0.8
    assert all(i.orientation_certified is False for i in evaluation.instances)


def test_same_seed_gives_the_same_poses(tiny: BopDataset) -> None:
    frame = next(iter(tiny.frames()))
    first, second = (CadRegistration(tiny.models, ONE_START).estimates(frame) for _ in range(2))
    for label, found in first.found.items():
        np.testing.assert_array_equal(found.T_camera_object, second.found[label].T_camera_object)


def test_objects_without_depth_have_a_reason(tiny: BopDataset) -> None:
    frame = next(iter(tiny.frames()))
    blind = replace(frame, depth=np.zeros_like(frame.depth))
    estimates = CadRegistration(tiny.models).estimates(blind)
    assert not estimates.found
    assert set(estimates.rejected.values()) == {"too few depth points for a registration"}


def test_wrong_model_has_no_certificate(tiny: BopDataset) -> None:
    """The certificate is that of our estimates: 98 % of the points within 1 cm."""
    frame = next(iter(tiny.frames()))
    can_for_all = dict.fromkeys(tiny.models, tiny.models[2])
    found = CadRegistration(can_for_all, ONE_START).estimates(frame).found
    labels = {i.obj_id: i.label for i in frame.instances}
    assert found[labels[2]].certified and found[labels[2]].score > 0.95
    assert not found[labels[1]].certified and found[labels[1]].score < 0.9


def test_ranges_are_checked() -> None:
    with pytest.raises(ValueError, match="voxel_share"):
        CadRegistrationSettings(voxel_share=0.0)

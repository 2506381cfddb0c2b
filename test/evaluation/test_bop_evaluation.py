"""Evaluation on a BOP folder with estimators whose errors are known beforehand."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation
from tiny_bop import INTRINSICS, pose, primitives, tiny_frames, write_tiny_bop

from crisp_ros.data.bop import BopDataset, DatasetError
from crisp_ros.data.bop_writer import write_frames, write_models
from crisp_ros.evaluation.bop_evaluation import BopEvaluationSettings, evaluate_bop
from crisp_ros.evaluation.dataset_loop import DatasetLoop

YCBV = Path(__file__).resolve().parents[3] / "shared/data/bop/ycbv"
needs_ycbv = pytest.mark.skipif(not YCBV.is_dir(), reason="YCB-Video is not on this machine")
FEW_SAMPLES = BopEvaluationSettings(model_points=500, chamfer_samples=2_000)


class Oracle:
    """Answers with the ground truth, disturbed by `change`; None leaves the object out.

    Recognises a frame by its labels.
    """

    def __init__(self, dataset: BopDataset, change: Callable = lambda estimate: estimate) -> None:
        self.frames = list(dataset.frames())
        self.true_meshes = {i: model.mesh for i, model in dataset.models.items()}
        self.change = change

    def estimate(self, frame: SimpleNamespace) -> SimpleNamespace:
        (known,) = [f for f in self.frames if np.array_equal(f.labels, frame.labels)]
        estimates = [
            self.change(
                SimpleNamespace(
                    label=instance.label,
                    T_camera_object=instance.T_camera_object.copy(),
                    certified=True,
                    orientation_certified=True,
                    orientation_reason="",
                    shape_source="library",
                    depth_scale=math.nan,
                    score=0.9,
                    mesh=self.true_meshes[instance.obj_id],
                )
            )
            for instance in known.instances
        ]
        # Out of order on purpose: only the label says whose estimate it is.
        objects = tuple(e for e in estimates[::-1] if e is not None)
        return SimpleNamespace(objects=objects, rejected=())

    def meshes(self, estimates: tuple[SimpleNamespace, ...]) -> list[trimesh.Trimesh]:
        return [estimate.mesh for estimate in estimates]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> BopDataset:
    return BopDataset(write_tiny_bop(tmp_path_factory.mktemp("tiny")))


def test_the_ground_truth_has_no_error(tiny: BopDataset) -> None:
    evaluation = evaluate_bop(Oracle(tiny), tiny, FEW_SAMPLES)
    assert len(evaluation.instances) == 7
    for errors in evaluation.instances:
        assert errors.add_m == errors.translation_error_m == errors.rotation_error_rad == 0
        assert errors.add_s_m == pytest.approx(0, abs=1e-12)
        assert errors.chamfer_m < 0.002  # two drawings of 2,000 points of one surface
    assert evaluation.auc_add_s == pytest.approx({"1cm": 1, "2cm": 1, "3cm": 1})
    assert evaluation.certified_share == 1


def test_a_shift_of_a_centimetre_is_measured_as_one(tiny: BopDataset) -> None:
    def shift(estimate: SimpleNamespace) -> SimpleNamespace:
        estimate.T_camera_object[0, 3] += 0.01
        return estimate

    evaluation = evaluate_bop(Oracle(tiny, shift), tiny, FEW_SAMPLES)
    for errors in evaluation.instances:
        assert errors.add_m == pytest.approx(0.01) == errors.translation_error_m
        assert 0.001 < errors.add_s_m < 0.01
    expected = np.mean([1 - errors.add_s_m / 0.02 for errors in evaluation.instances])
    assert evaluation.auc_add_s["2cm"] == pytest.approx(expected)


def test_stated_symmetries_excuse_rotations_and_only_those(tiny: BopDataset) -> None:
    def rotation(estimate: SimpleNamespace) -> SimpleNamespace:
        rotated = Rotation.from_euler("z", 47, degrees=True).as_matrix()
        estimate.T_camera_object[:3, :3] @= rotated
        return estimate

    dense = replace(FEW_SAMPLES, model_points=5_000)
    evaluation = evaluate_bop(Oracle(tiny, rotation), tiny, dense)
    degrees = {e.obj_id: math.degrees(e.rotation_error_rad) for e in evaluation.instances}
    assert degrees == pytest.approx({1: 47, 2: 0, 5: 47}, abs=1e-4)  # the can is symmetric
    assert {e.obj_id for e in evaluation.instances if e.add_s_m < 0.002} == {2, 5}


def test_a_larger_reconstruction_is_only_a_shape_error(tiny: BopDataset) -> None:
    def inflate(estimate: SimpleNamespace) -> SimpleNamespace:
        estimate.mesh = estimate.mesh.copy().apply_scale(1.25)
        return estimate

    evaluation = evaluate_bop(Oracle(tiny, inflate), tiny, FEW_SAMPLES)
    ball = next(e for e in evaluation.instances if e.obj_id == 5)
    assert ball.chamfer_m == pytest.approx(0.01, abs=5e-4) and ball.add_m == 0
    assert evaluation.auc_e_shape["10cm"] > evaluation.auc_e_shape["3cm"]


def test_missed_and_meshless_instances_count_as_infinite(tiny: BopDataset) -> None:
    def flawed(estimate: SimpleNamespace) -> SimpleNamespace | None:
        if estimate.label == 1:
            estimate.mesh = trimesh.Trimesh()
        return None if estimate.label == 2 else estimate

    evaluation = evaluate_bop(Oracle(tiny, flawed), tiny, FEW_SAMPLES)
    report = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    missed = [i for i in report["instances"] if i["add_s_m"] is None]
    assert len(missed) == 3 and not any(i["certified"] for i in missed)
    assert all(i["add_m"] is i["rotation_error_deg"] is i["chamfer_m"] is None for i in missed)
    assert report["auc_add_s"]["2cm"] == pytest.approx(4 / 7)
    assert report["auc_e_shape"]["10cm"] < 1 / 7
    assert report["certified_share"] == pytest.approx(4 / 7)


def test_the_baseline_is_the_depth_centroid(tiny: BopDataset) -> None:
    def naive(estimate: SimpleNamespace) -> SimpleNamespace | None:
        frame = next(frames)
        points = [
            frame.depth[v, u] * (np.linalg.inv(INTRINSICS) @ [u, v, 1])
            for v, u in np.argwhere(frame.labels == 1)
        ]
        estimate.T_camera_object = np.eye(4)
        estimate.T_camera_object[:3, 3] = np.mean(points, axis=0)
        return estimate

    frame = next(tiny.frames())
    oracle = Oracle(tiny, lambda e: naive(e) if e.label == 1 else None)
    frames = tiny.frames()
    evaluation = evaluate_bop(oracle, tiny, FEW_SAMPLES)
    first = evaluation.instances[0]
    assert (first.image, first.obj_id) == (frame.image_id, frame.instances[0].obj_id)
    assert first.add_s_m == pytest.approx(first.baseline_add_s_m, abs=1e-7)
    assert 0.01 < first.baseline_add_s_m < 0.03
    assert evaluation.baseline_auc_add_s["3cm"] > evaluation.baseline_auc_add_s["1cm"]


def test_an_instance_without_depth_has_no_baseline(tmp_path: Path) -> None:
    frame = tiny_frames()[0]
    blind = replace(frame, depth=np.where(frame.labels == 3, 0, frame.depth).astype(np.float32))
    write_models(tmp_path, primitives())
    write_frames(tmp_path, [blind])
    dataset = BopDataset(tmp_path)
    evaluation = evaluate_bop(Oracle(dataset), dataset, FEW_SAMPLES)
    assert evaluation.instances[2].baseline_add_s_m == math.inf


def test_barely_visible_instances_are_left_out(tmp_path: Path) -> None:
    frame = tiny_frames()[0]
    hidden = replace(frame.instances[1], visible_share=0.05)
    write_models(tmp_path, primitives())
    write_frames(tmp_path, [replace(frame, instances=(frame.instances[0], hidden))])
    dataset = BopDataset(tmp_path)
    evaluation = evaluate_bop(Oracle(dataset), dataset, FEW_SAMPLES)
    assert [errors.obj_id for errors in evaluation.instances] == [1]
    everything = replace(FEW_SAMPLES, min_visible_share=0.0)
    assert len(evaluate_bop(Oracle(dataset), dataset, everything).instances) == 2


def test_the_report_has_the_fixed_names(tiny: BopDataset) -> None:
    calls: list[tuple[int, int]] = []
    report = evaluate_bop(
        Oracle(tiny), tiny, FEW_SAMPLES, DatasetLoop(lambda *call: calls.append(call))
    ).to_json()
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert list(report) == [
        "instances", "auc_add_s", "auc_e_shape", "baseline_auc_add_s", "certified_share",
        "poses", "poses_by_object", "config",
    ]  # fmt: skip
    assert set(report["instances"][0]) == {
        "scene", "image", "obj_id", "add_s_m", "add_m", "rotation_error_deg",
        "translation_error_m", "chamfer_m", "certified", "orientation_certified",
        "orientation_reason", "shape_source",
    }  # fmt: skip
    assert set(report["auc_add_s"]) == set(report["baseline_auc_add_s"]) == {"1cm", "2cm", "3cm"}
    assert set(report["auc_e_shape"]) == {"3cm", "5cm", "10cm"}
    first = report["instances"][0]
    assert (first["scene"], first["image"], first["obj_id"]) == (1, 3, 1)


def test_a_wrong_scale_of_depth_is_reported(tiny: BopDataset) -> None:
    """One tenth too far, by the widths of the objects; true depth is not mentioned."""

    def scaled(factor: float) -> Callable:
        def change(estimate: SimpleNamespace) -> SimpleNamespace:
            estimate.depth_scale = factor + 0.01 * (estimate.label % 2)
            return estimate

        return change

    far = evaluate_bop(Oracle(tiny, scaled(1.1)), tiny, FEW_SAMPLES)
    assert far.depth_scale == pytest.approx(1.1, abs=0.02) == far.to_json()["depth_scale"]
    true = evaluate_bop(Oracle(tiny, scaled(1.0)), tiny, FEW_SAMPLES)
    assert true.depth_scale is None and "depth_scale" not in true.to_json()


def test_the_same_seed_gives_the_same_report(tiny: BopDataset) -> None:
    first, again = (evaluate_bop(Oracle(tiny), tiny, FEW_SAMPLES).to_json() for _ in range(2))
    assert first == again


def test_an_unknown_model_and_an_empty_data_set_are_refused(tmp_path: Path) -> None:
    write_models(tmp_path, {9: primitives()[1]})
    frame = tiny_frames()[0]
    write_frames(tmp_path, [replace(frame, instances=())])
    dataset = BopDataset(tmp_path)
    with pytest.raises(DatasetError, match="no annotated instance"):
        evaluate_bop(Oracle(dataset), dataset)
    write_frames(tmp_path, [frame])
    dataset = BopDataset(tmp_path)
    oracle = Oracle(dataset, lambda estimate: None)
    oracle.true_meshes = dict.fromkeys((1, 2, 5), primitives()[1])
    with pytest.raises(DatasetError, match="no model 1"):
        evaluate_bop(oracle, dataset)


def test_pose_helper_and_dataset_agree(tiny: BopDataset) -> None:
    np.testing.assert_allclose(
        next(tiny.frames()).instances[0].T_camera_object,
        pose((20, 30, 10), (-0.10, 0.0, 0.6)),
        atol=1e-12,
    )


@needs_ycbv
def test_real_images_with_the_ground_truth() -> None:
    dataset = BopDataset(YCBV)
    evaluation = evaluate_bop(Oracle(dataset), dataset, FEW_SAMPLES)
    assert len(evaluation.instances) == 13
    assert max(errors.add_m for errors in evaluation.instances) == 0
    assert 0 < evaluation.baseline_auc_add_s["2cm"] < 0.5

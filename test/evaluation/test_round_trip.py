"""Round trip of a synthetic scene through a BOP folder to errors known in advance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawing import needs_egl
from tiny_bop import model_info, primitives, write_tiny_bop
from truthful import Truthful, shifted

from crisp_ros.data.bop import BopDataset, BopFrame, BopInstance
from crisp_ros.data.bop_writer import write_frames, write_models
from crisp_ros.evaluation.bop_csv import BopResult, read_bop_csv, write_bop_csv
from crisp_ros.evaluation.bop_evaluation import BopEvaluation, BopEvaluationSettings, evaluate_bop
from crisp_ros.evaluation.bop_results import BopResults
from crisp_ros.synthesis.renderer import Renderer
from crisp_ros.synthesis.scenes import ScatterSettings, scattered_scene, viewpoints

OBJECTS = (1, 2, 5)
FEW = BopEvaluationSettings(model_points=500, chamfer_samples=1_000, min_visible_share=0.0)


def synthetic_frames() -> Iterator[BopFrame]:
    """Scattered objects as they are drawn for training, ids in the order of `OBJECTS`."""
    meshes, rng = [primitives()[i] for i in OBJECTS], np.random.default_rng(0)
    renderer = Renderer(meshes, 320, 240)
    settings = ScatterSettings(objects=(3, 3), focal_px=(400.0, 450.0))
    likely = [viewpoints(mesh) for mesh in meshes]
    for image_id in range(2):
        scene = scattered_scene(likely, 320, 240, settings, rng)
        drawn = renderer.render(scene)
        yield BopFrame(
            scene_id=1,
            image_id=image_id,
            rgb=drawn.rgb,
            depth=drawn.depth,
            labels=drawn.instances,
            intrinsics=scene.camera.matrix,
            instances=tuple(
                BopInstance(
                    OBJECTS[placed.mesh],
                    label,
                    placed.T_camera_object,
                    int((drawn.instances == label).sum()),
                )
                for label, placed in enumerate(scene.placements, start=1)
            ),
        )
    renderer.release()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> BopDataset:
    needs_egl()
    folder = tmp_path_factory.mktemp("synthetic")
    write_models(folder, primitives(), model_info())
    write_frames(folder, synthetic_frames())
    return BopDataset(folder)


def evaluated(
    dataset: BopDataset,
    change: Callable = lambda estimate: estimate,
    settings: BopEvaluationSettings = FEW,
) -> BopEvaluation:
    known = (
        (f.rgb, {
            i.label: (i.T_camera_object, dataset.models[i.obj_id].mesh) for i in f.instances
        })
        for f in dataset.frames()
    )  # fmt: skip
    return evaluate_bop(Truthful(known, change), dataset, settings)


def test_the_ground_truth_has_no_error(dataset: BopDataset) -> None:
    evaluation = evaluated(dataset)
    assert len(evaluation.instances) == 6
    for errors in evaluation.instances:
        assert errors.add_m == errors.add_s_m == errors.translation_error_m == 0.0
        assert errors.rotation_error_rad < 1e-7
        assert errors.chamfer_m < 0.004  # what two drawings of one surface are apart
        assert errors.bop.mssd_m == 0.0 and errors.bop.mspd_px < 1e-9
    assert set(evaluation.auc_add_s.values()) == {1.0}
    assert evaluation.average_recall == {"mssd": 1.0, "mspd": 1.0}


def test_a_shift_of_a_centimetre_is_an_add_of_a_centimetre(dataset: BopDataset) -> None:
    evaluation = evaluated(dataset, shifted(0.0, -0.006, 0.008))
    for errors in evaluation.instances:
        assert errors.add_m == pytest.approx(0.01, abs=1e-12)
        assert errors.translation_error_m == pytest.approx(0.01, abs=1e-12)
        assert errors.bop.mssd_m <= 0.01 + 1e-12
        assert errors.chamfer_m < 0.004
    box = next(errors for errors in evaluation.instances if errors.obj_id == 1)
    assert box.bop.mssd_m == pytest.approx(0.01, abs=1e-12)


def test_vsd_is_zero_at_the_truth_and_grows_with_a_shift(dataset: BopDataset) -> None:
    settings = replace(FEW, vsd=True)
    recalls = []
    for away in (0.0, 0.02, 1.0):
        evaluation = evaluated(dataset, shifted(0.0, 0.0, away), settings)
        recalls.append(evaluation.average_recall["vsd"])
        for errors in evaluation.instances:
            assert len(errors.bop.vsd) == 10
            if away == 0.0:
                # Depth is stored in steps; nothing else differs.
                assert max(errors.bop.vsd) < 1e-3
    assert recalls[0] == 1.0 and recalls[0] > recalls[1] > recalls[2]
    missed = evaluated(dataset, lambda estimate: None, settings)
    assert missed.average_recall["vsd"] == 0.0


def test_poses_written_are_those_read_again(dataset: BopDataset, tmp_path: Path) -> None:
    evaluation = evaluated(dataset, shifted(0.01, 0.0, 0.0))
    results = [errors.result for errors in evaluation.instances]
    write_bop_csv(tmp_path / "x.csv", results)
    read = read_bop_csv(tmp_path / "x.csv")
    true = {
        (f.scene_id, f.image_id, i.obj_id): i.T_camera_object
        for f in dataset.frames()
        for i in f.instances
    }
    for a, b in zip(read, results, strict=True):
        assert isinstance(a, BopResult) and a[:4] == b[:4] and a.time_s == b.time_s >= 0.0
        np.testing.assert_allclose(a.T_camera_object, b.T_camera_object, atol=1e-12)
        off = a.T_camera_object[:3, 3] - true[a.scene_id, a.image_id, a.obj_id][:3, 3]
        np.testing.assert_allclose(off, (0.01, 0.0, 0.0), atol=1e-12)


def test_results_are_measured_as_their_estimator_was(dataset: BopDataset) -> None:
    """Shapes aside, which are not in them. Surplus results of low score do not count."""
    evaluation = evaluated(dataset, shifted(0.0, -0.006, 0.008))
    results = [errors.result for errors in evaluation.instances]
    worse = [r._replace(score=0.1, T_camera_object=np.eye(4)) for r in results]
    again = evaluate_bop(BopResults([*worse, *results]), dataset, FEW)
    for a, b in zip(again.instances, evaluation.instances, strict=True):
        assert (a.image, a.obj_id, a.add_m, a.add_s_m) == (b.image, b.obj_id, b.add_m, b.add_s_m)
        assert a.bop == b.bop and a.result == b.result
        assert a.chamfer_m == math.inf and not a.certified
    none = evaluate_bop(BopResults([]), dataset, FEW)
    assert set(none.auc_add_s.values()) == {0.0}


def test_results_of_equal_objects_go_to_the_nearest(tmp_path: Path) -> None:
    """The last frame of the small data set shows one object twice."""
    tiny = BopDataset(write_tiny_bop(tmp_path))
    frame = list(tiny.frames())[-1]
    first, second = (
        BopResult(7, 0, 1, score, instance.T_camera_object)
        for score, instance in zip((0.2, 0.9), frame.instances, strict=True)
    )
    found = BopResults([second, first]).estimates(frame).found
    for label, result in ((1, first), (2, second)):
        assert np.array_equal(found[label].T_camera_object, result.T_camera_object)
    found = BopResults([first]).estimates(frame).found
    assert list(found) == [1]


def test_only_targets_are_measured(dataset: BopDataset) -> None:
    limited = BopDataset(dataset.folder)
    limited.targets = {image: {2: 1} for image in dataset.images}
    known = ((f.rgb, {}) for f in dataset.frames())
    evaluation = evaluate_bop(Truthful(known), limited, replace(FEW, model_points=50))
    assert [errors.obj_id for errors in evaluation.instances] == [2, 2]

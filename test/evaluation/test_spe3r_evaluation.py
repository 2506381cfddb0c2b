"""Evaluation on a small SPE3R with estimators whose errors are known beforehand."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from drawing import needs_egl
from scipy.spatial.distance import cdist
from small_spe3r import satellite_mesh, write_small_spe3r
from truthful import Truthful, shifted

from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.evaluation.dataset_loop import DatasetLoop, SampledEvaluationSettings
from crisp_ros.evaluation.spe3r_evaluation import evaluate_spe3r
from crisp_ros.reports.dataset_tables import spe3r_caption, spe3r_report
from crisp_ros.synthesis.spe3r_maps import write_maps

FEW = SampledEvaluationSettings(samples=800)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Spe3rDataset:
    needs_egl()
    dataset = Spe3rDataset(write_small_spe3r(tmp_path_factory.mktemp("spe3r"), 2), "all")
    write_maps(dataset)
    return dataset


def truthful(dataset: Spe3rDataset, *change: object) -> Truthful:
    return Truthful(
        (
            (f.rgb, {1: (f.T_camera_object, satellite_mesh(f.image.satellite))})
            for f in dataset.frames()
        ),
        *change,
    )


def test_the_truth_has_no_error_but_the_spacing_of_samples(dataset: Spe3rDataset) -> None:
    evaluation = evaluate_spe3r(truthful(dataset), dataset, FEW)
    assert len(evaluation.images) == 6
    assert evaluation.e_pose_l1 == {"mean": 0.0, "median": 0.0}
    assert 0.01 < evaluation.e_shape_l1["mean"] < 0.06
    assert evaluation.certified_share == 1.0
    assert max(e.rotation_error_rad for e in evaluation.images) < 1e-7


def test_a_shift_is_the_error_of_the_table(dataset: Spe3rDataset) -> None:
    """Against a full matrix of city-block distances; large shifts count twice in full."""
    evaluation = evaluate_spe3r(truthful(dataset, shifted(0.0, 0.02, 0.0)), dataset, FEW)
    for errors in evaluation.images:
        assert errors.translation_error_m == pytest.approx(0.02)
        assert 0.0 < errors.e_pose_l1 <= 0.04 + 1e-9
    far = evaluate_spe3r(truthful(dataset, shifted(0.0, 0.0, 50.0)), dataset, FEW)
    for errors in far.images:
        mesh = satellite_mesh(errors.image.satellite)
        assert errors.e_pose_l1 == pytest.approx(100, abs=4 * np.abs(mesh.bounds).max())
    points = satellite_mesh("drum").sample(50, seed=0)
    blocks = cdist(points, points + (0, 0.02, 0), "cityblock")
    assert blocks.min(1).mean() + blocks.min(0).mean() <= 0.04 + 1e-9


def test_shape_errors_and_misses(dataset: Spe3rDataset) -> None:
    def change(estimate: SimpleNamespace) -> SimpleNamespace | None:
        estimate.mesh = estimate.mesh.copy().apply_scale(1.2)
        if len(estimate.mesh.vertices) > 20:  # the drum
            return None
        return estimate

    evaluation = evaluate_spe3r(truthful(dataset, change), dataset, FEW)
    missed = [e for e in evaluation.images if math.isinf(e.e_pose_l1)]
    assert [(e.image.satellite, e.missed) for e in missed] == [("drum", "left out")] * 2
    for errors in evaluation.images:
        if errors not in missed:
            assert errors.e_pose_l1 == 0.0 and 0.05 < errors.e_shape_l1 < 0.4
    content = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert content["e_shape_l1"]["mean"] is None and content["e_pose_l1"]["median"] == 0.0
    assert content["images"][-1]["e_pose_l1"] is None
    assert [i["missed"] for i in content["images"]].count("") == 4


def test_every_second_image_and_an_empty_mesh(dataset: Spe3rDataset) -> None:
    def meshless(estimate: SimpleNamespace) -> SimpleNamespace:
        estimate.mesh = trimesh.Trimesh()
        return estimate

    calls: list[tuple[int, int]] = []
    evaluation = evaluate_spe3r(
        truthful(dataset, meshless),
        dataset,
        SampledEvaluationSettings(samples=100, every=2),
        DatasetLoop(lambda *call: calls.append(call)),
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert all(math.isinf(e.e_shape_l1) and e.e_pose_l1 == 0.0 for e in evaluation.images)


def test_the_table_holds_the_papers_numbers_and_ours(dataset: Spe3rDataset, tmp_path: Path) -> None:
    captions: list[str] = []
    evaluation = evaluate_spe3r(
        truthful(dataset),
        dataset,
        FEW,
        loop=DatasetLoop(on_instance=lambda e, r: captions.append(spe3r_caption(r))),
    )
    assert captions[0].startswith("cubesat\ne_pose 0.000, e_shape 0.0")
    table, satellites = spe3r_report(evaluation, []).tables
    assert table.rows[0][0] == "*crisp_ros"
    assert table.rows[1][1:] == ["0.163", "0.159", "0.292", "0.211"]
    assert table.rows[2][1:] == ["0.139", "0.120", "0.191", "0.176"]
    assert [row[0] for row in satellites.rows] == ["cubesat", "drum", "long_panel"]


def test_without_corrector_is_a_row_of_its_own(dataset: Spe3rDataset) -> None:
    corrected = evaluate_spe3r(truthful(dataset), dataset, FEW)
    alone = evaluate_spe3r(truthful(dataset, shifted(0.0, 0.02, 0.0)), dataset, FEW)
    evaluation = dataclasses.replace(corrected, uncorrected=alone)
    table = spe3r_report(evaluation, []).tables[0]
    assert [row[0] for row in table.rows[:2]] == ["*crisp_ros, no corrector", "*crisp_ros"]
    assert float(table.rows[0][3]) > float(table.rows[1][3])
    report = evaluation.to_json()
    assert report["uncorrected"]["e_pose_l1"] == alone.e_pose_l1
    assert report["e_pose_l1"] == corrected.e_pose_l1 and "config" not in report["uncorrected"]
    assert "uncorrected" not in corrected.to_json()

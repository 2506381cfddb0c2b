"""Evaluation on a small NOCS with estimators whose errors are known beforehand."""

import json
import math
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import needs_egl
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation
from small_nocs import CLASS_IDS, diagonal, metric_mesh, write_small_nocs
from truthful import Truthful, shifted

from crisp_ros.data.files import DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.data.nocs import NocsDataset
from crisp_ros.evaluation.dataset_loop import DatasetLoop, SampledEvaluationSettings
from crisp_ros.evaluation.nocs_evaluation import evaluate_nocs
from crisp_ros.reports.dataset_tables import nocs_caption, nocs_report

FEW = SampledEvaluationSettings(samples=600)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> NocsDataset:
    needs_egl()
    return NocsDataset(write_small_nocs(tmp_path_factory.mktemp("nocs")))


def truthful(dataset: NocsDataset, *change: object) -> Truthful:
    """Its surfaces are those of the test, not those that the reader made of the files."""
    return Truthful(
        (
            (f.rgb, {i.label: (i.T_camera_object, metric_mesh(i.category)) for i in f.instances})
            for f in dataset.frames()
        ),
        *change,
    )


def test_the_truth_is_perfect(dataset: NocsDataset) -> None:
    evaluation = evaluate_nocs(truthful(dataset), dataset, FEW)
    assert len(evaluation.instances) == 6
    for precision in (evaluation.precision.mean_iou, evaluation.precision.mean_pose):
        assert set(precision.values()) == {1.0}
    for errors in evaluation.instances:
        assert errors.degrees < 1e-5 and errors.centimetres < 1e-9
        assert errors.iou == pytest.approx(1.0, abs=1e-6) and errors.e_shape < 3e-3
    assert set(evaluation.e_shape) == {"bottle", "laptop", "mug", "average"}
    assert evaluation.e_shape_floor == pytest.approx(evaluation.e_shape, rel=0.1)


def test_the_floor_is_that_of_points_scattered_over_the_area(dataset: NocsDataset) -> None:
    """Of n random points on a plane the nearest is area / (pi n) away, squared, in the mean."""
    evaluation = evaluate_nocs(truthful(dataset, shifted(0.0, 0.06, 0.0)), dataset, FEW)
    for category in ("bottle", "laptop"):
        area = metric_mesh(category).area / diagonal(category) ** 2
        expected = 2e3 * area / (math.pi * FEW.samples)
        assert evaluation.e_shape_floor[category] == pytest.approx(expected, rel=0.15)


def test_six_centimetres_are_between_five_and_ten(dataset: NocsDataset) -> None:
    evaluation = evaluate_nocs(truthful(dataset, shifted(0.0, 0.06, 0.0)), dataset, FEW)
    assert evaluation.precision.mean_pose["5deg5cm"] == 0.0
    assert evaluation.precision.mean_pose["5deg10cm"] == 1.0
    assert all(e.centimetres == pytest.approx(6.0) for e in evaluation.instances)


def test_free_turns_are_excused_and_others_not(dataset: NocsDataset) -> None:
    """The handle of the test's mug is out of sight."""

    def rotated(estimate: SimpleNamespace) -> SimpleNamespace:
        estimate.T_camera_object[:3, :3] @= Rotation.from_euler("y", 36, degrees=True).as_matrix()
        return estimate

    evaluation = evaluate_nocs(truthful(dataset, rotated), dataset, FEW)
    degrees = {e.category: e.degrees for e in evaluation.instances}
    assert degrees == pytest.approx({"bottle": 0.0, "mug": 0.0, "laptop": 36.0}, abs=1e-4)
    assert evaluation.precision.pose["laptop"]["10deg10cm"] == 0.0
    assert evaluation.precision.pose["mug"]["5deg5cm"] == 1.0


def test_shape_error_is_of_the_normalised_surfaces(dataset: NocsDataset) -> None:
    def inflate(estimate: SimpleNamespace) -> SimpleNamespace:
        estimate.mesh = estimate.mesh.copy().apply_scale(1.3)
        return estimate

    evaluation = evaluate_nocs(truthful(dataset, inflate), dataset, FEW)
    errors = next(e for e in evaluation.instances if e.category == "laptop")
    first = next(dataset.frames()).instances[2]
    truth, estimate = (
        surface_samples(mesh, 600, np.random.default_rng(0)).points / diagonal("laptop")
        for mesh in (first.mesh, metric_mesh("laptop").apply_scale(1.3))
    )  # drawn once more, so that errors agree to the noise of drawing
    squares = cdist(estimate, truth, "sqeuclidean")
    expected = squares.min(1).mean() + squares.min(0).mean()
    assert errors.e_shape == pytest.approx(expected, rel=0.1)
    assert evaluation.e_shape["laptop"] == pytest.approx(1e3 * expected, rel=0.1)
    assert errors.iou == pytest.approx(1.3**-3, abs=0.01)


def test_misses_cost_precision(dataset: NocsDataset) -> None:
    def blind(estimate: SimpleNamespace) -> SimpleNamespace | None:
        return None if estimate.label == 5 else estimate

    evaluation = evaluate_nocs(truthful(dataset, blind), dataset, FEW)
    assert evaluation.precision.iou["laptop"]["25"] == 0.0
    assert evaluation.precision.mean_iou["25"] == pytest.approx(2 / 3)
    missed = [e for e in evaluation.instances if math.isinf(e.e_shape)]
    assert [(e.category, e.missed) for e in missed] == [("laptop", "left out")] * 2
    content = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert content["map_iou"]["25"] == pytest.approx(2 / 3)
    assert content["instances"][2]["e_shape"] is None
    assert [i["missed"] for i in content["instances"][:3]] == ["", "", "left out"]


def write_detections(dataset: NocsDataset, folder: Path, change: object) -> Path:
    folder.mkdir()
    for frame in dataset.frames():
        content = {
            "pred_class_ids": np.array([CLASS_IDS[i.category] for i in frame.instances]),
            "pred_scores": np.array([0.9, 0.8, 0.7]),
            "pred_masks": np.stack([frame.labels == i.label for i in frame.instances], axis=2),
        }
        change(content)
        name = f"results_test_{frame.image.scene}_{frame.image.index}.pkl"
        (folder / name).write_bytes(pickle.dumps(content))
    return folder


class Renumbered(Truthful):
    """Knows detections by their order, 1, 2, ..., in place of the ids of the data set."""

    def estimate(self, frame: object) -> SimpleNamespace:
        objects = (
            super()
            .estimate(SimpleNamespace(rgb=frame.rgb, labels=np.array([0, 0, 2, 0, 4, 5])))
            .objects
        )
        renumbered = {2: 1, 4: 2, 5: 3}
        for estimate in objects:
            estimate.label = renumbered[estimate.label]
        present = [e for e in objects if (frame.labels == e.label).any()]
        return SimpleNamespace(objects=tuple(present), rejected=())


def test_detections_take_the_place_of_the_true_masks(dataset: NocsDataset, tmp_path: Path) -> None:
    known = truthful(dataset).known
    folder = write_detections(dataset, tmp_path / "good", lambda content: None)
    evaluation = evaluate_nocs(Renumbered(known), dataset, FEW, folder)
    assert evaluation.precision.mean_iou["75"] == evaluation.precision.mean_pose["5deg5cm"] == 1.0

    def mistaken(content: dict) -> None:
        content["pred_class_ids"][2] = CLASS_IDS["bottle"]  # a laptop for a bottle, least sure

    folder = write_detections(dataset, tmp_path / "mistaken", mistaken)
    evaluation = evaluate_nocs(Renumbered(known), dataset, FEW, folder)
    assert evaluation.precision.iou["laptop"]["25"] == 0.0
    assert evaluation.precision.iou["bottle"]["25"] == 1.0  # found before the mistake
    missed = [e.missed for e in evaluation.instances if math.isinf(e.e_shape)]
    assert missed == ["no mask of its category on it"] * 2


def test_missing_detections_are_named(dataset: NocsDataset, tmp_path: Path) -> None:
    folder = write_detections(dataset, tmp_path / "some", lambda content: None)
    (folder / "results_test_scene_1_0001.pkl").unlink()
    with pytest.raises(DatasetError, match="results_real_test_scene_1_0001.pkl: no such file"):
        evaluate_nocs(Renumbered(truthful(dataset).known), dataset, FEW, folder)


def test_the_tables_hold_the_papers_numbers_and_ours(dataset: NocsDataset) -> None:
    captions: list[str] = []
    evaluation = evaluate_nocs(
        truthful(dataset),
        dataset,
        FEW,
        loop=DatasetLoop(on_instance=lambda e, r: captions.append(nocs_caption(r))),
    )
    assert captions[1] == "mug\n0.0 deg, 0.0 cm"
    shapes, precision = nocs_report(evaluation, []).tables
    assert shapes.rows[1][0] == "*true surface, drawn twice"
    assert 0.0 < float(shapes.rows[1][-1]) and shapes.rows[1][2] == "–"  # no bowl
    assert shapes.rows[2] == ["CRISP (Table 8)", "0.55", "0.31", "0.37", "0.18", "0.51", "0.16",
                              "0.35"]  # fmt: skip
    assert precision.rows[0][1:4] == ["100.0", "100.0", "100.0"]
    assert precision.rows[2] == ["CRISP (Table 9)", "84.2", "83.5", "70.5", "22.5", "23.7",
                                 "62.8", "–"]  # fmt: skip
    assert "True masks" in precision.note

"""Own code and D with objects outside the library, after self-training by the paper's recipe."""

import dataclasses
import json

import pytest
from adaptation_samples import shipped_model

from crisp_ros.cli.main import main
from crisp_ros.evaluation.self_training_comparison import ObjectResult, Results
from crisp_ros.share import share_directory
from crisp_ros.studies.library_ablation import ROWS, Measured
from crisp_ros.studies.study_error import StudyError


def test_rows_differ_in_one_part():
    active = [corrector.active_shape for corrector in ROWS.values()]
    assert [(a.own_code, a.diameter_weights) for a in active] == [
        (True, True),
        (False, True),
        (True, False),
    ]
    assert not any(a.one_hot for a in active)


def test_results_of_objects_outside_the_library():
    results = Results(
        (ObjectResult("mug", True, 0.0, 0.0), ObjectResult("003_can", False, 0.01, 0.015))
    )
    everything, outside = Measured.of(results), Measured.of(results, {"can"})
    assert (everything.objects, outside.objects) == (2, 1)
    assert everything.certified == 0.5 and outside.auc_add_s == pytest.approx(0.5)
    assert outside.auc_shape == pytest.approx({"3cm": 0.5, "5cm": 0.7, "10cm": 0.85})
    with pytest.raises(StudyError, match="outside"):
        Measured.of(results, {"bowl"})


def test_the_command_measures_each_row(tmp_path, monkeypatch):
    """With a training and a measurement that take no time."""
    trained, measured = [], []

    class Training:
        def __init__(self, model, reference, learner, settings, folder):
            assert reference is None and learner.batch == 3
            assert len(model.library) == 11
            self._model, self._folder = model, folder
            assert settings.observation.points == 128
            trained.append(settings.corrector)

        def run(self, frames, count, passes, on_frame):
            assert len(list(frames())) == count == 2 and passes == 1

        def model(self):
            header = {**self._model.header, "self_training": {"steps": 4}}
            return dataclasses.replace(self._model, header=header)

    def measure(estimator, frames, shapes, on_frame):
        measured.append(estimator.settings.corrector)
        names = [true.name for frame in frames for true in frame.truth]
        return Results(tuple(ObjectResult(name, True, 0.0, 0.01) for name in names))

    monkeypatch.setattr("crisp_ros.studies.library_ablation.RecordedSelfTraining", Training)
    monkeypatch.setattr("crisp_ros.studies.library_ablation.measure", measure)
    bag = share_directory() / "recordings" / "table"
    options = ["--frames", "2", "--points", "128", "--run", str(tmp_path / "run")]
    command = ["ablate", "library", "--bag", str(bag), *options, "--json", str(tmp_path / "a.json")]
    assert main(command) == 0
    assert trained == list(ROWS.values())
    assert measured == [corrector for corrector in ROWS.values() for _ in range(2)]
    report = json.loads((tmp_path / "a.json").read_text())
    assert len(report["library"]) == 11 and len(report["removed"]) == 10
    assert list(report["rows"]) == list(ROWS)
    for row in report["rows"].values():
        assert row["steps"] == 4
        assert 0 < row["after_outside"]["objects"] < row["after_all"]["objects"]
        assert set(row["before_all"]["auc_shape"]) == {"3cm", "5cm", "10cm"}
    assert len(shipped_model().library) == 21, "the model itself keeps its shapes"

    assert main(command) == 0
    assert len(trained) == len(ROWS), "finished rows are kept"
    assert json.loads((tmp_path / "a.json").read_text())["rows"] == report["rows"]

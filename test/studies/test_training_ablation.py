import pickle
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_model import write_tiny_model

from crisp_ros.cli import ablate_training
from crisp_ros.cli.main import main
from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline.solver import Solver
from crisp_ros.studies.resumable_parts import KeptParts
from crisp_ros.studies.training_ablation import (
    ROWS,
    TRAININGS,
    NormalisedCrops,
    NormalisedEstimator,
    NormalisedSolver,
)
from crisp_ros.synthesis.crop_set import Crops


def test_every_training_has_a_row_and_every_part_is_compared_with_something():
    assert {row.training for row in ROWS} == set(TRAININGS)
    for part in {row.part for row in ROWS}:
        rows = [row for row in ROWS if row.part == part]
        assert len({row.key for row in rows}) == len(rows) > 1
    (with_code, with_d) = (
        row for row in ROWS if row.part in ("code column", "diameters") and "with " in row.name
    )
    assert with_code.self_trained and with_code.key == with_d.key


def test_normalised_crops_are_those_divided_by_the_diagonal_of_their_mesh():
    class Source:
        mesh = np.array([0, 1, 1])
        scale = np.ones(3, np.float32)

        def __len__(self) -> int:
            return 3

        def batch(self, indices):
            pnc = np.full((len(indices), 2, 2, 3), 0.1, np.float32)
            pnc[:, 0] = np.nan
            return Crops(np.zeros((len(indices), 2, 2, 3), np.uint8), pnc, self.mesh[indices])

    crops = NormalisedCrops(Source(), np.array([0.5, 0.2]))
    batch = crops.batch(np.array([0, 2]))
    assert np.allclose(batch.pnc[:, 1], np.array([0.2, 0.5])[:, None, None])
    assert np.isnan(batch.pnc[:, 0]).all() and list(batch.mesh) == [0, 1] and len(crops) == 3


def test_depth_gives_the_scale_of_normalised_coordinates(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    z = 0.05 * torch.randn(2, 400, 3, generator=generator)
    diagonals = torch.tensor([0.25, 0.1])
    wrong = z / diagonals[:, None, None]
    wrong[:, :80] = torch.randn(2, 80, 3, generator=generator)  # a fifth are outliers
    monkeypatch.setattr(Solver, "coordinates", lambda self, maps, observations: wrong)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    points = z @ turn.T + torch.tensor([0.1, 0.2, 0.9])
    observed = SimpleNamespace(points=points, valid=torch.ones(2, 400, dtype=torch.bool))
    metric = NormalisedSolver.coordinates(object.__new__(NormalisedSolver), None, observed)
    ratio = (metric[:, 80:] / z[:, 80:]).flatten(1).median(1).values
    assert torch.allclose(ratio, torch.ones(2), atol=0.08)


def test_the_normalised_estimator_solves_with_scaled_coordinates(tmp_path):
    estimator = NormalisedEstimator(load_model(write_tiny_model(tmp_path)))
    assert type(estimator._solver) is NormalisedSolver
    assert type(pickle.loads(pickle.dumps(estimator))._solver) is NormalisedSolver


@pytest.mark.parametrize(
    "changes, complaint",
    [
        ({"--only": "mug,plate"}, "no model of mug, plate"),
        ({"--recipe": "absent.yaml"}, "absent.yaml"),
        ({"--models": "nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, changes, complaint):
    from tiny_bop import write_tiny_bop

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("training: {steps: 1}\n")
    options = {
        "--models": str(write_tiny_bop(tmp_path / "tiny") / "models"),
        "--recipe": str(recipe),
        "--imagenet": str(tmp_path),
        "--work": str(tmp_path / "work"),
        **changes,
    }
    words = [word for pair in options.items() for word in pair]
    assert main(["ablate", "training", *words]) == 1
    printed = capsys.readouterr().err
    assert complaint in printed and printed.count("\n") == 1


class _Study:
    """Trains nothing, and counts."""

    def __init__(self) -> None:
        self.trained_as: list[str] = []
        self.self_trained_for: list[str] = []

    def trained(self, training, on_step):
        self.trained_as.append(training)
        return f"model of {training}", {"held_out_pnc_mm": 1.0}

    def self_trained(self, row, model, dataset, on_frame):
        assert model == f"model of {row.training}"
        self.self_trained_for.append(row.name)
        return f"self-trained {row.key}", {"steps": 7}


def test_a_table_is_filled_once_and_a_stopped_one_goes_on(tmp_path, monkeypatch):
    seen = []

    def measured(row, model, dataset, on_frame):
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(row.key)
        return {"model": model, "instances": 1}

    monkeypatch.setattr(ablate_training, "measured", measured)
    kept, stop_at = KeptParts(tmp_path, "this"), 5
    with pytest.raises(KeyboardInterrupt):
        ablate_training._rows(_Study(), None, kept)
    stop_at, study = None, _Study()
    rows = ablate_training._rows(study, None, kept)
    assert [(row["part"], row["name"]) for row in rows] == [(r.part, r.name) for r in ROWS]
    assert len(seen) == len(set(seen)) == len({row.key for row in ROWS})
    for row, made in zip(ROWS, rows, strict=True):
        own = f"self-trained {row.key}" if row.self_trained else f"model of {row.training}"
        assert made["model"] == own and made["held_out"] == {"held_out_pnc_mm": 1.0}
        assert made.get("self_training") == ({"steps": 7} if row.self_trained else None)
    assert study.trained_as == list(TRAININGS) and len(study.self_trained_for) == 3
    again = _Study()
    assert ablate_training._rows(again, None, kept) == rows
    assert again.trained_as == again.self_trained_for == []


def test_tables_are_rendered_anew_for_other_options(tmp_path, monkeypatch):
    rendered = []
    monkeypatch.setattr(ablate_training, "write_models", lambda folder, *_: folder.mkdir())
    monkeypatch.setattr(ablate_training, "write_frames", lambda folder, frames: None)
    monkeypatch.setattr(ablate_training, "BopDataset", lambda folder: folder)

    def table_frames(looks, settings, seed, on_frame):
        rendered.append(settings.scenes)

    monkeypatch.setattr(ablate_training, "table_frames", table_frames)

    def dataset(scenes, models="models"):
        options = Namespace(bop=None, work=tmp_path, scenes=scenes, models=tmp_path / models)
        return ablate_training._dataset(options, ())

    folders = [dataset(8), dataset(16), dataset(8, "others")]
    assert rendered == [8, 16, 8] and len(set(folders)) == 3
    assert [dataset(8), dataset(16)] == folders[:2] and len(rendered) == 3


def test_shapes_without_a_surface_are_told(capsys):
    table = ablate_training._shape_table({"everywhere": {"mean_mm": 1.25, "chamfer_mm": None}})
    Console().print(table)
    assert "1.25" in (printed := capsys.readouterr().out) and "no surface" in printed

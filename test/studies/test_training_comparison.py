"""The ablation's table: filled row by row, and continued after an interruption."""

import pytest

from crisp_ros.studies import training_comparison
from crisp_ros.studies.resumable_parts import KeptParts
from crisp_ros.studies.training_comparison import TrainingComparison, table_rows
from crisp_ros.studies.training_rows import ROWS, TRAININGS
from crisp_ros.training.recipe import Recipe


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


def test_an_interrupted_table_is_continued(tmp_path, monkeypatch):
    seen = []

    def measured(row, model, dataset, on_frame):
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        seen.append(row.key)
        return {"model": model, "instances": 1}

    monkeypatch.setattr(training_comparison, "measured", measured)
    kept, stop_at = KeptParts(tmp_path, "this"), 5
    with pytest.raises(KeyboardInterrupt):
        table_rows(_Study(), None, kept)
    stop_at, study = None, _Study()
    rows = table_rows(study, None, kept)
    assert [(row["part"], row["name"]) for row in rows] == [(r.part, r.name) for r in ROWS]
    assert len(seen) == len(set(seen)) == len({row.key for row in ROWS})
    for row, made in zip(ROWS, rows, strict=True):
        own = f"self-trained {row.key}" if row.self_trained else f"model of {row.training}"
        assert made["model"] == own and made["held_out"] == {"held_out_pnc_mm": 1.0}
        assert made.get("self_training") == ({"steps": 7} if row.self_trained else None)
    assert study.trained_as == list(TRAININGS) and len(study.self_trained_for) == 3
    again = _Study()
    assert table_rows(again, None, kept) == rows
    assert again.trained_as == again.self_trained_for == []


def test_other_options_render_other_tables(tmp_path, monkeypatch):
    rendered = []
    monkeypatch.setattr(training_comparison, "write_models", lambda folder, *_: folder.mkdir())
    monkeypatch.setattr(training_comparison, "write_frames", lambda folder, frames: None)
    monkeypatch.setattr(training_comparison, "BopDataset", lambda folder: folder)

    def table_frames(looks, settings, seed, on_frame):
        rendered.append(settings.scenes)

    monkeypatch.setattr(training_comparison, "table_frames", table_frames)

    def dataset(scenes, models="models"):
        comparison = TrainingComparison(
            models=tmp_path / models,
            recipe=Recipe(),
            only=(),
            imagenet=tmp_path,
            observed_poses=None,
            bop=None,
            split="test",
            scenes=scenes,
            passes=1,
            work=tmp_path,
        )
        return comparison._dataset(())

    folders = [dataset(8), dataset(16), dataset(8, "others")]
    assert rendered == [8, 16, 8] and len(set(folders)) == 3
    assert [dataset(8), dataset(16)] == folders[:2] and len(rendered) == 3

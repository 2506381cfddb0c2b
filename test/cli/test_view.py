"""`crisp view`: pictures of a data set's frames with estimates of an untrained model."""

from __future__ import annotations

from pathlib import Path

import pytest

from crisp_ros.cli import view
from crisp_ros.cli.main import main


def test_frames_are_estimated_and_shown(
    folder: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    seen = []

    def write_pictures(frames, target):
        for viewed in frames:
            seen.append(viewed)
            yield target / f"{len(seen)}.png"

    monkeypatch.setattr(view, "write_pictures", write_pictures)
    arguments = ["view", "--bop", str(folder), "--checkpoint", str(checkpoint)]
    assert main([*arguments, "--every", "2", "--png", str(tmp_path)]) == 0
    assert len(seen) == 2 and seen[1].title.endswith("frame 2")
    assert all(len(v.objects) == len(v.meshes) > 0 for v in seen)
    assert "2 pictures" in capsys.readouterr().out
    shown = []
    monkeypatch.setattr(view, "show", lambda frames: shown.extend(frames))
    assert main([*arguments, "--frames", "1"]) == 0
    assert len(shown) == 1


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["view", "--bop", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("\n") == 1

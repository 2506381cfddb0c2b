"""`crisp figure`: what it draws and what it refuses."""

import builtins
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from crisp_ros.cli.main import main


@pytest.mark.parametrize(
    "figure, module", [("degeneracy", "degeneracy"), ("corrector", "convergence")]
)
def test_figure_and_json_are_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: Path,
    figure: str,
    module: str,
) -> None:
    pytest.importorskip("matplotlib")
    seen = []

    def study(decoder, library, settings, on_done, *model):
        seen.append((len(library), settings.views, settings.seed))
        on_done(1, 1)
        return SimpleNamespace(to_json=lambda: {"views": settings.views})

    monkeypatch.setattr(f"crisp_ros.studies.{module}_study.{module}_study", study)
    monkeypatch.setattr(
        f"crisp_ros.reports.{module}_figure.draw_{module}",
        lambda study, path: path.write_bytes(b"png"),
    )
    picture, written = tmp_path / "a.png", tmp_path / "a.json"
    options = ["--checkpoint", str(checkpoint), "--output", str(picture), "--json", str(written)]
    assert main(["figure", figure, "--views", "3", "--seed", "5", *options]) == 0
    assert seen == [(3, 3, 5)] and picture.read_bytes() == b"png"
    content = json.loads(written.read_text())
    assert content["views"] == 3 and content["command"].startswith(f"crisp figure {figure}")
    assert "cpu" in content["machine"]
    assert str(picture) in capsys.readouterr().out.replace("\n", "")


def test_without_matplotlib_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *args, **kwargs):
        if name == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["figure", "corrector", "--checkpoint", str(checkpoint)]) == 1
    printed = capsys.readouterr().err
    assert "pip install matplotlib" in printed and printed.count("\n") == 1


def test_a_model_without_the_mug_is_a_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkpoint: Path
) -> None:
    pytest.importorskip("matplotlib")
    options = ["--checkpoint", str(checkpoint), "--output", str(tmp_path / "a.png")]
    assert main(["figure", "degeneracy", *options]) == 1
    printed = capsys.readouterr().err
    assert "no 025_mug, only box" in printed and printed.count("\n") == 1


def test_an_unknown_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["figure", "elephant"])
    assert "elephant" in capsys.readouterr().err

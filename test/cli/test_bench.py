"""`crisp bench`: what it writes, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest

from crisp_ros.benchmark.benchmark import BenchReport
from crisp_ros.benchmark.frame_task import FrameAnswer
from crisp_ros.benchmark.solver_accuracy import Answers, Comparison
from crisp_ros.benchmark.solver_tasks import BenchSettings
from crisp_ros.benchmark.stopwatch import Task, Timing
from crisp_ros.benchmark.version_comparison import Row, Sample, VersionReport
from crisp_ros.cli.main import main


def report(settings: BenchSettings) -> BenchReport:
    tasks = [Task(name, len, 1, 2, 5, 1000, "how") for name in ("lsq", "frame")]
    timings = {task.name: Timing(task, [10.0, 12.0]) for task in tasks}
    timings["frame"].answers[0] = FrameAnswer(5, 4, 5, {"network": 7.0})
    answers = Answers(True, {"right_shapes": 5}, "ours 5, baseline 5")
    comparison = Comparison("lsq", ("lsq",), "baseline_lsq", 4.0, 11.0, 66.0, answers)
    stages = {"network": 7.0}
    return BenchReport(timings, [comparison], stages, None, 900.0, settings, "compact", False)


def test_figures_go_to_screen_json_and_page(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: Path,
) -> None:
    seen, compared = [], []

    def run_bench(model, recording, settings, device, on_run):
        seen.append((settings.quick, device, recording.name))
        on_run(1, 1)
        return report(settings)

    def compare_versions(versions, settings, on_run):
        on_run(1, 1)
        compared.append((len(versions), settings))
        samples = (Sample((2.0,)), Sample((6.0,)))[: len(versions)]
        about = {"model_version": "m", "precision": "float32"}
        row = Row("frame", "ms", samples)
        return VersionReport(tuple(versions), (about,) * len(versions), (row,))

    monkeypatch.setattr("crisp_ros.cli.bench.run_bench", run_bench)
    monkeypatch.setattr("crisp_ros.cli.bench.compare_versions", compare_versions)
    written, page = tmp_path / "out/bench.json", tmp_path / "docs/bench.md"
    arguments = ["--checkpoint", str(checkpoint), "--json", str(written), "--markdown", str(page)]
    assert main(["bench", "--quick", *arguments]) == 0
    assert seen == [(True, "cpu", "table")]
    content = json.loads(written.read_text())
    assert content["machine"]["threads"] >= 1 and content["command"].startswith("crisp bench")
    assert content["stages"][0]["median_ms"] == 11.0 and content["stages"][0]["solver"] == "how"
    (comparison,) = content["comparisons"]
    assert comparison["ratio"] == 6.0 and comparison["holds"] is True
    assert "| lsq | baseline_lsq | 6.0 | 4 | yes | ours 5, baseline 5 |" in page.read_text()
    printed = capsys.readouterr().out
    assert "baseline_lsq" in printed and "6.0" in printed and "A frame with 5 objects" in printed
    assert "Starts and versions" in page.read_text() and "Starts and versions" in printed
    count, settings = compared.pop()
    assert count == 1 and settings.rounds == 0  # its frames are among the stages
    assert settings.checkpoint == checkpoint

    compare = ["--compare", sys.executable, "--only-versions", "--node"]
    assert main(["bench", *compare, "--json", str(written)]) == 0
    content = json.loads(written.read_text())
    assert [v["name"] for v in content["versions"]["versions"]] == ["this version", sys.executable]
    assert content["versions"]["rows"][0]["ratio"] == 3.0 and "stages" not in content
    assert content["machine"]["threads"] >= 1 and "commit" in content
    count, settings = compared.pop()
    assert count == 2 and settings.rounds == 2 and settings.checkpoint is None
    assert settings.node_runs == 2
    assert len(seen) == 1


@pytest.mark.parametrize(
    "extra, message",
    [
        (["--checkpoint", "FILE"], "is the model trained"),
        (["--checkpoint", "absent.safetensors"], "absent.safetensors"),
        (["--network", "compact", "--checkpoint", "FILE"], "not both"),
        (["--network", "compact", "--bag", "absent"], "no such recording"),
        (["--network", "compact", "--compare", "HEAD"], "leave out --network"),
        (["--node"], "give --compare"),
        (["--only-versions", "--markdown", "page.md"], "leave out --markdown"),
        (["--only-versions", "--compare", "no-such-thing"], "no version 'no-such-thing'"),
    ],
)
def test_bad_input_is_one_line(
    capsys: pytest.CaptureFixture[str], checkpoint: Path, extra: list[str], message: str
) -> None:
    arguments = [str(checkpoint) if word == "FILE" else word for word in extra]
    assert main(["bench", "--quick", *arguments]) == 1
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1

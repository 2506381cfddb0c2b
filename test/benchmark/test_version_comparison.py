"""Versions run alternately: which are found, what is measured, what happens if one fails."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from crisp_ros.benchmark import compared_version
from crisp_ros.benchmark.compared_version import (
    Version,
    VersionError,
    commit_of,
    opened_version,
    this_version,
)
from crisp_ros.benchmark.version_comparison import (
    ComparisonSettings,
    Row,
    Sample,
    VersionReport,
    compare_versions,
)
from crisp_ros.share import share_directory

RECORDING = share_directory() / "recordings" / "table"

# A package that answers like a version of this one, and notes in a file what it was asked.
PACKAGE = {
    "__init__.py": '__version__ = "0.0"\n',
    "share.py": "def checkpoint_path(given):\n    return given\n",
    "network/__init__.py": "",
    "network/checkpoint.py": "def load_model(path):\n    return path\n",
    "benchmark/__init__.py": "",
    # The real one takes seconds to import. Whatever is done with a tensor gives a tensor.
    "../torch.py": """
class Tensor:
    device = "cpu"
    def __getattr__(self, name): return Tensor()
    def __call__(self, *_, **__): return Tensor()
    def __getitem__(self, _): return self
    def __len__(self): return 2
    def __add__(self, _): return self
    __sub__ = __mul__ = __add__
    def __enter__(self): return self
    def __exit__(self, *_): pass

def __getattr__(name):
    return Tensor()
""",
    "pipeline.py": """
from dataclasses import dataclass
from types import SimpleNamespace
import torch

@dataclass
class EstimatorSettings:
    shape: str = "lsq"

class Decoder:
    def sdf_and_gradient(self, points, codes):
        pass

class Estimator:
    def __init__(self, model, settings, device):
        self.settings, self.model_version, self.decoder = settings, "NAME-model", Decoder()
        self.library = SimpleNamespace(codes=torch.a, lower=torch.a, upper=torch.a)

    def warm_up(self):
        print("not an answer")
""",
    "benchmark/frame_task.py": """
from types import SimpleNamespace

def frame_task(model, recording, objects, frames, device, repetitions):
    def run(i):
        with open("LOG", "a") as log:
            log.write(f"NAME {i}\\n")
        BODY
        return SimpleNamespace(objects=objects, certified=1, stage_ms={"NAME": 2.0, "both": 1.0})
    return SimpleNamespace(run=run, inputs=3)
""",
    "node/__init__.py": "",
    "node/player/__init__.py": "",
    "node/player/latency_probe.py": """
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open("LOG", "a") as log:
    log.write("NAME node\\n")
frame = {"transform_ms": 5.0, "stage_ms": {"network": 3.0, "answer": 1.0, "fits": 0.5}}
sent, answered = int(options["--frames"]), [frame] * int(ANSWERED * int(options["--frames"]))
with open(options["--output"], "w") as file:
    json.dump({"sent": sent, "answered": answered}, file)
""",
}


def version(folder: Path, name: str, body: str = "pass", answered: float = 1.0) -> Version:
    """Write a version that notes its frames in the folder's file `log`."""
    for path, text in PACKAGE.items():
        file = folder / name / "crisp_ros" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("NAME", name).replace("LOG", str(folder / "log"))
        file.write_text(text.replace("BODY", body).replace("ANSWERED", str(answered)))
    return Version(name, sys.executable, folder / name, "")


@pytest.fixture
def settings(tmp_path: Path) -> ComparisonSettings:
    return ComparisonSettings(
        tmp_path / "m.safetensors", RECORDING, objects=4, frames=3, rounds=2, starts=2
    )


def test_versions_take_turns_on_the_same_frames(
    tmp_path: Path, settings: ComparisonSettings
) -> None:
    pair, steps = [version(tmp_path, "new"), version(tmp_path, "old")], []
    report = compare_versions(pair, settings, lambda *step: steps.append(step))
    frames = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [int(index) for _, index in frames] == [0, 0, 1, 1, 2, 2] * 3
    names = [name for name, _ in frames]
    assert {frozenset(names[i : i + 2]) for i in range(0, 18, 2)} == {frozenset({"new", "old"})}
    assert names[0:18:2] == ["old", "new"] * 4 + ["old"]  # each is first in every second step
    assert steps[-1] == (settings.runs, settings.runs)

    rows = {row.name: row for row in report.rows}
    counts = {name: [len(s.values) for s in row.samples] for name, row in rows.items()}
    assert counts["frame"] == counts["frame, processor"] == [6, 6]  # without the first pass
    assert counts["frame: both"] == [6, 6]
    assert counts["frame: new"] == [6, 0] and counts["frame: old"] == [0, 6]
    assert counts["configuration, empty cache"] == counts["configuration, full cache"] == [2, 2]
    assert counts["memory of the model in use"] == [2, 2]
    assert rows["frame: both"].ratio == 1.0 and math.isnan(rows["frame: new"].ratio)
    assert [a["model_version"] for a in report.about] == ["new-model", "old-model"]
    assert [(a["objects"], a["certified"]) for a in report.about] == [(24, 6)] * 2
    written = json.loads(json.dumps(report.to_json()))
    assert written["rows"][0]["values"][0]["count"] == 2


def test_a_start_alone_has_no_frames(tmp_path: Path, settings: ComparisonSettings) -> None:
    settings = settings._replace(rounds=0)
    report = compare_versions([version(tmp_path, "new")], settings)
    assert not (tmp_path / "log").exists()
    assert {row.unit for row in report.rows} == {"s", "MB"}
    assert all(math.isnan(row.ratio) for row in report.rows)


@pytest.mark.parametrize(
    "body, message",
    [
        ("raise ValueError('no depth')", "old cannot be measured: ValueError: no depth"),
        ("import os; os._exit(7)", "old cannot be measured: it ended with status 7"),
    ],
)
def test_a_version_that_fails_is_named(
    tmp_path: Path, settings: ComparisonSettings, body: str, message: str
) -> None:
    pair = [version(tmp_path, "new"), version(tmp_path, "old", body)]
    with pytest.raises(VersionError, match=message):
        compare_versions(pair, settings)


def test_nodes_take_turns(tmp_path: Path, settings: ComparisonSettings) -> None:
    pair = [version(tmp_path, "new"), version(tmp_path, "old")]
    settings = settings._replace(rounds=0, starts=1, node_runs=2, node_frames=4)
    steps: list[tuple[int, int]] = []
    report = compare_versions(pair, settings, lambda *step: steps.append(step))
    names = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert names == ["old", "new", "new", "old"] and steps[-1] == (settings.runs, settings.runs)
    rows = {row.name: row for row in report.rows}
    assert [sample.values for sample in rows["node, 8 objects"].samples] == [(5.0,) * 8] * 2
    # The fits of tracks are no part of the estimator.
    assert rows["node, 8 objects: estimator"].samples[1].values == (4.0,) * 8


def test_a_node_that_drops_frames_is_named(tmp_path: Path, settings: ComparisonSettings) -> None:
    slow = version(tmp_path, "slow", answered=0.5)
    settings = settings._replace(rounds=0, starts=1, node_runs=1, node_frames=4)
    with pytest.raises(VersionError, match="the node of slow answered 2 of 4 frames"):
        compare_versions([slow], settings)


def test_a_version_without_the_package_is_named(tmp_path: Path, settings) -> None:
    found = version(tmp_path, "nothing")
    (found.folder / "crisp_ros" / "pipeline.py").unlink()
    with pytest.raises(
        VersionError, match="nothing cannot be measured: ModuleNotFoundError: .*crisp_ros"
    ):
        compare_versions([found], settings)


def test_rows_have_medians_percentiles_and_ratios() -> None:
    row = Row("frame", "ms", (Sample((1.0, 2.0, 9.0)), Sample((6.0,))))
    assert (row.samples[0].median, row.ratio) == (2.0, 3.0)
    assert row.samples[0].p95 == pytest.approx(8.3)
    assert Sample(()).to_json() is None


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the package in two commits; the running version is from it."""
    version(tmp_path, "repository")
    folder = tmp_path / "repository"
    git(folder, "init", "-q", "-b", "main")
    for number in range(2):
        (folder / "crisp_ros" / "number").write_text(str(number))
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", str(number))
    monkeypatch.setattr(compared_version, "share_directory", lambda: folder)
    return folder


def test_a_revision_is_checked_out_and_removed(repository: Path) -> None:
    before = git(repository, "status", "--porcelain"), git(repository, "worktree", "list")
    with opened_version("main~1") as found:
        assert (found.folder / "crisp_ros" / "number").read_text() == "0"
        assert found.commit == git(repository, "rev-parse", "main~1")[:12]
    assert not found.folder.exists()
    assert before == (git(repository, "status", "--porcelain"), git(repository, "worktree", "list"))


@pytest.mark.parametrize("reference", ["no-such-branch", "--upload-pack=x"])
def test_a_version_that_there_is_not(repository: Path, reference: str) -> None:
    with (
        pytest.raises(VersionError, match="no version .*a Python interpreter or a git revision"),
        opened_version(reference),
    ):
        pass


def test_folders_and_interpreters_are_versions(repository: Path) -> None:
    with opened_version(str(repository)) as found:
        assert (found.folder, found.python) == (repository.resolve(), sys.executable)
        assert found.commit == git(repository, "rev-parse", "HEAD")[:12]
    (repository / "crisp_ros" / "number").write_text("changed")
    assert commit_of(repository).endswith("+")
    assert commit_of(repository / "crisp_ros") == ""
    with opened_version(sys.executable) as found:
        assert (found.folder, found.python) == (None, sys.executable)


def test_this_version_answers_every_request(tmp_path: Path) -> None:
    """The worker works with the package as it is."""
    settings = ComparisonSettings(
        write_tiny_model(tmp_path), RECORDING, objects=2, frames=2, rounds=1, starts=1
    )
    report = compare_versions([this_version()], settings)
    assert isinstance(report, VersionReport)
    rows = {row.name: row.samples[0] for row in report.rows}
    assert rows["frame"].median > rows["frame: network"].median > 0
    assert rows["shape field, 5 x 1000 points"].median > 0
    (about,) = report.about
    assert about["model_file"] == "model.safetensors" and about["objects"] == 4
    assert about["precision"] in ("float32", "bfloat16")

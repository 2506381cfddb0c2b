"""Comparison of versions: the same frames alternately, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from crisp_ros.benchmark.compared_version import Version, VersionError, version_environment
from crisp_ros.benchmark.node_runs import NodeFrames, run_node
from crisp_ros.data.recording import Recording

_WORKER = Path(__file__).with_name("version_worker.py")
_FIELD_RUNS = 20


class Sample(NamedTuple):
    """Values of one quantity.

    Attributes:
        values: measured; none where the version has no such quantity.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median; NaN without values."""
        return float(np.median(self.values)) if self.values else float("nan")

    @property
    def p95(self) -> float:
        """The 95th percentile; NaN without values."""
        return float(np.quantile(self.values, 0.95)) if self.values else float("nan")

    def to_json(self) -> dict[str, Any] | None:
        """Median, percentile and number as JSON values."""
        if not self.values:
            return None
        return {"median": self.median, "p95": self.p95, "count": len(self.values)}


class Row(NamedTuple):
    """A quantity of all versions.

    Attributes:
        name: of the quantity.
        unit: of the values: ms, s or MB.
        samples: of each version.
    """

    name: str
    unit: str
    samples: tuple[Sample, ...]

    @property
    def ratio(self) -> float:
        """Median of the second version over that of the first; NaN where one is missing."""
        if len(self.samples) < 2 or not self.samples[0].median:
            return float("nan")
        return self.samples[1].median / self.samples[0].median


class VersionReport(NamedTuple):
    """Results of a comparison.

    Attributes:
        versions: the running one first.
        about: of each version: numbers of versions and models, and the certified objects.
        rows: the quantities.
    """

    versions: tuple[Version, ...]
    about: tuple[dict[str, Any], ...]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        named = zip(self.versions, self.about, strict=True)
        return {
            "versions": [{"name": v.name, "commit": v.commit, **about} for v, about in named],
            "rows": [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "values": [sample.to_json() for sample in row.samples],
                    "ratio": None if np.isnan(row.ratio) else row.ratio,
                }
                for row in self.rows
            ],
        }


class ComparisonSettings(NamedTuple):
    """Size of a comparison.

    Attributes:
        checkpoint: model file of all versions; None leaves each its own.
        recording: that the frames are from.
        device: where everything runs.
        objects: of a frame, the largest ones.
        frames: of the recording at most.
        rounds: passes over the frames; none with 0, for the start alone.
        starts: configurations with an empty cache, and as many with a full one.
        node_runs: of each version's node; none with 0.
        node_frames: of the recording in each of these, all objects of them.
        node_rate_hz: at which they are sent, slower than the node works.
    """

    checkpoint: Path | None
    recording: Path
    device: str = "cpu"
    objects: int = 5
    frames: int = 40
    rounds: int = 2
    starts: int = 2
    node_runs: int = 0
    node_frames: int = 40
    node_rate_hz: float = 1.0

    def quick(self) -> ComparisonSettings:
        """Less of everything, within a minute."""
        small = self._replace(frames=8, rounds=min(1, self.rounds), starts=1)
        return small._replace(node_runs=min(1, self.node_runs), node_frames=8)

    @property
    def runs(self) -> int:
        """The number of steps that `compare_versions` counts; a recording may have fewer frames."""
        frames = (self.rounds > 0) * (_FIELD_RUNS + (self.rounds + 1) * self.frames)
        return 2 * self.starts + frames + self.node_runs


def compare_versions(
    versions: Sequence[Version],
    settings: ComparisonSettings,
    on_run: Callable[[int, int], None] = lambda done, total: None,
) -> VersionReport:
    """Measure versions alternately, each in its own process; while one runs, the others wait.

    Every start is a new process. In every second step the versions run in reverse order, so that
    none is always the one that finds the processor's cache cold. The first pass over the frames is
    not counted.

    Args:
        versions: one or two.
        settings: see `ComparisonSettings`.
        on_run: called with the number of finished steps and of all steps.

    Raises:
        VersionError: a version fails.
    """
    measured = _Measured(len(versions))
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        on_run(done, settings.runs)

    with ExitStack() as stack:
        for start in range(settings.starts):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crisp_bench_")))
            for cache in ("empty", "full"):
                last = (start, cache) == (settings.starts - 1, "full")
                workers = []
                for i, version in enumerate(versions):
                    workers.append(_Worker(version, folder / str(i)))
                    stack.callback(workers[i].close)
                    _configure(i, workers[i], settings, cache, measured)
                step()
                if not last:
                    for worker in workers:
                        worker.close()
        if settings.rounds > 0:
            _run_frames(workers, settings, measured, step)
        for worker in workers:
            worker.close()
        _run_nodes(
            versions, [folder / str(i) for i in range(len(versions))], settings, measured, step
        )
    return VersionReport(tuple(versions), tuple(measured.about), measured.rows())


class _Measured:
    """Values of the rows as they come, by name, unit and version."""

    def __init__(self, versions: int) -> None:
        self._values: dict[tuple[str, str], list[list[float]]] = {}
        self.about: list[dict[str, Any]] = [{} for _ in range(versions)]

    def add(self, name: str, unit: str, version: int, value: float) -> None:
        empty: list[list[float]] = [[] for _ in self.about]
        self._values.setdefault((name, unit), empty)[version].append(value)

    def rows(self) -> tuple[Row, ...]:
        return tuple(
            Row(name, unit, tuple(Sample(tuple(part)) for part in values))
            for (name, unit), values in self._values.items()
        )


class _Worker:
    """The process of a version."""

    def __init__(self, version: Version, cache: Path) -> None:
        cache.mkdir(exist_ok=True)
        self._version = version
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [version.python, "-c", _WORKER.read_text()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=cache,  # which has no package of that name
            env=version_environment(version, cache),
            text=True,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The answer to a request of `version_worker`."""
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise VersionError(f"{self._version.name} cannot be measured: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process; more than once does no harm."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # it has ended by itself
                pipe.close()
        self._process.wait()
        self._errors.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        status = f"it ended with status {self._process.returncode}"
        return f"{status}: {lines[-1]}" if lines else status


def _configure(
    number: int, worker: _Worker, settings: ComparisonSettings, cache: str, measured: _Measured
) -> None:
    """Take a model into use in the process of a version."""
    checkpoint = None if settings.checkpoint is None else str(settings.checkpoint.resolve())
    threads = torch.get_num_threads()
    answer = worker.ask("configure", checkpoint=checkpoint, device=settings.device, threads=threads)
    name = f"configuration, {cache} cache"
    measured.add(name, "s", number, answer.pop("wall_ms") / 1e3)
    measured.add(f"{name}, processor", "s", number, answer.pop("cpu_ms") / 1e3)
    memory = answer.pop("memory_mb")
    if cache == "full":
        measured.add("memory of the model in use", "MB", number, memory)
    measured.about[number].update(answer)


def _run_frames(
    workers: Sequence[_Worker],
    settings: ComparisonSettings,
    measured: _Measured,
    step: Callable[[], None],
) -> None:
    """Evaluate the shape field, then process the frames of the recording, alternately."""
    numbered = list(enumerate(workers))
    for run in range(_FIELD_RUNS):
        for i, worker in numbered[:: 1 if run % 2 else -1]:
            answer = worker.ask("field")
            if run > 0:
                measured.add("shape field, 5 x 1000 points", "ms", i, answer["wall_ms"])
        step()
    recording = str(settings.recording.resolve())
    size = {"recording": recording, "objects": settings.objects, "count": settings.frames}
    count = min(worker.ask("frames", **size)["count"] for worker in workers)
    totals = [dict.fromkeys(("objects", "certified"), 0) for _ in workers]
    for run in range((settings.rounds + 1) * count):
        for i, worker in numbered[:: 1 if run % 2 else -1]:
            answer = worker.ask("frame", index=run % count)
            if run < count:
                continue
            measured.add("frame", "ms", i, answer["wall_ms"])
            measured.add("frame, processor", "ms", i, answer["cpu_ms"])
            for name, value in answer["stage_ms"].items():
                measured.add(f"frame: {name}", "ms", i, value)
            for name in totals[i]:
                totals[i][name] += answer[name]
        step()
    for about, total in zip(measured.about, totals, strict=True):
        about.update(total)


def _run_nodes(
    versions: Sequence[Version],
    caches: Sequence[Path],
    settings: ComparisonSettings,
    measured: _Measured,
    step: Callable[[], None],
) -> None:
    """Send frames to the nodes of the versions, alternately."""
    if settings.node_runs == 0:
        return
    first = next(Recording(settings.recording).frames())
    row = f"node, {len(np.unique(first.labels[first.labels > 0]))} objects"
    frames = NodeFrames(settings.recording, settings.node_frames, settings.node_rate_hz)
    numbered = list(enumerate(zip(versions, caches, strict=True)))
    for run in range(settings.node_runs):
        for i, (version, cache) in numbered[:: 1 if run % 2 else -1]:
            for answer in run_node(version, cache, frames):
                measured.add(row, "ms", i, answer.transforms)
                measured.add(f"{row}: estimator", "ms", i, answer.estimator)
        step()

"""Speed of every stage and of the baselines, measured in one run."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crisp_ros.benchmark.field_tasks import field_tasks
from crisp_ros.benchmark.frame_task import FrameAnswer, frame_task
from crisp_ros.benchmark.solver_accuracy import Comparison, comparisons
from crisp_ros.benchmark.solver_tasks import (
    BenchSettings,
    network_tasks,
    problems,
    required_library,
    solver_tasks,
)
from crisp_ros.benchmark.stopwatch import DeviceUse, Timing, device_use, timed
from crisp_ros.benchmark.version_comparison import VersionReport
from crisp_ros.correction.tabulated_field import TabulatedField
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.network.model import build_network
from crisp_ros.network.precision import in_fast_layout
from crisp_ros.pipeline.versions import model_version

FRAME_LIMIT_MS = 1000.0  # required for five objects on two cores
_RANDOM_SHAPES = 21  # in the library of a network with random weights


@dataclass(frozen=True)
class BenchReport:
    """Results of the benchmark.

    Attributes:
        timings: in the order of the pipeline, each baseline next to its counterpart.
        comparisons: with the baselines; none for random weights.
        frame_stages: median time of each stage of a frame, milliseconds.
        device_use: of a frame on a GPU; None on a CPU.
        process_peak_mb: peak memory of the process, 2^20 bytes.
        settings: of the run.
        network: name of the network design.
        random_weights: whether the network has random weights.
        model_version: of the model; empty for random weights.
        versions: starts and memory, and the comparison with another version; None if not measured.
    """

    timings: dict[str, Timing]
    comparisons: list[Comparison]
    frame_stages: dict[str, float]
    device_use: DeviceUse | None
    process_peak_mb: float
    settings: BenchSettings
    network: str
    random_weights: bool
    model_version: str = ""
    versions: VersionReport | None = None

    @property
    def holds(self) -> bool:
        """Whether all comparisons hold."""
        return all(comparison.holds for comparison in self.comparisons)

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        frames = [a for a in self.timings["frame"].answers.values()]
        return {
            "network": self.network,
            "model_version": self.model_version,
            "random_weights": self.random_weights,
            "settings": asdict(self.settings),
            "stages": [timing.to_json() for timing in self.timings.values()],
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "frame_limit_ms": FRAME_LIMIT_MS,
            "frame_stages_median_ms": self.frame_stages,
            "frame_objects": [a.objects for a in frames],
            "frame_certified": [a.certified for a in frames],
            "frame_meshes_made": [a.meshes for a in frames],
            "frame_on_device": asdict(self.device_use) if self.device_use else None,
            "process_peak_memory_mb": self.process_peak_mb,
            "versions": None if self.versions is None else self.versions.to_json(),
        }


def run_bench(
    model: Model,
    recording: Path,
    settings: BenchSettings | None = None,
    device: str = "cpu",
    on_run: Callable[[int, int], None] = lambda done, total: None,
) -> BenchReport:
    """Time all stages of a model and the baselines on the same inputs, alternately.

    Args:
        model: on the CPU.
        recording: shows at least as many objects as `settings` requires.
        settings: see `BenchSettings`.
        device: on which everything runs.
        on_run: called with the number of finished runs and of all runs.

    Raises:
        BenchError: the model has no shape library.
        ViewError: the decoder shows no surface of a library shape.
        RecordingError: the recording cannot be read, or shows fewer objects.
    """
    settings = settings or BenchSettings()
    required_library(model)
    given = problems(model, settings, device)
    model = _on(model, device)
    field = TabulatedField(model.network.decoder, required_library(model))
    field.prepare()
    tasks = [
        *network_tasks(model, settings, device),
        *field_tasks(model, field.for_library(), given, settings, device),
        *solver_tasks(model, field, given, settings, device),
        _frames(model, recording, settings, device),
    ]
    timings = timed(tasks, on_run)
    library = required_library(model)
    found = comparisons(timings, given, model.network.decoder, library, settings)
    return _report(model, timings, found, settings, device, random_weights=False)


def run_random_bench(
    name: str,
    recording: Path,
    settings: BenchSettings | None = None,
    device: str = "cpu",
    on_run: Callable[[int, int], None] = lambda done, total: None,
) -> BenchReport:
    """Time the network and a frame with random weights and a library of random codes.

    The estimates mean nothing, and the corrector needs the most iterations; there is nothing to
    compare. The other arguments are those of `run_bench`.

    Args:
        name: of the network design.

    Raises:
        ValueError: no network design has this name.
        RecordingError: the recording cannot be read, or shows fewer objects.
    """
    settings = settings or BenchSettings()
    torch.manual_seed(settings.seed)
    network = build_network(name).eval().requires_grad_(False)
    codes = torch.randn(_RANDOM_SHAPES, network.decoder.code_dim)
    half = torch.full((_RANDOM_SHAPES, 3), 0.06)
    names = tuple(f"random {k}" for k in range(_RANDOM_SHAPES))
    model = _on(Model(network, ShapeLibrary(names, codes, -half, half), {}), device)
    tasks = [
        *network_tasks(model, settings, device),
        _frames(model, recording, settings, device),
    ]
    timings = timed(tasks, on_run)
    return _report(model, timings, [], settings, device, random_weights=True)


def _frames(model: Model, recording: Path, settings: BenchSettings, device: str) -> Any:
    frames = 8 if settings.quick else 40
    size = settings.objects, frames, device, frames
    return frame_task(model, recording, *size, settings.precision)


def _on(model: Model, device: str) -> Model:
    library = model.library.to(device) if model.library is not None else None
    network = model.network.to(device).eval().requires_grad_(False)
    return Model(in_fast_layout(network), library, model.header)


def _report(
    model: Model,
    timings: dict[str, Timing],
    found: list[Comparison],
    settings: BenchSettings,
    device: str,
    random_weights: bool,
) -> BenchReport:
    frame = timings["frame"]
    answers: list[FrameAnswer] = list(frame.answers.values())
    stages = {
        name: float(np.median([answer.stage_ms[name] for answer in answers]))
        for name in answers[0].stage_ms
    }
    return BenchReport(
        timings,
        found,
        stages,
        device_use(lambda: frame.task.run(0), device),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        settings,
        model.network.config.design,
        random_weights,
        "" if random_weights else model_version(model),
    )

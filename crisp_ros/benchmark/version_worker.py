"""One version's side of a comparison: answers requests, a line of JSON each, until its input ends.

`version_comparison` runs the text of this file in the process of another version of the package. So
it uses only what all of them have, and does without what some of them lack.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

_SHAPES, _POINTS = 5, 1000  # of an evaluation of the shape field


class Worker:
    """State of a version between requests: its model, estimator and frames."""

    def __init__(self) -> None:
        self._torch = importlib.import_module("torch")
        self._device = "cpu"

    def answer(self, do: str, **request: Any) -> dict[str, Any]:
        """Answer one request, named after a method."""
        return getattr(self, do)(**request)

    def configure(self, checkpoint: str | None, device: str, threads: int) -> dict[str, Any]:
        """Load a model and warm an estimator up, as the node does at configuration."""
        self._torch.set_num_threads(threads)
        self._device = device
        pipeline = _module("pipeline")
        checkpoints = _module("network.checkpoint")
        share = _module("share")
        path = share.checkpoint_path(Path(checkpoint) if checkpoint else None)
        before = self._memory_mb()
        with _Watch(self._synchronize) as watch:
            self._model = checkpoints.load_model(path)
            names = {field.name for field in fields(pipeline.EstimatorSettings)}
            chosen = {"precision": "auto"} if "precision" in names else {}
            settings = pipeline.EstimatorSettings(**chosen)
            self._estimator = pipeline.Estimator(self._model, settings, device)
            self._estimator.warm_up()
        gc.collect()
        return {
            **watch.times(),
            "memory_mb": self._memory_mb() - before,
            "version": importlib.import_module("crisp_ros").__version__,
            "model_file": path.name,
            "model_version": self._estimator.model_version,
            "precision": getattr(self._estimator.settings, "precision", "float32"),
        }

    def frames(self, recording: str, objects: int, count: int) -> dict[str, Any]:
        """Read the frames of a recording; the answer has their number."""
        module = _module("benchmark.frame_task")
        task = module.frame_task(self._model, Path(recording), objects, count, self._device, count)
        self._run_frame = task.run
        return {"count": task.inputs}

    def frame(self, index: int) -> dict[str, Any]:
        """Process a frame: estimates, tracks and meshes."""
        with _Watch(self._synchronize) as watch:
            result = self._run_frame(index)
        stages = {name: float(ms) for name, ms in result.stage_ms.items()}
        found = {"objects": result.objects, "certified": result.certified}
        return {**watch.times(), **found, "stage_ms": stages}

    def field(self) -> dict[str, Any]:
        """Evaluate signed distances and gradients of library shapes once."""
        with self._torch.no_grad(), _Watch(self._synchronize) as watch:
            self._evaluation()()
        return watch.times()

    def _evaluation(self) -> Callable[[], Any]:
        if not hasattr(self, "_evaluate"):
            torch, library = self._torch, self._estimator.library
            index = torch.arange(min(_SHAPES, len(library.codes)), device=library.codes.device)
            generator = torch.Generator().manual_seed(0)
            share = torch.rand(len(index), _POINTS, 3, generator=generator).to(library.codes)
            lower, upper = (part[index][:, None] for part in (library.lower, library.upper))
            points = lower + share * (upper - lower)
            prepared = getattr(self._estimator, "prepared_library", None)
            if hasattr(self._estimator, "field") and hasattr(prepared, "shapes"):
                field, shapes = self._estimator.field, prepared.shapes(index)
            else:
                field, shapes = self._estimator.decoder, library.codes[index]
            self._evaluate = lambda: field.sdf_and_gradient(points, shapes)
        return self._evaluate

    def _synchronize(self) -> None:
        if self._device != "cpu":
            self._torch.cuda.synchronize(self._device)

    def _memory_mb(self) -> float:
        """Memory of the process or, on a GPU, of its tensors there."""
        if self._device != "cpu":
            return self._torch.cuda.memory_allocated(self._device) / 2**20
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class _Watch:
    """Wall time and processor time of a block, milliseconds."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize

    def __enter__(self) -> _Watch:
        self._synchronize()
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._synchronize()
        self._end = time.perf_counter(), time.process_time()

    def times(self) -> dict[str, float]:
        wall, cpu = (1e3 * (b - a) for a, b in zip(self._start, self._end, strict=True))
        return {"wall_ms": wall, "cpu_ms": cpu}


def _module(name: str) -> ModuleType:
    """A module of the version; another installation may not fill its gaps."""
    package = importlib.import_module("crisp_ros")
    module = importlib.import_module(f"crisp_ros.{name}")
    if Path(package.__file__).parent not in Path(module.__file__).parents:
        raise ModuleNotFoundError(f"this version has no module crisp_ros.{name}")
    return module


def main() -> None:
    """Answer the requests of the standard input on what was the standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(**json.loads(line))
        except Exception as error:  # whatever it is, the other side names it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

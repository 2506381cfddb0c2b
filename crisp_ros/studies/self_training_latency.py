"""The effect of self-training on the time of an estimate.

    python -m crisp_ros.studies.self_training_latency [--frames N] [--rate HZ] [--json FILE]

Frames of the bundled recording are estimated as in the node, while the self-training worker is
alternately stopped and running, for ten frames each. It learns at the node's default duty; the
guard checks candidates more often than by default, so that its checks are included.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from crisp_ros.adaptation.reference_set import load_reference, reference_path
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.adaptation.self_training_worker import SelfTrainingWorker, WorkerSettings
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.recording import Recording
from crisp_ros.evaluation.provenance import provenance
from crisp_ros.network.checkpoint import load_model
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator
from crisp_ros.share import bundled_recording, checkpoint_path

_BLOCK = 10  # consecutive frames with the worker running, or stopped
_WARM_UP = 5  # frames that are not counted
_STEPS_PER_CANDIDATE = 4


def measured(
    frames: list[Frame], count: int, period_s: float, device: str, threads: int
) -> dict[str, Any]:
    """Measure the times of the estimation with the worker stopped and running.

    Args:
        frames: of a recording, repeated as needed.
        count: number of estimates.
        period_s: of the frames; a frame waits until the one before is done.
        device: of the estimator.
        threads: of the estimation; 0 for one per core.

    Returns:
        JSON values.
    """
    set_own_cpu_threads(threads)  # as in the node's estimation thread
    path = checkpoint_path()
    model = load_model(path, device)
    estimator = Estimator(model, device=device)
    estimator.warm_up()
    learning = SelfTrainingSettings(steps_per_candidate=_STEPS_PER_CANDIDATE)
    worker = SelfTrainingWorker(
        estimator, load_reference(reference_path(path), model), WorkerSettings(learning)
    )
    times_ms: dict[bool, list[float]] = {False: [], True: []}
    memory_mb: list[float] = []
    for number in range(-_WARM_UP, count):
        running = (number // _BLOCK) % 2 == 1
        (worker.start if running else worker.stop)()
        pair, place = divmod(number, 2 * _BLOCK)  # the same frames with and without
        frame = frames[(pair * _BLOCK + place % _BLOCK) % len(frames)]
        start = time.perf_counter()
        with worker.estimating() if running else contextlib.nullcontext():
            trace = estimator.trace(frame)
        spent = time.perf_counter() - start
        if number >= 0:
            times_ms[running].append(1e3 * spent)
        if running:
            worker.offer(trace, {e.label: str(e.label) for e in trace.estimate.objects})
        memory_mb.append(_resident_mb())
        time.sleep(max(period_s - spent, 0.0))
    worker.stop()
    if worker.error:
        raise SystemExit(f"the worker ended: {worker.error}")
    return {**_summary(times_ms), **_worker_figures(worker), "resident_mb": _memory(memory_mb)}


def _summary(times_ms: dict[bool, list[float]]) -> dict[str, Any]:
    rows: dict[str, dict[str, float]] = {}
    for name, running in (("off", False), ("on", True)):
        median, p95 = np.percentile(times_ms[running], (50, 95)).tolist()
        rows[name] = {"frames": len(times_ms[running]), "median_ms": median, "p95_ms": p95}
    return {**rows, "p95_ratio": rows["on"]["p95_ms"] / rows["off"]["p95_ms"]}


def _worker_figures(worker: SelfTrainingWorker) -> dict[str, Any]:
    status = worker.status
    return {
        "steps": status.steps,
        "checks": status.swaps + status.refused,
        "max_duty": worker.settings.max_duty,
        "threads": torch.get_num_threads(),
        "learning_threads": worker.settings.threads,
        "samples_mb": status.nbytes / 1e6,
    }


def _memory(memory_mb: list[float]) -> dict[str, float]:
    return {"after_warm_up": memory_mb[_WARM_UP], "end": memory_mb[-1], "most": max(memory_mb)}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=160, help=f"at least {2 * _BLOCK}")
    parser.add_argument("--rate", type=float, default=1.5, help="frames a second, at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the estimation; 0: one per core")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.frames < 2 * _BLOCK:
        parser.error(f"--frames {args.frames}: expected at least {2 * _BLOCK}")
    frames = [Frame.from_recorded(frame) for frame in Recording(bundled_recording()).frames()]
    figures = measured(frames, args.frames, 1.0 / args.rate, args.device, args.threads)
    console = Console(highlight=False)
    for name in ("off", "on"):
        row = figures[name]
        console.print(
            f"{name:4} {row['frames']} frames, median {row['median_ms']:.0f} ms, "
            f"p95 {row['p95_ms']:.0f} ms"
        )
    console.print(
        f"p95 on / off {figures['p95_ratio']:.2f}; {figures['steps']} steps, "
        f"{figures['checks']} checks of the guard"
    )
    if args.json:
        command = " ".join(["python -m crisp_ros.studies.self_training_latency", *sys.argv[1:]])
        write_json(args.json, {**figures, **provenance(command, args.device)})


if __name__ == "__main__":
    main()

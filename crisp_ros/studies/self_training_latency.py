"""Effect of self-training on the time that a frame takes.

    python -m crisp_ros.studies.self_training_latency [--frames N] [--rate HZ] [--json FILE]

Frames of the bundled recording are estimated one after the other, as the node does it, while the
self-training worker is stopped and runs in turn, for ten frames each. It learns at the node's
default duty; the guard is asked more often than by default, so that its checks count.
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
from crisp_ros.share import checkpoint_path, share_directory

_BLOCK = 10  # frames in a row with the worker on, or off
_WARM_UP = 5  # frames that are not counted
_STEPS_PER_CANDIDATE = 4


def measured(
    frames: list[Frame], count: int, period_s: float, device: str, threads: int
) -> dict[str, Any]:
    """Figures of so many frames that come every `period_s`, or when the one before is done."""
    set_own_cpu_threads(threads)  # as the node's estimation does in its thread
    path = checkpoint_path(None)
    model = load_model(path, device)
    estimator = Estimator(model, device=device)
    estimator.warm_up()
    learning = SelfTrainingSettings(steps_per_candidate=_STEPS_PER_CANDIDATE)
    worker = SelfTrainingWorker(
        estimator, load_reference(reference_path(path), model), WorkerSettings(learning)
    )
    took: dict[bool, list[float]] = {False: [], True: []}
    memory: list[float] = []
    for number in range(-_WARM_UP, count):
        on = (number // _BLOCK) % 2 == 1
        (worker.start if on else worker.stop)()
        pair, place = divmod(number, 2 * _BLOCK)  # the same frames with and without
        frame = frames[(pair * _BLOCK + place % _BLOCK) % len(frames)]
        start = time.perf_counter()
        with worker.estimating() if on else contextlib.nullcontext():
            trace = estimator.trace(frame)
        spent = time.perf_counter() - start
        if number >= 0:
            took[on].append(1e3 * spent)
        if on:
            worker.offer(trace, {e.label: str(e.label) for e in trace.estimate.objects})
        memory.append(_resident_mb())
        time.sleep(max(period_s - spent, 0.0))
    worker.stop()
    status = worker.status
    if worker.error:
        raise SystemExit(f"the worker ended: {worker.error}")
    percentiles = {
        name: dict(zip(("median_ms", "p95_ms"), np.percentile(took[on], (50, 95)), strict=True))
        for name, on in (("off", False), ("on", True))
    }
    return {
        **{name: {"frames": len(took[name == "on"]), **p} for name, p in percentiles.items()},
        "p95_ratio": percentiles["on"]["p95_ms"] / percentiles["off"]["p95_ms"],
        "steps": status.steps,
        "checks": status.swaps + status.refused,
        "max_duty": worker.settings.max_duty,
        "threads": torch.get_num_threads(),
        "learning_threads": worker.settings.threads,
        "samples_mb": status.nbytes / 1e6,
        "resident_mb": {"after_warm_up": memory[_WARM_UP], "end": memory[-1], "most": max(memory)},
    }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=160, help=f"at least {2 * _BLOCK}")
    parser.add_argument("--rate", type=float, default=1.5, help="frames a second, at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the estimation; 0: one a core")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.frames < 2 * _BLOCK:
        parser.error(f"--frames {args.frames}: expected at least {2 * _BLOCK}")
    bags = sorted((share_directory() / "recordings").rglob("*.mcap"))
    frames = [Frame.from_recorded(frame) for frame in Recording(bags[0].parent).frames()]
    figures = measured(frames, args.frames, 1.0 / args.rate, args.device, args.threads)
    for name in ("off", "on"):
        row = figures[name]
        print(
            f"{name:4} {row['frames']} frames, median {row['median_ms']:.0f} ms, "
            f"p95 {row['p95_ms']:.0f} ms"
        )
    print(
        f"p95 on / off {figures['p95_ratio']:.2f}; {figures['steps']} steps, "
        f"{figures['checks']} checks of the guard"
    )
    if args.json:
        command = " ".join(["python -m crisp_ros.studies.self_training_latency", *sys.argv[1:]])
        write_json(args.json, {**figures, **provenance(command, args.device)})


if __name__ == "__main__":
    main()

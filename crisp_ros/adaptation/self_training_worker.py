"""Self-training during estimation, in a thread with low priority and limited time."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from crisp_ros.adaptation.reference_set import ReferenceSet
from crisp_ros.adaptation.samples import samples_of
from crisp_ros.adaptation.self_trainer import SelfTrainer, SelfTrainingSettings, Status
from crisp_ros.network.cpu_threads import set_own_cpu_threads
from crisp_ros.pipeline import Estimator, Solution, Trace

_NICENESS = 10
_PENDING_FRAMES = 4

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of `SelfTrainingWorker`.

    Attributes:
        self_training: settings of the training.
        max_duty: maximum share of the time in which the thread works.
        threads: number of CPU threads of its tensor operations. Threads that start later inherit
            this number unless they set their own (`set_own_cpu_threads`).
        patience_s: maximum time for which it waits for an estimation, seconds.
    """

    self_training: SelfTrainingSettings = field(default_factory=SelfTrainingSettings)
    max_duty: float = 0.25
    threads: int = 1
    patience_s: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.max_duty <= 1.0 or self.threads < 1 or self.patience_s < 0.0:
            raise ValueError(
                f"max_duty {self.max_duty}, threads {self.threads}, patience_s {self.patience_s}: "
                "expected a share in (0, 1], at least 1 and at least 0"
            )


class _PendingFrame(NamedTuple):
    """The objects of a frame that are not yet samples.

    Attributes:
        solutions: of the estimator.
        keys: of the samples by label.
        version: of the heads that predicted them.
    """

    solutions: tuple[Solution, ...]
    keys: Mapping[int, str]
    version: str


class SelfTrainingWorker:
    """Learns from the traces of an estimator in a thread and gives it the accepted heads.

    The thread has its own copy of the heads, its own number of CPU threads, a low priority and, on
    a GPU, its own stream. It waits for a running estimation before it works.
    """

    def __init__(
        self, estimator: Estimator, reference: ReferenceSet, settings: WorkerSettings | None = None
    ) -> None:
        """Prepare the training; `start` starts the thread.

        Raises:
            ValueError: the estimator's model has no shape library, or normalised shapes.
        """
        if estimator.model.library is None:
            raise ValueError("self-training needs a model with a shape library")
        if estimator.model.network.has_normalised_shapes:
            raise ValueError("self-training needs a model of metric shapes, not normalised ones")
        self._estimator = estimator
        self.settings = settings or WorkerSettings()
        self._device = estimator.device
        self._trainer = SelfTrainer(
            estimator.model,
            reference,
            self.settings.self_training,
            estimator.device,
            estimator.adopt,
            estimator.field,
        )
        self._lock = threading.Lock()  # of the trainer
        self._pending: deque[_PendingFrame] = deque(maxlen=_PENDING_FRAMES)
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._status = self._trainer.status
        self._error = ""

    @property
    def status(self) -> Status:
        """The current progress; does not block."""
        return self._status

    @property
    def solver(self) -> str:
        """The solvers of pose and shape that pseudo-labels come from, those of the estimates."""
        corrector = self._estimator.settings.corrector
        if corrector is None:
            return "none: the network's own answers"
        pose = {"gradient": "gradient steps", "second_order": "second order"}[corrector.solver]
        shape = {
            "none": "the network's",
            "projected_gradient": "projected gradient (Algorithm 1)",
            "lsq": "least squares on the library (Algorithm 2)",
        }[corrector.shape]
        return f"pose: {pose}; shape: {shape}"

    @property
    def error(self) -> str:
        """The error that ended the thread, "" if there is none."""
        return self._error

    def start(self) -> None:
        """Start the thread, unless it runs already."""
        if self._thread is None:
            self._stopping, self._error = False, ""
            self._thread = threading.Thread(target=self._run, name="self-training", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread after its current part of the work; the heads are kept."""
        thread, self._stopping = self._thread, True
        if thread is not None:
            self._wake.set()
            self._idle.set()
            thread.join()
            self._thread = None

    @contextlib.contextmanager
    def estimating(self):
        """Pause the thread while the context is open, for at most `patience_s`."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def offer(self, trace: Trace, keys: Mapping[int, str]) -> None:
        """Pass a frame to the thread without processing it.

        Args:
            trace: of the frame, from the estimator.
            keys: identify each object in all frames, by label.
        """
        version = trace.estimate.model_version
        self._pending.append(_PendingFrame(trace.solutions, dict(keys), version))
        self._wake.set()

    def roll_back(self, reason: str = "asked for") -> tuple[bool, str]:
        """Restore the heads before the latest swap.

        Returns:
            Whether there were any, and the version in use afterwards.
        """
        return self._locked(lambda: (self._trainer.roll_back(reason), self._trainer.status.version))

    def save(self, path_of: Callable[[str], Path]) -> tuple[Path, str]:
        """Write a model file with the heads in use and a file of samples.

        Args:
            path_of: returns the path of the model file for a version. If it raises an error,
                nothing is written.

        Returns:
            The model file and the version.

        Raises:
            OSError: a file cannot be written.
        """

        def save() -> tuple[Path, str]:
            path = path_of(self._trainer.status.version)
            return path, self._trainer.save(path)

        return self._locked(save)

    def restore_samples(self, path: Path) -> str:
        """Load a file of samples; return the error, "" on success."""
        return self._locked(lambda: self._trainer.restore_samples(path))

    def _locked(self, act: Callable[[], Result]) -> Result:
        with self._lock:
            result = act()
            self._status = self._trainer.status
        return result

    def _run(self) -> None:
        try:
            with self._own_resources():
                while not self._stopping:
                    self._idle.wait(self.settings.patience_s)
                    start = time.perf_counter()  # waiting does not count as work
                    worked = self._work()
                    if worked:
                        spent = time.perf_counter() - start
                        self._sleep(spent * (1.0 / self.settings.max_duty - 1.0))
                    else:
                        self._wake.wait()
                        self._wake.clear()
        except Exception as error:  # the node continues without self-training
            self._error = f"{type(error).__name__}: {error}"
            _log.exception("self-training ended")

    def _work(self) -> bool:
        """Do a part of the work; return False if there is none."""
        try:
            frame = self._pending.popleft()
        except IndexError:
            frame = None
        with self._lock:
            if frame is not None:
                samples = samples_of(frame.solutions, frame.keys)
                self._trainer.observe(samples, frame.version)
                worked = True
            else:
                worked = self._trainer.work()
            self._status = self._trainer.status
        return worked

    def _sleep(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while not self._stopping and (left := end - time.perf_counter()) > 0:
            time.sleep(min(left, 0.1))

    @contextlib.contextmanager
    def _own_resources(self):
        """Set the CPU threads, priority and stream of this thread."""
        before = torch.get_num_threads()
        set_own_cpu_threads(self.settings.threads)
        # Priorities of single threads exist on Linux only.
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        stream = contextlib.nullcontext()
        if self._device.type == "cuda":
            stream = torch.cuda.stream(torch.cuda.Stream(self._device))
        try:
            with stream:
                yield
        finally:
            torch.set_num_threads(before)  # threads that start later inherit this

"""Self-training during estimation: a thread of low priority with a limited share of time."""

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
_WAITING_FRAMES = 4

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of `SelfTrainingWorker`.

    Attributes:
        self_training: what is learned.
        max_duty: largest share of the time that the thread works; the rest it sleeps.
        threads: CPU threads of its tensor operations. While it runs, threads that begin take this
            over unless they set their own (`set_own_cpu_threads`).
        patience_s: how long it lets an estimation go first, seconds.
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


class _Seen(NamedTuple):
    """The objects of a frame that wait to be looked at; keys by label."""

    solutions: tuple[Solution, ...]
    keys: Mapping[int, str]
    version: str


class SelfTrainingWorker:
    """Learns from an estimator's traces in a thread and hands the estimator what the guard accepts.

    The thread has its own copy of the heads, its own number of CPU threads, a low priority and, on
    a GPU, its own stream. It never works longer than `max_duty` allows, and lets an estimation that
    is under way finish first.
    """

    def __init__(
        self, estimator: Estimator, reference: ReferenceSet, settings: WorkerSettings | None = None
    ) -> None:
        """Do not start the thread yet.

        Raises:
            ValueError: the estimator's model has no shape library.
        """
        if estimator.model.library is None:
            raise ValueError("self-training needs a model with a shape library")
        self.settings = settings or WorkerSettings()
        self._device = estimator.device
        self._trainer = SelfTrainer(
            estimator.model,
            reference,
            self.settings.self_training,
            estimator.device,
            estimator.adopt,
        )
        self._lock = threading.Lock()  # of the trainer
        self._seen: deque[_Seen] = deque(maxlen=_WAITING_FRAMES)
        self._wake = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._status = self._trainer.status
        self._error = ""

    @property
    def status(self) -> Status:
        """The progress so far; never blocks."""
        return self._status

    @property
    def error(self) -> str:
        """Why the thread ended by itself since it was started; "" where it did not."""
        return self._error

    def start(self) -> None:
        """Start the thread; nothing where it runs already."""
        if self._thread is None:
            self._stopping, self._error = False, ""
            self._thread = threading.Thread(target=self._run, name="self-training", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread after what it works on now; what was learned stays."""
        thread, self._stopping = self._thread, True
        if thread is not None:
            self._wake.set()
            self._idle.set()
            thread.join()
            self._thread = None

    @contextlib.contextmanager
    def estimating(self):
        """While the context is open the thread begins nothing, for `patience_s` at most."""
        self._idle.clear()
        try:
            yield
        finally:
            self._idle.set()

    def offer(self, trace: Trace, keys: Mapping[int, str]) -> None:
        """Show a frame to the thread; costs nothing here.

        Args:
            trace: of the frame, from the estimator.
            keys: what names each object over time, by label.
        """
        self._seen.append(_Seen(trace.solutions, dict(keys), trace.estimate.model_version))
        self._wake.set()

    def roll_back(self, reason: str = "asked for") -> tuple[bool, str]:
        """Go back to the heads before the latest swap.

        Returns:
            Whether there was one, and the version then in use.
        """
        return self._locked(lambda: (self._trainer.roll_back(reason), self._trainer.status.version))

    def save(self, path_of: Callable[[str], Path]) -> tuple[Path, str]:
        """Write the heads in use as a model file, and the samples next to it.

        Args:
            path_of: the file, given the version of these heads; may raise, then nothing is written.

        Returns:
            The file and the version.

        Raises:
            OSError: a file cannot be written.
        """

        def save() -> tuple[Path, str]:
            path = path_of(self._trainer.status.version)
            return path, self._trainer.save(path)

        return self._locked(save)

    def restore_samples(self, path: Path) -> str:
        """Load saved samples; return why not, "" on success."""
        return self._locked(lambda: self._trainer.restore_samples(path))

    def _locked(self, act: Callable[[], Result]) -> Result:
        with self._lock:
            result = act()
            self._status = self._trainer.status
        return result

    def _run(self) -> None:
        try:
            with self._apart():
                while not self._stopping:
                    self._idle.wait(self.settings.patience_s)
                    start = time.perf_counter()  # what it waited is no work
                    worked = self._work()
                    if worked:
                        spent = time.perf_counter() - start
                        self._rest(spent * (1.0 / self.settings.max_duty - 1.0))
                    else:
                        self._wake.wait()
                        self._wake.clear()
        except Exception as error:  # the node goes on estimating, and says that it learns no more
            self._error = f"{type(error).__name__}: {error}"
            _log.exception("self-training ended")

    def _work(self) -> bool:
        """One piece of work; False where there is none."""
        try:
            seen = self._seen.popleft()
        except IndexError:
            seen = None
        with self._lock:
            if seen is not None:
                samples = samples_of(seen.solutions, seen.keys)
                self._trainer.observe(samples, seen.version)
                worked = True
            else:
                worked = self._trainer.work()
            self._status = self._trainer.status
        return worked

    def _rest(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while not self._stopping and (left := end - time.perf_counter()) > 0:
            time.sleep(min(left, 0.1))

    @contextlib.contextmanager
    def _apart(self):
        """This thread's own number of CPU threads, priority and stream."""
        before = torch.get_num_threads()
        set_own_cpu_threads(self.settings.threads)
        # On Linux the priority is the thread's; elsewhere it is left as it is.
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        stream = contextlib.nullcontext()
        if self._device.type == "cuda":
            stream = torch.cuda.stream(torch.cuda.Stream(self._device))
        try:
            with stream:
                yield
        finally:
            torch.set_num_threads(before)  # threads that begin later take this over

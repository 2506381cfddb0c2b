"""Self-training: guarded training steps on certified samples."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from crisp_ros.adaptation.buffer import (
    SampleBuffer,
    SampleFileError,
    load_samples,
    samples_path,
    save_samples,
)
from crisp_ros.adaptation.guard import LIMITS, Guard, Verdict
from crisp_ros.adaptation.head_versions import ShareWatch, Version, VersionHistory, WatchSettings
from crisp_ros.adaptation.learner import (
    Learner,
    LearnerSettings,
    Losses,
    Weights,
    learner_settings,
    run_all,
)
from crisp_ros.adaptation.reference_set import ReferenceSet, original_of
from crisp_ros.adaptation.samples import FeatureCache, Sample
from crisp_ros.adaptation.trained_model import trained_model
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.pipeline import model_version, original_version

_COUNTS = ("steps", "swaps", "halved", "refused", "rollbacks")
_MOST_KEYS = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelfTrainingSettings:
    """Settings of `SelfTrainer`.

    Attributes:
        learner: settings of a step; None for those of the network's design.
        watch: settings of the automatic rollback.
        buffer: maximum number of certified samples.
        held_back: maximum number of samples, certified or not, that are not trained on.
        held_back_every: every sample of an object with this distance is held back.
        replay: mean number of steps that use a certified sample. Without new samples there are no
            more steps.
        steps_per_candidate: number of steps between two checks by the guard.
        seed: of the choice of samples.
    """

    learner: LearnerSettings | None = None
    watch: WatchSettings = field(default_factory=WatchSettings)
    buffer: int = 50
    held_back: int = 48
    held_back_every: int = 5
    replay: float = 10.0
    steps_per_candidate: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.buffer, self.held_back, self.steps_per_candidate)
        if min(counts) < 1 or self.held_back_every < 2 or not self.replay > 0:
            raise ValueError(
                f"buffer, held_back, steps_per_candidate are {counts}, held_back_every "
                f"{self.held_back_every}, replay {self.replay}: expected at least 1, 1, 1, 2 and "
                "more than 0"
            )


class Status(NamedTuple):
    """Progress of self-training.

    Attributes:
        version: of the heads in use.
        steps: number of training steps.
        swaps: number of accepted candidates.
        halved: number of swaps to weights halfway to a refused candidate.
        refused: number of refused candidates.
        rollbacks: number of rollbacks.
        broken: number of refused candidates by the limit of `LIMITS` that they did not meet.
        buffered: number of samples in the buffer.
        held_back: number of held-back samples.
        nbytes: memory of samples and features, bytes.
        losses: of the latest step, None before the first one.
        verdict: the latest, None before the first one.
        event: the latest swap, refusal or rollback as text.
        share: certified share of the live estimates.
    """

    version: str
    steps: int
    swaps: int
    halved: int
    refused: int
    rollbacks: int
    broken: dict[str, int]
    buffered: int
    held_back: int
    nbytes: int
    losses: Losses | None
    verdict: Verdict | None
    event: str
    share: float


class SelfTrainer:
    """Learns from certified samples and publishes heads that the guard accepts.

    Not thread-safe. The model's network does not change: an estimator uses the published weights
    from its next frame on (`Estimator.adopt`).
    """

    def __init__(
        self,
        model: Model,
        reference: ReferenceSet,
        settings: SelfTrainingSettings,
        device: torch.device,
        publish: Callable[[Weights, str], None],
        field: ShapeField | None = None,
    ) -> None:
        """Copy the heads.

        Args:
            model: with a shape library, on the device.
            reference: of this model.
            settings: see `SelfTrainingSettings`.
            device: on which the heads are trained.
            publish: called with the weights and the name of the version after each swap and
                rollback.
            field: f_d, of an estimator of the model; None evaluates the decoder.
        """
        self.settings = settings
        self._model, self._device, self._publish = model, device, publish
        wanted = settings.learner or learner_settings(model.network.config.design)
        self._batch = wanted.batch
        self._learner, self._candidate, self._current = (
            Learner(model.network, wanted) for _ in range(3)
        )
        self._guard = Guard(model, reference, device, field)
        self._cache = FeatureCache(model.network, device)
        self._buffer = SampleBuffer(settings.buffer)
        self._held_back: deque[Sample] = deque(maxlen=settings.held_back)
        earlier = model.header.get("self_training", {})
        first = Version(model_version(model), self._current.weights)
        self._history = VersionHistory(
            first, original_version(model), int(earlier.get("number", 0))
        )
        self._watch = ShareWatch(settings.watch)
        self._rng = np.random.default_rng(settings.seed)
        self._seen: Counter[str] = Counter()  # samples by key
        self._credit, self._since_verdict = 0.0, 0
        self._job: Generator[None, None, None] | None = None
        # Like the version's number, of all runs since the original model.
        self._counts = Counter({name: int(earlier.get(name, 0)) for name in _COUNTS})
        self._counts.update(earlier.get("broken", {}))
        self._losses: Losses | None = None
        self._verdict: Verdict | None = None
        self._event = ""

    @property
    def status(self) -> Status:
        """The current progress."""
        count, buffer = self._counts, self._buffer
        return Status(
            self._history.current.name,
            *(count[name] for name in _COUNTS),
            {name: count[name] for name in LIMITS},
            len(buffer),
            len(self._held_back),
            buffer.nbytes + self._cache.nbytes,
            self._losses,
            self._verdict,
            self._event,
            self._watch.share,
        )

    @property
    def weights(self) -> Weights:
        """The weights of the heads in use."""
        return self._history.current.weights

    def observe(self, samples: Iterable[Sample], version: str) -> None:
        """Add the samples of a frame.

        Args:
            samples: of the frame.
            version: of the heads that predicted them.
        """
        learned_from = []
        for sample in samples:
            if version == self._history.current.name:
                self._watch.add(sample.certified)
            count = self._seen[sample.key]
            self._seen[sample.key] = count + 1
            if count % self.settings.held_back_every == self.settings.held_back_every - 1:
                self._held_back.append(sample)
            elif sample.certified:
                learned_from.append(sample)
        for sample in self._guard.with_library_codes(learned_from):
            self._buffer.add(sample)
            self._credit += self.settings.replay / self._batch
        if len(self._seen) > _MOST_KEYS:  # new objects get new keys
            self._seen.clear()
        self._cache.keep_only([*self._buffer, *self._held_back])
        # New samples may arrive faster than they are used.
        self._credit = min(self._credit, float(self.settings.steps_per_candidate))
        fall = self._watch.fall()
        if fall:
            self.roll_back(fall)

    def work(self) -> bool:
        """Do a part of the next step or check; return False if there is nothing to do.

        A part takes a few hundredths of a second, so that the next estimation is not delayed.
        """
        if self._job is None:
            if self._since_verdict >= self.settings.steps_per_candidate:
                self._job = self._check()
            elif self._credit >= 1.0 and len(self._buffer) >= self._batch:
                self._job = self._step()
            else:
                return False
        try:
            next(self._job)
        except StopIteration:
            self._job = None
        return True

    def finish(self) -> None:
        """Finish the step or check in progress, and check the steps since the last check."""
        if self._job is not None:
            run_all(self._job)
        if self._since_verdict > 0:
            run_all(self._check())
        self._job = None

    def _step(self) -> Generator[None, None, None]:
        self._credit -= 1.0
        chosen = self._buffer.draw(self._batch, self._rng)
        yield from self._cache.prepare(chosen)
        self._losses = yield from self._learner.step_in_parts(self._cache.batch(chosen))
        self._since_verdict += 1
        self._counts["steps"] += 1

    def _check(self) -> Generator[None, None, None]:
        """Use the new heads if the guard accepts them, otherwise those halfway to them.

        Halfway weights often keep most of the gain and lose little of the accuracy.
        """
        self._since_verdict = 0
        learned, current = self._learner.weights, self._history.current.weights
        for share in (1.0, 0.5):
            weights = {k: torch.lerp(current[k], value, share) for k, value in learned.items()}
            self._candidate.load(weights)
            held_back = list(self._held_back)
            verdict = yield from self._guard.judge(
                self._candidate, self._current, held_back, self._cache
            )
            self._verdict = verdict
            if verdict.accepted:
                self._counts["swaps"] += 1
                if share < 1.0:
                    self._counts["halved"] += 1
                    self._learner.load(weights)
                self._use(self._history.swap(weights))
                self._log_event(f"swapped to {self._history.current.name}")
                return
            self._counts.update(["refused", *verdict.broken])
            self._log_event(f"candidate refused: {verdict.reason}")
        self._start_from_current()

    def roll_back(self, reason: str) -> bool:
        """Restore the heads before the latest swap; False if the original ones are in use."""
        version = self._history.roll_back()
        if version is None:
            return False
        self._counts["rollbacks"] += 1
        self._use(version)
        self._start_from_current()
        self._log_event(f"rolled back to earlier weights as {version.name}: {reason}")
        return True

    def _use(self, version: Version) -> None:
        self._current.load(version.weights)
        self._watch.start_comparison()
        self._publish(version.weights, version.name)

    def _start_from_current(self) -> None:
        """Discard the steps since the latest swap and the samples that led to them."""
        self._learner.load(self._current.weights)
        self._buffer.clear()
        self._cache.keep_only(self._held_back)
        self._credit, self._since_verdict = 0.0, 0
        self._job = None

    def _log_event(self, event: str) -> None:
        self._event = event
        _log.info("self-training: %s", event)

    def model(self) -> Model:
        """Return a model with the heads in use and the original backbone, decoder and library."""
        counts = {name: self._counts[name] for name in _COUNTS}
        broken = {name: self._counts[name] for name in LIMITS}
        return trained_model(
            self._model,
            self.weights,
            self._history.number,
            self.settings,
            {**counts, "broken": broken},
        )

    def save(self, path: Path) -> str:
        """Write a model file with the heads in use and a file of samples; return the version.

        Each file is written atomically. The samples depend on the original model only, so that an
        old file of samples fits a new model file.

        Raises:
            OSError: a file cannot be written.
        """
        save_model(path, self.model(), torch.float32)
        save_samples(samples_path(path), self._buffer, original_of(self._model))
        return self._history.current.name

    def restore_samples(self, path: Path) -> str:
        """Load a file of samples; return the error, "" on success."""
        try:
            kept = load_samples(path, original_of(self._model), self.settings.buffer)
        except SampleFileError as error:
            return str(error)
        for sample in kept:
            self._buffer.add(sample)
        return ""

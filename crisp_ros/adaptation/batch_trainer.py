"""Self-training as the paper has it: each certified sample once, in the order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from crisp_ros.adaptation.buffer import (
    SampleFileError,
    read_samples,
    samples_path,
    save_samples,
)
from crisp_ros.adaptation.guard import LIMITS
from crisp_ros.adaptation.head_versions import Version, VersionHistory
from crisp_ros.adaptation.learner import Learner, LearnerSettings, Weights
from crisp_ros.adaptation.reference_set import original_of
from crisp_ros.adaptation.samples import FeatureCache, Sample
from crisp_ros.adaptation.trained_model import trained_model
from crisp_ros.network.checkpoint import Model, save_model
from crisp_ros.pipeline import model_version, original_version


class BatchTrainer:
    """A step of loss (13) as soon as a batch of certified samples has arrived.

    The new heads are used from the next frame on, whatever they are: the paper has no guard, no
    replay and no running mean of the weights.

    Attributes:
        steps: number of training steps, of earlier runs too.
    """

    def __init__(
        self,
        model: Model,
        settings: LearnerSettings,
        device: torch.device,
        publish: Callable[[Weights, str], None],
    ) -> None:
        """Copy the heads.

        Args:
            model: on the device.
            settings: of the steps.
            device: on which the heads are trained.
            publish: called with the weights and the name of the version after each step.
        """
        self._model, self._publish, self.settings = model, publish, settings
        self._learner = Learner(model.network, settings)
        self._cache = FeatureCache(model.network, device)
        self._waiting: deque[Sample] = deque()
        earlier = model.header.get("self_training", {})
        self.steps = int(earlier.get("steps", 0))
        self._history = VersionHistory(
            Version(model_version(model), self._learner.weights),
            original_version(model),
            int(earlier.get("number", 0)),
            kept=1,
        )

    def observe(self, samples: Iterable[Sample], version: str) -> None:
        """Queue the certified samples of a frame; the version does not matter."""
        self._waiting.extend(sample for sample in samples if sample.certified)

    def work(self) -> bool:
        """Take a step if a batch is complete; return False if not."""
        size = self.settings.batch
        if len(self._waiting) < size:
            return False
        batch = [self._waiting.popleft() for _ in range(size)]
        self._learner.step(self._cache.batch(batch))
        self._cache.keep_only(())
        self.steps += 1
        version = self._history.swap(self._learner.weights)
        self._publish(version.weights, version.name)
        return True

    def finish(self) -> None:
        """End a pass; an incomplete batch waits for the next one."""

    def model(self) -> Model:
        """The model with the heads in use."""
        counts = dict.fromkeys(("swaps", "halved", "refused", "rollbacks"), 0)
        counts |= {"steps": self.steps, "swaps": self.steps}
        return trained_model(
            self._model,
            self._history.current.weights,
            self._history.number,
            self.settings,
            {**counts, "broken": dict.fromkeys(LIMITS, 0)},
        )

    def save(self, path: Path) -> str:
        """Write a model file with the heads in use and the waiting samples; return the version.

        Raises:
            OSError: a file cannot be written.
        """
        save_model(path, self.model(), torch.float32)
        save_samples(samples_path(path), self._waiting, original_of(self._model))
        return self._history.current.name

    def restore_samples(self, path: Path) -> str:
        """Queue the samples of an incomplete batch; return the error, "" on success."""
        try:
            self._waiting.extend(read_samples(path, original_of(self._model)))
        except SampleFileError as error:
            return str(error)
        return ""

"""Self-training on recorded frames in several passes; an interrupted run is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

from crisp_ros.adaptation.batch_trainer import BatchTrainer
from crisp_ros.adaptation.buffer import samples_path
from crisp_ros.adaptation.learner import LearnerSettings
from crisp_ros.adaptation.reference_set import ReferenceSet, original_of
from crisp_ros.adaptation.samples import samples_of
from crisp_ros.adaptation.self_trainer import (
    SelfTrainer,
    SelfTrainingSettings,
    Status,
)
from crisp_ros.adaptation.tensor_file import TensorFileError
from crisp_ros.adaptation.view_pool import ViewPool
from crisp_ros.correction.shape_choice import with_shape_mode
from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.network.checkpoint import Model, load_model, save_model
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings, Trace

STATE_NAME = "state.safetensors"
_PROGRESS_NAME = "progress.json"
_POOL_NAME = "views.safetensors"
_SAVE_EVERY = 40  # frames


class ProgressError(ValueError):
    """A folder without a state that can be resumed."""


class SequenceFrame(NamedTuple):
    """A frame, and the sequence that it belongs to.

    Attributes:
        frame: in a sequence an object has the same label in all frames.
        sequence: name; None where the frame shows nothing that others show too.
    """

    frame: Frame
    sequence: str | None = None


class BestModel(NamedTuple):
    """The model that is kept: that with the largest certified share, or the last one.

    Attributes:
        passes: number of passes after which it was in use, 0 for the original model.
        model: the model.
        shares: certified share of the frames' objects by the number of passes.
    """

    passes: int
    model: Model
    shares: dict[int, float]


class RecordedSelfTraining:
    """Algorithm 1 or 2 of the paper with loss (13), on frames that can be read repeatedly.

    It uses images, labels and depth only. Without a guard, as the paper has it, the shapes of an
    object's certified samples in a sequence are those of all its views (Remark 3). With a guard,
    each view has a shape of its own, and the buffer is balanced over the library shapes.

    Attributes:
        estimator: uses the latest heads that the guard accepted.
        frames_done: number of frames in all passes, including earlier runs.
    """

    def __init__(
        self,
        model: Model,
        reference: ReferenceSet | None,
        settings: SelfTrainingSettings | LearnerSettings,
        estimator_settings: EstimatorSettings,
        folder: Path,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start a run, or resume the one in the folder.

        Args:
            model: initial model, which changes.
            reference: of this model; None for a training without a guard.
            settings: of the guarded self-training, or of the steps alone, as the paper has it.
            estimator_settings: of the estimator of pseudo-labels.
            folder: for the state of the run.
            device: on which everything runs.

        Raises:
            ProgressError: the state in the folder cannot be read, or lacks samples or views
                without which the run would differ from an uninterrupted one.
            crisp_ros.network.checkpoint.CheckpointError: the model file cannot be read.
        """
        self._folder, self._device = folder, device
        folder.mkdir(parents=True, exist_ok=True)
        self.frames_done = _progress(folder)
        if self.frames_done > 0:
            model = load_model(folder / STATE_NAME, device)
        self.estimator = Estimator(model, estimator_settings, device)
        self._names = model.library.names
        device, publish = self.estimator.device, self.estimator.adopt
        self._trainer: SelfTrainer | BatchTrainer
        self._pool: ViewPool | None = None
        if isinstance(settings, LearnerSettings):
            self._trainer = BatchTrainer(model, settings, device, publish)
            corrector, library = estimator_settings.corrector, self.estimator.prepared_library
            if corrector is not None:
                corrector = with_shape_mode(corrector, estimator_settings.shape_mode)
            if corrector is not None and corrector.shape != "none":
                self._pool = ViewPool(self.estimator.field, library, corrector)
        else:
            self._trainer = SelfTrainer(model, reference, settings, device, publish)
        self._original = original_of(model)
        self._is_learning = False
        if self.frames_done > 0:
            self._restore_samples()

    @property
    def status(self) -> Status:
        """The progress of this run, where it has a guard."""
        return self._trainer.status

    def run(
        self,
        frames: Callable[[], Iterable[SequenceFrame]],
        count: int,
        passes: int,
        on_frame: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Process the remaining frames of all passes; the state is saved when interrupted.

        Args:
            frames: reads the same frames in the same order each time.
            count: number of frames.
            passes: number of passes, including those of earlier runs.
            on_frame: called after each frame with the number of finished frames and of all frames.
        """
        try:
            while self.frames_done < passes * count:
                self._one_pass(frames, count, passes * count, on_frame)
        except KeyboardInterrupt:
            # Part of a frame's steps would be taken again: the last state is kept.
            if self.frames_done > 0 and not (self._is_learning and self._repeats_exactly):
                self.save()
            raise

    def _one_pass(
        self,
        frames: Callable[[], Iterable[SequenceFrame]],
        count: int,
        total: int,
        on_frame: Callable[[int, int], None],
    ) -> None:
        skipped = self.frames_done % count
        for index, (frame, sequence) in enumerate(frames()):
            if index < skipped:
                continue
            trace = self.estimator.trace(frame)
            self._is_learning = True
            self._learn_from(trace, sequence)
            self.frames_done += 1
            self._is_learning = False
            if self.frames_done % count == 0:
                self._trainer.finish()
                save_model(self._after(self.frames_done // count), self.model(), torch.float32)
                self.save()
            elif self.frames_done % _SAVE_EVERY == 0:
                self.save()
            on_frame(self.frames_done, total)

    def save(self) -> None:
        """Write the state; after an interruption at any time it can be resumed."""
        self._trainer.save(self._folder / STATE_NAME)
        if self._pool is not None:
            self._pool.save(self._folder / _POOL_NAME, self._original)
        progress = json.dumps({"frames_done": self.frames_done})
        write_atomically(self._folder / _PROGRESS_NAME, progress)

    def _restore_samples(self) -> None:
        error = self._trainer.restore_samples(samples_path(self._folder / STATE_NAME))
        if error:
            raise ProgressError(f"{error}: this run cannot be continued; name a new folder")
        if self._pool is not None:
            path = self._folder / _POOL_NAME
            try:
                self._pool.restore(path, self._original)
            except TensorFileError as failed:
                raise ProgressError(
                    f"{path}: {failed}: this run cannot be continued; name a new folder"
                ) from failed

    @property
    def _repeats_exactly(self) -> bool:
        """Whether a continued run equals an uninterrupted one: not with the guard's draws."""
        return isinstance(self._trainer, BatchTrainer)

    def model(self) -> Model:
        """The resulting model."""
        return self._trainer.model()

    def best_model(
        self, start: Model, passes: int, certified_share: Callable[[Model, int], float]
    ) -> BestModel:
        """Return the model with the largest certified share; of equal ones the latest.

        It is chosen among the original model and those after each pass, by all frames; the guard
        measures a few samples only.

        Args:
            start: the original model.
            passes: number of finished passes.
            certified_share: measures a model on the frames, given the number of passes.

        Raises:
            crisp_ros.network.checkpoint.CheckpointError: a model file cannot be read.
        """
        shares = {0: certified_share(start, 0)}
        for done in range(1, passes + 1):
            shares[done] = certified_share(self._model_after(done), done)
        best = max(shares, key=lambda done: (shares[done], done))
        return BestModel(best, self._model_after(best) if best else start, shares)

    def last_model(self, start: Model, passes: int) -> BestModel:
        """Return the model after the last pass, as the paper does.

        Args:
            start: the original model.
            passes: number of finished passes.
        """
        return BestModel(passes, self._model_after(passes) if passes else start, {})

    def _model_after(self, passes: int) -> Model:
        return load_model(self._after(passes), self._device)

    def _after(self, passes: int) -> Path:
        return self._folder / f"pass_{passes}.safetensors"

    def _learn_from(self, trace: Trace, sequence: str | None) -> None:
        if sequence is None or self._pool is None:
            samples = samples_of(trace.solutions, self._names_of(trace))
        else:
            samples = samples_of(trace.solutions, _labels_of(trace, sequence))
            samples = self._pool.with_pooled_codes(samples)
        self._trainer.observe(samples, trace.estimate.model_version)
        while self._trainer.work():
            pass

    def _names_of(self, trace: Trace) -> dict[int, str]:
        """The names of the nearest library shapes, by label."""
        keys = {}
        for solution in trace.solutions:
            shapes = solution.correction.shapes
            named = self.estimator.prepared_library.distances(shapes.codes).argmin(-1)
            # A blend of library shapes counts as the shape with the nearest code.
            found = torch.where(shapes.index >= 0, shapes.index, named)
            for label, k in zip(solution.observations.labels.tolist(), found.tolist(), strict=True):
                keys[label] = self._names[k]
        return keys


def _labels_of(trace: Trace, sequence: str) -> dict[int, str]:
    """Keys of a sequence's objects, by label."""
    labels = [label for s in trace.solutions for label in s.observations.labels.tolist()]
    return {label: f"{sequence}/{label}" for label in labels}


def _progress(folder: Path) -> int:
    path = folder / _PROGRESS_NAME
    if not path.is_file():
        return 0
    try:
        done = json.loads(path.read_text())["frames_done"]
        if type(done) is not int or done < 1:
            raise ValueError(f"frames_done is {done!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise ProgressError(f"{path}: not a run's progress ({error}); name a new folder") from error
    return done

"""Self-training on recorded frames, with errors and certificates before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.adaptation.recorded_self_training import (
    BestModel,
    RecordedSelfTraining,
    SequenceFrame,
)
from crisp_ros.adaptation.reference_set import load_reference, reference_path
from crisp_ros.adaptation.self_trainer import SelfTrainingSettings
from crisp_ros.correction.shape_choice import ShapeMode
from crisp_ros.data.atomic_file import write_json
from crisp_ros.data.bop import BopDataset
from crisp_ros.data.meshes import surface_samples
from crisp_ros.data.recorded_frame import (
    RecordedFrame,
    TrueObject,
    bop_frames,
    left_out_text,
    scene_frames,
)
from crisp_ros.data.recording import Recording
from crisp_ros.data.spe3r import Spe3rDataset, Split
from crisp_ros.evaluation.self_training_comparison import (
    Comparison,
    Results,
    load_results,
    measure,
    save_results,
)
from crisp_ros.evaluation.true_shapes import (
    SHAPES_NAME,
    ModelShapes,
    TrueShape,
    load_shapes,
)
from crisp_ros.network.checkpoint import Model, load_model
from crisp_ros.network.precision import Precision
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import ObservationSettings
from crisp_ros.pipeline import Estimator, EstimatorSettings, model_version
from crisp_ros.pipeline.paper_settings import shape_mode_of_test_objects, with_corrector
from crisp_ros.progress import progress
from crisp_ros.studies.resumable_parts import fingerprint
from crisp_ros.studies.study_error import StudyError

NODE = "node"
"""The recipe of the node's guarded self-training; the others are those of the paper."""
_TRUTH_POINTS = 1500


@dataclass(frozen=True)
class FrameSet:
    """Frames that can be read repeatedly.

    Attributes:
        name: of the recording or data set.
        key: a file name that is unique for these frames.
        place: folder or file, and split.
        frames: reads the frames, always the same ones in the same order.
        sequences: reads the same frames, with the sequence that each belongs to.
        count: number of frames.
        shapes: true shapes by name, as far as known.
        left_out: what cannot be read of a recording, and why; "" where all can.
    """

    name: str
    key: str
    place: tuple[str, str | None]
    frames: Callable[[], Iterator[RecordedFrame]]
    sequences: Callable[[], Iterator[SequenceFrame]]
    count: int
    shapes: Mapping[str, TrueShape]
    left_out: str = ""


def bop_frame_set(folder: Path, split: str) -> FrameSet:
    """Open a split of a data set in the BOP layout.

    Raises:
        DatasetError: the data set cannot be read.
    """
    dataset = BopDataset(folder, split)
    shapes = ModelShapes(dataset.models.values(), _TRUTH_POINTS)
    place = (str(folder.resolve()), split)
    return FrameSet(
        folder.name,
        fingerprint(*place),
        place,
        lambda: bop_frames(dataset),
        lambda: _scenes(dataset),
        len(dataset.images),
        shapes,
    )


def _scenes(dataset: BopDataset) -> Iterator[SequenceFrame]:
    """The frames of one scene after the other: an object's views follow one another."""
    for scene_id in sorted({image.scene_id for image in dataset.images}):
        for frame in scene_frames(dataset, scene_id):
            yield SequenceFrame(Frame.from_recorded(frame), f"scene {scene_id}")


def spe3r_frame_set(folder: Path, split: Split) -> FrameSet:
    """Open a split of SPE3R, with its derived depth maps; its images are no sequence.

    Raises:
        DatasetError: the data set cannot be read.
    """
    dataset = Spe3rDataset(folder, split)
    place = (str(folder.resolve()), split)

    def frames() -> Iterator[RecordedFrame]:
        for index, frame in enumerate(dataset.frames(), start=1):
            name = frame.image.satellite
            yield RecordedFrame(
                index * 1_000_000_000,
                "camera_optical_frame",
                frame.rgb,
                frame.depth,
                frame.labels,
                frame.intrinsics,
                {1: name},
                (TrueObject(1, name, frame.T_camera_object),),
            )

    return FrameSet(
        folder.name,
        fingerprint(*place),
        place,
        frames,
        lambda: (SequenceFrame(Frame.from_recorded(frame)) for frame in frames()),
        len(dataset.images),
        {
            name: TrueShape(
                surface_samples(satellite.mesh, _TRUTH_POINTS, np.random.default_rng(0)).points,
                np.eye(3)[None],
            )
            for name, satellite in dataset.satellites.items()
        },
    )


def bag_frame_set(path: Path) -> FrameSet:
    """Open a recording, with true shapes where it has them.

    Raises:
        RecordingError: the recording cannot be read.
    """
    recording = Recording(path)
    count = sum(1 for _ in recording.frames())
    known = (path if path.is_dir() else path.parent) / SHAPES_NAME
    place = str(path.resolve())
    return FrameSet(
        path.name,
        fingerprint(place),
        (place, None),
        recording.frames,
        lambda: (SequenceFrame(Frame.from_recorded(f), path.name) for f in recording.frames()),
        count,
        load_shapes(known) if known.is_file() else {},
        left_out_text(recording.left_out) if recording.left_out else "",
    )


@dataclass(frozen=True)
class SelfTrainingOutcome:
    """The result of a self-training.

    Attributes:
        compared: on the frames that were learned from.
        held_out: on other frames, by name.
        kept: the chosen heads.
        learned: counts of the self-training, as JSON values.
        precision: of the network's arithmetic in estimates.
    """

    compared: Comparison
    held_out: Mapping[str, Comparison]
    kept: BestModel
    learned: Mapping[str, Any]
    precision: Precision

    @property
    def summary(self) -> str:
        """The changes, the counts and the chosen heads in words."""
        learned, kept = self.learned, self.kept
        if not kept.shares:
            return f"{self.compared.summary}; {learned['steps']} steps, the last heads are kept"
        broken = ", ".join(f"{name} {n}" for name, n in learned["broken"].items())
        shares = ", ".join(f"{100 * share:.1f}" for share in kept.shares.values())
        which = f"after pass {kept.passes}" if kept.passes else "from before"
        return (
            f"{self.compared.summary}; {learned['steps']} steps, {learned['swaps']} swaps, "
            f"{learned['refused']} refused ({broken}); "
            f"certified from pass to pass {shares} %, so the heads {which} are kept"
        )

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        compared = self.compared
        return {
            **compared.to_json(),
            "per_object": {name: compared.of(name).to_json() for name in compared.before.names},
            "held_out": {name: one.to_json() for name, one in self.held_out.items()},
            "kept_passes": self.kept.passes,
            "certified_share_after_passes": self.kept.shares,
            "self_training": dict(self.learned),
            "model_version": model_version(self.kept.model),
        }


@dataclass(frozen=True)
class SelfTrainingOptions:
    """Options of a self-training.

    Attributes:
        corrector: of the pseudo-labels, a key of `CORRECTORS`.
        shape_mode: source of their shapes, see `EstimatorSettings`.
        precision: of the network's arithmetic in estimates; "auto" is the fastest one, measured
            when the run begins.
        recipe: `NODE`, or a key of `RECIPES`.
        passes: over all frames.
        seed: of all random choices.
    """

    corrector: str
    shape_mode: ShapeMode
    precision: Precision
    recipe: str
    passes: int
    seed: int

    def estimator_settings(self) -> EstimatorSettings:
        """Settings of the estimator of pseudo-labels."""
        if self.recipe == NODE:
            settings = EstimatorSettings(observation=ObservationSettings(seed=self.seed))
        else:
            settings = RECIPES[self.recipe].estimator_settings(self.seed)
        mode = self.shape_mode
        if self.recipe == "spe3r":
            mode = shape_mode_of_test_objects(self.corrector, mode)
        settings = replace(settings, shape_mode=mode, precision=self.precision)
        return with_corrector(settings, self.corrector)


@dataclass(frozen=True)
class SelfTrainingRun:
    """A self-training in a folder, from which an interrupted run is continued.

    Attributes:
        source: frames to learn from.
        checks: frames that are only measured, with distinct names.
        checkpoint: model file, with its reference set.
        options: see `SelfTrainingOptions`.
        folder: of the state and the results.
        device: of the model.
    """

    source: FrameSet
    checks: tuple[FrameSet, ...]
    checkpoint: Path
    options: SelfTrainingOptions
    folder: Path
    device: str

    def run(self) -> SelfTrainingOutcome:
        """Measure, self-train, choose the heads, and measure again.

        The node's recipe keeps the heads that certify most, those of the paper the last ones.

        Raises:
            StudyError: two sets have one name, or the folder has a run with other options.
            ReferenceSetError: the model has no reference set, which the node's recipe needs.
        """
        names = [one.name for one in self.checks]
        if len({self.source.name, *names}) <= len(names):
            raise StudyError(f"--check: the folders need different names, not {', '.join(names)}")
        model = load_model(self.checkpoint, self.device)
        if model.library is None:
            raise StudyError(f"{self.checkpoint}: no library, without which nothing is corrected")
        if model.network.has_normalised_shapes:
            raise StudyError(f"{self.checkpoint}: normalised shapes; metric ones are learned only")
        options = self.options
        settings = self._with_measured_precision(options.estimator_settings(), model)
        training = self._training(model, settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_folder(model.header["sha256"], settings.precision)

        def results(frames: FrameSet, model: Model, passes: int) -> Results:
            return self._results(frames, Estimator(model, settings, self.device), passes)

        measured = (self.source, *self.checks)
        before = [results(frames, model, 0) for frames in measured]
        self._learn(training)
        if options.recipe == NODE:
            kept = training.best_model(
                model,
                options.passes,
                lambda model, passes: results(self.source, model, passes).certified_share,
            )
        else:
            kept = training.last_model(model, options.passes)
        after = [results(frames, kept.model, kept.passes) for frames in measured]
        first, *others = (Comparison(*pair) for pair in zip(before, after, strict=True))
        held_out = dict(zip(names, others, strict=True))
        learned = training.model().header["self_training"]
        return SelfTrainingOutcome(first, held_out, kept, learned, settings.precision)

    def _with_measured_precision(
        self, settings: EstimatorSettings, model: Model
    ) -> EstimatorSettings:
        """The settings with a precision for the whole run, in place of "auto"."""
        if settings.precision != "auto":
            return settings
        if (begun := self._begun()) is not None:
            return replace(settings, precision=begun["precision"])
        estimator = Estimator(model, settings, self.device)
        estimator.warm_up()
        return estimator.settings

    def _training(self, model: Model, settings: EstimatorSettings) -> RecordedSelfTraining:
        """The training, which changes a model of its own."""
        reference, learning = None, None
        if self.options.recipe == NODE:
            reference = load_reference(reference_path(self.checkpoint), model)
            learning = SelfTrainingSettings(seed=self.options.seed)
        return RecordedSelfTraining(
            load_model(self.checkpoint, self.device),
            reference,
            learning or RECIPES[self.options.recipe].learner,
            settings,
            self.folder,
            self.device,
        )

    def _learn(self, training: RecordedSelfTraining) -> None:
        with progress("learning") as on_frame:
            training.run(self.source.sequences, self.source.count, self.options.passes, on_frame)

    @property
    def _options_file(self) -> Path:
        return self.folder / "run.json"

    def _begun(self) -> dict[str, Any] | None:
        """The options of the run that the folder holds; None where it holds none."""
        if not self._options_file.is_file():
            return None
        # Runs from before the option computed in this precision.
        return {"precision": "float32", **json.loads(self._options_file.read_text())}

    def _check_folder(self, checkpoint_sha256: str, precision: Precision) -> None:
        """Refuse to continue a run with other options."""
        place, split = self.source.place
        settings = {
            "source": place,
            "split": split,
            "checkpoint": checkpoint_sha256,
            "corrector": self.options.corrector,
            "shape_mode": self.options.shape_mode,
            "precision": precision,
            "recipe": self.options.recipe,
            "seed": self.options.seed,
        }
        if self._begun() not in (None, settings):
            raise StudyError(f"{self.folder} holds a run with other options: name another folder")
        write_json(self._options_file, settings)

    def _results(self, frames: FrameSet, estimator: Estimator, passes: int) -> Results:
        """The results in the folder, measured if they are not there."""
        when = f"after {passes} passes" if passes else "before"
        path = self.folder / f"{when.replace(' ', '_')}.{frames.name}.{frames.key}.json"
        if path.is_file():
            return load_results(path)
        with progress(f"measuring {when}, {frames.name}") as on_frame:
            results = measure(
                estimator, frames.frames(), frames.shapes, lambda done: on_frame(done, frames.count)
            )
        save_results(path, results)
        return results

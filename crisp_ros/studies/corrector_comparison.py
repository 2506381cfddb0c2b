"""The corrector's study: rendered scenes, real images and trials, measured part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import trimesh

from crisp_ros.data.bop import BopDataset, read_models
from crisp_ros.data.recorded_frame import RecordedFrame, bop_frames
from crisp_ros.evaluation.true_shapes import ModelShapes
from crisp_ros.network.checkpoint import Model
from crisp_ros.progress import progress
from crisp_ros.studies.corrector_instances import Instance
from crisp_ros.studies.corrector_study import CorrectorStudy
from crisp_ros.studies.corrector_trials import (
    ProgramTrial,
    program_trial,
    shape_trial,
    solver_trial,
    z_trials,
)
from crisp_ros.studies.object_views import ObjectViews, ObjectViewSettings, object_views
from crisp_ros.studies.resumable_parts import KeptParts, fingerprint
from crisp_ros.studies.study_error import StudyError
from crisp_ros.studies.study_scenes import scene_frames, study_scenes

_SHAPE_POINTS = 10_000


class CorrectorParts(NamedTuple):
    """The measurements of the study.

    Attributes:
        instances: of the rendered scenes; none with `trials_only`.
        real: of the real images.
        shapes: of `shape_trial`, as JSON values.
        z_steps: of `z_trials`, as JSON values.
        solvers: of `solver_trial`, as JSON values.
        programs: of `program_trial`; None without clarabel.
    """

    instances: Sequence[Instance]
    real: Sequence[Instance]
    shapes: Mapping[str, Any]
    z_steps: Sequence[Mapping[str, float]]
    solvers: Mapping[str, Any]
    programs: ProgramTrial | None

    def halves(self) -> dict[str, list[Instance]]:
        """The instances of clean and disturbed scenes, and the real ones where there are any."""
        halves = {
            name: [i for i in self.instances if i.scene.startswith(name)]
            for name in ("clean", "disturbed")
        }
        return {**halves, "real": list(self.real)} if self.real else halves


@dataclass(frozen=True)
class CorrectorComparison:
    """Settings of the study.

    Attributes:
        models: folder of the objects, in the BOP layout.
        bop: data set whose real images are measured as well, or None.
        scenes: number of clean scenes, and of disturbed ones.
        frames: of each scene.
        objects: in each scene.
        views: of each object in the trials.
        work: folder in which scenes and parts of the result are kept.
        seed: of the scenes.
        device: of the estimator.
        trials_only: measure the solvers alone, without scenes and images.
    """

    models: Path
    bop: Path | None
    scenes: int
    frames: int
    objects: int
    views: int
    work: Path
    seed: int
    device: torch.device | str = "cpu"
    trials_only: bool = False

    def run(self, model: Model) -> CorrectorParts:
        """Measure all parts; an interrupted run is continued.

        Args:
            model: with a shape library.

        Raises:
            StudyError: a shape of the library has no mesh among the models.
        """
        models = read_models(self.models)
        dataset = None if self.bop is None else BopDataset(self.bop)
        shapes = ModelShapes(models.values(), _SHAPE_POINTS)
        library, decoder = model.library, model.network.decoder
        by_name = {m.name: m for m in models.values() if m.name in library.names}
        if missing := [name for name in library.names if name not in by_name]:
            raise StudyError(
                f"{self.models}: no model of {', '.join(missing)}, which the library has"
            )
        study = CorrectorStudy(model, shapes, self.device)
        kept = KeptParts(self.work / "parts", (study.made_from, str(self.models.resolve())))

        @cache
        def meshes() -> dict[str, trimesh.Trimesh]:
            return {name: found.mesh for name, found in by_name.items()}

        @cache
        def views() -> ObjectViews:
            settings = ObjectViewSettings(views=self.views, seed=self.seed)
            return object_views(meshes(), library.names, settings)

        def pose_trials() -> list[dict[str, float]]:
            with progress("pose trials") as on_trial:
                trials = z_trials(decoder, library, views(), shapes, on_trial=on_trial)
            return [trial._asdict() for trial in trials]

        instances, real = [], []
        if not self.trials_only:
            instances = self._rendered(study, kept, list(by_name), meshes)
            real = [] if dataset is None else _real(study, kept, dataset)
        key = f"{self.views}_{self.seed}"
        return CorrectorParts(
            instances,
            real,
            kept.part(
                f"shape_steps_{key}", lambda: shape_trial(decoder, library, views())._asdict()
            ),
            kept.part(f"z_{key}", pose_trials),
            kept.part(f"solvers_{key}", lambda: solver_trial(decoder, library, views())._asdict()),
            program_trial(),
        )

    def _rendered(
        self,
        study: CorrectorStudy,
        kept: KeptParts,
        names: list[str],
        meshes: Any,
    ) -> list[Instance]:
        folder = self.work / f"scenes_{fingerprint(str(self.models.resolve()))}"
        instances: list[Instance] = []
        for scene in study_scenes(names, self.scenes, self.objects, self.seed):

            def measured(scene: Any = scene) -> list[Any]:
                with progress(f"{scene.name}, rendering") as on_frame:
                    frames = scene_frames(scene, meshes(), self.frames, folder, on_frame)
                return _measured(study, scene.name, frames)

            part = kept.part(f"{scene.key}_{self.frames}", measured)
            instances += map(Instance.from_json, part)
        return instances


def _real(study: CorrectorStudy, kept: KeptParts, dataset: BopDataset) -> list[Instance]:
    part = kept.part(
        f"real_{fingerprint(str(dataset.folder.resolve()))}",
        lambda: _measured(study, "real", list(bop_frames(dataset))),
    )
    return [Instance.from_json(values) for values in part]


def _measured(study: CorrectorStudy, scene: str, frames: list[RecordedFrame]) -> list[Any]:
    with progress(f"{scene}, measuring") as on_frame:
        return [i.to_json() for i in study.measured(scene, frames, on_frame)]
